"""Walks through the ledger, newest first, that look at no more than so many rows at once; nothing here decides who may.

A filter may be rare, and then a walk ends before its page is full: it tells how far it has come, and the next one goes
on from there. So each page costs about the same, however deep the wallet and however large the ledger is.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.service import references, settled
from wallet_app.service.filters import Filters, all_of, is_limited, permit_values, reached, told
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.permits import Permit
from wallet_app.service.references import TAIL_MAX, TAIL_PAGE, digest_of, first_id

ROWS_MAX = 2_000
"""How many rows a walk looks at."""

BEGINNING = 2**128 - 1
"""The position in front of the newest; a walk goes on below a position, and at 0 there is nothing more."""

_SEQ_MAX = 2**63 - 1
_ID_MAX = uuid.UUID(int=2**128 - 1)


class Found(NamedTuple):
    """A transaction, and the position that its walk goes on below: a seq, or the transaction's id as a number."""

    position: int
    transaction_id: uuid.UUID

    @property
    def at(self) -> int:
        """The millisecond of the id: along ids, and along a wallet's seqs, it never falls."""
        return self.transaction_id.int >> 80


@dataclass(frozen=True, slots=True)
class Walk:
    """What was found, newest first; and the last that was looked at, if the walk ended before its end."""

    found: Sequence[Found]
    floor: Found | None = None


class Reach(NamedTuple):
    """The seqs of a wallet's entries that are to be looked at, both included; none if `low` is above `high`."""

    low: int
    high: int


def entries_in_reach(connection: Connection, wallet_id: int, filters: Filters, *, before: int) -> Reach:
    """Return the seqs of the wallet's entries below `before` that lie in the filters' range of time.

    A binary search: along seq the time never falls.
    """
    instants = [instant for instant in (filters.created_from, filters.created_to) if instant is not None]
    rows = connection.execute(_SEQS, {"wallet_id": wallet_id, "instants": instants})
    counts = {row.instant: row.entries for row in rows}
    low = 1 if filters.created_from is None else counts[filters.created_from] + 1
    high = counts[None] if filters.created_to is None else counts[filters.created_to]
    return Reach(low, min(high, before - 1))


def page_in_reach(reach: Reach, *, is_rare: bool, limit: int) -> Reach:
    """Return the part of it that one walk looks at: a page where everything is asked for, ROWS_MAX otherwise."""
    return Reach(max(reach.low, reach.high - (ROWS_MAX if is_rare else limit + 1) + 1), reach.high)


def find_own(connection: Connection, wallet_id: int, filters: Filters, *, permit: Permit | None) -> list[uuid.UUID]:
    """Return the wallet's own transaction under the filters' reference, if it passes them: by the primary key."""
    conditions = [*_of_transaction(filters, permit), *filters.of_time("transactions.created_at")]
    statement = _OWN.format(conditions=all_of(conditions))
    values = {"wallet_id": wallet_id} | filters.values() | permit_values(permit)
    return list(connection.scalars(text(statement), values))


def walk_entries(
    connection: Connection,
    wallet_id: int,
    filters: Filters,
    *,
    before: int,
    limit: int,
    permit: Permit | None,
) -> Walk:
    """Find up to `limit` + 1 transactions that wrote entries of this wallet, by the last that each wrote.

    Under a reference, those of other wallets alone: its own is for `find_own`.
    """
    reach = entries_in_reach(connection, wallet_id, filters, before=min(before, _SEQ_MAX))
    # Twice a page, so that it is full also where each transaction wrote two entries.
    low, high = page_in_reach(reach, is_rare=not filters.is_of_time_alone, limit=2 * limit)
    values = {"wallet_id": wallet_id, "low": low, "high": high, "rows": limit + 1}
    conditions = [*_of_transaction(filters, permit, amount="page.amount"), "page.is_last"]
    conditions += [ANOTHERS] if filters.reference is not None else []
    rows = connection.execute(
        text(_BY_ENTRIES.format(conditions=all_of(conditions))), values | filters.values() | permit_values(permit)
    ).all()
    found = [Found(row.seq, row.transaction_id) for row in rows if row.is_found]
    floor = [Found(row.seq, row.transaction_id) for row in rows if not row.is_found]
    return Walk(found, floor[0] if low > reach.low else None)


def walk_transactions(
    connection: Connection,
    filters: Filters,
    *,
    wallet_id: int | None,
    before: int,
    limit: int,
    permit: Permit | None,
) -> Walk:
    """Find up to `limit` + 1 transactions in the order of their ids.

    Of all wallets; or of one, those that wrote it no entry: the others are for `walk_entries`.
    """
    conditions = [*_of_transaction(filters, permit), *filters.of_time("transactions.created_at")]
    if wallet_id is not None:
        source, order = _WITHOUT_ENTRY, "wallet_id DESC, transaction_id DESC"
        conditions += ["transactions.wallet_id = :wallet_id", f"NOT {_HAS_ENTRY_OF_WALLET}"]
    else:
        source, order = "transaction_id < :below", "transaction_id DESC"
        conditions += [_reached_somewhere(permit)] if is_limited(permit) else []
    until = first_id(filters.created_to, rounds_up=True) or _ID_MAX
    values = {
        "wallet_id": wallet_id,
        "below": min(uuid.UUID(int=before), until),
        "rows": limit + 1,
        "rows_max": ROWS_MAX,
    }
    statement = _BY_IDS.format(source=source, order=order, conditions=all_of(conditions))
    rows = connection.execute(text(statement), values | filters.values() | permit_values(permit)).all()
    found = [Found(row.transaction_id.int, row.transaction_id) for row in rows if row.is_found]
    since = first_id(filters.created_from)
    floor = [
        Found(row.transaction_id.int, row.transaction_id)
        for row in rows
        if not row.is_found and (since is None or row.transaction_id >= since) and wallet_id in {None, row.wallet_id}
    ]
    return Walk(found, floor[0] if floor else None)


def walk_reference(
    connection: Connection, filters: Filters, *, before: int, limit: int, permit: Permit | None
) -> Walk | None:
    """Find up to `limit` + 1 transactions under the filters' reference, of all wallets, in the order of their ids.

    By the index of references, and what came after it; None if that is more than TAIL_MAX transactions.
    """
    conditions = [*_of_transaction(filters, permit), *filters.of_time("transactions.created_at")]
    conditions += [_reached_somewhere(permit)] if is_limited(permit) else []
    until = first_id(filters.created_to, rounds_up=True) or _ID_MAX
    # The position first: what is not above it is in the index at any later time, and so in the one that is read then.
    below, position = min(uuid.UUID(int=before), until), settled.position_of(connection, references.NAME)
    values = {
        "below": below,
        "position": position,
        "rows": limit + 1,
        "rows_max": ROWS_MAX,
        "page_rows": TAIL_PAGE,
        "pages": TAIL_MAX // TAIL_PAGE,
    }
    statement = _BY_REFERENCE.format(conditions=all_of(conditions))
    rows = connection.execute(text(statement), values | filters.values() | permit_values(permit)).all()
    if any(row.transaction_id is None for row in rows):
        return None
    found = [Found(row.transaction_id.int, row.transaction_id) for row in rows if row.is_found]
    since = first_id(filters.created_from) or uuid.UUID(int=0)
    floor = [
        Found(row.transaction_id.int, row.transaction_id)
        for row in rows
        if not row.is_found and row.transaction_id >= since
    ]
    return Walk(found, floor[0] if floor else None)


def together(walks: Sequence[Walk], *, before: Sequence[int], limit: int) -> tuple[list[Found], tuple[int, ...] | None]:
    """Return a page of what the walks found, newest first, and where each goes on; None if there is nothing more.

    What is older than where a walk has come to waits for the next page: that walk may yet find what comes before it.
    """
    horizon = max([walk.floor.at for walk in walks if walk.floor is not None], default=0)
    merged = heapq.merge(
        *[[(one, index) for one in walk.found] for index, walk in enumerate(walks)],
        key=lambda pair: pair[0].at,
        reverse=True,
    )
    page = [(one, index) for one, index in merged if one.at >= horizon][:limit]
    following = tuple(
        _goes_on(walk, [one for one, of in page if of == index], before[index]) for index, walk in enumerate(walks)
    )
    return [one for one, _ in page], following if any(following) else None


def _goes_on(walk: Walk, shown: Sequence[Found], before: int) -> int:
    if len(shown) < len(walk.found):
        return shown[-1].position if shown else before
    return walk.floor.position if walk.floor is not None else 0


def _of_transaction(filters: Filters, permit: Permit | None, *, amount: str | None = None) -> list[str]:
    """Return the conditions on what was joined to `transactions`, as the permit may ask for them.

    `amount` is that of an entry of the transaction that was read already, and that the permit reaches.
    """
    conditions = list(filters.of_transaction())
    if filters.kind is not None:
        conditions.append("transactions.kind = :kind")
    if filters.has_amounts:
        amounts = all_of([*filters.of_amount("entries.amount"), *reached("entries.wallet_id", permit)])
        found = f"(SELECT true FROM (SELECT) AS one {ENTRIES_OF_TRANSACTION} WHERE {amounts} LIMIT 1)"  # noqa: S608
        # Most have one entry: what was read tells it all, and is not looked up once more.
        known = None if amount is None else all_of(list(filters.of_amount(amount)))
        conditions.append(found if known is None else f"({known} OR transactions.entry_keys IS NOT NULL AND {found})")
    # Who sees only their own side of a transfer is not told these, and so cannot look for them either.
    return [*conditions, *told(filters, permit)]


def _reached_somewhere(permit: Permit | None) -> str:
    """Return the condition that the permit reaches an entry of the transaction, or its anchor if it has none."""
    entry, anchor = all_of(reached("entries.wallet_id", permit)), all_of(reached("transactions.wallet_id", permit))
    is_there = f"(SELECT true FROM (SELECT) AS one {ENTRIES_OF_TRANSACTION} WHERE {entry} LIMIT 1)"  # noqa: S608
    return f"CASE WHEN transactions.seq IS NULL AND transactions.entry_keys = '{{}}' THEN {anchor} ELSE {is_there} END"


LAST_SEQ = """(
       SELECT seq FROM (
              SELECT wallet_id, seq FROM ledger_entries
               WHERE (wallet_id, seq) <= (:wallet_id, 9223372036854775807)
               ORDER BY wallet_id DESC, seq DESC LIMIT 1
              ) AS newest
        WHERE newest.wallet_id = :wallet_id
       )"""
"""The number of the wallet's last entry; backwards along the primary key, whatever the statistics say."""


def search(instants: str, *, name: str = "search") -> str:
    """Return a recursive query's two halves that find how many of the wallet's entries came before each instant.

    It is to be named `<name> (instant, low, high)`; each instant's answer is the row whose low is its high. Each step
    looks at one entry by the primary key, 20 for a million entries.
    """
    return f"""
    SELECT instant, CAST(0 AS bigint), coalesce({LAST_SEQ}, 0) FROM {instants} AS asked (instant)
     UNION ALL
    SELECT instant, CASE WHEN middle.is_before THEN middle.seq ELSE low END,
           CASE WHEN middle.is_before THEN high ELSE (low + high - 1) / 2 END
      FROM {name}
      LEFT JOIN LATERAL (
           SELECT seq, created_at < {name}.instant AS is_before FROM ledger_entries
            WHERE wallet_id = :wallet_id AND seq = ({name}.low + {name}.high + 1) / 2 OFFSET 0
           ) AS middle ON true
     WHERE low < high
    """  # noqa: S608 - constants


_SEQS = text(f"""
WITH RECURSIVE search (instant, low, high) AS ({search("unnest(CAST(:instants AS timestamptz[]))")})
SELECT instant, low AS entries FROM search WHERE low = high
 UNION ALL
SELECT NULL, coalesce({LAST_SEQ}, 0)
""")  # noqa: S608 - constants

# One entry more than is asked for, which tells whether the one before it is its transaction's last. To look up the next
# one of each would be a third of the walk.
_ENTRY_PAGE = """(
       SELECT * FROM (
              SELECT seq, transaction_id, amount,
                     lag(transaction_id) OVER (ORDER BY seq DESC) IS DISTINCT FROM transaction_id AS is_last
                FROM (SELECT * FROM ledger_entries
                       WHERE wallet_id = :wallet_id AND seq BETWEEN :low AND :high + 1
                       ORDER BY wallet_id DESC, seq DESC OFFSET 0) AS newest
              ) AS told
        WHERE seq <= :high ORDER BY seq DESC OFFSET 0
       )"""

_WITH_TRANSACTION = """
 CROSS JOIN LATERAL (SELECT * FROM transactions WHERE transaction_id = page.transaction_id OFFSET 0) AS transactions
"""
WITH_DETAILS = """
  LEFT JOIN LATERAL (
       SELECT note, metadata FROM transaction_details
        WHERE wallet_id = transactions.wallet_id AND transaction_id = transactions.transaction_id OFFSET 0
       ) AS details ON true
"""

# Look-ups one after the other, in the order of the walk, until the page is full. The last row tells where it ended.
_BY_ENTRIES = f"""
(SELECT page.seq, page.transaction_id, true AS is_found
  FROM {_ENTRY_PAGE} AS page
  {_WITH_TRANSACTION}
  {WITH_DETAILS}
 WHERE {{conditions}}
 ORDER BY page.seq DESC LIMIT :rows)
 UNION ALL
SELECT seq, transaction_id, false FROM ledger_entries WHERE wallet_id = :wallet_id AND seq = :low
"""  # noqa: S608 - constants

_WITHOUT_ENTRY = """seq IS NULL AND entry_keys[1] IS DISTINCT FROM wallet_id
           AND (wallet_id, transaction_id) < (:wallet_id, CAST(:below AS uuid))"""
"""As the partial index has it; what comes behind the wallet's is another's, and left out afterwards."""

_HAS_ENTRY_OF_WALLET = """EXISTS (
       SELECT FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
        WHERE transactions.entry_keys[place] = :wallet_id)"""

ANOTHERS = "transactions.wallet_id <> :wallet_id"

_OWN = f"""
SELECT transactions.transaction_id
  FROM (SELECT * FROM transactions WHERE wallet_id = :wallet_id AND reference_id = :reference OFFSET 0) AS transactions
  {WITH_DETAILS}
 WHERE {{conditions}}
"""  # noqa: S608 - constants

# So here; where it ended is asked for only if the page is not full.
# One bound alone: between two, the planner that expects few rows reads and sorts them all.
_BY_IDS = f"""
WITH found AS MATERIALIZED (
    SELECT transactions.transaction_id
      FROM (SELECT * FROM transactions WHERE {{source}} ORDER BY {{order}} LIMIT :rows_max) AS transactions
      {WITH_DETAILS}
     WHERE {{conditions}}
     ORDER BY transactions.transaction_id DESC LIMIT :rows
)
SELECT transaction_id, CAST(NULL AS bigint) AS wallet_id, true AS is_found FROM found
 UNION ALL
(SELECT transaction_id, wallet_id, false FROM transactions
  WHERE (SELECT count(*) FROM found) < :rows AND {{source}}
  ORDER BY {{order}} OFFSET :rows_max - 1 LIMIT 1)
"""  # noqa: S608 - constants

# What was found twice is one. An empty row tells that the tail is longer than may be looked at.
_BY_REFERENCE = f"""
WITH RECURSIVE tail (number, last, found) AS (
    SELECT 0, CAST(:position AS uuid), CAST(NULL AS uuid[]) WHERE CAST(:below AS uuid) > CAST(:position AS uuid)
     UNION ALL
    SELECT tail.number + 1, page.last, page.found
      FROM tail
     CROSS JOIN LATERAL (
           SELECT (array_agg(transaction_id ORDER BY transaction_id DESC))[1] AS last,
                  array_agg(transaction_id) FILTER (WHERE reference_id = :reference) AS found
             FROM (SELECT transaction_id, reference_id FROM transactions
                    WHERE transaction_id > tail.last ORDER BY transaction_id LIMIT :page_rows) AS one_page
           ) AS page
     WHERE tail.number <= :pages AND page.last IS NOT NULL
), candidates AS MATERIALIZED (
    SELECT transaction_id FROM (
        (SELECT transaction_id FROM (
                SELECT * FROM transaction_references
                 WHERE (digest, transaction_id) < ({digest_of("CAST(:reference AS text)")}, CAST(:below AS uuid))
                 ORDER BY digest DESC, transaction_id DESC LIMIT :rows_max
                ) AS indexed
          WHERE digest = {digest_of("CAST(:reference AS text)")})
         UNION
        (SELECT unnest(found) FROM tail)
        ) AS either (transaction_id)
     WHERE transaction_id < :below
     ORDER BY transaction_id DESC LIMIT :rows_max
), found AS MATERIALIZED (
    SELECT transactions.transaction_id
      FROM candidates
     CROSS JOIN LATERAL (
           SELECT * FROM transactions WHERE transaction_id = candidates.transaction_id OFFSET 0
           ) AS transactions
      {WITH_DETAILS}
     WHERE {{conditions}}
     ORDER BY candidates.transaction_id DESC LIMIT :rows
)
SELECT transaction_id, true AS is_found FROM found
 UNION ALL
(SELECT transaction_id, false FROM candidates
  WHERE (SELECT count(*) FROM found) < :rows
  ORDER BY transaction_id DESC OFFSET :rows_max - 1 LIMIT 1)
 UNION ALL
SELECT NULL, false FROM tail WHERE number > :pages
"""  # noqa: S608 - constants
