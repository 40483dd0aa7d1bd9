"""Reversing a transaction, or a part of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects, words
from wallet_app.console.acts import Act, Entries
from wallet_app.console.screens import screen
from wallet_app.console.subjects import OfTransaction
from wallet_app.service import Operation, ReverseOperation


@screen("GET", "/transactions/<uuid:transaction_id>/reverse", permission="adjustments:request")
def reverse_form(transaction_id: uuid.UUID) -> Response:
    """Ask how much of it, and why."""
    return acts.enter(_REVERSE, subjects.transaction(transaction_id))


@screen("POST", "/transactions/<uuid:transaction_id>/reverse", permission="adjustments:request", keeps_entries=True)
def reverse(transaction_id: uuid.UUID) -> Response:
    """Show what it would do, then do it or ask for it."""
    return acts.take(_REVERSE, subjects.transaction(transaction_id))


def _read(subject: OfTransaction, entries: Entries) -> Operation:
    amount = entries.read("amount", entering.amount_if_given(subject.wallet.asset_scale))
    on_shortfall = entries.read(
        "on_shortfall", entering.choice(phrases.SHORTFALLS, "Choose what is to be if too little is there")
    )
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return ReverseOperation(
        transaction_id=subject.transaction.transaction.transaction_id,
        amount=amount,
        on_shortfall=on_shortfall,
        reason_code=reason_code,
        **said,
    )


def _button(subject: OfTransaction, operation: Operation) -> str:
    asked = cast(ReverseOperation, operation)
    kind = words.kind(subject.transaction.transaction.kind).lower()
    if asked.amount is None:
        return f"Reverse all that is left of this {kind}"
    return f"Reverse {phrases.money(asked.amount, subject.wallet)} of this {kind}"


def _facts(subject: OfTransaction, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(ReverseOperation, operation)
    amount = "All that is left" if asked.amount is None else phrases.money(asked.amount, subject.wallet)
    return [
        ("Transaction", str(asked.transaction_id)),
        ("Amount", amount),
        ("If too little is there", phrases.SHORTFALLS[asked.on_shortfall]),
        *acts.facts_of(asked),
    ]


def _context(subject: OfTransaction) -> Mapping[str, object]:
    transaction = subject.transaction
    entries = transaction.transaction.entries
    return {
        "transaction": transaction.transaction,
        "reasons": acts.reasons(subject),
        "shortfalls": phrases.SHORTFALLS,
        "example": entering.example(subject.wallet.asset_scale),
        "is_one": len(transaction.reversible) == 1 or transaction.transaction.kind == "TRANSFER",
        "left": min([each.remaining for each in transaction.reversible], default=0),
        "takes_back": any(entry.amount > 0 for entry in entries),
    }


_REVERSE = Act(
    name="reverse",
    title=lambda _: "Reverse a transaction",
    template="reverse.html",
    fields=("amount", "on_shortfall", "reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    context=_context,
    field_of={
        "reason_not_found": "reason_code",
        "insufficient_balance": "on_shortfall",
        "brought_expired": "on_shortfall",
        "no_debt_between_users": "on_shortfall",
        "only_as_a_whole": "amount",
        "over_reversal": "amount",
    },
)
