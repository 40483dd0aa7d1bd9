"""The index of transactions by reference, over all wallets: made by the worker of what has settled; no posting pays.

A read looks into the index, and at every transaction above the position up to which it is made.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable

from sqlalchemy import Connection, text

from wallet_app.service import settled
from wallet_app.service.settled import Consumer

NAME = "references"

TAIL_MAX = 20_000
"""How many transactions above the position a read looks at; if there are more, the index is of no use yet."""

TAIL_PAGE = 1_000
"""So many at a time: for many at once the planner might rather read the whole table."""

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


def extend_index(should_stop: Callable[[], bool]) -> int:
    """Put what has settled into the index; return how many transactions that were. Safe at any number of workers."""
    return settled.hand_out(Consumer(NAME, _take, _keep), should_stop)


def check_anew() -> None:
    """Have the worker go through all transactions again and add what is missing, as after a fault that `verify` found.

    Until it has come to the end, a reference over all wallets is looked for in a range of time.
    """
    settled.hand_out_again(NAME)


def _take(connection: Connection, after: uuid.UUID, until: uuid.UUID) -> None:
    connection.execute(_ADD, {"after": after, "until": until})


def _keep(_: Connection) -> None:
    """What is in the index stays right for ever, and what comes a second time is there already."""


# In the order of the digests, so that neighbours come into a page of the index together.
_ADD = text(f"""
INSERT INTO transaction_references (digest, transaction_id)
SELECT {digest_of("reference_id")}, transaction_id FROM transactions
 WHERE transaction_id > :after AND transaction_id <= :until ORDER BY 1
    ON CONFLICT DO NOTHING
""")  # noqa: S608 - constants
