"""Reads a CSV of adjustments for a bulk run: which rows there are, and what stands in their cells.

What that means, and whether it may be, the service tells. A row that cannot be read is that row's problem.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from wallet_app.imports import ImportFileError
from wallet_app.imports.source import Csv, identify
from wallet_app.service import BULK_COLUMNS, BULK_ROWS_MAX, OWNER_COLUMNS, BulkCells, BulkDefaults, BulkFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s-]+")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was read of a file: its rows for the service, and what is to be shown of how it was read."""

    file: BulkFile
    columns: list[str]
    delimiter: str
    """In a word."""
    empty_rows: int
    """Rows of empty cells, which were left out."""


def read_adjustments(file: BinaryIO, *, name: str, campaign: str, defaults: BulkDefaults) -> Uploaded:
    """Read an uploaded file. Raises ImportFileError if it is none that a run can be made of."""
    identity = identify(file)
    read = Csv(file, BULK_COLUMNS, name_of=_column)
    _require_columns(read.columns, defaults)
    rows: list[BulkCells] = []
    empty = 0
    for number, cells, problem in read.rows():
        if problem is None and not any(cell.strip() for cell in cells):
            empty += 1
            continue
        if len(rows) == BULK_ROWS_MAX:
            raise ImportFileError(
                f"The file has more than {BULK_ROWS_MAX:,} rows: split it, and upload one part after the other."
            )
        told = dict(zip(read.columns, cells, strict=False))
        rows.append(BulkCells(number, told, None if problem is None else problem.detail))
    if not rows:
        raise ImportFileError("The file has no rows below its first line, which names the columns.")
    made = BulkFile(name=name, sha256=bytes.fromhex(identity.sha256), campaign=campaign, defaults=defaults, rows=rows)
    return Uploaded(made, read.columns, DELIMITERS[read.delimiter], empty)


def template() -> str:
    """Return an empty file to fill in, with all columns."""
    return ",".join(BULK_COLUMNS) + "\r\n"


def _column(cell: str) -> str:
    """Return a column's name however it was typed: `User ID`, `userId` and `user-id` are user_id."""
    return "_".join(_WORDS.sub(" ", cell.strip()).lower().split())


def _require_columns(columns: list[str], defaults: BulkDefaults) -> None:
    missing = []
    if not set(OWNER_COLUMNS).intersection(columns):
        missing.append("one of user_id, external_id and wallet_id")
    if "amount" not in columns:
        missing.append("amount")
    missing += [
        f"{name} (or choose it on this page for the whole file)"
        for name in ("direction", "reason_code")
        if name not in columns and getattr(defaults, name) is None
    ]
    if missing:
        raise ImportFileError(f"The first line lacks {', and '.join(missing)}.")
