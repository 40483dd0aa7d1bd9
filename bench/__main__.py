"""`make bench`: the service beside pgbench, in rounds; exits 1 when the books are not right or a cell failed."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path
from typing import Any

from bench import books, cells, machine, plots, report, rounds
from bench.command import run_command
from bench.database import new_database, open_server
from bench.http_load import require_wrk
from bench.rounds import to_stderr
from bench.yardstick import find_pgbench


def main() -> int:
    """Run what the command line asks for."""
    asked = _arguments()
    return run_command(lambda: _run(asked), require_wrk, find_pgbench)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each cell runs (default: 5)")
    parser.add_argument("--seconds", type=float, default=5, help="how long a cell runs (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round of cells of 2 seconds: to try it out")
    parser.add_argument("--only", default="*", metavar="PATTERNS", help="cells, as in 'spend-*-64,pgbench-*'")
    parser.add_argument("--list", action="store_true", help="print the names of the cells, and no more")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier result's JSON file")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where the result is written")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the data lies meanwhile")  # noqa: S108
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds = 1, 2
    return asked


def _run(asked: argparse.Namespace) -> int:
    patterns = asked.only.split(",")
    chosen = [cell for cell in cells.all_cells() if any(fnmatch.fnmatch(cell.name, one) for one in patterns)]
    if asked.list:
        print("\n".join(f"{cell.name:<20}{cell.title}" for cell in chosen))
        return 0
    here = machine.describe()
    machine.warn_if_busy(here)
    with open_server(asked.folder) as (server, folder), new_database(server) as database:
        settings = database.settings() | {
            "data": server.where,
            "sync_ms": machine.sync_milliseconds(folder),
            "rounds": asked.rounds,
            "seconds": asked.seconds,
            "wallets": rounds.WALLETS,
        }
        _show({"machine": here, "settings": settings})
        with rounds.open_stage(database, folder, seconds=asked.seconds) as stage:
            entries_before = books.count_entries(database)
            measured = rounds.run(stage, chosen, asked.rounds, tell=to_stderr)
            to_stderr("Verifying the books.")
            faults, checked = books.faults(
                database,
                entries_min=entries_before + stage.posted_min,
                entries_max=entries_before + stage.posted_max,
            )
    report.show(measured)
    if asked.compare:
        report.compare(measured, asked.compare)
    stem = report.stem(here)
    cells_json = report.as_json(measured)
    result = {"machine": here, "settings": settings, "cells": cells_json, "ratios": report.ratios(measured)}
    file = report.save(asked.results, stem, result | {"books": checked})
    drawn = plots.draw(measured, file.with_suffix(""))
    return _conclude(faults, checked, measured, [file, *drawn])


def _show(facts: dict[str, dict[str, Any]]) -> None:
    for title, values in facts.items():
        print(f"{title}:", ", ".join(f"{name} {value}" for name, value in values.items()))


def _conclude(
    faults: list[str], checked: dict[str, Any], measured: dict[str, rounds.Measured], files: list[Path]
) -> int:
    print(
        f"\n{checked['entries']:,} entries, from {checked['entries_min']:,} to {checked['entries_max']:,} expected; "
        f"verify --full took {checked['verify_seconds']} s."
    )
    for fault in faults:
        print(f"THE BOOKS ARE NOT RIGHT: {fault}")
    failed = [name for name, cell in measured.items() if any(sample["failed"] for sample in cell.samples)]
    if failed:
        print(f"Cells with failures: {', '.join(failed)}.")
    if not faults:
        print("Money is conserved and the verification is clean.")
    print("Written:", *files, sep="\n  ")
    return 1 if faults or failed else 0


if __name__ == "__main__":
    sys.exit(main())
