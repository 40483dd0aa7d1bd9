"""The audit log: who did what, narrowed by a form, each record with what it changed, and the list as a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
from flask import Response
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, exports, pages
from wallet_app.console.asked import Asked, places_text, read_places
from wallet_app.console.screens import screen
from wallet_app.fields import ID_MAX
from wallet_app.service import AuditFilters, Place, RecordView

NAMES = ("actor", "action", "subject", "outcome", "ticket", "request", "from", "to")
COLUMNS = (
    *("id", "occurredAt", "actor", "action", "outcome", "subject", "before", "after", "reason", "ticket"),
    *("requestId", "address"),
)
OUTCOMES = ("done", "denied", "failed")

_PATH = "/console/audit"
_TEXT_MAX = 500
_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@screen("GET", "/audit", permission="audit:read")
def audit() -> Response:
    """List the records as far as the filters go, newest first."""
    asked = Asked(*NAMES)
    filters = _filters(asked)
    before = _place()
    page = None if asked.errors else service.list_audit(filters, before=before)
    following = None if page is None else page.following
    return pages.page(
        "audit.html",
        422 if asked.errors else 200,
        asked=asked,
        records=() if page is None else page.records,
        is_cut=page is not None and page.following is not None and len(page.records) < service.AUDIT_PAGE,
        names=service.list_actor_names(),
        actions=_choices(service.list_audit_actions(), asked.values["action"]),
        chains=service.get_chains(),
        next_url=None if following is None else asked.url(_PATH, before=_text_of(following)),
        first_url=asked.url(_PATH) if before is not None else None,
        csv_url=asked.url(f"{_PATH}.csv"),
        json_url=asked.url(f"{_PATH}.json"),
    )


@screen("GET", f"/audit.<{exports.FORMS}:form>", permission="reports:export")
def audit_file(form: str) -> Response:
    """Send the records that pass the filters as a file; who may export has to be allowed to read them, too."""
    service.require_permission(browser.session(), "audit:read", visitor=browser.visitor())
    asked = Asked(*NAMES)
    filters = _filters(asked)
    if asked.errors:
        return pages.page("bad_filter.html", 422, asked=asked, back=asked.url(_PATH))
    rows = (_row(record) for record in service.walk_audit(filters))
    return exports.export(form, "audit", COLUMNS, rows, filters=filters.told())


@screen("GET", "/audit/<int:record_id>", permission="audit:read")
def audit_record(record_id: int) -> Response:
    """Show one record: what it changed, and its place in the chain."""
    record = service.get_audit_record(record_id) if record_id <= ID_MAX else None
    if record is None:
        raise NotFound
    changes = [(name, _said(before), _said(after)) for name, before, after in service.changes_of(record)]
    return pages.page("audit_record.html", record=record, changes=changes, names=service.list_actor_names())


def _choices(actions: Sequence[str], asked: str) -> list[tuple[str, str]]:
    """Return what may be chosen: each resource, and each action on it; and what is asked for already, known or not."""
    known = sorted({*actions, *(action.partition(":")[0] for action in actions), *([asked] if asked else [])})
    return [(value, f"\u2003{value}" if ":" in value else f"{value}: all") for value in known]


def _filters(asked: Asked) -> AuditFilters:
    since, until = asked.period()
    return AuditFilters(
        actor=asked.line("actor", high=_TEXT_MAX),
        action=asked.line("action", high=_TEXT_MAX),
        subject=asked.line("subject", high=_TEXT_MAX),
        outcome=asked.choice("outcome", OUTCOMES),
        ticket=asked.line("ticket", high=_TEXT_MAX),
        request_id=asked.line("request", high=_TEXT_MAX),
        occurred_from=since,
        occurred_to=until,
    )


def _place() -> Place | None:
    """Return where the page begins, from the microseconds and the record's number in the address."""
    places = read_places("before", 2)
    if places is None or places[0] >= 2**53 or places[1] > ID_MAX:
        return None
    return Place(_EPOCH + places[0] * _MICROSECOND, places[1])


def _text_of(place: Place) -> str:
    return places_text(((place.occurred_at - _EPOCH) // _MICROSECOND, place.record_id))


def _said(value: Any) -> str | None:
    """Return a value of a record as people read it; None for what was not there."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else orjson.dumps(value).decode()


def _row(record: RecordView) -> tuple[object, ...]:
    return tuple(record[:12])
