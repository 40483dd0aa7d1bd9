"""The index of transactions by reference, over all wallets: made by the worker afterwards, so that no posting pays.

Every transaction with an id below a mark is in the index; a read looks there, and at all from the mark on. An id tells
the clock's time, but a lower id may be committed later than a higher one. So the worker notes the time, and after it
the number of a database transaction: whatever began later has later ids. Once all that began before have ended, what is
there below that time is all that ever will be, and the mark may move up to it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, text

from wallet_app.db import unit_of_work
from wallet_app.parameters import TEXTS, UUIDS
from wallet_app.round_trip import Statement
from wallet_app.service import locks

log = structlog.get_logger("wallet")

ROWS_MAX = 5_000
"""How many transactions one unit of work puts into the index."""

TAIL_MAX = 20_000
"""How many transactions from the mark on a read looks at; if there are more, the index is of no use yet."""

TAIL_PAGE = 1_000
"""So many at a time: for many at once the planner might rather read the whole table."""

CLOCK_SLACK = dt.timedelta(seconds=3)
"""How far the database's clock may go back unseen, from one run to the next. A larger step is noticed."""

_CLOCK_WENT_BACK = dt.timedelta(hours=1)
"""How far back the index is checked anew, when it was."""

_NIL = uuid.UUID(int=0)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def digest_of(reference: str) -> str:
    """Return the SQL of the digest that a reference, given as SQL, has in the index."""
    return (
        f"CAST(CAST('x' || encode(substr(sha256(convert_to({reference}, 'UTF8')), 1, 8), 'hex') AS bit(64)) AS bigint)"
    )


def first_id(instant: dt.datetime | None, *, rounds_up: bool = False) -> uuid.UUID | None:
    """Return an id below all of this instant, or, rounded up, above all.

    An id's time is its transaction's `created_at`, to the millisecond; at its edge it may be the one before.
    """
    if instant is None:
        return None
    milliseconds = (instant - _EPOCH) // dt.timedelta(milliseconds=1) + (1 if rounds_up else -1)
    return uuid.UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the index is. No transaction that began after `noted_xid` has an id from before `noted_at`."""

    indexed_below: uuid.UUID
    noted_at: dt.datetime | None
    noted_xid: int | None


@dataclass(frozen=True, slots=True)
class _Step:
    """What one unit of work did: how many it added, and the id it came to, None at the end."""

    added: int
    last: uuid.UUID | None


def extend_index(should_stop: Callable[[], bool]) -> int:
    """Put into the index what is not there yet, and move its mark; return how many transactions were added.

    Safe at any number of workers: one extends it, the others find that and leave. Whoever is killed leaves what was
    committed, and the next one goes on from there.
    """
    added, after = 0, None
    while not should_stop():
        step = _extend(after)
        if step is None:
            break
        added, after = added + step.added, step.last
        if after is None:
            break
    return added


def _extend(after: uuid.UUID | None) -> _Step | None:
    """Put a page of transactions, behind the id or from the mark on, into the index; None if there is nothing to do."""
    with unit_of_work() as connection:
        if not locks.try_lock_references(connection):
            return None
        # In this order: the time, then the number of this transaction, and only then a look at what is there.
        row = connection.execute(_BEGIN).one()
        mark = _Mark(row.indexed_below, row.noted_at, row.noted_xid)
        went_back = mark.noted_at is not None and row.now < mark.noted_at
        if not row.has_more and not went_back:
            return None
        connection.execute(_SETTINGS)
        own_xid: int = connection.execute(_OWN_XID).scalar_one()
        now = _Mark(mark.indexed_below, row.now, own_xid)
        if went_back:
            return _begin_anew(connection, mark, now)
        page = connection.execute(_ADD, {"after": after or mark.indexed_below, "rows_max": ROWS_MAX}).one()
        is_full = page.rows == ROWS_MAX
        _write(connection, _moved(mark, now, page.horizon, page.last if is_full else None))
        return _Step(page.added, page.last if is_full else None)


def _moved(mark: _Mark, now: _Mark, horizon: int, last: uuid.UUID | None) -> _Mark:
    """Return the mark after a page that ended with the id `last`, or, if that is None, at the end of the table."""
    if mark.noted_at is None or mark.noted_xid is None or now.noted_xid is None:
        return now
    # A number from ahead is another server's: it came with a restored database, where nothing of it still runs.
    if mark.noted_xid >= horizon and mark.noted_xid <= now.noted_xid:
        return mark
    upto = first_id(mark.noted_at - CLOCK_SLACK) or _NIL
    if last is not None and last < upto:
        return _Mark(max(mark.indexed_below, last), mark.noted_at, mark.noted_xid)
    return _Mark(max(mark.indexed_below, upto), now.noted_at, now.noted_xid)


def _begin_anew(connection: Connection, mark: _Mark, now: _Mark) -> _Step:
    """Go back to well before the clock, which has gone back: ids below the mark may have come since."""
    log.warning("clock_went_back", noted_at=str(mark.noted_at), now=str(now.noted_at))
    assert now.noted_at is not None  # noqa: S101 - for the type alone
    back = min(mark.indexed_below, first_id(now.noted_at - _CLOCK_WENT_BACK) or _NIL)
    _write(connection, _Mark(back, now.noted_at, now.noted_xid))
    return _Step(0, back)


def _write(connection: Connection, mark: _Mark) -> None:
    connection.execute(
        _WRITE, {"indexed_below": mark.indexed_below, "noted_at": mark.noted_at, "noted_xid": mark.noted_xid}
    )


def check_anew() -> None:
    """Have the worker go through all transactions again and add what is missing, as after a fault that `verify` found.

    Until it has come to the end, a reference over all wallets is looked for in a range of time.
    """
    with unit_of_work() as connection:
        locks.lock_references(connection)
        connection.execute(_FORGET)


def indexed_below(connection: Connection) -> uuid.UUID:
    """Return the mark: every transaction with an id below it is in the index, now and at any later time."""
    return connection.scalar(text(f"SELECT {INDEXED_BELOW}")) or _NIL


INDEXED_BELOW = """coalesce((SELECT indexed_below FROM transaction_reference_mark),
                CAST('00000000-0000-0000-0000-000000000000' AS uuid))"""

_BEGIN = text(f"""
SELECT clock_timestamp() AS now, {INDEXED_BELOW} AS indexed_below, mark.noted_at, mark.noted_xid,
       (SELECT transaction_id FROM transactions ORDER BY transaction_id DESC LIMIT 1) >= {INDEXED_BELOW} AS has_more
  FROM (SELECT) AS one LEFT JOIN transaction_reference_mark AS mark ON true
""")  # noqa: S608 - constants

_SETTINGS = text("SELECT set_config('statement_timeout', '30s', true)")

_OWN_XID = text("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")

# In the order of the digests, so that neighbours come into a page of the index together.
_ADD = text(f"""
WITH page AS MATERIALIZED (
    SELECT transaction_id, reference_id FROM transactions
     WHERE transaction_id >= :after ORDER BY transaction_id LIMIT :rows_max
), added AS (
    INSERT INTO transaction_references (digest, transaction_id)
    SELECT {digest_of("reference_id")}, transaction_id FROM page ORDER BY 1
        ON CONFLICT DO NOTHING
    RETURNING transaction_id
)
SELECT (SELECT count(*) FROM page) AS rows, (SELECT count(*) FROM added) AS added,
       (SELECT transaction_id FROM page ORDER BY transaction_id DESC LIMIT 1) AS last,
       CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS horizon
""")  # noqa: S608 - constants

_WRITE = text("""
INSERT INTO transaction_reference_mark (id, indexed_below, noted_at, noted_xid)
VALUES (1, :indexed_below, :noted_at, :noted_xid)
    ON CONFLICT (id) DO UPDATE
   SET indexed_below = excluded.indexed_below, noted_at = excluded.noted_at, noted_xid = excluded.noted_xid
""")

_FORGET = text("DELETE FROM transaction_reference_mark")

ADD_REFERENCES = Statement(
    "add_references",
    f"""
INSERT INTO transaction_references (digest, transaction_id)
SELECT {digest_of("reference_id")}, transaction_id FROM unnest($1, $2) AS posted (reference_id, transaction_id)
    ON CONFLICT DO NOTHING
""",  # noqa: S608 - constants
    TEXTS,
    UUIDS,
)
"""For history that was invented: its ids lie below the mark, which nobody looks at again."""
