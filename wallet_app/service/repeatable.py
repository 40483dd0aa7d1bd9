"""A unit of work that may run twice: for what is found again where it is there already. Nothing here moves money."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from wallet_app.db import CommitNotReplicatedError, unit_of_work
from wallet_app.errors import OutcomeUnknownError

R = TypeVar("R")


def repeatable(work: Callable[[Connection], R]) -> R:
    """Commit the work and return what it returned; a dead connection is replaced once, also when it died at COMMIT.

    Raises OutcomeUnknownError if a standby did not confirm, and whatever the database raises.
    """
    try:
        try:
            return _commit(work)
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
            return _commit(work)
    except CommitNotReplicatedError as exc:
        raise OutcomeUnknownError(
            "The database did not confirm whether this was made. Repeat the request: it is made once at most."
        ) from exc


def _commit(work: Callable[[Connection], R]) -> R:
    with unit_of_work() as connection:
        return work(connection)
