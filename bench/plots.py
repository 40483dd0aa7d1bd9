"""Plots of a result, as SVG files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot, ticker
from matplotlib.axes import Axes

from bench.cells import CONNECTIONS, DISTRIBUTIONS
from bench.http_load import PERCENTILES
from bench.report import median
from bench.rounds import Measured
from bench.yardstick import CLIENTS

Series = Sequence[tuple[float, Sequence[float]]]


def draw(measured: Mapping[str, Measured], stem: Path) -> list[Path]:
    """Draw what was measured of throughput, latency and batch sizes, and return the files."""
    files = []
    for name, draw_one in (("throughput", _throughput), ("latency", _latency), ("batches", _batches)):
        figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
        if draw_one(axes, measured):
            axes.grid(visible=True, alpha=0.3)
            axes.legend(fontsize="small")
            file = stem.with_name(f"{stem.name}-{name}.svg")
            figure.savefig(file, metadata={"Date": None})
            files.append(file)
        pyplot.close(figure)
    return files


def draw_growth(measured: Mapping[int, Mapping[str, Measured]], stem: Path) -> list[Path]:
    """Draw each cell's rate by the number of entries, against its rate on the smallest ledger, and return the file."""
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    first = next(iter(measured.values()))
    for name, cell in first.items():
        base = _rates(first, name)
        if base and name != "verify-nothing":
            series = [(size, [rate / median(base) for rate in _rates(cells, name)]) for size, cells in measured.items()]
            line(axes, series, cell.title)
    axes.set(title="Speed by the size of the ledger", xlabel="entries", ylabel="against the smallest", xscale="log")
    axes.set_ylim(0, None)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    file = stem.with_name(f"{stem.name}-growth.svg")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return [file]


def line(axes: Axes, series: Series, label: str, style: str = "-", color: str | None = None) -> bool:
    """Draw the medians as a line, with bars from the least to the most; return whether there was anything."""
    series = [(at, values) for at, values in series if values]
    if not series:
        return False
    places, medians = [at for at, _ in series], [median(values) for _, values in series]
    below = [middle - min(values) for middle, (_, values) in zip(medians, series, strict=True)]
    above = [max(values) - middle for middle, (_, values) in zip(medians, series, strict=True)]
    axes.errorbar(
        places, medians, yerr=[below, above], label=label, linestyle=style, color=color, marker="o", capsize=3
    )
    return True


def _rates(measured: Mapping[str, Measured], name: str) -> list[float]:
    cell = measured.get(name)
    return [sample["rate"] for sample in cell.samples if sample["rate"]] if cell else []


def _throughput(axes: Axes, measured: Mapping[str, Measured]) -> bool:
    drawn = False
    for number, one in enumerate(DISTRIBUTIONS):
        ours = [(count, _rates(measured, f"spend-{one.name}-{count}")) for count in CONNECTIONS]
        theirs = [(count, _rates(measured, f"pgbench-{one.name}-{count}")) for count in CLIENTS]
        drawn |= line(axes, ours, one.title, color=f"C{number}")
        drawn |= line(axes, theirs, f"pgbench, {one.title}", "--", f"C{number}")
    axes.set(title="Spends a second", xlabel="connections", ylabel="a second", xscale="log", ylim=(0, None))
    _count_connections(axes)
    return drawn


def _count_connections(axes: Axes) -> None:
    axes.set_xticks(CONNECTIONS, [str(count) for count in CONNECTIONS])
    axes.minorticks_off()


def _latency(axes: Axes, measured: Mapping[str, Measured]) -> bool:
    drawn = False
    for name, cell in measured.items():
        if name.startswith("open-") or name in {"spend-random-64", "spend-hot-64"}:
            series = [
                (place, [sample["latency_ms"][at] for sample in cell.samples if at in sample["latency_ms"]])
                for place, at in enumerate(f"{percentile:g}" for percentile in PERCENTILES)
            ]
            drawn |= line(axes, series, cell.title, "-" if name.startswith("open-") else "--")
    axes.set(title="Latency from the intended start (open loop)", xlabel="percentile", ylabel="ms", yscale="log")
    axes.yaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.yaxis.set_minor_formatter(ticker.ScalarFormatter())
    axes.set_xticks(range(len(PERCENTILES)), [f"p{percentile:g}" for percentile in PERCENTILES])
    return drawn


def _batches(axes: Axes, measured: Mapping[str, Measured]) -> bool:
    drawn = False
    for one in DISTRIBUTIONS:
        series = []
        for count in CONNECTIONS:
            cell = measured.get(f"spend-{one.name}-{count}")
            series.append(
                (count, [sample["batch_mean"] for sample in cell.samples if sample["batch_mean"]] if cell else [])
            )
        drawn |= line(axes, series, one.title)
    axes.set(title="Commands a database transaction", xlabel="connections", ylabel="commands", xscale="log")
    _count_connections(axes)
    return drawn
