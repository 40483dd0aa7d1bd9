"""The worker's job of bulk runs: what was approved is posted, so many rows at a time; each row says what came of it.

A chunk is one unit of work: the run's row is locked, its next rows are posted, and what came of them is written beside
their entries. So whoever is killed leaves a chunk that is done or one that is not, and nobody has to look for what a
predecessor may have posted. Any number of workers take turns; a run that one is at is skipped by the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, Row, select, text, update
from sqlalchemy.exc import DBAPIError

from wallet_app.db import is_away, log_fault, unit_of_work
from wallet_app.errors import WalletBusyError, WalletServiceError
from wallet_app.models_bulk import BulkRun
from wallet_app.service import audit, bulk_commands, bulk_rules, locks, posting, reasons, weighing
from wallet_app.service.audit import Act, By
from wallet_app.service.books import Receipt
from wallet_app.service.bulk_commands import CHUNK_MAX, RunOf
from wallet_app.service.loading import MissingBalancesError
from wallet_app.service.posting import Deferred, Outcome

log = structlog.get_logger("wallet")

BUSY_ATTEMPTS_MAX = 6
"""How often a row waits for a wallet that others hold, before it is refused and the run goes on."""

_PAUSE_SECONDS = 0.2
_WORKER = "worker"


class _UnwritableError(Exception):
    """A chunk cannot be written, for the reason of one of its rows."""


def work_off(should_stop: Callable[[], bool]) -> int:
    """Post the rows of the runs that were approved, until none is left that nobody else is at; return how many.

    Raises what the database raises when it is away; what was not committed then is posted the next time.
    """
    return _Work(should_stop).run()


class _Work:
    """Goes from chunk to chunk, and remembers between two of them what kept rows from being posted."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._waited: dict[int, int] = {}
        """By run, how often its first row has waited for its wallet in vain."""
        self._singly: dict[int, int] = {}
        """By run, up to which row number each row is a unit of work of its own, because one cannot be written."""
        self._run_id = 0
        self._row_no = 0

    def run(self) -> int:
        total = 0
        while not self._should_stop():
            try:
                with unit_of_work() as connection:
                    count = self._chunk(connection)
            except MissingBalancesError as missing:
                with unit_of_work() as connection:
                    posting.heal(connection, missing.wallet_ids)
            except DBAPIError as error:
                if not self._bear(error):
                    raise
            except _UnwritableError:
                self._take_singly()
            else:
                if count is None:
                    break
                total += count
        return total

    def _chunk(self, connection: Connection) -> int | None:
        """Post the next rows of a run; return how many are settled, None if there is no run to be at."""
        run = _take(connection)
        if run is None:
            return None
        self._run_id = run.id
        if run.stop_asked_at is not None:
            _end(connection, run, "stopped")
            return 0
        is_singly = run.id in self._singly
        rows = connection.execute(_NEXT, {"run_id": run.id, "rows": 1 if is_singly else CHUNK_MAX}).all()
        if not rows:
            _end(connection, run, "completed_with_errors" if run.refused else "completed")
            return 0
        self._row_no = rows[0].row_no
        if is_singly and self._row_no > self._singly[run.id]:
            del self._singly[run.id]
        return self._post(connection, run, rows)

    def _post(self, connection: Connection, run: Row[Any], rows: Sequence[Row[Any]]) -> int:
        # What the reason codes do not allow any more is settled on its own; the next chunk has the others.
        denied = bulk_rules.refused_rows(rows, reasons.settings_by_code(connection))
        if denied:
            if rows[0].row_no in denied:
                self._waited.pop(run.id, None)
            return _settle(connection, run, [row for row in rows if row.row_no in denied], [*denied.values()])
        waited = self._waited.get(run.id, 0)
        if waited > BUSY_ATTEMPTS_MAX:
            del self._waited[run.id]
            return _settle(connection, run, rows[:1], [_busy()])
        about = RunOf(run.id, run.campaign, run.maker_id, run.on_shortfall, run.reason)
        commands = [bulk_commands.command_of(about, row) for row in rows]
        # At first what is free, without waiting; who waits for a wallet waits for the first row's.
        waits_for: Collection[int] = commands[0].wallet_ids() if waited else ()
        try:
            outcomes = posting.post(connection, commands, waits_for=waits_for)
        except (DBAPIError, MissingBalancesError):
            raise
        except Exception as fault:
            log_fault("bulk_chunk_failed", fault, run=run.id)
            raise _UnwritableError from fault
        settled = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if outcome is not _DEFERRED]
        if isinstance(outcomes[0], Deferred):
            self._waited[run.id] = waited + (not settled)
        else:
            self._waited.pop(run.id, None)
        return _settle(connection, run, [row for row, _ in settled], [outcome for _, outcome in settled])

    def _bear(self, error: DBAPIError) -> bool:
        """Tell whether to go on after the error: nothing of the chunk was written."""
        state = getattr(error.orig, "sqlstate", None)
        if state in _WAITED_IN_VAIN:
            self._waited[self._run_id] = self._waited.get(self._run_id, 0) + 1
            time.sleep(_PAUSE_SECONDS)
        elif state in _CONFLICTS:
            log.error("bulk_conflict", sqlstate=state, run=self._run_id)
            time.sleep(_PAUSE_SECONDS)
        elif is_away(error):
            return False
        else:
            log_fault("bulk_chunk_failed", error, run=self._run_id)
            self._take_singly()
        return True

    def _take_singly(self) -> None:
        """Let each row of the chunk that cannot be written be one of its own; of one row, note that it failed."""
        if self._run_id not in self._singly:
            with unit_of_work() as connection:
                last = connection.scalar(_LAST_OF_CHUNK, {"run_id": self._run_id, "rows": CHUNK_MAX})
            self._singly[self._run_id] = last or self._row_no
            return
        with unit_of_work() as connection:
            run = _take(connection, self._run_id)
            rows = [] if run is None else connection.execute(_NEXT, {"run_id": self._run_id, "rows": 1}).all()
            # Somebody else may have been at it meanwhile, to a better end.
            if run is not None and rows and rows[0].row_no == self._row_no:
                _settle(connection, run, rows, [RuntimeError("unwritable")])


_DEFERRED = Deferred.DEFERRED
_WAITED_IN_VAIN = {"55P03", "57014"}
_CONFLICTS = {"40001", "40P01"}


def _take(connection: Connection, run_id: int | None = None) -> Row[Any] | None:
    """Lock a run that is to be worked at, and that nobody else is at; the one that has waited longest for its turn."""
    wanted = select(BulkRun.id).where(BulkRun.state == "running")
    if run_id is not None:
        wanted = wanted.where(BulkRun.id == run_id)
    found = locks.lock_free_rows(connection, wanted.order_by(BulkRun.beat_at.nulls_first(), BulkRun.id).limit(1))
    if not found:
        return None
    return connection.execute(text("SELECT * FROM bulk_runs WHERE id = :id"), {"id": found[0]}).one()


def _settle(
    connection: Connection, run: Row[Any], rows: Sequence[Row[Any]], outcomes: Sequence[Outcome | Deferred]
) -> int:
    """Write what came of the rows, and that somebody works at the run; return how many rows."""
    results = [_result(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)]
    refused = sum(one["status"] != "done" for one in results)
    if results:
        json = orjson.dumps(results).decode()
        connection.execute(_WRITE_RESULTS, {"run_id": run.id, "results": json})
        _record_postings(connection, run, rows, outcomes)
    connection.execute(_BEAT, {"run_id": run.id, "done": len(results) - refused, "refused": refused})
    return len(results)


def _record_postings(
    connection: Connection, run: Row[Any], rows: Sequence[Row[Any]], outcomes: Sequence[Outcome | Deferred]
) -> None:
    """Keep what the run's maker caused, as for anything that operators post: a second person approved it."""
    postings = [
        {
            "anchor_id": outcome.transaction.wallet_id,
            "reference_id": outcome.transaction.reference,
            "wallet_id": one.wallet_id,
            "transaction_id": str(outcome.transaction.transaction_id),
            "asset_type_id": one.asset_id,
            "amount": one.amount,
            "counted": one.counted,
            "reason_code": row.reason_code,
            "ticket": row.ticket,
        }
        for row, outcome in zip(rows, outcomes, strict=True)
        if isinstance(outcome, Receipt) and not outcome.is_replay
        for one in weighing.moved_by(outcome)
    ]
    if postings:
        values = {
            "postings": orjson.dumps(postings).decode(),
            "kind": "bulk_undo" if run.undoes else "bulk",
            "operator_id": run.maker_id,
            "request_id": run.request_id,
        }
        connection.execute(_INSERT_POSTINGS, values)


def _result(row: Row[Any], outcome: Outcome | Deferred) -> dict[str, Any]:
    if isinstance(outcome, Receipt):
        # What this transaction moved of the row's wallet; a repayment of a debt after it is another transaction.
        own = [entry for entry in outcome.transaction.entries if entry.wallet_id == row.wallet_id]
        return {
            "row_no": row.row_no,
            "status": "done",
            "transaction_id": str(outcome.transaction.transaction_id),
            "moved": sum(entry.amount for entry in own),
            "balance_after": own[-1].balance_after if own else outcome.wallets[0].balance,
        }
    is_known = isinstance(outcome, WalletServiceError)
    if not is_known:
        log.error("bulk_row_failed", row=row.row_no, error=type(outcome).__name__)
    return {
        "row_no": row.row_no,
        "status": "refused" if is_known else "failed",
        "error_code": outcome.code if isinstance(outcome, WalletServiceError) else "internal_error",
        "error_message": bulk_commands.sentence_of(_as_error(outcome), row.scale),
    }


def _as_error(outcome: Outcome | Deferred) -> Exception:
    return outcome if isinstance(outcome, Exception) else RuntimeError("no outcome")


def _busy() -> WalletBusyError:
    return WalletBusyError("Others held the wallet all the time; nothing was posted. Upload the rest again.")


def _end(connection: Connection, run: Row[Any], state: str) -> None:
    """Let the run be over. Whatever it had posted stands with its rows already."""
    connection.execute(
        update(BulkRun).where(BulkRun.id == run.id).values(state=state, ended_at=text("clock_timestamp()"))
    )
    after: Mapping[str, Any] = {
        "state": state,
        "done": run.done,
        "refused": run.refused,
        "left": run.rows_to_do - run.done - run.refused,
    }
    audit.record(connection, Act(by=By(actor=_WORKER), action="bulk:end", subject=f"bulk:{run.id}", after=after))


_NEXT = text("""
SELECT bulk_rows.*, asset_types.scale, asset_types.code AS asset_code, asset_types.id AS asset_id
  FROM bulk_rows
  JOIN wallets ON wallets.id = bulk_rows.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE run_id = :run_id AND bulk_rows.status = 'waiting'
 ORDER BY row_no
 LIMIT :rows
""")

_LAST_OF_CHUNK = text("""
SELECT max(row_no) FROM (
       SELECT row_no FROM bulk_rows WHERE run_id = :run_id AND status = 'waiting' ORDER BY row_no LIMIT :rows
       ) AS chunk
""")

_WRITE_RESULTS = text("""
UPDATE bulk_rows
   SET status = result.status, transaction_id = result.transaction_id, moved = result.moved,
       balance_after = result.balance_after, error_code = result.error_code, error_message = result.error_message
  FROM jsonb_to_recordset(CAST(:results AS jsonb))
    AS result (row_no integer, status text, transaction_id uuid, moved bigint, balance_after bigint, error_code text,
               error_message text)
 WHERE bulk_rows.run_id = :run_id AND bulk_rows.row_no = result.row_no AND bulk_rows.status = 'waiting'
""")

_INSERT_POSTINGS = text("""
INSERT INTO operator_postings (anchor_id, reference_id, wallet_id, transaction_id, operator_id, asset_type_id, kind,
                               amount, counted, reason_code, ticket, request_id)
SELECT anchor_id, reference_id, wallet_id, transaction_id, :operator_id, asset_type_id, :kind, amount, counted,
       reason_code, ticket, :request_id
  FROM jsonb_to_recordset(CAST(:postings AS jsonb))
    AS posted (anchor_id bigint, reference_id text, wallet_id bigint, transaction_id uuid, asset_type_id bigint,
               amount bigint, counted bigint, reason_code text, ticket text)
""")

_BEAT = text("""
UPDATE bulk_runs SET done = done + :done, refused = refused + :refused, beat_at = clock_timestamp()
 WHERE id = :run_id
""")
