"""How requests for approval are said: what they ask for, what has drifted since, and their rows in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wallet_app import service
from wallet_app.console import limits, phrases, weighed, words
from wallet_app.console.weighed import Changes
from wallet_app.service import (
    AdjustOperation,
    CloseOperation,
    Effect,
    ExtendOperation,
    FreezeOperation,
    LimitRaiseOperation,
    Operation,
    ReasonView,
    ReleaseOperation,
    RequestPage,
    RequestView,
    ReverseOperation,
    RevokeOperation,
    RunOperation,
    TransferOperation,
    UndoOperation,
    UnfreezeOperation,
    Weighed,
)

KINDS = {
    "adjustment": "Adjustment",
    "reversal": "Reversal",
    "release": "Release of a hold",
    "transfer": "Transfer",
    "extension": "Extension of a lot",
    "revocation": "Revocation of a lot",
    "freeze": "Freeze",
    "unfreeze": "Unfreeze",
    "closing": "Closing",
    "limit_raise": "Higher limits",
    "limit_raise_end": "End of higher limits",
    "bulk": "Bulk run",
    "bulk_undo": "Undo of a bulk run",
}
"""An operation's kind as a word."""

COLUMNS = (
    "request",
    "status",
    "kind",
    "wallet",
    "user",
    "asset",
    "amount",
    "reason",
    "ticket",
    "maker",
    "created_at",
    "expires_at",
    "checker",
    "comment",
    "decided_at",
    "transaction",
    "payload_hash",
)
"""Of a file of requests."""


def row(asked: RequestView) -> Sequence[object]:
    """Return the request as a row of a file."""
    amount = getattr(asked.operation, "amount", None)
    if getattr(asked.operation, "direction", None) == "debit":
        amount = -(amount or 0)
    return (
        asked.request_id,
        asked.status,
        asked.operation.kind,
        asked.wallet_id,
        asked.user_name,
        asked.asset_code,
        None if amount is None else words.plain_amount(amount, asked.asset_scale or 0),
        _reason(asked.operation),
        asked.operation.ticket,
        asked.maker_name,
        asked.created_at,
        asked.expires_at,
        asked.checker_name,
        asked.comment,
        asked.decided_at,
        asked.transaction_id,
        asked.payload_hash,
    )


def in_words(asked: RequestView) -> str:
    """Return what is asked for, as a short sentence: Credit 500 GOLD to John."""
    one, who = asked.operation, words.isolated(asked.user_name or "")
    if isinstance(one, RunOperation):
        does = "Undo a batch by run" if isinstance(one, UndoOperation) else "Post the rows of run"
        return f"{does} {one.run_id}, {one.campaign}: {_sums(one)}"
    if isinstance(one, AdjustOperation):
        side = "to" if one.direction == "credit" else "from"
        return f"{one.direction.capitalize()} {_money(one.amount, asked)} {side} {who}"
    if isinstance(one, TransferOperation):
        return f"Transfer {_money(one.amount, asked)} from {who} to wallet {one.to_wallet_id}"
    if isinstance(one, ReverseOperation):
        amount = "what is left" if one.amount is None else _money(one.amount, asked)
        return f"Reverse {amount} of a transaction of {who}"
    if isinstance(one, ExtendOperation):
        return f"Extend a lot of {who} until {words.absolute(one.expires_at)}"
    if isinstance(one, RevokeOperation):
        return f"Revoke a lot of {who}"
    if isinstance(one, ReleaseOperation):
        return f"Release a hold of {who}"
    if isinstance(one, LimitRaiseOperation):
        return f"Raise limits of wallet {asked.wallet_id} of {who} until {words.absolute(one.until)}"
    verb = {FreezeOperation: "Freeze", UnfreezeOperation: "Unfreeze", CloseOperation: "Close"}.get(type(one))
    return f"{verb or words.kind(one.kind)} wallet {asked.wallet_id} of {who}"


def facts(asked: RequestView, reasons: Sequence[ReasonView]) -> list[tuple[str, str]]:
    """Return what is asked for, field by field, as it is kept and hashed; with the names of the reason codes."""
    one = asked.operation
    found: list[tuple[str, str | None]] = [("Kind", KINDS.get(one.kind, words.kind(one.kind)))]
    if isinstance(one, AdjustOperation):
        found += [("Direction", one.direction), ("Amount", _money(one.amount, asked))]
    if isinstance(one, TransferOperation):
        found += [("To wallet", str(one.to_wallet_id)), ("Amount", _money(one.amount, asked))]
    if isinstance(one, ReverseOperation):
        amount = "All that is left" if one.amount is None else _money(one.amount, asked)
        found += [("Amount", amount), ("If too little is there", phrases.SHORTFALLS[one.on_shortfall])]
    if isinstance(one, ExtendOperation):
        found += [("Until", words.absolute(one.expires_at))]
    if isinstance(one, RevokeOperation):
        found += [("If too little is there", phrases.SHORTFALLS[one.on_shortfall])]
    if isinstance(one, FreezeOperation):
        found += [("Side", one.side), ("It ends", phrases.of_end(one.until))]
    if isinstance(one, UnfreezeOperation):
        found += [("Side", one.side)]
    if isinstance(one, LimitRaiseOperation):
        figures = one.figures._asdict().items()
        found += [(phrases.LIMITS[name], _money(figure, asked)) for name, figure in figures if figure is not None]
        found += [("It ends", words.absolute(one.until))]
    if isinstance(one, RunOperation):
        found += [("Rows", f"{one.rows:,}"), ("What", _sums(one)), ("SHA-256 of the rows", one.digest)]
    if isinstance(one, UndoOperation):
        found += [("Undoes run", str(one.undoes)), ("If too little is there", phrases.SHORTFALLS[one.on_shortfall])]
    found += [("Reason", phrases.of_why(one, reasons)), ("Ticket", one.ticket), ("Note", one.note)]
    return [(name, value) for name, value in found if value is not None]


def context(found: RequestPage) -> dict[str, Any]:
    """Return what every page about a request shows: the request, what it would do now, and what has drifted."""
    return {
        "asked": found.request,
        "what": in_words(found.request),
        "facts_asked": facts(found.request, service.list_reasons()),
        "now": found.weighed,
        "problem": _problem(found.weighed),
        "changes": ({}, {}) if found.weighed is None else _changes(found.request, found.weighed.effects),
        "then": _then(found.request),
        "drift": found.drift,
        "why_not": _why_not(found),
        "run_id": found.request.operation.run_id if isinstance(found.request.operation, RunOperation) else None,
        "may_withdraw": found.may_withdraw,
    }


def _why_not(found: RequestPage) -> str | None:
    """Return why it cannot be approved, None if it can; what the books say with amounts as people read them."""
    problem = None if found.weighed is None else found.weighed.problem
    is_of_books = problem is not None and found.why_not == problem.detail
    return _problem(found.weighed) if is_of_books else found.why_not


def _problem(found: Weighed | None) -> str | None:
    """Return why it cannot be done now, None if it can."""
    return None if found is None or found.problem is None else phrases.of_effects(found.problem, found.effects)


def _changes(asked: RequestView, effects: Sequence[Effect]) -> Changes:
    """Return what would change: balances, or of a closing that it is closed."""
    if isinstance(asked.operation, CloseOperation):
        return {"Status": "open"}, {"Status": "closed, for good"}
    if isinstance(asked.operation, LimitRaiseOperation):
        return limits.changes(asked.operation)
    if isinstance(asked.operation, ExtendOperation):
        now, then = service.get_lot(asked.operation.lot_id).lot.expires_at, asked.operation.expires_at
        what = "It can be used until"
        return {what: phrases.of_lot_end(now)}, {what: phrases.of_lot_end(then)}
    return weighed.changes_of(effects)


def _then(asked: RequestView) -> Changes:
    """Return what would have changed when it was asked for, as far as it was balances."""
    if isinstance(asked.operation, ExtendOperation | LimitRaiseOperation):
        return {}, {}
    effects = [
        Effect(
            wallet_id=line["walletId"],
            user_id=asked.user_id or 0,
            user_name="",
            asset_id=0,
            asset_code=line["asset"],
            asset_name="",
            asset_scale=line["scale"],
            version=line["version"],
            balance_before=int(line["balanceBefore"]),
            balance_after=int(line["balanceAfter"]),
            held_before=int(line["heldBefore"]),
            held_after=int(line["heldAfter"]),
            owed_before=int(line["owedBefore"]),
            owed_after=int(line["owedAfter"]),
        )
        for line in asked.snapshot
    ]
    return _changes(asked, effects)


def _sums(one: RunOperation) -> str:
    sums = (f"{each['direction']} {words.amount(each['amount'], each['scale'])} {each['asset']}" for each in one.sums)
    return f"{', '.join(sums)} in {one.rows:,} rows"


def _money(amount: int, asked: RequestView) -> str:
    return f"{words.amount(amount, asked.asset_scale or 0)} {asked.asset_code}"


def _reason(operation: Operation) -> str | None:
    return getattr(operation, "reason_code", None) or getattr(operation, "reason", None)
