"""What is measured: each cell is one way to use the service, or the yardstick, for some seconds."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import bulk, http_load, kernel, yardstick
from bench.database import Database
from bench.http_load import Load
from bench.serving import Service
from wallet_app import service

CONNECTIONS = (16, 64, 256)
OPEN_CONNECTIONS = 256
REPLAYS = 0.1
SHARES_OF_THROUGHPUT = (0.5, 0.8)


@dataclass(frozen=True)
class Distribution:
    """Which wallets are used how often."""

    name: str
    title: str
    zipf: float = 0.0


DISTRIBUTIONS = (
    Distribution("random", "random wallets"),
    Distribution("zipf1", "Zipf(1.0)", 1.0),
    Distribution("zipf2", "Zipf(2.0)", 2.0),
    Distribution("hot", "one hot wallet"),
)


@dataclass
class Stage:
    """What the cells play on, and what they have done to the books: `posted_min` to `posted_max` new entries."""

    database: Database
    folder: Path
    service: Service
    limited: Service
    wallet_ids: list[int]
    seconds: float
    posted_min: int = 0
    posted_max: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)
    """What each cell reached so far, a second."""

    def tag(self) -> str:
        """Return what begins the references of one cell, and of no other one."""
        return f"b{secrets.token_hex(4)}"

    def items(self, name: str) -> Path:
        """Return the file that says which wallets are used, or which paths are asked for."""
        return self.folder / name


@dataclass(frozen=True)
class Outcome:
    """What a cell came to. `in_process`: the service's CPU was this process's."""

    seconds: float
    operations: int
    failed: int
    latency: dict[str, float] = field(default_factory=dict)
    memory_bytes: int = 0
    in_process: bool = False


@dataclass(frozen=True)
class Cell:
    """One way of use. `measure` returns None where there is nothing to measure yet; `prepare` is not measured."""

    name: str
    title: str
    measure: Callable[[Stage], Outcome | None]
    prepare: Callable[[Stage], None] | None = None


def all_cells() -> Iterator[Cell]:
    """Yield the cells in the order of a round: the yardstick stands between what is compared with it."""
    for distribution in DISTRIBUTIONS:
        for connections in CONNECTIONS:
            yield _spends(distribution, connections)
        if distribution.name in ("random", "hot"):
            yield from (_yardstick(distribution, clients) for clients in yardstick.CLIENTS)
    yield Cell("replays-64", "spends, a tenth of them repeated, 64 connections", _replays)
    yield Cell("limited-64", "spends, random wallets, 64 connections, rate limit on", _limited)
    yield Cell("balance-64", "reads of a balance, 64 connections", _balances)
    yield Cell("bulk-1000", "POST /batches of 1,000 spends, one client", _bulk)
    yield from (_kernel(size) for size in kernel.SIZES)
    for share in SHARES_OF_THROUGHPUT:
        yield _open(DISTRIBUTIONS[0], share)
        yield _open(DISTRIBUTIONS[-1], share)


def ask(stage: Stage, load: Load, to: Service | None = None) -> Outcome:
    """Put a load on the service, and keep what it may have posted."""
    answers = http_load.run(to or stage.service, load)
    stage.posted_min += answers.posted_min
    stage.posted_max += answers.posted_max
    return Outcome(answers.seconds, answers.answered, answers.failed, answers.latency, answers.memory_bytes)


def _load(stage: Stage, distribution: Distribution, connections: int, **more: float) -> Load:
    items = stage.items("hot" if distribution.name == "hot" else "wallets")
    return Load("spend", items, connections, stage.seconds, stage.tag(), zipf=distribution.zipf, **more)


def _spends(distribution: Distribution, connections: int) -> Cell:
    def measure(stage: Stage) -> Outcome:
        return ask(stage, _load(stage, distribution, connections))

    title = f"spends, {distribution.title}, {connections} connections"
    return Cell(f"spend-{distribution.name}-{connections}", title, measure)


def _yardstick(distribution: Distribution, clients: int) -> Cell:
    def measure(stage: Stage) -> Outcome:
        done = yardstick.run(
            stage.database,
            stage.folder,
            pick=distribution.name,
            wallets=len(stage.wallet_ids),
            clients=clients,
            seconds=stage.seconds,
        )
        return Outcome(done.seconds, done.done, done.failed)

    return Cell(f"pgbench-{distribution.name}-{clients}", f"pgbench, {distribution.title}, {clients} clients", measure)


def _replays(stage: Stage) -> Outcome:
    return ask(stage, _load(stage, DISTRIBUTIONS[0], 64, replays=REPLAYS))


def _limited(stage: Stage) -> Outcome:
    return ask(stage, _load(stage, DISTRIBUTIONS[0], 64), stage.limited)


def _balances(stage: Stage) -> Outcome:
    return ask(stage, Load("balance", stage.items("wallets"), 64, stage.seconds, stage.tag()))


def _bulk(stage: Stage) -> Outcome | None:
    if not bulk.exists(stage.service):
        return None
    done = bulk.run(stage.service, wallet_ids=stage.wallet_ids, seconds=stage.seconds, tag=stage.tag())
    stage.posted_min += done.done
    stage.posted_max += done.sent
    middle = {"50": statistics.median(done.milliseconds), "max": max(done.milliseconds)}
    return Outcome(done.seconds, done.done, done.sent - done.done, middle, stage.service.tree.memory_bytes())


def _kernel(size: int) -> Cell:
    def measure(stage: Stage) -> Outcome:
        return post(stage, size=size, kind=service.Spend, seconds=stage.seconds)

    return Cell(f"kernel-{size}", f"the kernel alone, batches of {size:,}", measure)


def post(stage: Stage, *, size: int, kind: type[service.Movement], seconds: float) -> Outcome:
    """Post batches by the kernel alone for so long, at least one, and keep what they came to."""
    done = kernel.run(stage.wallet_ids, size=size, seconds=seconds, tag=stage.tag(), kind=kind)
    stage.posted_min += done.done
    stage.posted_max += done.sent
    return Outcome(done.seconds, done.done, done.sent - done.done, in_process=True)


def _open(distribution: Distribution, share: float) -> Cell:
    def measure(stage: Stage) -> Outcome | None:
        rates = stage.rates.get(f"spend-{distribution.name}-64")
        if not rates:
            return None
        rate = round(statistics.median(rates) * share)
        return ask(stage, _load(stage, distribution, OPEN_CONNECTIONS, rate=rate))

    title = f"spends, {distribution.title}, open loop at {share:.0%} of the rate with 64 connections"
    return Cell(f"open-{distribution.name}-{share * 100:.0f}", title, measure)
