"""From commands to answers: the unit of work around a posting, and what is done when it fails.

The answer is given after COMMIT and never before. Whatever happens to the connection, the same commands are run again
under the locks: what was committed then answers as a replay. A bare look-up would not do: while the first COMMIT is
still in flight it finds nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from enum import Enum, auto

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app.db import CommitNotReplicatedError, unit_of_work
from wallet_app.errors import (
    DatabaseUnavailableError,
    OutcomeUnknownError,
    WalletBusyError,
    WalletServiceError,
)
from wallet_app.service import posting
from wallet_app.service.books import Receipt
from wallet_app.service.commands import Command
from wallet_app.service.posting import Clock, Outcome

log = structlog.get_logger("wallet")

REQUEST_SECONDS_MAX = 10.0
BATCH_MAX = 1_000
_CONFLICTS_MAX = 2
_RECONNECTS_MAX = 2


class _Failure(Enum):
    CONFLICT = auto()  # the database chose this transaction as a victim; nothing was posted
    BUSY = auto()  # a wait ran out; nothing was posted
    CROWDED = auto()  # no connection was free; nothing was posted
    LOST = auto()  # the connection is gone, or there is none
    POISONED = auto()  # one of the commands cannot be written


def execute(command: Command, *, seconds_max: float = REQUEST_SECONDS_MAX) -> Receipt:
    """Post one command and return its receipt; raise the WalletServiceError that it declines with.

    Locks the command's wallets. After `seconds_max` an UnavailableError tells what is known.
    """
    outcome = execute_batch([command], seconds_max=seconds_max)[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def execute_batch(
    commands: Sequence[Command], *, seconds_max: float = REQUEST_SECONDS_MAX, clock: Clock | None = None
) -> list[Outcome]:
    """Post up to BATCH_MAX commands in one unit of work, each answered on its own, in order.

    A command that cannot be written for a reason of its own is an exception among the outcomes and leaves the others
    alone. Locks all wallets of the batch at once.
    """
    if len(commands) > BATCH_MAX:
        raise ValueError(f"a batch has at most {BATCH_MAX} commands, not {len(commands)}")
    return _Attempts(commands, time.monotonic() + seconds_max, clock).run()


class _Attempts:
    """The attempts to post one batch, and what they have told so far about its outcome."""

    def __init__(self, commands: Sequence[Command], deadline: float, clock: Clock | None) -> None:
        self._commands = commands
        self._deadline = deadline
        self._clock = clock
        self._conflicts = 0
        self._reconnects = 0
        self._heals = 0
        self._in_doubt = False

    def run(self) -> list[Outcome]:
        while True:
            committing = False
            try:
                with unit_of_work() as connection:
                    outcomes = posting.post(connection, self._commands, clock=self._clock)
                    committing = True
            except posting.MissingBalancesError as missing:
                if (answer := self._heal(missing)) is not None:
                    return answer
            except CommitNotReplicatedError:
                log.error("commit_not_replicated", commands=len(self._commands))
                self._in_doubt = True
                return self._all(self._give_up(_Failure.LOST))
            except PoolTimeoutError:
                if not self._in_doubt or time.monotonic() > self._deadline:
                    return self._all(self._give_up(_Failure.CROWDED))
            except DBAPIError as error:
                if (answer := self._after(error, committing=committing)) is not None:
                    return answer
            except Exception as error:
                return self._one_by_one(error)
            else:
                return outcomes

    def _after(self, error: DBAPIError, *, committing: bool) -> list[Outcome] | None:
        """Return the batch's answer, or None when it is to be tried again."""
        failure = _classify(error)
        if failure is _Failure.POISONED:
            return self._one_by_one(error)
        if failure is _Failure.CONFLICT:
            # Locks are taken in order, so a deadlock is a fault of ours: it is logged, and still answered rightly.
            self._conflicts += 1
            log.error("posting_conflict", sqlstate=_sqlstate(error), attempt=self._conflicts)
        if failure is _Failure.LOST:
            self._in_doubt = self._in_doubt or committing
            self._reconnects += 1
            log.warning("connection_lost", committing=committing, attempt=self._reconnects)
        if time.monotonic() > self._deadline or not (self._in_doubt or self._may_retry(failure)):
            return self._all(self._give_up(failure))
        time.sleep(random.uniform(0.005, 0.05) * (1 + self._conflicts + min(self._reconnects, 10)))  # noqa: S311
        return None

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

    def _heal(self, missing: posting.MissingBalancesError) -> list[Outcome] | None:
        self._heals += 1
        log.warning("balances_missing", wallet_ids=list(missing.wallet_ids[:10]), count=len(missing.wallet_ids))
        if self._heals > _RECONNECTS_MAX:
            return self._all(self._give_up(_Failure.BUSY))
        try:
            with unit_of_work() as connection:
                posting.heal(connection, missing.wallet_ids)
        except CommitNotReplicatedError:
            # The rows only repeat the ledger; the posting that follows has a COMMIT of its own to be confirmed.
            return None
        except PoolTimeoutError:
            return self._all(self._give_up(_Failure.CROWDED))
        except DBAPIError as error:
            return self._after(error, committing=False)
        return None

    def _one_by_one(self, error: Exception) -> list[Outcome]:
        if self._in_doubt:
            return self._all(self._give_up(_Failure.LOST))
        if len(self._commands) == 1:
            log.error("posting_failed", kind=self._commands[0].kind, exc_info=error)
            return [error]
        log.error("batch_poisoned", commands=len(self._commands), error=type(error).__name__)
        return [self._alone(command) for command in self._commands]

    def _alone(self, command: Command) -> Outcome:
        # Each may wait for its wallet, so without this a long batch would go on for minutes after its deadline.
        if time.monotonic() > self._deadline:
            return WalletBusyError(
                "The time ran out before this command's turn came; nothing was posted. Repeat with the same reference."
            )
        return _Attempts([command], self._deadline, self._clock).run()[0]

    def _all(self, error: WalletServiceError) -> list[Outcome]:
        return [error] * len(self._commands)


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
