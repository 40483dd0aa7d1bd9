"""The page that a signed-in operator starts from: what needs them, and the economy at a glance."""

from __future__ import annotations

from typing import NamedTuple

from flask import Response

from wallet_app import service
from wallet_app.console import browser, economy, pages
from wallet_app.console.screens import ANYONE, screen
from wallet_app.service import Session

_OWN_REQUESTS_MAX = 5


class Need(NamedTuple):
    """Something that somebody should look at: a sentence, where, and how much it matters."""

    title: str
    says: str
    path: str
    tone: str


@screen("GET", "", permission="account:own")
def home() -> Response:
    """Say what needs the operator, and show the economy to who may read wallets or reports."""
    session = browser.session()
    return pages.page(
        "home.html",
        granted=[permission for permission in service.PERMISSIONS if session.may(permission)],
        has_passkey=bool(service.list_passkeys(session)),
        needs=_needs(session),
        **(economy.shown() if session.may("wallets:read") or session.may("reports:read") else {}),
    )


@screen("GET", "/", permission=ANYONE)
def home_with_a_slash() -> Response:
    """Lead whoever typed a slash too many to the home page."""
    return pages.go("/console")


def _needs(session: Session) -> list[Need]:
    needs = _approval_needs(session) if session.may("approvals:read") else _own_request_needs(session)
    if session.may("imports:review"):
        needs += _import_needs()
    return [*needs, *_integrity_needs(), *_work_needs()] if session.may("integrity:read") else needs


def _approval_needs(session: Session) -> list[Need]:
    """Say what waits for a decision: what this operator may decide, or, for others, that it waits."""
    decides = session.may("approvals:decide")
    waiting = service.count_pending(not_made_by=session.operator_id if decides else None)
    if not waiting:
        return []
    count = f"{waiting} or more" if waiting >= service.PAGE_MAX else str(waiting)
    title = f"{count} request{' waits' if waiting == 1 else 's wait'} for approval"
    says = "You can approve or reject." if decides else "An approver decides; nothing has moved yet."
    return [Need(title, says, "/console/approvals", "warn" if decides else "neutral")]


def _own_request_needs(session: Session) -> list[Need]:
    """Lead whoever sees no requests any more to what they asked for when they did."""
    own = service.RequestFilters(status="pending", maker_id=session.operator_id)
    return [
        Need(
            f"Your request {one.request_id} waits for approval",
            "You can withdraw it.",
            f"/console/approvals/{one.request_id}",
            "neutral",
        )
        for one in service.list_requests(own, limit=_OWN_REQUESTS_MAX).items
    ]


def _import_needs() -> list[Need]:
    needs = []
    for one in service.imports_that_need_somebody():
        refused = f"{one.refused:,} of its {one.rows:,} rows {'was' if one.refused == 1 else 'were'} not accepted."
        says = "It broke off." if one.state == "silent" else one.problem or ""
        title = f"The import of {one.file_name} {'went wrong' if one.state != 'completed' else 'left rows undone'}"
        said = " ".join(filter(None, [says, refused if one.refused else ""]))
        needs.append(Need(title, said, f"/console/imports#import-{one.import_id}", "warn"))
    return needs


_INTEGRITY = {
    "findings": ("The books are not right", "The last verification found faults. Look at them now.", "bad"),
    "stale": ("The books were not verified lately", "The last verification is more than a day old.", "warn"),
    "never": ("The books were never verified", "Start a verification, or see that the worker runs.", "warn"),
}


def _integrity_needs() -> list[Need]:
    title, says, tone = _INTEGRITY.get(service.get_integrity_state().state, ("", "", ""))
    return [Need(title, says, "/console/integrity", tone)] if title else []


def _work_needs() -> list[Need]:
    work = service.get_work_state()
    if not work.alive:
        says = "No worker has been heard of: holds end late, and totals and audit chain stand still."
        return [Need("The background work stands still", says, "/console/integrity#work", "bad")]
    left = [job.name for job in work.jobs if job.state in {"failed", "late"}]
    says = f"These jobs failed or are late: {', '.join(left)}."
    return [Need("Background work is left undone", says, "/console/integrity#work", "warn")] if left else []
