"""More of `schemas`: what a batch is answered with, item by item."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wallet_app.api.lot_schemas import ExtendAnswer, RevokeAnswer
from wallet_app.api.reversal_schemas import ReversalAnswer
from wallet_app.api.schema_parts import DryRun
from wallet_app.api.schemas import (
    ExchangeAnswer,
    HoldMovementAnswer,
    MovementAnswer,
    Problem,
    PurchaseAnswer,
    TransferAnswer,
)
from wallet_app.api.state_schemas import StateAnswer
from wallet_app.fields import Outside


class BatchItemAnswer(Outside):
    """What the item would have been answered with alone."""

    status: int = Field(description="200, 201 for a new hold, or the status of the problem.")
    body: (
        HoldMovementAnswer
        | MovementAnswer
        | TransferAnswer
        | ExchangeAnswer
        | PurchaseAnswer
        | RevokeAnswer
        | ReversalAnswer
        | ExtendAnswer
        | StateAnswer
        | Problem
    )


class BatchAnswer(Outside):
    ok: Literal[True]
    mode: Literal["each", "atomic"]
    done: int = Field(description="How many items were posted now.")
    replayed: int = Field(description="How many items had been posted before.")
    refused: int = Field(description="How many items were not accepted, for whatever reason; `atomic`: none.")
    items: list[BatchItemAnswer] = Field(description="In the order of the request.")
    dry_run: DryRun = None


class BatchLineAnswer(BatchItemAnswer):
    """The answer to one line."""

    index: int = Field(description="The number of the line, from 0.")
