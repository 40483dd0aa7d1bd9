"""Corrections: a balance is put right by people, against the contra wallet Adjustments; pure.

No credential may do it, and no face can ask for it by itself: an operator's operation becomes such a command after it
was weighed, alone or by a second person's approval. What a second person approved passes a freeze.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wallet_app.service.books import Books, Plan
from wallet_app.service.commands import Command, Requested, ReverseTransaction, RevokeLot
from wallet_app.service.lot_rules import FOR_EVER, Draft
from wallet_app.service.movements import require_funds, require_room

Direction = Literal["credit", "debit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjust(Command):
    """Credits or debits `amount` (smallest unit, 1..AMOUNT_MAX). Reason code and ticket are a part of what is asked."""

    kind = "ADJUSTMENT"

    direction: Direction
    amount: int
    reason_code: str
    ticket: str | None = None

    def amount_asked(self) -> int:
        return self.amount

    def takes(self) -> tuple[tuple[int, int], ...]:
        return ((self.wallet_id, self.amount),) if self.direction == "debit" else ()

    def requested(self) -> Requested:
        return {
            "direction": self.direction,
            "amount": self.amount,
            "reasonCode": self.reason_code,
            "ticket": self.ticket,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedAdjust(Adjust):
    """The same, after a second person's look: it passes a freeze, which one person's correction does not."""

    passes_freezes = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedReversal(ReverseTransaction):
    """A reversal after a second person's look: it passes a freeze."""

    passes_freezes = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedRevocation(RevokeLot):
    """A revocation after a second person's look: it passes a freeze, as the reversal that it is."""

    passes_freezes = True


def adjust(books: Books, command: Adjust) -> Plan:
    """Credit or debit the wallet; what people credit was not paid for, and has no end.

    Raises BalanceAboveBoundError, or InsufficientBalanceError: never below zero.
    """
    wallet, draft = books.wallet(command.wallet_id), Draft(books)
    if command.direction == "credit":
        require_room(wallet, command.amount)
        parts = [(FOR_EVER, command.amount)]
        return Plan((draft.credit(wallet.wallet_id, command.kind, "Adjustments", parts),))
    require_funds(wallet, command.amount)
    return Plan((draft.debit(wallet.wallet_id, command.kind, command.amount, "Adjustments"),))
