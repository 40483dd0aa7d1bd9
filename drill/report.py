"""What a drill is told as: a line for each kill, a table of the kinds, and a JSON file."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drill.checks import Findings
from drill.service import REPOSITORY
from drill.stage import Struck

RESULTS = Path(__file__).with_name("results")
SHOWN_MAX = 10
_LINE = "{:<12}{:>6}{:>14}{:>12}{:>8}{:>10}{:>12}{:>12}"


def head() -> str:
    """Return the head of the lines of kills."""
    return _LINE.format("kind", "kill", "acknowledged", "broken off", "lost", "doubled", "ready after", "")


def line(number: int, struck: Struck) -> str:
    """Return a kill's line; `acknowledged` counts from the start, the rest is of this kill."""
    return _LINE.format(
        struck.kind,
        number,
        f"{struck.acknowledged:,}",
        struck.broken,
        struck.lost,
        struck.doubled,
        f"{struck.ready_seconds:.1f} s",
        "",
    ).rstrip()


def table(struck: Sequence[Struck]) -> str:
    """Return a line for each kind."""
    lines = [_LINE.format("kind", "kills", "", "broken off", "lost", "doubled", "ready after", "at most")]
    for name, kills in _by_kind(struck).items():
        ready = [one.ready_seconds for one in kills]
        lines.append(
            _LINE.format(
                name,
                len(kills),
                "",
                sum(one.broken for one in kills),
                sum(one.lost for one in kills),
                sum(one.doubled for one in kills),
                f"{statistics.median(ready):.1f} s",
                f"{max(ready):.1f} s",
            )
        )
    return "\n".join(lines)


def tell(findings: Findings) -> str:
    """Return what was found, shortened."""
    lines = []
    for title, faults in (("LOST", findings.lost), ("DOUBLED", findings.doubled), ("WRONG", findings.wrong)):
        lines += [f"{title}: {fault}" for fault in faults[:SHOWN_MAX]]
        if len(faults) > SHOWN_MAX:
            lines.append(f"{title}: ... and {len(faults) - SHOWN_MAX:,} more")
    return "\n".join(lines)


def save(folder: Path, result: dict[str, Any], struck: Sequence[Struck]) -> Path:
    """Write the result and return its file."""
    now = dt.datetime.now(dt.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"drill-{now:%Y%m%d-%H%M%S}.json"
    facts = {"at": now.isoformat(timespec="seconds"), "commit": _commit(), "machine": platform.platform()}
    kills = [one._asdict() for one in struck]
    file.write_text(json.dumps(facts | {"cores": os.cpu_count()} | result | {"kills": kills}, indent=1) + "\n")
    return file


def _by_kind(struck: Sequence[Struck]) -> dict[str, list[Struck]]:
    kinds: dict[str, list[Struck]] = {}
    for one in struck:
        kinds.setdefault(one.kind, []).append(one)
    return kinds


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
