"""Reads: how a wallet's balance came to be: the sums by type that make it up, its course over time, and statements.

The ledger is append-only and a wallet's seqs have no gap. So what is read of a fixed range of seqs is the same whenever
it is read: a sum over many entries is exact although it goes by many short statements, and holds no snapshot meanwhile.
Of full blocks the worker has made the sums; the entries of the others are looked at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import SystemEntriesError
from wallet_app.service.filters import Filters
from wallet_app.service.history import entries_between
from wallet_app.service.queries import EntryView, WalletView, get_wallet
from wallet_app.service.walks import Reach, entries_in_reach, search
from wallet_app.service.wallet_sums import BLOCK

EXPLAINED_MAX = 1_000_000
"""How many entries one explanation looks at, beside the blocks whose sums are there.

If there are more, only the latest are explained, after the balance that was there before them.
"""

POINTS_MAX = 60

_SUMMED_AT_ONCE = 50_000
_READ_AT_ONCE = 1_000
_SEQ_END = 2**63 - 1


class SumOfType(NamedTuple):
    """What the entries of a type brought (`amount` above 0) or took (below), and how many they are."""

    entry_type: str
    entries: int
    amount: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A range of a wallet's entries, `reach`, with the balance before and after it, and what lies between, by type.

    `opened_at` and `closed_at` are the instants of the first and the last entry; None where there is none. `is_cut` is
    set where earlier entries were left out because there are too many that nobody has summed up yet.
    """

    wallet: WalletView
    reach: Reach
    opening: int
    closing: int
    opened_at: dt.datetime | None
    closed_at: dt.datetime | None
    sums: Sequence[SumOfType]
    is_cut: bool = False

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(one.entries for one in self.sums)

    @property
    def total(self) -> int:
        """What the entries make together."""
        return sum(one.amount for one in self.sums)

    @property
    def is_right(self) -> bool:
        """Whether opening balance and sums make the closing balance, and none of the entries is missing."""
        expected = max(self.reach.high - self.reach.low + 1, 0)
        return self.opening + self.total == self.closing and self.entries == expected


class Point(NamedTuple):
    """A wallet's balance from an instant on."""

    instant: dt.datetime
    balance: int


def explain_balance(
    wallet_id: int, *, since: dt.datetime | None = None, until: dt.datetime | None = None
) -> Explanation:
    """Return what makes up a user wallet's balance: of the entries from `since` on (included) to `until` (not).

    Without them, of all: then `closing` is the wallet's balance. Raises WalletNotFoundError and SystemEntriesError.
    """
    wallet = _user_wallet(wallet_id)
    whole = reach_of(wallet, since=since, until=until)
    blocks = _blocks(wallet_id, whole)
    reach = _affordable(whole, blocks)
    opening, opened_at, closing, closed_at = _edges(wallet_id, reach)
    parts = [part for block in _within(reach, blocks) for part in blocks[block]]
    for left in _between(reach, blocks):
        for low in range(left.low, left.high + 1, _SUMMED_AT_ONCE):
            parts += _sums(wallet_id, low, min(low + _SUMMED_AT_ONCE - 1, left.high))
    sums: dict[tuple[str, bool], SumOfType] = {}
    for part in parts:
        key = part.entry_type, part.amount > 0
        known = sums.get(key, SumOfType(part.entry_type, 0, 0))
        sums[key] = SumOfType(part.entry_type, known.entries + part.entries, known.amount + part.amount)
    in_order = sorted(sums.values(), key=lambda one: (one.amount < 0, -abs(one.amount)))
    # To now it is the balance row that the sums must make: it is what is to be explained.
    end = wallet.balance if until is None else closing
    return Explanation(wallet, reach, opening, end, opened_at, closed_at, in_order, reach.low > whole.low)


def walk_statement(wallet_id: int, reach: Reach) -> Iterator[EntryView]:
    """Yield the wallet's entries in the range, oldest first, as they are asked for."""
    for low in range(reach.low, reach.high + 1, _READ_AT_ONCE):
        yield from reversed(entries_between(wallet_id, low, min(low + _READ_AT_ONCE - 1, reach.high)))


@reads
def list_points(connection: Connection, wallet: WalletView) -> Sequence[Point]:
    """Return a user wallet's balance over time, up to this view of it.

    POINTS_MAX + 1 points at most: each entry, or the last of each span of time.
    """
    values = {"wallet_id": wallet.wallet_id}
    if wallet.version <= POINTS_MAX + 1:
        found = connection.execute(_ENTRIES_AT, {**values, "seqs": list(range(1, wallet.version + 1))}).all()
    else:
        first, last = connection.execute(_ENTRIES_AT, {**values, "seqs": [1, wallet.version]}).all()
        step = (last.created_at - first.created_at) / POINTS_MAX
        ends = [first.created_at + step * count + _MICROSECOND for count in range(1, POINTS_MAX)]
        found = [first, *connection.execute(_AT_INSTANTS, {**values, "instants": ends, "high": wallet.version}), last]
    return [Point(row.created_at, row.balance_after) for row in found]


def reach_of(wallet: WalletView, *, since: dt.datetime | None, until: dt.datetime | None) -> Reach:
    """Return the seqs of the wallet's entries from `since` on to `until`, none of them after this view of it."""
    if since is None and until is None:
        return Reach(1, wallet.version)
    return _reach(wallet.wallet_id, Filters(created_from=since, created_to=until), wallet.version + 1)


def _user_wallet(wallet_id: int) -> WalletView:
    wallet = get_wallet(wallet_id)
    if wallet.user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return wallet


def _within(reach: Reach, blocks: Iterable[int]) -> list[int]:
    """Return those of the blocks that lie in the range as a whole, in order."""
    return [
        block for block in sorted(blocks) if _of_block(block).low >= reach.low and _of_block(block).high <= reach.high
    ]


def _between(reach: Reach, blocks: Iterable[int]) -> list[Reach]:
    """Return the parts of the range that are in none of the blocks, in order."""
    edges = [Reach(0, reach.low - 1), *map(_of_block, _within(reach, blocks)), Reach(reach.high + 1, _SEQ_END)]
    gaps = [Reach(before.high + 1, after.low - 1) for before, after in pairwise(edges)]
    return [gap for gap in gaps if gap.low <= gap.high]


def _affordable(whole: Reach, blocks: Iterable[int]) -> Reach:
    """Return the range, or as much of its end as has no more than EXPLAINED_MAX entries that are in no block."""
    left = EXPLAINED_MAX
    for gap in reversed(_between(whole, blocks)):
        if gap.high - gap.low >= left:
            return Reach(gap.high - left + 1, whole.high)
        left -= gap.high - gap.low + 1
    return whole


def _of_block(block: int) -> Reach:
    return Reach(block * BLOCK + 1, (block + 1) * BLOCK)


@reads
def _blocks(connection: Connection, wallet_id: int, reach: Reach) -> dict[int, list[SumOfType]]:
    """Return what is summed up of the range's blocks, by block."""
    found: dict[int, list[SumOfType]] = {}
    values = {"wallet_id": wallet_id, "low": reach.low, "high": reach.high, "size": BLOCK}
    for row in connection.execute(_BLOCKS, values):
        found.setdefault(row.block, []).append(SumOfType(row.entry_type, row.entries, int(row.amount)))
    return found


@reads
def _reach(connection: Connection, wallet_id: int, filters: Filters, before: int) -> Reach:
    return entries_in_reach(connection, wallet_id, filters, before=before)


@reads
def _edges(
    connection: Connection, wallet_id: int, reach: Reach
) -> tuple[int, dt.datetime | None, int, dt.datetime | None]:
    """Return the balance before the range, when its first entry was, the balance after it, and when its last was."""
    seqs = [reach.low - 1, reach.low, reach.high]
    rows = connection.execute(_ENTRIES_AT, {"wallet_id": wallet_id, "seqs": seqs})
    found = {row.seq: (row.balance_after, row.created_at) for row in rows}
    nothing = (0, None)
    opening = found.get(reach.low - 1, nothing)[0]
    if reach.low > reach.high:
        return opening, None, opening, None
    closing, closed_at = found.get(reach.high, nothing)
    return opening, found.get(reach.low, nothing)[1], closing, closed_at


@reads
def _sums(connection: Connection, wallet_id: int, low: int, high: int) -> list[SumOfType]:
    rows = connection.execute(_SUMS, {"wallet_id": wallet_id, "low": low, "high": high})
    return [SumOfType(row.entry_type, row.entries, int(row.amount)) for row in rows]


_MICROSECOND = dt.timedelta(microseconds=1)

# Look-ups by the primary key, whatever the statistics say.
_ENTRIES_AT = text("""
SELECT entry.seq, entry.balance_after, entry.created_at
  FROM unnest(CAST(:seqs AS bigint[])) AS asked (seq)
 CROSS JOIN LATERAL (
       SELECT seq, balance_after, created_at FROM ledger_entries
        WHERE wallet_id = :wallet_id AND seq = asked.seq OFFSET 0
       ) AS entry
 ORDER BY entry.seq
""")

_BLOCKS = text("""
SELECT block, entry_type, entries, amount FROM wallet_sums
 WHERE wallet_id = :wallet_id AND block BETWEEN (:low - 1) / :size AND :high / :size
""")

_SUMS = text("""
SELECT entry_type, count(*) AS entries, sum(amount) AS amount
  FROM ledger_entries
 WHERE wallet_id = :wallet_id AND seq BETWEEN :low AND :high
 GROUP BY entry_type, amount > 0
""")

_AT_INSTANTS = text(f"""
WITH RECURSIVE search (instant, low, high) AS ({search("unnest(CAST(:instants AS timestamptz[]))")})
SELECT entry.seq, entry.balance_after, entry.created_at
  FROM (SELECT DISTINCT low AS seq FROM search WHERE low = high AND low BETWEEN 1 AND :high) AS ends
 CROSS JOIN LATERAL (
       SELECT seq, balance_after, created_at FROM ledger_entries
        WHERE wallet_id = :wallet_id AND seq = ends.seq OFFSET 0
       ) AS entry
 ORDER BY entry.seq
""")  # noqa: S608 - constants
