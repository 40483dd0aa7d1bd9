"""Has the rows posted, or previewed, chunk by chunk, and their results written; bears a database that goes away."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from wallet_app import service
from wallet_app.errors import DatabaseUnavailableError, OutcomeUnknownError, UnavailableError, WalletServiceError
from wallet_app.imports.result_file import ResultFile
from wallet_app.imports.results import Outcome, result_of
from wallet_app.imports.source import Row, UnreadableRowError
from wallet_app.service import Command, Receipt

BUSY_ATTEMPTS_MAX = 6
AWAY_SECONDS_MAX = 600.0
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.1, 5.0

T = TypeVar("T")

Asked = Command | WalletServiceError
"""A row's command, or why it has none."""

Read = Callable[[Sequence[object]], Sequence[Asked]]
"""Makes the commands of records, in order."""

Decide = Callable[[Sequence[Command]], Sequence[Outcome]]
"""Answers a chunk's commands in order; what answers only until the first that is not accepted returns fewer."""


class CutOffError(Exception):
    """The run ended within a chunk, for the reason in the message. What its result file says is so."""


def run(
    rows: Iterable[Row],
    results: ResultFile,
    read: Read,
    decide: Decide,
    *,
    progress: Callable[[int], object],
    stop: threading.Event,
    stop_on_error: bool,
) -> bool:
    """Have all rows read, decided and their results written; return whether it came to the end.

    It ends early after a chunk when `stop` is set, or with the first row that is not accepted if `stop_on_error`.
    """
    rows = iter(rows)
    not_accepted = results.tally.not_accepted
    while chunk := list(itertools.islice(rows, service.BATCH_MAX)):
        asked = _asked(chunk, read)
        if stop_on_error:
            asked = list(_to_first(asked, lambda one: not isinstance(one, Command)))
        outcomes = _outcomes(asked, decide)
        if stop_on_error:
            outcomes = _to_first(outcomes, lambda outcome: not isinstance(outcome, Receipt))
        done = [(row, result_of(outcome)) for row, outcome in zip(chunk, outcomes, strict=False)]
        results.append(done)
        progress(len(done))
        if stop.is_set() or (stop_on_error and results.tally.not_accepted > not_accepted):
            return len(done) == len(chunk) and next(rows, None) is None
    return True


def _asked(chunk: Sequence[Row], read: Read) -> list[Asked]:
    """Return what the rows ask for, in order. They are read together: what they name is looked up once."""
    commands = iter(read([row.record for row in chunk if not isinstance(row.record, UnreadableRowError)]))
    return [row.record if isinstance(row.record, UnreadableRowError) else next(commands) for row in chunk]


def _outcomes(chunk: Sequence[Asked], decide: Decide) -> Iterator[Outcome]:
    """Yield the rows' outcomes in order: what the books say, or why they could not even be asked."""
    commands = [asked for asked in chunk if isinstance(asked, Command)]
    decided = iter(decide(commands) if commands else ())
    for asked in chunk:
        if not isinstance(asked, Command):
            yield asked
        elif (outcome := next(decided, None)) is not None:
            yield outcome


def _to_first(items: Iterable[T], is_wanted: Callable[[T], bool]) -> Iterator[T]:
    """Yield the items to the first that is wanted, with it."""
    for item in items:
        yield item
        if is_wanted(item):
            return


class Posting:
    """Posts chunks, and repeats what could not be decided: the references see to it that nothing is posted twice.

    `say` is told when the database is waited for, and when that is over; `stop` ends a wait.
    """

    def __init__(self, *, say: Callable[[str], object], stop: threading.Event) -> None:
        self._say = say
        self._stop = stop

    def each(self, commands: Sequence[Command]) -> list[Outcome]:
        """Return the commands' outcomes, in order. Raises CutOffError."""
        outcomes = service.execute_each(commands)
        patience = _Patience(self._say, self._stop)
        while places := [at for at, outcome in enumerate(outcomes) if isinstance(outcome, UnavailableError)]:
            if not patience.may_repeat([outcomes[at] for at in places]):
                break
            for at, outcome in zip(places, service.execute_each([commands[at] for at in places]), strict=True):
                outcomes[at] = outcome
        patience.end()
        return outcomes

    def until_refused(self, commands: Sequence[Command]) -> list[Outcome]:
        """Return the outcomes up to the first command that is not accepted; the others are not posted.

        Raises CutOffError.
        """
        patience = _Patience(self._say, self._stop)
        accepted, refused = commands, list[Outcome]()
        while accepted:
            try:
                receipts = service.execute_atomic(accepted)
            except service.BatchRefusedError as first:
                accepted, refused = accepted[: first.index], [first.error]
            except UnavailableError as unavailable:
                if not patience.may_repeat([unavailable]):
                    accepted, refused = [], [unavailable]
            else:
                patience.end()
                return [*receipts, *refused]
        return refused


class _Patience:
    """How long a chunk is repeated: a few times for wallets that are busy, minutes for a database that is away."""

    def __init__(self, say: Callable[[str], object], stop: threading.Event) -> None:
        self._say = say
        self._stop = stop
        self._attempts = 0
        self._away_since: float | None = None

    def may_repeat(self, outcomes: Sequence[Outcome]) -> bool:
        """Wait a little and tell whether one more attempt is due. Raises CutOffError when nothing can be done."""
        self._attempts += 1
        if any(isinstance(outcome, DatabaseUnavailableError | OutcomeUnknownError) for outcome in outcomes):
            self._bear_absence()
        elif self._attempts > BUSY_ATTEMPTS_MAX:
            return False
        pause = min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS_MIN * 2 ** min(self._attempts, 10))
        if self._stop.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311
            raise CutOffError("Stopped while it waited.")
        return True

    def _bear_absence(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._say(f"The database does not answer: waiting for it, for {AWAY_SECONDS_MAX / 60:.0f} minutes at most.")
        elif time.monotonic() - self._away_since > AWAY_SECONDS_MAX:
            raise CutOffError("The database did not come back.")

    def end(self) -> None:
        """Say that the database is back, if it was away."""
        if self._away_since is not None:
            self._say("The database answers again.")
