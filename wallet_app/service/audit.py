"""The audit log: what operators, keys and the administration did or tried, beside what the ledger tells by itself.

A record is written in the unit of work of what it tells of, so that neither is there without the other. The chain over
the records is made afterwards, behind the horizon of finished transactions: nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, text

from wallet_app.db import take_time, unit_of_work
from wallet_app.models import AuditLink, AuditRecord
from wallet_app.service import locks
from wallet_app.service.chain import GENESIS, audit_hash

Outcome = Literal["done", "denied", "failed"]

TEXT_MAX = 500
"""Characters of each text of a record; a longer one is cut, because an act must not fail by what is told of it."""

LINKS_MAX = 1_000
"""How many records one unit of work chains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who does something to be recorded, from where, and why."""

    actor: str
    reason: str | None = None
    ticket: str | None = None
    request_id: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be recorded of what `by` did. No secret belongs in it.

    `action` is `resource:verb`, like `key:create`; `subject` what it was done to, like `key:3f6k`. `before` and `after`
    are what changed, as JSON.
    """

    by: By
    action: str
    outcome: Outcome = "done"
    subject: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def record(connection: Connection, act: Act) -> None:
    """Record the act in the caller's unit of work; takes no lock."""
    connection.execute(
        insert(AuditRecord).values(
            actor=_cut(act.by.actor),
            action=act.action,
            subject=_cut(act.subject),
            before=act.before,
            after=act.after,
            reason=_cut(act.by.reason),
            ticket=_cut(act.by.ticket),
            request_id=_cut(act.by.request_id),
            address=_cut(act.by.address),
            outcome=act.outcome,
        )
    )


def record_alone(act: Act) -> None:
    """Record an act that changed nothing, such as one that was denied, in a unit of work of its own."""
    with unit_of_work() as connection:
        record(connection, act)


def extend_chain() -> int:
    """Chain the records whose transactions, and all before them, have ended; return how many.

    Waits for whoever else extends the chain, and for nobody who writes records.
    """
    chained = 0
    while True:
        with unit_of_work() as connection:
            # In each unit of work, because they look for what is missing in the whole log.
            take_time(connection, _SECONDS_MAX)
            connection.execute(_WAIT_LONG)
            locks.lock_audit_chain(connection)
            links = _links(connection)
            if links:
                connection.execute(insert(AuditLink), links)
        chained += len(links)
        if len(links) < LINKS_MAX:
            return chained


def _links(connection: Connection) -> list[dict[str, Any]]:
    """Return the next links, in order of the records' ids; the caller holds the chain's lock."""
    last = connection.execute(select(AuditLink.seq, AuditLink.hash).order_by(AuditLink.seq.desc()).limit(1)).first()
    seq, head = (0, GENESIS) if last is None else last
    rows = connection.execute(_UNCHAINED, {"links_max": LINKS_MAX}).all()
    links = []
    for row in rows:
        seq += 1
        link = {
            "seq": seq,
            "audit_id": row.id,
            # Where some are left for the next unit of work, it is not true that all below the horizon are chained.
            "horizon": row.horizon if len(rows) < LINKS_MAX else 0,
            "ceiling": row.ceiling,
        }
        head = audit_hash(previous=head, **link, xid=row.xid, occurred_at=row.occurred_at, texts=row[5:])
        links.append({**link, "hash": head})
    return links


def _cut(value: str | None) -> str | None:
    return None if value is None else value[:TEXT_MAX]


_SECONDS_MAX = 30
_WAIT_LONG = text(f"SELECT set_config('lock_timeout', '{_SECONDS_MAX}s', true)")

# A transaction from the ceiling on is none of this server's: its record came with a restored database, and has ended.
_UNCHAINED = text("""
WITH snapshot AS (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon, pg_snapshot_xmax(pg_current_snapshot()) AS ceiling
)
SELECT CAST(CAST(horizon AS text) AS bigint) AS horizon, CAST(CAST(ceiling AS text) AS bigint) AS ceiling,
       id, CAST(CAST(xid AS text) AS bigint) AS xid, occurred_at,
       actor, action, subject, CAST(before AS text) AS before, CAST(after AS text) AS after, reason, ticket, request_id,
       address, outcome
  FROM audit_log, snapshot
 WHERE (xid < horizon OR xid >= ceiling)
   AND NOT EXISTS (SELECT FROM audit_chain WHERE audit_id = audit_log.id)
 ORDER BY id
 LIMIT :links_max
""")
