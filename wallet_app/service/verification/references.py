"""The invariant of the index by reference, and what is said when the worker does not keep it."""

from __future__ import annotations

from sqlalchemy import text

from wallet_app.service.references import NAME, TAIL_MAX, digest_of
from wallet_app.service.verification.transactions import RANGE
from wallet_app.service.verification.wallets import Invariant

_POSITION = f"(SELECT position FROM settled_cursors WHERE consumer = '{NAME}')"

# A row too many does no harm and is not looked for: what is found is compared with its transaction.
_REFERENCES = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the transaction %s is not in the index by reference: `flask wallet rebuild-references` adds it',
              transactions.transaction_id) AS what
  FROM transactions
 WHERE {RANGE}
   AND transactions.transaction_id <= {_POSITION}
   AND NOT EXISTS (
       SELECT FROM transaction_references AS indexed
        WHERE indexed.digest = {digest_of("transactions.reference_id")}
          AND indexed.transaction_id = transactions.transaction_id)
"""

REFERENCE_INVARIANT = Invariant(
    "references", "each transaction is found by its reference", _REFERENCES, unit="transactions"
)

BEHIND = text(f"""
SELECT count(*) FROM (
       SELECT FROM transactions
        WHERE transaction_id > coalesce({_POSITION}, CAST('00000000-0000-0000-0000-000000000000' AS uuid))
        ORDER BY transaction_id LIMIT {TAIL_MAX} + 1
       ) AS tail
""")
"""How many transactions are not in the index for certain, as far as it matters."""
