"""`make drill`: kills of every kind under load, and controls that must fail; exits 1 if anything is lost or doubled."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from pathlib import Path

from drill import controls, report
from drill.checks import Findings
from drill.kills import KINDS
from drill.service import DrillError
from drill.stage import Stage, Struck, open_stage

KILL_SECONDS = 6
"""About what a kill takes, with the load before and the look after it; for the announcement alone."""


def main() -> int:
    """Run what the command line asks for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that nothing is left running.
    asked = _arguments()
    minutes = (len(asked.kinds) * asked.kills * KILL_SECONDS + 60) / 60
    print(f"{asked.kills} kills of each of {len(asked.kinds)} kinds: about {minutes:.0f} minutes. Seed {asked.seed}.")
    try:
        return _run(asked)
    except KeyboardInterrupt:
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many of each kind (default: 20)")
    parser.add_argument("--kinds", type=_kinds, default=list(KINDS), help=f"of {','.join(KINDS)} (default: all)")
    parser.add_argument("--no-controls", action="store_true", help="leave out the controls")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="what the clients and kills draw from"
    )
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where the result is written")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the data lies meanwhile")  # noqa: S108
    return parser.parse_args()


def _kinds(names: str) -> list[str]:
    found = names.split(",")
    if unknown := [name for name in found if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]}")
    return found


def _run(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    struck: list[Struck] = []
    silent: list[str] = []
    with open_stage(asked.folder, seed=asked.seed) as stage:
        findings = _kill_and_settle(stage, asked, struck)
        known = {
            "acknowledged": len(stage.known.acknowledged),
            "declined": len(stage.known.declined),
            "broken_off": stage.known.broken,
            "replayed_by_service": stage.known.replayed_by_service,
            "entries": len(stage.ledger.posted),
            "errors_logged": stage.service.errors_logged(),
        }
        if not asked.no_controls and not findings:
            silent = _control(stage, asked)
    print(f"\n{report.table(struck)}\n")
    seconds = round(time.monotonic() - began)
    _conclude(findings, known, silent, seconds)
    faults = {"lost": findings.lost, "doubled": findings.doubled, "wrong": findings.wrong, "silent_controls": silent}
    arguments = {"kills_of_each": asked.kills, "seed": asked.seed, "seconds": seconds}
    print("Written:", report.save(asked.results, arguments | known | faults, struck))
    return 1 if findings or silent else 0


def _kill_and_settle(stage: Stage, asked: argparse.Namespace, struck: list[Struck]) -> Findings:
    try:
        stage.press(seed=asked.seed)
        _strike_all(stage, asked, struck)
        print("Asking for everything once more, and verifying the books.", flush=True)
        return stage.settle()
    except DrillError as problem:
        # What was found until then may well be the reason.
        stage.findings.wrong.append(str(problem))
        return stage.findings.distinct()


def _strike_all(stage: Stage, asked: argparse.Namespace, struck: list[Struck]) -> None:
    print(report.head())
    for number in range(1, asked.kills + 1):
        for name in stage.dice.sample(asked.kinds, len(asked.kinds)):
            struck.append(stage.strike(KINDS[name]))
            print(report.line(number, struck[-1]), flush=True)


def _control(stage: Stage, asked: argparse.Namespace) -> list[str]:
    """Return the names of the controls in which nothing was found, though there was something."""
    print("Controls, in each of which something must be found:")
    found = {
        "a client that repeats under a new reference": controls.retry_under_a_new_reference(stage),
        "an acknowledgement that never was": controls.claim_what_never_happened(stage),
        "synchronous_commit off, and all of PostgreSQL killed": controls.lose_what_was_not_flushed(
            asked.folder, seed=asked.seed
        ),
    }
    for name, faults in found.items():
        print(f"  {name}: {f'{len(faults)} found, as in: {faults[0]}' if faults else 'NOTHING FOUND'}")
    return [name for name, faults in found.items() if not faults]


def _conclude(findings: Findings, known: dict[str, object], silent: list[str], seconds: int) -> None:
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items()), f"in {seconds} s.")
    if findings:
        print(report.tell(findings))
    for name in silent:
        print(f"THE DRILL IS BROKEN: nothing was found with {name}.")
    if not findings and not silent:
        print("Every acknowledged write is there once, with the version and balance that it was told.")


if __name__ == "__main__":
    sys.exit(main())
