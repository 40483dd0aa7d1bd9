"""What came of a row, and the line that tells it: written as CSV or NDJSON, and read again by a run that goes on."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import orjson

from wallet_app.errors import InvalidError, UnavailableError, WalletServiceError
from wallet_app.imports.source import Row, Source, UnreadableRowError
from wallet_app.service import NO_TRANSACTION, Receipt

STATUSES = ("done", "replayed", "refused", "invalid", "busy", "failed")
COLUMNS = ("row", "status", "code", "message", "transactionId", "balanceAfter", "version")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_NDJSON_START = re.compile(rb'\{"row":([0-9]+),"status":"([a-z]+)","code":(?:null|"([a-z_]+)"),')
_LINE_SHOWN_MAX = 1_000

Outcome = Receipt | Exception


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a row. `balance_after` and `version` are of the last entry that its first wallet got."""

    status: str
    code: str = ""
    message: str = ""
    transaction_id: str = ""
    balance_after: int | None = None
    version: int | None = None


def result_of(outcome: Outcome) -> Result:
    """Translate what the service answered, or what reading the row said."""
    if isinstance(outcome, Receipt):
        return _accepted(outcome)
    if not isinstance(outcome, WalletServiceError):
        return Result("failed", "internal_error", "This could not be posted: a fault of the service, see its log.")
    if isinstance(outcome, UnavailableError):
        return Result("busy", outcome.code, outcome.detail)
    return Result("invalid" if isinstance(outcome, InvalidError) else "refused", outcome.code, outcome.detail)


def _accepted(receipt: Receipt) -> Result:
    made = receipt.transaction
    number = "" if made.transaction_id == NO_TRANSACTION else str(made.transaction_id)
    status = "replayed" if receipt.is_replay else "done"
    own = [entry for entry in made.entries if entry.wallet_id == made.wallet_id] or made.entries
    if not own:
        return Result(status, transaction_id=number)
    return Result(status, transaction_id=number, balance_after=own[-1].balance_after, version=own[-1].seq)


class Line(NamedTuple):
    """What is read again of a line; `end` is where the next one begins."""

    row: int
    status: str
    code: str
    end: int


def format_of(source: Source) -> Csv | Ndjson:
    """Return how the results of the source are written: as it is."""
    return Csv(source) if source.columns else Ndjson()


class Csv:
    """Results as CSV: our columns, then the input's; `asked.` stands before a name that both have."""

    def __init__(self, source: Source) -> None:
        self._columns = source.columns
        self._delimiter = source.delimiter

    def header(self) -> bytes:
        theirs = [f"asked.{name}" if name in COLUMNS else name for name in self._columns]
        return self._written([[*COLUMNS, *theirs]])

    def lines(self, results: Sequence[tuple[Row, Result]]) -> bytes:
        return self._written([self._cells(row, result) for row, result in results])

    def _cells(self, row: Row, result: Result) -> list[Any]:
        shown = [_harmless(cell) for cell in row.content[: len(self._columns)] if isinstance(cell, str)]
        return [
            row.number,
            result.status,
            result.code,
            _harmless(result.message),
            result.transaction_id,
            result.balance_after,
            result.version,
            *shown,
            *[""] * (len(self._columns) - len(shown)),
        ]

    def _written(self, rows: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        # \r\n also because a cell with a lone \r in it is quoted only then.
        csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n").writerows(rows)
        return text.getvalue().encode("utf-8", "backslashreplace")

    def read(self, file: BinaryIO) -> Iterator[Line]:
        """Yield the complete lines after the header, as far as they make sense."""
        delimiter = self._delimiter.encode()
        at, is_open, first = 0, False, b""
        for line in file:
            at += len(line)
            first = first if is_open else line
            is_open ^= line.count(b'"') % 2 == 1
            if is_open or at == len(line):
                continue
            row, *rest = first.split(delimiter, 3)
            if not line.endswith(b"\r\n") or len(rest) < 3 or not row.isdigit():
                return
            yield Line(int(row), rest[0].decode("ascii", "replace"), rest[1].decode("ascii", "replace"), at)


def _harmless(cell: str) -> str:
    """Return the cell so that no spreadsheet takes it for a formula; a number stays a number."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


class Ndjson:
    """Results as NDJSON: our members, then the input's `record`, or its `line` where that is no JSON."""

    def header(self) -> bytes:
        return b""

    def lines(self, results: Sequence[tuple[Row, Result]]) -> bytes:
        return b"".join(self._line(row, result) for row, result in results)

    def _line(self, row: Row, result: Result) -> bytes:
        values = (
            row.number,
            result.status,
            result.code or None,
            result.message or None,
            result.transaction_id or None,
            result.balance_after,
            result.version,
        )
        members = orjson.dumps(dict(zip(COLUMNS, values, strict=True)))
        content = row.content if isinstance(row.content, bytes) else b""
        if isinstance(row.record, UnreadableRowError):
            return (
                members[:-1] + b',"line":' + orjson.dumps(content[:_LINE_SHOWN_MAX].decode("utf-8", "replace")) + b"}\n"
            )
        # Byte for byte: it was read as one line of JSON, so it stands for itself.
        return members[:-1] + b',"record":' + content + b"}\n"

    def read(self, file: BinaryIO) -> Iterator[Line]:
        """Yield the complete lines, as far as they make sense."""
        at = 0
        for line in file:
            at += len(line)
            # Not parsed: a record may hold what orjson does not take, and ours come first and in this form.
            members = _NDJSON_START.match(line)
            if not members or not line.endswith(b"}\n"):
                return
            yield Line(int(members[1]), members[2].decode(), (members[3] or b"").decode(), at)
