"""The JSON of freezes, closings and switches; beside `schemas.py`, whose models use it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from wallet_app.api.schema_parts import DryRun, IfMade, Instant, Integer53
from wallet_app.fields import AssetCode, Outside, ReferenceIfGiven, UserId
from wallet_app.records import Close, Freeze, Unfreeze
from wallet_app.reversal_fields import Reason
from wallet_app.service import SIDES, SWITCH_TARGETS
from wallet_app.state_fields import SideField, Until

Status = Annotated[
    Literal["ACTIVE", "FROZEN", "CLOSED"],
    Field(description="FROZEN while anything of it is; a switch that stops its user or asset does not show here."),
]


class FreezeRequest(Freeze):
    """A freeze."""

    model_config = ConfigDict(json_schema_extra={"required": ["side", "reason", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class UnfreezeRequest(Unfreeze):
    """The end of a freeze."""

    model_config = ConfigDict(json_schema_extra={"required": ["reason", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class CloseRequest(Close):
    """A wallet's end."""

    model_config = ConfigDict(json_schema_extra={"required": ["reason", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class FrozenSide(Outside):
    until: Instant | None = Field(description="When it ends by itself; null: not before it is unfrozen.")


class FrozenAnswer(Outside):
    """The sides that are frozen."""

    debits: FrozenSide | None = Field(default=None, description="Absent while what leaves the wallet is not frozen.")
    credits: FrozenSide | None = Field(default=None, description="Absent while what comes into it is not frozen.")


Frozen = Annotated[FrozenAnswer | None, Field(description="Which sides are frozen; absent while none is.")]


class StateAnswer(Outside):
    """An accepted command that froze, unfroze or closed the wallet, which is told as it stands now."""

    ok: Literal[True]
    idempotent: bool = Field(description="True when this reference was accepted before: nothing changed this time.")
    message: str | None = Field(default=None, description="Only with idempotent: says that nothing has changed.")
    wallet_id: int
    user_id: int
    balance: Integer53
    held: Integer53
    version: int = Field(description="The number of the wallet's last entry; this command made none.")
    status: Status
    frozen: Frozen = None
    transaction_id: IfMade
    reference_id: str
    type: Literal["FREEZE", "UNFREEZE", "CLOSE"]
    reason: str
    created_at: Instant
    dry_run: DryRun = None


class _Switch(Outside):
    side: SideField
    until: Until = None
    reason: Reason


class UserSwitch(_Switch):
    """All wallets of a user."""

    target: Literal["user"]
    user_id: UserId


class AssetSwitch(_Switch):
    """All wallets of an asset."""

    target: Literal["asset"]
    asset: AssetCode


class EverythingSwitch(_Switch):
    """All wallets."""

    target: Literal["everything"]


class SwitchRequest(RootModel[Annotated[UserSwitch | AssetSwitch | EverythingSwitch, Field(discriminator="target")]]):
    """A switch."""


class ListedSwitch(Outside):
    switch_id: int
    target: Literal[SWITCH_TARGETS]  # type: ignore[valid-type]
    user_id: int | None = Field(description="Of a switch for a user.")
    asset: str | None = Field(description="The code of the asset, of a switch for one.")
    side: Literal[SIDES]  # type: ignore[valid-type]
    reason: str
    until: Instant | None = Field(description="Null: it does not end by itself.")
    is_set: bool = Field(alias="set", description="Whether it stops anything: it was not lifted, and has not ended.")
    set_by: str
    set_at: Instant
    lifted_by: str | None
    lifted_at: Instant | None
    lift_reason: str | None


class SwitchAnswer(ListedSwitch):
    ok: Literal[True]


class MadeSwitchAnswer(SwitchAnswer):
    switch_id: int | None = Field(  # type: ignore[assignment]
        description="Null in a dry run, unless the switch was set before."
    )
    dry_run: DryRun = None


class SwitchesAnswer(Outside):
    ok: Literal[True]
    switches: list[ListedSwitch]
    next: Annotated[str | None, Field(description="The `cursor` of the next page; absent on the last one.")] = None
