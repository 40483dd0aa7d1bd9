"""Exports: whoever takes a list along is recorded, with what it was narrowed to and how many rows they got."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeVar

from wallet_app.errors import ExportTooLongError
from wallet_app.service import audit
from wallet_app.service.audit import Act, By, Outcome
from wallet_app.service.sessions import Session, Visitor, require

T = TypeVar("T")

EXPORT_ROWS_MAX = 1_000_000
"""A file that would be longer breaks off, so that it is not taken for a whole one."""


def export(
    session: Session,
    rows: Iterator[T],
    *,
    what: str,
    filters: Mapping[str, Any],
    visitor: Visitor,
    permission: str = "reports:export",
) -> Generator[T]:
    """Return the rows, and record in the audit log that they are exported: before the first, and how many at the end.

    `what` names the list. A file that was not taken to its end is recorded as failed, with the rows that were sent and
    what cut it off: so close what is returned when nobody reads on.
    Raises PermissionDeniedError; ExportTooLongError while the rows are read.
    """
    require(session, permission, visitor=visitor)
    by = By(actor=session.actor, request_id=visitor.request_id, address=visitor.address)
    _record(by, "export:begin", what, {"filters": dict(filters)})
    return _counted(rows, by, what)


def _counted(rows: Iterator[T], by: By, what: str) -> Generator[T]:
    count, cut_by = 0, "a fault"
    try:
        for row in rows:
            if count == EXPORT_ROWS_MAX:
                cut_by = "its length"
                raise ExportTooLongError(EXPORT_ROWS_MAX)
            yield row
            count += 1
        cut_by = ""
    except GeneratorExit:
        cut_by = "its reader, who left"
        raise
    finally:
        after = {"rows": count, "cutBy": cut_by} if cut_by else {"rows": count}
        _record(by, "export:end", what, after, "failed" if cut_by else "done")


def _record(by: By, action: str, what: str, after: dict[str, Any], outcome: Outcome = "done") -> None:
    audit.record_alone(Act(by=by, action=action, outcome=outcome, subject=what, after=after))
