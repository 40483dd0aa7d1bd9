"""Uploading a file of adjustments: it becomes a run, or the same page says what is wrong with it, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flask import Response, request
from werkzeug.datastructures import FileStorage

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.screens import screen
from wallet_app.errors import BulkInvalidError, OverloadedError, RefusedError
from wallet_app.fields import invalid
from wallet_app.imports import ImportFileError
from wallet_app.imports.adjustments import Uploaded, read_adjustments, template
from wallet_app.service import BulkDefaults, BulkProblems
from wallet_app.web import problem_of

FILE_BYTES_MAX = 5 * 1024 * 1024
_FORM_BYTES_MAX = FILE_BYTES_MAX + 64 * 1024
_FIELDS = ("campaign", "asset", "direction", "reason_code", "ticket")
_ASSETS_MAX = 100
_NAME_MAX = 100


class _ShownRow(NamedTuple):
    """A row with problems as the page shows it: of each cell what stands there, and what is wrong with it."""

    number: int
    message: str
    """What is wrong with the row as a whole; empty if it is in cells."""
    cells: list[tuple[str, str]]


@screen("GET", "/bulk/new", permission="bulk:draft")
def new_bulk() -> Response:
    """Ask for a file, and what holds for all its rows."""
    return _page(dict.fromkeys(_FIELDS, ""))


@screen("GET", "/bulk/template.csv", permission="bulk:draft")
def bulk_template() -> Response:
    """Send an empty file to fill in."""
    response = Response(template(), content_type="text/csv; charset=utf-8; header=present")
    response.headers["Content-Disposition"] = 'attachment; filename="bulk-template.csv"'
    return response


@screen("POST", "/bulk/new", permission="bulk:draft", upload_bytes_max=_FORM_BYTES_MAX)
def post_bulk() -> Response:
    """Check the file; go on to its run, or show what is wrong."""
    form = pages.read_form(*_FIELDS)
    try:
        uploaded = _read(form)
        made = service.draft_bulk(browser.session(), uploaded.file, visitor=browser.visitor())
    except ImportFileError as wrong:
        return _page(form, error=str(wrong), error_field="file")
    except BulkInvalidError as wrong:
        return _page(form, error=wrong.detail, error_field=wrong.field)
    except (RefusedError, OverloadedError) as refused:
        known = getattr(refused, "run_id", None)
        return _page(form, status=problem_of(refused).status, error=refused.detail, error_field="file", known_run=known)
    if isinstance(made, BulkProblems):
        return _problems(form, uploaded, made)
    return pages.go(f"/console/bulk/{made}", note="bulk-drafted")


def _read(form: Mapping[str, str]) -> Uploaded:
    """Return the uploaded file as it was read. Raises ImportFileError, BulkInvalidError."""
    campaign = service.campaign_of(form["campaign"])
    given: list[FileStorage] = request.files.getlist("file")
    if len(given) > 1 or set(request.files) - {"file"}:
        raise invalid("/file", "repeated", "may be given once")
    if not given or not given[0].filename:
        raise ImportFileError("Choose a file.")
    name = "".join(char if char.isprintable() else "?" for char in given[0].filename)[-_NAME_MAX:]
    if given[0].stream.seek(0, 2) > FILE_BYTES_MAX:
        raise ImportFileError(f"The file is larger than {FILE_BYTES_MAX // 1024 // 1024} MB: split it.")
    given[0].stream.seek(0)
    defaults = BulkDefaults(**{field: form[field].strip() or None for field in _FIELDS[1:]})
    return read_adjustments(given[0].stream, name=name, campaign=campaign, defaults=defaults)  # type: ignore[arg-type]


def _problems(form: Mapping[str, str], uploaded: Uploaded, found: BulkProblems) -> Response:
    """Return the page with the first rows that have problems, each message in its cell."""
    contents = {row.row_no: row for row in uploaded.file.rows}
    rows = []
    for number in dict.fromkeys(one.row_no for one in found.problems):
        own = [one for one in found.problems if one.row_no == number]
        messages = {one.column: one.message for one in reversed(own) if one.column in uploaded.columns}
        # What is about a column that the file does not have is about the row.
        others = [one.message for one in own if one.column not in uploaded.columns]
        cells = [
            (_shown(contents[number].cells.get(name, "")), _shown(messages.get(name, ""))) for name in uploaded.columns
        ]
        rows.append(_ShownRow(number, _shown(" ".join(others)), cells))
    count = "1 row has a problem" if found.rows == 1 else f"{found.rows:,} rows have problems"
    error = f"{count}, and nothing was kept of the file. Mend it, and upload it again."
    return _page(form, error=error, error_field="file", uploaded=uploaded, problem_rows=rows, problem_count=found.rows)


def _shown(text: str) -> str:
    """Return the text with ? for bytes that are not UTF-8: they came as lone surrogates, which no answer can have."""
    return text.encode("utf-8", "replace").decode()


def _page(form: Mapping[str, str], *, status: int = 422, **more: Any) -> Response:
    """Return the page, filled in as it was; its status is 200 without an error."""
    return pages.page(
        "bulk_new.html",
        status if more.get("error") else 200,
        form=form,
        assets=[(one.code, f"{one.code}, {one.name}") for one in service.list_assets(after_id=None, limit=_ASSETS_MAX)],
        reasons=[
            (one.code, f"{one.code}: {one.settings.name}") for one in service.list_reasons() if one.settings.is_active
        ],
        rows_max=service.BULK_ROWS_MAX,
        bytes_max=FILE_BYTES_MAX,
        columns=service.BULK_COLUMNS,
        **more,
    )
