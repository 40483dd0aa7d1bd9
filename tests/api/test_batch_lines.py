"""POST /batches with lines: a run of any length, answered while it comes, of which one broken line breaks nothing."""

from __future__ import annotations

import json
import socket
import struct
import time
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.conftest import Live, MakeClient
from tests.api.support import DOE_GOLD, JOHN_GOLD, assert_headers, assert_problem, books, new_reference
from tests.api.test_batches import lasting, post, record
from tests.api.test_openapi import validator
from tests.keys import KEY
from wallet_app import service, web
from wallet_app.api import batches
from wallet_app.api.batches import BODY_BYTES_MAX
from wallet_app.api.ndjson import LINE_BYTES_MAX
from wallet_app.api.openapi import document
from wallet_app.service import BATCH_MAX, Bonus, rules

pytestmark = pytest.mark.wide

NDJSON = "application/x-ndjson"
SECONDS_MAX = 20


def lines_of(*records: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def send(client: FlaskClient, body: bytes, content_type: str = NDJSON) -> list[dict[str, Any]]:
    answer = client.post("/batches", data=body, content_type=content_type)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == NDJSON
    assert_headers(answer)
    return read(answer.get_data())


def read(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def test_each_line_is_answered_as_an_item_would_be(client: FlaskClient) -> None:
    items = [record("spend", amount=501), record(), "spend", record("spend", amount=501), record(amount=0)]
    answers = send(client, lines_of(*items))
    assert [line["index"] for line in answers] == [0, 1, 2, 3, 4]
    assert [line["status"] for line in answers] == [409, 200, 422, 200, 422]
    schema = document()["components"]["schemas"]["BatchLineAnswer"]
    assert [error.message for line in answers for error in validator(schema).iter_errors(line)] == []
    again = post(client, "each", items).json["items"]
    assert [item["status"] for item in again] == [409, 200, 422, 200, 422]
    assert again[1]["body"]["transactionId"] == answers[1]["body"]["transactionId"]


@pytest.mark.parametrize("content_type", [NDJSON, "application/jsonl", "Application/X-NDJSON; charset=UTF-8"])
def test_media_types_of_lines(client: FlaskClient, content_type: str) -> None:
    assert [line["status"] for line in send(client, lines_of(record()), content_type)] == [200]


def test_five_thousand_lines_are_answered_in_order_and_repeated_as_replays(client: FlaskClient) -> None:
    body = lines_of(*(record(wallet=(JOHN_GOLD, DOE_GOLD)[n % 2], note=f"line {n}") for n in range(5_000)))
    first = send(client, body)
    assert [line["index"] for line in first] == list(range(5_000))
    assert {line["status"] for line in first} == {200}
    assert [line["body"]["seq"] for line in first] == [2 + n // 2 for n in range(5_000)]
    before = books()
    again = send(client, body)
    assert {line["body"]["idempotent"] for line in again} == {True}
    assert [line["body"]["transactionId"] for line in again] == [line["body"]["transactionId"] for line in first]
    assert books() == before


def test_broken_lines_are_answered_by_themselves(client: FlaskClient) -> None:
    whole = lines_of(record())
    twice = json.dumps(record())[:-1].encode() + b', "amount": 2}\n'
    body = b"{\n" + whole + twice + b"\xff\xfe\n" + b"[" * 30 + b"]" * 30 + b"\n" + b'{"a": NaN}\n' + b"null\n" + whole
    answers = send(client, body)
    assert [line["status"] for line in answers] == [400, 200, 400, 400, 400, 400, 422, 200]
    assert all(line["body"]["code"] == "bad_request" for line in answers if line["status"] == 400)
    assert answers[0]["body"]["detail"].startswith("The line is not JSON")
    assert answers[-1]["body"]["idempotent"]


def test_blank_lines_are_counted_and_not_answered(client: FlaskClient) -> None:
    body = b"\n \r\n" + lines_of(record()).replace(b"\n", b"\r\n") + b"\n" + lines_of(record())
    assert [line["index"] for line in send(client, body)] == [2, 4]


def test_the_last_line_needs_no_line_feed_and_no_lines_are_no_answers(client: FlaskClient) -> None:
    assert [line["index"] for line in send(client, lines_of(record(), record())[:-1])] == [0, 1]
    assert send(client, b"") == []


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_too_long_is_the_last(client: FlaskClient, end: bytes) -> None:
    longest = json.dumps(record(note=" " * LINE_BYTES_MAX)).encode()
    fits = longest.replace(b" " * (len(longest) - LINE_BYTES_MAX), b"", 1)
    assert len(fits) == LINE_BYTES_MAX
    answers = send(client, lines_of(record()) + fits + b"\n" + b" " + fits + end)
    assert [(line["index"], line["status"]) for line in answers] == [(0, 200), (1, 200), (2, 413)]
    assert answers[2]["body"]["code"] == "line_too_long"
    answers = send(client, b"x" * 100_000 + end + lines_of(record()))
    assert [(line["index"], line["body"]["code"]) for line in answers] == [(0, "line_too_long")]


def test_a_fault_of_ours_is_one_lines_answer(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.RULES, Bonus, lambda books, command: 1 / 0)
    answers = send(client, lines_of(record(), record("bonus"), record()))
    assert [line["status"] for line in answers] == [200, 500, 200]


def test_when_a_block_fails_its_lines_are_told_and_the_run_goes_on(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute_each, calls = service.execute_each, []

    def failing_once(commands: Any) -> Any:
        calls.append(commands)
        return execute_each(commands) if len(calls) > 1 else 1 / 0

    monkeypatch.setattr(service, "execute_each", failing_once)
    told = [line["status"] for line in send(client, lines_of({"type": "x"}, *(record() for _ in range(1_000))))]
    assert told[0] == 422
    assert told[1:] == sorted(told[1:], reverse=True)
    assert set(told[1:]) == {500, 200}


class Counted:
    """A body without an end, and how much of it was read."""

    def __init__(self, lines: int, rest: bytes = b"") -> None:
        self.lines = lines
        self.given = 0
        self.rest = rest

    def read(self, size: int = -1) -> bytes:
        while len(self.rest) < size and self.given < self.lines:
            self.rest += lines_of(record())
            self.given += 1
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece


def stream(client: FlaskClient, body: Counted) -> Any:
    overrides = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post("/batches", content_type=NDJSON, environ_overrides=overrides)


def test_nothing_is_read_before_what_was_read_is_answered(client: FlaskClient) -> None:
    body = Counted(1_000_000)
    before = books()
    answer = stream(client, body)
    blocks = answer.iter_encoded()
    answered = 0
    for _ in range(4):
        answered += len(read(next(blocks)))
        assert 0 < answered <= body.given <= answered + 2
        assert books()[0] == before[0] + answered, "what is answered is in the books"
    answer.close()
    assert body.given <= answered + 2, "when the client has gone, nothing more is read"
    assert books()[0] == before[0] + answered


def test_no_more_than_a_thousand_lines_are_posted_at_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    execute_each, sizes = service.execute_each, []
    monkeypatch.setattr(service, "execute_each", lambda commands: sizes.append(len(commands)) or execute_each(commands))
    items = [{"type": "topup", "walletId": JOHN_GOLD, "amount": 1, "referenceId": f"r{n:04}"} for n in range(2_000)]
    body = lines_of(*items).replace(b" ", b"")
    pieces = stream(client, Counted(0, body)).get_data()
    assert [line["index"] for line in read(pieces)] == list(range(2_000))
    assert max(sizes) <= BATCH_MAX < sum(sizes) == 2_000


def test_a_body_that_breaks_off_is_told_and_what_came_before_it_is_answered(client: FlaskClient) -> None:
    class Broken(Counted):
        def read(self, size: int = -1) -> bytes:
            if self.given:
                raise ConnectionResetError
            self.given = 1
            return lines_of(record(), record()) + b'{"type": "topup"'

    answers = read(stream(client, Broken(0)).get_data())
    assert [(line["index"], line["status"]) for line in answers] == [(0, 200), (1, 200), (2, 400)]
    assert answers[2]["body"]["code"] == "rest_unreadable"


def test_a_body_that_is_shorter_than_announced_is_not_taken_for_whole(client: FlaskClient) -> None:
    before = books()
    short = Counted(0, lines_of(record()) + json.dumps(record()).encode())
    overrides = {"wsgi.input": short, "wsgi.input_terminated": True, "CONTENT_LENGTH": "1000"}
    answers = read(client.post("/batches", content_type=NDJSON, environ_overrides=overrides).get_data())
    assert [(line["index"], line["status"]) for line in answers] == [(0, 200), (1, 400)]
    assert answers[1]["body"]["code"] == "rest_unreadable"
    assert books()[0] == before[0] + 1


def test_a_run_is_one_request_to_the_limit_and_to_the_log(
    client_with: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, dict[str, Any]] = {}
    for module in (web, batches):
        monkeypatch.setattr(module, "log", SimpleNamespace(info=lambda event, **more: logged.update({event: more})))
    client = client_with(rate_limit_key="2 per minute")
    answer = client.post(
        "/batches", data=lines_of(*(record() for _ in range(5))), content_type=NDJSON, headers={"X-Request-Id": "run-1"}
    )
    assert answer.headers["RateLimit-Remaining"] == "1"
    assert answer.headers["X-Request-Id"] == "run-1"
    assert len(read(answer.get_data())) == 5
    assert {line["request_id"] for line in logged.values()} == {"run-1"}
    assert (logged["request"]["status"], logged["request"]["route"]) == (200, "/batches")
    assert logged["lines_answered"]["lines"] == 5
    client.post("/batches", data=b"", content_type=NDJSON)
    assert_problem(client.post("/batches", data=b"", content_type=NDJSON), 429, "too_many_requests")


def test_the_example_of_lines_is_what_the_service_answers(client: FlaskClient) -> None:
    operation = document()["paths"]["/batches"]["post"]
    asked = operation["requestBody"]["content"][NDJSON]["examples"]["run"]["value"]
    shown = operation["responses"]["200"]["content"][NDJSON]["examples"]["run"]["value"]
    answers = [line | {"body": lasting(line["body"])} for line in send(client, asked.encode())]
    assert answers == [line | {"body": lasting(line["body"])} for line in read(shown.encode())]


# --- over the wire ---


@pytest.fixture(params=["Content-Length", "chunked"])
def framing(request: pytest.FixtureRequest) -> str:
    """How the body's end is known: from its length, or from its last chunk."""
    return str(request.param)


def connect(live: Live, framing: str, length: int, content_type: str = NDJSON) -> socket.socket:
    """Return a connection on which the head of a batch has been sent."""
    client = socket.create_connection((live.host, live.port), timeout=SECONDS_MAX)
    size = f"Content-Length: {length}" if framing == "Content-Length" else "Transfer-Encoding: chunked"
    head = f"POST /batches HTTP/1.1\r\nHost: wallet\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {content_type}\r\n"
    client.sendall(f"{head}{size}\r\n\r\n".encode())
    return client


def send_framed(client: socket.socket, framing: str, data: bytes) -> None:
    """Send a piece of the body; an empty one is its end."""
    client.sendall(data if framing == "Content-Length" else b"%x\r\n%b\r\n" % (len(data), data))


def receive_lines(client: socket.socket, received: bytearray, count: int) -> None:
    """Read on until the answer has so many lines."""
    deadline = time.monotonic() + SECONDS_MAX
    while received.count(b'{"index":') < count:
        data = client.recv(65536)
        assert data, bytes(received[-500:])
        received += data
        assert time.monotonic() < deadline


def test_the_first_answers_come_before_the_last_line_is_sent(live: Live, framing: str) -> None:
    many = [lines_of(record(wallet=DOE_GOLD)) for _ in range(1_200)]
    received = bytearray()
    with connect(live, framing, sum(map(len, many))) as client:
        send_framed(client, framing, many[0])
        receive_lines(client, received, 1)
        assert received.startswith(b"HTTP/1.1 200 ")
        send_framed(client, framing, b"".join(many[1:-1]))
        receive_lines(client, received, 1_199)
        send_framed(client, framing, many[-1])
        send_framed(client, framing, b"")
        receive_lines(client, received, 1_200)


def test_a_body_that_breaks_off_on_the_wire_is_told(live: Live, framing: str) -> None:
    received = bytearray()
    with connect(live, framing, 1_000_000) as client:
        send_framed(client, framing, lines_of(*(record(wallet=DOE_GOLD) for _ in range(100))) + b'{"type":')
        receive_lines(client, received, 100)
        client.shutdown(socket.SHUT_WR)
        receive_lines(client, received, 101)
    last = json.loads(received[received.rindex(b'{"index"') :].splitlines()[0])
    assert (last["index"], last["body"]["code"]) == (100, "rest_unreadable")


def test_a_client_that_goes_away_is_served_no_further(live: Live, framing: str) -> None:
    reference = new_reference()
    received = bytearray()
    with connect(live, framing, 1_000_000) as client:
        send_framed(client, framing, lines_of(record(wallet=DOE_GOLD)))
        receive_lines(client, received, 1)
        send_framed(client, framing, json.dumps(record(wallet=DOE_GOLD, reference=reference)).encode())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    again = lines_of(record(wallet=DOE_GOLD, reference=reference))
    received = bytearray()
    with connect(live, framing, len(again)) as client:
        send_framed(client, framing, again)
        receive_lines(client, received, 1)
    assert b'"idempotent":false' in received, "the line that was not sent to its end was not posted"


@pytest.mark.parametrize("size", [100_000, BODY_BYTES_MAX + 1])
def test_a_json_body_may_be_longer_than_a_single_commands_and_has_its_bound(
    live: Live, framing: str, size: int
) -> None:
    batch = json.dumps({"mode": "each", "items": [record(wallet=DOE_GOLD)]}).encode()
    body = batch + b" " * (size - len(batch))
    with connect(live, framing, len(body), "application/json") as client:
        send_framed(client, framing, body)
        send_framed(client, framing, b"")
        status = client.recv(65536).split(b" ")[1]
    assert status == (b"200" if size <= BODY_BYTES_MAX else b"413")
