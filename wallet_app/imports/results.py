"""The file with a line per row: what came of it. A run that was cut off goes on after its last complete line.

Beside it lies a small file that tells whose results these are, so that they are never mixed with another input's.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from wallet_app.errors import InvalidError, UnavailableError, WalletServiceError
from wallet_app.imports import ImportFileError
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
    """What came of a row. `balance_after` and `version` belong to the transaction's first entry."""

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
    if not made.entries:
        return Result(status, transaction_id=number)
    return Result(
        status, transaction_id=number, balance_after=made.entries[0].balance_after, version=made.entries[0].seq
    )


@dataclass(slots=True)
class Tally:
    """How many rows came to what; `codes` counts what was not accepted, by its code."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)

    def add(self, status: str, code: str) -> None:
        self.statuses[status] += 1
        if code:
            self.codes[code] += 1

    @property
    def rows(self) -> int:
        return self.statuses.total()

    @property
    def not_accepted(self) -> int:
        return self.codes.total()


class _Line(NamedTuple):
    """What is read again of a line; `end` is where the next one begins."""

    row: int
    status: str
    code: str
    end: int


class ResultFile:
    """An open result file, which is this process's alone. `last_row` is the last row that it has a line for."""

    def __init__(self, file: BinaryIO, source: Source) -> None:
        self._file = file
        self._format = _Csv(source) if source.columns else _Ndjson()
        self.tally = Tally()
        self.last_row = 0

    def resume(self, *, retry_last: bool) -> None:
        """Go to the end of the last complete line, and cut off what follows it.

        With `retry_last` that line goes too if its row was not accepted.
        """
        end, last = 0, None
        for line in self._format.read(self._file):
            if line.status not in STATUSES or (last is not None and line.row <= last.row):
                break
            end, last = self._count(last), line
        if last is not None and not (retry_last and last.code):
            end = self._count(last)
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._file.write(self._format.header())

    def _count(self, line: _Line | None) -> int:
        """Count the line as done, and return where it ends."""
        if line is None:
            return 0
        self.tally.add(line.status, line.code)
        self.last_row = line.row
        return line.end

    def append(self, results: Sequence[tuple[Row, Result]]) -> None:
        """Add the lines of a chunk; they are on the disk when this returns."""
        self._file.write(self._format.lines(results))
        self._file.flush()
        os.fsync(self._file.fileno())
        for row, result in results:
            self.tally.add(result.status, result.code)
            self.last_row = row.number


@contextmanager
def open_results(
    path: Path, source: Source, identity: dict[str, Any], *, may_go_on: bool, restart: bool, retry_last: bool
) -> Iterator[ResultFile]:
    """Yield the result file, positioned after what is done; raise ImportFileError if it is another input's, or in use.

    `identity` is all that must be the same for a run to go on; it is kept in a small file beside. `restart` begins
    anew, and overwrites the results of an import, but no other file.
    """
    with _opened(path) as file:
        lock(file, f"Another import is writing {path}: wait for its end.")
        _claim(path, file, identity, may_go_on=may_go_on, restart=restart)
        results = ResultFile(file, source)
        results.resume(retry_last=retry_last)
        yield results
        file.flush()


def lock(file: BinaryIO, sentence: str) -> None:
    """Make the file this process's alone until it is closed; raise ImportFileError with the sentence if it is taken."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImportFileError(sentence) from None
    except OSError:
        # A stream, or a file system without locks; the references see to it that nothing is doubled.
        return


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as problem:
        raise ImportFileError(f"The result file {path} cannot be written: {problem.strerror}.") from None


def _claim(path: Path, file: BinaryIO, identity: dict[str, Any], *, may_go_on: bool, restart: bool) -> None:
    """See to it that the file is new, or holds the results of the input with this identity."""
    beside = path.with_name(path.name + ".input")
    is_new = os.fstat(file.fileno()).st_size == 0
    if not is_new and not beside.exists():
        raise ImportFileError(f"{path} is there and holds no import's results: move it away, or name another --result.")
    if not is_new and not restart:
        if not may_go_on:
            raise ImportFileError(f"{path} is there, and standard input cannot go on: name another --result.")
        _require_same(path, beside, identity)
        return
    file.truncate(0)
    _write_beside(beside, identity)


def _require_same(path: Path, beside: Path, identity: dict[str, Any]) -> None:
    try:
        known = json.loads(beside.read_bytes())
    except (OSError, ValueError):
        known = None
    if known != identity:
        raise ImportFileError(
            f"{path} holds the results of another input, of this one before it was changed, or of another way to run "
            "it: name another --result, or --restart to begin anew. (What was posted is never posted twice: its "
            "references tell.)"
        )


def _write_beside(beside: Path, identity: dict[str, Any]) -> None:
    new = beside.with_name(beside.name + ".new")
    with new.open("wb") as file:
        file.write(json.dumps(identity).encode())
        file.flush()
        os.fsync(file.fileno())
    new.replace(beside)


class _Csv:
    """Results as CSV: our columns, then the input's."""

    def __init__(self, source: Source) -> None:
        self._columns = source.columns
        self._delimiter = source.delimiter

    def header(self) -> bytes:
        return self._written([[*COLUMNS, *self._columns]])

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

    def read(self, file: BinaryIO) -> Iterator[_Line]:
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
            yield _Line(int(row), rest[0].decode("ascii", "replace"), rest[1].decode("ascii", "replace"), at)


def _harmless(cell: str) -> str:
    """Return the cell so that no spreadsheet takes it for a formula; a number stays a number."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


class _Ndjson:
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
        if isinstance(row.asked, UnreadableRowError):
            return (
                members[:-1] + b',"line":' + orjson.dumps(content[:_LINE_SHOWN_MAX].decode("utf-8", "replace")) + b"}\n"
            )
        # Byte for byte: it was read as one line of JSON, so it stands for itself.
        return members[:-1] + b',"record":' + content + b"}\n"

    def read(self, file: BinaryIO) -> Iterator[_Line]:
        """Yield the complete lines, as far as they make sense."""
        at = 0
        for line in file:
            at += len(line)
            # Not parsed: a record may hold what orjson does not take, and ours come first and in this form.
            members = _NDJSON_START.match(line)
            if not members or not line.endswith(b"}\n"):
                return
            yield _Line(int(members[1]), members[2].decode(), (members[3] or b"").decode(), at)
