"""Lists as files: CSV for spreadsheets and JSON for programs, streamed row by row, each recorded in the audit log.

Amounts are numbers, instants as the API writes them. What a spreadsheet would take for a formula gets an apostrophe in
front, also behind what parts cells elsewhere: many a spreadsheet parts them at semicolons and tabs, quoted or not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import orjson
from flask import Response, stream_with_context

from wallet_app import service
from wallet_app.console import browser

FORMS = "any(csv,json)"
"""The converter of a path's ending: `/wallets/<int:wallet_id>.<any(csv,json):form>`."""

Row = Sequence[object]

_ROWS_AT_ONCE = 500
_FORMULA = re.compile("(^|[;\t\r\n|][\\s\"']*)(?=[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
_QUOTED = re.compile('[,;|"\t\r\n]')
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
_TYPES = {"csv": "text/csv; charset=utf-8; header=present", "json": "application/json"}


def export(
    form: str,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    filters: Mapping[str, Any] | None = None,
    permission: str = "reports:export",
) -> Response:
    """Return the rows as a file `name`.csv or .json; `filters` is what the audit log tells of which rows these are.

    `rows` are asked for as they are sent, in this request's context. What the first one raises is raised here, while
    there can still be a page about it.
    """
    found = iter(rows)
    # The first is read ahead, so that what does not exist is a page and not a broken file.
    found = chain(list(islice(found, 1)), found)
    told = service.export(
        browser.session(),
        found,
        what=name,
        filters=filters or {},
        visitor=browser.visitor(),
        permission=permission,
    )

    def pieces() -> Iterator[bytes]:
        # At once when the client leaves, while there is the request's context to record it in.
        with closing(told):
            yield from _WRITERS[form](columns, told)

    response = Response(stream_with_context(pieces()), content_type=_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    return response


def cell(value: object) -> str:
    """Return what stands in a cell of a CSV file; None is an empty one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    if isinstance(value, dt.datetime):
        return service.instant_text(value)
    text = orjson.dumps(value, default=str).decode() if isinstance(value, dict | list) else str(value)
    return _FORMULA.sub(r"\1'", text)


def _csv(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[bytes]:
    lines: Iterator[Sequence[str]] = chain([columns], (list(map(cell, row)) for row in rows))
    while block := list(islice(lines, _ROWS_AT_ONCE)):
        yield "".join(map(_line, block)).encode("utf-8", "replace")


def _line(cells: Sequence[str]) -> str:
    # The csv module quotes what its own delimiter is in, and leaves alone what others take for one.
    quoted = ('"{}"'.format(cell.replace('"', '""')) if _QUOTED.search(cell) else cell for cell in cells)
    return ",".join(quoted) + "\r\n"


def _json(columns: Sequence[str], rows: Iterator[Row]) -> Iterator[bytes]:
    yield b"["
    separator = b"\n"
    while block := list(islice(rows, _ROWS_AT_ONCE)):
        texts = [orjson.dumps(dict(zip(columns, row, strict=True)), _value, _OPTIONS) for row in block]
        yield separator + b",\n".join(texts)
        separator = b",\n"
    yield b"\n]\n"


_WRITERS: Mapping[str, Callable[[Sequence[str], Iterator[Row]], Iterator[bytes]]] = {"csv": _csv, "json": _json}


def _value(value: object) -> object:
    if isinstance(value, dt.datetime):
        return service.instant_text(value)
    # A decimal as text: as a number it might be rounded by who reads it.
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
