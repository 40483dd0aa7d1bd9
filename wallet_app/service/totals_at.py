"""What all that was posted makes together up to an instant; in one snapshot, and exact.

Whole days come from totals that the worker keeps, what is not in these yet from the newest transactions, and the part
of a day before an instant from that day's transactions: along ids, whose time is their entries' `created_at`. Of a day
it is the shorter side that is looked at, since both together are the day's total.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, TextClause, text

from wallet_app.errors import ReportBehindError, ReportTooFineError
from wallet_app.service import daily_totals, settled
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.references import first_id

PART_MAX = 50_000
"""How many transactions are looked at for the part of a day, and for what is not in the daily totals yet."""

_DAY = dt.timedelta(days=1)


class Sums(NamedTuple):
    """How many entries there are, and what they brought to users (`credits`) and took (`debits`, without its sign)."""

    entries: int = 0
    credits: int = 0
    debits: int = 0

    @property
    def net(self) -> int:
        """By how much the users' wallets have more."""
        return self.credits - self.debits

    def plus(self, other: Sums) -> Sums:
        """Return both together."""
        return Sums(self.entries + other.entries, self.credits + other.credits, self.debits + other.debits)

    def minus(self, other: Sums) -> Sums:
        """Return what is left of these without the others."""
        return Sums(self.entries - other.entries, self.credits - other.credits, self.debits - other.debits)


Key = tuple[Any, ...]
"""What totals are kept by: of the daily totals, an entry type and the SYSTEM wallet on the other side."""

Totals = dict[Key, Sums]


@dataclass(frozen=True, slots=True)
class Kept:
    """Totals that a consumer of settled transactions keeps by day, and how the same is made of transactions.

    Each statement returns `period`, what the totals are kept by, and entries, credits and debits. `days` is asked for
    the number of `days` (in order) that its days have reached; `tail` for transactions above `position` and `instants`
    that they have reached; `part` for transactions up to `position` from `first` on, below `last`, created from `since`
    on, before `until`. What they are narrowed to is told by values of their own.
    """

    consumer: str
    days: TextClause
    tail: TextClause
    part: TextClause


class Standing(NamedTuple):
    """How far totals have come. Unless `is_whole`, more came after it than is looked at.

    At the beginning and not whole, they are being made anew.
    """

    position: uuid.UUID
    is_whole: bool

    @property
    def reaches_to(self) -> dt.datetime:
        """The instant up to which everything is in the totals."""
        return settled.time_of(self.position)

    def covers(self, instant: dt.datetime) -> bool:
        """Tell whether all that was created before the instant is in the totals, and nothing can be added to it."""
        return _id_at(instant, rounds_up=True) <= self.position


def standing(connection: Connection, kept: Kept) -> Standing:
    """Return how far the totals have come in this snapshot."""
    row = connection.execute(
        _STANDING, {"consumer": kept.consumer, "beginning": settled.BEGINNING, "rows_max": PART_MAX}
    ).one()
    if row.is_restarting:
        return Standing(settled.BEGINNING, is_whole=False)
    return Standing(row.position, is_whole=not row.is_long)


def totals_at(
    connection: Connection, kept: Kept, of: Mapping[str, Any], instants: Sequence[dt.datetime], *, stands: Standing
) -> list[Totals]:
    """Return what all before each of the instants makes, which are in order; and then what everything makes.

    Of what `of` names, in the connection's snapshot, in which the totals stand there. Raises ReportTooFineError, and
    ReportBehindError for an instant that the totals do not reach while they are not whole; what everything makes is
    then what they have.
    """
    if not stands.is_whole and not all(stands.covers(instant) for instant in instants):
        raise ReportBehindError(stands.reaches_to)
    values = {**of, "position": stands.position}
    parts = [_part_of_day(connection, kept, instant, values) for instant in instants]
    days = sorted({part.day for part in parts})
    of_days = connection.execute(kept.days, values | {"days": days}).all()
    of_tail = connection.execute(kept.tail, values | {"instants": list(instants)}).all() if stands.is_whole else []
    found = []
    for index, part in enumerate(parts):
        totals = _add({}, [row for row in of_days if row.period <= days.index(part.day)])
        _add(totals, [row for row in of_tail if row.period <= index])
        found.append(_add(totals, part.rows, sign=part.sign))
    return [*found, _add(_add({}, of_days), of_tail)]


class _Part(NamedTuple):
    """What to add to, or to take from, the totals of all days before `day`, so that they end at an instant."""

    day: dt.date
    rows: Sequence[Row[Any]]
    sign: int


def _part_of_day(connection: Connection, kept: Kept, instant: dt.datetime, values: Mapping[str, Any]) -> _Part:
    begin = instant.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if instant == begin:
        return _Part(begin.date(), (), 1)
    end = begin + _DAY
    before = {"first": _id_at(begin), "last": _id_at(instant, rounds_up=True), "since": begin, "until": instant}
    after = {"first": _id_at(instant), "last": _id_at(end, rounds_up=True), "since": instant, "until": end}
    lengths = [
        connection.execute(_LENGTH, {**values, **side, "rows": PART_MAX + 1}).scalar_one() for side in (before, after)
    ]
    if min(lengths) > PART_MAX:
        raise ReportTooFineError(instant, transactions_max=PART_MAX)
    if lengths[0] <= lengths[1]:
        return _Part(begin.date(), connection.execute(kept.part, {**values, **before}).all(), 1)
    return _Part(end.date(), connection.execute(kept.part, {**values, **after}).all(), -1)


def _add(totals: Totals, rows: Iterable[Row[Any]], *, sign: int = 1) -> Totals:
    for row in rows:
        key: Key = tuple(row[1:-3])
        sums = Sums(row.entries, int(row.credits), int(row.debits))
        known = totals.get(key, Sums())
        totals[key] = known.plus(sums) if sign > 0 else known.minus(sums)
    return totals


def _id_at(instant: dt.datetime, *, rounds_up: bool = False) -> uuid.UUID:
    found = first_id(instant, rounds_up=rounds_up)
    assert found is not None  # noqa: S101 - for the type alone: only no instant has no id
    return found


_STANDING = text("""
SELECT coalesce(cursor.position, CAST(:beginning AS uuid)) AS position, further.is_long IS NOT NULL AS is_long,
       -- Of what is said to come, some may be there already, below the position.
       coalesce(cursor.position > CAST(:beginning AS uuid)
                AND (SELECT max(id) FROM settled_restarts) > cursor.restarts_seen, false) AS is_restarting
  FROM (SELECT) AS one
  LEFT JOIN settled_cursors AS cursor ON cursor.consumer = :consumer
  LEFT JOIN LATERAL (
       SELECT true AS is_long FROM transactions
        WHERE transaction_id > coalesce(cursor.position, CAST(:beginning AS uuid))
        ORDER BY transaction_id OFFSET :rows_max LIMIT 1
       ) AS further ON true
""")

SETTLED_PART = "transaction_id >= :first AND transaction_id < :last AND transaction_id <= :position"
"""Which transactions `Kept.part` is asked about."""

_LENGTH = text(f"""
SELECT count(*) FROM (SELECT FROM transactions WHERE {SETTLED_PART} ORDER BY transaction_id LIMIT :rows) AS part
""")  # noqa: S608 - constants

_ENTRIES = f"""
SELECT {{period}} AS period, entries.entry_type, entries.contra_wallet_id, count(*) AS entries,
       coalesce(sum(entries.amount) FILTER (WHERE entries.amount > 0), 0) AS credits,
       coalesce(-sum(entries.amount) FILTER (WHERE entries.amount < 0), 0) AS debits
  FROM (SELECT * FROM transactions WHERE {{range}} ORDER BY transaction_id OFFSET 0) AS transactions
  {ENTRIES_OF_TRANSACTION}
 WHERE entries.contra_wallet_id = ANY (CAST(:wallet_ids AS bigint[])) AND {{conditions}}
 GROUP BY period, entries.entry_type, entries.contra_wallet_id
"""  # noqa: S608 - constants

REACHED = "width_bucket(entries.created_at, CAST(:instants AS timestamptz[]))"
WITHIN = "entries.created_at >= :since AND entries.created_at < :until"

ENTRIES = Kept(
    consumer=daily_totals.NAME,
    # By the index of SYSTEM wallets and days, so that another asset's days cost nothing.
    days=text("""
SELECT width_bucket(totals.day, CAST(:days AS date[])) AS period, totals.entry_type, totals.contra_wallet_id,
       CAST(sum(totals.entries) AS bigint) AS entries, sum(totals.credits) AS credits, sum(totals.debits) AS debits
  FROM unnest(CAST(:wallet_ids AS bigint[])) AS asked (wallet_id)
  JOIN daily_totals AS totals ON totals.contra_wallet_id = asked.wallet_id
 GROUP BY period, totals.entry_type, totals.contra_wallet_id
"""),
    tail=text(_ENTRIES.format(period=REACHED, range="transaction_id > :position", conditions="true")),
    part=text(_ENTRIES.format(period="0", range=SETTLED_PART, conditions=WITHIN)),
)
"""The entries against the SYSTEM wallets `wallet_ids`, by type and wallet."""
