"""Reads: what surrounds a transaction: whose wallets it moved, what undid it, and whether its rows are as they were.

The hashes are recomputed in the database from the rows alone, by the second implementation, which `verify` uses too.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service.hold_views import HoldView, get_hold
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.queries import TransactionView, get_transaction
from wallet_app.service.verification.canonical import DETAILS_HASH, DIGEST, ENTRY_HASH

REVERSALS_MAX = 100
"""How many reversals of one transaction are told of."""


class WalletName(NamedTuple):
    """A wallet by what people know of it."""

    wallet_id: int
    user_id: int
    user_name: str
    user_type: str
    asset_code: str
    asset_scale: int


class ReversalLink(NamedTuple):
    """A transaction that reversed another one."""

    transaction_id: uuid.UUID
    kind: str
    actor: str
    created_at: dt.datetime


class LinkProof(NamedTuple):
    """An entry's place in its wallet's chain: the hash that is stored, and whether the rows still make that one."""

    wallet_id: int
    seq: int
    hash: bytes
    previous_hash: bytes
    is_right: bool
    is_last: bool
    """Whether no entry of the wallet came after it; else `next_is_right` is whether the next one builds on it."""
    next_is_right: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """A transaction with its surroundings.

    `digest_is_right` and `details_are_right` tell whether the rows still make the stored hashes; the latter is None
    where there is no note or metadata, or they were erased: `details_erased` tells which. `hold` is the one that it
    placed or changed.
    """

    view: TransactionView
    wallets: Mapping[int, WalletName]
    reversals: Sequence[ReversalLink]
    links: Sequence[LinkProof]
    digest_is_right: bool
    details_are_right: bool | None
    details_erased: bool
    hold: HoldView | None

    @property
    def is_as_written(self) -> bool:
        """Whether the transaction's own rows make their hashes."""
        links = all(link.is_right for link in self.links)
        return self.digest_is_right and self.details_are_right is not False and links

    @property
    def is_verified(self) -> bool:
        """Whether they do, and the entries after them build on them."""
        return self.is_as_written and all(link.next_is_right for link in self.links)


def get_evidence(transaction_id: uuid.UUID) -> Evidence:
    """Return the transaction with its surroundings; raise TransactionNotFoundError."""
    view = get_transaction(transaction_id)
    wallets, reversals = _names(view), _reversals(transaction_id)
    proof, links = _proof(transaction_id)
    hold_id = _hold_of(view)
    return Evidence(
        view,
        wallets,
        reversals,
        links,
        digest_is_right=proof.digest_is_right,
        details_are_right=proof.details_are_right,
        details_erased=proof.details_erased,
        hold=None if hold_id is None else get_hold(hold_id),
    )


def _hold_of(view: TransactionView) -> uuid.UUID | None:
    transaction = view.transaction
    if transaction.kind == "HOLD":
        return transaction.transaction_id
    named = transaction.requested.get("hold")
    return None if named is None else uuid.UUID(named)


class _Proof(NamedTuple):
    digest_is_right: bool
    details_are_right: bool | None
    details_erased: bool


@reads
def _names(connection: Connection, view: TransactionView) -> dict[int, WalletName]:
    transaction = view.transaction
    wallet_ids = {transaction.wallet_id}
    for entry in transaction.entries:
        wallet_ids |= {entry.wallet_id, entry.contra_wallet_id}
    rows = connection.execute(_NAMES, {"wallet_ids": sorted(wallet_ids)})
    return {row.wallet_id: WalletName(*row) for row in rows}


@reads
def _reversals(connection: Connection, transaction_id: uuid.UUID) -> list[ReversalLink]:
    rows = connection.execute(_REVERSALS, {"transaction_id": transaction_id, "limit": REVERSALS_MAX})
    return [ReversalLink(*row) for row in rows]


@reads
def _proof(connection: Connection, transaction_id: uuid.UUID) -> tuple[_Proof, list[LinkProof]]:
    rows = connection.execute(_PROOF, {"transaction_id": transaction_id}).all()
    return _Proof(*rows[0][:3]), [LinkProof(*row[3:]) for row in rows if row.wallet_id is not None]


_NAMES = text("""
SELECT wallets.id AS wallet_id, wallets.user_id, users.name, users.user_type, asset_types.code, asset_types.scale
  FROM unnest(CAST(:wallet_ids AS bigint[])) AS asked (wallet_id)
 CROSS JOIN LATERAL (SELECT * FROM wallets WHERE id = asked.wallet_id OFFSET 0) AS wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
""")

_REVERSALS = text("""
SELECT transaction_id, kind, actor, created_at FROM transactions
 WHERE reverses = :transaction_id
 ORDER BY created_at, transaction_id LIMIT :limit
""")

# The entries come with the hashes of their neighbours, each by a look-up in the primary key. The next entry's own hash
# cannot be recomputed without its transaction, so that is read as well.
_ENTRIES = f"""
SELECT entries.*,
       CASE WHEN entries.seq = 1 THEN decode(repeat('00', 32), 'hex') ELSE (
            SELECT hash FROM ledger_entries AS earlier
             WHERE earlier.wallet_id = entries.wallet_id AND earlier.seq = entries.seq - 1) END AS previous_hash
  FROM (SELECT * FROM transactions WHERE transaction_id = :transaction_id) AS transactions
  {ENTRIES_OF_TRANSACTION}
"""  # noqa: S608 - constants

_NEXT_IS_RIGHT = f"""
SELECT entries.hash = {ENTRY_HASH} AS is_right
  FROM (SELECT later.*, this.hash AS previous_hash FROM ledger_entries AS later
         WHERE later.wallet_id = this.wallet_id AND later.seq = this.seq + 1) AS entries
  JOIN transactions ON transactions.transaction_id = entries.transaction_id
"""  # noqa: S608 - constants

_PROOF = text(f"""
SELECT transactions.digest = {DIGEST} AS digest_is_right,
       CASE WHEN transaction_details.salt IS NOT NULL
            THEN transactions.details_hash IS NOT DISTINCT FROM {DETAILS_HASH} END AS details_are_right,
       transactions.details_hash IS NOT NULL AND transaction_details.salt IS NULL AS details_erased,
       entries.wallet_id, entries.seq, entries.hash, entries.previous_hash,
       coalesce(entries.hash = {ENTRY_HASH}, false) AS is_right,
       later.is_right IS NULL AS is_last, coalesce(later.is_right, true) AS next_is_right
  FROM transactions
  LEFT JOIN ({_ENTRIES}) AS entries ON true
  LEFT JOIN transaction_details ON transaction_details.wallet_id = transactions.wallet_id
                               AND transaction_details.transaction_id = transactions.transaction_id
  LEFT JOIN LATERAL (
       SELECT is_right FROM (SELECT entries.wallet_id, entries.seq, entries.hash) AS this
        CROSS JOIN LATERAL ({_NEXT_IS_RIGHT}) AS found
       ) AS later ON true
 WHERE transactions.transaction_id = :transaction_id
""")  # noqa: S608 - constants
