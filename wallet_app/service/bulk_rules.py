"""What reason codes allow the rows of a bulk run; pure.

It is asked when a file is read, and again whenever the run is checked and its rows are posted: what the administration
changes holds from the next posting on, also for rows that were drafted or approved before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from wallet_app.errors import ReasonRefusedError
from wallet_app.money import format_amount
from wallet_app.service.bulk_commands import AskedRow
from wallet_app.service.reasons import ReasonSettings


class KeptRow(AskedRow, Protocol):
    """A row of the table, with its wallet's asset."""

    @property
    def asset_code(self) -> str: ...
    @property
    def scale(self) -> int: ...


class Asked(NamedTuple):
    """What of an adjustment a reason code has to allow. `amount` is in the asset's smallest unit."""

    direction: str
    amount: int
    asset_code: str
    asset_scale: int
    ticket: str | None
    note: str | None


def refusals(code: str, reason: ReasonSettings | None, asked: Asked) -> Iterator[tuple[str, str]]:
    """Yield what the reason code does not allow, whoever approves it: the field that it is about, and a sentence."""
    if reason is None:
        yield "reason_code", f"There is no reason code {code[:40]}."
        return
    if not reason.is_active:
        yield "reason_code", f"{code} is not in use any more."
    if reason.directions not in (asked.direction, "both"):
        yield "direction", f"{code} is for {reason.directions}s alone."
    if reason.ticket_required and asked.ticket is None:
        yield "ticket", f"{code} needs a ticket."
    if reason.note_required and asked.note is None:
        yield "note", f"{code} needs a note that says what happened."
    limits = reason.of_assets.get(asked.asset_code, reason.limits)
    if asked.amount > limits.amount_max:
        most = format_amount(limits.amount_max, asked.asset_scale)
        yield "amount", f"{code} is for at most {most} {asked.asset_code} a row."


def refused_rows(rows: Sequence[KeptRow], known: Mapping[str, ReasonSettings]) -> dict[int, ReasonRefusedError]:
    """Return the rows that their reason code does not allow as it is now, by row number, each with why."""
    refused: dict[int, ReasonRefusedError] = {}
    for row in rows:
        if wrong := list(_refusals_of(row, known)):
            refused[row.row_no] = ReasonRefusedError(wrong[0][0], " ".join(sentence for _, sentence in wrong))
    return refused


def _refusals_of(row: KeptRow, known: Mapping[str, ReasonSettings]) -> Iterator[tuple[str, str]]:
    code = row.reason_code
    reason = known.get(code)
    if row.reverses is None or reason is None:
        asked = Asked(row.direction, row.amount, row.asset_code, row.scale, row.ticket, row.note)
        yield from refusals(code, reason, asked)
        return
    # Direction and largest amount are those of adjustments: what is undone was bounded when it was done. An undo says
    # why for all its rows at once, which is more than a note.
    if not reason.is_active:
        yield "reason_code", f"{code} is not in use any more."
    if reason.ticket_required and row.ticket is None:
        yield "ticket", f"{code} needs a ticket."
