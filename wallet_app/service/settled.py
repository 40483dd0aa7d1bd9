"""The walk that hands out each settled transaction once, in order of ids, to whoever keeps something beside the ledger.

Settled is what is committed while nothing can come before it any more. Ids are made from the database's clock, after
the posting has its wallets' locks and with them its xid; so, whoever has a higher xid than this walk had when it looked
at the clock, makes higher ids than that instant's. As soon as all units of work with a lower xid have ended, everything
below the instant is there. It needs no index by xid, and costs a posting nothing.

Whoever posts with a clock of its own, as invented history does, has to say so before (`expect_older`): then everything
is handed out again from the beginning.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from wallet_app.db import reads, take_time, unit_of_work
from wallet_app.service import locks

log = structlog.get_logger("wallet")

ROWS_MAX = 5_000
"""How many transactions are handed out in one unit of work."""

SLACK = dt.timedelta(seconds=1)
"""By so much the database's clock may be set back without anything being missed; by more, all begins again."""

OLDER_WITHIN = dt.timedelta(seconds=30)
"""How long after `expect_older` a posting may begin that has older ids."""

STATEMENT_SECONDS_MAX = 30

BEGINNING = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who is handed transactions; both functions work in the walk's unit of work.

    `take(connection, after, until)` is told that all transactions with ids above `after`, up to `until`, are there and
    always were there for each later statement: ROWS_MAX at most. `begin_again` forgets what was taken so far.
    """

    name: str
    take: Callable[[Connection, uuid.UUID, uuid.UUID], None]
    begin_again: Callable[[Connection], None]


def hand_out(consumer: Consumer, should_stop: Callable[[], bool]) -> int:
    """Hand out what has settled since the last time; return how many transactions.

    Any number of processes may do so at once: one goes on, the others leave it alone. What was handed out and how far
    that was is committed together, so that a kill leaves nothing out and nothing twice.
    """
    handed_out = 0
    while not should_stop() and _has_more(consumer.name):
        with unit_of_work() as connection:
            rows = _step(connection, consumer)
        handed_out += rows
        if rows < ROWS_MAX:
            break
    return handed_out


def expect_older() -> int:
    """Say that transactions with older ids come, which begin within OLDER_WITHIN: all consumers begin again after it.

    In a unit of work of its own, before the posting's. Returns what `older_are_there` is told when they have come.
    """
    with unit_of_work() as connection:
        return int(connection.execute(_EXPECT_OLDER, {"within": OLDER_WITHIN}).scalar_one())


def older_are_there(expected: Sequence[int]) -> None:
    """Say that what was expected has come, so that nobody waits any longer to begin again."""
    with unit_of_work() as connection:
        connection.execute(_ARE_THERE, {"ids": list(expected)})
        connection.execute(_EXPECT_OLDER, {"within": dt.timedelta(0)})


def begin_again() -> None:
    """Have every consumer forget what it took, and begin again at the next opportunity."""
    older_are_there(())


def hand_out_again(name: str) -> None:
    """Have the consumer handed everything from the beginning; it must be one that takes the same twice without harm.

    Waits for who is just handing it something.
    """
    with unit_of_work() as connection:
        connection.execute(_BEGIN_AGAIN, {"consumer": name, "beginning": BEGINNING})


def position_of(connection: Connection, name: str) -> uuid.UUID:
    """Return up to which id the consumer has taken all; BEGINNING for nothing yet.

    In one snapshot, all that is committed with a higher id is what the consumer has not taken.
    """
    found: uuid.UUID | None = connection.scalar(_POSITION, {"consumer": name})
    return found or BEGINNING


def time_of(position: uuid.UUID) -> dt.datetime:
    """Return the instant up to which a position reaches, to the millisecond."""
    return _EPOCH + dt.timedelta(milliseconds=position.int >> 80)


@reads
def _has_more(connection: Connection, name: str) -> bool:
    """Tell whether there is anything to do, without a lock: a service in which nothing happens writes nothing."""
    return bool(connection.scalar(_HAS_MORE, {"consumer": name}))


def _step(connection: Connection, consumer: Consumer) -> int:
    """Hand out one page, and note the next instant to wait for; return how many transactions it had."""
    take_time(connection, STATEMENT_SECONDS_MAX)
    # The clock before the xid, which the lock brings: whoever has a higher xid looks at the clock later.
    now: dt.datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    cursor = locks.lock_cursor(connection, consumer.name)
    if cursor is None:
        connection.execute(_MAKE, {"consumer": consumer.name})
        return 0
    around = connection.execute(_AROUND).one()
    if around.restarts > cursor.restarts_seen and now < around.not_before:
        return 0
    is_set_back = now < cursor.seen_at - SLACK
    if around.restarts > cursor.restarts_seen or is_set_back:
        log.warning("settled_begins_again", consumer=consumer.name, clock_set_back=is_set_back)
        consumer.begin_again(connection)
        _write(connection, consumer, BEGINNING, now, around, candidate_at=now)
        return 0
    bound = _bound(cursor, around)
    if bound is None:
        return 0
    rows, until = _page(connection, cursor.position, bound)
    if rows:
        consumer.take(connection, cursor.position, until)
    is_whole = rows < ROWS_MAX
    _write(connection, consumer, until, now, around, candidate_at=now if is_whole else None)
    return rows


def _bound(cursor: Row[Any], around: Row[Any]) -> uuid.UUID | None:
    """Return up to which id all is settled; None as long as somebody works who might add something below."""
    position: uuid.UUID = cursor.position
    if cursor.candidate_at is None or around.own < cursor.ceiling:
        # In a database that was restored from a dump xids are counted anew: nobody of those is there any more.
        return position
    if around.horizon < cursor.ceiling:
        return None
    milliseconds = (cursor.candidate_at - SLACK - _EPOCH) // dt.timedelta(milliseconds=1)
    # No id of that very millisecond, and, as an id may be rounded down, none of the one before.
    return max(position, uuid.UUID(int=max(milliseconds - 1, 0) << 80))


def _page(connection: Connection, after: uuid.UUID, bound: uuid.UUID) -> tuple[int, uuid.UUID]:
    page = connection.execute(_PAGE, {"after": after, "bound": bound, "rows_max": ROWS_MAX}).one()
    return page.rows, page.last if page.rows == ROWS_MAX else bound


def _write(
    connection: Connection,
    consumer: Consumer,
    position: uuid.UUID,
    now: dt.datetime,
    around: Row[Any],
    *,
    candidate_at: dt.datetime | None,
) -> None:
    """Keep how far it is; without a new candidate the one before stays."""
    values = {"consumer": consumer.name, "position": position, "now": now, "restarts": around.restarts}
    connection.execute(_MOVE if candidate_at is None else _MOVE_AND_LOOK, values | {"own": around.own})


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


_HAS_MORE = text("""
SELECT coalesce((SELECT transaction_id FROM transactions ORDER BY transaction_id DESC LIMIT 1) > cursor.position
                OR coalesce((SELECT max(id) FROM settled_restarts), 0) > cursor.restarts_seen
                OR clock_timestamp() < cursor.seen_at, cursor.consumer IS NULL)
  FROM (SELECT) AS one
  LEFT JOIN settled_cursors AS cursor ON cursor.consumer = :consumer
""")

_MAKE = text("INSERT INTO settled_cursors (consumer) VALUES (:consumer) ON CONFLICT DO NOTHING")

_AROUND = text("""
SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS own,
       CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS horizon,
       coalesce(max(id), 0) AS restarts, max(not_before) AS not_before
  FROM settled_restarts
""")

_PAGE = text("""
SELECT count(*) AS rows, (array_agg(transaction_id))[count(*)] AS last
  FROM (SELECT transaction_id FROM transactions
         WHERE transaction_id > :after AND transaction_id <= :bound
         ORDER BY transaction_id LIMIT :rows_max) AS page
""")

_MOVE = text("""
UPDATE settled_cursors SET position = :position, seen_at = :now WHERE consumer = :consumer
""")

_MOVE_AND_LOOK = text("""
UPDATE settled_cursors
   SET position = :position, seen_at = :now, candidate_at = :now, ceiling = :own, restarts_seen = :restarts
 WHERE consumer = :consumer
""")

_BEGIN_AGAIN = text("""
UPDATE settled_cursors SET position = :beginning, candidate_at = NULL, ceiling = NULL WHERE consumer = :consumer
""")

_POSITION = text("SELECT position FROM settled_cursors WHERE consumer = :consumer")

_EXPECT_OLDER = text("""
INSERT INTO settled_restarts (not_before) VALUES (clock_timestamp() + CAST(:within AS interval)) RETURNING id
""")

_ARE_THERE = text("""
UPDATE settled_restarts SET not_before = clock_timestamp() WHERE id = ANY (CAST(:ids AS bigint[]))
""")
