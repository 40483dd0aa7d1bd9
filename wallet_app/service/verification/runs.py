"""Verifications as operators see them: asked for, running, ended or broken off, and what each checked and found.

Beside `verify_runs`, which the service can only add to and which is evidence: these rows change while one runs. Whoever
verifies holds the one lock for it, so a row that says `running` when somebody else gets that lock was broken off.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from sqlalchemy import Connection, text

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import VerificationRunningError
from wallet_app.service.verification import marks
from wallet_app.service.verification.report import Finding, VerifyReport

log = structlog.get_logger("wallet")

ATTEMPTS_MAX = 5
"""How often one that is broken off is begun."""

SHOWN_MAX = 30


class RunView(NamedTuple):
    """A verification. `findings` has, for each invariant, what a Finding has; None as long as it has not ended."""

    run_id: int
    state: str
    requested_by: str
    requested_at: dt.datetime
    is_full: bool
    attempt: int
    started_at: dt.datetime | None
    beat_at: dt.datetime | None
    ended_at: dt.datetime | None
    entries_checked: int
    entries_expected: int | None
    faults: int | None
    findings: Sequence[Mapping[str, Any]] | None
    notes: Sequence[str] | None


@reads
def list_verifications(connection: Connection, *, limit: int = SHOWN_MAX) -> Sequence[RunView]:
    """Return the last verifications, whatever became of them, the newest first."""
    return [RunView._make(row) for row in connection.execute(_LIST, {"limit": min(limit, SHOWN_MAX)})]


@reads
def get_verification(connection: Connection, run_id: int) -> RunView | None:
    """Return one of them."""
    row = connection.execute(_GET, {"run_id": run_id}).first()
    return None if row is None else RunView._make(row)


def insert(
    connection: Connection, *, full: bool, requested_by: str, is_requested: bool = True, attempt: int = 1
) -> int:
    """Note that a verification is wanted, in the caller's unit of work; return its number."""
    values = {"is_full": full, "requested_by": requested_by, "is_requested": is_requested, "attempt": attempt}
    return int(connection.execute(_INSERT, values).scalar_one())


def begin(run_id: int | None, *, full: bool, requested_by: str, entries_expected: int) -> int:
    """Note that a verification begins, and which ones were broken off before; return its number.

    The caller holds the right to verify. Raises VerificationRunningError if the request was answered meanwhile.
    """
    with unit_of_work() as connection:
        _break_off(connection)
        if run_id is None:
            run_id = insert(connection, full=full, requested_by=requested_by, is_requested=False)
        values = {"run_id": run_id, "expected": entries_expected}
        if connection.execute(_BEGIN, values).rowcount != 1:
            raise VerificationRunningError
    return run_id


def beat(run_id: int, *, entries_checked: int) -> None:
    """Say how far it is."""
    with unit_of_work() as connection:
        connection.execute(_BEAT, {"run_id": run_id, "entries_checked": entries_checked})


def end(run_id: int, report: VerifyReport) -> None:
    """Keep what it found, with the evidence that the next verification starts from."""
    with unit_of_work() as connection:
        marks.record(connection, report)
        values = {
            "run_id": run_id,
            "entries_checked": report.entries_checked,
            "faults": report.faults,
            "findings": orjson.dumps([_finding(finding) for finding in report.findings.values()]).decode(),
            "notes": orjson.dumps(report.notes).decode(),
        }
        connection.execute(_END, values)


def break_off() -> None:
    """Note that whoever verified is gone, and ask again for what was asked for. The caller has the right to verify."""
    with unit_of_work() as connection:
        _break_off(connection)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "sentence": finding.sentence,
        "unit": finding.unit,
        "lookedAt": finding.looked_at,
        "faults": finding.faults,
        "seconds": round(finding.seconds, 3),
        "examples": [str(fault) for fault in finding.examples],
    }


def _break_off(connection: Connection) -> None:
    for row in connection.execute(_BREAK_OFF).all():
        log.warning("verification_broken_off", run=row.id, requested_by=row.requested_by, attempt=row.attempt)
        if row.is_requested and row.attempt < ATTEMPTS_MAX:
            insert(connection, full=row.is_full, requested_by=row.requested_by, attempt=row.attempt + 1)


_COLUMNS = """
       id, state, requested_by, requested_at, is_full, attempt, started_at, beat_at, ended_at, entries_checked,
       entries_expected, faults, findings, notes
"""

_LIST = text(f"SELECT {_COLUMNS} FROM verification_runs ORDER BY id DESC LIMIT :limit")

_GET = text(f"SELECT {_COLUMNS} FROM verification_runs WHERE id = :run_id")

_INSERT = text("""
INSERT INTO verification_runs (state, is_full, requested_by, is_requested, attempt)
VALUES ('requested', :is_full, :requested_by, :is_requested, :attempt)
RETURNING id
""")

_BEGIN = text("""
UPDATE verification_runs
   SET state = 'running', started_at = clock_timestamp(), beat_at = clock_timestamp(), entries_expected = :expected
 WHERE id = :run_id AND state = 'requested'
""")

_BEAT = text("""
UPDATE verification_runs SET beat_at = clock_timestamp(), entries_checked = :entries_checked
 WHERE id = :run_id AND state = 'running'
""")

_END = text("""
UPDATE verification_runs
   SET state = 'ended', ended_at = clock_timestamp(), beat_at = clock_timestamp(), entries_checked = :entries_checked,
       faults = :faults, findings = CAST(:findings AS jsonb), notes = CAST(:notes AS jsonb)
 WHERE id = :run_id
""")

_BREAK_OFF = text("""
UPDATE verification_runs SET state = 'broken_off', ended_at = clock_timestamp()
 WHERE state = 'running'
RETURNING id, is_full, requested_by, is_requested, attempt
""")
