"""The JSON of limits; beside `schemas.py`, of whose parts it is made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wallet_app.api.schema_parts import ExactInteger, Instant, Integer53
from wallet_app.api.schemas import AssetAnswer
from wallet_app.fields import Outside


class SingleLimit(Outside):
    max: Integer53 = Field(description="The most.")
    set_for: Literal["asset", "userType", "wallet", "raise"] = Field(
        description="For what it is set: the narrowest counts. `raise`: this wallet's is higher until `raisedUntil`."
    )


class BalanceLimit(SingleLimit):
    used: ExactInteger = Field(description="What the wallet has, with what is held.")
    left: Integer53


class SpendingLimit(SingleLimit):
    used: ExactInteger = Field(description="What was spent, and counts at the moment.")
    left: Integer53
    frees: ExactInteger = Field(description="What of it is free again at `freesAt`.")
    frees_at: Instant | None = Field(description="When something is free again; null while nothing is used.")


class LimitsOfWallet(Outside):
    """A wallet's limits; null for what is not limited."""

    single: SingleLimit | None = Field(description="What one command takes out of it, or brings in.")
    balance: BalanceLimit | None = Field(description="What it has when something comes in.")
    day: SpendingLimit | None = Field(description="What it spends on a calendar day in `timeZone`.")
    rolling: SpendingLimit | None = Field(description="What it spends within 24 hours.")


class LimitsAnswer(Outside):
    ok: Literal[True]
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    version: int
    time_zone: str = Field(description="Where the days of the asset begin and end.")
    as_of: Instant = Field(description="The instant for which this is so.")
    limits: LimitsOfWallet
    raised_until: Instant | None = Field(description="Until when limits of this wallet are raised; null: they are not.")
