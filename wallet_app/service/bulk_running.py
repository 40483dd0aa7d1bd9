"""The worker's job of bulk runs: what was approved is posted, so many rows at a time; each row says what came of it.

A chunk is one unit of work: the run's row is locked, its next rows are posted, and what came of them is written beside
their entries. So whoever is killed leaves a chunk that is done or one that is not, and nobody has to look for what a
predecessor may have posted. Any number of workers take turns; a run that one is at is skipped by the others.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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

BUSY_SECONDS_MAX = 12.0
"""How long the rows of a wallet that others hold are tried again, before they are refused and the run goes on."""

_PAUSE_SECONDS = 0.2
_WORKER = "worker"


class _UnwritableError(Exception):
    """A chunk cannot be written, for the reason of one of its rows."""


def work_off(should_stop: Callable[[], bool]) -> int:
    """Post the rows of the runs that were approved, until none is left that nobody else is at; return how many.

    Raises what the database raises when it is away; what was not committed then is posted the next time.
    """
    return _Work(should_stop).run()


class _Aside(NamedTuple):
    """A wallet that others held when its rows had their turn. It is waited for when all the other rows are done."""

    since: float
    """On the monotonic clock."""
    waits: int = 0
    """How often it was waited for in vain, for as long as a lock may be waited for."""

    @property
    def is_over(self) -> bool:
        """Whether its rows have been tried for long enough. Each wallet is waited for once at least."""
        return self.waits > 0 and time.monotonic() - self.since >= BUSY_SECONDS_MAX


class _Work:
    """Goes from chunk to chunk, and remembers between two of them what kept rows from being posted."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._aside: defaultdict[int, dict[int, _Aside]] = defaultdict(dict)
        """By run, the wallets whose rows are put aside."""
        self._awaited: int | None = None
        """The wallet that the chunk on its way waits for."""
        self._singly: dict[tuple[int, bool], int] = {}
        """By run, and whether at its end: up to which row number each row is a unit of work of its own, because one of
        them cannot be written."""
        self._run_id = 0
        self._is_end = False
        """Whether only what is put aside is left of the run."""
        self._row_no = 0
        self._wallet_id = 0

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
        rows = self._next_rows(connection)
        if not rows:
            self._aside.pop(run.id, None)
            _end(connection, run, "completed_with_errors" if run.refused else "completed")
            return 0
        self._row_no, self._wallet_id = rows[0].row_no, rows[0].wallet_id
        if self._row_no > self._singly.get(self._part, self._row_no):
            del self._singly[self._part]
        return self._post(connection, run, rows)

    @property
    def _part(self) -> tuple[int, bool]:
        return self._run_id, self._is_end

    def _next_rows(self, connection: Connection) -> Sequence[Row[Any]]:
        """Return the rows of the run whose turn it is: those that are put aside when there are no others."""
        rows: Sequence[Row[Any]] = ()
        for self._is_end in (False, True):
            aside = [] if self._is_end else list(self._aside[self._run_id])
            values = {"run_id": self._run_id, "rows": 1 if self._part in self._singly else CHUNK_MAX}
            rows = connection.execute(_NEXT, {**values, "aside": aside}).all()
            if rows or not aside:
                break
        return rows

    def _post(self, connection: Connection, run: Row[Any], rows: Sequence[Row[Any]]) -> int:
        # What the reason codes do not allow any more is settled on its own; the next chunk has the others.
        denied = bulk_rules.refused_rows(rows, reasons.settings_by_code(connection))
        if denied:
            return _settle(connection, run, [row for row in rows if row.row_no in denied], [*denied.values()])
        aside = self._aside[run.id]
        if late := [row for row in rows if row.wallet_id in aside and aside[row.wallet_id].is_over]:
            return _settle(connection, run, late, [_busy() for _ in late])
        about = RunOf(run.id, run.campaign, run.maker_id, run.on_shortfall, run.reason)
        commands = [bulk_commands.command_of(about, row) for row in rows]
        self._awaited = self._wallet_to_wait_for(rows) if self._is_end else None
        try:
            # What is free, without waiting; at the end for one wallet, because a hot one is hardly ever free by chance.
            waits_for = () if self._awaited is None else (self._awaited,)
            outcomes = posting.post(connection, commands, waits_for=waits_for)
        except (DBAPIError, MissingBalancesError):
            raise
        except Exception as fault:
            log_fault("bulk_chunk_failed", fault, run=run.id)
            raise _UnwritableError from fault
        settled = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if outcome is not _DEFERRED]
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome is _DEFERRED:
                aside.setdefault(row.wallet_id, _Aside(time.monotonic()))
        for row, _ in settled:
            aside.pop(row.wallet_id, None)
        return _settle(connection, run, [row for row, _ in settled], [outcome for _, outcome in settled])

    def _wallet_to_wait_for(self, rows: Sequence[Row[Any]]) -> int:
        """Return, of the rows' wallets, the one that was waited for least often so far; of these the first."""
        aside = self._aside[self._run_id]
        wallets: list[int] = [row.wallet_id for row in rows]
        return min(wallets, key=lambda wallet_id: aside[wallet_id].waits if wallet_id in aside else 0)

    def _bear(self, error: DBAPIError) -> bool:
        """Tell whether to go on after the error: nothing of the chunk was written."""
        state = getattr(error.orig, "sqlstate", None)
        if state in _WAITED_IN_VAIN:
            self._note_wait()
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

    def _note_wait(self) -> None:
        """Count the wait for the wallet that was waited for; if it was something else, let the first row be last."""
        aside = self._aside[self._run_id]
        wallet_id = self._wallet_id if self._awaited is None else self._awaited
        before = aside.get(wallet_id, _Aside(time.monotonic()))
        aside[wallet_id] = before._replace(waits=before.waits + (self._awaited is not None))

    def _take_singly(self) -> None:
        """Let each row of the chunk that cannot be written be one of its own; of one row, note that it failed."""
        if self._part not in self._singly:
            with unit_of_work() as connection:
                rows = self._next_rows(connection)
            self._singly[self._part] = rows[-1].row_no if rows else self._row_no
            return
        with unit_of_work() as connection:
            run = _take(connection, self._run_id)
            rows = [] if run is None else self._next_rows(connection)
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
 WHERE run_id = :run_id AND bulk_rows.status = 'waiting' AND bulk_rows.wallet_id <> ALL (CAST(:aside AS bigint[]))
 ORDER BY row_no
 LIMIT :rows
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
