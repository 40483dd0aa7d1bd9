"""What a bulk run would do by its last preview, in short: who would get what, sums, and what has changed since it was
asked for.

Kept with the run whenever it is previewed. Its digest is what an approver is shown and gives back: which rows would be
refused, and what each other one would move. Balances are not in it: a run has thousands of wallets, and some of them
always move; what is refused for it, or moves less, shows in the digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.service.books import Receipt
from wallet_app.service.posting import Outcome


class Sum(NamedTuple):
    """What a run is to move of an asset in one direction."""

    asset: str
    scale: int
    direction: str
    rows: int
    amount: int


class Outlook(NamedTuple):
    """What the run would do now. `sums` is without the rows that would be refused.

    `changed` rows would come out otherwise than when it was asked for; `balances` counts those of which only the
    balance would be another one.
    """

    digest: str
    refused: int
    sums: Sequence[Sum]
    changed: int
    balances: int


def outlook_of(kept: dict[str, Any]) -> Outlook:
    """Return the outlook as it is kept."""
    return Outlook(**{**kept, "sums": tuple(Sum(**one) for one in kept["sums"])})


def moved_of(outcome: Outcome | None, wallet_id: int) -> int | None:
    """Return what the wallet would get, below zero for what it would give; None for what would be refused."""
    if not isinstance(outcome, Receipt):
        return None
    # Of the row's transaction alone: a repayment of a debt after it is another one.
    return sum(entry.amount for entry in outcome.transaction.entries if entry.wallet_id == wallet_id)


def keep_outlook(connection: Connection, run_id: int) -> None:
    """Keep what the run's rows say that they would do, as just previewed; the caller has locked the run, or made it."""
    connection.execute(_KEEP, {"run_id": run_id})


def note_asked(connection: Connection, run_id: int) -> None:
    """Keep for each row what it would do when the run is asked for; the caller has locked the run."""
    connection.execute(_NOTE_ASKED, {"run_id": run_id})


_KEEP = text("""
WITH asked AS (
     SELECT bulk_rows.row_no, bulk_rows.direction, bulk_rows.expected_error, bulk_rows.expected_moved,
            asset_types.code, asset_types.scale,
            bulk_rows.expected_moved IS DISTINCT FROM bulk_rows.asked_moved AS is_otherwise,
            bulk_rows.expected_balance IS DISTINCT FROM bulk_rows.asked_balance AS is_other_balance
       FROM bulk_rows
       JOIN wallets ON wallets.id = bulk_rows.wallet_id
       JOIN asset_types ON asset_types.id = wallets.asset_type_id
      WHERE bulk_rows.run_id = :run_id AND bulk_rows.status = 'waiting'
), sums AS (
     SELECT code, scale, direction, count(*) AS rows, sum(abs(expected_moved)) AS amount
       FROM asked
      WHERE expected_moved IS NOT NULL
      GROUP BY code, scale, direction
), counts AS (
     SELECT count(*) FILTER (WHERE expected_error IS NOT NULL) AS refused,
            count(*) FILTER (WHERE is_otherwise) AS changed,
            count(*) FILTER (WHERE is_other_balance AND NOT is_otherwise) AS balances,
            coalesce(string_agg(concat(row_no, ':', coalesce(CAST(expected_moved AS text), 'refused')), ','
                                ORDER BY row_no), '') AS each
       FROM asked
)
UPDATE bulk_runs
   SET outlook = jsonb_build_object(
           'digest', encode(sha256(convert_to(counts.each, 'UTF8')), 'hex'),
           'refused', counts.refused,
           'sums', (SELECT coalesce(jsonb_agg(jsonb_build_object('asset', code, 'scale', scale, 'direction', direction,
                                                                 'rows', rows, 'amount', amount)
                                              ORDER BY code, scale, direction), '[]') FROM sums),
           'changed', CASE WHEN request_id IS NULL THEN 0 ELSE counts.changed END,
           'balances', CASE WHEN request_id IS NULL THEN 0 ELSE counts.balances END),
       checked_at = clock_timestamp()
  FROM counts
 WHERE id = :run_id
""")

_NOTE_ASKED = text("""
UPDATE bulk_rows SET asked_moved = expected_moved, asked_balance = expected_balance
 WHERE run_id = :run_id AND status = 'waiting'
""")
