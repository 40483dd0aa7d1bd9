"""The invariants of the audit log, each a query over one page of its chain that must return nothing."""

from __future__ import annotations

from sqlalchemy import Connection, text

from wallet_app.service.verification.canonical import AUDIT_HASH
from wallet_app.service.verification.report import AuditMark
from wallet_app.service.verification.wallets import Invariant

_UNIT = "audit records"

_LINKS = """
links AS (
    SELECT audit_chain.*,
           coalesce(lag(seq) OVER along_seq, 0) AS previous_seq,
           coalesce(lag(hash) OVER along_seq, :genesis) AS previous_hash
      FROM audit_chain
     WHERE seq >= :after AND seq <= :until
    WINDOW along_seq AS (ORDER BY seq)
)
"""
"""The page's links, with the one in front of the first, each with what the one before it said."""

_GAPLESS = f"""
WITH {_LINKS}
SELECT NULL AS wallet_id, NULL AS seq, format('link %s of the audit chain follows %s', seq, previous_seq) AS what
  FROM links
 WHERE seq > :after AND seq <> previous_seq + 1
 UNION ALL
SELECT NULL, NULL, format('link %s of the audit chain is gone', :after)
 WHERE :after > 0 AND NOT EXISTS (SELECT FROM audit_chain WHERE seq = :after)
"""

_CHAIN = f"""
WITH {_LINKS}
SELECT NULL AS wallet_id, NULL AS seq,
       CASE WHEN record.id IS NULL
            THEN format('audit record %s (link %s) is gone', links.audit_id, links.seq)
            ELSE format('audit record %s (link %s) is not what was chained', links.audit_id, links.seq) END AS what
  FROM links
  LEFT JOIN audit_log AS record ON record.id = links.audit_id
 WHERE links.seq > :after
   AND (record.id IS NULL OR links.hash IS DISTINCT FROM {AUDIT_HASH})
"""

# A record that comes later than its place says: its transaction, or its id, lies before what an earlier extension of
# the chain had seen finished. Transactions are counted anew in a database that was restored from a dump: there the
# ceiling falls, and nothing is known of what came before.
_ORDER = """
WITH extensions AS (
    SELECT ceiling, max(horizon) AS horizon, min(seq) AS first_seq, max(audit_id) AS last_id
      FROM audit_chain
     WHERE seq <= :until
     GROUP BY ceiling
), seen AS (
    SELECT ceiling, first_seq,
           lag(horizon) OVER in_order AS horizon_before,
           lag(ceiling) OVER in_order AS ceiling_before,
           max(last_id) OVER (ORDER BY first_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_id_before
      FROM extensions
    WINDOW in_order AS (ORDER BY first_seq)
)
SELECT NULL AS wallet_id, NULL AS seq,
       format('audit record %s (link %s) was put among older ones', record.id, link.seq) AS what
  FROM audit_chain AS link
  JOIN seen ON seen.ceiling = link.ceiling
  JOIN audit_log AS record ON record.id = link.audit_id
 CROSS JOIN LATERAL (SELECT CAST(CAST(record.xid AS text) AS bigint) AS xid) AS of_record
 WHERE link.seq > :after AND link.seq <= :until
   AND seen.ceiling > seen.ceiling_before
   AND (of_record.xid < seen.horizon_before
        OR (of_record.xid >= seen.ceiling_before AND of_record.xid < seen.ceiling
            AND record.id < seen.last_id_before))
"""

AUDIT_INVARIANTS = (
    Invariant("audit_gapless", "the audit chain counts 1, 2, 3, ... without a gap", _GAPLESS, _UNIT),
    Invariant("audit_chain", "each audit hash covers its record and the hash before", _CHAIN, _UNIT),
    Invariant("audit_order", "no audit record was put among older ones", _ORDER, _UNIT),
)

AUDIT_MARKS = Invariant(
    "audit_marks",
    "what was verified of the audit before is still there",
    """
SELECT NULL AS wallet_id, NULL AS seq,
       format('link %s of the audit chain is not the one that was verified before', :mark_seq) AS what
 WHERE :mark_seq > 0
   AND NOT EXISTS (SELECT FROM audit_chain WHERE seq = :mark_seq AND hash = :mark_hash)
""",
    "audit marks",
)


def last_seq(connection: Connection) -> int:
    """Return the number of the chain's last link; 0 for an empty chain."""
    last: int | None = connection.scalar(text("SELECT max(seq) FROM audit_chain"))
    return last or 0


def page_end(connection: Connection, *, after: int, last: int, rows_max: int) -> int:
    """Return the link that ends the page of `rows_max` links above `after`: counted, as a gap may be of any width."""
    parameters = {"after": after, "last": last, "rows_max": rows_max}
    until: int = connection.scalar(_PAGE_END, parameters) or last
    return until


def count(connection: Connection, *, after: int, until: int) -> int:
    """Return how many links a page has."""
    found: int = connection.execute(_COUNT, {"after": after, "until": until}).scalar_one()
    return found


def mark_at(connection: Connection, seq: int) -> AuditMark:
    """Return the mark for a chain that was found right up to `seq`."""
    return AuditMark(seq, connection.scalar(text("SELECT hash FROM audit_chain WHERE seq = :seq"), {"seq": seq}))


_PAGE_END = text("""
SELECT seq FROM audit_chain WHERE seq > :after AND seq <= :last ORDER BY seq OFFSET :rows_max - 1 LIMIT 1
""")

_COUNT = text("SELECT count(*) FROM audit_chain WHERE seq > :after AND seq <= :until")
