"""Reads of the audit log: who did what, narrowed by what is known of it, newest first, a page at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads

PAGE = 50
EXPORT_PAGE = 1_000
ABOUT_MAX = 20

ROWS_MAX = 2_000
"""How many records a page looks at: with a rare filter it may be short, or empty, and go on."""


class RecordView(NamedTuple):
    """A record, and its number in the chain with the hash there; None as long as it is not chained."""

    record_id: int
    occurred_at: dt.datetime
    actor: str
    action: str
    outcome: str
    subject: str | None
    before: Any
    after: Any
    reason: str | None
    ticket: str | None
    request_id: str | None
    address: str | None
    seq: int | None = None
    hash: bytes | None = None


class Place(NamedTuple):
    """Where a page of the log goes on: below this record."""

    occurred_at: dt.datetime
    record_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilters:
    """What a record must be like; None is anything. `action` may be a resource alone, like `key`.

    `actor` may be an operator's e-mail address.
    """

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    outcome: str | None = None
    ticket: str | None = None
    request_id: str | None = None
    occurred_from: dt.datetime | None = None
    """From this instant on."""
    occurred_to: dt.datetime | None = None
    """Before this one."""

    def told(self) -> dict[str, str]:
        """Return those that are given, as the audit log tells which records were exported."""
        given = {name: getattr(self, name) for name in self.__slots__}
        return {name: str(value) for name, value in given.items() if value is not None}


class AuditPage(NamedTuple):
    """Records, newest first, and where the next page begins; None if there is none."""

    records: Sequence[RecordView]
    following: Place | None


@reads
def list_audit(
    connection: Connection, filters: AuditFilters, *, before: Place | None = None, limit: int = PAGE
) -> AuditPage:
    """Return up to `limit` records that pass the filters, below the place."""
    limit = min(limit, EXPORT_PAGE)
    # One more tells whether there is a next page.
    rows = connection.execute(_LIST[_leading(filters)], {**_values(filters, before), "limit": limit + 1}).all()
    found = [RecordView._make(row[:-1]) for row in rows if row.is_found]
    found.sort(key=lambda record: (record.occurred_at, record.record_id), reverse=True)
    if len(found) > limit:
        last = found[limit - 1]
        return AuditPage(found[:limit], Place(last.occurred_at, last.record_id))
    since = filters.occurred_from or _EVER
    ends = [Place(row.occurred_at, row.id) for row in rows if not row.is_found and row.occurred_at >= since]
    return AuditPage(found, ends[0] if ends else None)


@reads
def get_audit_record(connection: Connection, record_id: int) -> RecordView | None:
    """Return one record with its place in the chain."""
    row = connection.execute(_GET, {"record_id": record_id}).first()
    return None if row is None else RecordView._make(row)


@reads
def list_audit_about(
    connection: Connection, *, request_id: str | None, approval_id: int | None
) -> Sequence[RecordView]:
    """Return what the log has about a transaction, oldest first: the latest ABOUT_MAX records of each kind.

    Those of the same request; of the request for approval that it carried out, if it did; of the bulk run whose row it
    is, which its request id says.
    """
    run = None if request_id is None or not request_id.startswith("bulk:") else request_id
    approval = None if approval_id is None else f"request:{approval_id}"
    values = {"request_id": request_id, "approval": approval, "run": run, "records": ABOUT_MAX}
    return [RecordView(*row) for row in connection.execute(_ABOUT, values)]


@reads
def list_audit_actions(connection: Connection) -> Sequence[str]:
    """Return the actions that there are records of, in order: a look at the index for each."""
    return list(connection.scalars(_ACTIONS))


@reads
def list_actor_names(connection: Connection) -> Mapping[str, str]:
    """Return the operators' names by how the log and the ledger name them: there is a bounded number of people."""
    return {row.actor: row.name for row in connection.execute(_NAMES)}


def walk_audit(filters: AuditFilters) -> Iterator[RecordView]:
    """Yield all records that pass the filters, newest first, a page at a time."""
    page: AuditPage = list_audit(filters, limit=EXPORT_PAGE)
    while True:
        yield from page.records
        if page.following is None:
            return
        page = list_audit(filters, before=page.following, limit=EXPORT_PAGE)


def changes_of(record: RecordView) -> list[tuple[str, Any, Any]]:
    """Return what changed: each name with what it was and what it is; None where it was not said."""
    before, after = _flat(record.before), _flat(record.after)
    return [
        (name, before.get(name), after.get(name)) for name in [*before, *(name for name in after if name not in before)]
    ]


def _flat(value: Any) -> dict[str, Any]:
    """Return a record's JSON by its names; what is no object has none."""
    if isinstance(value, Mapping):
        return {str(name): value[name] for name in sorted(value)}
    return {} if value is None else {"": value}


_LEADING = ("request_id", "ticket", "subject", "actor", "action")
"""By whose index a walk goes if it is given: the first of these, because it leaves the fewest."""


def _leading(filters: AuditFilters) -> str | None:
    given = [name for name in _LEADING if getattr(filters, name) is not None]
    # A resource alone is no single place of the index by action.
    return next((name for name in given if name != "action" or ":" in str(filters.action)), None)


def _values(filters: AuditFilters, before: Place | None) -> dict[str, Any]:
    action = filters.action
    # No record has the number 0, so none of that instant itself is below.
    below = min(
        [place for place in (before, filters.occurred_to and Place(filters.occurred_to, 0)) if place], default=None
    )
    return {
        "actor": filters.actor,
        "action": action if action is None or ":" in action else None,
        "resource": None if action is None or ":" in action else f"{action}:",
        "subject": filters.subject,
        "outcome": filters.outcome,
        "ticket": filters.ticket,
        "request_id": filters.request_id,
        "since": filters.occurred_from or _EVER,
        "at": below.occurred_at if below else _NEVER,
        "id": below.record_id if below else 0,
        "rows_max": ROWS_MAX,
    }


_EVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)

_COLUMNS = """
       id, occurred_at, actor, action, outcome, subject, before, after, reason, ticket, request_id, address
"""

# Along one index, backwards, ROWS_MAX records at most; what is asked for besides is looked at there. The last row of
# the answer is where it ended, if that was before the end. One bound alone: between two, a planner without statistics
# expects few records, and reads and sorts them all.
_WALK = """
SELECT * FROM audit_log
 WHERE {leading} AND (occurred_at, id) < (:at, :id)
 ORDER BY occurred_at DESC, id DESC LIMIT :rows_max
"""

_ACTOR = "coalesce((SELECT concat('operator:', id) FROM operators WHERE email = lower(:actor)), :actor)"

_PASSES = f"""
       occurred_at >= :since
   AND (CAST(:actor AS text) IS NULL OR actor = {_ACTOR})
   AND (CAST(:action AS text) IS NULL OR action = :action)
   AND (CAST(:resource AS text) IS NULL OR starts_with(action, :resource))
   AND (CAST(:subject AS text) IS NULL OR subject = :subject)
   AND (CAST(:outcome AS text) IS NULL OR outcome = :outcome)
   AND (CAST(:ticket AS text) IS NULL OR ticket = :ticket)
   AND (CAST(:request_id AS text) IS NULL OR request_id = :request_id)
"""


def _list(leading: str | None) -> str:
    asked = _ACTOR if leading == "actor" else f":{leading}"
    walk = _WALK.format(leading="true" if leading is None else f"{leading} = {asked}")
    return f"""
WITH found AS MATERIALIZED (
    SELECT {_COLUMNS} FROM ({walk}) AS walked
     WHERE {_PASSES}
     ORDER BY occurred_at DESC, id DESC LIMIT :limit
)
SELECT {_COLUMNS}, CAST(NULL AS bigint) AS seq, CAST(NULL AS bytea) AS hash, true AS is_found FROM found
 UNION ALL
(SELECT id, occurred_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false
   FROM ({walk}) AS walked
  WHERE (SELECT count(*) FROM found) < :limit
  ORDER BY occurred_at DESC, id DESC OFFSET :rows_max - 1 LIMIT 1)
"""  # noqa: S608 - constants


_LIST = {leading: text(_list(leading)) for leading in (None, *_LEADING)}

_GET = text(f"""
SELECT {_COLUMNS}, audit_chain.seq, audit_chain.hash
  FROM audit_log
  LEFT JOIN audit_chain ON audit_chain.audit_id = audit_log.id
 WHERE id = :record_id
""")  # noqa: S608 - constants

# Each along its own index, and no further than is shown.
_ABOUT = text(
    f"""
SELECT {_COLUMNS}
  FROM audit_log
 WHERE id IN (
"""  # noqa: S608 - constants
    + "\n UNION ALL\n".join(
        f"       (SELECT id FROM audit_log WHERE {column} = :{name} ORDER BY occurred_at DESC, id DESC LIMIT :records)"  # noqa: S608 - constants
        for column, name in (("request_id", "request_id"), ("subject", "approval"), ("subject", "run"))
    )
    + """
       )
 ORDER BY occurred_at, id
"""
)

_NAMES = text("SELECT concat('operator:', id) AS actor, name FROM operators ORDER BY id")

_ACTIONS = text("""
WITH RECURSIVE found AS (
    (SELECT action FROM audit_log ORDER BY action LIMIT 1)
     UNION ALL
    SELECT (SELECT action FROM audit_log WHERE action > found.action ORDER BY action LIMIT 1)
      FROM found WHERE found.action IS NOT NULL
)
SELECT action FROM found WHERE action IS NOT NULL
""")
