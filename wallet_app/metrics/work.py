"""The figures of the background work, for GET /metrics: from the database, if that answers soon, and else none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from flask import Flask
from prometheus_client.core import GaugeMetricFamily, Metric

from wallet_app import service
from wallet_app.db import is_away, log_fault
from wallet_app.service import WorkFigures

SECONDS_MAX = 1.0
"""How long the page waits for the database: its other figures must not come late."""


class Work:
    """Reads the figures beside the request, one read at a time, however often the page is asked for."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._is_free = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; nothing when the database does not answer."""
        found = self._read_soon()
        if found is not None:
            yield GaugeMetricFamily("wallet_workers", "Workers that were heard of lately.", value=found.workers)
            yield from _metrics(found)

    def _read_soon(self) -> WorkFigures | None:
        if not self._is_free.acquire(blocking=False):
            return None
        found: list[WorkFigures] = []
        reading = threading.Thread(target=self._read, args=(found,), name="work-figures", daemon=True)
        reading.start()
        reading.join(SECONDS_MAX)
        return found[0] if found else None

    def _read(self, found: list[WorkFigures]) -> None:
        try:
            with self._app.app_context():
                found.append(service.get_work_figures())
        except Exception as fault:
            if not is_away(fault):
                log_fault("work_figures_failed", fault)
        finally:
            self._is_free.release()


def _metrics(found: WorkFigures) -> Iterator[Metric]:
    succeeded, seconds, failed, backlog = (
        GaugeMetricFamily(f"wallet_job_{name}", says, labels=["job"])
        for name, says in (
            ("last_success_timestamp_seconds", "When the job last succeeded, in any worker; 0 if that is not known."),
            ("duration_seconds", "How long it took then."),
            ("failed", "1 if its last attempt failed."),
            ("backlog", "What waits for the job, counted up to 1,000."),
        )
    )
    for job in found.jobs:
        succeeded.add_metric([job.name], 0.0 if job.succeeded_at is None else job.succeeded_at.timestamp())
        failed.add_metric([job.name], float(job.is_failed))
        if job.seconds is not None:
            seconds.add_metric([job.name], job.seconds)
        if job.backlog is not None:
            backlog.add_metric([job.name], job.backlog)
    yield from (succeeded, seconds, failed, backlog)
