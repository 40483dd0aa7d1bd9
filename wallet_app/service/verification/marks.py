"""What verifications remember: how far each wallet was verified, in which round, and the contra sums up to there.

A full verification begins a new round, in which no mark counts yet; so it needs no table emptied, and when it is broken
off the next one goes on where it ended. Marks and sums move in one unit of work: together they are always true.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from wallet_app.db import unit_of_work
from wallet_app.errors import VerificationRunningError
from wallet_app.service.verification.parts import Start
from wallet_app.service.verification.report import AuditMark, VerifyReport

_LOCK = 7_402_003
"""Advisory lock: one verification or rebuild at a time."""

_OVERLAP = dt.timedelta(hours=1)
"""How far back the ids of transactions can lie that were not committed when the last verification started."""


@contextmanager
def alone() -> Iterator[Connection]:
    """Hold the right to verify; raise VerificationRunningError if another one has it.

    The lock lives in an open transaction, because a session's lock would stay behind in a pooler. Under READ COMMITTED
    a transaction that does nothing has no snapshot, so this one holds no dead row and nobody's wait.
    """
    with unit_of_work() as connection:
        connection.execute(text("SELECT set_config('idle_in_transaction_session_timeout', '0', true)"))
        if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
            raise VerificationRunningError
        yield connection


def current_round(connection: Connection) -> int:
    """Return the number of the round that an incremental verification continues."""
    return connection.scalar(text("SELECT max(round) FROM verify_contra_sums")) or 0


def begin_round() -> int:
    """Begin a new round and return its number: all marks are evidence only, and the sums start at zero."""
    with unit_of_work() as connection:
        number = current_round(connection) + 1
        connection.execute(text("DELETE FROM verify_contra_sums"))
        connection.execute(_ZEROS, {"round": number})
    return number


def forget(wallet_ids: Sequence[int]) -> None:
    """Give up what was verified of the wallets, as evidence too, and begin a new round: someone accepted their loss."""
    with unit_of_work() as connection:
        connection.execute(
            text("DELETE FROM verify_marks WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[]))"),
            {"wallet_ids": list(wallet_ids)},
        )
    begin_round()


def advance(*, round_number: int, ends: Sequence[Start], contra_sums: Mapping[int, int]) -> None:
    """Move the marks to the ends, and add the sums of the entries that they passed."""
    if not ends:
        return
    with unit_of_work() as connection:
        connection.execute(_MARK, _mark_parameters(round_number, ends))
        connection.execute(
            _ADD, {"round": round_number, "wallet_ids": list(contra_sums), "totals": list(contra_sums.values())}
        )


def transactions_from(connection: Connection) -> dt.datetime | None:
    """Return from when on transactions are to be looked at; None for all.

    After a run with faults it is where that run began to look, so that a fault is reported until it is gone.
    """
    last = connection.execute(_LAST_RUN).first()
    if last is None:
        return None
    begun: dt.datetime | None = last.started_at - _OVERLAP if last.faults == 0 else last.transactions_from
    return begun


def audit_mark(connection: Connection) -> AuditMark:
    """Return how far the audit log's chain was found right by any run."""
    row = connection.execute(_AUDIT_MARK).first()
    return AuditMark() if row is None else AuditMark(row.audit_seq, row.audit_hash)


def record(connection: Connection, report: VerifyReport) -> None:
    """Keep that the verification ended, and with what, in the caller's unit of work."""
    connection.execute(
        _RECORD,
        {
            "started_at": report.started_at,
            "is_full": report.is_full,
            "transactions_from": report.transactions_from,
            "entries_checked": report.entries_checked,
            "faults": report.faults,
            "audit_seq": report.audit_mark.seq or None,
            "audit_hash": report.audit_mark.hash,
        },
    )


def _mark_parameters(round_number: int, ends: Sequence[Start]) -> dict[str, Any]:
    return {
        "round": round_number,
        "wallet_ids": [end.wallet_id for end in ends],
        "seqs": [end.seq for end in ends],
        "hashes": [end.hash for end in ends],
        "balances": [end.balance for end in ends],
        "helds": [end.held for end in ends],
        "times": [end.created_at for end in ends],
    }


_ZEROS = text("""
INSERT INTO verify_contra_sums (wallet_id, round, total)
SELECT wallets.id, :round, 0
  FROM wallets
  JOIN users ON users.id = wallets.user_id
 WHERE users.user_type = 'SYSTEM'
""")

_MARK = text("""
INSERT INTO verify_marks (wallet_id, round, seq, hash, balance, held, created_at)
SELECT wallet_id, :round, seq, hash, balance, held, created_at
  FROM unnest(CAST(:wallet_ids AS bigint[]), CAST(:seqs AS bigint[]), CAST(:hashes AS bytea[]),
              CAST(:balances AS bigint[]), CAST(:helds AS bigint[]), CAST(:times AS timestamptz[]))
    AS ends (wallet_id, seq, hash, balance, held, created_at)
ON CONFLICT (wallet_id) DO UPDATE
   SET round = excluded.round, seq = excluded.seq, hash = excluded.hash, balance = excluded.balance,
       held = excluded.held, created_at = excluded.created_at
""")

_ADD = text("""
INSERT INTO verify_contra_sums (wallet_id, round, total)
SELECT wallet_id, :round, total
  FROM unnest(CAST(:wallet_ids AS bigint[]), CAST(:totals AS numeric[])) AS sums (wallet_id, total)
ON CONFLICT (wallet_id) DO UPDATE SET total = verify_contra_sums.total + excluded.total
""")

_LAST_RUN = text("SELECT started_at, transactions_from, faults FROM verify_runs ORDER BY id DESC LIMIT 1")

# The highest, because an end that is removed must not take with it what remembers it.
_AUDIT_MARK = text("""
SELECT audit_seq, audit_hash FROM verify_runs WHERE audit_seq IS NOT NULL ORDER BY audit_seq DESC, id LIMIT 1
""")

_RECORD = text("""
INSERT INTO verify_runs (started_at, ended_at, is_full, transactions_from, entries_checked, faults, audit_seq,
                         audit_hash)
VALUES (:started_at, clock_timestamp(), :is_full, :transactions_from, :entries_checked, :faults, :audit_seq,
        :audit_hash)
""")
