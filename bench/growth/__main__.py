"""`make bench-growth`: the same work on ledgers of 10^4, 10^6 and 10^7 entries, in rounds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import books, machine, plots, report, rounds
from bench.cells import Stage
from bench.command import run_command
from bench.database import Database, application, migrate, new_database, open_server
from bench.growth import plans, steps
from bench.growth.history import History
from bench.growth.report import show
from bench.http_load import require_wrk
from bench.rounds import Measured, to_stderr
from bench.serving import serve
from bench.wallets import make_wallets
from wallet_app import service

SIZES = (10_000, 1_000_000, 10_000_000)
ALWAYS_COPIED = 100_000
"""Up to so many entries a round works on a copy: what it posts would make a small ledger another one."""


def main() -> int:
    """Run what the command line asks for."""
    asked = _arguments()
    return run_command(lambda: _run(asked), require_wrk)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--up-to", type=float, default=SIZES[-1], help="the largest number of entries (default: 1e7)")
    parser.add_argument("--wallets", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--rounds", type=int, default=5, help="how often each cell runs (default: 5)")
    parser.add_argument("--seconds", type=float, default=3, help="how long a cell runs (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round, 1,000 wallets, 10^3 and 10^4 entries")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where the result is written")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the data lies meanwhile")  # noqa: S108
    asked = parser.parse_args()
    asked.sizes = [size for size in SIZES if size <= asked.up_to]
    if asked.quick:
        asked.sizes, asked.wallets, asked.rounds, asked.seconds = [1_000, 10_000], 1_000, 1, 1
    return asked


def _run(asked: argparse.Namespace) -> int:
    here = machine.describe()
    machine.warn_if_busy(here)
    measured: dict[int, dict[str, Measured]] = {size: {} for size in asked.sizes}
    texts: dict[int, str] = {}
    faults: list[str] = []
    with ExitStack() as opened:
        server, folder = opened.enter_context(open_server(asked.folder))
        settings = server.settings() | {"data": server.where, "wallets": asked.wallets, "seconds": asked.seconds}
        print(f"machine: {here}\nsettings: {settings}")
        history, ledgers, full = _make(opened, server, asked)
        for number in range(1, asked.rounds + 1):
            for size, database in ledgers.items():
                with _stage(server, database, folder, history, asked.seconds, copy=size <= ALWAYS_COPIED) as stage:
                    _measure(stage, size, measured[size], f"round {number}/{asked.rounds}, {size:,} entries")
                    if number == asked.rounds:
                        texts[size] = plans.explain(stage, history.deep_wallet)
                        faults += _faults(size)
    show(measured, full)
    cells = {f"{name}@{size}": cell for size, found in measured.items() for name, cell in found.items()}
    result = {"machine": here, "settings": settings, "cells": report.as_json(cells), "verify_full_seconds": full}
    file = report.save(asked.results, report.stem(here, "growth-"), result | {"faults": faults})
    explained = file.with_suffix(".plans.txt")
    explained.write_text("\n\n".join(f"# {size:,} entries\n\n{text}" for size, text in texts.items()) + "\n")
    drawn = plots.draw_growth(measured, file.with_suffix(""))
    print("Written:", file, explained, *drawn, sep="\n  ")
    for fault in faults:
        print(f"THE BOOKS ARE NOT RIGHT: {fault}")
    failed = any(sample["failed"] for cell in cells.values() for sample in cell.samples)
    return 1 if faults or failed else 0


def _make(
    opened: ExitStack, server: Database, asked: argparse.Namespace
) -> tuple[History, dict[int, Database], dict[int, float]]:
    """Return a database for each size, each a copy of the one before that has grown, and each verified in full."""
    database = opened.enter_context(new_database(server))
    migrate(database)
    history = History(make_wallets(database, asked.wallets))
    ledgers: dict[int, Database] = {}
    full: dict[int, float] = {}
    for size in asked.sizes:
        if ledgers:
            database = opened.enter_context(new_database(server, template=database.name))
        began = time.monotonic()
        history.grow(database, size, tell=to_stderr)
        to_stderr(f"Made in {time.monotonic() - began:.0f} s. Verifying all of it.")
        with application(database):
            verified = service.verify(full=True)
        if not verified.is_clean:
            raise RuntimeError(f"The generated ledger is not right: {_examples(verified)}")
        full[size] = round(verified.seconds, 1)
        to_stderr(f"Verified in {verified.seconds:.0f} s: {_slowest(verified)}.")
        ledgers[size] = database
    return history, ledgers, full


def _examples(verified: service.VerifyReport) -> str:
    broken = [finding for finding in verified.findings.values() if finding.faults]
    return "; ".join(f"{one.name}, {one.faults} times: {', '.join(map(str, one.examples))}" for one in broken)


def _slowest(verified: service.VerifyReport) -> str:
    findings = sorted(verified.findings.values(), key=lambda finding: -finding.seconds)[:5]
    return ", ".join(f"{finding.name} {finding.seconds:.1f} s" for finding in findings)


@contextmanager
def _stage(
    server: Database, database: Database, folder: Path, history: History, seconds: float, *, copy: bool
) -> Iterator[Stage]:
    with ExitStack() as opened:
        if copy:
            database = opened.enter_context(new_database(server, template=database.name))
        running = opened.enter_context(serve(database, folder, WALLET_RATE_LIMIT_KEY=""))
        opened.enter_context(application(database))
        stage = Stage(database, folder, running, running, history.wallet_ids, seconds)
        stage.items("wallets").write_text("".join(f"{wallet_id}\n" for wallet_id in history.wallet_ids))
        steps.write_paths(stage, history.deep_wallet)
        yield stage


def _measure(stage: Stage, size: int, measured: dict[str, Measured], title: str) -> None:
    before = books.count_entries(stage.database)
    cold, *warm = steps.all_cells()
    for cell in [cold, *warm]:
        if cell is warm[0]:
            steps.warm_up(stage, min(size, len(stage.wallet_ids)))
            cell.measure(stage)  # To warm the service up: what it posts is in the books, its speed nowhere.
        sample = rounds.measure(stage, cell)
        if sample is not None:
            sample["entries"] = before + stage.posted_max
            measured.setdefault(cell.name, Measured(cell.title)).samples.append(sample)
        to_stderr(f"{title}  {cell.name:<16}{rounds.in_words(sample)}")


def _faults(size: int) -> list[str]:
    found = service.verify().findings.values()
    return [f"{size:,} entries, {finding.name}: {fault}" for finding in found for fault in finding.examples]


if __name__ == "__main__":
    sys.exit(main())
