"""What a client wants and what it is told, each on the disk before the client goes on; nothing is ever taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

KEPT = ("idempotent", "transactionId", "amount", "seq", "version", "balance", "balanceAfter", "code")
"""What of an answer's body is written down."""


class Wanted(NamedTuple):
    """A command that a client wants to have posted, once."""

    kind: str
    wallet_id: int
    amount: int
    reference: str

    @property
    def signed(self) -> int:
        """The amount as the ledger has it."""
        return -self.amount if self.kind == "spend" else self.amount


class Told(NamedTuple):
    """What was answered for the item at `position` of a request."""

    position: int
    status: int
    body: dict[str, Any]


class Journal:
    """The journal of one client."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def intend(self, number: int, how: str, items: Sequence[Wanted], at: float) -> None:
        """Write down what the request `number` is about to ask for."""
        self._append({"intent": number, "how": how, "items": list(map(tuple, items)), "at": at})

    def hear(self, number: int, told: Sequence[Told], broken: str | None, at: float) -> None:
        """Write down what came of an attempt at the request; `broken` says how the answer ended early, if it did."""
        answers = [(one.position, one.status, {key: one.body[key] for key in KEPT if key in one.body}) for one in told]
        self._append({"answer": number, "told": answers, "broken": broken, "at": at})

    def _append(self, record: dict[str, Any]) -> None:
        os.write(self._file, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(self._file)


class Reader:
    """Reads a folder's journals while they grow, each record once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}

    def read_new(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name of a client and a record, for all that was written since the last time."""
        for file in sorted(self._folder.glob("*.journal")):
            with file.open("rb") as journal:
                journal.seek(self._read.get(file, 0))
                whole, newline, _ = journal.read().rpartition(b"\n")
            self._read[file] = self._read.get(file, 0) + len(whole) + len(newline)
            for line in whole.splitlines():
                yield file.stem, orjson.loads(line)
