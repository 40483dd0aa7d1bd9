"""The sweep of holds whose time is over. Nothing depends on it: a command on their wallet settles them as well."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from wallet_app.db import db, reads
from wallet_app.errors import HoldFinishedError
from wallet_app.service import holds
from wallet_app.service.attempts import post_with_retries
from wallet_app.service.books import Receipt
from wallet_app.service.posting import Deferred, Outcome

log = structlog.get_logger("wallet")

PAGE_MAX = 100
"""How many holds are settled in one unit of work. It keeps their wallets from everybody else while it lasts."""

_SECONDS_MAX = 10.0


def expire_due(should_stop: Callable[[], bool]) -> int:
    """Settle all holds that are due now, through the kernel, a page at a time; return how many were.

    It waits for no wallet: whoever holds one settles what is due there, or the next sweep does. So several may sweep at
    once. A page is committed or it is not; whoever is killed in the middle leaves the rest to the next one.
    """
    settled, after = 0, _START
    while not should_stop() and (page := _due(after)):
        outcomes = post_with_retries(
            db.engine,
            [holds.expiry_of(row.wallet_id, row.hold_id, row.expires_at) for row in page],
            deadline=time.monotonic() + _SECONDS_MAX,
            waits_for=(),
        )
        settled += sum(_is_settled(row.hold_id, outcome) for row, outcome in zip(page, outcomes, strict=True))
        last = page[-1]
        after = {"expires_at": last.expires_at, "wallet_id": last.wallet_id, "seq": last.seq}
    return settled


def _is_settled(hold_id: uuid.UUID, outcome: Outcome | Deferred) -> bool:
    if isinstance(outcome, Exception) and not isinstance(outcome, HoldFinishedError):
        log.warning("hold_not_expired", hold=str(hold_id), error=type(outcome).__name__, detail=str(outcome)[:200])
    return isinstance(outcome, Receipt)


@reads
def _due(connection: Connection, after: dict[str, Any]) -> Sequence[Row[Any]]:
    return connection.execute(_DUE, {**after, "page_max": PAGE_MAX}).all()


_START: dict[str, Any] = {"expires_at": None, "wallet_id": 0, "seq": 0}

_DUE = text("""
SELECT wallet_id, seq, hold_id, expires_at
  FROM holds
 WHERE ended_at IS NULL AND expires_at <= clock_timestamp()
   AND (expires_at, wallet_id, seq) > (coalesce(CAST(:expires_at AS timestamptz), '-infinity'), :wallet_id, :seq)
 ORDER BY expires_at, wallet_id, seq
 LIMIT :page_max
""")
