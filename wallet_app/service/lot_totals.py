"""What of each day's movements was bonus, and what of lots there is by their ends: added up by the worker as days are.

By a consumer of its own, so that the totals of before there were lots stay as they are. What users have of lots is what
was granted, less what was spent, expired or taken back: to hold a part of it, or to give it back, changes nothing.

An entry that brings credit may take some of it again, for a grant that was taken back out of other credit, and give
that other credit back (see `in_place`). Where that happens in a reversal, its line has it. In what comes back from a
hold it is told from what was held: it counts as a reversal, against the SYSTEM wallet that the grant was against.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import Connection, text

from wallet_app.service import settled
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.settled import Consumer
from wallet_app.service.totals_at import SETTLED_PART, Kept

NAME = "lot_totals"


def add_up(should_stop: Callable[[], bool]) -> int:
    """Add what has settled to its days' totals; return how many transactions that were. Safe at any number of workers.

    The first time it goes through the whole ledger, a page at a time.
    """
    return settled.hand_out(Consumer(NAME, _take, _begin_again), should_stop)


def _take(connection: Connection, after: uuid.UUID, until: uuid.UUID) -> None:
    connection.execute(_ADD, {"after": after, "until": until})


def _begin_again(connection: Connection) -> None:
    connection.execute(text("DELETE FROM bonus_totals"))
    connection.execute(text("DELETE FROM lot_ends"))


_MOVEMENTS = f"""
SELECT moved.*, moved.kind IN ('grant', 'restore', 'release') AS is_credit, lots.kind AS lot_kind,
       wallets.asset_type_id,
       coalesce(granted.entry_type, entries.entry_type) AS entry_type,
       coalesce(granted.contra_wallet_id, entries.contra_wallet_id) AS contra_wallet_id
  FROM (SELECT * FROM transactions WHERE {{range}} ORDER BY transaction_id OFFSET 0) AS transactions
  {ENTRIES_OF_TRANSACTION}
 CROSS JOIN LATERAL (
       SELECT * FROM lot_movements
        WHERE wallet_id = entries.wallet_id AND seq = entries.seq AND transaction_id = transactions.transaction_id
        UNION ALL
       -- An extension is of no entry.
       SELECT * FROM lot_movements
        WHERE transactions.kind = 'EXTEND' AND kind = 'extend' AND wallet_id = transactions.wallet_id
          AND transaction_id = transactions.transaction_id OFFSET 0
       ) AS moved
  JOIN lots ON lots.wallet_id = moved.wallet_id AND lots.seq = moved.lot_seq AND lots.part = moved.lot_part
  JOIN wallets ON wallets.id = moved.wallet_id
  LEFT JOIN LATERAL (
       -- What is no release of the entry that releases: it begins with the grant that was taken back.
       SELECT 'REVERSAL' AS entry_type, entry.contra_wallet_id
         FROM lot_movements AS revoked
         JOIN ledger_entries AS entry ON entry.wallet_id = revoked.wallet_id AND entry.seq = revoked.lot_seq
        WHERE entries.entry_type = 'RELEASE' AND moved.kind IN ('revoke', 'restore')
          AND revoked.wallet_id = moved.wallet_id AND revoked.seq = moved.seq AND revoked.kind = 'revoke'
        ORDER BY revoked.place LIMIT 1
       ) AS granted ON true
"""  # noqa: S608 - constants

# When the lot ended at the time of its movement: the last day (UTC) on which it could be used. Ends only become later,
# and an extension after an entry has its seq. By the grant's own primary key, and an index of extensions alone, because
# a lot may have any number of other movements.
_END = """
CASE WHEN moved.lot_seq = 0 THEN CAST('9999-01-01' AS date)
     ELSE CAST((greatest(
          (SELECT max(granted.expires_at) FROM lot_movements AS granted
            WHERE granted.wallet_id = moved.wallet_id AND granted.seq = moved.lot_seq
              AND granted.lot_seq = moved.lot_seq AND granted.lot_part = moved.lot_part AND granted.kind = 'grant'),
          (SELECT max(extended.expires_at) FROM lot_movements AS extended
            WHERE extended.wallet_id = moved.wallet_id AND extended.lot_seq = moved.lot_seq
              AND extended.lot_part = moved.lot_part AND extended.kind = 'extend'
              AND (extended.seq < moved.seq
                   OR (extended.seq = moved.seq AND moved.kind = 'extend' AND extended.expires_at < moved.expires_at)))
          ) - interval '1 microsecond') AT TIME ZONE 'UTC' AS date) END
"""

# Of the movements `moved`. An extension takes what is left from the end that was, and adds it to the end that is.
LEFT = f"""
SELECT CAST(moved.created_at AT TIME ZONE 'UTC' AS date) AS day, moved.created_at, moved.asset_type_id, moved.lot_kind,
       {_END} AS ends_on,
       CASE WHEN moved.kind IN ('grant', 'restore') THEN moved.amount
            WHEN moved.kind IN ('consume', 'expire', 'revoke', 'extend') THEN -moved.amount ELSE 0 END AS net
  FROM moved
 UNION ALL
SELECT CAST(moved.created_at AT TIME ZONE 'UTC' AS date), moved.created_at, moved.asset_type_id, moved.lot_kind,
       CAST((moved.expires_at - interval '1 microsecond') AT TIME ZONE 'UTC' AS date), moved.amount
  FROM moved WHERE moved.kind = 'extend'
"""  # noqa: S608 - constants

PAGE = _MOVEMENTS.format(range="transaction_id > :after AND transaction_id <= :until")
"""The movements of lots of a range of transactions, each with its entry, the lot's kind and the asset."""

_ADD = text(f"""
WITH moved AS MATERIALIZED ({PAGE}), left_of AS (
    {LEFT}
), ends AS (
    INSERT INTO lot_ends (asset_type_id, kind, ends_on, day, entries, credits, debits)
    SELECT asset_type_id, lot_kind, ends_on, day, count(*), coalesce(sum(net) FILTER (WHERE net > 0), 0),
           coalesce(-sum(net) FILTER (WHERE net < 0), 0)
      FROM left_of
     WHERE net <> 0
     GROUP BY asset_type_id, lot_kind, ends_on, day
     ORDER BY 1, 2, 3, 4
    ON CONFLICT (asset_type_id, kind, ends_on, day) DO UPDATE
       SET entries = lot_ends.entries + excluded.entries, credits = lot_ends.credits + excluded.credits,
           debits = lot_ends.debits + excluded.debits
)
INSERT INTO bonus_totals (contra_wallet_id, day, entry_type, entries, credits, debits)
SELECT contra_wallet_id, CAST(created_at AT TIME ZONE 'UTC' AS date), entry_type, count(*),
       coalesce(sum(amount) FILTER (WHERE is_credit), 0), coalesce(sum(amount) FILTER (WHERE NOT is_credit), 0)
  FROM moved
 WHERE lot_kind = 'bonus' AND kind <> 'extend'
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
ON CONFLICT (contra_wallet_id, day, entry_type) DO UPDATE
   SET entries = bonus_totals.entries + excluded.entries, credits = bonus_totals.credits + excluded.credits,
       debits = bonus_totals.debits + excluded.debits
""")  # noqa: S608 - constants

_REACHED = "width_bucket(moved.created_at, CAST(:instants AS timestamptz[]))"
_WITHIN = "moved.created_at >= :since AND moved.created_at < :until"

_BONUS = f"""
WITH moved AS MATERIALIZED ({_MOVEMENTS})
SELECT {{period}} AS period, moved.entry_type, moved.contra_wallet_id, count(*) AS entries,
       coalesce(sum(moved.amount) FILTER (WHERE moved.is_credit), 0) AS credits,
       coalesce(sum(moved.amount) FILTER (WHERE NOT moved.is_credit), 0) AS debits
  FROM moved
 WHERE moved.contra_wallet_id = ANY (CAST(:wallet_ids AS bigint[])) AND moved.lot_kind = 'bonus'
   AND moved.kind <> 'extend' AND {{conditions}}
 GROUP BY period, moved.entry_type, moved.contra_wallet_id
"""  # noqa: S608 - constants

BONUS = Kept(
    consumer=NAME,
    days=text("""
SELECT width_bucket(totals.day, CAST(:days AS date[])) AS period, totals.entry_type, totals.contra_wallet_id,
       CAST(sum(totals.entries) AS bigint) AS entries, sum(totals.credits) AS credits, sum(totals.debits) AS debits
  FROM unnest(CAST(:wallet_ids AS bigint[])) AS asked (wallet_id)
  JOIN bonus_totals AS totals ON totals.contra_wallet_id = asked.wallet_id
 GROUP BY period, totals.entry_type, totals.contra_wallet_id
"""),
    tail=text(_BONUS.format(period=_REACHED, range="transaction_id > :position", conditions="true")),
    part=text(_BONUS.format(period="0", range=SETTLED_PART, conditions=_WITHIN)),
)
"""What of the entries against the SYSTEM wallets `wallet_ids` was bonus, by type and wallet, as of all of them."""

_ENDS = f"""
WITH moved AS MATERIALIZED ({_MOVEMENTS}), left_of AS ({LEFT})
SELECT {{period}} AS period, moved.lot_kind, moved.ends_on, count(*) AS entries,
       coalesce(sum(moved.net) FILTER (WHERE moved.net > 0), 0) AS credits,
       coalesce(-sum(moved.net) FILTER (WHERE moved.net < 0), 0) AS debits
  FROM left_of AS moved
 WHERE moved.asset_type_id = :asset_type_id AND (moved.ends_on >= :ends_from OR moved.lot_kind = 'paid')
   AND moved.net <> 0 AND {{conditions}}
 GROUP BY period, moved.lot_kind, moved.ends_on
"""  # noqa: S608 - constants

ENDS = Kept(
    consumer=NAME,
    days=text("""
SELECT width_bucket(day, CAST(:days AS date[])) AS period, kind, ends_on, CAST(sum(entries) AS bigint) AS entries,
       sum(credits) AS credits, sum(debits) AS debits
  FROM lot_ends
 WHERE asset_type_id = :asset_type_id AND (kind = 'paid' OR (kind = 'bonus' AND ends_on >= :ends_from))
 GROUP BY period, kind, ends_on
"""),
    tail=text(_ENDS.format(period=_REACHED, range="transaction_id > :position", conditions="true")),
    part=text(_ENDS.format(period="0", range=SETTLED_PART, conditions=_WITHIN)),
)
"""What is left of lots of the asset `asset_type_id` by kind and last day (UTC): of bonus from `ends_from` on.

What ended before is a long history of which nothing is left; paid credit that ends is rare.
"""
