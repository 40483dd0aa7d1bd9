"""Erases what was written about a user: the notes and metadata of all transactions that are anchored at their wallets,
and the notes of what operators asked for there.

Ledger and requests stay whole: they have but salted hashes of them. Units of work of a bounded size, each with its
audit record, so that a run that was stopped is simply begun again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from wallet_app.db import take_time, unit_of_work
from wallet_app.errors import UserNotFoundError
from wallet_app.models import User, Wallet
from wallet_app.service import approvals, audit, posting
from wallet_app.service.audit import Act, By

ROWS_MAX = 5_000
"""How many transactions lose their note and metadata in one unit of work."""

STATEMENT_SECONDS_MAX = 60


@dataclass(frozen=True, slots=True)
class Erasable:
    """How many transactions of a user have a note or metadata."""

    user_id: int
    wallets: int
    transactions: int


def count_erasable(user_id: int) -> Erasable:
    """Return what `erase_user` would erase now; raise UserNotFoundError, also for a SYSTEM user."""
    with unit_of_work() as connection:
        take_time(connection, STATEMENT_SECONDS_MAX)
        wallet_ids = _wallets_of(connection, user_id)
        found = connection.execute(_COUNT, {"wallet_ids": wallet_ids}).scalar_one()
    return Erasable(user_id, len(wallet_ids), found)


def erase_user(user_id: int, *, by: By, progress: Callable[[int], object] = lambda _: None) -> int:
    """Erase the notes and metadata of the user's transactions for good, and return of how many.

    What is posted meanwhile may stay. `progress` is told how many more were erased. Raises UserNotFoundError.
    """
    with unit_of_work() as connection:
        wallet_ids = _wallets_of(connection, user_id)
    erased = 0
    for wallet_id in wallet_ids:
        after: uuid.UUID | None = _BEFORE_ALL
        while after is not None:
            count, after = _erase_some(user_id, wallet_id, after, by)
            erased += count
            progress(count)
        _erase_requests(user_id, wallet_id, by)
    return erased


def _erase_requests(user_id: int, wallet_id: int, by: By) -> None:
    """Erase the notes of the requests about the wallet, and of its rows in bulk runs that are over; they are few."""
    with unit_of_work() as connection:
        count = approvals.erase_notes(connection, wallet_id)
        rows = connection.execute(_ERASE_ROWS, {"wallet_id": wallet_id}).rowcount
        if count or rows:
            told = {"walletId": wallet_id, "requests": count, "bulkRows": rows}
            audit.record(connection, Act(by=by, action="user:erase", subject=f"user:{user_id}", after=told))


def _erase_some(user_id: int, wallet_id: int, after: uuid.UUID, by: By) -> tuple[int, uuid.UUID | None]:
    """Erase the next ones of the wallet; return how many, and behind which id others may follow."""
    values = {"wallet_id": wallet_id, "after": after, "rows_max": ROWS_MAX}
    with unit_of_work() as connection:
        take_time(connection, STATEMENT_SECONDS_MAX)
        last: uuid.UUID | None = connection.execute(_LAST, values).scalar()
        count = posting.erase_details(connection, wallet_id=wallet_id, after=after, last=last or _BEHIND_ALL)
        if count:
            told = {"walletId": wallet_id, "transactions": count}
            audit.record(connection, Act(by=by, action="user:erase", subject=f"user:{user_id}", after=told))
    return count, last


def _wallets_of(connection: Connection, user_id: int) -> Sequence[int]:
    known = connection.scalar(select(User.id).where(User.id == user_id, User.user_type == "USER"))
    if known is None:
        raise UserNotFoundError(user_id)
    return connection.scalars(select(Wallet.id).where(Wallet.user_id == user_id).order_by(Wallet.id)).all()


_BEFORE_ALL, _BEHIND_ALL = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)

# The note of a row that waits is still to be posted; it goes when this is asked again.
_ERASE_ROWS = text("""
UPDATE bulk_rows SET note = NULL
 WHERE wallet_id = :wallet_id AND note IS NOT NULL
   AND run_id IN (SELECT id FROM bulk_runs WHERE ended_at IS NOT NULL)
""")


_COUNT = text("SELECT count(*) FROM transaction_details WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[]))")

# By the primary key from where the last unit of work ended: it would look at each erased row again otherwise.
_LAST = text("""
SELECT transaction_id FROM transaction_details
 WHERE wallet_id = :wallet_id AND transaction_id > :after
 ORDER BY wallet_id, transaction_id OFFSET :rows_max - 1 LIMIT 1
""")
