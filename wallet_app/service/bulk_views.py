"""Reads: bulk runs and their rows, for the console's pages. Each takes a constant number of statements."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import BulkRunNotFoundError
from wallet_app.service.bulk_drafts import OPEN_STATES
from wallet_app.service.bulk_outlook import Outlook, Sum, outlook_of
from wallet_app.service.history import Page

ROWS_SHOWN = 50
"""How many rows a page of a run shows."""

RUNS_SHOWN = 25
LARGEST_SHOWN = 10
_ROWS_AT_ONCE = 1_000

ROW_STATUSES = ("waiting", "done", "done_before", "refused", "failed")


class BulkRunView(NamedTuple):
    """A run as it stands. `sums` is what there is, or was, to do; `silent_seconds` since a worker was last at it.

    `undoes` is the run that this one undoes; `undone_by` the latest that undoes this one.
    """

    run_id: int
    kind: str
    campaign: str
    undoes: int | None
    undone_by: int | None
    on_shortfall: str | None
    reason: str | None
    ticket: str | None
    file_name: str | None
    file_sha256: str | None
    row_count: int
    rows_to_do: int
    sums: Sequence[Sum]
    digest: str
    maker_id: int
    maker_name: str
    state: str
    request_id: int | None
    done: int
    refused: int
    created_at: dt.datetime
    checked_at: dt.datetime
    started_at: dt.datetime | None
    stop_asked_at: dt.datetime | None
    silent_seconds: float | None
    ended_at: dt.datetime | None
    expected_refusals: int
    """How many rows the preview says would be refused."""
    outlook: Outlook | None
    """What the last preview says; None for a run that was previewed before such was kept."""

    @property
    def is_open(self) -> bool:
        """Whether something may still come of it."""
        return self.state in OPEN_STATES

    @property
    def sight(self) -> str:
        """What stands for all that is shown of the run, and what it would do: an approver gives it back."""
        return f"{self.digest}:{self.expected_refusals if self.outlook is None else self.outlook.digest}"

    @property
    def left(self) -> int:
        """How many rows nothing has come of yet."""
        return self.rows_to_do - self.done - self.refused


class BulkRowView(NamedTuple):
    """A row of a run, with whose wallet it is about. `amount` and `moved` are in the asset's smallest unit."""

    row_no: int
    row_ref: str
    user_id: int
    user_name: str
    external_id: str | None
    wallet_id: int
    asset_code: str
    asset_scale: int
    direction: str
    amount: int
    reason_code: str
    ticket: str | None
    note: str | None
    reverses: uuid.UUID | None
    expected_balance: int | None
    expected_error: str | None
    status: str
    transaction_id: uuid.UUID | None
    moved: int | None
    balance_after: int | None
    error_code: str | None
    error_message: str | None
    expected_moved: int | None
    asked_moved: int | None
    asked_balance: int | None
    """What the preview said when the run was asked for."""

    @property
    def signed(self) -> int:
        """The amount, below zero for a debit."""
        return self.amount if self.direction == "credit" else -self.amount


class Often(NamedTuple):
    """A user whom several rows of a run are about, and how many."""

    user_id: int
    user_name: str
    rows: int


class BulkFigures(NamedTuple):
    """What stands out in a run: its largest rows, and the users that several rows are about."""

    largest: Sequence[BulkRowView]
    often: Sequence[Often]
    users_often: int
    users: int


@reads
def get_bulk_run(connection: Connection, run_id: int) -> BulkRunView:
    """Return the run; raise BulkRunNotFoundError."""
    return find_run(connection, run_id)


def find_run(connection: Connection, run_id: int) -> BulkRunView:
    """Return the run as the connection sees it; raise BulkRunNotFoundError."""
    row = connection.execute(_RUN, {"run_id": run_id}).first()
    if row is None:
        raise BulkRunNotFoundError(run_id)
    return _run_view(row)


@reads
def list_bulk_runs(connection: Connection, *, before_id: int | None = None) -> Page[BulkRunView]:
    """Return a page of the runs with ids below `before_id`, newest first; `following` holds the next `before_id`."""
    rows = connection.execute(_RUNS, {"before_id": before_id, "runs": RUNS_SHOWN + 1}).all()
    views = [_run_view(row) for row in rows[:RUNS_SHOWN]]
    return Page(views, (views[-1].run_id,) if len(rows) > RUNS_SHOWN else None)


@reads
def list_bulk_rows(
    connection: Connection,
    run_id: int,
    *,
    after_row: int = 0,
    status: str | None = None,
    only_expected: bool = False,
    only_changed: bool = False,
) -> Page[BulkRowView]:
    """Return a page of the run's rows behind row `after_row`, in the file's order.

    Of one status, if one is given; with `only_expected`, those that the preview says would be refused, with
    `only_changed` those that would come out otherwise than when the run was asked for. `following` holds the next
    `after_row`.
    """
    values = {"run_id": run_id, "after_row": after_row, "status": status, "rows": ROWS_SHOWN + 1}
    rows = connection.execute(_ROWS, {**values, "only_expected": only_expected, "only_changed": only_changed}).all()
    views = [BulkRowView._make(row) for row in rows[:ROWS_SHOWN]]
    return Page(views, (views[-1].row_no,) if len(rows) > ROWS_SHOWN else None)


@reads
def bulk_figures(connection: Connection, run_id: int) -> BulkFigures:
    """Return what stands out in the run."""
    largest = connection.execute(_LARGEST, {"run_id": run_id, "rows": LARGEST_SHOWN}).all()
    often = connection.execute(_OFTEN, {"run_id": run_id, "rows": LARGEST_SHOWN}).all()
    return BulkFigures(
        [BulkRowView._make(row) for row in largest],
        [Often(row.user_id, row.name, row.rows) for row in often if row.user_id is not None],
        often[0].users_often,
        often[0].users,
    )


def walk_bulk_rows(run_id: int) -> Iterator[BulkRowView]:
    """Yield all rows of the run, in the file's order; so many at a time are read as the reader comes to them."""
    after_row = 0
    while rows := _some_rows(run_id, after_row):
        yield from rows
        after_row = rows[-1].row_no


@reads
def _some_rows(connection: Connection, run_id: int, after_row: int) -> Sequence[BulkRowView]:
    values = {"run_id": run_id, "after_row": after_row, "status": None, "rows": _ROWS_AT_ONCE}
    rows = connection.execute(_ROWS, {**values, "only_expected": False, "only_changed": False})
    return [BulkRowView._make(row) for row in rows]


def _run_view(row: Any) -> BulkRunView:
    columns = dict(row._mapping)
    sha256 = columns.pop("file_sha256")
    return BulkRunView(
        **{
            **columns,
            "file_sha256": None if sha256 is None else sha256.hex(),
            "digest": columns["digest"].hex(),
            "sums": [Sum(**one) for one in columns["sums"]],
            "outlook": None if columns["outlook"] is None else outlook_of(columns["outlook"]),
        }
    )


_RUN_COLUMNS = """
SELECT runs.id AS run_id, runs.kind, runs.campaign, runs.undoes,
       (SELECT max(undo.id) FROM bulk_runs AS undo WHERE undo.undoes = runs.id) AS undone_by, runs.on_shortfall,
       runs.reason, runs.ticket, runs.file_name, runs.file_sha256, runs.row_count, runs.rows_to_do, runs.sums,
       runs.digest, runs.maker_id, operators.name AS maker_name, runs.state, runs.request_id, runs.done, runs.refused,
       runs.created_at, runs.checked_at, runs.started_at, runs.stop_asked_at,
       CAST(EXTRACT(epoch FROM clock_timestamp() - coalesce(runs.beat_at, runs.started_at)) AS float8)
         AS silent_seconds,
       runs.ended_at,
       CASE WHEN runs.outlook IS NULL
            THEN (SELECT count(*) FROM bulk_rows WHERE run_id = runs.id AND expected_error IS NOT NULL)
            ELSE CAST(runs.outlook ->> 'refused' AS bigint) END AS expected_refusals,
       runs.outlook
  FROM bulk_runs AS runs
  JOIN operators ON operators.id = runs.maker_id
"""

_RUN = text(f"{_RUN_COLUMNS} WHERE runs.id = :run_id")

_RUNS = text(f"""{_RUN_COLUMNS}
 WHERE CAST(:before_id AS bigint) IS NULL OR runs.id < :before_id
 ORDER BY runs.id DESC
 LIMIT :runs
""")

_ROW_COLUMNS = """
SELECT asked.row_no, asked.row_ref, wallets.user_id, users.name AS user_name, users.external_id, asked.wallet_id,
       asset_types.code AS asset_code, asset_types.scale AS asset_scale, asked.direction, asked.amount,
       asked.reason_code, asked.ticket, asked.note, asked.reverses, asked.expected_balance, asked.expected_error,
       asked.status, asked.transaction_id, asked.moved, asked.balance_after, asked.error_code, asked.error_message,
       asked.expected_moved, asked.asked_moved, asked.asked_balance
"""
_OWNERS = """
  JOIN wallets ON wallets.id = asked.wallet_id
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
"""

_ROWS = text(f"""{_ROW_COLUMNS}
  FROM (SELECT * FROM bulk_rows
         WHERE run_id = :run_id AND row_no > :after_row
           AND (CAST(:status AS text) IS NULL OR status = :status)
           AND (NOT :only_expected OR expected_error IS NOT NULL)
           AND (NOT :only_changed OR (status = 'waiting' AND expected_moved IS DISTINCT FROM asked_moved))
         ORDER BY row_no
         LIMIT :rows) AS asked {_OWNERS}
 ORDER BY asked.row_no
""")  # noqa: S608 - constants

_LARGEST = text(f"""{_ROW_COLUMNS}
  FROM (SELECT * FROM bulk_rows WHERE run_id = :run_id AND status <> 'done_before'
         ORDER BY amount DESC, row_no
         LIMIT :rows) AS asked {_OWNERS}
 ORDER BY asked.amount DESC, asked.row_no
""")  # noqa: S608 - constants

# Users are looked up for those that are told alone: joined to all rows, all users there are would be read.
_OFTEN = text("""
WITH counted AS MATERIALIZED (
    SELECT owners.user_id, count(*) AS rows
      FROM bulk_rows
      JOIN wallets AS owners ON owners.id = bulk_rows.wallet_id
     WHERE bulk_rows.run_id = :run_id AND bulk_rows.status <> 'done_before'
     GROUP BY owners.user_id
), often AS (
    SELECT user_id, rows FROM counted WHERE rows > 1 ORDER BY rows DESC, user_id LIMIT :rows
)
SELECT sums.users, sums.users_often, often.user_id, owners.name, often.rows
  FROM (SELECT count(*) AS users, count(*) FILTER (WHERE rows > 1) AS users_often FROM counted) AS sums
  LEFT JOIN often ON true
  LEFT JOIN LATERAL (SELECT name FROM users WHERE id = often.user_id OFFSET 0) AS owners ON true
 ORDER BY often.rows DESC, often.user_id
""")
