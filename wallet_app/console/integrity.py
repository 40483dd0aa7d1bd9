"""Whether the books were verified, by whom and with what; the chains' heads; and what the background work does."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, exports, pages
from wallet_app.console.charts import Series, bar_chart
from wallet_app.console.screens import screen
from wallet_app.fields import ID_MAX, invalid
from wallet_app.service import By, RunView

_COLUMNS = (
    *("id", "state", "requestedBy", "requestedAt", "full", "attempt", "startedAt", "endedAt", "entriesChecked"),
    *("faults", "findings"),
)


@screen("GET", "/integrity", permission="integrity:read")
def integrity() -> Response:
    """Show the last verification and those before it, and what is behind."""
    runs = service.list_verifications()
    last = next((run for run in runs if run.state == "ended"), None)
    return pages.page(
        "integrity.html",
        state=service.get_integrity_state(),
        runs=runs,
        last=last,
        last_full=service.last_full_run(runs),
        open=[run for run in runs if run.state in {"requested", "running"}],
        names=service.list_actor_names(),
        chains=service.get_chains(),
        work=service.get_work_state(),
        chart=_chart(runs),
    )


@screen("GET", f"/integrity.<{exports.FORMS}:form>", permission="reports:export")
def integrity_file(form: str) -> Response:
    """Send the verifications as a file; who may export has to be allowed to see them, too."""
    service.require_permission(browser.session(), "integrity:read", visitor=browser.visitor())
    return exports.export(form, "verifications", _COLUMNS, [_row(run) for run in service.list_verifications()])


@screen("POST", "/integrity", permission="integrity:run")
def post_integrity() -> Response:
    """Ask the worker for a verification."""
    form = pages.read_form("scope")
    if form["scope"] not in {"new", "all"}:
        raise invalid("/scope", "choice", "must be new or all: choose what to verify")
    visitor = browser.visitor()
    by = By(actor=browser.session().actor, request_id=visitor.request_id, address=visitor.address)
    service.request_verification(full=form["scope"] == "all", by=by)
    return pages.go("/console/integrity", note="verification")


@screen("GET", "/integrity/<int:run_id>", permission="integrity:read")
def verification_run(run_id: int) -> Response:
    """Show what one verification checked and found."""
    run = service.get_verification(run_id) if run_id <= ID_MAX else None
    if run is None:
        raise NotFound
    return pages.page("verification.html", run=run, names=service.list_actor_names())


def _chart(runs: Sequence[RunView]) -> Markup | None:
    """Return how many entries each of the last verifications checked, oldest first; None with too few to compare."""
    ended = [run for run in reversed(runs) if run.state == "ended"]
    if len(ended) < 2:
        return None
    labels = [f"{run.ended_at:%-d %b %H:%M}" for run in ended]
    checked = Series("Entries", [run.entries_checked for run in ended])
    return bar_chart("Entries that verifications checked", labels, [checked])


def _row(run: RunView) -> tuple[object, ...]:
    """Return a row of the file; of the findings only what is not right."""
    broken = [one for one in run.findings or () if one["faults"]]
    return (
        *(run.run_id, run.state, run.requested_by, run.requested_at, run.is_full, run.attempt, run.started_at),
        *(run.ended_at, run.entries_checked, run.faults, broken if run.findings is not None else None),
    )
