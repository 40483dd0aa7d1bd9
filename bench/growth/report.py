"""What the growth is told as: a table with a column for each size."""

from __future__ import annotations

from collections.abc import Mapping

from bench.report import median, print_table
from bench.rounds import Measured


def show(measured: Mapping[int, Mapping[str, Measured]], full: Mapping[int, float]) -> None:
    """Print what each size reached, and the largest against the smallest within each round."""
    sizes = list(measured)
    head = ("a second", *(f"{size:,}" for size in sizes), "last / first", "min .. max")
    rows = [_row(name, [measured[size] for size in sizes]) for name in measured[sizes[0]]]
    print()
    print_table([head, *rows])
    print("\nCPU of PostgreSQL, us an operation")
    print_table([(name, *(_cpu(measured[size][name]) for size in sizes)) for name in measured[sizes[0]]])
    print("\nFull verification:", ", ".join(f"{size:,} entries {full[size]} s" for size in sizes))


def _row(name: str, cells: list[Mapping[str, Measured]]) -> tuple[str, ...]:
    rates = [[sample["rate"] for sample in one[name].samples] for one in cells]
    if any(rate is None for column in rates for rate in column):
        return (f"{name}: FAILED", *[""] * (len(cells) + 2))
    quotients = [last / first for first, last in zip(rates[0], rates[-1], strict=True) if first]
    medians = (f"{median(column):,.1f}" if median(column) < 100 else f"{median(column):,.0f}" for column in rates)
    return (
        cells[0][name].title,
        *medians,
        f"{median(quotients):.2f}",
        f"{min(quotients):.2f} .. {max(quotients):.2f}",
    )


def _cpu(cell: Measured) -> str:
    values = [sample["cpu_us"]["postgres"] for sample in cell.samples if "postgres" in sample["cpu_us"]]
    return f"{median(values):,.0f}" if values else ""
