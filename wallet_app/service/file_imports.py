"""Files that are imported at the command line: how far each came, for operators who were not there.

Whoever imports says so here beside the work itself, which does not depend on it: a file whose importer was killed, or
lost the database, is told by its silence. An operator who has looked at one that went wrong says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, text, update

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import FileImportNotFoundError
from wallet_app.models_bulk import FileImport
from wallet_app.service import audit
from wallet_app.service.audit import Act, By
from wallet_app.service.history import Page
from wallet_app.service.sessions import Session, Visitor, require, require_current

SILENT_AFTER = dt.timedelta(minutes=15)
"""An import tells every few seconds that it goes on, and bears ten minutes without a database."""

IMPORTS_SHOWN = 25
OPEN_SHOWN = 5
_TEXT_MAX = 300


class FileImportView(NamedTuple):
    """An import as it stands. `state` is running, completed, stopped, failed, or silent: nobody has heard of it lately.

    `rows` have a result, `accepted` of them are done; also in earlier attempts at the same file. `needs_somebody` is
    until an operator has looked at it, or the same file was begun again.
    """

    import_id: int
    file_name: str
    sha256: str | None
    client: str
    made_by: str
    state: str
    problem: str | None
    rows: int
    accepted: int
    started_at: dt.datetime
    ended_at: dt.datetime | None
    seen_name: str | None
    seen_at: dt.datetime | None
    needs_somebody: bool

    @property
    def refused(self) -> int:
        """How many rows were not accepted."""
        return self.rows - self.accepted


# --- for who imports ---


def begin_import(*, file_name: str, sha256: bytes | None, client: str, made_by: str) -> int:
    """Note that a file is being imported, and return the number under which the rest is noted."""
    values = {"file_name": file_name[:_TEXT_MAX], "client": client, "made_by": made_by[:_TEXT_MAX]}
    with unit_of_work() as connection:
        found: int = connection.execute(
            insert(FileImport).values(file_sha256=sha256, state="running", **values).returning(FileImport.id)
        ).scalar_one()
    return found


def note_import(import_id: int, *, rows: int, accepted: int) -> None:
    """Note how far it is, and that it goes on."""
    _change(import_id, rows=rows, accepted=accepted)


def end_import(import_id: int, *, state: str, rows: int, accepted: int, problem: str | None = None) -> None:
    """Note how it ended: completed, stopped or failed."""
    cut = None if problem is None else problem[:_TEXT_MAX]
    _change(import_id, state=state, rows=rows, accepted=accepted, problem=cut, ended_at=text("clock_timestamp()"))


def _change(import_id: int, **values: Any) -> None:
    with unit_of_work() as connection:
        connection.execute(
            update(FileImport).where(FileImport.id == import_id).values(beat_at=text("clock_timestamp()"), **values)
        )


# --- for who looks ---


@reads
def list_imports(connection: Connection, *, before_id: int | None = None) -> Page[FileImportView]:
    """Return a page of the imports with ids below `before_id`, newest first; `following` holds the next `before_id`."""
    values = {"before_id": before_id, "silent": SILENT_AFTER, "rows": IMPORTS_SHOWN + 1}
    rows = connection.execute(_LIST, values).all()
    views = [_view(row) for row in rows[:IMPORTS_SHOWN]]
    return Page(views, (views[-1].import_id,) if len(rows) > IMPORTS_SHOWN else None)


@reads
def imports_that_need_somebody(connection: Connection) -> Sequence[FileImportView]:
    """Return the latest that went wrong, or fell silent, and that nobody has looked at: OPEN_SHOWN at most."""
    return [_view(row) for row in connection.execute(_OPEN, {"silent": SILENT_AFTER, "rows": OPEN_SHOWN})]


def see_import(session: Session, import_id: int, *, visitor: Visitor) -> None:
    """Note that the operator has looked at the import; a repetition does nothing.

    Locks the operator. Raises PermissionDeniedError, NotSignedInError, FileImportNotFoundError.
    """
    require(session, "imports:review", visitor=visitor)
    with unit_of_work() as connection:
        require_current(connection, session)
        if connection.scalar(select(FileImport.id).where(FileImport.id == import_id)) is None:
            raise FileImportNotFoundError(import_id)
        changed = connection.execute(
            update(FileImport)
            .where(FileImport.id == import_id, FileImport.seen_at.is_(None))
            .values(seen_by=session.operator_id, seen_at=text("clock_timestamp()"))
        ).rowcount
        if changed:
            by = By(actor=session.actor, request_id=visitor.request_id, address=visitor.address)
            audit.record(connection, Act(by=by, action="import:see", subject=f"import:{import_id}"))


def _view(row: Any) -> FileImportView:
    return FileImportView._make(row)


_COLUMNS = """
SELECT made.id, made.file_name, encode(made.file_sha256, 'hex'), made.client, made.made_by,
       CASE WHEN made.state = 'running' AND made.beat_at < clock_timestamp() - CAST(:silent AS interval) THEN 'silent'
            ELSE made.state END AS state,
       made.problem, made.rows, made.accepted, made.started_at, made.ended_at, operators.name, made.seen_at,
       {needs} AS needs_somebody
  FROM file_imports AS made
  LEFT JOIN operators ON operators.id = made.seen_by
"""

# Whoever begins with the same file again deals with it: from then on that import tells how it stands.
_NEEDS = """(
       made.seen_at IS NULL AND (made.state <> 'completed' OR made.accepted < made.rows)
       AND (made.state <> 'running' OR made.beat_at < clock_timestamp() - CAST(:silent AS interval))
       AND NOT EXISTS (SELECT FROM file_imports AS later
                        WHERE later.file_sha256 = made.file_sha256 AND later.client = made.client
                          AND later.id > made.id)
       )"""

_LIST = text(f"""{_COLUMNS.format(needs=_NEEDS)}
 WHERE CAST(:before_id AS bigint) IS NULL OR made.id < :before_id
 ORDER BY made.id DESC
 LIMIT :rows
""")

_OPEN = text(f"""{_COLUMNS.format(needs="true")}
 WHERE {_NEEDS}
 ORDER BY made.id DESC
 LIMIT :rows
""")
