"""A command as a record: an item of a batch, a line of NDJSON or a row of a CSV, read in one way for all of them.

`{"type": "spend", "walletId": 3, "amount": 100, "referenceId": "order-1001", "note": "Sword"}`. A new kind of command
is one more class here, and its name in `Record`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from wallet_app import service
from wallet_app.fields import Amount, AmountOrUpTo, Note, Outside, Rate, Reference, UpTo, WalletId, refusal
from wallet_app.service import Command, Origin


class MovementRecord(Outside):
    """What the records of top-ups, bonuses and spends have in common."""

    wallet_id: WalletId
    amount: Amount
    reference_id: Reference
    note: Note = None


class TopUpRecord(MovementRecord):
    type: Literal["topup"]

    def command(self, origin: Origin) -> Command:
        return _movement(service.TopUp, self, origin)


class BonusRecord(MovementRecord):
    type: Literal["bonus"]

    def command(self, origin: Origin) -> Command:
        return _movement(service.Bonus, self, origin)


class SpendRecord(MovementRecord):
    type: Literal["spend"]

    def command(self, origin: Origin) -> Command:
        return _movement(service.Spend, self, origin)


class Transfer(Outside):
    """What a transfer says, as a record and as a request."""

    from_wallet_id: WalletId = Field(alias="from")
    to_wallet_id: WalletId = Field(alias="to")
    amount: AmountOrUpTo
    note: Note = None

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
            note=self.note,
        )


class TransferRecord(Transfer):
    type: Literal["transfer"]
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.reference_id, origin)


class Exchange(Outside):
    """What an exchange says, as a record and as a request."""

    from_wallet_id: WalletId = Field(alias="from")
    to_wallet_id: WalletId = Field(alias="to")
    amount: Amount
    rate: Rate = None
    note: Note = None

    def made(self, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Exchange(
            wallet_id=self.from_wallet_id,
            to_wallet_id=self.to_wallet_id,
            amount=self.amount,
            rate=self.rate,
            reference=reference,
            origin=origin,
            note=self.note,
        )


class ExchangeRecord(Exchange):
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


class Purchase(Outside):
    """What a purchase says, as a record and as a request."""

    wallet_id: WalletId
    legs: Annotated[list[PurchaseLeg], Field(min_length=1, max_length=LEGS_MAX)]
    note: Note = None

    def made(self, reference: str, origin: Origin) -> Command:
        """Return the command under the reference."""
        return service.Purchase(
            wallet_id=self.wallet_id,
            legs=tuple(service.Leg(leg.wallet_id, leg.type.upper(), leg.amount) for leg in self.legs),
            reference=reference,
            origin=origin,
            note=self.note,
        )


class PurchaseRecord(Purchase):
    type: Literal["purchase"]
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return self.made(self.reference_id, origin)


def _movement(command: type[service.Movement], record: MovementRecord, origin: Origin) -> Command:
    return command(
        wallet_id=record.wallet_id,
        reference=record.reference_id,
        origin=origin,
        amount=record.amount,
        note=record.note,
    )


AnyRecord = TopUpRecord | BonusRecord | SpendRecord | TransferRecord | ExchangeRecord | PurchaseRecord
Record = Annotated[AnyRecord, Field(discriminator="type")]

_RECORDS: TypeAdapter[AnyRecord] = TypeAdapter(Record)

_SCOPES = {
    "topup": service.TopUp.scope,
    "bonus": service.Bonus.scope,
    "spend": service.Spend.scope,
    "transfer": service.Transfer.scope,
    "exchange": service.Exchange.scope,
}


def read_command(record: object, *, origin: Origin) -> Command:
    """Return the command that the record asks for, in the name of `origin`.

    Raises MissingScopeError, before anything else is looked at, if the origin may not ask for this type at all;
    ValidationFailedError with JSON pointers into the record; or WalletNotFoundError for an id that no wallet can have.
    A file's row is a record whose values are strings: amounts and ids may be.
    """
    if origin.permit is not None and isinstance(record, dict):
        kind = record.get("type")
        if isinstance(kind, str) and kind in _SCOPES:
            origin.permit.require(_SCOPES[kind])
    try:
        return _RECORDS.validate_python(record).command(origin)
    except ValidationError as exc:
        raise refusal(exc, tag="type") from None
