"""Freezing a wallet, letting it go, and closing it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import cast

from flask import Response

from wallet_app.console import acts, entering, phrases, subjects
from wallet_app.console.acts import Act, Entries, Subject
from wallet_app.console.screens import screen
from wallet_app.console.weighed import Changes
from wallet_app.service import (
    NO_END,
    CloseOperation,
    FreezeOperation,
    Frozen,
    Operation,
    Side,
    UnfreezeOperation,
    Weighed,
)


@screen("GET", "/wallets/<int:wallet_id>/freeze", permission="wallets:freeze")
def freeze_form(wallet_id: int) -> Response:
    """Ask which side, until when, and why."""
    return acts.enter(_FREEZE, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/freeze", permission="wallets:freeze", keeps_entries=True)
def freeze(wallet_id: int) -> Response:
    """Show what a freeze would do, then do it."""
    return acts.take(_FREEZE, subjects.wallet(wallet_id))


@screen("GET", "/wallets/<int:wallet_id>/unfreeze", permission="wallets:freeze")
def unfreeze_form(wallet_id: int) -> Response:
    """Ask which side, and why."""
    return acts.enter(_UNFREEZE, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/unfreeze", permission="wallets:freeze", keeps_entries=True)
def unfreeze(wallet_id: int) -> Response:
    """Show what would be free then, then do it."""
    return acts.take(_UNFREEZE, subjects.wallet(wallet_id))


@screen("GET", "/wallets/<int:wallet_id>/close", permission="wallets:freeze")
def close_form(wallet_id: int) -> Response:
    """Ask why."""
    return acts.enter(_CLOSE, subjects.wallet(wallet_id))


@screen("POST", "/wallets/<int:wallet_id>/close", permission="wallets:freeze", keeps_entries=True)
def close(wallet_id: int) -> Response:
    """Show what would end, then ask for it."""
    return acts.take(_CLOSE, subjects.wallet(wallet_id))


def _read_freeze(subject: Subject, entries: Entries) -> Operation:
    side = entries.read("side", entering.choice(phrases.SIDES, "Choose what is to be frozen"))
    until = entries.read("until", entering.instant_if_given)
    reason = entries.read("reason", entering.required_text("a reason"))
    said = acts.read_said(entries)
    entries.require_good()
    return FreezeOperation(
        wallet_id=subject.wallet.wallet_id, side=cast(Side, side), until=until, reason=reason, **said
    )


def _read_unfreeze(subject: Subject, entries: Entries) -> Operation:
    side = entries.read("side", entering.choice(phrases.SIDES, "Choose what is to be let go"))
    reason = entries.read("reason", entering.required_text("a reason"))
    said = acts.read_said(entries)
    entries.require_good()
    return UnfreezeOperation(wallet_id=subject.wallet.wallet_id, side=cast(Side, side), reason=reason, **said)


def _read_close(subject: Subject, entries: Entries) -> Operation:
    reason = entries.read("reason", entering.required_text("a reason"))
    said = acts.read_said(entries)
    entries.require_good()
    return CloseOperation(wallet_id=subject.wallet.wallet_id, reason=reason, **said)


def _freeze_button(subject: Subject, operation: Operation) -> str:
    asked = cast(FreezeOperation, operation)
    return f"Freeze {_what(asked.side)} of wallet {subject.wallet.wallet_id}"


def _unfreeze_button(subject: Subject, operation: Operation) -> str:
    asked = cast(UnfreezeOperation, operation)
    return f"Unfreeze {_what(asked.side)} of wallet {subject.wallet.wallet_id}"


def _what(side: str) -> str:
    return "debits and credits" if side == "both" else side


def _freeze_facts(_: Subject, operation: Operation) -> Sequence[tuple[str, str]]:
    asked = cast(FreezeOperation, operation)
    return [("Frozen", phrases.SIDES[asked.side]), ("It ends", phrases.of_end(asked.until)), *acts.facts_of(asked)]


def _facts(_: Subject, operation: Operation) -> Sequence[tuple[str, str]]:
    return acts.facts_of(operation)


def _frozen(subject: Subject, operation: Operation, _: Weighed) -> Changes:
    asked = cast(FreezeOperation, operation)
    return _sides(subject, asked.side, asked.until or NO_END)


def _unfrozen(subject: Subject, operation: Operation, _: Weighed) -> Changes:
    return _sides(subject, cast(UnfreezeOperation, operation).side, None)


def _closed(subject: Subject, _: Operation, __: Weighed) -> Changes:
    return {"Status": subject.wallet.status.lower()}, {"Status": "closed, for good"}


def _sides(subject: Subject, side: Side, until: dt.datetime | None) -> Changes:
    now = subject.wallet.frozen
    then = Frozen(debits=now.debits if side == "credits" else until, credits=now.credits if side == "debits" else until)
    return _told(now), _told(then)


def _told(frozen: Frozen) -> dict[str, str]:
    return {"Debits": phrases.of_freeze(frozen.debits), "Credits": phrases.of_freeze(frozen.credits)}


def _context(_: Subject) -> Mapping[str, object]:
    return {"sides": phrases.SIDES, "now": dt.datetime.now(dt.UTC)}


_FREEZE = Act(
    name="freeze",
    title=lambda subject: f"Freeze wallet {subject.wallet.wallet_id}",
    template="freeze.html",
    fields=("side", "until", "reason", "note", "ticket"),
    read=_read_freeze,
    button=_freeze_button,
    facts=_freeze_facts,
    changes=_frozen,
    context=_context,
    field_of={"end_passed": "until"},
)
_UNFREEZE = Act(
    name="unfreeze",
    title=lambda subject: f"Unfreeze wallet {subject.wallet.wallet_id}",
    template="unfreeze.html",
    fields=("side", "reason", "note", "ticket"),
    read=_read_unfreeze,
    button=_unfreeze_button,
    facts=_facts,
    changes=_unfrozen,
    context=_context,
    field_of={"wallet_not_frozen": "side"},
)
_CLOSE = Act(
    name="close",
    title=lambda subject: f"Close wallet {subject.wallet.wallet_id}",
    template="close.html",
    fields=("reason", "note", "ticket"),
    read=_read_close,
    button=lambda subject, _: f"Close wallet {subject.wallet.wallet_id} for good",
    facts=_facts,
    changes=_closed,
)
