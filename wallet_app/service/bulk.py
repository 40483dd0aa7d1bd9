"""Many commands at once: each answered on its own, or all together or not at all.

Bulk work does not go through the lanes of single commands: it has database transactions of its own, few at a time, so
that it cannot take the connections that single commands need.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from sqlalchemy import Engine

from wallet_app import metrics
from wallet_app.db import db
from wallet_app.errors import ForbiddenError, OverloadedError, WalletBusyError, WalletServiceError
from wallet_app.service.attempts import post_with_retries
from wallet_app.service.books import Receipt
from wallet_app.service.commands import Command, require_permitted
from wallet_app.service.execution import BATCH_MAX, REQUEST_SECONDS_MAX
from wallet_app.service.ownership import find_foreign
from wallet_app.service.posting import BatchRefusedError, Deferred, Outcome

T = TypeVar("T")

CHUNK_MAX = 500
"""How many commands that are answered each on its own share a database transaction.

More are cheaper: in chunks of 256 a command took 16 % more CPU, of service and database together, than in 1,000, and in
500 it took 7 % more. But a chunk keeps its wallets locked and the process busy while it lasts: from 500 to 1,000 the
median of single commands beside it rose by a fifth, and their p99 doubled.
"""

RUNS_MAX = 2
"""How many pieces of bulk work are posted at once in a process; the next one waits for its turn."""

_turns = threading.BoundedSemaphore(RUNS_MAX)


def execute_each(commands: Sequence[Command], *, seconds_max: float = REQUEST_SECONDS_MAX) -> list[Outcome]:
    """Post the commands in order, each answered on its own; return their outcomes in the same order.

    A chunk of CHUNK_MAX at a time is a unit of work, so what was posted stays so if a later chunk fails. A wallet that
    is held by someone else delays its own commands alone, and makes WalletBusyErrors of them in the end. After
    `seconds_max` what has not had its turn is answered so too. Raises OverloadedError if the turn does not come at all.
    """
    deadline = time.monotonic() + seconds_max
    outcomes: list[Outcome | None] = [*declined_at_once(commands)]
    permitted = [at for at, outcome in enumerate(outcomes) if outcome is None]
    if permitted:
        with _turn(deadline):
            for places in _chunks(permitted):
                chunk = [commands[at] for at in places]
                for at, outcome in zip(places, _post_each(db.engine, chunk, deadline), strict=True):
                    outcomes[at] = outcome
    return cast(list[Outcome], outcomes)


def execute_atomic(commands: Sequence[Command], *, seconds_max: float = REQUEST_SECONDS_MAX) -> list[Receipt]:
    """Post up to BATCH_MAX commands in one unit of work, all of them or none; return their receipts in order.

    Locks all wallets at once and waits for them. Raises BatchRefusedError with the first command that is not accepted;
    an UnavailableError, or whatever else kept all of it from being posted, concerns no single command.
    """
    if len(commands) > BATCH_MAX:
        raise ValueError(f"a batch has at most {BATCH_MAX} commands, not {len(commands)}")
    for index, declined in enumerate(declined_at_once(commands)):
        if declined is not None:
            raise BatchRefusedError(index, declined)
    deadline = time.monotonic() + seconds_max
    with _turn(deadline):
        outcomes = post_with_retries(db.engine, commands, deadline=deadline, is_atomic=True, lane="bulk")
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return cast(list[Receipt], outcomes)


def declined_at_once(commands: Sequence[Command]) -> list[WalletServiceError | None]:
    """Return what each command is declined with whatever the books say: it is forbidden, or its wallet another's.

    Without a wait for its wallet, as if it came alone.
    """
    foreign = find_foreign(commands)
    return [_forbidden(command) or foreign.get(index) for index, command in enumerate(commands)]


def _forbidden(command: Command) -> ForbiddenError | None:
    try:
        require_permitted(command)
    except ForbiddenError as forbidden:
        return forbidden
    return None


@contextmanager
def _turn(deadline: float) -> Iterator[None]:
    began = time.monotonic()
    has_turn = _turns.acquire(timeout=max(0.0, deadline - began))
    metrics.QUEUE_SECONDS.observe([time.monotonic() - began], "bulk")
    if not has_turn:
        metrics.REFUSED.add("bulk")
        raise OverloadedError("Too many batches are being posted; nothing was posted. Repeat with the same references.")
    try:
        yield
    finally:
        _turns.release()


def _chunks(commands: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield them in as few chunks as possible, of about the same size: a small rest costs a COMMIT too."""
    count = -(-len(commands) // CHUNK_MAX)
    for number in range(count):
        yield commands[len(commands) * number // count : len(commands) * (number + 1) // count]


def _post_each(engine: Engine, commands: Sequence[Command], deadline: float) -> list[Outcome]:
    """Post what is free, without waiting; then the rest, waiting each time for the wallets of its first command."""
    outcomes: list[Outcome | Deferred] = [Deferred.DEFERRED] * len(commands)
    waits_for: Sequence[int] = ()
    while places := [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Deferred)]:
        left = [commands[at] for at in places]
        if time.monotonic() > deadline:
            again: Sequence[Outcome | Deferred] = [_too_late() for _ in left]
        else:
            again = post_with_retries(engine, left, deadline=deadline, waits_for=waits_for, lane="bulk")
        for at, outcome in zip(places, again, strict=True):
            outcomes[at] = outcome
        waits_for = next((commands[at].wallet_ids() for at in places if isinstance(outcomes[at], Deferred)), ())
    return cast(list[Outcome], outcomes)


def _too_late() -> WalletBusyError:
    return WalletBusyError(
        "The time ran out before this command's turn came; nothing was posted. Repeat with the same reference."
    )
