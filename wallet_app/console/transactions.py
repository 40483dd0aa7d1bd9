"""A transaction: both sides of it, who made it and why, what undid it, and whether its rows are still as written."""

from __future__ import annotations

import uuid

import orjson
from flask import Response

from wallet_app import service
from wallet_app.console import navigation, pages
from wallet_app.console.browser import session
from wallet_app.console.screens import screen


@screen("GET", "/transactions/<uuid:transaction_id>", permission="wallets:read")
def transaction(transaction_id: uuid.UUID) -> Response:
    """Show it."""
    found = service.get_evidence(transaction_id)
    posted = found.view.transaction
    reverse_url = f"/console/transactions/{transaction_id}/reverse"
    can_be_reversed = any(part.remaining for part in found.view.reversible)
    approval_id = service.request_of_transaction(transaction_id) if session().may("approvals:read") else None
    sees_audit = session().may("audit:read")
    return pages.page(
        "transaction.html",
        found=found,
        view=found.view,
        posted=posted,
        anchor=found.wallets[posted.wallet_id],
        said=[
            (name, _text(value))
            for name, value in (("Asked for", posted.requested), ("Decided", posted.result))
            if value
        ],
        reverse_url=reverse_url if can_be_reversed and navigation.may_open(session(), reverse_url) else None,
        approval_id=approval_id,
        records=service.list_audit_about(request_id=posted.request_id, approval_id=approval_id) if sees_audit else None,
        names=service.list_actor_names(),
        audit_url=_audit_url(posted.request_id),
    )


def _audit_url(request_id: str | None) -> str | None:
    """Return where what the audit log has of the same request can be read, if the operator may."""
    if request_id is None or not navigation.may_open(session(), "/console/audit"):
        return None
    return f"/console/audit?request={request_id}"


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
