"""The invariants of lots, over a part's wallets and over the transactions of a page; and what is worth a note.

A lot says nothing that its movements do not say, and each movement belongs to an entry, or to an extension. So what is
changed in one of them shows; and that nothing was used after its end, or expired before it, is seen from the two.
"""

from __future__ import annotations

from sqlalchemy import text

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
SELECT scope.wallet_id, coalesce(lots.seq, kept.seq) AS seq,
       format('%s of the lot is held, its open holds keep %s', coalesce(lots.held, 0), coalesce(kept.amount, 0)) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       (SELECT seq, part, held FROM lots WHERE wallet_id = scope.wallet_id AND held > 0) AS lots
       FULL JOIN (
       SELECT holds.lots[place] AS seq, holds.lots[place + 1] AS part, sum(holds.lots[place + 2]) AS amount
         FROM holds
        CROSS JOIN LATERAL generate_series(1, cardinality(holds.lots), 3) AS place
        WHERE holds.wallet_id = scope.wallet_id
        GROUP BY 1, 2
       ) AS kept ON kept.seq = lots.seq AND kept.part = lots.part
       )
 WHERE scope.until = {SEQ_MAX} AND lots.held IS DISTINCT FROM kept.amount
"""
