"""Verifications that are asked for: by an operator on the console, and by the night. The worker does them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import VerificationRunningError
from wallet_app.service import audit
from wallet_app.service.audit import Act, By
from wallet_app.service.verification import marks, runs
from wallet_app.service.verification.run import StoppedError, verify

log = structlog.get_logger("wallet")

NIGHT_HOUR, MORNING_HOUR = 2, 6
"""Between these hours (UTC) the worker verifies everything once. If none runs then, that night is left out."""

SILENT_SECONDS = 60
"""After so long without a sign of life it is looked whether a verification was broken off."""


def request_verification(*, full: bool, by: By) -> int:
    """Ask the worker for a verification, and return its number; the one that waits already, if one like it does."""
    with unit_of_work() as connection:
        waiting: int | None = connection.scalar(_WAITING, {"is_full": full})
        run_id = waiting or runs.insert(connection, full=full, requested_by=by.actor)
        subject, after = f"verification:{run_id}", {"full": full, "waitedAlready": waiting is not None}
        audit.record(connection, Act(by=by, action="verification:request", subject=subject, after=after))
    return run_id


def run_requested(should_stop: Callable[[], bool]) -> int:
    """Do what was asked for, one after the other, and in the night everything; return how many verifications ended.

    Any number of workers may: one verifies, the others go away and come again.
    """
    _request_for_the_night()
    ended = 0
    try:
        if _has_silent():
            with marks.alone():
                runs.break_off()
        while not should_stop() and (waiting := _next()) is not None:
            report = verify(full=waiting.is_full, run_id=waiting.run_id, should_stop=should_stop)
            ended += 1
            if not report.is_clean:
                log.error("books_not_right", run=waiting.run_id, faults=report.faults, broken=sorted(report.broken()))
    except (VerificationRunningError, StoppedError):
        pass
    return ended


@reads
def _next(connection: Connection) -> Row[Any] | None:
    return connection.execute(_NEXT).first()


@reads
def _has_silent(connection: Connection) -> bool:
    return bool(connection.scalar(_SILENT, {"seconds": SILENT_SECONDS}))


def _request_for_the_night() -> None:
    with unit_of_work() as connection:
        connection.execute(_NIGHT, {"from_hour": NIGHT_HOUR, "to_hour": MORNING_HOUR})


_WAITING = text("SELECT id FROM verification_runs WHERE state = 'requested' AND is_full = :is_full LIMIT 1")

_NEXT = text("SELECT id AS run_id, is_full FROM verification_runs WHERE state = 'requested' ORDER BY id LIMIT 1")

_SILENT = text("""
SELECT EXISTS (
       SELECT FROM verification_runs
        WHERE state = 'running' AND beat_at < clock_timestamp() - make_interval(secs => :seconds))
""")

_NIGHT = text("""
INSERT INTO verification_runs (state, is_full, requested_by, is_requested, night)
SELECT 'requested', true, 'worker', true, night
  FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) AS clock
 CROSS JOIN LATERAL (
       SELECT (date_trunc('day', now) + make_interval(hours => :from_hour)) AT TIME ZONE 'UTC' AS night
       ) AS this
 WHERE extract(hour FROM now) >= :from_hour AND extract(hour FROM now) < :to_hour
   AND NOT EXISTS (SELECT FROM verification_runs AS earlier WHERE earlier.night = this.night)
ON CONFLICT (night) DO NOTHING
""")
