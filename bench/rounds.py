"""Runs the cells in rounds, each cell once a round, so that what the machine does meanwhile hits all of them alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import cells, usage, yardstick
from bench.cells import Cell, Outcome, Stage
from bench.database import Database, application, migrate
from bench.serving import Service, serve
from bench.wallets import fill, make_wallets, shuffled

WALLETS = 10_000
LIMIT_NEVER_REACHED = "100000000 per minute"
Sample = dict[str, Any]


@dataclass
class Measured:
    """All samples of a cell. One with failures has no rate: it is a fault, not a speed."""

    title: str
    samples: list[Sample] = field(default_factory=list)


@contextmanager
def open_stage(database: Database, folder: Path, *, seconds: float) -> Iterator[Stage]:
    """Make the wallets and the yardstick's tables, and start the service: without a rate limit, and with one."""
    migrate(database)
    wallet_ids = shuffled(make_wallets(database, WALLETS))
    fill(database, wallet_ids)
    yardstick.make_tables(database, WALLETS)
    with database.connect() as connection:
        connection.execute("VACUUM ANALYZE")
    (folder / "wallets").write_text("".join(f"{wallet_id}\n" for wallet_id in wallet_ids))
    (folder / "hot").write_text(f"{wallet_ids[0]}\n")
    with (
        serve(database, folder, WALLET_RATE_LIMIT_KEY="") as service,
        serve(database, folder, WALLET_RATE_LIMIT_KEY=LIMIT_NEVER_REACHED) as limited,
        application(database),
    ):
        yield Stage(database, folder, service, limited, wallet_ids, seconds)


def run(stage: Stage, chosen: Sequence[Cell], rounds: int, *, tell: Callable[[str], None]) -> dict[str, Measured]:
    """Warm up, run every cell once a round, and return what was measured, by the cell's name."""
    tell("Warming up.")
    for cell in cells.all_cells():
        if cell.name in {"spend-random-64", "pgbench-random-16", "kernel-256"}:
            cell.measure(stage)
    measured: dict[str, Measured] = {}
    for number in range(1, rounds + 1):
        for cell in chosen:
            sample = measure(stage, cell)
            if sample is not None:
                measured.setdefault(cell.name, Measured(cell.title)).samples.append(sample)
            tell(f"round {number}/{rounds}  {cell.name:<20}{in_words(sample)}")
    return measured


def measure(stage: Stage, cell: Cell) -> Sample | None:
    """Run the cell and return what it came to, with the CPU that everybody used meanwhile; None if it was left out."""
    service = stage.limited if cell.name.startswith("limited") else stage.service
    if cell.prepare is not None:
        cell.prepare(stage)
    lanes_before, before = service.group_commit_figures(), _cpu(stage, service)
    own_before = usage.own_cpu_seconds()
    outcome = cell.measure(stage)
    used = {"client": usage.own_cpu_seconds() - own_before}
    if outcome is None:
        return None
    used |= {name: seconds - before[name] for name, seconds in _cpu(stage, service).items()}
    lanes = {name: value - lanes_before.get(name, 0.0) for name, value in service.group_commit_figures().items()}
    service.empty_log()
    if cell.name.startswith("pgbench"):
        del used["service"]
    if outcome.in_process:
        used["service"], used["client"] = used["client"], 0.0
    if not outcome.failed:
        stage.rates.setdefault(cell.name, []).append(outcome.operations / outcome.seconds)
    return _sample(outcome, used, lanes)


def _cpu(stage: Stage, service: Service) -> dict[str, float]:
    postgres = stage.database.postgres_id
    used = {"service": service.tree.cpu_seconds()}
    return used | ({"postgres": usage.Tree(postgres).cpu_seconds()} if postgres else {})


def _sample(outcome: Outcome, used: dict[str, float], lanes: dict[str, float]) -> Sample:
    operations = max(outcome.operations, 1)
    return {
        "rate": None if outcome.failed else round(outcome.operations / outcome.seconds, 1),
        "operations": outcome.operations,
        "failed": outcome.failed,
        "seconds": round(outcome.seconds, 3),
        "latency_ms": {name: round(value, 2) for name, value in outcome.latency.items()},
        "cpu_us": {name: round(seconds / operations * 1e6, 1) for name, seconds in used.items()},
        "memory_mib": round(outcome.memory_bytes / 2**20, 1),
        "lanes": lanes,
        "batch_mean": _batch_mean(lanes),
    }


def _batch_mean(lanes: dict[str, float]) -> float | None:
    """Return commands per batch, where the service tells: from a histogram's sum and count."""
    for name in lanes:
        stem, found, _ = name.rpartition("_sum")
        if found and "batch" in stem and "second" not in stem and lanes.get(f"{stem}_count"):
            return round(lanes[name] / lanes[f"{stem}_count"], 1)
    return None


def in_words(sample: Sample | None) -> str:
    """Return what a line of progress says of it."""
    if sample is None:
        return "left out: there is nothing to measure"
    if sample["failed"]:
        return f"FAILED: {sample['failed']} of {sample['operations'] + sample['failed']}"
    return f"{sample['rate']:>10,.0f}/s" if sample["rate"] >= 10 else f"{sample['rate']:>10,.2f}/s"


def to_stderr(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
