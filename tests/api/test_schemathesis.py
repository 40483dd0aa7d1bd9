"""Schemathesis against the running service and its own /openapi.json, with all checks; what it finds is a fault."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import ROOT, Live
from tests.keys import KEY

SEED = 20_261_122
LONG_SEEDS = (1, 2, 3, 5, 8)


def explore(live: Live, folder: Path, seed: int, examples: int) -> str:
    """Let Schemathesis look for faults, by so many cases of each route; return its report, or fail with it.

    By cases, and not for some time: so a quick machine looks for the same as a slow one.
    """
    print(f"schemathesis: seed {seed}, {examples} cases of each route")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json"),
            # Our own are in their place, see schemathesis_checks.py.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance,use_after_free"),
            *("--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--max-examples", str(examples), "--seed", str(seed), "--workers", "1"),
            *("--max-response-time", "9", "--request-timeout", "30", "--generation-database", "none", "--no-color"),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_checks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=590,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    return report


def assert_it_worked(report: str, cases_min: int) -> None:
    """A run that reached nothing finds nothing either."""
    assert int(re.search(r"(\d+) generated", report.replace(",", "")).group(1)) >= cases_min, report


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(live: Live, tmp_path: Path) -> None:
    assert_it_worked(explore(live, tmp_path, SEED, 8), 1_000)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_schemathesis_finds_nothing_at_length(live: Live, tmp_path: Path, seed: int) -> None:
    assert_it_worked(explore(live, tmp_path, seed, 30), 2_000)
