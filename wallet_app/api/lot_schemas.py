"""More of `schemas`: grants that end, and lots."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from wallet_app.api.reversal_schemas import ReversalAnswer
from wallet_app.api.schema_parts import Identifier, Instant, Integer53, Next
from wallet_app.api.schemas import AssetAnswer, MovementRequest, PostedAnswer
from wallet_app.fields import Outside, ReferenceIfGiven
from wallet_app.records import Extension, Grant, Revocation
from wallet_app.service import ENTRY_TYPES, LOT_KINDS


class BonusRequest(Grant, MovementRequest):
    """A bonus."""

    model_config = ConfigDict(json_schema_extra={"required": ["amount", "referenceId"]})


class ListedLot(Outside):
    """A lot; its parts make up its amount."""

    lot_id: Identifier
    kind: Literal[LOT_KINDS]  # type: ignore[valid-type]
    amount: Integer53 = Field(description="What was granted. Of the standing lot all that ever was.")
    available: Integer53 = Field(description="What of it can be spent now.")
    held: Integer53 = Field(description="What of it holds keep. It does not expire while they do.")
    consumed: Integer53 = Field(description="What of it was spent, or went to another wallet.")
    expired: Integer53
    revoked: Integer53 = Field(description="What of it was taken back.")
    expires_at: Instant | None = Field(
        description="It can be spent before this instant. Null for the standing lot, which has all bonus without end."
    )
    created_at: Instant
    changed_at: Instant
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    seq: int | None = Field(description="The number of the entry that granted it; null for the standing lot.")
    type: Literal[ENTRY_TYPES] | None = Field(  # type: ignore[valid-type]
        description="The type of that entry."
    )
    transaction_id: Identifier | None = Field(description="The transaction of that entry.")


class LotAnswer(ListedLot):
    ok: Literal[True]


class LotsAnswer(Outside):
    ok: Literal[True]
    wallet_id: int
    lots: list[ListedLot]
    next: Next = None


class ExtendRequest(Extension):
    """An extension of a lot."""

    model_config = ConfigDict(json_schema_extra={"required": ["expiresAt", "reason", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class ExtendAnswer(PostedAnswer):
    """An accepted extension: the wallet as it stands now, and until when the lot can be spent since then."""

    type: Literal["EXTEND"]
    reason: str
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    balance: Integer53 = Field(description="What the ledger says at `version`.")
    held: Integer53
    version: int = Field(description="The number of the wallet's last entry: an extension makes none.")
    lot_id: Identifier
    expires_at: Instant = Field(description="The end that this gave the lot; it may be later by now.")


class RevokeRequest(Revocation):
    """A revocation of a lot."""

    model_config = ConfigDict(json_schema_extra={"required": ["reason", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class RevokeAnswer(ReversalAnswer):
    """An accepted revocation: what it took back of the grant."""

    lot_id: Identifier
