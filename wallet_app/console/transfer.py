"""Moving credit from one user's wallet to another's of the same asset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects
from wallet_app.console.acts import Act, Entries, Subject
from wallet_app.console.screens import screen
from wallet_app.service import Operation, TransferOperation


@screen("GET", "/wallets/<int:wallet_id>/transfer", permission="adjustments:request")
def transfer_form(wallet_id: int) -> Response:
    """Ask how much, where to, and why."""
    return acts.enter(_TRANSFER, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/transfer", permission="adjustments:request", keeps_entries=True)
def transfer(wallet_id: int) -> Response:
    """Show what it would do to both, then do it or ask for it."""
    return acts.take(_TRANSFER, subjects.wallet(wallet_id))


def _read(subject: Subject, entries: Entries) -> Operation:
    to_wallet_id = entries.read("to_wallet_id", entering.wallet_id)
    amount = entries.read("amount", entering.amount(subject.wallet.asset_scale))
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return TransferOperation(
        wallet_id=subject.wallet.wallet_id,
        to_wallet_id=to_wallet_id,
        amount=amount,
        reason_code=reason_code,
        **said,
    )


def _button(subject: Subject, operation: Operation) -> str:
    asked = cast(TransferOperation, operation)
    return f"Transfer {phrases.money(asked.amount, subject.wallet)} to wallet {asked.to_wallet_id}"


def _facts(subject: Subject, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(TransferOperation, operation)
    return [
        ("To", f"Wallet {asked.to_wallet_id}"),
        ("Amount", phrases.money(asked.amount, subject.wallet)),
        *acts.facts_of(asked),
    ]


def _context(subject: Subject) -> Mapping[str, object]:
    return {"reasons": acts.reasons(subject), "example": entering.example(subject.wallet.asset_scale)}


_TRANSFER = Act(
    name="transfer",
    title=lambda subject: f"Transfer from wallet {subject.wallet.wallet_id}",
    template="transfer.html",
    fields=("to_wallet_id", "amount", "reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    context=_context,
    field_of={
        "reason_not_found": "reason_code",
        "insufficient_balance": "amount",
        "same_wallet": "to_wallet_id",
        "asset_mismatch": "to_wallet_id",
        "wallet_not_found": "to_wallet_id",
        "system_wallet": "to_wallet_id",
        "balance_above_bound": "amount",
    },
)
