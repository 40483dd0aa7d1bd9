"""What is counted, and how: once for each batch and not for each command, because a command has no time to spare."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import product

from wallet_app.metrics.rows import Rows

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COMMANDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

_LANES = ("lane", ("shared", "waiting", "bulk", "alone"))
_SINGLE = ("lane", ("shared", "waiting"))
_QUEUES = ("lane", ("shared", "waiting", "bulk"))
_POOLS = ("pool", ("postings", "reads"))
_FAILURES = ("reason", ("conflict", "busy", "crowded", "lost", "poisoned", "missing", "not_replicated"))

Label = tuple[str, Sequence[str]]


class Kind(Enum):
    """How the processes' numbers become one."""

    COUNTER = auto()
    HISTOGRAM = auto()
    SUM = auto()  # a gauge of which each process has its share
    LARGEST = auto()  # a gauge of which the worst process is told


@dataclass(frozen=True, eq=False)
class Family:
    """One figure for each combination of its labels' values; a histogram has its buckets, and then the sum."""

    kind: Kind
    name: str
    says: str
    labels: Sequence[Label] = ()
    bounds: Sequence[float] = ()
    places: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Where each combination's numbers begin in a row."""

    @property
    def width(self) -> int:
        """How many numbers a combination has; the buckets end with the one that has no bound."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1

    def add(self, *values: str, amount: int = 1) -> None:
        """Count `amount` more."""
        with rows.guard:
            rows.own()[self.places[values]] += amount

    def put(self, *values: str, number: float) -> None:
        """Say how much there is now."""
        with rows.guard:
            rows.own()[self.places[values]] = number

    def observe(self, numbers: Sequence[float], *values: str) -> None:
        """Put the numbers into their buckets; many are hardly more work than one."""
        place, bounds = self.places[values], self.bounds
        ordered = sorted(numbers)
        with rows.guard:
            row = rows.own()
            row[place + len(bounds) + 1] += math.fsum(ordered)
            done = 0
            while done < len(ordered):
                bucket = bisect_left(bounds, ordered[done])
                upto = bisect_right(ordered, bounds[bucket], done) if bucket < len(bounds) else len(ordered)
                row[place + bucket] += upto - done
                done = upto


BATCH_COMMANDS = Family(
    Kind.HISTOGRAM,
    "wallet_group_commit_batch_commands",
    "Commands that shared a database transaction.",
    (_LANES,),
    _COMMANDS,
)
QUEUE_SECONDS = Family(
    Kind.HISTOGRAM,
    "wallet_group_commit_queue_seconds",
    "How long a command waited until a lane took it; for bulk work, until its turn came.",
    (_QUEUES,),
    _SECONDS,
)
DEFERRED = Family(
    Kind.COUNTER,
    "wallet_group_commit_deferred",
    "Commands that found their wallet held by another posting and went on waiting.",
    (_SINGLE,),
)
WITHDRAWN = Family(
    Kind.COUNTER,
    "wallet_group_commit_withdrawn",
    "Commands whose time ran out before a lane took them; nothing was posted.",
    (_SINGLE,),
)
REFUSED = Family(
    Kind.COUNTER,
    "wallet_group_commit_refused",
    "Commands, or pieces of bulk work, that were refused because too many waited already.",
    (("lane", ("shared", "bulk")),),
)
QUEUED = Family(
    Kind.SUM,
    "wallet_group_commit_queued",
    "Commands that wait for a lane now.",
    (_SINGLE,),
)
OLDEST_SECONDS = Family(
    Kind.LARGEST,
    "wallet_group_commit_oldest_seconds",
    "How long the oldest of them has waited.",
    (_SINGLE,),
)
POSTING_SECONDS = Family(
    Kind.HISTOGRAM,
    "wallet_posting_seconds",
    "How long a batch took from its first statement until its COMMIT was known, attempts that failed included.",
    (_LANES,),
    _SECONDS,
)
FAILURES = Family(
    Kind.COUNTER,
    "wallet_posting_failures",
    "Attempts to post that failed. After conflict, lost and missing there is another attempt.",
    (_LANES, _FAILURES),
)
CONNECTIONS_IN_USE = Family(
    Kind.SUM,
    "wallet_db_connections_in_use",
    "Database connections of the pools that are in use now.",
    (_POOLS,),
)
CONNECTIONS_MAX = Family(
    Kind.SUM,
    "wallet_db_connections_max",
    "Database connections that the pools may hold.",
    (_POOLS,),
)
SILENT = Family(
    Kind.COUNTER,
    "wallet_db_silent",
    "Connections that were given up because the database owed an answer for too long.",
)
UNAUTHENTICATED = Family(
    Kind.COUNTER,
    "wallet_unauthenticated",
    "Requests without a credential, with what cannot be one, or with a key or user token that is no good or no more.",
    (("reason", ("absent", "malformed", "unknown", "token")),),
)

FAMILIES = (
    BATCH_COMMANDS,
    QUEUE_SECONDS,
    DEFERRED,
    WITHDRAWN,
    REFUSED,
    QUEUED,
    OLDEST_SECONDS,
    POSTING_SECONDS,
    FAILURES,
    CONNECTIONS_IN_USE,
    CONNECTIONS_MAX,
    SILENT,
    UNAUTHENTICATED,
)


def _lay_out() -> int:
    """Give each figure its place in a row, after the process's id, and return how wide a row is."""
    place = 1
    for family in FAMILIES:
        for values in product(*(values for _, values in family.labels)):
            family.places[values] = place
            place += family.width
    return place


GAUGES = tuple(family for family in FAMILIES if family.kind in {Kind.SUM, Kind.LARGEST})
rows = Rows(_lay_out(), passing=[place for gauge in GAUGES for place in gauge.places.values()])
