"""Lets concurrent commands share a database transaction: while one batch commits, the next one gathers.

There is no timer and no artificial wait: a lane posts whatever has queued up by the time it is free. A process has two
lanes for single commands, each a thread that posts one batch at a time. The *shared* lane skips wallets that another
posting holds, so that a slow one delays nobody else; their commands go to the *waiting* lane, which waits for the
wallets of its oldest command and takes along whatever else is free, and what comes while it waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial

import structlog
from sqlalchemy import Engine

from wallet_app import metrics
from wallet_app.errors import OutcomeUnknownError, OverloadedError, WalletBusyError
from wallet_app.service.attempts import Join, post_with_retries
from wallet_app.service.commands import Command
from wallet_app.service.posting import Deferred, Outcome

log = structlog.get_logger("wallet")

LANE_BATCH_MAX = 256
QUEUE_MAX = 2_000
"""How many commands may wait in a process, in both lanes together; the next one is refused at once."""

STALL_SECONDS = 1.0
"""When a command has waited so long for its lane, that is worth a line in the log."""


class _State(Enum):
    QUEUED = auto()
    TAKEN = auto()
    WITHDRAWN = auto()


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Ticket:
    """A command on its way, and the place where its caller waits for the outcome."""

    command: Command
    wallet_ids: tuple[int, ...]
    deadline: float
    queued_at: float
    state: _State = _State.QUEUED
    is_waiting: bool = False
    """Belongs to the waiting lane, until it is answered."""
    outcome: Outcome | None = None
    done: threading.Lock = field(default_factory=_locked)
    """Held until there is an outcome. A lock that is released tells one waiter what an Event tells many, for less."""


def _lane_of(ticket: _Ticket) -> str:
    return "waiting" if ticket.is_waiting else "shared"


def _observe_queued(tickets: Sequence[_Ticket], lane: str) -> None:
    now = time.monotonic()
    metrics.QUEUE_SECONDS.observe([now - ticket.queued_at for ticket in tickets], lane)


class _Queue(deque[_Ticket]):
    """The commands that a lane is to post, and what wakes the lane. To be used under the lock alone."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self.came = threading.Condition(lock)


class GroupCommit:
    """The lanes of one process on one engine. Their threads start with the first command, and anew after a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pid = 0
        self._start = threading.Lock()
        self._reset()
        metrics.every_second(self._look)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._shared = _Queue(self._lock)
        self._waiting = _Queue(self._lock)
        self._waiting_wallets: Counter[int] = Counter()

    def execute(self, command: Command, *, seconds_max: float) -> Outcome:
        """Post the command with whatever else is on its way and return its outcome.

        Raises OverloadedError when the queue is full, WalletBusyError when the time ran out before the command was
        taken (it is withdrawn; nothing is posted), OutcomeUnknownError when it ran out afterwards.
        """
        ticket = self._queue(command, seconds_max)
        if not ticket.done.acquire(timeout=seconds_max) and self._withdraw(ticket):
            raise WalletBusyError("The time ran out in the queue; nothing was posted. Repeat with the same reference.")
        if ticket.outcome is None:
            raise OutcomeUnknownError(
                "The time ran out while this was posted. Repeat with the same reference: it is posted once at most."
            )
        return ticket.outcome

    def queued(self) -> tuple[int, int]:
        """Return how many commands are in the shared and in the waiting lane."""
        return len(self._shared), len(self._waiting)

    def _look(self) -> list[metrics.Sight]:
        """Return what waits now, and say so in the log when it waits for long: then a lane hangs."""
        now = time.monotonic()
        with self._lock:
            queues = {"shared": list(self._shared), "waiting": list(self._waiting)}
        sights: list[metrics.Sight] = []
        for lane, tickets in queues.items():
            oldest = now - min((ticket.queued_at for ticket in tickets), default=now)
            if oldest > STALL_SECONDS:
                log.warning("lane_stalled", lane=lane, queued=len(tickets), oldest_seconds=round(oldest, 1))
            sights += [(metrics.QUEUED, (lane,), len(tickets)), (metrics.OLDEST_SECONDS, (lane,), oldest)]
        return sights

    def _queue(self, command: Command, seconds_max: float) -> _Ticket:
        if self._pid != os.getpid():
            self._start_threads()
        now = time.monotonic()
        ticket = _Ticket(command, command.wallet_ids(), now + seconds_max, now)
        with self._lock:
            if len(self._shared) + len(self._waiting) >= QUEUE_MAX:
                metrics.REFUSED.add("shared")
                raise OverloadedError(
                    "Too many commands are waiting; nothing was posted. Repeat with the same reference."
                )
            self._shared.append(ticket)
            self._shared.came.notify()
        return ticket

    def _withdraw(self, ticket: _Ticket) -> bool:
        with self._lock:
            if ticket.state is _State.QUEUED:
                ticket.state = _State.WITHDRAWN
            is_withdrawn = ticket.state is _State.WITHDRAWN
        if is_withdrawn:
            metrics.WITHDRAWN.add(_lane_of(ticket))
        return is_withdrawn

    def _start_threads(self) -> None:
        with self._start:
            if self._pid == os.getpid():
                return
            if self._pid:
                self._reset()
            for name, lane in (("shared", self._run_shared), ("waiting", self._run_waiting)):
                threading.Thread(target=self._forever, args=(lane,), name=f"lane-{name}", daemon=True).start()
            self._pid = os.getpid()
            metrics.start()

    def _forever(self, lane: Callable[[], None]) -> None:
        while True:
            try:
                lane()
            except BaseException as fault:
                # Whatever it is: a lane that ended would not be started again, and every caller would wait in vain.
                log.error("lane_failed", exc_info=fault)

    # --- the shared lane ---

    def _run_shared(self) -> None:
        """Post what has queued up, but for commands on wallets that the waiting lane has commands for already."""
        if tickets := self._take(self._shared):
            outcomes = self._post(tickets, (), "shared")
            self._answer(tickets, outcomes)

    # --- the waiting lane ---

    def _run_waiting(self) -> None:
        """Post what is free by now; then wait for the oldest command that is not, and take along what is free then.

        Without the first step, everybody here would wait for the first; if all want its wallets, they have to.
        """
        tickets = self._take(self._waiting)
        if any(ticket.wallet_ids != tickets[0].wallet_ids for ticket in tickets):
            self._answer(tickets, self._post(tickets, (), "waiting"))
            tickets = self._take(self._waiting) if tickets[0].state is _State.QUEUED else []
        if tickets:
            self._answer(tickets, self._post(tickets, tickets[0].wallet_ids, "waiting", partial(self._join, tickets)))

    def _join(self, tickets: list[_Ticket]) -> Sequence[Command]:
        """Add to the tickets what the lane has by now: a hot wallet's turn comes rarely, and should serve many."""
        with self._lock:
            self._gather()
            joined = self._take_queued(self._waiting, LANE_BATCH_MAX - len(tickets))
        tickets += joined
        _observe_queued(joined, "waiting")
        return [ticket.command for ticket in joined]

    def _gather(self) -> None:
        """Move here, in order, what the shared lane would leave to this one when its turn comes."""
        for _ in range(len(self._shared)):
            ticket = self._shared.popleft()
            if self._waiting_wallets.keys().isdisjoint(ticket.wallet_ids):
                self._shared.append(ticket)
            elif ticket.state is _State.QUEUED:
                self._let_wait([ticket])

    # --- both ---

    def _take(self, queue: _Queue) -> list[_Ticket]:
        """Wait for commands and return up to LANE_BATCH_MAX of them, in order."""
        with self._lock:
            while not queue:
                queue.came.wait()
            return self._take_queued(queue, LANE_BATCH_MAX)

    def _take_queued(self, queue: _Queue, most: int) -> list[_Ticket]:
        """Return up to so many commands of those that are queued, in order. To be called under the lock."""
        taken: list[_Ticket] = []
        while queue and len(taken) < most:
            ticket = queue.popleft()
            if ticket.state is _State.WITHDRAWN or ticket.deadline <= time.monotonic():
                # Its caller withdraws it, or has just been told that the time ran out: it must not be posted later.
                ticket.state = _State.WITHDRAWN
                self._leave(ticket)
            elif not ticket.is_waiting and not self._waiting_wallets.keys().isdisjoint(ticket.wallet_ids):
                self._let_wait([ticket])
            else:
                ticket.state = _State.TAKEN
                taken.append(ticket)
        return taken

    def _post(
        self, tickets: Sequence[_Ticket], waits_for: Sequence[int], lane: str, join: Join | None = None
    ) -> list[Outcome | Deferred]:
        """Post the tickets, with those that `join` adds to them while it waits."""
        _observe_queued(tickets, lane)
        try:
            return post_with_retries(
                self._engine,
                [ticket.command for ticket in tickets],
                deadline=max(ticket.deadline for ticket in tickets),
                waits_for=waits_for,
                lane=lane,
                join=join,
            )
        except Exception as fault:
            log.error("batch_failed", commands=len(tickets), exc_info=fault)
            return [fault] * len(tickets)

    def _answer(self, tickets: Sequence[_Ticket], outcomes: Sequence[Outcome | Deferred]) -> None:
        deferred = []
        with self._lock:
            for ticket, outcome in zip(tickets, outcomes, strict=True):
                if isinstance(outcome, Deferred):
                    deferred.append(ticket)
                else:
                    ticket.outcome = outcome
                    self._leave(ticket)
            self._let_wait(deferred)
        for ticket in tickets:
            if ticket.outcome is not None:
                ticket.done.release()

    def _let_wait(self, tickets: Sequence[_Ticket]) -> None:
        """Put the tickets into the waiting lane; those that were in it go back to its front, in their order."""
        if not tickets:
            return
        metrics.DEFERRED.add(_lane_of(tickets[0]), amount=len(tickets))
        for ticket in reversed(tickets) if tickets[0].is_waiting else tickets:
            ticket.state = _State.QUEUED
            if ticket.is_waiting:
                self._waiting.appendleft(ticket)
            else:
                ticket.is_waiting = True
                self._waiting_wallets.update(ticket.wallet_ids)
                self._waiting.append(ticket)
        self._waiting.came.notify()

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.is_waiting:
            for wallet_id in ticket.wallet_ids:
                self._waiting_wallets[wallet_id] -= 1
                if not self._waiting_wallets[wallet_id]:
                    del self._waiting_wallets[wallet_id]
