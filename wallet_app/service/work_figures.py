"""What the background work tells about itself to whoever watches: for each job its last success, duration, backlog.

Read from the workers' signs of life and from the tables that the jobs work at, so any process can tell it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service import daily_totals, forgetting, lot_totals, references, settled, wallet_sums
from wallet_app.service.integrity import SILENT_AFTER
from wallet_app.service.jobs import JOBS

BACKLOG_MAX = 1_000
"""So far a backlog is counted: more is as bad."""


class JobFigures(NamedTuple):
    """A job: when it last succeeded anywhere, how long that took, whether its last attempt failed, and what waits.

    None where no worker that was heard of within a day has told it; of a job that works at everything, `backlog`.
    """

    name: str
    succeeded_at: dt.datetime | None
    seconds: float | None
    is_failed: bool
    backlog: int | None


class WorkFigures(NamedTuple):
    """How many workers live, and the jobs."""

    workers: int
    jobs: Sequence[JobFigures]


@reads
def get_work_figures(connection: Connection) -> WorkFigures:
    """Return them. Each backlog is counted along an index, and no further than BACKLOG_MAX."""
    beats = connection.execute(_BEATS, {"silent": SILENT_AFTER}).all()
    positions = {name: settled.position_of(connection, name) for name in _FOLLOWERS}
    backlogs = connection.execute(_BACKLOGS, {**positions, "most": BACKLOG_MAX}).one()._asdict()
    notes = [row.jobs for row in beats]
    jobs = [_figures(job.name, [one[job.name] for one in notes if job.name in one], backlogs) for job in JOBS]
    return WorkFigures(sum(row.is_alive for row in beats), jobs)


def _figures(name: str, notes: Sequence[Mapping[str, Any]], backlogs: Mapping[str, Any]) -> JobFigures:
    succeeded = [note for note in notes if note.get("succeededAt")]
    best = max(succeeded, key=lambda note: str(note["succeededAt"]), default=None)
    last = max(notes, key=lambda note: str(note.get("at", "")), default=None)
    return JobFigures(
        name,
        None if best is None else dt.datetime.fromisoformat(best["succeededAt"]),
        None if best is None else best.get("seconds"),
        last is not None and bool(last.get("failed")),
        backlogs.get(name),
    )


_BEATS = text("""
SELECT jobs, beat_at >= clock_timestamp() - CAST(:silent AS interval) AS is_alive FROM worker_heartbeats
""")

_FOLLOWERS = (references.NAME, daily_totals.NAME, lot_totals.NAME, wallet_sums.NAME)

_WAITS = {
    "expire_holds": "holds WHERE ended_at IS NULL AND expires_at <= clock_timestamp()",
    "expire_lots": """lots
          WHERE available > 0 AND expires_at < '9999-01-01 00:00:00+00' AND expires_at <= clock_timestamp()""",
    "bulk_runs": """bulk_runs JOIN bulk_rows ON bulk_rows.run_id = bulk_runs.id AND bulk_rows.status = 'waiting'
          WHERE bulk_runs.state = 'running'""",
    "expire_requests": "approval_requests WHERE status = 'pending' AND expires_at <= clock_timestamp()",
    "extend_audit_chain": "audit_log WHERE id > coalesce((SELECT max(audit_id) FROM audit_chain), 0)",
    "index_references": f"transactions WHERE transaction_id > CAST(:{references.NAME} AS uuid)",
    "fold_names": "users WHERE name_folded IS NULL",
    "add_up_days": f"transactions WHERE transaction_id > CAST(:{daily_totals.NAME} AS uuid)",
    "add_up_lots": f"transactions WHERE transaction_id > CAST(:{lot_totals.NAME} AS uuid)",
    "sum_up_wallets": f"transactions WHERE transaction_id > CAST(:{wallet_sums.NAME} AS uuid)",
    "forget_spending": forgetting.OVER,
    "verify": "verification_runs WHERE state = 'requested'",
}
"""By job, the rows that wait for it. Of those that follow the ledger it is always the last second's at least."""

_COUNTS = [f"(SELECT count(*) FROM (SELECT FROM {rows} LIMIT :most) AS waits) AS {job}" for job, rows in _WAITS.items()]  # noqa: S608 - constants
_BACKLOGS = text(f"SELECT {', '.join(_COUNTS)}")
