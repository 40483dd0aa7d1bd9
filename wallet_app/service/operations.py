"""What an operator can do to a wallet from the console, before it is weighed and becomes a command; pure.

An operation is what is kept of a request for approval, so it is made of plain values: what it says is its payload, in
JSON and back. A new kind of operation is a class here, and a line in `COMMANDS` of `four_eyes`.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from wallet_app import text
from wallet_app.errors import OperationInvalidError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.adjustments import Direction
from wallet_app.service.commands import SHORTFALLS
from wallet_app.service.instants import instant_text
from wallet_app.service.limits import FIGURES, NO_LIMITS, WalletLimits
from wallet_app.service.states import Side

NOTE_MAX = 500
TICKET_MAX = 200
REASON_MAX = 500

_TICKET = re.compile(r"[A-Za-z0-9#][A-Za-z0-9#._/:?=&%~+@-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operator wants. `note` may be personal and can be erased; it is no part of what is asked for."""

    kind: ClassVar[str]
    """What audit records and the lists of requests call it; never changes, because requests are kept for ever."""
    permission: ClassVar[str] = "adjustments:post"
    """What it needs to be done alone; to ask for it, `adjustments:request` is enough where it moves money."""
    always_asks: ClassVar[str | None] = None
    """Why nobody does it alone, as a sentence, if so."""

    note: str | None = None
    ticket: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyOperation(Operation):
    """An operation that moves money, and says by a reason code why."""

    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustOperation(MoneyOperation):
    """Credits or debits a wallet by `amount` (smallest unit)."""

    kind = "adjustment"

    wallet_id: int
    direction: Direction
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseOperation(MoneyOperation):
    """Reverses a transaction; `amount` of it, None for all that is left. `on_shortfall` is one of SHORTFALLS."""

    kind = "reversal"

    transaction_id: uuid.UUID
    amount: int | None = None
    on_shortfall: str = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOperation(MoneyOperation):
    """Gives back what a hold still holds."""

    kind = "release"

    hold_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOperation(MoneyOperation):
    """Moves `amount` (smallest unit) from a wallet to another one of the same asset."""

    kind = "transfer"

    wallet_id: int
    to_wallet_id: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendOperation(MoneyOperation):
    """Lets what is left of a lot be used until a later instant."""

    kind = "extension"
    always_asks = "Credit that would have ended and does not is as good as given, so two people decide on it."

    lot_id: uuid.UUID
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeOperation(MoneyOperation):
    """Takes back a grant that is a lot of its own. `on_shortfall` is one of SHORTFALLS, for what of it was used."""

    kind = "revocation"

    lot_id: uuid.UUID
    on_shortfall: str = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOperation(Operation):
    """An operation on how a wallet stands. `reason` is for good, and in the ledger; what is personal is a note."""

    permission = "wallets:freeze"

    wallet_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeOperation(StateOperation):
    """Freezes debits, credits or both, until an instant or (None) until they are unfrozen."""

    kind = "freeze"

    side: Side
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfreezeOperation(StateOperation):
    """Lets debits, credits or both go again."""

    kind = "unfreeze"

    side: Side = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOperation(StateOperation):
    """Closes a wallet that is empty, for good."""

    kind = "closing"
    always_asks = "A wallet that is closed stays closed, so two people decide on it."


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRaiseOperation(StateOperation):
    """Raises a wallet's limits (smallest unit) until an instant; None leaves a figure as it is set."""

    kind = "limit_raise"
    permission = "limits:request"
    always_asks = "A higher limit is an exception to what was decided for all, so two people decide on it."

    until: dt.datetime
    single: int | None = None
    balance: int | None = None
    day: int | None = None
    rolling: int | None = None

    @property
    def figures(self) -> WalletLimits:
        """To what the limits are raised."""
        return WalletLimits(self.single, self.balance, self.day, self.rolling)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRaiseEndOperation(StateOperation):
    """Lets a wallet's limits be again as they are set. One person may: it allows nothing more."""

    kind = "limit_raise_end"
    permission = "limits:request"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOperation(Operation):
    """Lets a bulk run begin. `digest` is over its rows; `sums` are {asset, scale, direction, rows, amount} of each."""

    permission = "bulk:draft"
    always_asks = "A bulk run moves many balances at once, so two people always decide on it."

    run_id: int
    campaign: str
    rows: int
    sums: Sequence[Mapping[str, Any]]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOperation(RunOperation):
    """Posts the rows of a file of adjustments."""

    kind = "bulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoOperation(RunOperation):
    """Reverses what the run `undoes` posted. `on_shortfall` is one of SHORTFALLS."""

    kind = "bulk_undo"

    undoes: int
    reason: str
    on_shortfall: str


KINDS: dict[str, type[Operation]] = {
    one.kind: one
    for one in (
        AdjustOperation,
        ReverseOperation,
        ReleaseOperation,
        TransferOperation,
        ExtendOperation,
        RevokeOperation,
        FreezeOperation,
        UnfreezeOperation,
        CloseOperation,
        LimitRaiseOperation,
        LimitRaiseEndOperation,
        BulkOperation,
        UndoOperation,
    )
}
"""Every operation by its kind."""

O = TypeVar("O", bound=Operation)  # noqa: E741


def cleaned(operation: O) -> O:
    """Return the operation with its texts trimmed; raise OperationInvalidError for what is wrong in itself."""
    changes: dict[str, Any] = {
        "note": _optional("note", operation.note, NOTE_MAX),
        "ticket": _ticket(operation.ticket),
    }
    if isinstance(operation, StateOperation):
        changes["reason"] = _clean("reason", operation.reason, low=1, high=REASON_MAX)
    amount = getattr(operation, "amount", None)
    if amount is not None and not (type(amount) is int and 1 <= amount <= AMOUNT_MAX):
        raise OperationInvalidError("amount", f"The amount must be a whole number from 1 to {AMOUNT_MAX}.")
    if isinstance(operation, AdjustOperation) and operation.direction not in ("credit", "debit"):
        raise OperationInvalidError("direction", "Choose whether to credit or to debit the wallet.")
    if isinstance(operation, ReverseOperation | RevokeOperation) and operation.on_shortfall not in SHORTFALLS:
        raise OperationInvalidError("on_shortfall", "Choose what is to be if there is too little left.")
    if isinstance(operation, FreezeOperation | UnfreezeOperation) and operation.side not in (
        "debits",
        "credits",
        "both",
    ):
        raise OperationInvalidError("side", "Choose debits, credits or both.")
    if isinstance(operation, LimitRaiseOperation):
        _require_figures(operation)
    return replace(operation, **changes)


def payload_of(operation: Operation) -> dict[str, Any]:
    """Return what the operation says, as JSON, without its note: that can be erased, and a payload is for ever."""
    return {"kind": operation.kind} | {
        one.name: _plain(getattr(operation, one.name)) for one in fields(operation) if one.name != "note"
    }


def operation_of(payload: Mapping[str, Any], *, note: str | None) -> Operation:
    """Return the operation whose payload it is."""
    values = {name: _READERS.get(name, _same)(value) for name, value in payload.items() if name != "kind"}
    return KINDS[payload["kind"]](**values, note=note)


def subject_of(operation: Operation) -> str:
    """Return what no second pending request may be about: the very same thing, whoever asks and whatever they note."""
    ignored = {"note", "ticket", "reason", "on_shortfall"}
    if isinstance(operation, ReverseOperation):
        # A transaction is reversed by one request after the other, whatever they want of it.
        ignored |= {"amount", "reason_code"}
    if isinstance(operation, ReleaseOperation | RevokeOperation):
        ignored |= {"reason_code"}
    if isinstance(operation, ExtendOperation):
        # Of two ends that are asked for at once, only one can be what was meant.
        ignored |= {"reason_code", "expires_at"}
    told = [str(value) for name, value in payload_of(operation).items() if name not in ignored and name != "kind"]
    return ":".join([operation.kind, *told])


def _require_figures(operation: LimitRaiseOperation) -> None:
    for name, figure in zip(FIGURES, operation.figures, strict=True):
        if figure is not None and not (type(figure) is int and 1 <= figure <= AMOUNT_MAX):
            raise OperationInvalidError(name, f"The limit must be a whole number from 1 to {AMOUNT_MAX}.")
    if operation.figures == NO_LIMITS:
        raise OperationInvalidError("day", "Name at least one limit that is to be higher.")


def _plain(value: object) -> object:
    if isinstance(value, uuid.UUID):
        return str(value)
    return instant_text(value) if isinstance(value, dt.datetime) else value


def _same(value: Any) -> Any:
    return value


_READERS: dict[str, Any] = {
    "transaction_id": uuid.UUID,
    "hold_id": uuid.UUID,
    "lot_id": uuid.UUID,
    "expires_at": dt.datetime.fromisoformat,
    "until": lambda value: None if value is None else dt.datetime.fromisoformat(value),
}


def _clean(field: str, value: str, *, low: int, high: int) -> str:
    try:
        return text.clean(value, low=low, high=high)
    except ValueError as wrong:
        raise OperationInvalidError(field, f"The {field} {wrong}.") from None


def _optional(field: str, value: str | None, high: int) -> str | None:
    return None if value is None else _clean(field, value, low=0, high=high) or None


def _ticket(value: str | None) -> str | None:
    ticket = _optional("ticket", value, TICKET_MAX)
    if ticket is not None and not _TICKET.fullmatch(ticket):
        raise OperationInvalidError(
            "ticket",
            "The ticket must be a number, a key or an address of a ticket: letters, digits and signs, without blanks.",
        )
    return ticket
