"""The JSON outside, as models, of reports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from wallet_app.api.schema_parts import ExactInteger, Instant, Next
from wallet_app.api.schemas import AssetAnswer
from wallet_app.fields import Outside
from wallet_app.service import REPORT_AGES, REPORT_HOLD_LINES, REPORT_LINES

Day = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class ReportedAsset(AssetAnswer):
    scale: int


class OutstandingAnswer(Outside):
    """What users have, by the ledger: what is due and not settled yet is still held."""

    balance: ExactInteger = Field(description="What can be spent.")
    held: ExactInteger
    total: ExactInteger


class OutstandingByNature(OutstandingAnswer):
    """The same, and what of the total is bonus and what is paid; null while that is not added up so far."""

    bonus: ExactInteger | None
    paid: ExactInteger | None


class AgeAnswer(Outside):
    """What users have, held or not, by when it ends."""

    ends: Literal[REPORT_AGES] = Field(  # type: ignore[valid-type]
        description="In whole days (UTC), the first of which is that of the report's end; each without the one before. "
        "`due` was to end before, and is not booked yet or held."
    )
    bonus: ExactInteger
    paid: ExactInteger
    total: ExactInteger


class ReportLineAnswer(Outside):
    """A line of a report: what its entries brought to users and took from them."""

    line: Literal[REPORT_LINES]  # type: ignore[valid-type]
    entries: int
    credits: ExactInteger
    debits: ExactInteger = Field(description="Without its sign.")
    net: ExactInteger = Field(description="What users have more by it.")
    bonus: ExactInteger | None = Field(description="What of the net is bonus; null while that is not added up so far.")


class HoldLineAnswer(ReportLineAnswer):
    """The same of holds, which leave alone what users have together."""

    line: Literal[REPORT_HOLD_LINES]  # type: ignore[valid-type]


class ComparedAnswer(Outside):
    """What the closing is compared with: the balances now, less what was posted after the report's end."""

    users: OutstandingAnswer | None = Field(description="By the users' wallets; null if these are too many for now.")
    system: OutstandingAnswer = Field(description="By the SYSTEM wallets, whose other side it is.")


class AssetReportAnswer(Outside):
    """What users had, a line for whatever brought or took something, and what they had then."""

    ok: Literal[True]
    asset: ReportedAsset
    at: Instant | None = Field(description="The instant that was asked for, included; null for a range.")
    from_: Instant | None = Field(alias="from", description="Included; null: from the beginning.")
    to: Instant | None = Field(description="Not included; null with `at`.")
    made_at: Instant
    final: bool = Field(description="Whether nothing can be added to it any more.")
    opening: OutstandingByNature
    lines: list[ReportLineAnswer] = Field(
        description="With the opening's total their `net` makes the closing's. `issued` are top-ups and seeded "
        "balances; a reversal is on the line of what it reverses."
    )
    reversed: ExactInteger = Field(description="What all reversals brought users, net.")
    closing: OutstandingByNature
    holds: list[HoldLineAnswer] = Field(description="What was set aside, and what came back from there.")
    ageing: list[AgeAnswer] | None = Field(description="What there is at the end, by when it ends; makes its total.")
    ties: bool | None = Field(description="Whether all that is compared is the same, to the unit.")
    compared: ComparedAnswer | None = Field(description="Null, like `ties`, while the totals are behind.")


class SystemDayAnswer(Outside):
    """A day (UTC) of a SYSTEM wallet."""

    day: Day
    entries: int
    opening: ExactInteger
    incoming: ExactInteger = Field(description="What users' debits brought it.")
    outgoing: ExactInteger = Field(description="What users' credits took from it.")
    closing: ExactInteger


class SystemDaysAnswer(Outside):
    """Days of a SYSTEM wallet, newest first; those on which nothing moved are left out."""

    ok: Literal[True]
    wallet_id: int
    owner: str = Field(description="The SYSTEM user, like Treasury.")
    asset: AssetAnswer
    balance: ExactInteger
    late_since: Instant | None = Field(description="What came after it is in none of the days yet; null: all is.")
    days: list[SystemDayAnswer]
    next: Next = None
