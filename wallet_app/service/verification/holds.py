"""The invariants of holds, over a part's wallets and over the transactions of a page; and what is worth a note."""

from __future__ import annotations

from sqlalchemy import text

from wallet_app.service.verification.parts import SCOPE, SEQ_MAX
from wallet_app.service.verification.wallets import Invariant

KINDS = ("HOLD", "CAPTURE", "RELEASE", "HOLD_EXPIRY")
"""The kinds of transactions that place or change a hold."""

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_KINDS = ", ".join(f"'{kind}'" for kind in KINDS)
_REMAINING = "holds.amount - holds.captured - holds.released - holds.expired"

_HELD = f"""
WITH {SCOPE}
SELECT balances.wallet_id, NULL AS seq,
       format('held is %s, its open holds have %s left', balances.held, open.remaining) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum({_REMAINING}), 0) AS remaining
         FROM holds WHERE holds.wallet_id = scope.wallet_id AND holds.ended_at IS NULL
       ) AS open
 WHERE scope.until = {SEQ_MAX} AND balances.held <> open.remaining
"""

_PLACED = f"""
WITH {SCOPE}
SELECT scope.wallet_id, entry.seq, 'is a HOLD entry without its hold' AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT seq, transaction_id FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until AND entry_type = 'HOLD'
       ) AS entry
  LEFT JOIN holds ON holds.wallet_id = scope.wallet_id AND holds.seq = entry.seq
 WHERE holds.hold_id IS DISTINCT FROM entry.transaction_id
 UNION ALL
SELECT scope.wallet_id, hold.seq, format('the hold %s has no HOLD entry', hold.hold_id) AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT seq, hold_id FROM holds WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
       ) AS hold
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = scope.wallet_id AND entry.seq = hold.seq
 WHERE entry.entry_type IS DISTINCT FROM 'HOLD'
"""

# A request may hold anything by now, so nothing is read from it that would not be what it should.
_HOLD_ID = """CASE WHEN transactions.kind = 'HOLD' THEN transactions.transaction_id
            WHEN transactions.request ->> 'hold' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN CAST(transactions.request ->> 'hold' AS uuid) END"""
_SECONDS = """CASE WHEN jsonb_typeof(placed.request -> 'expiresIn') = 'number'
            THEN CAST(placed.request ->> 'expiresIn' AS double precision) ELSE 0 END"""

# Each hold that a transaction of the page has to do with is looked at as a whole, along the entries that it names.
_PARTS = f"""
WITH touched AS (
    SELECT transactions.wallet_id, transactions.kind, transactions.created_at,
           coalesce(transactions.seq, transactions.entry_keys[2]) AS seq, {_HOLD_ID} AS hold_id
      FROM transactions
     WHERE {_RANGE} AND transactions.kind IN ({_KINDS})
), named AS (
    SELECT DISTINCT wallet_id, hold_id FROM touched
), found AS (
    SELECT named.wallet_id, named.hold_id AS named_id, holds.*, entry.amount AS placed_amount,
           entry.created_at AS placed_at,
           entry.created_at + make_interval(secs => {_SECONDS}) AS placed_until
      FROM named
      LEFT JOIN LATERAL (
           SELECT seq, request FROM transactions
            WHERE transaction_id = named.hold_id AND wallet_id = named.wallet_id AND kind = 'HOLD' OFFSET 0
           ) AS placed ON true
      LEFT JOIN LATERAL (
           SELECT seq AS hold_seq, hold_id, amount, captured, released, expired, state, expires_at, created_at,
                  ended_at, changes
             FROM holds WHERE holds.wallet_id = named.wallet_id AND holds.seq = placed.seq OFFSET 0
           ) AS holds ON true
      LEFT JOIN ledger_entries AS entry ON entry.wallet_id = named.wallet_id AND entry.seq = placed.seq
), made AS (
    SELECT found.*, parts.*
      FROM found
     CROSS JOIN LATERAL (
           SELECT coalesce(-sum(spent.amount), 0) AS made_captured,
                  coalesce(sum(back.amount) FILTER (WHERE of_back.kind <> 'HOLD_EXPIRY'), 0)
                      + coalesce(sum(spent.amount), 0) AS made_released,
                  coalesce(sum(back.amount) FILTER (WHERE of_back.kind = 'HOLD_EXPIRY'), 0) AS made_expired,
                  count(back.seq) AS made_changes,
                  (array_agg(of_back.kind ORDER BY change.seq DESC))[1] AS last_kind,
                  max(of_back.created_at) AS last_at
             FROM unnest(found.changes) AS change (seq)
             LEFT JOIN ledger_entries AS back ON back.wallet_id = found.wallet_id AND back.seq = change.seq
                                             AND back.entry_type = 'RELEASE'
             LEFT JOIN transactions AS of_back ON of_back.transaction_id = back.transaction_id
                                              AND of_back.request ->> 'hold' = CAST(found.hold_id AS text)
             LEFT JOIN ledger_entries AS spent ON spent.wallet_id = back.wallet_id AND spent.seq = back.seq + 1
                                              AND spent.transaction_id = back.transaction_id
                                              AND spent.entry_type = 'SPEND'
            WHERE of_back.transaction_id IS NOT NULL OR back.seq IS NULL
           ) AS parts
)
SELECT made.wallet_id, made.hold_seq AS seq,
       format('the hold %s (%s of %s captured, %s released, %s expired, %s) is not what its transactions made of it',
              made.named_id, made.captured, made.amount, made.released, made.expired, made.state) AS what
  FROM made
 WHERE made.hold_id IS DISTINCT FROM made.named_id
    OR (made.amount, made.captured, made.released, made.expired, cardinality(made.changes), made.created_at,
        made.expires_at)
       IS DISTINCT FROM
       (-made.placed_amount, made.made_captured, made.made_released, made.made_expired, made.made_changes,
        made.placed_at, made.placed_until)
    OR made.state IS DISTINCT FROM
       CASE WHEN made.made_captured + made.made_released + made.made_expired < made.amount
            THEN CASE WHEN made.made_changes = 0 THEN 'open' ELSE 'partially_captured' END
            ELSE CASE made.last_kind WHEN 'HOLD_EXPIRY' THEN 'expired' WHEN 'RELEASE' THEN 'released'
                                     ELSE 'captured' END END
    OR made.ended_at IS DISTINCT FROM
       CASE made.state WHEN 'expired' THEN made.expires_at WHEN 'captured' THEN made.last_at
                       WHEN 'released' THEN made.last_at END
 UNION ALL
SELECT touched.wallet_id, touched.seq,
       CASE WHEN made.changes IS NULL OR touched.seq <> ALL (made.changes)
            THEN format('the hold %s does not know of this %s', touched.hold_id, touched.kind)
            ELSE format('this %s is on the wrong side of the end of hold %s (%s)', touched.kind, touched.hold_id,
                        made.expires_at) END AS what
  FROM touched
  LEFT JOIN made ON made.wallet_id = touched.wallet_id AND made.named_id = touched.hold_id
 WHERE touched.kind <> 'HOLD'
   AND (made.changes IS NULL OR touched.seq <> ALL (made.changes)
        OR (touched.kind = 'HOLD_EXPIRY') <> (touched.created_at >= made.expires_at))
"""

HOLD_WALLET_INVARIANTS = (
    Invariant("held", "what a wallet holds is what its open holds have left", _HELD, unit="wallets"),
    Invariant("placed", "each HOLD entry has its hold, each hold its entry", _PLACED),
)
HOLD_TRANSACTION_INVARIANTS = (
    Invariant("holds", "each hold is what its transactions made of it", _PARTS, unit="transactions"),
)

OVERDUE_MINUTES = 10

OVERDUE = text(f"""
SELECT count(*) AS number, min(expires_at) AS since
  FROM holds
 WHERE ended_at IS NULL AND expires_at < clock_timestamp() - interval '{OVERDUE_MINUTES} minutes'
""")
