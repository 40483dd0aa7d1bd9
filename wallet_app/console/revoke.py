"""Revoking a lot: the grant that it is, and no other credit of the wallet, is taken back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects
from wallet_app.console.acts import Act, Entries
from wallet_app.console.screens import screen
from wallet_app.console.subjects import OfLot
from wallet_app.service import Operation, RevokeOperation


@screen("GET", "/lots/<uuid:lot_id>/revoke", permission="adjustments:request")
def revoke_form(lot_id: uuid.UUID) -> Response:
    """Ask why, and what is to be with what was used of it."""
    return acts.enter(_REVOKE, subjects.lot(lot_id))


@screen("POST", "/lots/<uuid:lot_id>/revoke", permission="adjustments:request", keeps_entries=True)
def revoke(lot_id: uuid.UUID) -> Response:
    """Show what would be taken back, then do it or ask for it."""
    return acts.take(_REVOKE, subjects.lot(lot_id))


def _read(subject: OfLot, entries: Entries) -> Operation:
    on_shortfall = entries.read(
        "on_shortfall", entering.choice(phrases.SHORTFALLS, "Choose what is to be with what was used of it")
    )
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return RevokeOperation(lot_id=subject.lot.lot.lot_id, on_shortfall=on_shortfall, reason_code=reason_code, **said)


def _button(subject: OfLot, _: Operation) -> str:
    return f"Revoke this grant of {phrases.money(subject.lot.lot.amount, subject.wallet)}"


def _facts(subject: OfLot, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(RevokeOperation, operation)
    return [
        ("Lot", str(asked.lot_id)),
        ("Granted", phrases.money(subject.lot.lot.amount, subject.wallet)),
        ("If too little is there", phrases.SHORTFALLS[asked.on_shortfall]),
        *acts.facts_of(asked),
    ]


def _context(subject: OfLot) -> Mapping[str, object]:
    return {"lot": subject.lot.lot, "reasons": acts.reasons(subject), "shortfalls": phrases.SHORTFALLS}


_REVOKE = Act(
    name="revoke",
    title=lambda _: "Revoke a lot",
    template="revoke.html",
    fields=("on_shortfall", "reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    context=_context,
    field_of={
        "reason_not_found": "reason_code",
        "lot_used": "on_shortfall",
        "insufficient_balance": "on_shortfall",
    },
)
