"""Reads: what happened to a wallet, movements and changes of its state in one list, newest first.

Like the list of transactions that it is made of, a page may be short, or empty, and others still follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wallet_app.service.books import Entry
from wallet_app.service.commands import Command
from wallet_app.service.filters import Filters
from wallet_app.service.history import Page, list_transactions, walk_transactions
from wallet_app.service.queries import TransactionView


@dataclass(frozen=True, slots=True)
class Happening:
    """A transaction of the wallet with the entry that it wrote there; None of one that wrote it none, like a freeze.

    A transaction that wrote several entries happens several times.
    """

    view: TransactionView
    entry: Entry | None


def kinds() -> tuple[str, ...]:
    """Return every kind that a transaction can have, in alphabetical order."""
    return tuple(sorted(set(_kinds_below(Command))))


def list_timeline(
    wallet_id: int, filters: Filters, *, before: tuple[int, ...] | None = None, limit: int = 50
) -> Page[Happening]:
    """Return a page of what happened to a user wallet below the position `before`; `limit` counts transactions.

    Raises WalletNotFoundError and SystemEntriesError.
    """
    page = list_transactions(filters, wallet_id=wallet_id, before=before, limit=limit)
    return Page([one for view in page.items for one in _happenings(wallet_id, view)], page.following)


def walk_timeline(wallet_id: int, filters: Filters) -> Iterator[Happening]:
    """Yield all that happened to a user wallet, newest first, page by page as it is asked for; raises as the list."""
    for view in walk_transactions(filters, wallet_id=wallet_id):
        yield from _happenings(wallet_id, view)


def _kinds_below(parent: type[Command]) -> Iterator[str]:
    for child in parent.__subclasses__():
        if isinstance(kind := getattr(child, "kind", None), str):
            yield kind
        yield from _kinds_below(child)


def _happenings(wallet_id: int, view: TransactionView) -> list[Happening]:
    entries = [entry for entry in reversed(view.transaction.entries) if entry.wallet_id == wallet_id]
    return [Happening(view, entry) for entry in entries] or [Happening(view, None)]
