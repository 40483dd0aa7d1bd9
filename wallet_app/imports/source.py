"""Reads a file of commands, CSV or NDJSON, row by row: a row that cannot be read is that row's error and no other's.

`Csv` reads any CSV so, whatever its rows are for.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, NamedTuple, get_args

from wallet_app import records, strict_json
from wallet_app.errors import InvalidError
from wallet_app.fields import DETAILS
from wallet_app.imports import ImportFileError

LINE_BYTES_MAX = 64 * 1024
"""As much as a request's body may have."""

_CR_ENDS = "has CR alone as a line end: save the file with LF or CR LF as line ends."

_CLASSES = [one for one in get_args(records.AnyRecord) if "legs" not in one.model_fields]  # A cell holds no list.
_FIELDS = [
    {field.alias or name: field.is_required() for name, field in record.model_fields.items()} for record in _CLASSES
]
_OWN = [name for fields in _FIELDS for name in fields if name not in DETAILS]
COLUMNS = tuple(dict.fromkeys(["type", *_OWN, *DETAILS]))
"""What a CSV may have columns for: the fields of all kinds of records that fit into a row."""


class UnreadableRowError(InvalidError):
    """The row is not what the file's format says; `detail` tells why."""

    code: ClassVar[str] = "unreadable_row"
    title: ClassVar[str] = "Unreadable row"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its number, what stands in it (for the result), and its record or why there is none.

    The number is the one that a spreadsheet shows: a CSV's header is row 1. Of NDJSON it is the line's.
    """

    number: int
    content: list[str] | bytes
    record: object | UnreadableRowError


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is known by when an import of it goes on: whoever changes a byte has another file."""

    size: int
    sha256: str
    lines: int


def identify(file: BinaryIO) -> Identity:
    """Read the whole file for its identity, and go back to its beginning. Raises ImportFileError for a stream."""
    if not file.seekable():
        raise ImportFileError("This is a stream and no file: give it as - on standard input, with a --result.")
    digest, size, lines = hashlib.sha256(), 0, 0
    while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
        lines += block.count(b"\n")
    file.seek(0)
    return Identity(size, digest.hexdigest(), lines)


class Source:
    """An open file of commands; `columns` and `delimiter` are a CSV's, else empty. Its rows can be read once."""

    def __init__(self, file: BinaryIO, file_format: str) -> None:
        """Read a CSV's header. Raises ImportFileError if the file is none of its format."""
        self._csv = Csv(file, COLUMNS) if file_format == "csv" else None
        self._lines = _Lines(file)
        self.columns: list[str] = []
        self.delimiter = ""
        if self._csv is not None:
            self.columns, self.delimiter = self._csv.columns, self._csv.delimiter
            _require_columns(self.columns)

    def rows(self, *, after: int = 0) -> Iterator[Row]:
        """Yield the rows that follow row number `after`, each read when its turn comes."""
        if self._csv is not None:
            return _csv_rows(self._csv, after)
        return _ndjson_rows(self._lines, after)


# --- CSV ---


class Cells(NamedTuple):
    """A row of a CSV: its number, and its cells, as many as there are columns, unless there is a `problem` with it."""

    number: int
    cells: list[str]
    problem: UnreadableRowError | None


class Csv:
    """An open CSV in UTF-8 whose first line names its columns, of those that are `known`. It can be read once."""

    def __init__(self, file: BinaryIO, known: Collection[str], name_of: Callable[[str], str] = str.strip) -> None:
        """Read the first line. `name_of` makes a column's name of its cell.

        Raises ImportFileError if the file is no CSV, or has a column twice, or one that is not known.
        """
        self._lines = _Lines(file)
        self.columns, self.delimiter = _read_header(self._lines, known, name_of)

    def rows(self, *, after: int = 0) -> Iterator[Cells]:
        """Yield the rows that follow row number `after`, but for blank lines, each read when its turn comes."""
        reader = csv.reader(_Texts(self._lines), delimiter=self.delimiter, strict=True)
        number = 1
        while True:
            number += 1
            first = self._lines.number + 1
            cells: list[str] = []
            try:
                cells = next(reader)
                if cells and number > after:
                    yield Cells(number, cells, self._problem(cells))
            except StopIteration:
                return
            except (UnreadableRowError, csv.Error) as problem:
                if number > after:
                    yield Cells(number, cells, _csv_problem(problem, first, self._lines.number))

    def _problem(self, cells: list[str]) -> UnreadableRowError | None:
        if len(cells) != len(self.columns):
            return UnreadableRowError(
                f"The row has {len(cells)} cells, the first line names {len(self.columns)} columns."
            )
        if any(not cell.isascii() and not _is_utf8(cell) for cell in cells):
            return UnreadableRowError("The row is not UTF-8.")
        return None


def _read_header(lines: _Lines, known: Collection[str], name_of: Callable[[str], str]) -> tuple[list[str], str]:
    """Return the columns' names and the delimiter: the one of , ; and tab that makes most of them known."""
    try:
        line = next(lines)
    except StopIteration:
        raise ImportFileError(f"The file is empty: its first line must name columns: {', '.join(known)}.") from None
    except UnreadableRowError:
        raise ImportFileError(
            f"The first line, which must name the columns, is longer than {LINE_BYTES_MAX} bytes. If the file has CR "
            "alone as line ends, save it with LF or CR LF."
        ) from None
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ImportFileError("The file is UTF-16: save it as UTF-8.")
    if b"\r" in line.rstrip(b"\r\n"):
        raise ImportFileError(f"The file {_CR_ENDS}")
    try:
        header = line.decode("utf-8-sig")
        candidates = {sign: [name_of(name) for name in _split(header, sign)] for sign in (",", ";", "\t")}
    except UnicodeDecodeError:
        raise ImportFileError("The first line is not UTF-8: save the file as CSV in UTF-8.") from None
    except csv.Error as problem:
        raise ImportFileError(f"The first line is not CSV ({problem}): it must name the columns.") from None
    delimiter = max(candidates, key=lambda sign: len(set(candidates[sign]).intersection(known)))
    columns = candidates[delimiter]
    _require_known(columns, known)
    return columns, delimiter


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, strict=True))


def _require_known(columns: list[str], known: Collection[str]) -> None:
    unknown = [name for name in columns if name not in known]
    if unknown:
        few = ", ".join(repr(name[:40]) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ImportFileError(f"The first line has columns that are not known: {few}. Known are {', '.join(known)}.")
    if len(set(columns)) < len(columns):
        raise ImportFileError("The first line names a column twice.")


def _require_columns(columns: list[str]) -> None:
    # Enough for one kind of record; a file may have several.
    lacking = [
        [name for name, is_required in fields.items() if is_required and name not in columns] for fields in _FIELDS
    ]
    if missing := min(lacking, key=len):
        raise ImportFileError(f"The first line lacks the column{'s'[: len(missing) - 1]} {', '.join(missing)}.")


def _csv_rows(file: Csv, after: int) -> Iterator[Row]:
    for number, cells, problem in file.rows(after=after):
        yield Row(number, cells, problem or _csv_record(cells, file.columns))


def _csv_record(cells: list[str], columns: list[str]) -> dict[str, object] | UnreadableRowError:
    """Return the row's record. A cell with nothing in it is a field that is not there."""
    record: dict[str, object] = {
        name: text for name, cell in zip(columns, cells, strict=True) if (text := cell.strip(" \t"))
    }
    if (metadata := record.get("metadata")) is not None:
        try:
            record["metadata"] = strict_json.parse(str(metadata).encode())
        except ValueError as problem:
            return UnreadableRowError(f"The metadata {problem}.")
    return record


def _is_utf8(cell: str) -> bool:
    # Bytes that are not UTF-8 came as lone surrogates, so that they spoil no other row.
    return not any("\ud800" <= char <= "\udfff" for char in cell)


def _csv_problem(problem: UnreadableRowError | csv.Error, first: int, last: int) -> UnreadableRowError:
    if isinstance(problem, UnreadableRowError):
        return problem
    if last > first or "unexpected end" in str(problem):
        lines = f"; lines {first} to {last} were read as one row" if last > first else ""
        return UnreadableRowError(f"The row is not CSV: a quote is opened and not closed as it should be{lines}.")
    if "new-line character" in str(problem):
        return UnreadableRowError(f"The row {_CR_ENDS}")
    return UnreadableRowError(f"The row is not CSV: {problem}.")


# --- NDJSON ---


def _ndjson_rows(lines: _Lines, after: int) -> Iterator[Row]:
    while True:
        line = b""
        try:
            line = next(lines).strip(b" \t\r\n")
            line = line.removeprefix(codecs.BOM_UTF8) if lines.number == 1 else line
            if line and lines.number > after:
                yield Row(lines.number, line, _ndjson_record(line))
        except StopIteration:
            return
        except UnreadableRowError as problem:
            if lines.number > after:
                yield Row(lines.number, line, problem)


def _ndjson_record(line: bytes) -> object | UnreadableRowError:
    try:
        record: object = strict_json.parse(line)
    except ValueError as problem:
        return UnreadableRowError(f"The line {problem}.")
    return record


# --- both ---


class _Lines:
    """The file's lines as bytes, counted; one that is too long is an UnreadableRowError, and the next one follows.

    Cut off it would not do: what is lost may be the last digits of a wallet's id.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> bytes:
        line = self._file.readline(LINE_BYTES_MAX + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = self._file.readline(LINE_BYTES_MAX)
            raise UnreadableRowError(f"The line is longer than {LINE_BYTES_MAX} bytes.")
        return line


class _Texts:
    """The lines as text, for the csv module."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __iter__(self) -> _Texts:
        return self

    def __next__(self) -> str:
        return next(self._lines).decode("utf-8", "surrogateescape")
