"""A report as rows and sentences, the same on the console's page, in its file and on the command line; pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from wallet_app.money import format_amount
from wallet_app.service import AssetReport, ReportLine

COLUMNS = ("line", "asset", "entries", "credits", "debits", "amount", "bonus", "from", "to")
"""A file's; amounts have the asset's decimal places. `bonus` is what of the amount is bonus."""

LABELS = MappingProxyType(
    {
        "issued": "Issued (top-ups and seeded balances)",
        "bonus": "Bonus",
        "adjusted": "Adjusted",
        "exchanged": "Exchanged",
        "transferred": "Transferred",
        "spent": "Spent",
        "expired": "Expired",
        "reversed_issued": "Reversed: issued",
        "reversed_bonus": "Reversed: bonus",
        "reversed_adjusted": "Reversed: adjusted",
        "reversed_exchanged": "Reversed: exchanged",
        "reversed_transferred": "Reversed: transferred",
        "reversed_spent": "Reversed: spent",
        "reversed_expired": "Reversed: expired",
        "other": "Anything else",
        "due": "Due, and not booked yet or held",
        "within_7_days": "Ends within 7 days",
        "within_30_days": "Within 30 days",
        "within_90_days": "Within 90 days",
        "later": "Later",
        "never": "Never",
        "held": "Set aside",
        "released": "Came back, to be spent or kept",
    }
)

_COMPARED = MappingProxyType(
    {
        "users": "the users' wallets have, with what they hold,",
        "users_held": "the users' wallets hold",
        "system": "the system's wallets gave",
        "system_held": "the system's wallet for holds has",
        "clearing": "the system's wallet for transfers, which is to have nothing, has",
        "bonus": "the users' wallets have as bonus",
        "lines": "the lines make",
    }
)


class ReportRow(NamedTuple):
    """A line as it is shown. Opening and closing have an amount alone; `is_moved` is for what has a sign."""

    name: str
    label: str
    amount: int
    bonus: int | None = None
    entries: int | None = None
    credits: int | None = None
    debits: int | None = None

    @property
    def is_moved(self) -> bool:
        """Whether it tells what was moved, and not what was there."""
        return self.entries is not None


def movements(report: AssetReport) -> list[ReportRow]:
    """Return opening, lines and closing: the roll-forward."""
    natures = report.natures
    opening, closing = (None, None) if natures is None else (natures.opening.total, natures.closing.total)
    return [
        ReportRow("opening", "Opening: what users had", report.opening.total, opening),
        *[_row(report, line) for line in report.lines],
        ReportRow("closing", "Closing: what users have", report.closing.total, closing),
    ]


def holds(report: AssetReport) -> list[ReportRow]:
    """Return the same of what is held, which is a part of what users have."""
    natures = report.natures
    opening, closing = (None, None) if natures is None else (natures.opening.held, natures.closing.held)
    return [
        ReportRow("opening_held", "Of the opening, held", report.opening.held, opening),
        *[_turned(_row(report, line)) for line in report.holds],
        ReportRow("closing_held", "Of the closing, held", report.closing.held, closing),
    ]


def ages(report: AssetReport) -> list[ReportRow]:
    """Return what users have at the end by when it ends; nothing where that is not told."""
    found = () if report.natures is None else report.natures.ages
    return [ReportRow(age.name, LABELS[age.name], age.total, age.bonus) for age in found]


def cells(report: AssetReport) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a file."""
    scale = report.asset.scale
    for row in (*movements(report), *holds(report), *ages(report)):
        sums = [_decimal(one, scale) for one in (row.credits, row.debits, row.amount, row.bonus)]
        yield row.name, report.asset.code, row.entries, *sums, report.since, report.until


def verdict(report: AssetReport) -> list[str]:
    """Return in sentences whether the report ties to the books, and by how much it does not."""
    if report.tie is None:
        return ["Not compared with the books: the daily totals are behind. Does the worker run?"]
    if report.ties:
        said = "Ties to the ledger, to the unit: opening and lines make the closing, and the closing is "
        if report.tie.users is None:
            return [
                f"{said}what the system's wallets gave. The users' wallets are too many to be added up here: "
                "`flask wallet verify` compares them."
            ]
        return [f"{said}what the users' wallets have, with what they hold, and what the system's wallets gave."]
    scale = report.asset.scale
    return [
        "DOES NOT TIE TO THE LEDGER. Have the books verified, and tell whoever runs the service.",
        *[
            f"Other than the closing, {_COMPARED[name]} {format_amount(abs(by), scale)} {'more' if by > 0 else 'less'}."
            for name, by in report.differences.items()
        ],
    ]


def _row(report: AssetReport, line: ReportLine) -> ReportRow:
    sums = line.sums
    return ReportRow(
        *(line.name, LABELS[line.name], sums.net, report.bonus(line.name)),
        *(sums.entries, sums.credits, sums.debits),
    )


def _turned(row: ReportRow) -> ReportRow:
    """Return the row of a hold from its own side: what is set aside leaves the balance, and comes in here."""
    bonus = None if row.bonus is None else -row.bonus
    return row._replace(amount=-row.amount, bonus=bonus, credits=row.debits, debits=row.credits)


def _decimal(value: int | None, scale: int) -> Decimal | None:
    if value is None:
        return None
    return Decimal(value).scaleb(-scale) if scale else Decimal(value)
