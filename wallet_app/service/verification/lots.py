"""The invariants of lots, over a part's wallets and over the transactions of a page; and what is worth a note.

A lot says nothing that its movements do not say, and each movement belongs to an entry, or to an extension. So what is
changed in one of them shows; and that nothing was used after its end, or expired before it, is seen from the two.
"""

from __future__ import annotations

from sqlalchemy import text

from wallet_app.service.verification.holds import OVERDUE_MINUTES
from wallet_app.service.verification.parts import SCOPE, SEQ_MAX
from wallet_app.service.verification.wallets import Invariant

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_COMING = "'grant', 'release', 'restore'"
_EFFECT = f"CASE WHEN kind IN ({_COMING}) THEN amount WHEN kind = 'extend' THEN 0 ELSE -amount END"
"""What a movement adds to what is available of its lot."""

_BALANCES = f"""
WITH {SCOPE}
SELECT balances.wallet_id, NULL AS seq,
       format('bonus is %s, %s lots count; its lots make %s and %s', balances.bonus, balances.lots, sums.bonus,
              sums.lots) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(available) FILTER (WHERE kind = 'bonus'), 0) AS bonus,
              count(*) FILTER (WHERE held > 0 OR (seq > 0 AND available > 0)) AS lots,
              coalesce(sum(available), 0) AS available
         FROM lots WHERE wallet_id = scope.wallet_id
       ) AS sums
 WHERE scope.until = {SEQ_MAX}
   AND ((balances.bonus, balances.lots) IS DISTINCT FROM (sums.bonus, sums.lots)
        OR sums.available > balances.balance)
"""

_HELD = f"""
WITH {SCOPE}
SELECT scope.wallet_id, units.seq,
       format('%s of the lot is held, its open holds keep %s', coalesce(sum(units.held), 0),
              coalesce(sum(units.kept), 0)) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT seq, part, held, 0 AS kept FROM lots WHERE wallet_id = scope.wallet_id AND held > 0
        UNION ALL
       SELECT holds.lots[place], holds.lots[place + 1], 0, holds.lots[place + 2]
         FROM holds
        CROSS JOIN LATERAL generate_series(1, cardinality(holds.lots), 3) AS place
        WHERE holds.wallet_id = scope.wallet_id AND holds.ended_at IS NULL
       ) AS units
 WHERE scope.until = {SEQ_MAX} AND balances.lots > 0
 GROUP BY scope.wallet_id, units.seq, units.part
HAVING sum(units.held) <> sum(units.kept)
"""

# All movements of each lot that something happened to since the last verification, each with the end that the lot had
# then: the latest that was told before it. An extension has no entry and comes after the one with its number.
_LIVES = f"""
{SCOPE}, begun AS (
    -- Of a wallet that was cut into parts nobody knows any more where it began.
    SELECT wallet_id, CASE WHEN is_resumed THEN 0 ELSE seq END AS seq FROM scope WHERE until = {SEQ_MAX}
), touched AS (
    SELECT begun.wallet_id, begun.seq AS after, lot.lot_seq, lot.lot_part
      FROM begun
     CROSS JOIN LATERAL (
           SELECT lot_seq, lot_part FROM lot_movements WHERE wallet_id = begun.wallet_id AND seq >= begun.seq
            UNION
           SELECT seq, part FROM lots WHERE wallet_id = begun.wallet_id AND begun.seq = 0
           ) AS lot
), lives AS (
    SELECT touched.after, movement.*,
           max(movement.expires_at) OVER (
               PARTITION BY movement.wallet_id, movement.lot_seq, movement.lot_part
                   ORDER BY movement.seq, movement.kind = 'extend', movement.created_at
                    ROWS UNBOUNDED PRECEDING) AS lives_until
      FROM touched
     CROSS JOIN LATERAL (
           SELECT * FROM lot_movements
            WHERE wallet_id = touched.wallet_id AND lot_seq = touched.lot_seq AND lot_part = touched.lot_part OFFSET 0
           ) AS movement
)
"""

_PARTS = f"""
WITH {_LIVES}, made AS (
    SELECT wallet_id, lot_seq, lot_part,
           sum(amount) FILTER (WHERE kind = 'grant') AS amount,
           sum({_EFFECT}) AS available,
           coalesce(sum(amount) FILTER (WHERE kind = 'hold'), 0)
               - coalesce(sum(amount) FILTER (WHERE kind = 'release'), 0) AS held,
           coalesce(sum(amount) FILTER (WHERE kind = 'consume'), 0)
               - coalesce(sum(amount) FILTER (WHERE kind = 'restore'), 0) AS consumed,
           coalesce(sum(amount) FILTER (WHERE kind = 'expire'), 0) AS expired,
           coalesce(sum(amount) FILTER (WHERE kind = 'revoke'), 0) AS revoked,
           max(lives_until) AS expires_at, min(created_at) AS created_at, max(created_at) AS changed_at
      FROM lives GROUP BY wallet_id, lot_seq, lot_part
)
SELECT touched.wallet_id, touched.lot_seq AS seq,
       format('the lot (%s of %s available, %s held, %s consumed, %s expired, %s revoked, until %s) is not what its '
              'movements made of it', lots.available, lots.amount, lots.held, lots.consumed, lots.expired, lots.revoked,
              lots.expires_at) AS what
  FROM touched
  LEFT JOIN lots ON lots.wallet_id = touched.wallet_id AND lots.seq = touched.lot_seq AND lots.part = touched.lot_part
  LEFT JOIN made ON made.wallet_id = touched.wallet_id AND made.lot_seq = touched.lot_seq
                AND made.lot_part = touched.lot_part
 WHERE (lots.amount, lots.available, lots.held, lots.consumed, lots.expired, lots.revoked, lots.expires_at,
        lots.created_at, lots.changed_at)
       IS DISTINCT FROM
       (made.amount, made.available, made.held, made.consumed, made.expired, made.revoked, made.expires_at,
        made.created_at, made.changed_at)
"""

# Units that a hold kept are captured in one transaction with their coming back, as what a reversal restored may be
# taken by it: these alone are used after their lot's end.
_ENDS = f"""
WITH {_LIVES}
SELECT lives.wallet_id, lives.seq,
       format('%s of %s of lot %s, which ends %s, at %s', lives.kind, lives.amount, lives.lot_seq, lives.lives_until,
              lives.created_at) AS what
  FROM lives
 WHERE lives.lot_seq > 0 AND lives.seq > lives.after
   AND CASE WHEN lives.kind = 'expire' THEN lives.created_at < lives.lives_until
            WHEN lives.kind IN ('consume', 'hold', 'revoke') THEN
                 lives.created_at >= lives.lives_until
                 AND NOT EXISTS (
                     SELECT FROM lot_movements AS back
                      WHERE back.wallet_id = lives.wallet_id AND back.lot_seq = lives.lot_seq
                        AND back.lot_part = lives.lot_part AND back.seq <= lives.seq
                        AND back.transaction_id = lives.transaction_id AND back.kind IN ('release', 'restore'))
                 -- What is owed for the grant is taken from what comes back of it.
                 AND NOT (lives.kind = 'revoke' AND EXISTS (
                     SELECT FROM transactions
                       JOIN ledger_entries AS granted ON granted.transaction_id = transactions.reverses
                      WHERE transactions.transaction_id = lives.transaction_id
                        AND granted.wallet_id = lives.wallet_id AND granted.seq = lives.lot_seq))
            ELSE false END
"""

# What each entry may do to lots, by its type and sign; a bonus and an expiry do all that they do to lots.
_OF_ENTRIES = f"""
WITH {SCOPE}, moved AS (
    SELECT scope.wallet_id, movement.*
      FROM scope
     CROSS JOIN LATERAL (
           SELECT seq, sum({_EFFECT}) AS available, min(kind) AS kind, array_agg(kind) AS kinds,
                  min(CAST(transaction_id AS text)) AS transaction_id, max(CAST(transaction_id AS text)) AS last_id,
                  min(created_at) AS created_at, max(created_at) AS last_at
             FROM lot_movements
            WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until AND kind <> 'extend'
            GROUP BY seq
           ) AS movement
)
SELECT moved.wallet_id, moved.seq,
       format('%s of %s, and %s of %s of its lots', entry.entry_type, entry.amount, moved.kind, moved.available)
           AS what
  FROM moved
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = moved.wallet_id AND entry.seq = moved.seq
 WHERE NOT coalesce(
       moved.transaction_id = moved.last_id AND moved.transaction_id = CAST(entry.transaction_id AS text)
       AND moved.created_at = entry.created_at AND moved.last_at = entry.created_at
       -- What comes back of a grant that was taken back already is taken at once: then paid credit may be all of it.
       AND CASE WHEN entry.amount < 0 THEN moved.available BETWEEN entry.amount AND -1
                ELSE moved.available BETWEEN CASE WHEN 'revoke' = ANY (moved.kinds) THEN 0 ELSE 1 END
                                         AND entry.amount END
       AND (entry.entry_type NOT IN ('BONUS', 'EXPIRY') OR moved.available = entry.amount)
       AND (entry.entry_type <> 'ADJUSTMENT' OR entry.amount < 0 OR moved.available = entry.amount)
       AND moved.kinds <@ CASE entry.entry_type
               WHEN 'HOLD' THEN ARRAY['hold'] WHEN 'RELEASE' THEN ARRAY['release', 'revoke', 'restore']
               WHEN 'EXPIRY' THEN ARRAY['expire']
               WHEN 'REVERSAL' THEN CASE WHEN entry.amount > 0 THEN ARRAY['grant', 'restore', 'revoke']
                                         ELSE ARRAY['revoke', 'consume'] END
               ELSE CASE WHEN entry.amount > 0 THEN ARRAY['grant'] ELSE ARRAY['consume'] END END, false)
 UNION ALL
SELECT scope.wallet_id, entry.seq, format('is a %s that no lot knows of', entry.entry_type)
  FROM scope
 CROSS JOIN LATERAL (
       SELECT seq, entry_type FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
          AND (entry_type IN ('BONUS', 'EXPIRY') OR (entry_type = 'ADJUSTMENT' AND amount > 0))
       ) AS entry
 WHERE NOT EXISTS (SELECT FROM lot_movements WHERE wallet_id = scope.wallet_id AND seq = entry.seq
                                               AND kind IN ('grant', 'expire'))
 UNION ALL
SELECT scope.wallet_id, extension.seq, format('the lot %s was extended, but nobody asked for it', extension.lot_seq)
  FROM scope
 CROSS JOIN LATERAL (
       SELECT seq, lot_seq, transaction_id, created_at FROM lot_movements
        WHERE wallet_id = scope.wallet_id AND seq >= scope.seq AND seq <= scope.until AND kind = 'extend'
       ) AS extension
 WHERE NOT EXISTS (SELECT FROM transactions
                    WHERE transactions.transaction_id = extension.transaction_id
                      AND transactions.created_at = extension.created_at AND transactions.kind = 'EXTEND')
"""

# What all lots had after an entry is what they have now, less what was done to them since. What a wallet has besides is
# paid credit, which is taken last: whoever took of it left nothing in lots. A capture takes what its hold kept.
_ORDER = f"""
WITH {SCOPE}, there AS (
    SELECT scope.wallet_id, entry.*,
           sums.available - sums.since
               + sum(coalesce(moved.available, 0)) OVER (PARTITION BY scope.wallet_id ORDER BY entry.seq
                                                          ROWS UNBOUNDED PRECEDING) AS in_lots,
           coalesce(moved.available, 0) AS moved
      FROM scope
     CROSS JOIN LATERAL (
           SELECT sum(available) AS available, count(*) AS lots,
                  (SELECT coalesce(sum({_EFFECT}), 0) FROM lot_movements
                    WHERE wallet_id = scope.wallet_id AND seq > scope.seq) AS since
             FROM lots WHERE wallet_id = scope.wallet_id
           ) AS sums
     CROSS JOIN LATERAL (
           SELECT seq, entry_type, amount, balance_after, transaction_id FROM ledger_entries
            WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
            ORDER BY seq
           ) AS entry
      LEFT JOIN LATERAL (
           SELECT sum({_EFFECT}) AS available FROM lot_movements
            WHERE wallet_id = scope.wallet_id AND seq = entry.seq
           ) AS moved ON true
     WHERE sums.lots > 0
)
SELECT there.wallet_id, there.seq,
       format('%s of %s leaves %s, of which %s is in lots', there.entry_type, there.amount, there.balance_after,
              there.in_lots) AS what
  FROM there
 WHERE there.in_lots NOT BETWEEN 0 AND there.balance_after
    OR (there.entry_type IN ('SPEND', 'HOLD', 'TRANSFER', 'EXCHANGE', 'ADJUSTMENT') AND there.amount < there.moved
        AND there.in_lots > 0
        AND NOT EXISTS (SELECT FROM ledger_entries AS back
                         WHERE back.wallet_id = there.wallet_id AND back.seq = there.seq - 1
                           AND back.transaction_id = there.transaction_id AND back.entry_type = 'RELEASE'))
"""

# What expires of a grant is not taken back, and what was taken back of it does not expire as well: so the user loses
# it once. What is still there of it may expire, and counts. What a debt is taken from is there only for a moment.
_ONCE = f"""
WITH {SCOPE}
SELECT scope.wallet_id, became.seq,
       format('of %s, %s is reversed and %s owed, but %s of its lots has expired or can', became.amount,
              became.reversed, became.owed, made.amount) AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT * FROM reversed_entries WHERE wallet_id = scope.wallet_id AND seq > 0 OFFSET 0
       ) AS became
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(available + expired), 0) AS amount FROM lots
        WHERE wallet_id = became.wallet_id AND seq = became.seq
       ) AS made
 WHERE scope.until = {SEQ_MAX} AND made.amount > 0
   AND became.reversed + became.owed + made.amount > became.amount
"""

_NATURE = f"""
WITH {SCOPE}
SELECT scope.wallet_id, lot.seq,
       format('the %s lot %s, granted by %s (%s), is not what that grants', lot.kind, lot.lot_id, entry.entry_type,
              entry.transaction_id) AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT * FROM lots
        WHERE wallet_id = scope.wallet_id AND seq >= scope.seq AND seq <= scope.until AND seq > 0 OFFSET 0
       ) AS lot
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = lot.wallet_id AND entry.seq = lot.seq
 WHERE NOT coalesce(
       entry.amount > 0
       AND CASE WHEN entry.entry_type IN ('TOPUP', 'SEED') THEN lot.kind = 'paid'
                WHEN entry.entry_type IN ('BONUS', 'ADJUSTMENT') THEN lot.kind = 'bonus'
                ELSE entry.entry_type IN ('TRANSFER', 'EXCHANGE', 'REVERSAL') END, false)
"""

# A request may hold anything by now, so nothing is read from it that would not be what it should.
_LOT_ID = """CASE WHEN transactions.request ->> 'lot' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN CAST(transactions.request ->> 'lot' AS uuid) END"""
_EXTENSIONS = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the extension %s is not what it made of its lot', transactions.transaction_id) AS what
  FROM transactions
  LEFT JOIN lots ON lots.lot_id = {_LOT_ID}
 WHERE {_RANGE}
   AND transactions.kind = 'EXTEND'
   AND NOT EXISTS (
       SELECT FROM lot_movements AS movements
        WHERE movements.wallet_id = transactions.wallet_id AND movements.lot_seq = lots.seq
          AND movements.lot_part = lots.part AND movements.transaction_id = transactions.transaction_id
          AND movements.kind = 'extend' AND movements.created_at = transactions.created_at)
"""

LOT_WALLET_INVARIANTS = (
    Invariant("bonus", "the balances tell what is in lots", _BALANCES, unit="wallets"),
    Invariant("lots", "each lot is what its movements made of it", _PARTS, unit="wallets"),
    Invariant("lots_held", "what is held of lots is what holds keep", _HELD, unit="wallets"),
    Invariant("lot_entries", "lots moved by their entries", _OF_ENTRIES),
    Invariant("lot_order", "paid credit without an end was taken last", _ORDER),
    Invariant("lot_ends", "nothing was used after its end, or expired before", _ENDS, unit="wallets"),
    Invariant("lot_bounds", "no unit of a grant expires and is taken back", _ONCE, unit="wallets"),
    Invariant("lot_kinds", "each lot is of the kind that was granted", _NATURE, unit="wallets"),
)
LOT_TRANSACTION_INVARIANTS = (
    Invariant("extensions", "each extension is one of its lot", _EXTENSIONS, unit="transactions"),
)

LOTS_ALONE = frozenset(
    one.name
    for one in (*LOT_WALLET_INVARIANTS, *LOT_TRANSACTION_INVARIANTS)
    if one.name not in {"bonus", "lot_entries"}
)
"""What says something of lots and their movements alone, and nothing where there are none."""

THERE_ARE_LOTS = text("SELECT EXISTS (SELECT FROM lots) OR EXISTS (SELECT FROM lot_movements)")

OVERDUE_LOTS = text(f"""
SELECT count(*) AS number, min(expires_at) AS since
  FROM lots
 WHERE available > 0 AND expires_at < clock_timestamp() - interval '{OVERDUE_MINUTES} minutes'
""")
