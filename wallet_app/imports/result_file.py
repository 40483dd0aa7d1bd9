"""The file with a line per row. It is the journal too: a run that was cut off goes on after its last complete line.

Beside it lies a small file that tells whose results these are, so that they are never mixed with another input's.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wallet_app.imports import ImportFileError
from wallet_app.imports.results import STATUSES, Line, Result, format_of
from wallet_app.imports.source import Row, Source


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


class ResultFile:
    """An open result file, which is this process's alone. `last_row` is the last row that it has a line for."""

    def __init__(self, file: BinaryIO, source: Source) -> None:
        self._file = file
        self._format = format_of(source)
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

    def _count(self, line: Line | None) -> int:
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
