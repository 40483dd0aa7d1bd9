"""Extending a lot: what is left of it can be used until a later instant."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects, words
from wallet_app.console.acts import Act, Entries
from wallet_app.console.screens import screen
from wallet_app.console.subjects import OfLot
from wallet_app.console.weighed import Changes
from wallet_app.service import ExtendOperation, Operation, Weighed


@screen("GET", "/lots/<uuid:lot_id>/extend", permission="adjustments:request")
def extend_form(lot_id: uuid.UUID) -> Response:
    """Ask until when, and why."""
    return acts.enter(_EXTEND, subjects.lot(lot_id))


@screen("POST", "/lots/<uuid:lot_id>/extend", permission="adjustments:request", keeps_entries=True)
def extend(lot_id: uuid.UUID) -> Response:
    """Show what would last longer, then ask for it."""
    return acts.take(_EXTEND, subjects.lot(lot_id))


def _read(subject: OfLot, entries: Entries) -> Operation:
    expires_at = entries.read("expires_at", entering.instant)
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return ExtendOperation(lot_id=subject.lot.lot.lot_id, expires_at=expires_at, reason_code=reason_code, **said)


def _button(subject: OfLot, operation: Operation) -> str:
    until = words.absolute(cast(ExtendOperation, operation).expires_at)
    return f"Extend {phrases.money(subject.lot.lot.left, subject.wallet)} until {until}"


def _facts(subject: OfLot, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(ExtendOperation, operation)
    return [
        ("Lot", str(asked.lot_id)),
        ("Left of it", phrases.money(subject.lot.lot.left, subject.wallet)),
        ("Until", words.absolute(asked.expires_at)),
        *acts.facts_of(asked),
    ]


def _changes(subject: OfLot, operation: Operation, _: Weighed) -> Changes:
    then = cast(ExtendOperation, operation).expires_at
    return {"It can be used until": phrases.of_lot_end(subject.lot.lot.expires_at)}, {
        "It can be used until": phrases.of_lot_end(then)
    }


def _context(subject: OfLot) -> Mapping[str, object]:
    return {"lot": subject.lot.lot, "reasons": acts.reasons(subject), "now": dt.datetime.now(dt.UTC)}


_EXTEND = Act(
    name="extend",
    title=lambda _: "Extend a lot",
    template="extend.html",
    fields=("expires_at", "reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    changes=_changes,
    context=_context,
    field_of={
        "reason_not_found": "reason_code",
        "lot_end_passed": "expires_at",
        "lot_end_not_later": "expires_at",
    },
)
