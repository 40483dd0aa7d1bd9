"""Reads: lists of transactions, and of a wallet's entries by filters, newest first, page by page.

A page may have fewer items than asked for, or none, and others still follow: a rare filter looks at a bounded number of
rows for each page. `permit` is what who asks may do; None is the service itself. What it does not reach is not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import BadFilterError
from wallet_app.service import walks
from wallet_app.service.filters import Filters, all_of, is_limited, permit_values, told
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION, TRANSACTION_COLUMNS, TransactionRow
from wallet_app.service.owners import Owner, require_user_wallet
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.queries import (
    EXPIRED_OF_ENTRY,
    PAGE_MAX,
    EntryRow,
    EntryView,
    TransactionView,
    entry_view,
    transaction_view,
)
from wallet_app.service.walks import BEGINNING, Reach

T = TypeVar("T")

_SEQ_MAX = 2**63 - 1

_FILE_PAGE = 500
"""How many transactions a file reads at once: each page has its look-ups of where it begins."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items, newest first; and the position that the next page begins below, None if there is nothing more."""

    items: Sequence[T]
    following: tuple[int, ...] | None


@reads
def list_transactions(
    connection: Connection,
    filters: Filters,
    *,
    wallet_id: int | None,
    before: tuple[int, ...] | None,
    limit: int,
    permit: Permit | None = None,
) -> Page[TransactionView]:
    """Return a page of the transactions below the position `before`; of those that touch the wallet, if one is given.

    Of each the permit is shown what it reaches. Raises WalletNotFoundError, AssetNotAllowedError, SystemEntriesError,
    and BadFilterError for a search without an end, or for a user's permit without a wallet.
    """
    return _page(connection, filters, wallet_id, before, min(limit, PAGE_MAX), permit)


def _page(
    connection: Connection,
    filters: Filters,
    wallet_id: int | None,
    before: tuple[int, ...] | None,
    limit: int,
    permit: Permit | None,
) -> Page[TransactionView]:
    if wallet_id is not None:
        require_user_wallet(connection, wallet_id, permit)
    elif permit is not None and permit.user_id is not None:
        raise BadFilterError("A user token lists the transactions of one wallet at a time: say which by walletId.")
    elif filters.reference is not None and (found_by_it := _of_all(connection, filters, before, limit, permit)):
        return found_by_it
    elif before is None:
        filters.require_range(connection.execute(_NOW).scalar_one())
    if wallet_id is not None and filters.reference is not None:
        return _under_reference(connection, wallet_id, filters, before or (BEGINNING,) * 2, limit, permit)
    start = before or (BEGINNING,) * places_of(wallet_id)
    walk = partial(walks.walk_transactions, connection, filters, wallet_id=wallet_id, limit=limit, permit=permit)
    found = [walk(before=start[0])]
    if wallet_id is not None:
        found.append(walks.walk_entries(connection, wallet_id, filters, before=start[1], limit=limit, permit=permit))
    page, following = walks.together(found, before=start, limit=limit)
    return Page(_views(connection, [one.transaction_id for one in page], permit), following)


_read_page = reads(_page)


def walk_transactions(filters: Filters, *, wallet_id: int | None) -> Iterator[TransactionView]:
    """Yield all transactions that `list_transactions` lists, page by page as they are asked for; raises as it does."""
    before: tuple[int, ...] | None = None
    while True:
        page = _read_page(filters, wallet_id, before, _FILE_PAGE, None)
        yield from page.items
        if page.following is None:
            return
        before = page.following


def _of_all(
    connection: Connection, filters: Filters, before: tuple[int, ...] | None, limit: int, permit: Permit | None
) -> Page[TransactionView] | None:
    """Return a page of the transactions under the reference, whichever their wallet; None without an index of them."""
    start = before or (BEGINNING,)
    walk = walks.walk_reference(connection, filters, before=start[0], limit=limit, permit=permit)
    if walk is None:
        return None
    page, following = walks.together([walk], before=start, limit=limit)
    return Page(_views(connection, [one.transaction_id for one in page], permit), following)


def _under_reference(
    connection: Connection,
    wallet_id: int,
    filters: Filters,
    before: tuple[int, ...],
    limit: int,
    permit: Permit | None,
) -> Page[TransactionView]:
    """Return the wallet's own transaction under the reference first, and then those of others that touch the wallet."""
    own = walks.find_own(connection, wallet_id, filters, permit=permit) if before[0] else []
    ids, following = own, before[1:]
    if len(own) < limit:
        walk = walks.walk_entries(
            connection, wallet_id, filters, before=before[1], limit=limit - len(own), permit=permit
        )
        found, ends = walks.together([walk], before=before[1:], limit=limit - len(own))
        ids = [*own, *[one.transaction_id for one in found]]
        if ends is None:
            return Page(_views(connection, ids, permit), None)
        following = ends
    return Page(_views(connection, ids, permit), (0, *following))


def places_of(wallet_id: int | None) -> int:
    """Return how many positions a page of `list_transactions` begins below."""
    return 1 if wallet_id is None else 2


@reads
def find_entries(
    connection: Connection,
    wallet_id: int,
    filters: Filters,
    *,
    before: tuple[int, ...] | None,
    limit: int,
    permit: Permit | None = None,
) -> Page[EntryView]:
    """Return a page of a user wallet's entries below the position `before`, which is two seqs.

    Under a reference, those of the wallet's own transaction come first, and then those of others': the first seq is
    for these, the second for all others. Raises WalletNotFoundError, AssetNotAllowedError or SystemEntriesError.
    """
    limit = min(limit, PAGE_MAX)
    owner = require_user_wallet(connection, wallet_id, permit)
    read = partial(_entries, connection, wallet_id, owner, filters, permit)
    below, others_below = (min(place, _SEQ_MAX) for place in before or (BEGINNING,) * 2)
    found: list[EntryView] = []
    if filters.reference is not None and below:
        own = walks.find_own(connection, wallet_id, Filters(reference=filters.reference), permit=permit)
        seqs = list(connection.scalars(_SEQS_OF, {"wallet_id": wallet_id, "transaction_ids": own}))
        reach = walks.entries_in_reach(connection, wallet_id, filters, before=below)
        found = read(reach, limit, seqs=seqs)
        if len(found) > limit:
            return Page(found[:limit], (found[limit - 1].entry.seq, others_below))
        if len(found) == limit:
            return Page(found, (0, others_below))
    reach = walks.entries_in_reach(connection, wallet_id, filters, before=others_below)
    part = walks.page_in_reach(reach, is_rare=not filters.is_of_time_alone, limit=limit)
    rest = limit - len(found)
    others = read(part, rest)
    following = _below(others, reach, part, rest)
    return Page([*found, *others[:rest]], None if following is None else (0, following))


@reads
def entries_between(connection: Connection, wallet_id: int, low: int, high: int) -> Sequence[EntryView]:
    """Return a user wallet's entries of these seqs, newest first; the caller bounds how many. Raises as the list."""
    owner = require_user_wallet(connection, wallet_id, None)
    return _entries(connection, wallet_id, owner, Filters(), None, Reach(low, high), high - low)


def _entries(
    connection: Connection,
    wallet_id: int,
    owner: Owner,
    filters: Filters,
    permit: Permit | None,
    part: Reach,
    limit: int,
    *,
    seqs: Sequence[int] | None = None,
) -> list[EntryView]:
    """Return up to `limit` + 1 entries of the part that pass the filters; with `seqs`, of these alone.

    Without them, under a reference, those of other wallets' transactions alone.
    """
    asked = [*filters.of_amount("amount"), *(["entry_type = :kind"] if filters.kind is not None else [])]
    page = (_PART if seqs is None else _THESE).format(of_entry=all_of(asked))
    conditions = [*filters.of_transaction()]
    conditions += [walks.ANOTHERS] if filters.reference is not None and seqs is None else []
    conditions += told(filters, permit)
    values = {"wallet_id": wallet_id, "low": part.low, "high": part.high, "seqs": seqs, "rows": limit + 1}
    rows = connection.execute(
        text(_ENTRIES.format(page=page, conditions=all_of(conditions))),
        values | filters.values() | permit_values(permit),
    )
    return [entry_view(EntryRow(wallet_id, *owner[:3], *row), permit) for row in rows]


def _below(found: Sequence[EntryView], reach: Reach, part: Reach, limit: int) -> int | None:
    if len(found) > limit:
        return found[limit - 1].entry.seq
    return part.low if part.low > reach.low else None


def _views(
    connection: Connection, transaction_ids: Sequence[uuid.UUID], permit: Permit | None
) -> list[TransactionView]:
    """Return the transactions in the given order, each with the entries that the permit reaches."""
    rows: dict[uuid.UUID, list[TransactionRow]] = {one: [] for one in transaction_ids}
    if rows:
        for row in connection.execute(_TRANSACTIONS, {"transaction_ids": list(rows)}):
            rows[row.transaction_id].append(TransactionRow(*row))
    return [transaction_view(_reached(group, permit), permit) for group in rows.values()]


def _reached(rows: Sequence[TransactionRow], permit: Permit | None) -> Sequence[TransactionRow]:
    """Return the rows of the entries that the permit reaches."""
    if not is_limited(permit) or permit is None:
        return rows
    found = [
        row
        for row in rows
        if reaches(permit, row.user_id or 0) and (permit.assets is None or row.asset_code in permit.assets)
    ]
    # Of a transaction of a wallet that wrote it no entry, it is the transaction itself that is reached.
    return found or [rows[0]._replace(entry_wallet_id=None)]


_NOW = text("SELECT clock_timestamp()")

_PART = """
       SELECT * FROM ledger_entries
        WHERE wallet_id = :wallet_id AND seq BETWEEN :low AND :high AND {of_entry}
        ORDER BY wallet_id DESC, seq DESC OFFSET 0"""

# One look-up each: PostgreSQL 15, asked for a list of seqs in order, reads the whole wallet.
_THESE = """
       SELECT one.*
         FROM unnest(CAST(:seqs AS bigint[])) AS asked (place)
        CROSS JOIN LATERAL (
              SELECT * FROM ledger_entries WHERE wallet_id = :wallet_id AND seq = asked.place OFFSET 0
              ) AS one
        WHERE seq BETWEEN :low AND :high AND {of_entry}"""

_ENTRIES = f"""
SELECT page.seq, page.transaction_id, page.entry_type, page.amount, page.balance_after, page.contra_wallet_id,
       page.created_at, page.hash,
       transactions.reference_id, transactions.kind, transactions.actor, transactions.occurred_at, details.note,
       details.metadata, anchors.user_id, anchors.asset_code
  FROM ({{page}}
       ) AS page
 CROSS JOIN LATERAL (SELECT * FROM transactions WHERE transaction_id = page.transaction_id OFFSET 0) AS transactions
  {walks.WITH_DETAILS}
  LEFT JOIN LATERAL (
       SELECT wallets.user_id, asset_types.code AS asset_code
         FROM wallets JOIN asset_types ON asset_types.id = wallets.asset_type_id
        WHERE wallets.id = transactions.wallet_id AND wallets.id <> :wallet_id OFFSET 0
       ) AS anchors ON true
 WHERE {{conditions}}
 ORDER BY page.seq DESC LIMIT :rows
"""  # noqa: S608 - constants

_SEQS_OF = text("""
SELECT CASE WHEN entry_keys IS NULL THEN seq ELSE entry_keys[place + 1] END
  FROM unnest(CAST(:transaction_ids AS uuid[])) AS asked (transaction_id)
 CROSS JOIN LATERAL (SELECT * FROM transactions WHERE transaction_id = asked.transaction_id OFFSET 0) AS transactions
 CROSS JOIN LATERAL generate_series(1, coalesce(cardinality(entry_keys), 1), 2) AS place
 WHERE CASE WHEN entry_keys IS NULL THEN seq IS NOT NULL AND wallet_id = :wallet_id
            ELSE entry_keys[place] = :wallet_id END
""")

_OWNER_OF = """
       SELECT wallets.user_id, asset_types.code AS asset_code
         FROM wallets JOIN asset_types ON asset_types.id = wallets.asset_type_id
"""

_TRANSACTIONS = text(f"""
SELECT {TRANSACTION_COLUMNS}, details.note, details.metadata,
       coalesce(owners.asset_code, anchors.asset_code) AS asset_code,
       coalesce(owners.user_id, anchors.user_id) AS user_id,
       became.reversed, became.owed, became.owed_since,
       anchors.user_id AS anchor_user_id, anchors.asset_code AS anchor_asset_code, {EXPIRED_OF_ENTRY}
  FROM unnest(CAST(:transaction_ids AS uuid[])) AS asked (transaction_id)
 CROSS JOIN LATERAL (SELECT * FROM transactions WHERE transaction_id = asked.transaction_id OFFSET 0) AS transactions
  {ENTRIES_OF_TRANSACTION}
  {walks.WITH_DETAILS}
  LEFT JOIN LATERAL (
       SELECT reversed, owed, owed_since FROM reversed_entries
        WHERE wallet_id = entries.wallet_id AND seq = entries.seq OFFSET 0
       ) AS became ON true
  LEFT JOIN LATERAL ({_OWNER_OF} WHERE wallets.id = entries.wallet_id OFFSET 0) AS owners ON true
  LEFT JOIN LATERAL ({_OWNER_OF} WHERE wallets.id = transactions.wallet_id OFFSET 0) AS anchors ON true
""")  # noqa: S608 - constants
