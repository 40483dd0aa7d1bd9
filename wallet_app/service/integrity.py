"""How far the books can be trusted, and what is behind: the last verification, the chains' heads, the workers' jobs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service import daily_totals, settled
from wallet_app.service.heartbeats import HeartbeatView
from wallet_app.service.jobs import JOBS, Job
from wallet_app.service.verification import RunView

State = Literal["ok", "findings", "stale", "never"]

STALE_AFTER = dt.timedelta(hours=26)
"""A night and a little: by then the worker has verified everything again, or nobody does."""

SILENT_AFTER = dt.timedelta(seconds=30)
"""A worker tells every five seconds that it is there."""

_LATE_FACTOR = 10
_LATE_LEAST = dt.timedelta(seconds=60)
_UNCHAINED_MAX = 1_000


class JobState(NamedTuple):
    """A job of the workers: when it last succeeded anywhere, whether the last attempt failed, and what that means.

    `state` is "ok", "failed", "late", or "never" if no worker that lives has done it.
    """

    name: str
    seconds: float
    succeeded_at: dt.datetime | None
    is_running: bool
    state: str


class WorkState(NamedTuple):
    """The workers that live, those that were heard of before, and the jobs."""

    alive: Sequence[HeartbeatView]
    silent: Sequence[HeartbeatView]
    jobs: Sequence[JobState]


class IntegrityState(NamedTuple):
    """What a verification found last, and whether one is under way."""

    state: State
    ended_at: dt.datetime | None
    faults: int
    is_running: bool


class Chains(NamedTuple):
    """The audit log's chain, and how far behind it and the daily totals are."""

    audit_seq: int
    audit_hash: bytes | None
    audit_at: dt.datetime | None
    audit_unchained: int
    """Records that are not in the chain yet; _UNCHAINED_MAX for as many or more."""
    audit_verified_seq: int
    totals_at: dt.datetime | None
    """Up to when everything is in the daily totals; None if nothing is."""


@reads
def get_integrity_state(connection: Connection) -> IntegrityState:
    """Return it."""
    row = connection.execute(_LAST, {"stale": STALE_AFTER}).one()
    state: State = "ok"
    if row.ended_at is None:
        state = "never"
    elif row.faults:
        state = "findings"
    elif row.is_stale:
        state = "stale"
    return IntegrityState(state, row.ended_at, row.faults or 0, row.is_running)


@reads
def get_chains(connection: Connection) -> Chains:
    """Return them."""
    row = connection.execute(_CHAINS, {"rows_max": _UNCHAINED_MAX}).one()
    position = settled.position_of(connection, daily_totals.NAME)
    totals_at = None if position == settled.BEGINNING else settled.time_of(position)
    return Chains._make((*row, totals_at))


@reads
def get_work_state(connection: Connection) -> WorkState:
    """Return who works, and what is left undone."""
    rows = connection.execute(_HEARTBEATS, {"silent": SILENT_AFTER}).all()
    heard = [(HeartbeatView._make(row[:6]), row.is_alive) for row in rows]
    alive = [view for view, is_alive in heard if is_alive]
    silent = [view for view, is_alive in heard if not is_alive]
    now = rows[0].now if rows else dt.datetime.now(dt.UTC)
    return WorkState(alive, silent, [_job_state(job, alive, now=now) for job in JOBS])


def last_full_run(runs: Iterable[RunView]) -> RunView | None:
    """Return the first full one of them that ended."""
    return next((run for run in runs if run.is_full and run.state == "ended"), None)


def _job_state(job: Job, alive: Sequence[HeartbeatView], *, now: dt.datetime) -> JobState:
    notes: list[Mapping[str, Any]] = [view.jobs[job.name] for view in alive if job.name in view.jobs]
    succeeded = [dt.datetime.fromisoformat(note["succeededAt"]) for note in notes if note.get("succeededAt")]
    last = max(notes, key=lambda note: str(note.get("at", "")), default=None)
    is_running = any(note.get("since") for note in notes)
    at = max(succeeded, default=None)
    state = "ok"
    if last is not None and last.get("failed"):
        state = "failed"
    elif is_running:
        state = "ok"
    elif at is None:
        state = "never"
    elif now - at > max(_LATE_LEAST, _LATE_FACTOR * dt.timedelta(seconds=job.seconds)):
        state = "late"
    return JobState(job.name, job.seconds, at, is_running, state)


_LAST = text("""
SELECT last.ended_at, last.faults, last.ended_at < clock_timestamp() - CAST(:stale AS interval) AS is_stale,
       EXISTS (SELECT FROM verification_runs WHERE state = 'running') AS is_running
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (
       SELECT ended_at, faults FROM verification_runs WHERE state = 'ended' ORDER BY id DESC LIMIT 1
       ) AS last ON true
""")

_CHAINS = text("""
SELECT coalesce(head.seq, 0), head.hash, record.occurred_at,
       (SELECT count(*) FROM (
               SELECT FROM audit_log WHERE id > coalesce(head.audit_id, 0) ORDER BY id LIMIT :rows_max) AS later),
       coalesce((SELECT max(audit_seq) FROM verify_runs), 0)
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (SELECT seq, audit_id, hash FROM audit_chain ORDER BY seq DESC LIMIT 1) AS head ON true
  LEFT JOIN audit_log AS record ON record.id = head.audit_id
""")

_HEARTBEATS = text("""
SELECT worker_id, host, pid, started_at, beat_at, jobs, clock_timestamp() AS now,
       beat_at >= clock_timestamp() - CAST(:silent AS interval) AS is_alive
  FROM worker_heartbeats
 ORDER BY beat_at DESC
""")
