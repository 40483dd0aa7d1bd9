"""Tells the service how an import goes, for operators; an import that cannot tell it goes on all the same."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from wallet_app import service
from wallet_app.db import CommitNotReplicatedError
from wallet_app.imports.result_file import Tally

log = structlog.get_logger("wallet")

_SECONDS_BETWEEN = 10.0


class Record:
    """One import's record. `tally` is what came of its rows so far, from when its results are open."""

    def __init__(self, import_id: int | None) -> None:
        self._import_id = import_id
        self._noted_at = time.monotonic()
        self.tally = Tally()

    def note(self) -> None:
        """Tell now and then how far it is."""
        if time.monotonic() - self._noted_at >= _SECONDS_BETWEEN:
            self._noted_at = time.monotonic()
            self._tell(lambda import_id: service.note_import(import_id, **self._counts()))

    def end(self, state: str, problem: str | None = None) -> None:
        """Tell how it ended: completed, stopped or failed; the first word counts."""
        self._tell(lambda import_id: service.end_import(import_id, state=state, problem=problem, **self._counts()))
        self._import_id = None

    def _counts(self) -> dict[str, int]:
        return {"rows": self.tally.rows, "accepted": self.tally.rows - self.tally.not_accepted}

    def _tell(self, tell: Callable[[int], None]) -> None:
        if self._import_id is None:
            return
        try:
            tell(self._import_id)
        except (SQLAlchemyError, CommitNotReplicatedError) as away:
            # The last word is then its silence.
            log.warning("import_not_noted", error=type(away).__name__)


@contextmanager
def recorded(
    file_name: str, sha256: str | None, client: str, *, sentence_of: Callable[[Exception], str]
) -> Iterator[Record]:
    """Yield the import's record, and tell in it what ended the import, if an error does."""
    made_by = f"{_user()}@{socket.gethostname()}"
    digest = None if sha256 is None else bytes.fromhex(sha256)
    record = Record(service.begin_import(file_name=file_name, sha256=digest, client=client, made_by=made_by))
    try:
        yield record
    except KeyboardInterrupt:
        record.end("stopped", "Stopped by a signal.")
        raise
    except Exception as problem:
        record.end("failed", sentence_of(problem))
        raise


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
