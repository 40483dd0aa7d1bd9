"""The workers' signs of life: who works, since when, and when each job was last done."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, text

from wallet_app.db import reads, unit_of_work


class HeartbeatView(NamedTuple):
    """A worker; `jobs` has for each job when it last ended (`at`), how much it did, and whether it failed.

    And when it last succeeded (`succeededAt`), how long that took (`seconds`), and since when it runs (`since`), if it
    does.
    """

    worker_id: uuid.UUID
    host: str
    pid: int
    started_at: dt.datetime
    beat_at: dt.datetime
    jobs: Mapping[str, Any]


def beat(worker_id: uuid.UUID, *, host: str, pid: int, jobs: Mapping[str, Any]) -> None:
    """Say that the worker lives and what it did; and forget those that have been silent for a day."""
    values = {"worker_id": worker_id, "host": host, "pid": pid, "jobs": orjson.dumps(jobs).decode()}
    with unit_of_work() as connection:
        connection.execute(_FORGET)
        connection.execute(_BEAT, values)


def stop_beating(worker_id: uuid.UUID) -> None:
    """Take the worker off the list: it ends, and nobody needs to look for it."""
    with unit_of_work() as connection:
        connection.execute(text("DELETE FROM worker_heartbeats WHERE worker_id = :worker_id"), {"worker_id": worker_id})


@reads
def list_heartbeats(connection: Connection) -> Sequence[HeartbeatView]:
    """Return the workers, the one that was heard of last first."""
    return [HeartbeatView._make(row) for row in connection.execute(_LIST)]


_BEAT = text("""
INSERT INTO worker_heartbeats (worker_id, host, pid, jobs)
VALUES (:worker_id, :host, :pid, CAST(:jobs AS jsonb))
ON CONFLICT (worker_id) DO UPDATE SET beat_at = excluded.beat_at, jobs = excluded.jobs
""")

_FORGET = text("""
DELETE FROM worker_heartbeats WHERE beat_at < clock_timestamp() - interval '1 day'
""")

_LIST = text("""
SELECT worker_id, host, pid, started_at, beat_at, jobs FROM worker_heartbeats ORDER BY beat_at DESC
""")
