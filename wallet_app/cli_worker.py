"""The command line: `flask wallet worker`, the one program for all background work. It decides nothing: jobs do."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import threading
import time
import uuid
from typing import Any

import click
import structlog
from flask import Flask, current_app
from flask.cli import with_appcontext

from wallet_app import cli, metrics, service
from wallet_app.db import is_away, log_fault

log = structlog.get_logger("wallet")

BEAT_SECONDS = 5.0
PAUSE_AFTER_FAILURE_SECONDS = 5.0
DRAIN_SECONDS_MAX = 20.0
"""How long the jobs may take to come to an end; the database takes back what is cut off."""


def init_app(_: Flask) -> None:
    """Register the command beside the others."""
    cli.wallet.add_command(worker)


@click.command()
@with_appcontext
@click.option("--parent", type=int, help="The process that starts this one: end when it has ended.", metavar="PID")
@cli.plainly
def worker(parent: int | None) -> None:
    """Do the background work until a signal says stop: expire holds, post bulk runs, chain the audit log.

    Any number of workers may run at once, on any machine; one that is killed leaves nothing undone or done twice.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    _Worker(app, stop, parent=parent).run()


class _Worker:
    """A thread for each job, so that a long one holds back no other; this one's own gives the signs of life."""

    def __init__(self, app: Flask, stop: threading.Event, *, parent: int | None) -> None:
        self._app = app
        self._stop = stop
        self._parent = parent
        self._id = uuid.uuid4()
        self._done: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Work until the event is set, or the parent has ended; return when the jobs have come to an end."""
        # So that the wait for a database that is stopped ends.
        metrics.start()
        log.info("worker_started", worker=str(self._id), jobs=[job.name for job in service.JOBS])
        threads = [
            threading.Thread(target=self._repeat, args=(job,), name=job.name, daemon=True) for job in service.JOBS
        ]
        for thread in threads:
            thread.start()
        self._live()
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in threads if thread.is_alive()]
        self._try(lambda: service.stop_beating(self._id), "heartbeat_failed")
        log.info("worker_stopped", worker=str(self._id), cut_off=left)

    def _live(self) -> None:
        beats_at = 0.0
        while not self._stop.is_set():
            if self._parent is not None and os.getppid() != self._parent:
                log.warning("parent_ended", worker=str(self._id))
                self._stop.set()
                return
            if time.monotonic() >= beats_at:
                beats_at = time.monotonic() + BEAT_SECONDS
                self._try(self._beat, "heartbeat_failed")
            self._stop.wait(1.0)

    def _beat(self) -> None:
        service.beat(self._id, host=socket.gethostname(), pid=os.getpid(), jobs=dict(self._done))

    def _repeat(self, job: service.Job) -> None:
        with self._app.app_context():
            while not self._stop.is_set():
                is_done = self._try(lambda: self._do(job), "job_failed", job=job.name)
                self._stop.wait(job.seconds if is_done else PAUSE_AFTER_FAILURE_SECONDS)

    def _do(self, job: service.Job) -> None:
        began = time.monotonic()
        self._note(job, since=_now())
        try:
            amount = job.run(self._stop.is_set)
        except Exception:
            self._note(job, at=_now(), failed=True, amount=0)
            raise
        seconds = time.monotonic() - began
        self._note(job, at=_now(), succeededAt=_now(), failed=False, amount=amount, seconds=round(seconds, 3))
        if amount:
            log.info("job_done", job=job.name, amount=amount, ms=round(seconds * 1000, 1))

    def _note(self, job: service.Job, **noted: Any) -> None:
        """Keep what the next sign of life tells of the job: whether it runs (`since`), and how it ended before."""
        before = {name: value for name, value in self._done.get(job.name, {}).items() if name != "since"}
        self._done[job.name] = before | noted

    def _try(self, work: Any, event: str, **context: Any) -> bool:
        """Do the work and tell whether it was done: whatever it is, the next time comes."""
        try:
            work()
        except Exception as fault:
            if is_away(fault):
                log.warning(event, worker=str(self._id), error=type(fault).__name__, **context)
            else:
                log_fault(event, fault, worker=str(self._id), **context)
            return False
        return True


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
