"""The sweeps of holds and of lots whose time is over.

Nothing depends on them: a command on their wallet settles them as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Row, TextClause, text

from wallet_app.db import db, reads
from wallet_app.errors import HoldFinishedError, LotFinishedError
from wallet_app.service import holds, lot_rules
from wallet_app.service.attempts import post_with_retries
from wallet_app.service.books import Receipt
from wallet_app.service.commands import Command
from wallet_app.service.posting import Deferred, Outcome

log = structlog.get_logger("wallet")

PAGE_MAX = 100
"""How much is settled in one unit of work. It keeps the wallets from everybody else while it lasts."""

_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Something whose time can be over: how the next page of it is found, and what asks the kernel to settle it."""

    name: str
    complaint: str
    due: TextClause
    command: Callable[[Row[Any]], Command]
    settled_before: type[Exception]
    """What the kernel says if it was settled already."""


def expire_due(should_stop: Callable[[], bool]) -> int:
    """Settle all holds that are due now, through the kernel, a page at a time; return how many were.

    It waits for no wallet: whoever holds one settles what is due there, or the next sweep does. So several may sweep at
    once. A page is committed or it is not; whoever is killed in the middle leaves the rest to the next one.
    """
    return _settle(_HOLDS, should_stop)


def expire_due_lots(should_stop: Callable[[], bool]) -> int:
    """Book what has expired of all lots until now, as `expire_due` does it for holds; return how many there were."""
    return _settle(_LOTS, should_stop)


def _settle(sweep: _Sweep, should_stop: Callable[[], bool]) -> int:
    settled, after = 0, _START
    while not should_stop() and (page := _page(sweep.due, after)):
        commands = [sweep.command(row) for row in page]
        deadline = time.monotonic() + _SECONDS_MAX
        outcomes = post_with_retries(db.engine, commands, deadline=deadline, waits_for=())
        settled += sum(_is_settled(sweep, row.own_id, outcome) for row, outcome in zip(page, outcomes, strict=True))
        last = page[-1]
        after = {"expires_at": last.expires_at, "wallet_id": last.wallet_id, "seq": last.seq, "part": last.part}
    return settled


def _is_settled(sweep: _Sweep, own_id: object, outcome: Outcome | Deferred) -> bool:
    if isinstance(outcome, Exception) and not isinstance(outcome, sweep.settled_before):
        told = {sweep.name: str(own_id), "error": type(outcome).__name__, "detail": str(outcome)[:200]}
        log.warning(sweep.complaint, **told)
    return isinstance(outcome, Receipt)


@reads
def _page(connection: Connection, due: TextClause, after: dict[str, Any]) -> Sequence[Row[Any]]:
    return connection.execute(due, {**after, "page_max": PAGE_MAX}).all()


_START: dict[str, Any] = {"expires_at": None, "wallet_id": 0, "seq": 0, "part": 0}

_HOLDS = _Sweep(
    "hold",
    "hold_not_expired",
    text("""
SELECT wallet_id, seq, CAST(:part AS integer) AS part, hold_id AS own_id, expires_at
  FROM holds
 WHERE ended_at IS NULL AND expires_at <= clock_timestamp()
   AND (expires_at, wallet_id, seq) > (coalesce(CAST(:expires_at AS timestamptz), '-infinity'), :wallet_id, :seq)
 ORDER BY expires_at, wallet_id, seq
 LIMIT :page_max
"""),
    lambda row: holds.expiry_of(row.wallet_id, row.own_id, row.expires_at),
    HoldFinishedError,
)

_LOTS = _Sweep(
    "lot",
    "lot_not_expired",
    text("""
SELECT wallet_id, seq, part, lot_id AS own_id, expires_at
  FROM lots
 WHERE available > 0 AND expires_at < '9999-01-01 00:00:00+00' AND expires_at <= clock_timestamp()
   AND (expires_at, wallet_id, seq, part)
       > (coalesce(CAST(:expires_at AS timestamptz), '-infinity'), :wallet_id, :seq, :part)
 ORDER BY expires_at, wallet_id, seq, part
 LIMIT :page_max
"""),
    lambda row: lot_rules.expiry_of(row.wallet_id, row.own_id, row.expires_at),
    LotFinishedError,
)
