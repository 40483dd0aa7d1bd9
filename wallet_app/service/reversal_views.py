"""Reads: which wallets a transaction moved, for who wants to reverse it, and what a wallet owes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service.books import ReversedEntry
from wallet_app.service.loading import REVERSED_COLUMNS
from wallet_app.service.owners import require_user_wallet
from wallet_app.service.permits import Permit


class Moved(NamedTuple):
    """The wallets that a transaction moved: its anchor, and the others. They never change."""

    wallet_id: int
    other_wallet_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DebtView:
    """What a wallet owes because an entry of it was reversed, with what the entry's transaction tells."""

    entry: ReversedEntry
    kind: str
    reference: str


@dataclass(frozen=True, slots=True)
class DebtsView:
    """All that a wallet owes, the oldest first."""

    wallet_id: int
    user_id: int
    asset_code: str
    asset_name: str
    debts: Sequence[DebtView]

    @property
    def owed(self) -> int:
        """The sum of the debts."""
        return sum(debt.entry.owed for debt in self.debts)


@reads
def find_moved_wallets(connection: Connection, transaction_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Moved]:
    """Return which wallets each of the transactions that exist has moved."""
    rows = connection.execute(_MOVED, {"transaction_ids": list(transaction_ids)})
    return {
        row.transaction_id: Moved(
            row.wallet_id, tuple(dict.fromkeys(one for one in row.wallet_ids if one != row.wallet_id))
        )
        for row in rows
    }


@reads
def list_debts(connection: Connection, wallet_id: int, *, permit: Permit | None = None) -> DebtsView:
    """Return what a user wallet owes; a wallet owes for a bounded number of entries.

    Raises WalletNotFoundError, AssetNotAllowedError or SystemEntriesError.
    """
    owner = require_user_wallet(connection, wallet_id, permit)
    rows = connection.execute(_DEBTS, {"wallet_id": wallet_id})
    debts = [DebtView(ReversedEntry._make(row[:8]), row.kind, row.reference_id) for row in rows]
    return DebtsView(wallet_id, owner.user_id, owner.asset_code, owner.asset_name, debts)


_MOVED = text("""
SELECT found.transaction_id, found.wallet_id,
       ARRAY (SELECT found.entry_keys[place] FROM generate_series(1, cardinality(found.entry_keys), 2) AS place
               ORDER BY place) AS wallet_ids
  FROM unnest(CAST(:transaction_ids AS uuid[])) AS asked (transaction_id)
 CROSS JOIN LATERAL (
       SELECT transaction_id, wallet_id, entry_keys FROM transactions
        WHERE transaction_id = asked.transaction_id OFFSET 0
       ) AS found
""")

_DEBTS = text(f"""
SELECT {REVERSED_COLUMNS}, origin.kind, origin.reference_id
  FROM reversed_entries
  LEFT JOIN LATERAL (
       SELECT kind, reference_id FROM transactions WHERE transaction_id = reversed_entries.transaction_id OFFSET 0
       ) AS origin ON true
 WHERE reversed_entries.wallet_id = :wallet_id AND reversed_entries.owed > 0
 ORDER BY reversed_entries.owed_since, reversed_entries.seq
""")  # noqa: S608 - constants
