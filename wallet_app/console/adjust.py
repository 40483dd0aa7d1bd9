"""Adjusting a wallet: a credit or a debit, with a reason code. There is no way to set a balance to something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects, words
from wallet_app.console.acts import Act, Entries, Subject
from wallet_app.console.screens import screen
from wallet_app.service import AdjustOperation, Operation

DIRECTIONS = {
    "credit": "Credit: add to the balance",
    "debit": "Debit: take from the balance",
}


@screen("GET", "/wallets/<int:wallet_id>/adjust", permission="adjustments:request")
def adjust_form(wallet_id: int) -> Response:
    """Ask what is to be credited or debited, and why."""
    return acts.enter(_ADJUST, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/adjust", permission="adjustments:request", keeps_entries=True)
def adjust(wallet_id: int) -> Response:
    """Show what it would do, then do it or ask for it."""
    return acts.take(_ADJUST, subjects.wallet(wallet_id))


def _read(subject: Subject, entries: Entries) -> Operation:
    direction = entries.read("direction", entering.choice(DIRECTIONS, "Choose whether to credit or to debit"))
    amount = entries.read("amount", entering.amount(subject.wallet.asset_scale))
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return AdjustOperation(
        wallet_id=subject.wallet.wallet_id,
        direction=cast(Literal["credit", "debit"], direction),
        amount=amount,
        reason_code=reason_code,
        **said,
    )


def _button(subject: Subject, operation: Operation) -> str:
    asked = cast(AdjustOperation, operation)
    amount = phrases.money(asked.amount, subject.wallet)
    side = "to" if asked.direction == "credit" else "from"
    return f"{asked.direction.capitalize()} {amount} {side} {words.isolated(subject.wallet.user_name)}"


def _facts(subject: Subject, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(AdjustOperation, operation)
    return [
        ("Direction", DIRECTIONS[asked.direction]),
        ("Amount", phrases.money(asked.amount, subject.wallet)),
        *acts.facts_of(asked),
    ]


def _context(subject: Subject) -> Mapping[str, object]:
    return {
        "directions": DIRECTIONS,
        "reasons": acts.reasons(subject),
        "example": entering.example(subject.wallet.asset_scale),
    }


_ADJUST = Act(
    name="adjust",
    title=lambda subject: f"Adjust wallet {subject.wallet.wallet_id}",
    template="adjust.html",
    fields=("direction", "amount", "reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    context=_context,
    field_of={"reason_not_found": "reason_code", "insufficient_balance": "amount", "balance_above_bound": "amount"},
)
