"""How a bulk run follows what is decided on the request that it became, in the same unit of work."""

from __future__ import annotations

from sqlalchemy import Connection, text


def follow(connection: Connection, request_id: int, status: str) -> None:
    """Let the run stand as its request does now; does nothing for another request. The caller has locked the request.

    What is approved runs: the worker finds it by that.
    """
    connection.execute(_FOLLOW, {"request_id": request_id, "status": status})


_FOLLOW = text("""
UPDATE bulk_runs
   SET state = CASE :status WHEN 'approved' THEN 'running' ELSE :status END,
       started_at = CASE :status WHEN 'approved' THEN clock_timestamp() END,
       ended_at = CASE WHEN :status <> 'approved' THEN clock_timestamp() END
 WHERE request_id = :request_id AND state = 'pending_approval'
""")
