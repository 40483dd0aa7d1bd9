"""What the database says was posted, read directly: not by way of the service that is under suspicion."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import make_url

from wallet_app import devdb
from wallet_app.devdb.home import find_known_home
from wallet_app.devdb.roles import read_passwords
from wallet_app.devdb.server import Server

OURS = "sys:"
"""The service's own references, which no client may use, begin so."""


class Posted(NamedTuple):
    """An entry with the reference of its transaction, None where there is no transaction."""

    reference: str | None
    wallet_id: int
    transaction_id: str
    seq: int
    amount: int
    balance_after: int


class Ledger:
    """The clients' entries as far as they have been read."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._versions: dict[int, int] = {}
        self.posted: dict[str, Posted] = {}
        self.odd: list[Posted] = []
        """Entries of a reference that has one already, and entries without a transaction."""

    def read_new(self) -> list[Posted]:
        """Read and return the entries that have come since the last time."""
        with connect(self._data_dir) as connection:
            rows = connection.execute(_ENTRIES, [list(self._versions), list(self._versions.values())]).fetchall()
        found = [Posted(*row) for row in rows]
        for one in found:
            self._versions[one.wallet_id] = max(one.seq, self._versions.get(one.wallet_id, 0))
        found = [one for one in found if not (one.reference or "").startswith(OURS)]
        for one in found:
            if one.reference is None or one.reference in self.posted:
                self.odd.append(one)
            else:
                self.posted[one.reference] = one
        return found


def connect(data_dir: Path) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection as the tables' owner."""
    found = devdb.running(data_dir)
    if found is None:
        raise RuntimeError(f"no database runs for {data_dir}")
    url = make_url(found.owner_url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def connect_as_superuser(data_dir: Path) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection that may change the server's settings."""
    return Server(find_known_home(data_dir), Path(), None, read_passwords(data_dir)).connect("wallet")


def user_wallets(data_dir: Path) -> list[int]:
    """Return the wallets that commands may name."""
    with connect(data_dir) as connection:
        return [row[0] for row in connection.execute("SELECT wallet_id FROM wallet_balances ORDER BY wallet_id")]


def faults(data_dir: Path) -> Iterable[str]:
    """Yield what is wrong in itself: gaps, entries that do not add up, a balance that is not the last entry's, sums."""
    with connect(data_dir) as connection:
        for wallet_id, sentence in connection.execute(_GAPS):
            yield f"wallet {wallet_id} {sentence}"
        for code, total in unbalanced_assets(connection):
            yield f"all {code} together make {total}"


def unbalanced_assets(connection: psycopg.Connection[tuple[Any, ...]]) -> list[tuple[str, int]]:
    """Return the assets whose wallets, the SYSTEM's with them, do not sum to zero, each with its sum."""
    return [(code, int(total)) for code, total in connection.execute(_SUMS) if total]


_ENTRIES = """
SELECT transactions.reference_id, entries.wallet_id, entries.transaction_id::text, entries.seq, entries.amount,
       entries.balance_after
  FROM wallets
  LEFT JOIN unnest(%s::bigint[], %s::bigint[]) AS known (wallet_id, seq) ON known.wallet_id = wallets.id
  JOIN ledger_entries AS entries ON entries.wallet_id = wallets.id AND entries.seq > coalesce(known.seq, 0)
  LEFT JOIN transactions
    ON transactions.transaction_id = entries.transaction_id AND transactions.wallet_id = entries.wallet_id
 ORDER BY entries.wallet_id, entries.seq
"""

_GAPS = """
WITH told AS (
    SELECT wallet_id, seq, amount, balance_after,
           lag(seq, 1, 0::bigint) OVER of_wallet AS seq_before,
           lag(balance_after, 1, 0::bigint) OVER of_wallet AS balance_before
      FROM ledger_entries
    WINDOW of_wallet AS (PARTITION BY wallet_id ORDER BY seq)
)
SELECT wallet_id, 'has a gap before entry ' || seq FROM told WHERE seq <> seq_before + 1
 UNION ALL
SELECT wallet_id, 'does not add up at entry ' || seq FROM told WHERE balance_after <> balance_before + amount
 UNION ALL
SELECT balances.wallet_id, 'has balance ' || balance || ' and version ' || version || ', unlike its last entry'
  FROM wallet_balances AS balances
  LEFT JOIN LATERAL (
       SELECT seq, balance_after FROM ledger_entries
        WHERE wallet_id = balances.wallet_id ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 WHERE (balance, version) IS DISTINCT FROM (coalesce(balance_after, 0), coalesce(seq, 0))
"""

_SUMS = """
SELECT asset_types.code, sum(balances.balance)
  FROM (SELECT wallet_id, balance + held AS balance FROM wallet_balances
         UNION ALL
        SELECT wallet_id, balance FROM system_balances) AS balances
  JOIN wallets ON wallets.id = balances.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 GROUP BY asset_types.code
"""
