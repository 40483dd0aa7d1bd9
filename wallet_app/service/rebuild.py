"""Rebuild: makes the balances say again what the ledger says, while the service runs; it changes no entry.

It looks without locks and locks only what looked different, to look again and correct it. Unless a loss is accepted, it
refuses wherever the stored row knows of entries that the ledger does not have: to follow the ledger there would hide
that one was removed.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError

from wallet_app.db import snapshot, take_time, unit_of_work
from wallet_app.service import locks, posting
from wallet_app.service.chain import GENESIS
from wallet_app.service.verification import marks
from wallet_app.service.verification.totals import CONTRA_DIFFERENCES, Unmarked

WALLETS_MAX = 100
"""How many wallets one unit of work may lock."""

_ATTEMPTS_MAX = 5
_COLUMNS = ("balance", "held", "version", "chain", "updated_at", "owed", "bonus", "lots")


@dataclass(frozen=True, slots=True)
class Change:
    """A value that was corrected, or would be. `before` is None where the whole row was missing."""

    wallet_id: int
    column: str
    before: str | None
    after: str

    def __str__(self) -> str:
        return f"wallet {self.wallet_id}, {self.column}: {self.before or 'missing'} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wallet that was left as it is."""

    wallet_id: int
    reason: str

    def __str__(self) -> str:
        return f"wallet {self.wallet_id}: {self.reason}"


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild did, or with `is_dry_run` would do."""

    is_dry_run: bool
    wallets_checked: int = 0
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(slots=True)
class _Projection:
    wallet_id: int
    balance: int
    held: int
    version: int
    chain: bytes
    updated_at: dt.datetime
    owed: int
    bonus: int
    lots: int


def rebuild_balances(
    *, dry_run: bool = False, accept_loss: bool = False, progress: Callable[[int], object] = lambda _: None
) -> RebuildReport:
    """Correct every balance that does not say what the ledger says, and return what was different.

    `progress` is told how many wallets were looked at. Locks at most WALLETS_MAX wallets at a time. Raises
    VerificationRunningError while another rebuild or a verification runs.
    """
    report = RebuildReport(is_dry_run=dry_run)
    with marks.alone():
        after = 0
        while wallet_ids := _page(after):
            suspects = _suspects(wallet_ids)
            if suspects:
                _correct(suspects, report, accept_loss=accept_loss)
            report.wallets_checked += len(wallet_ids)
            progress(len(wallet_ids))
            after = wallet_ids[-1]
        _correct_system_balances(report, accept_loss=accept_loss)
    return report


def _page(after: int) -> list[int]:
    with snapshot() as connection:
        return list(connection.scalars(_PAGE, {"after": after, "wallets_max": WALLETS_MAX}))


def _suspects(wallet_ids: Sequence[int]) -> list[int]:
    with snapshot() as connection:
        return [row.wallet_id for row in _compare(connection, wallet_ids) if _differences(row) or _doubts(row)]


def _compare(connection: Connection, wallet_ids: Sequence[int]) -> Sequence[Row[Any]]:
    take_time(connection, _STATEMENT_SECONDS_MAX)
    connection.execute(_WITHOUT_JIT)
    return connection.execute(_COMPARE, {"wallet_ids": wallet_ids, "genesis": GENESIS}).all()


# --- user wallets ---


def _correct(wallet_ids: Sequence[int], report: RebuildReport, *, accept_loss: bool) -> None:
    for attempt in range(_ATTEMPTS_MAX):
        try:
            rows = _corrected(wallet_ids, dry_run=report.is_dry_run, accept_loss=accept_loss)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in {"55P03", "57014"}:
                raise
            time.sleep(random.uniform(0.1, 0.5) * (1 + attempt))  # noqa: S311
        else:
            _report(rows, report, accept_loss=accept_loss)
            return
    report.refusals += [Refusal(wallet_id, "could not be locked; run again") for wallet_id in wallet_ids]


def _corrected(wallet_ids: Sequence[int], *, dry_run: bool, accept_loss: bool) -> Sequence[Row[Any]]:
    """Write what the ledger says where that is allowed, and return what was found under the locks."""
    if dry_run:
        with snapshot() as connection:
            return _compare(connection, wallet_ids)
    with unit_of_work() as connection:
        locks.lock_wallets(connection, wallet_ids)
        rows = _compare(connection, wallet_ids)
        wrong = [row for row in rows if _differences(row) and (accept_loss or not _doubts(row))]
        posting.write_balances(connection, [_projection(row) for row in wrong if row.stored_version is not None])
    if missing := [row.wallet_id for row in wrong if row.stored_version is None]:
        # On its own, as heal asks: a row that is made anew may meet a posting that makes it too.
        with unit_of_work() as connection:
            posting.heal(connection, missing)
    lost = [row.wallet_id for row in wrong if _doubts(row)]
    if lost:
        marks.forget(lost)
    return rows


def _report(rows: Sequence[Row[Any]], report: RebuildReport, *, accept_loss: bool) -> None:
    for row in rows:
        doubts = _doubts(row)
        if doubts and not accept_loss:
            report.refusals.append(Refusal(row.wallet_id, doubts))
        else:
            report.changes += _differences(row)


def _projection(row: Row[Any]) -> _Projection:
    return _Projection(
        *(row.wallet_id, row.balance, row.held, row.version, row.chain, row.updated_at, row.owed, row.bonus, row.lots)
    )


def _differences(row: Row[Any]) -> list[Change]:
    if row.stored_version is None:
        return [Change(row.wallet_id, "row", None, f"balance {row.balance}, version {row.version}")]
    values = row._mapping
    return [
        Change(row.wallet_id, column, _words(values[f"stored_{column}"]), _words(values[column]))
        for column in _COLUMNS
        if values[f"stored_{column}"] != values[column]
    ]


def _doubts(row: Row[Any]) -> str | None:
    """Return why following the ledger would hide a loss; None if it would not."""
    if row.entries != row.version or row.total != row.balance:
        return (
            f"its {row.entries} entries make {row.total}, but the last one is seq {row.version} "
            f"with a balance of {row.balance}: entries are missing or changed"
        )
    if row.stored_version is not None and not row.is_head_known:
        return f"its stored head (version {row.stored_version}) is not in the ledger, which ends at seq {row.version}"
    return None


def _words(value: Any) -> str:
    return value.hex()[:16] + "..." if isinstance(value, bytes) else str(value)


# --- SYSTEM wallets ---


def _correct_system_balances(report: RebuildReport, *, accept_loss: bool) -> None:
    """Add to a slot of each SYSTEM wallet what its slots lack against the entries.

    Right under concurrency, because the difference does not change: a posting moves entries and slots alike, in one
    commit. Slots that contradict the entries are evidence of a loss, so they stay if any wallet was refused.
    """
    with snapshot() as connection:
        take_time(connection, _STATEMENT_SECONDS_MAX)
        connection.execute(_WITHOUT_JIT)
        rows = connection.execute(
            _SLOT_DIFFERENCES, {"round": marks.current_round(connection), **Unmarked().as_parameters()}
        ).all()
    if rows and report.refusals and not accept_loss:
        report.refusals += [Refusal(row.wallet_id, f"{row.what}; left, because others were refused") for row in rows]
        return
    if rows and not report.is_dry_run:
        deltas = {row.wallet_id: int(row.entries_total - row.slots_total) for row in rows}
        with unit_of_work() as connection:
            posting.add_to_system_balances(connection, deltas)
    report.changes += [Change(row.wallet_id, "slots", str(row.slots_total), str(row.entries_total)) for row in rows]


_STATEMENT_SECONDS_MAX = 600
_WITHOUT_JIT = text("SELECT set_config('jit', 'off', true)")

_PAGE = text("""
SELECT wallets.id
  FROM wallets
  JOIN users ON users.id = wallets.user_id AND users.user_type = 'USER'
 WHERE wallets.id > :after
 ORDER BY wallets.id
 LIMIT :wallets_max
""")

_COMPARE = text(f"""
SELECT ledger.*, totals.entries, totals.total,
       stored.balance AS stored_balance, stored.held AS stored_held, stored.version AS stored_version,
       stored.chain AS stored_chain, stored.updated_at AS stored_updated_at, stored.owed AS stored_owed,
       stored.bonus AS stored_bonus, stored.lots AS stored_lots,
       head.seq IS NOT NULL OR (stored.version = 0 AND stored.chain = :genesis) AS is_head_known
  FROM ({posting.LEDGER_SAYS}) AS ledger
 CROSS JOIN LATERAL (
       SELECT count(*) AS entries, coalesce(sum(amount), 0) AS total
         FROM ledger_entries WHERE wallet_id = ledger.wallet_id
       ) AS totals
  LEFT JOIN wallet_balances AS stored ON stored.wallet_id = ledger.wallet_id
  LEFT JOIN ledger_entries AS head ON head.wallet_id = stored.wallet_id AND head.seq = stored.version
                                  AND head.hash = stored.chain
 ORDER BY ledger.wallet_id
""")  # noqa: S608 - constants

_SLOT_DIFFERENCES = text(f"""
SELECT differences.*
  FROM ({CONTRA_DIFFERENCES}) AS differences
  JOIN wallets ON wallets.id = differences.wallet_id
  JOIN users ON users.id = wallets.user_id AND users.user_type = 'SYSTEM'
 ORDER BY differences.wallet_id
""")  # noqa: S608 - constants
