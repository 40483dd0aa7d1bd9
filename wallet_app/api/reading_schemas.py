"""The JSON outside, as models, of what is only read: lists of transactions, and rates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wallet_app.api.schema_parts import Instant, Next
from wallet_app.api.schemas import ListedTransaction
from wallet_app.fields import Outside


class TransactionsAnswer(Outside):
    ok: Literal[True]
    transactions: list[ListedTransaction]
    next: Next = None


class RateAnswer(Outside):
    """An exchange rate, in the smallest units of both assets."""

    from_asset: str = Field(alias="from")
    to_asset: str = Field(alias="to")
    rate: str = Field(description="How many of `to` one of `from` makes: exact, like 0.1 or 1/3.")
    valid_from: Instant
    valid_to: Instant | None = Field(description="Until when, not included; null if nothing is set to follow.")


class RatesAnswer(Outside):
    ok: Literal[True]
    rates: list[RateAnswer]
    next: Next = None
