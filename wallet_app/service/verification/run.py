"""One verification from start to end: wallets part by part, transactions and audit page by page, then the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, text

from wallet_app.db import snapshot, take_time
from wallet_app.service.audit import extend_chain
from wallet_app.service.chain import GENESIS
from wallet_app.service.references import TAIL_MAX
from wallet_app.service.verification import audit, daily, marks, parts, runs, totals, transactions
from wallet_app.service.verification.approvals import APPROVAL_TRANSACTION_INVARIANTS, REQUESTS
from wallet_app.service.verification.audit import AUDIT_INVARIANTS, AUDIT_MARKS
from wallet_app.service.verification.holds import (
    HOLD_TRANSACTION_INVARIANTS,
    HOLD_WALLET_INVARIANTS,
    OVERDUE,
    OVERDUE_MINUTES,
)
from wallet_app.service.verification.limits import LIMIT_TRANSACTION_INVARIANTS, LIMIT_WALLET_INVARIANTS
from wallet_app.service.verification.lots import (
    LOT_TRANSACTION_INVARIANTS,
    LOT_WALLET_INVARIANTS,
    LOTS_ALONE,
    OVERDUE_LOTS,
    THERE_ARE_LOTS,
)
from wallet_app.service.verification.parts import SEQ_MAX, Budget, Start
from wallet_app.service.verification.references import BEHIND, REFERENCE_INVARIANT
from wallet_app.service.verification.report import Fault, Finding, VerifyReport
from wallet_app.service.verification.reversals import (
    REVERSAL_TRANSACTION_INVARIANTS,
    REVERSAL_WALLET_INVARIANTS,
)
from wallet_app.service.verification.states import STATE_TRANSACTION_INVARIANTS, STATE_WALLET_INVARIANTS
from wallet_app.service.verification.sums import SUM_INVARIANTS
from wallet_app.service.verification.totals import TOTAL_INVARIANTS, Unmarked
from wallet_app.service.verification.transactions import TRANSACTION_INVARIANTS
from wallet_app.service.verification.wallets import ORPHANS, WALLET_INVARIANTS, Invariant

_OF_WALLETS = (
    *WALLET_INVARIANTS,
    *HOLD_WALLET_INVARIANTS,
    *REVERSAL_WALLET_INVARIANTS,
    *STATE_WALLET_INVARIANTS,
    *LOT_WALLET_INVARIANTS,
    *LIMIT_WALLET_INVARIANTS,
    *SUM_INVARIANTS,
)
_OF_TRANSACTIONS = (
    *TRANSACTION_INVARIANTS,
    *HOLD_TRANSACTION_INVARIANTS,
    *REVERSAL_TRANSACTION_INVARIANTS,
    *STATE_TRANSACTION_INVARIANTS,
    *LOT_TRANSACTION_INVARIANTS,
    *LIMIT_TRANSACTION_INVARIANTS,
    REFERENCE_INVARIANT,
    *APPROVAL_TRANSACTION_INVARIANTS,
)

BEAT_SECONDS = 3.0

Progress = Callable[[int, int], object]
"""Told, after each part, how many entries were looked at and about how many there are."""


def verify(
    *,
    full: bool = False,
    progress: Progress | None = None,
    requested_by: str = "service",
    run_id: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> VerifyReport:
    """Check every invariant of the books and of the audit log while the service runs, and return what was found.

    Looks at what was posted since the last verification, or with `full` at everything; what is new in the audit log is
    chained. Takes no lock that a posting waits for. `run_id` is the request that it answers, if it does. Raises
    VerificationRunningError if another one runs, and StoppedError when it is told to stop.
    """
    began = time.monotonic()
    with marks.alone() as guard:
        expected = _entries_to_check(guard, 0 if full else marks.current_round(guard))
        run_id = runs.begin(run_id, full=full, requested_by=requested_by, entries_expected=expected)
        try:
            run = _Run(guard, full=full, progress=progress, expected=expected, alive=_Alive(run_id, should_stop))
            run.check_wallets()
            run.check_transactions()
            run.check_requests()
            run.check_totals()
            run.check_audit()
            run.report.seconds = time.monotonic() - began
            runs.end(run_id, run.report)
        except BaseException:
            # If not even that can be done, the next verification finds it out.
            with suppress(Exception):
                runs.break_off()
            raise
    return run.report


class StoppedError(Exception):
    """The verification was told to stop, and did not come to its end."""


class _Alive:
    """Says now and then how far the verification is, and asks whether it is to stop."""

    def __init__(self, run_id: int, should_stop: Callable[[], bool]) -> None:
        self._run_id = run_id
        self._should_stop = should_stop
        self._said_at = time.monotonic()

    def tell(self, entries_checked: int) -> None:
        """Tell it, if it was not just told."""
        if self._should_stop():
            raise StoppedError
        if time.monotonic() - self._said_at > BEAT_SECONDS:
            runs.beat(self._run_id, entries_checked=entries_checked)
            self._said_at = time.monotonic()


class _Run:
    """The state of one verification."""

    def __init__(
        self, guard: Connection, *, full: bool, progress: Progress | None, expected: int, alive: _Alive
    ) -> None:
        self._guard = guard
        self._progress = progress
        self._alive = alive
        self._round = marks.begin_round() if full else marks.current_round(guard)
        self._total = expected
        self._holds = list(guard.scalars(_HOLDS))
        self._has_lots: bool = guard.execute(THERE_ARE_LOTS).scalar_one()
        self._unmarked = Unmarked()
        self._budget = Budget()
        self._resume: Start | None = None
        self._recount = daily.Recount.begin(guard) if full else None
        self.report = VerifyReport(
            started_at=guard.execute(text("SELECT clock_timestamp()")).scalar_one(),
            is_full=full,
            transactions_from=None if full else marks.transactions_from(guard),
            findings={
                one.name: Finding(one.name, one.sentence, one.unit)
                for one in (
                    *_OF_WALLETS,
                    ORPHANS,
                    *_OF_TRANSACTIONS,
                    REQUESTS,
                    *TOTAL_INVARIANTS,
                    *AUDIT_INVARIANTS,
                    AUDIT_MARKS,
                    daily.DAILY,
                    daily.LOTS,
                )
            },
        )

    def check_wallets(self) -> None:
        """Check the entries after the marks, or all of them, and move the marks."""
        after = 0
        while True:
            with self._budget.spend() as connection:
                part = parts.next_part(
                    connection, after=after, resume=self._resume, round_number=self._round, budget=self._budget.rows
                )
                upto = part[-1].wallet_id if part else SEQ_MAX
                if self._resume is None:
                    self._check(connection, [ORPHANS], {"after": after, "upto": upto}, {"wallets": len(part)})
                if not part:
                    return
                ends, sums = self._check_part(connection, part)
            self._still_alone()
            marks.advance(round_number=self._round, ends=ends, contra_sums=sums)
            self._tell_progress()
            after = upto

    def _check_part(self, connection: Connection, part: Sequence[Start]) -> tuple[list[Start], dict[int, int]]:
        """Return where the marks may move to, and the contra sums of the entries that they pass."""
        ends, entries = parts.part_ends(connection, part, holds=self._holds)
        ended = sum(start.until == SEQ_MAX for start in part)
        parameters = {**parts.as_parameters(part), "holds": self._holds, "genesis": GENESIS}
        broken = self._check(connection, _OF_WALLETS, parameters, {"entries": entries, "wallets": ended})
        self._resume = None if ended else ends[0]
        self.report.entries_checked += entries

        seen = self._unmarked.seen
        seen.update({start.wallet_id: start.seq for start in part if start.wallet_id in broken | seen.keys()})
        seen.update({end.wallet_id: end.seq for end in ends if end.wallet_id in seen})
        self._unmarked.add(parts.contra_sums(connection, [start for start in part if start.wallet_id in seen]))
        sound = [start for start in part if start.wallet_id not in seen]
        return [end for end in ends if end.wallet_id not in seen], parts.contra_sums(connection, sound)

    def check_transactions(self) -> None:
        """Check the transactions that the last verification may not have seen, or all of them."""
        after = transactions.id_before(self.report.transactions_from)
        last = transactions.last_id(self._guard)
        while after < last:
            with self._budget.spend() as connection:
                until, rows = transactions.page_end(connection, after=after, last=last, rows_max=self._budget.rows)
                self._check(connection, _OF_TRANSACTIONS, {"after": after, "until": until}, {"transactions": rows})
                if self._recount is not None:
                    self._recount.add(connection, after=after, until=until)
            self._still_alone()
            after = until

    def check_requests(self) -> None:
        """Check all requests for approval, whenever they were made: people make them, so they are few."""
        after, last = 0, self._guard.execute(_LAST_REQUEST).scalar_one()
        while after < last:
            with self._budget.spend() as connection:
                until = min(last, after + self._budget.rows)
                count = connection.execute(_COUNT_REQUESTS, {"after": after, "until": until}).scalar_one()
                self._check(connection, [REQUESTS], {"after": after, "until": until}, {"requests": count})
            self._still_alone()
            after = until

    def check_totals(self) -> None:
        """Check, at one instant, that all wallets, slots and assets agree."""
        with snapshot() as connection:
            take_time(connection, totals.STATEMENT_SECONDS_MAX)
            connection.execute(totals.SETTINGS)
            counts = dict(connection.execute(totals.COUNTS).one()._mapping)
            self._check(connection, TOTAL_INVARIANTS, {"round": self._round, **self._unmarked.as_parameters()}, counts)
            self._note_overdue(connection)
            self._note_behind(connection)
            self._check_daily(connection)
            self._check_lot_totals(connection)

    def _check_daily(self, connection: Connection) -> None:
        began = time.monotonic()
        faults = daily.net_differences(connection)
        if faults is None:
            self.report.notes.append(
                f"More than {daily.TAIL_MAX:,} transactions are not in the daily totals yet, and so these were not "
                "compared: does `flask wallet worker` run?"
            )
            return
        if self._recount is not None:
            # None: invented history came in between, and they are made anew.
            faults += self._recount.differences(connection) or []
        self.report.findings[daily.DAILY.name].add(
            looked_at=daily.count(connection), faults=faults, seconds=time.monotonic() - began
        )

    def _check_lot_totals(self, connection: Connection) -> None:
        began = time.monotonic()
        faults = daily.lot_differences(connection)
        if faults is not None:
            self.report.findings[daily.LOTS.name].add(
                looked_at=daily.count_assets(connection), faults=faults, seconds=time.monotonic() - began
            )

    def _note_overdue(self, connection: Connection) -> None:
        for what, query in (("holds", OVERDUE), ("lots", OVERDUE_LOTS)):
            overdue = connection.execute(query).one()
            if overdue.number:
                # Nothing is wrong: whoever comes next to their wallets settles them first, and reads do not count them.
                self.report.notes.append(
                    f"{overdue.number:,} {what} have been due for more than {OVERDUE_MINUTES} minutes, the oldest "
                    f"since {overdue.since:%Y-%m-%d %H:%M:%S} UTC, and are not settled: does `flask wallet worker` run?"
                )

    def _note_behind(self, connection: Connection) -> None:
        if connection.execute(BEHIND).scalar_one() > TAIL_MAX:
            self.report.notes.append(
                f"More than {TAIL_MAX:,} transactions are not in the index by reference yet, so over all wallets "
                "references are looked for in a range of time: does `flask wallet worker` run?"
            )

    def check_audit(self) -> None:
        """Chain what is new in the audit log, and check its chain after the mark, or all of it."""
        extend_chain()
        mark = marks.audit_mark(self._guard)
        after = 0 if self.report.is_full else mark.seq
        last = audit.last_seq(self._guard)
        parameters: dict[str, Any] = {"mark_seq": mark.seq, "mark_hash": mark.hash}
        with self._budget.spend() as connection:
            self._check(connection, [AUDIT_MARKS], parameters, {"audit marks": int(mark.seq > 0)})
        while after < last:
            with self._budget.spend() as connection:
                until = audit.page_end(connection, after=after, last=last, rows_max=self._budget.rows)
                scope = {"after": after, "until": until, "genesis": GENESIS}
                self._check(
                    connection,
                    AUDIT_INVARIANTS,
                    scope,
                    {"audit records": audit.count(connection, after=after, until=until)},
                )
            self._still_alone()
            after = until
        self.report.audit_mark = audit.mark_at(self._guard, last) if self._audit_is_right() else mark

    def _audit_is_right(self) -> bool:
        return not any(self.report.findings[one.name].faults for one in (*AUDIT_INVARIANTS, AUDIT_MARKS))

    def _check(
        self,
        connection: Connection,
        invariants: Iterable[Invariant],
        parameters: Mapping[str, Any],
        looked_at: Mapping[str, int],
    ) -> set[int]:
        """Run the queries and return the wallets that are in what they return."""
        wallet_ids: set[int] = set()
        for invariant in invariants:
            began = time.monotonic()
            # Of lots that nobody has nothing can be wrong: where there are none, that takes two queries, and not nine.
            is_asked = self._has_lots or invariant.name not in LOTS_ALONE
            rows = connection.execute(text(invariant.query), parameters).all() if is_asked else ()
            wallet_ids.update(row.wallet_id for row in rows)
            self.report.findings[invariant.name].add(
                looked_at=looked_at[invariant.unit],
                faults=[Fault(row.wallet_id, row.seq, row.what) for row in rows],
                seconds=time.monotonic() - began,
            )
        return wallet_ids

    def _still_alone(self) -> None:
        # Raises if the connection that holds the lock is gone: another verification may then have begun, and two that
        # moved the same marks would count entries twice.
        self._guard.execute(text("SELECT 1"))
        self._alive.tell(self.report.entries_checked)

    def _tell_progress(self) -> None:
        if self._progress:
            self._progress(self.report.entries_checked, max(self._total, self.report.entries_checked))


def _entries_to_check(connection: Connection, round_number: int) -> int:
    return int(connection.execute(_TO_CHECK, {"round": round_number}).scalar_one())


_TO_CHECK = text("""
SELECT coalesce((SELECT sum(version) FROM wallet_balances), 0)
     - coalesce((SELECT sum(seq) FROM verify_marks WHERE round = :round), 0)
""")

_LAST_REQUEST = text("SELECT coalesce(max(id), 0) FROM approval_requests")

_COUNT_REQUESTS = text("SELECT count(*) FROM approval_requests WHERE id > :after AND id <= :until")

_HOLDS = text("""
SELECT wallets.id
  FROM users
  JOIN wallets ON wallets.user_id = users.id
 WHERE users.user_type = 'SYSTEM' AND users.name = 'Holds'
""")
