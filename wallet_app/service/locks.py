"""Row locks: the only SELECT ... FOR UPDATE of the service, and the order in which it is taken.

In a database transaction only the first locking statement may wait, and it takes its rows in sorted order; so no two
transactions can each hold what the other waits for. The order among kinds of rows is: operators, request row, wallets,
slots. What an operator does waits once for each kind, in this order; whoever holds a wallet waits for none before it.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Select, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import BigInteger

from wallet_app.models import AssetType, Client, WalletBalance
from wallet_app.models_approvals import ApprovalRequest
from wallet_app.models_bulk import BulkRun
from wallet_app.models_console import Operator
from wallet_app.models_reports import SettledCursor
from wallet_app.parameters import WHOLE_NUMBER, WHOLE_NUMBERS
from wallet_app.round_trip import Question, Statement, ask

T = TypeVar("T")

SLOTS = 16
"""How many postings can add to the same SYSTEM wallet at once."""

LockedBalance = tuple[int, int, int, int, bytes, dt.datetime, int, int, int]
"""wallet_id, balance, held, version, chain, updated_at, owed, bonus, lots of a locked wallet."""

_SLOT_LOCKS = 7_402_001
"""The advisory locks' first key; the slot's number is the second."""

_AUDIT_CHAIN_LOCK = 7_402_004
_TOP_MOVERS_LOCK = 7_402_006

_WALLETS = (
    select(
        WalletBalance.wallet_id,
        WalletBalance.balance,
        WalletBalance.held,
        WalletBalance.version,
        WalletBalance.chain,
        WalletBalance.updated_at,
        WalletBalance.owed,
        WalletBalance.bonus,
        WalletBalance.lots,
    )
    # No join: a joined row would be stale after a wait, only the locked one is read again.
    .where(WalletBalance.wallet_id == func.any(bindparam("wallet_ids", type_=ARRAY(BigInteger))))
    .order_by(WalletBalance.wallet_id)
)


def _statement(name: str, select: Select[*tuple[Any, ...]]) -> Statement:
    dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    return Statement(name, str(select.compile(dialect=dialect)), WHOLE_NUMBERS)


_WAIT = _statement("lock_wallets", _WALLETS.with_for_update())
_SKIP = _statement("lock_free_wallets", _WALLETS.with_for_update(skip_locked=True))

_TRY_SLOT = Statement(
    "try_slot",
    f"""
SELECT slot FROM generate_series(0, {SLOTS - 1}) AS slots (slot)
 WHERE pg_try_advisory_xact_lock({_SLOT_LOCKS}, slot) LIMIT 1
""",  # noqa: S608 - constants
)
_WAIT_FOR_SLOT = Statement(
    "wait_for_slot",
    f"SELECT pg_advisory_xact_lock({_SLOT_LOCKS}, CAST($1 AS int))",
    WHOLE_NUMBER,
)


class Locked(NamedTuple):
    """The balance rows that are locked, the slot of the SYSTEM balances that was free, if one was, and the answers."""

    balances: list[LockedBalance]
    slot: int | None
    answers: list[list[Any]]


def lock_wallets(
    connection: Connection,
    wallet_ids: Collection[int],
    *,
    waits_for: Collection[int] | None = None,
    then: Sequence[Question] = (),
) -> Locked:
    """Lock the wallets' balance rows, and then a free slot, until the end of the unit of work.

    Must be the unit of work's first locking statement. It waits (up to `lock_timeout`) for all rows; or, given
    `waits_for`, only for the rows of these wallets, and then takes of the others those that are free. A wallet that is
    busy, without a balance row, or does not exist is not among the rows returned.

    `then` is asked under the locks, in the same round trip: each statement sees what was committed before it began.
    """
    first = wallet_ids if waits_for is None else waits_for
    others = set(wallet_ids).difference(first)
    questions = [_WAIT(sorted(set(first)))] if first else []
    questions += [_SKIP(sorted(others))] if others else []
    # In one round trip with what begins the transaction.
    answers = ask(connection, *questions, _TRY_SLOT(), *then)
    locked, slots, rest = answers[: len(questions)], answers[len(questions)], answers[len(questions) + 1 :]
    return Locked([row for rows in locked for row in rows], slots[0][0] if slots else None, rest)


def wait_for_wallets(connection: Connection, wallet_ids: Collection[int]) -> None:
    """Lock these wallets' balance rows, and nothing else, until the end of the unit of work.

    Must be its first locking statement. `lock_wallets` may follow, if it waits for no other wallet.
    """
    ask(connection, _WAIT(sorted(set(wallet_ids))))


def wait_for_slot() -> tuple[int, Question]:
    """Return a slot of the SYSTEM balances, and what waits until it is this unit of work's alone.

    For when none was free. Whoever holds a slot has all its wallet locks and waits for nothing any more, so this wait
    ends.
    """
    slot = random.randrange(SLOTS)  # noqa: S311
    return slot, _WAIT_FOR_SLOT(slot)


def lock_client(connection: Connection, client_id: int) -> dt.datetime | None:
    """Lock a client's row, so that its keys are counted and changed by one at a time; return since when it is revoked.

    Must be its unit of work's first locking statement.
    """
    statement = select(Client.revoked_at).where(Client.id == client_id).with_for_update()
    revoked_at: dt.datetime | None = connection.execute(statement).scalar_one()
    return revoked_at


class LockedOperator(NamedTuple):
    """What an operator's locked row says. A session of another epoch has ended."""

    id: int
    email: str
    role: str
    epoch: int
    is_disabled: bool
    set_up_hash: bytes | None
    set_up_expires_at: dt.datetime | None


def lock_operators(connection: Connection, operator_ids: Collection[int]) -> dict[int, LockedOperator]:
    """Lock these operators' rows, so that what is recorded of them is what it was; return those there are, by id.

    So what one operator does to money comes one after the other, in whatever process. Must be its unit of work's first
    locking statement; requests and wallets may be locked after it. In order of their ids: two may do the same to each
    other. FOR NO KEY UPDATE, for which a row that only names the operator does not wait: the worker writes such rows
    while it holds what comes after.
    """
    statement = (
        select(
            Operator.id,
            Operator.email,
            Operator.role,
            Operator.epoch,
            Operator.disabled_at.is_not(None),
            Operator.set_up_hash,
            Operator.set_up_expires_at,
        )
        .where(Operator.id.in_(sorted(set(operator_ids))))
        .order_by(Operator.id)
        .with_for_update(key_share=True)
    )
    return {row[0]: LockedOperator(*row) for row in connection.execute(statement)}


class LockedAsset(NamedTuple):
    """An asset as it is while its row is locked: all that can be changed of it, and its id."""

    id: int
    name: str
    scale: int
    time_zone: str
    bonus_days: int | None
    paid_days: int | None


def lock_asset(connection: Connection, asset_code: str) -> LockedAsset | None:
    """Lock an asset's row, so that it gets no wallet meanwhile; return it, if there is one.

    Must be its unit of work's first locking statement.
    """
    columns = [getattr(AssetType, name) for name in LockedAsset._fields]
    row = connection.execute(select(*columns).where(AssetType.code == asset_code).with_for_update()).first()
    return None if row is None else LockedAsset._make(row)


def lock_epoch(connection: Connection, operator_id: int) -> int | None:
    """Lock an operator's row and return its epoch, None if they are disabled. Must be the first locking statement."""
    statement = select(Operator.epoch, Operator.disabled_at).where(Operator.id == operator_id)
    epoch, disabled_at = connection.execute(statement.with_for_update(key_share=True)).one()
    return None if disabled_at is not None else epoch


class LockedRequest(NamedTuple):
    """A request as it is while its row is locked. `is_due` tells that its time is over, by the database's clock."""

    status: str
    checker_id: int | None
    transaction_id: uuid.UUID | None
    is_due: bool


def lock_request(connection: Connection, request_id: int) -> LockedRequest:
    """Lock the request's row, so that it is decided once. After operators, and before any wallet.

    The clock is read after the wait: what came too late while it waited is too late.
    """
    statement = (
        select(ApprovalRequest.status, ApprovalRequest.checker_id, ApprovalRequest.transaction_id)
        .where(ApprovalRequest.id == request_id)
        .with_for_update()
    )
    row = connection.execute(statement).one()
    is_due: bool = connection.execute(
        select(ApprovalRequest.expires_at <= func.clock_timestamp()).where(ApprovalRequest.id == request_id)
    ).scalar_one()
    return LockedRequest(row.status, row.checker_id, row.transaction_id, is_due)


def lock_audit_chain(connection: Connection) -> None:
    """Wait until the audit log's chain is this unit of work's alone to extend, until its end. Locks nothing else."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _AUDIT_CHAIN_LOCK})


def try_lock_top_movers(connection: Connection) -> bool:
    """Tell whether the top movers are this unit of work's alone to find, until its end. It waits for nothing."""
    return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _TOP_MOVERS_LOCK}))


def lock_cursor(connection: Connection, consumer: str) -> Row[Any] | None:
    """Lock how far the consumer of settled transactions is, and return it; None if another process has it locked.

    Must be its unit of work's first locking statement; it waits for nothing.
    """
    columns = SettledCursor.__table__.columns
    statement = select(*columns).where(SettledCursor.consumer == consumer).with_for_update(skip_locked=True)
    return connection.execute(statement).first()


def lock_free_rows(connection: Connection, statement: Select[T]) -> Sequence[T]:
    """Return what the statement selects of the rows that nobody has locked, locked until the unit of work's end.

    For rows that are to be removed: it waits for nothing, so it may come after any other lock.
    """
    return connection.execute(statement.with_for_update(skip_locked=True)).scalars().all()


def lock_bulk_run(connection: Connection, run_id: int) -> str:
    """Lock a bulk run's row, so that how it stands changes once; return how it does.

    After operators and requests, and before any wallet. A worker that posts its rows holds this lock as well.
    """
    statement = select(BulkRun.state).where(BulkRun.id == run_id).with_for_update()
    state: str = connection.execute(statement).scalar_one()
    return state
