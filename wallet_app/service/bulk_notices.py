"""What people should be told of a bulk run before its rows are posted; read in one statement."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service.weighing import SIMILAR_DAYS, SIMILAR_MAX


class RecentRow(NamedTuple):
    """A row that waits, and the very same that was done to its wallet lately: amount, direction and reason."""

    row_no: int
    user_id: int
    user_name: str
    asset_code: str
    asset_scale: int
    signed: int
    reason_code: str
    operator_name: str
    posted_at: dt.datetime
    transaction_id: uuid.UUID


class RecentRows(NamedTuple):
    """The first of such rows, and how many there are."""

    first: Sequence[RecentRow]
    in_all: int


@reads
def recent_rows(connection: Connection, run_id: int) -> RecentRows:
    """Return the rows of the run whose wallets had the very same done to them within SIMILAR_DAYS."""
    values = {"run_id": run_id, "days": SIMILAR_DAYS, "rows": SIMILAR_MAX}
    found = connection.execute(_RECENT, values).all()
    return RecentRows([RecentRow._make(row[:-1]) for row in found], found[0].in_all if found else 0)


# What an operator posted has one entry, which tells by its sign what no other table says of it. Who it is about is
# looked up for the rows that are told, and not for all.
_RECENT = text("""
WITH recent AS MATERIALIZED (
    SELECT asked.row_no, asked.wallet_id, asked.signed, asked.reason_code, same.operator_id, same.posted_at,
           same.transaction_id
      FROM (SELECT *, CASE direction WHEN 'credit' THEN amount ELSE -amount END AS signed
              FROM bulk_rows WHERE run_id = :run_id AND status = 'waiting' AND reverses IS NULL) AS asked
     CROSS JOIN LATERAL (
           SELECT posted.operator_id, posted.posted_at, posted.transaction_id
             FROM operator_postings AS posted
             JOIN transactions
               ON transactions.wallet_id = posted.anchor_id AND transactions.reference_id = posted.reference_id
             JOIN ledger_entries AS entries ON entries.wallet_id = posted.wallet_id AND entries.seq = transactions.seq
            WHERE posted.wallet_id = asked.wallet_id
              AND posted.posted_at > clock_timestamp() - make_interval(days => :days)
              AND posted.kind = 'adjustment' AND posted.reason_code = asked.reason_code
              AND posted.amount = asked.amount AND entries.amount = asked.signed
            ORDER BY posted.posted_at DESC
            LIMIT 1
           ) AS same
)
SELECT told.row_no, users.id, users.name, asset_types.code, asset_types.scale, told.signed, told.reason_code,
       operators.name, told.posted_at, told.transaction_id, told.in_all
  FROM (SELECT *, count(*) OVER () AS in_all FROM recent ORDER BY row_no LIMIT :rows) AS told
  JOIN operators ON operators.id = told.operator_id
  JOIN wallets ON wallets.id = told.wallet_id
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 ORDER BY told.row_no
""")
