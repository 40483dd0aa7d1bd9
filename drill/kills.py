"""The kinds of kills: what each does to a service under load, and how it is to come back."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from drill.service import DrillError, Service, children_of, is_alive, wait_until

FROZEN_SECONDS = 3.0


@dataclass(frozen=True)
class Kind:
    """A kind of kill. `strike` ends something and returns when the service has felt it and was started if need be."""

    name: str
    sentence: str
    strike: Callable[[Service, random.Random], Any]
    drains: bool = False
    """Whether the service is asked to end, and therefore answers all that it has posted."""


def _kill_worker(service: Service, dice: random.Random) -> None:
    victim = dice.choice(service.workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_alive(victim), "the worker is gone")


def _kill_service(service: Service, _: random.Random) -> None:
    workers = service.workers()
    service.process.kill()
    service.process.wait()
    # At once, as a supervisor would: its workers may not have noticed yet, and PostgreSQL goes on.
    service.start_again()
    wait_until(lambda: not any(map(is_alive, workers)), "the workers of the killed service end")


def _kill_postmaster(service: Service, _: random.Random) -> None:
    os.kill(service.postmaster(), signal.SIGKILL)
    _expect_end(service, code=1)
    service.start_again()


def _stop_immediately(service: Service, _: random.Random) -> None:
    # What `pg_ctl stop -m immediate` sends.
    os.kill(service.postmaster(), signal.SIGQUIT)
    _expect_end(service, code=1)
    service.start_again()


def _kill_backend(service: Service, dice: random.Random) -> None:
    found = service.backends()
    busy = [one for one in found if not one.command.endswith(" idle")]
    _send(dice.choice(busy or found).pid, signal.SIGKILL)
    # The postmaster ends the others too, and then lets nobody in before all is recovered.
    wait_until(lambda: not any(is_alive(one.pid) for one in found), "all backends are gone")


def _freeze_backends(service: Service, _: random.Random) -> None:
    frozen = [one.pid for one in service.backends()]
    for pid in frozen:
        _send(pid, signal.SIGSTOP)
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        for pid in frozen:
            _send(pid, signal.SIGCONT)


def _terminate_service(service: Service, _: random.Random) -> None:
    service.process.terminate()
    _expect_end(service, code=0)
    service.start_again()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("worker", "SIGKILL of a worker", _kill_worker),
        Kind("service", "SIGKILL of the service's master, started again at once", _kill_service),
        Kind("postmaster", "SIGKILL of PostgreSQL's postmaster, the service started again", _kill_postmaster),
        Kind("backend", "SIGKILL of one of PostgreSQL's backends", _kill_backend),
        Kind("immediate", "an immediate shutdown of PostgreSQL, the service started again", _stop_immediately),
        Kind("terminate", "SIGTERM of the service, started again", _terminate_service, drains=True),
        Kind("freeze", f"SIGSTOP of all backends for {FROZEN_SECONDS:.0f} s", _freeze_backends),
    )
}


def kill_all_of_postgresql(service: Service) -> None:
    """SIGKILL every process of PostgreSQL, so that nothing is left to write what only their memory holds.

    The writer of the log first: it would write it at its next turn.
    """
    postmaster = service.postmaster()
    children = sorted(children_of(postmaster), key=lambda one: "walwriter" not in one.command)
    for pid in (*(one.pid for one in children[:1]), postmaster, *(one.pid for one in children[1:])):
        _send(pid, signal.SIGKILL)
    service.wait_until_ended()
    service.start_again()


def _expect_end(service: Service, code: int) -> None:
    ended = service.wait_until_ended()
    if ended != code:
        raise DrillError(f"The service ended with {ended} instead of {code}.")


def _send(pid: int, sent: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # It may have ended meanwhile.
        os.kill(pid, sent)
