"""Several service processes on one database, each with its own lanes and pool, let go at the same moment."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple, TypeVar

from flask import Flask

from wallet_app import create_app, service
from wallet_app.config import Settings
from wallet_app.db import close_connections

T = TypeVar("T")

_gate: list[Barrier] = []


class Answer(NamedTuple):
    """What the caller of a command was told, small enough to be sent home from another process."""

    wallet_id: int
    reference: str
    signed: int
    version: int | None
    balance_after: int | None
    is_replay: bool
    error: str | None


def answer_to(command: service.Movement, outcome: service.Receipt | Exception) -> Answer:
    """Put a command and its outcome into what a caller sees of them."""
    signed = -command.amount if command.kind == "SPEND" else command.amount
    if isinstance(outcome, service.Receipt):
        entry = outcome.transaction.entries[0]
        return Answer(
            command.wallet_id, command.reference, signed, entry.seq, entry.balance_after, outcome.is_replay, None
        )
    return Answer(command.wallet_id, command.reference, signed, None, None, False, type(outcome).__name__)


def execute(command: service.Movement, *, seconds_max: float = 60) -> Answer:
    """Execute the command and return what its caller sees."""
    try:
        return answer_to(command, service.execute(command, seconds_max=seconds_max))
    except Exception as error:
        return answer_to(command, error)


def in_processes(settings: Settings, works: Sequence[Callable[[], list[T]]], *, threads: int = 1) -> list[T]:
    """Run each work in a process of its own, on a service with these settings; return all that they return.

    A work can be pickled: a module's function, or a partial of one. Given `threads`, it runs in so many at once.
    """
    # Not forked, because the tests' process has threads.
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(len(works))
    with ProcessPoolExecutor(len(works), mp_context=context, initializer=_meet_at, initargs=(gate,)) as pool:
        futures = [pool.submit(_serve, settings, work, threads) for work in works]
        return [one for future in futures for one in future.result(100)]


def _meet_at(gate: Barrier) -> None:
    _gate.append(gate)


def _serve(settings: Settings, work: Callable[[], list[T]], threads: int) -> list[T]:
    app = create_app(settings)
    with app.app_context():
        service.get_wallet(3)
        _gate[0].wait(60)
        found = in_threads(app, [work] * threads)
        close_connections()
    return [one for each in found for one in each]


def in_threads(app: Flask, works: Sequence[Callable[[], T]]) -> list[T]:
    """Run the works at once, a thread each, and return what they return, in order."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        with app.app_context():
            gate.wait(30)
            return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
