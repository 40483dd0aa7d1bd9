"""The invariants of reversals and debts, over a part's wallets and over the transactions of a page."""

from __future__ import annotations

from wallet_app.service.reversals import REVERSIBLE
from wallet_app.service.verification.parts import SCOPE, SEQ_MAX
from wallet_app.service.verification.wallets import Invariant

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_REVERSIBLE = ", ".join(f"'{kind}'" for kind in REVERSIBLE)

_OWED = f"""
WITH {SCOPE}
SELECT balances.wallet_id, NULL AS seq,
       format('owed is %s with a balance of %s, its reversed entries owe %s', balances.owed, balances.balance,
              debts.owed) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(owed), 0) AS owed FROM reversed_entries WHERE wallet_id = scope.wallet_id AND owed > 0
       ) AS debts
 WHERE scope.until = {SEQ_MAX}
   AND (balances.owed <> debts.owed OR (balances.owed > 0 AND balances.balance > 0))
"""

_REVERSED = f"""
WITH {SCOPE}
SELECT scope.wallet_id, became.seq, 'is said to be reversed, but is not such an entry, or nothing reverses it' AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT * FROM reversed_entries WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
       ) AS became
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = became.wallet_id AND entry.seq = became.seq
 WHERE (entry.transaction_id, abs(entry.amount), entry.contra_wallet_id)
       IS DISTINCT FROM (became.transaction_id, became.amount, became.contra_wallet_id)
    OR NOT EXISTS (SELECT FROM transactions WHERE reverses = became.transaction_id)
"""

# A result may hold anything by now, so nothing is read from it that would not be what it should.
_NUMBERS = ", ".join(["[0-9]{1,18}", "[0-9]{1,18}", "-?[0-9]{1,18}", "-?[0-9]{1,18}"])
_PARTS = f"""
 CROSS JOIN LATERAL (
       SELECT place, CAST(value ->> 0 AS bigint) AS wallet_id, CAST(value ->> 1 AS bigint) AS seq,
              CAST(value ->> 2 AS bigint) AS moved, CAST(value ->> 3 AS bigint) AS owed
         FROM (SELECT place, CASE WHEN CAST(part AS text) ~ '^[[]{_NUMBERS}[]]$' THEN part END AS value
                 FROM jsonb_array_elements(CASE WHEN jsonb_typeof(made.result -> 'parts') = 'array'
                                                THEN made.result -> 'parts' ELSE '[null]' END)
                      WITH ORDINALITY AS parts (part, place)
              ) AS parts
       ) AS part
"""
"""Joins the reversals `made` to what each of them says that it undid."""

# Each reversal by itself: it made an entry of all that it moved, against the other side of the entry that it undoes.
_REVERSALS = f"""
SELECT made.wallet_id, made.seq,
       format('the reversal %s is not what it says that it undid', made.transaction_id) AS what
  FROM (SELECT * FROM transactions WHERE {_RANGE} AND (kind = 'REVERSAL' OR reverses IS NOT NULL)) AS made
  LEFT JOIN LATERAL (
       SELECT kind, wallet_id FROM transactions WHERE transaction_id = made.reverses OFFSET 0
       ) AS original ON true
 CROSS JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(part.wallet_id, part.moved, undone.contra_wallet_id) ORDER BY part.place)
                  FILTER (WHERE part.moved <> 0) AS moves,
              bool_and(coalesce(sign(part.moved) IN (0, -sign(undone.amount)), false)) AS are_opposite,
              min(part.wallet_id) AS wallet_id, min(part.seq) AS seq
         FROM (SELECT 1) AS one {_PARTS}
         LEFT JOIN ledger_entries AS undone ON undone.wallet_id = part.wallet_id AND undone.seq = part.seq
                                           AND undone.transaction_id = made.reverses
                                           AND (original.kind <> 'CAPTURE' OR undone.entry_type = 'SPEND')
       ) AS says
 CROSS JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(entry.wallet_id, entry.amount, entry.contra_wallet_id) ORDER BY key.place)
                  AS moves
         FROM (SELECT 1 AS place, made.wallet_id, made.seq WHERE made.seq IS NOT NULL
                UNION ALL
               SELECT place, made.entry_keys[place], made.entry_keys[place + 1]
                 FROM generate_series(1, cardinality(made.entry_keys), 2) AS place
              ) AS key
         JOIN ledger_entries AS entry ON entry.wallet_id = key.wallet_id AND entry.seq = key.seq
                                     AND entry.entry_type = 'REVERSAL'
       ) AS did
 WHERE NOT coalesce(
       made.kind = 'REVERSAL'
       AND original.kind IN ({_REVERSIBLE})
       AND CASE WHEN made.request -> 'lot' IS NULL THEN made.request ->> 'transaction' = CAST(made.reverses AS text)
                -- A revocation names the lot, and undoes the entry that granted it.
                ELSE made.wallet_id = says.wallet_id AND EXISTS (
                     SELECT FROM lots WHERE wallet_id = says.wallet_id AND seq = says.seq
                                        AND CAST(lot_id AS text) = made.request ->> 'lot') END
       AND says.are_opposite
       AND says.moves IS NOT DISTINCT FROM did.moves
       AND CASE WHEN made.request -> 'lot' IS NOT NULL THEN true
                WHEN made.request -> 'repays' IS NULL THEN made.wallet_id = original.wallet_id
                ELSE made.request ->> 'repays' = CAST(says.seq AS text) AND made.wallet_id = says.wallet_id END, false)
"""

# Each entry of a transaction that one of the page reverses: what became of it is what all its reversals say together.
_BOUNDS = f"""
WITH named AS (
    SELECT DISTINCT reverses AS transaction_id FROM transactions WHERE {_RANGE} AND reverses IS NOT NULL
), sums AS (
    SELECT named.transaction_id, part.wallet_id, part.seq, sum(abs(part.moved)) AS reversed, sum(part.owed) AS owed
      FROM named
     CROSS JOIN LATERAL (SELECT * FROM transactions WHERE reverses = named.transaction_id OFFSET 0) AS made
     {_PARTS}
     GROUP BY named.transaction_id, part.wallet_id, part.seq
), entries AS (
    SELECT named.transaction_id, entry.wallet_id, entry.seq, entry.amount
      FROM named
     CROSS JOIN LATERAL (
           SELECT wallet_id, seq, entry_keys FROM transactions WHERE transaction_id = named.transaction_id OFFSET 0
           ) AS original
     CROSS JOIN LATERAL (
           SELECT original.wallet_id, original.seq WHERE original.seq IS NOT NULL
            UNION ALL
           SELECT original.entry_keys[place], original.entry_keys[place + 1]
             FROM generate_series(1, cardinality(original.entry_keys), 2) AS place
           ) AS key
      JOIN ledger_entries AS entry ON entry.wallet_id = key.wallet_id AND entry.seq = key.seq
)
SELECT coalesce(entries.wallet_id, sums.wallet_id) AS wallet_id, coalesce(entries.seq, sums.seq) AS seq,
       format('%s of it is reversed and %s owed, but its reversals make %s and %s',
              coalesce(became.reversed, 0), coalesce(became.owed, 0), coalesce(sums.reversed, 0),
              coalesce(sums.owed, 0)) AS what
  FROM entries
  FULL JOIN sums ON sums.transaction_id = entries.transaction_id AND sums.wallet_id = entries.wallet_id
                AND sums.seq = entries.seq
  LEFT JOIN reversed_entries AS became ON became.wallet_id = entries.wallet_id AND became.seq = entries.seq
 WHERE entries.seq IS NULL
    OR (coalesce(became.reversed, 0), coalesce(became.owed, 0))
       IS DISTINCT FROM (coalesce(sums.reversed, 0), coalesce(sums.owed, 0))
    OR became.reversed + became.owed > abs(entries.amount)
    OR (became.transaction_id, became.amount) IS DISTINCT FROM
       (CASE WHEN became.seq IS NOT NULL THEN entries.transaction_id END,
        CASE WHEN became.seq IS NOT NULL THEN abs(entries.amount) END)
"""

REVERSAL_WALLET_INVARIANTS = (
    Invariant("owed", "a wallet owes what its reversed entries owe, and has nothing then", _OWED, unit="wallets"),
    Invariant("reversed", "each entry that is said to be reversed is there, and reversed", _REVERSED),
)
REVERSAL_TRANSACTION_INVARIANTS = (
    Invariant("reversals", "each reversal undoes what it says, on the same other side", _REVERSALS, "transactions"),
    Invariant("bounds", "of each entry as much is reversed and owed as its reversals make", _BOUNDS, "transactions"),
)
