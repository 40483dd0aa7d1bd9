"""A command as a record: an item of a batch, a line of NDJSON or a row of a CSV, read in one way for all of them.

`{"type": "spend", "walletId": 3, "amount": 100, "referenceId": "order-1001", "note": "Sword"}`. A new kind of command
is one more class here, and its name in `Record`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from wallet_app import service
from wallet_app.config import current_settings
from wallet_app.details import IfVersion, WithDetails
from wallet_app.errors import HoldNotFoundError, LotNotFoundError, TransactionNotFoundError, WalletServiceError
from wallet_app.fields import (
    FINAL_OR_AMOUNT,
    Amount,
    AmountIfGiven,
    AmountOrUpTo,
    Final,
    HoldId,
    HoldSeconds,
    Outside,
    Rate,
    Reference,
    UpTo,
    WalletId,
    invalid,
    is_final,
    refusal,
)
from wallet_app.lot_fields import REGRANT_WITH_DAYS, ExpiresAt, GraceDays, LaterEnd, LotId, OnExpired
from wallet_app.reversal_fields import OnShortfall, Reason, ReversedAmount, TransactionId
from wallet_app.service import Command, Origin
from wallet_app.state_fields import SideField, Until


class Item(WithDetails):
    """What all records have in common."""

    if_version: IfVersion = None

    def on_condition(self, command: Command) -> Command:
        """Return the command with the version on which the record asks for it."""
        return command if self.if_version is None else replace(command, if_versions=(self.if_version,))


class MovementRecord(Item):
    """What the records of top-ups, bonuses and spends have in common."""

    wallet_id: WalletId
    amount: Amount
    reference_id: Reference


class TopUpRecord(MovementRecord):
    type: Literal["topup"]

    def command(self, origin: Origin) -> Command:
        return _movement(service.TopUp, self, origin)


class Grant(WithDetails):
    """What a bonus says of its end, as a record and as a request."""

    expires_at: ExpiresAt = None

    def end(self) -> dict[str, Any]:
        """Return it as an argument of the command: none where it was not said."""
        return {"expires_at": self.expires_at} if "expires_at" in self.model_fields_set else {}


class BonusRecord(Grant, MovementRecord):
    type: Literal["bonus"]

    def command(self, origin: Origin) -> Command:
        return service.Bonus(
            wallet_id=self.wallet_id,
            reference=self.reference_id,
            origin=origin,
            amount=self.amount,
            **self.end(),
            **self.details(),
        )


class SpendRecord(MovementRecord):
    type: Literal["spend"]

    def command(self, origin: Origin) -> Command:
        return _movement(service.Spend, self, origin)


class HoldRecord(MovementRecord):
    type: Literal["hold"]
    expires_in: HoldSeconds

    def command(self, origin: Origin) -> Command:
        return service.PlaceHold(
            wallet_id=self.wallet_id,
            reference=self.reference_id,
            origin=origin,
            amount=self.amount,
            expires_in=self.expires_in,
            seconds_max=current_settings().hold_seconds_max,
            **self.details(),
        )


class Transfer(WithDetails):
    """What a transfer says, as a record and as a request."""

    from_wallet_id: WalletId = Field(alias="from")
    to_wallet_id: WalletId = Field(alias="to")
    amount: AmountOrUpTo

    def made(self, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        is_up_to = isinstance(self.amount, UpTo)
        return service.Transfer(
            wallet_id=self.from_wallet_id,
            to_wallet_id=self.to_wallet_id,
            amount=self.amount.amount if isinstance(self.amount, UpTo) else self.amount,
            is_up_to=is_up_to,
            reference=reference,
            origin=origin,
            **self.details(),
        )


class OnHoldRecord(Item):
    """What the records that name a hold have in common: the wallet is the hold's."""

    hold_id: HoldId
    reference_id: Reference

    def command_on(self, wallet_id: int, origin: Origin) -> Command:
        """Return the command; the hold is the wallet's."""
        raise NotImplementedError

    def _common(self, wallet_id: int, origin: Origin) -> dict[str, Any]:
        return {
            "wallet_id": wallet_id,
            "hold_id": self.hold_id,
            "reference": self.reference_id,
            "origin": origin,
            **self.details(),
        }


class CaptureRecord(OnHoldRecord):
    model_config = ConfigDict(json_schema_extra=FINAL_OR_AMOUNT)

    type: Literal["capture"]
    amount: AmountIfGiven = None
    final: Final = None

    def command_on(self, wallet_id: int, origin: Origin) -> Command:
        final = is_final(self.amount, self.final)
        return service.CaptureHold(amount=self.amount, is_final=final, **self._common(wallet_id, origin))


class ReleaseRecord(OnHoldRecord):
    type: Literal["release"]

    def command_on(self, wallet_id: int, origin: Origin) -> Command:
        return service.ReleaseHold(**self._common(wallet_id, origin))


class Reversal(WithDetails):
    """What a reversal says, as a record and as a request."""

    reason: Reason
    amount: ReversedAmount = None
    on_shortfall: OnShortfall = service.SHORTFALLS[0]
    on_expired: OnExpired = service.ON_EXPIRED[0]
    grace_days: GraceDays = None

    def made(
        self, transaction_id: uuid.UUID, moved: service.Moved | None, reference: str, origin: Origin
    ) -> service.ReverseTransaction:
        """Return the command under the reference; raise TransactionNotFoundError if the transaction moved nothing."""
        if (self.on_expired == "regrant") != (self.grace_days is not None):
            raise invalid("/graceDays", "invalid", 'must be there with onExpired "regrant", and with nothing else')
        if moved is None:
            raise TransactionNotFoundError(str(transaction_id))
        return service.ReverseTransaction(
            wallet_id=moved.wallet_id,
            other_wallet_ids=moved.other_wallet_ids,
            transaction_id=transaction_id,
            reason=self.reason,
            amount=self.amount,
            on_shortfall=self.on_shortfall,
            on_expired=self.on_expired,
            grace_days=self.grace_days,
            reference=reference,
            origin=origin,
            **self.details(),
        )


class ReversalRecord(Reversal, Item):
    model_config = ConfigDict(json_schema_extra=REGRANT_WITH_DAYS)

    type: Literal["reversal"]
    transaction_id: TransactionId
    reference_id: Reference

    def command_of(self, moved: service.Moved | None, origin: Origin) -> Command:
        """Return the command; `moved` are the wallets of the transaction, if there is one."""
        return self.on_condition(self.made(self.transaction_id, moved, self.reference_id, origin))


class Extension(WithDetails):
    """What an extension says beside its lot, as a record and as a request."""

    expires_at: LaterEnd
    reason: Reason

    def made(self, lot_id: uuid.UUID, wallet_id: int, reference: str, origin: Origin) -> Command:
        """Return the command under the reference; the lot is the wallet's."""
        return service.ExtendLot(
            wallet_id=wallet_id,
            lot_id=lot_id,
            expires_at=self.expires_at,
            reason=self.reason,
            reference=reference,
            origin=origin,
            **self.details(),
        )


class Revocation(WithDetails):
    """What a revocation says beside its lot, as a record and as a request."""

    reason: Reason
    on_shortfall: OnShortfall = service.SHORTFALLS[0]

    def made(self, lot_id: uuid.UUID, wallet_id: int, reference: str, origin: Origin) -> Command:
        """Return the command under the reference; the lot is the wallet's."""
        return service.RevokeLot(
            wallet_id=wallet_id,
            lot_id=lot_id,
            reason=self.reason,
            on_shortfall=self.on_shortfall,
            reference=reference,
            origin=origin,
            **self.details(),
        )


class OnLotRecord(Item):
    """What the records that name a lot have in common: the wallet is the lot's."""

    lot_id: LotId
    reference_id: Reference


class ExtendRecord(Extension, OnLotRecord):
    type: Literal["extend"]

    def command_on(self, wallet_id: int, origin: Origin) -> Command:
        """Return the command; the lot is the wallet's."""
        return self.on_condition(self.made(self.lot_id, wallet_id, self.reference_id, origin))


class RevokeRecord(Revocation, OnLotRecord):
    type: Literal["revoke"]

    def command_on(self, wallet_id: int, origin: Origin) -> Command:
        """Return the command; the lot is the wallet's."""
        return self.on_condition(self.made(self.lot_id, wallet_id, self.reference_id, origin))


class TransferRecord(Transfer, Item):
    type: Literal["transfer"]
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.reference_id, origin)


class Exchange(WithDetails):
    """What an exchange says, as a record and as a request."""

    from_wallet_id: WalletId = Field(alias="from")
    to_wallet_id: WalletId = Field(alias="to")
    amount: Amount
    rate: Rate = None

    def made(self, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Exchange(
            wallet_id=self.from_wallet_id,
            to_wallet_id=self.to_wallet_id,
            amount=self.amount,
            rate=self.rate,
            reference=reference,
            origin=origin,
            **self.details(),
        )


class ExchangeRecord(Exchange, Item):
    type: Literal["exchange"]
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.reference_id, origin)


LEGS_MAX = 20


class PurchaseLeg(Outside):
    """A part of a purchase, which needs the scope of its type."""

    wallet_id: WalletId
    type: Literal["topup", "bonus", "spend"]
    amount: Amount


class Purchase(WithDetails):
    """What a purchase says, as a record and as a request."""

    wallet_id: WalletId
    legs: Annotated[list[PurchaseLeg], Field(min_length=1, max_length=LEGS_MAX)]

    def made(self, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Purchase(
            wallet_id=self.wallet_id,
            legs=tuple(service.Leg(leg.wallet_id, leg.type.upper(), leg.amount) for leg in self.legs),
            reference=reference,
            origin=origin,
            **self.details(),
        )


class PurchaseRecord(Purchase, Item):
    type: Literal["purchase"]
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.reference_id, origin)


class Freeze(WithDetails):
    """What a freeze says beside its wallet, as a record and as a request."""

    side: SideField
    until: Until = None
    reason: Reason

    def made(self, wallet_id: int, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Freeze(
            wallet_id=wallet_id,
            reference=reference,
            origin=origin,
            side=self.side,
            until=self.until,
            reason=self.reason,
            **self.details(),
        )


class Unfreeze(WithDetails):
    """What the end of a freeze says beside its wallet."""

    side: SideField = "both"
    reason: Reason

    def made(self, wallet_id: int, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Unfreeze(
            wallet_id=wallet_id,
            reference=reference,
            origin=origin,
            side=self.side,
            reason=self.reason,
            **self.details(),
        )


class Close(WithDetails):
    """What a wallet's end says beside its wallet."""

    reason: Reason

    def made(self, wallet_id: int, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Close(
            wallet_id=wallet_id, reference=reference, origin=origin, reason=self.reason, **self.details()
        )


class FreezeRecord(Freeze, Item):
    type: Literal["freeze"]
    wallet_id: WalletId
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.wallet_id, self.reference_id, origin)


class UnfreezeRecord(Unfreeze, Item):
    type: Literal["unfreeze"]
    wallet_id: WalletId
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.wallet_id, self.reference_id, origin)


class CloseRecord(Close, Item):
    type: Literal["close"]
    wallet_id: WalletId
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.wallet_id, self.reference_id, origin)


def _movement(command: type[service.Movement], record: MovementRecord, origin: Origin) -> Command:
    return command(
        wallet_id=record.wallet_id,
        reference=record.reference_id,
        origin=origin,
        amount=record.amount,
        **record.details(),
    )


AnyRecord = (
    TopUpRecord
    | BonusRecord
    | SpendRecord
    | TransferRecord
    | ExchangeRecord
    | PurchaseRecord
    | HoldRecord
    | CaptureRecord
    | ReleaseRecord
    | ReversalRecord
    | ExtendRecord
    | RevokeRecord
    | FreezeRecord
    | UnfreezeRecord
    | CloseRecord
)
Record = Annotated[AnyRecord, Field(discriminator="type")]

_RECORDS: TypeAdapter[AnyRecord] = TypeAdapter(Record)

_SCOPES = {
    "topup": service.TopUp.scope,
    "bonus": service.Bonus.scope,
    "spend": service.Spend.scope,
    "hold": service.PlaceHold.scope,
    "capture": service.CaptureHold.scope,
    "release": service.ReleaseHold.scope,
    "reversal": service.ReverseTransaction.scope,
    "extend": service.ExtendLot.scope,
    "revoke": service.RevokeLot.scope,
    "transfer": service.Transfer.scope,
    "exchange": service.Exchange.scope,
    "freeze": service.Freeze.scope,
    "unfreeze": service.Unfreeze.scope,
    "close": service.Close.scope,
}


def read_commands(records: Sequence[object], *, origin: Origin) -> list[Command | WalletServiceError]:
    """Return for each record, in order, the command that it asks for, in the name of `origin`, or why there is none.

    That is MissingScopeError, before anything else is looked at, if the origin may not ask for this type at all;
    ValidationFailedError with JSON pointers into the record; WalletNotFoundError for an id that no wallet can have;
    HoldNotFoundError, TransactionNotFoundError or LotNotFoundError. A file's row is a record whose values are strings:
    amounts and ids may be. The holds, transactions and lots that the records name are looked up together.
    """
    found = [_read(record, origin) for record in records]
    named = {one.hold_id for one in found if isinstance(one, OnHoldRecord)}
    holds = service.find_hold_wallets(named) if named else {}
    reversing = {one.transaction_id for one in found if isinstance(one, ReversalRecord)}
    moved = service.find_moved_wallets(reversing) if reversing else {}
    concerned = {one.lot_id for one in found if isinstance(one, OnLotRecord)}
    lots = service.find_lot_wallets(concerned) if concerned else {}
    return [_looked_up(one, holds, moved, lots, origin) for one in found]


_Read = Command | OnHoldRecord | ReversalRecord | ExtendRecord | RevokeRecord | WalletServiceError


def _looked_up(
    one: _Read,
    holds: Mapping[uuid.UUID, int],
    moved: Mapping[uuid.UUID, service.Moved],
    lots: Mapping[uuid.UUID, int],
    origin: Origin,
) -> Command | WalletServiceError:
    try:
        if isinstance(one, OnHoldRecord):
            return _on_hold(one, holds, origin)
        if isinstance(one, ReversalRecord):
            return one.command_of(moved.get(one.transaction_id), origin)
        if isinstance(one, ExtendRecord | RevokeRecord):
            if one.lot_id not in lots:
                return LotNotFoundError(str(one.lot_id))
            return one.command_on(lots[one.lot_id], origin)
    except WalletServiceError as refused:
        return refused
    return one


def _read(record: object, origin: Origin) -> _Read:
    try:
        if origin.permit is not None and isinstance(record, dict):
            kind = record.get("type")
            if isinstance(kind, str) and kind in _SCOPES:
                origin.permit.require(_SCOPES[kind])
        read = _RECORDS.validate_python(record)
        if isinstance(read, OnHoldRecord | ReversalRecord | ExtendRecord | RevokeRecord):
            return read
        command: Command = read.on_condition(read.command(origin))
    except ValidationError as exc:
        return refusal(exc, tag="type")
    except WalletServiceError as refused:
        return refused
    return command


def _on_hold(record: OnHoldRecord, wallets: Mapping[uuid.UUID, int], origin: Origin) -> Command | WalletServiceError:
    if record.hold_id not in wallets:
        return HoldNotFoundError(str(record.hold_id))
    return record.on_condition(record.command_on(wallets[record.hold_id], origin))
