"""The invariant of the sums of blocks of a wallet's entries: they are what these entries make."""

from __future__ import annotations

from wallet_app.service.verification.parts import SCOPE
from wallet_app.service.verification.wallets import Invariant
from wallet_app.service.wallet_sums import BLOCK, SUMS

# A block that nobody has summed up is no fault. One that reaches into the part is looked at as a whole.
_SUMS = f"""
WITH {SCOPE}, kept AS (
    SELECT sums.*
      FROM scope
     CROSS JOIN LATERAL (
           SELECT * FROM wallet_sums
            WHERE wallet_id = scope.wallet_id
              AND block >= scope.seq / {BLOCK} AND block < scope.until / {BLOCK} OFFSET 0
           ) AS sums
), blocks AS (
    SELECT DISTINCT wallet_id, block FROM kept
), made AS (
    SELECT blocks.wallet_id, blocks.block, sums.* FROM blocks CROSS JOIN LATERAL ({SUMS} OFFSET 0) AS sums
)
SELECT wallet_id, (block + 1) * {BLOCK} AS seq,
       format('the sums up to it say %s entries of %s make %s, the ledger says %s make %s: '
              '`flask wallet rebuild-totals` makes them anew', coalesce(kept.entries, 0), entry_type,
              coalesce(kept.amount, 0), coalesce(made.entries, 0), coalesce(made.amount, 0)) AS what
  FROM kept
  FULL JOIN made USING (wallet_id, block, entry_type, is_credit)
 WHERE (kept.entries, kept.amount) IS DISTINCT FROM (made.entries, made.amount)
"""

SUM_INVARIANTS = (Invariant("wallet_sums", "the sums of a wallet's long history are what its entries make", _SUMS),)
