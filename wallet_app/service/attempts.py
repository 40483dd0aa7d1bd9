"""The unit of work around a posting, and what is done when it fails.

The answer is given after COMMIT and never before. Whatever happens to the connection, the same commands are run again
under the locks: what was committed then answers as a replay. A bare look-up would not do: while the first COMMIT is
still in flight it finds nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from copy import copy
from enum import Enum, auto

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app import metrics
from wallet_app.db import CommitNotReplicatedError, log_fault, unit_of_work
from wallet_app.errors import (
    DatabaseUnavailableError,
    OutcomeUnknownError,
    WalletBusyError,
    WalletServiceError,
)
from wallet_app.service import locks, posting
from wallet_app.service.commands import Command
from wallet_app.service.loading import Clock, MissingBalancesError
from wallet_app.service.posting import BatchRefusedError, Deferred, Outcome

log = structlog.get_logger("wallet")

_CONFLICTS_MAX = 2
_RECONNECTS_MAX = 2
_HEALS_MAX = 2

Work = Callable[[Connection], list[Outcome | Deferred]]
"""What posts in a unit of work, and does there what belongs to it; run again from its beginning if it must be repeated.

It returns what it is refused with, if it is; what it accepted it keeps itself.
"""


Join = Callable[[], Sequence[Command]]
"""What has come while others waited for their wallets."""


class _Failure(Enum):
    CONFLICT = auto()  # the database chose this transaction as a victim; nothing was posted
    BUSY = auto()  # a wait ran out; nothing was posted
    CROWDED = auto()  # no connection was free; nothing was posted
    LOST = auto()  # the connection is gone, or there is none
    POISONED = auto()  # one of the commands cannot be written


def post_with_retries(
    engine: Engine,
    commands: Sequence[Command],
    *,
    deadline: float,
    waits_for: Collection[int] | None = None,
    clock: Clock | None = None,
    is_atomic: bool = False,
    lane: str = "alone",
    work: Work | None = None,
    join: Join | None = None,
) -> list[Outcome | Deferred]:
    """Post the commands in one unit of work, and see to it that each gets an outcome, in order, whatever happens.

    `deadline` is on the monotonic clock; until then a posting in doubt is tried again. A command that cannot be written
    for a reason of its own is an exception among the outcomes and leaves the others alone. A lock that is not to be had
    makes a WalletBusyError of every outcome: nothing was posted. Locks as `posting.post` does.

    If `is_atomic`, the outcomes are all receipts, or all the same exception; or BatchRefusedError is raised.

    `join`, asked once when the wallets of `waits_for` are locked, returns commands that are posted behind the others;
    their outcomes come behind the others', too.

    `lane` is whose work it is, for the figures. `work` posts the one command, as `posting.post` would, with what else
    belongs into its unit of work; a WalletServiceError that it raises is the outcome, and nothing is written then.
    """
    began = time.monotonic()
    attempts = _Attempts(engine, commands, deadline, waits_for, clock, is_atomic, lane, work, join)
    try:
        return attempts.run()
    finally:
        metrics.BATCH_COMMANDS.observe([attempts.size()], lane)
        metrics.POSTING_SECONDS.observe([time.monotonic() - began], lane)


class _Attempts:
    """The attempts to post one batch, and what they have told so far about its outcome."""

    def __init__(
        self,
        engine: Engine,
        commands: Sequence[Command],
        deadline: float,
        waits_for: Collection[int] | None,
        clock: Clock | None,
        is_atomic: bool,
        lane: str,
        work: Work | None = None,
        join: Join | None = None,
    ) -> None:
        self._engine = engine
        self._commands = commands
        self._join = join
        self._deadline = deadline
        self._waits_for = waits_for
        self._clock = clock
        self._is_atomic = is_atomic
        self._lane = lane
        self._work = work
        self._conflicts = 0
        self._reconnects = 0
        self._heals = 0
        self._in_doubt = False

    def size(self) -> int:
        """Return how many commands there are by now."""
        return len(self._commands)

    def run(self) -> list[Outcome | Deferred]:
        while True:
            decided: list[Outcome | Deferred] | None = None
            try:
                with unit_of_work(self._engine) as connection:
                    outcomes = (self._work or self._post)(connection)
                    decided = outcomes
            except BatchRefusedError:
                raise
            except WalletServiceError as refused:
                # What is refused now may be done already, by the attempt that nobody confirmed.
                return [self._give_up(_Failure.LOST) if self._in_doubt else refused]
            except MissingBalancesError as missing:
                if (answer := self._heal(missing)) is not None:
                    return answer
            except CommitNotReplicatedError:
                log.error("commit_not_replicated", commands=len(self._commands))
                self._count("not_replicated")
                self._in_doubt = True
                return self._all(self._give_up(_Failure.LOST))
            except PoolTimeoutError:
                self._count("crowded")
                if not self._in_doubt or time.monotonic() > self._deadline:
                    return self._all(self._give_up(_Failure.CROWDED))
            except DBAPIError as error:
                if (answer := self._after(error, decided)) is not None:
                    return answer
            except Exception as error:
                self._count("poisoned")
                return self._one_by_one(error)
            else:
                return outcomes

    def _post(self, connection: Connection) -> list[Outcome | Deferred]:
        if self._join is not None and self._waits_for:
            locks.wait_for_wallets(connection, self._waits_for)
            join, self._join = self._join, None
            self._commands = [*self._commands, *join()]
        return posting.post(
            connection,
            self._commands,
            waits_for=self._waits_for,
            clock=self._clock,
            is_atomic=self._is_atomic,
        )

    def _after(self, error: DBAPIError, decided: list[Outcome | Deferred] | None) -> list[Outcome | Deferred] | None:
        """Return the batch's answer, or None when it is to be tried again.

        `decided` are the outcomes that were about to be committed, None if it had not come so far.
        """
        failure = _classify(error)
        self._count(failure.name.lower())
        if failure is _Failure.LOST and decided is not None and not self._in_doubt:
            log.warning("commit_in_doubt", commands=len(decided))
            if self._work is not None:
                self._in_doubt = True
                return None
            return self._repeat_in_doubt(decided)
        if failure is _Failure.BUSY and self._waits_for and not self._in_doubt:
            return self._told_busy(self._waits_for)
        if failure is _Failure.POISONED:
            return self._one_by_one(error)
        if failure is _Failure.CONFLICT:
            # Locks are taken in order, so a deadlock is a fault of ours: it is logged, and still answered rightly.
            self._conflicts += 1
            log.error("posting_conflict", sqlstate=_sqlstate(error), attempt=self._conflicts)
        if failure is _Failure.LOST:
            self._reconnects += 1
            log.warning("connection_lost", in_doubt=self._in_doubt, attempt=self._reconnects)
        if time.monotonic() > self._deadline or not (self._in_doubt or self._may_retry(failure)):
            return self._all(self._give_up(failure))
        time.sleep(random.uniform(0.005, 0.05) * (1 + self._conflicts + min(self._reconnects, 10)))  # noqa: S311
        return None

    def _repeat_in_doubt(self, decided: list[Outcome | Deferred]) -> list[Outcome | Deferred]:
        """Run again what was about to be committed, and that alone: what was deferred is in no doubt.

        It waits for all its wallets, because the first attempt itself may still hold them: only under their locks is
        the outcome known.
        """
        doubtful = [at for at, outcome in enumerate(decided) if not isinstance(outcome, Deferred)]
        commands = [self._commands[at] for at in doubtful]
        again = _Attempts(self._engine, commands, self._deadline, None, self._clock, self._is_atomic, self._lane)
        again._in_doubt = True
        answers: list[Outcome | Deferred] = [Deferred.DEFERRED] * len(decided)
        for at, answer in zip(doubtful, again.run(), strict=True):
            answers[at] = answer
        return answers

    def _told_busy(self, waited: Collection[int]) -> list[Outcome | Deferred]:
        """Answer the commands on all the wallets that were waited for in vain; the others have not had their turn.

        Which of several wallets is held is not known: a command on some of them may well find its own ones free.
        """
        return [
            self._give_up(_Failure.BUSY) if set(waited).issubset(command.wallet_ids()) else Deferred.DEFERRED
            for command in self._commands
        ]

    def _may_retry(self, failure: _Failure) -> bool:
        """Tell whether one more attempt is due. (In doubt there always is one: until the deadline.)"""
        if failure is _Failure.CONFLICT:
            return self._conflicts <= _CONFLICTS_MAX
        return failure is _Failure.LOST and self._reconnects <= _RECONNECTS_MAX

    def _give_up(self, failure: _Failure) -> WalletServiceError:
        if self._in_doubt:
            return OutcomeUnknownError(
                "The database did not confirm whether this was posted. "
                "Repeat with the same reference: it is posted once at most."
            )
        if failure is _Failure.LOST:
            return DatabaseUnavailableError(
                "The database cannot be reached at the moment; nothing was posted. Repeat with the same reference."
            )
        if failure is _Failure.CROWDED:
            return WalletBusyError(
                "All connections to the database are in use; nothing was posted. Repeat with the same reference."
            )
        return WalletBusyError(
            "The wallet is held by another posting; nothing was posted. Repeat with the same reference."
        )

    def _heal(self, missing: MissingBalancesError) -> list[Outcome | Deferred] | None:
        self._heals += 1
        self._count("missing")
        log.warning("balances_missing", wallet_ids=list(missing.wallet_ids[:10]), count=len(missing.wallet_ids))
        if self._heals > _HEALS_MAX:
            return self._all(self._give_up(_Failure.BUSY))
        try:
            with unit_of_work(self._engine) as connection:
                posting.heal(connection, missing.wallet_ids)
        except CommitNotReplicatedError:
            # The rows only repeat the ledger; the posting that follows has a COMMIT of its own to be confirmed.
            return None
        except PoolTimeoutError:
            return self._all(self._give_up(_Failure.CROWDED))
        except DBAPIError as error:
            return self._after(error, None)
        return None

    def _one_by_one(self, error: Exception) -> list[Outcome | Deferred]:
        if self._in_doubt:
            return self._all(self._give_up(_Failure.LOST))
        if len(self._commands) == 1:
            log_fault("posting_failed", error, kind=self._commands[0].kind)
            return [error]
        if self._is_atomic:
            log_fault("posting_failed", error, commands=len(self._commands))
            return [error] * len(self._commands)
        log.error("batch_poisoned", commands=len(self._commands), error=type(error).__name__)
        answers: list[Outcome | Deferred] = []
        deferred: set[int] = set()
        for command in self._commands:
            # Whoever comes after a deferred command on the same wallet must not overtake it.
            is_behind = not deferred.isdisjoint(command.wallet_ids())
            answer = Deferred.DEFERRED if is_behind else self._alone(command)
            if isinstance(answer, Deferred):
                deferred.update(command.wallet_ids())
            answers.append(answer)
        return answers

    def _alone(self, command: Command) -> Outcome | Deferred:
        # Each may wait for its wallet, so without this a long batch would go on for minutes after its deadline.
        if time.monotonic() > self._deadline:
            return WalletBusyError(
                "The time ran out before this command's turn came; nothing was posted. Repeat with the same reference."
            )
        waits_for = None if self._waits_for is None else set(self._waits_for).intersection(command.wallet_ids())
        alone = _Attempts(
            self._engine, [command], self._deadline, waits_for, self._clock, is_atomic=False, lane=self._lane
        )
        return alone.run()[0]

    def _count(self, reason: str) -> None:
        metrics.FAILURES.add(self._lane, reason)

    def _all(self, error: WalletServiceError) -> list[Outcome | Deferred]:
        # One each: an exception that is raised in several threads would mix their tracebacks.
        return [copy(error) for _ in self._commands]


def _classify(error: DBAPIError) -> _Failure:
    state = _sqlstate(error)
    if state in {"40001", "40P01"}:
        return _Failure.CONFLICT
    if state in {"55P03", "57014"}:
        return _Failure.BUSY
    is_connection_class = state is not None and (state[:2] in {"08", "53"} or state in {"25006", "25P03", "25P04"})
    is_shutdown = state is not None and state.startswith("57P")
    has_no_state = state is None and type(error).__name__ in {"OperationalError", "InterfaceError"}
    if error.connection_invalidated or is_connection_class or is_shutdown or has_no_state:
        return _Failure.LOST
    return _Failure.POISONED


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
