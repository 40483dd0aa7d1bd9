"""What a run is told as: tables on the terminal, and one JSON file that `--compare` reads again."""

from __future__ import annotations

import datetime as dt
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rounds import Measured, Sample

RESULTS = Path(__file__).with_name("results")
FORMAT = 1

RATIOS = (
    ("random wallets, 64 connections", "spend-random-64", "pgbench-random-"),
    ("one hot wallet, 64 connections", "spend-hot-64", "pgbench-hot-"),
    ("random wallets, rate limit on", "limited-64", "pgbench-random-"),
    ("POST /batches of 1,000", "bulk-1000", "pgbench-random-"),
    ("the kernel alone, batches of 1,000", "kernel-1000", "pgbench-random-"),
)


def ratios(measured: Mapping[str, Measured]) -> dict[str, list[float]]:
    """Return ours against pgbench at its best number of clients, within each round."""
    found = {}
    for title, ours, theirs in RATIOS:
        rivals = [measured[name].samples for name in measured if name.startswith(theirs)]
        if ours in measured and rivals:
            per_round = zip(measured[ours].samples, *rivals, strict=False)
            found[title] = [
                round(one["rate"] / best, 3) for one, *rest in per_round if (best := _best(rest)) and one["rate"]
            ]
    return {title: values for title, values in found.items() if values}


def _best(samples: Sequence[Sample]) -> float:
    return max((sample["rate"] or 0.0 for sample in samples), default=0.0)


def show(measured: Mapping[str, Measured]) -> None:
    """Print the table of all cells and the table of ratios."""
    head = ("", "a second", "min .. max", "p50 ms", "p99 ms", "service", "postgres", "client", "MiB", "batch")
    rows = [_row(cell) for cell in measured.values()]
    print(f"\n{'':<66}{'CPU us an operation':>56}")
    print_table([head, *rows])
    found = ratios(measured)
    if found:
        print(
            "\nAgainst pgbench, one spend a transaction, at its best number of clients; median of the rounds' ratios:"
        )
        print_table([(title, f"{median(values):.2f}", _span(values, "{:.2f}")) for title, values in found.items()])


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def _row(cell: Measured) -> tuple[str, ...]:
    failed = sum(sample["failed"] for sample in cell.samples)
    rates = _values(cell, lambda sample: sample["rate"])
    if failed or not rates:
        return (cell.title, f"FAILED: {failed}", *[""] * 8)
    return (
        cell.title,
        f"{median(rates):,.0f}",
        _span(rates, "{:,.0f}"),
        *(_cell(cell, lambda sample, at=at: sample["latency_ms"].get(at), "{:,.1f}") for at in ("50", "99")),  # type: ignore[misc]
        *(
            _cell(cell, lambda sample, who=who: sample["cpu_us"].get(who) or None, "{:,.0f}")  # type: ignore[misc]
            for who in ("service", "postgres", "client")
        ),
        _cell(cell, lambda sample: sample["memory_mib"] or None, "{:,.0f}"),
        _cell(cell, lambda sample: sample["batch_mean"], "{:,.1f}"),
    )


def _values(cell: Measured, read: Callable[[Sample], float | None]) -> list[float]:
    return [value for sample in cell.samples if (value := read(sample)) is not None]


def _cell(cell: Measured, read: Callable[[Sample], float | None], form: str) -> str:
    values = _values(cell, read)
    return form.format(median(values)) if values else ""


def _span(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))} .. {form.format(max(values))}"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *others)).rstrip())


def save(folder: Path, stem: str, result: Mapping[str, Any]) -> Path:
    """Write the result and return its file."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{stem}.json"
    file.write_text(json.dumps({"format": FORMAT, **result}, indent=1) + "\n")
    return file


def stem(machine: Mapping[str, Any], prefix: str = "") -> str:
    """Return how this run's files are called: time and commit."""
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{prefix}{now}-{machine['commit']}{'-dirty' if machine['dirty'] else ''}"


def as_json(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Return the cells as the JSON file has them."""
    return {name: {"title": cell.title, "samples": cell.samples} for name, cell in measured.items()}


def compare(measured: Mapping[str, Measured], earlier: Path) -> None:
    """Print each cell against an earlier result's: rates, and CPU of the service per operation."""
    before = json.loads(earlier.read_text())
    if before["format"] != FORMAT:
        raise ValueError(f"{earlier} is a result of format {before['format']}, not {FORMAT}.")
    print(f"\nAgainst {earlier.name} (commit {before['machine']['commit']}):")
    print_table([("", "rate", "service CPU"), *_compared(measured, before["cells"])])


def _compared(measured: Mapping[str, Measured], before: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, cell in measured.items():
        if name in before:
            old = Measured(cell.title, before[name]["samples"])
            rate = _quotient(cell, old, lambda sample: sample["rate"])
            cpu = _quotient(cell, old, lambda sample: sample["cpu_us"].get("service"))
            yield cell.title, rate, "" if name.startswith("pgbench") else cpu


def _quotient(cell: Measured, old: Measured, read: Callable[[Sample], float | None]) -> str:
    now, then = _values(cell, read), _values(old, read)
    return f"x {median(now) / median(then):.2f}" if now and then and median(then) else ""
