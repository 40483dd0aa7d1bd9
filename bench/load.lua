-- Requests for wrk: every reference is new, the wallet is drawn from a distribution.
--
-- As it stands wrk is a closed loop: each connection asks again as soon as it is answered. With `rate=` it is an open
-- one: arrivals are drawn beforehand (a Poisson process), an idle connection takes the next one, and a latency counts
-- from the instant at which the request was meant to start, however late a connection was free for it.
--
-- Arguments, after `--`: kind=spend|topup|balance|get run=TAG items=FILE (wallet ids, or paths for get, one a line)
-- zipf=EXPONENT (0: uniform) replays=SHARE rate=PER_SECOND (0: closed) seed=NUMBER. One thread: one queue of arrivals.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } instant;
int clock_gettime(int clock, instant *now);
]]

local CLOCK_MONOTONIC = 1
local SETTLING_MS = 1000 -- Connections are being made: what was meant to start earlier does not count.
local KEPT = 1024        -- How many requests may be repeated; the newest 256 are not, they may still be on their way.

local format, random, floor = string.format, math.random, math.floor
local instant = ffi.new("instant")
local key_header = format("Authorization: Bearer %s\r\n", os.getenv("WALLET_BOOTSTRAP_API_KEY") or "")
local options = {}
local pick, make, post_head
local kept, fresh = {}, 0
local thread_of_run

-- Globals, because the main thread reads them at the end.
calls, repeats, unmatched = 0, 0, 0
histogram = {}

local function now_ms()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, instant)
  return tonumber(instant.seconds) * 1000 + tonumber(instant.nanoseconds) / 1e6
end

local function lines_of(file)
  local lines = {}
  for line in io.lines(file) do lines[#lines + 1] = line end
  return lines
end

local function uniform(items)
  local count = #items
  return function() return items[random(count)] end
end

local function zipf(items, exponent)
  local sums, total = {}, 0
  for rank = 1, #items do
    total = total + rank ^ -exponent
    sums[rank] = total
  end
  return function()
    local point, low, high = random() * total, 1, #items
    while low < high do
      local middle = floor((low + high) / 2)
      if sums[middle] < point then low = middle + 1 else high = middle end
    end
    return items[low]
  end
end

local function post(id_header)
  fresh = fresh + 1
  local body = format('{"amount":1,"referenceId":"%s-%d"}', options.run, fresh)
  local head = format(post_head, pick())
  local rest = format("Content-Length: %d\r\n\r\n%s", #body, body)
  kept[fresh % KEPT] = head .. rest
  return head .. id_header .. rest
end

local function post_or_repeat(id_header)
  if fresh > KEPT and random() < options.replays then
    repeats = repeats + 1
    return kept[(fresh - random(256, KEPT - 1)) % KEPT]
  end
  return post(id_header)
end

local function balance(id_header)
  return format("GET /wallets/%s/balance HTTP/1.1\r\nHost: bench\r\n%s%s\r\n", pick(), key_header, id_header)
end

local function get(id_header)
  return format("GET %s HTTP/1.1\r\nHost: bench\r\n%s%s\r\n", pick(), key_header, id_header)
end

-- The open loop.

local arrivals, drawn, begun, started = {}, 0, 0, {}
local last_arrival, count_from

local function next_arrival()
  if not last_arrival then
    last_arrival = now_ms()
    count_from = last_arrival + SETTLING_MS
  end
  last_arrival = last_arrival - math.log(1 - random()) * 1000 / options.rate
  drawn = drawn + 1
  arrivals[drawn] = last_arrival
  -- wrk waits in whole milliseconds: rounded down, and who was early began when it began.
  return math.max(0, floor(last_arrival - now_ms()))
end

local function open_request()
  calls = calls + 1
  if begun == drawn then return make("") end -- wrk tries one request out and does not send it.
  begun = begun + 1
  started[begun] = math.min(arrivals[begun], now_ms())
  arrivals[begun] = nil
  return make(format("X-Request-Id: %d\r\n", begun))
end

local function open_response(status, headers)
  local number = tonumber(headers["X-Request-Id"] or headers["x-request-id"])
  local start = number and started[number]
  if not start then
    unmatched = unmatched + 1
    return
  end
  started[number] = nil
  if start >= count_from then
    local bucket = floor((now_ms() - start) * 10) -- of a tenth of a millisecond
    histogram[bucket] = (histogram[bucket] or 0) + 1
  end
end

-- What wrk calls.

function setup(thread)
  thread_of_run = thread
end

function init(arguments)
  for _, argument in ipairs(arguments) do
    local name, value = argument:match("^(%w+)=(.*)$")
    options[name] = tonumber(value) or value
  end
  math.randomseed(tonumber(options.seed))
  local items = lines_of(options.items)
  pick = options.zipf > 0 and zipf(items, options.zipf) or uniform(items)
  post_head = "POST /wallets/%s/" .. options.kind .. " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n" .. key_header
  make = ({ balance = balance, get = get })[options.kind] or (options.replays > 0 and post_or_repeat or post)
  if options.rate > 0 then
    request, delay, response = open_request, next_arrival, open_response
  else
    request = function()
      calls = calls + 1
      return make("")
    end
  end
end

local function percentiles(latency)
  local found = {}
  for _, share in ipairs { 50, 90, 99, 99.9 } do
    found[#found + 1] = format('"%s":%.2f', share, latency:percentile(share) / 1000)
  end
  return table.concat(found, ",")
end

local function buckets(counts)
  local found = {}
  for bucket, count in pairs(counts) do
    found[#found + 1] = format('"%d":%d', bucket, count)
  end
  return table.concat(found, ",")
end

function done(summary, latency)
  local errors = summary.errors
  io.write(format(
    'RESULT {"seconds":%.6f,"answered":%d,"refused":%d,"broken":%d,"timeouts":%d,"calls":%d,"repeats":%d,'
      .. '"unmatched":%d,"percentiles":{%s},"histogram":{%s}}\n',
    summary.duration / 1e6, summary.requests, errors.status, errors.connect + errors.read + errors.write,
    errors.timeout, thread_of_run:get("calls"), thread_of_run:get("repeats"), thread_of_run:get("unmatched"),
    percentiles(latency), buckets(thread_of_run:get("histogram"))))
end
