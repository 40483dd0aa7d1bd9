"""Reads: a wallet's balance as it was at an instant, from its entries alone."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import InstantAheadError, SystemEntriesError
from wallet_app.service.commands import HOLD_SECONDS_MAX
from wallet_app.service.holds import HOLDS_MAX
from wallet_app.service.lots import LOTS_MAX
from wallet_app.service.permits import Permit
from wallet_app.service.queries import Expiring, WalletView, get_wallet
from wallet_app.service.walks import search

_SETTLED_MAX = LOTS_MAX + HOLDS_MAX
"""How many entries settle what is due of a wallet at most."""


def get_wallet_at(wallet_id: int, instant: dt.datetime, *, permit: Permit | None = None) -> WalletView:
    """Return the wallet with the balance that a read would have told at the instant (UTC), which is included.

    Before its first entry that is 0 at version 0, also before there was the wallet. Names and status are today's. What
    had expired and was not booked then is told; what was granted, and what was about to expire, is not. Raises
    WalletNotFoundError, AssetNotAllowedError, SystemEntriesError, and InstantAheadError.
    """
    today = get_wallet(wallet_id, permit=permit)
    if today.user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return _at(today, instant)


@reads
def _at(connection: Connection, today: WalletView, instant: dt.datetime) -> WalletView:
    values = {
        "wallet_id": today.wallet_id,
        "instant": instant,
        "updated_at": today.updated_at,
        "hold_seconds_max": HOLD_SECONDS_MAX,
        "settled_max": _SETTLED_MAX,
    }
    found = connection.execute(_AT, values).one()
    if found.is_ahead:
        raise InstantAheadError
    return today._replace(
        balance=found.balance_after or 0,
        held=int(found.held),
        due=int(found.due),
        owed=int(found.owed),
        bonus=0,
        expiring=Expiring(over=int(found.over), over_back=int(found.over_back)),
        version=found.seq or 0,
        updated_at=found.created_at or today.created_at,
    )


# When the oldest hold can have been placed; nothing for a wallet whose first hold came later, or that has none.
_EARLIER = """
       SELECT created_at - make_interval(secs => :hold_seconds_max) FROM last
        WHERE (SELECT wallet_id = :wallet_id AND holds.seq <= last.seq FROM holds
                WHERE (wallet_id, seq) >= (:wallet_id, 0) ORDER BY wallet_id, seq LIMIT 1)
"""

# What a wallet's command finds due is settled in front of it. So what was held after an entry was due later than that
# entry, and was placed no longer before it than a hold may last.
_AT = text(f"""
WITH RECURSIVE search (instant, low, high) AS (
    {search("(SELECT CAST(:instant AS timestamptz) + interval '1 microsecond')")}
), last AS MATERIALIZED (
    SELECT entry.seq, entry.balance_after, entry.created_at
      FROM search
     CROSS JOIN LATERAL (
           SELECT seq, balance_after, created_at FROM ledger_entries
            WHERE wallet_id = :wallet_id AND seq = search.low OFFSET 0
           ) AS entry
     WHERE search.low = search.high
), earlier (instant, low, high) AS (
    {search(f"({_EARLIER})", name="earlier")}
), held AS (
    SELECT holds.expires_at > :instant AS is_held, holds.seq, holds.changes,
           holds.amount - coalesce((
               SELECT sum(amount) FROM ledger_entries
                WHERE wallet_id = :wallet_id AND seq = ANY (holds.changes) AND seq <= last.seq
               ), 0) AS remaining
      FROM last
      JOIN earlier ON earlier.low = earlier.high
     CROSS JOIN LATERAL (
           SELECT * FROM holds
            WHERE wallet_id = :wallet_id AND seq > earlier.low AND seq <= last.seq
              AND (ended_at IS NULL OR changes[cardinality(changes)] > last.seq) OFFSET 0
           ) AS holds
), gone AS (
    -- What had ended by then and was not booked: the next command booked it first, or nobody has come yet.
    SELECT movements.lot_seq, movements.lot_part
      FROM last
      JOIN ledger_entries AS next ON next.wallet_id = :wallet_id AND next.seq = last.seq + 1
      JOIN lot_movements AS movements
        ON movements.wallet_id = :wallet_id AND movements.seq > last.seq AND movements.seq <= last.seq + :settled_max
       AND movements.created_at = next.created_at AND movements.kind = 'expire'
     UNION
    SELECT lots.seq, lots.part
      FROM last
      JOIN lots ON lots.wallet_id = :wallet_id AND lots.available > 0 AND lots.expires_at <= :instant
), back AS (
    SELECT movements.lot_seq, movements.lot_part,
           CASE movements.kind WHEN 'hold' THEN movements.amount ELSE -movements.amount END AS amount
      FROM last
      JOIN held ON NOT held.is_held
      JOIN lot_movements AS movements
        ON movements.wallet_id = :wallet_id AND movements.seq = ANY (held.seq || held.changes)
       AND movements.seq <= last.seq AND movements.kind IN ('hold', 'release')
)
SELECT CAST(:instant AS timestamptz) > greatest(clock_timestamp(), CAST(:updated_at AS timestamptz)) AS is_ahead,
       last.seq, last.balance_after, last.created_at,
       (SELECT coalesce(sum(remaining), 0) FROM held) AS held,
       (SELECT coalesce(sum(remaining) FILTER (WHERE NOT is_held), 0) FROM held) AS due,
       (SELECT coalesce(sum(CASE WHEN movements.kind IN ('grant', 'release', 'restore') THEN movements.amount
                                 WHEN movements.kind <> 'extend' THEN -movements.amount END), 0)
          FROM gone
          JOIN lots ON lots.wallet_id = :wallet_id AND lots.seq = gone.lot_seq AND lots.part = gone.lot_part
                   AND lots.expires_at <= :instant
          JOIN lot_movements AS movements
            ON movements.wallet_id = :wallet_id AND movements.lot_seq = lots.seq AND movements.lot_part = lots.part
           AND movements.seq <= last.seq) AS over,
       (SELECT coalesce(sum(back.amount), 0)
          FROM back
          JOIN lots ON lots.wallet_id = :wallet_id AND lots.seq = back.lot_seq AND lots.part = back.lot_part
                   AND lots.expires_at <= :instant) AS over_back,
       -- What is owed is repaid from whatever comes in: who has something owes nothing.
       CASE WHEN last.balance_after = 0 THEN (
            SELECT coalesce(sum(CAST(part ->> 3 AS bigint)), 0)
              FROM reversed_entries AS became
             CROSS JOIN LATERAL (
                   SELECT result FROM transactions
                    WHERE reverses = became.transaction_id AND created_at <= :instant OFFSET 0
                   ) AS reversal
             CROSS JOIN LATERAL jsonb_array_elements(reversal.result -> 'parts') AS part
             WHERE became.wallet_id = :wallet_id
               AND CAST(part ->> 0 AS bigint) = became.wallet_id AND CAST(part ->> 1 AS bigint) = became.seq
            ) ELSE 0 END AS owed
  FROM (SELECT) AS one
  LEFT JOIN last ON true
""")  # noqa: S608 - constants
