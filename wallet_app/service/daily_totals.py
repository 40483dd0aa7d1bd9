"""The sums of each day, added up by the worker from the settled transactions: each entry once, and no posting waits.

A day is one of UTC. What has not settled yet is for the reader to add: in one snapshot it is all that is committed with
an id above the position, so that both together are exact at any instant.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable

from sqlalchemy import Connection, text

from wallet_app.db import take_time, unit_of_work
from wallet_app.service import locks, settled
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION
from wallet_app.service.settled import Consumer

NAME = "daily_totals"

MOVERS_DAYS = (1, 7)
"""The ranges of days, up to today, for which there are top movers."""

MOVERS_MAX = 5
"""How many of those that gained most are kept for each asset and range, and of those that lost most."""

_DAYS_KEPT = max(MOVERS_DAYS) + 1
"""For so many days before the position it is known which wallets moved."""


def add_up(should_stop: Callable[[], bool]) -> int:
    """Add what has settled to its days' totals; return how many transactions that were. Safe at any number of workers.

    The first time it adds up the whole ledger, a page at a time.
    """
    return settled.hand_out(Consumer(NAME, _take, _begin_again), should_stop)


def rebuild_totals() -> None:
    """Have the workers add up everything anew. Until that is done, readers are told how late the totals are."""
    settled.begin_again()


def find_top_movers() -> int:
    """Find the wallets that gained or lost most; return how many places were given. One worker at once does it."""
    with unit_of_work() as connection:
        take_time(connection, settled.STATEMENT_SECONDS_MAX)
        if not locks.try_lock_top_movers(connection):
            return 0
        connection.execute(text("DELETE FROM top_movers"))
        return connection.execute(_FIND_MOVERS, {"ranges": list(MOVERS_DAYS), "places": MOVERS_MAX}).rowcount


def _take(connection: Connection, after: uuid.UUID, until: uuid.UUID) -> None:
    connection.execute(_ADD, {"after": after, "until": until})
    oldest = settled.time_of(until).date() - dt.timedelta(days=_DAYS_KEPT)
    connection.execute(text("DELETE FROM wallet_days WHERE day < :oldest"), {"oldest": oldest})


def _begin_again(connection: Connection) -> None:
    connection.execute(text("DELETE FROM daily_totals"))
    connection.execute(text("DELETE FROM wallet_days"))


ENTRIES = f"""
SELECT CAST(entries.created_at AT TIME ZONE 'UTC' AS date) AS day, contra.asset_type_id, entries.entry_type,
       entries.contra_wallet_id, entries.wallet_id, entries.amount
  FROM (SELECT * FROM transactions WHERE {{range}} ORDER BY transaction_id {{limit}} OFFSET 0) AS transactions
  {ENTRIES_OF_TRANSACTION}
  JOIN wallets AS contra ON contra.id = entries.contra_wallet_id
"""  # noqa: S608 - constants
"""The entries of a range of transactions, each with its day and its asset, which is that of the other side."""

PAGE = ENTRIES.format(range="transaction_id > :after AND transaction_id <= :until", limit="")

SUMS = """
SELECT day, asset_type_id, entry_type, contra_wallet_id, count(*) AS entries,
       coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS credits,
       coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS debits
  FROM entries
 GROUP BY day, asset_type_id, entry_type, contra_wallet_id
"""

# A row of wallet_days is new if nobody had deleted or locked it: xmax tells.
_ADD = text(f"""
WITH entries AS MATERIALIZED ({PAGE}), of_wallets AS (
    INSERT INTO wallet_days (day, wallet_id, entry_type, contra_wallet_id, net)
    SELECT day, wallet_id, entry_type, contra_wallet_id, sum(amount)
      FROM entries
     GROUP BY day, wallet_id, entry_type, contra_wallet_id
     ORDER BY day, wallet_id
    ON CONFLICT (day, wallet_id, entry_type, contra_wallet_id) DO UPDATE SET net = wallet_days.net + excluded.net
    RETURNING day, entry_type, contra_wallet_id, xmax = 0 AS is_new
), wallets_of AS (
    SELECT day, entry_type, contra_wallet_id, count(*) FILTER (WHERE is_new) AS wallets
      FROM of_wallets
     GROUP BY day, entry_type, contra_wallet_id
)
INSERT INTO daily_totals (day, asset_type_id, entry_type, contra_wallet_id, entries, wallets, credits, debits)
SELECT day, asset_type_id, entry_type, contra_wallet_id, entries, wallets, credits, debits
  FROM ({SUMS}) AS sums
  JOIN wallets_of USING (day, entry_type, contra_wallet_id)
ON CONFLICT (day, asset_type_id, entry_type, contra_wallet_id) DO UPDATE
   SET entries = daily_totals.entries + excluded.entries, wallets = daily_totals.wallets + excluded.wallets,
       credits = daily_totals.credits + excluded.credits, debits = daily_totals.debits + excluded.debits
""")  # noqa: S608 - constants


# What is put into a hold is still the wallet's, so it is no movement; nor is what comes back from there.
_FIND_MOVERS = text("""
WITH nets AS (
    SELECT ranges.days, wallets.asset_type_id, moved.wallet_id, sum(moved.net) AS net
      FROM unnest(CAST(:ranges AS smallint[])) AS ranges (days)
      JOIN wallet_days AS moved ON moved.day > CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) - ranges.days
      JOIN wallets ON wallets.id = moved.wallet_id
     WHERE moved.contra_wallet_id <> ALL (ARRAY(
           SELECT held.id FROM wallets AS held JOIN users ON users.id = held.user_id
            WHERE users.user_type = 'SYSTEM' AND users.name = 'Holds'))
     GROUP BY ranges.days, wallets.asset_type_id, moved.wallet_id
    HAVING sum(moved.net) <> 0
), places AS (
    SELECT *, row_number() OVER (PARTITION BY days, asset_type_id, net > 0 ORDER BY abs(net) DESC, wallet_id) AS place
      FROM nets
)
INSERT INTO top_movers (days, asset_type_id, is_gain, place, wallet_id, net)
SELECT days, asset_type_id, net > 0, place, wallet_id, net FROM places WHERE place <= :places
""")
