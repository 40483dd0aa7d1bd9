"""Releasing a hold: what is still held goes back to the balance."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects, words
from wallet_app.console.acts import Act, Entries
from wallet_app.console.screens import screen
from wallet_app.console.subjects import OfHold
from wallet_app.service import Operation, ReleaseOperation


@screen("GET", "/holds/<uuid:hold_id>/release", permission="adjustments:request")
def release_form(hold_id: uuid.UUID) -> Response:
    """Ask why."""
    return acts.enter(_RELEASE, subjects.hold(hold_id))


@screen("POST", "/holds/<uuid:hold_id>/release", permission="adjustments:request", keeps_entries=True)
def release(hold_id: uuid.UUID) -> Response:
    """Show what would come back, then do it or ask for it."""
    return acts.take(_RELEASE, subjects.hold(hold_id))


def _read(subject: OfHold, entries: Entries) -> Operation:
    reason_code = entries.read("reason_code", entering.reason_code)
    said = acts.read_said(entries)
    entries.require_good()
    return ReleaseOperation(hold_id=subject.hold.hold.hold_id, reason_code=reason_code, **said)


def _button(subject: OfHold, _: Operation) -> str:
    amount = phrases.money(subject.hold.hold.remaining, subject.wallet)
    return f"Release {amount} to {words.isolated(subject.wallet.user_name)}"


def _facts(_: OfHold, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(ReleaseOperation, operation)
    return [("Hold", str(asked.hold_id)), *acts.facts_of(asked)]


def _context(subject: OfHold) -> Mapping[str, object]:
    return {"hold": subject.hold.hold, "held_for": subject.hold.reference, "reasons": acts.reasons(subject)}


_RELEASE = Act(
    name="release",
    title=lambda _: "Release a hold",
    template="release.html",
    fields=("reason_code", "note", "ticket"),
    read=_read,
    button=_button,
    facts=_facts,
    context=_context,
    field_of={"reason_not_found": "reason_code"},
)
