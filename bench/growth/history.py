"""Makes a ledger large: entries as the service would have written them, in set-based statements.

Rows, digests, hashes and projections are made by SQL from the canonical bytes that `verify` knows, and a full
verification has to find them right. They lie in the order of their time, the wallets mixed, and the indexes grow entry
by entry, because that is how a real ledger lies on the disk. One wallet, the deep one, gets a tenth of all entries.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from bench.database import Database
from wallet_app.service.verification.canonical import DIGEST, ENTRY_HASH

ROUND = dt.timedelta(hours=18)
DEEP_SHARE = 10
STEP_MAX = 100_000
"""How many entries one statement makes at most."""


@dataclass
class History:
    """What was made so far; a copy of the database goes on where its original was."""

    wallet_ids: list[int]
    entries: int = 0
    began: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=100))
    rounds: int = 0

    @property
    def deep_wallet(self) -> int:
        """The wallet that has a tenth of all entries."""
        return self.wallet_ids[0]

    def grow(self, database: Database, entries: int, *, tell: Callable[[str], None]) -> None:
        """Add entries until there are so many."""
        with database.connect(admin=True) as connection:
            _prepare(connection, is_superuser=database.is_superuser())
            while self.entries < entries:
                step = min(STEP_MAX, len(self.wallet_ids), entries - self.entries)
                self._grow_by(connection, step)
                tell(f"{self.entries:,} of {entries:,} entries")
        with database.connect() as connection:
            connection.execute("VACUUM ANALYZE")

    def _grow_by(self, connection: psycopg.Connection[tuple[object, ...]], step: int) -> None:
        deep = max(1, step // DEEP_SHARE)
        self._make(connection, wallets=step - deep, each=1, deep=False)
        self._make(connection, wallets=1, each=deep, deep=True)
        self.entries += step
        self.rounds += 1

    def _make(self, connection: psycopg.Connection[tuple[object, ...]], *, wallets: int, each: int, deep: bool) -> None:
        connection.execute(
            _GROW,
            {
                "wallets": wallets,
                "each": each,
                "deep": deep,
                "deep_wallet": self.deep_wallet,
                "from": self.began + self.rounds * ROUND,
                "span": ROUND,
            },
        )


def _prepare(connection: psycopg.Connection[tuple[object, ...]], *, is_superuser: bool) -> None:
    """Spare this session what only matters for data that cannot be made again."""
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET work_mem = '256MB'")
    connection.execute("SET jit = off")
    if is_superuser:
        # The wallets exist: there is no need to look each of them up again for the foreign keys.
        connection.execute("SET session_replication_role = replica")


# A UUIDv7: 48 bits of milliseconds, the version, the rest at random.
_NEW_ID = """
CAST(encode(set_byte(random.bytes, 6, (get_byte(random.bytes, 6) & 15) | 112), 'hex') AS uuid)
"""

_GROW = f"""
WITH RECURSIVE sides AS (
    SELECT wallets.id, users.name
      FROM wallets
      JOIN users ON users.id = wallets.user_id AND users.user_type = 'SYSTEM'
      JOIN asset_types ON asset_types.id = wallets.asset_type_id AND asset_types.code = 'GOLD'
), constants AS MATERIALIZED (
    SELECT (SELECT id FROM sides WHERE name = 'Treasury') AS treasury,
           (SELECT id FROM sides WHERE name = 'Revenue') AS revenue
), grown AS (
    (SELECT wallet_id, 0 AS step, version AS seq, CAST(NULL AS uuid) AS transaction_id, CAST(NULL AS text) AS kind,
            CAST(0 AS bigint) AS amount, balance AS balance_after, CAST(0 AS bigint) AS contra_wallet_id,
            updated_at AS created_at, chain AS hash, CAST(NULL AS bytea) AS digest
       FROM wallet_balances
      WHERE (wallet_id = %(deep_wallet)s) = %(deep)s
      ORDER BY version, wallet_id
      LIMIT %(wallets)s)
     UNION ALL
    SELECT entries.wallet_id, grown.step + 1, entries.seq, entries.transaction_id, entries.entry_type, entries.amount,
           entries.balance_after, entries.contra_wallet_id, entries.created_at, {ENTRY_HASH}, {DIGEST}
      FROM grown
     CROSS JOIN constants
     CROSS JOIN LATERAL (
           SELECT CAST(%(from)s AS timestamptz)
                + CAST(%(span)s AS interval) * ((grown.step + random()) / %(each)s) AS created_at,
                  -- Ten coins come in, then nine times one goes out: no balance falls below zero.
                  grown.seq %% 10 = 0 AS is_top_up
           OFFSET 0
           ) AS moment
     CROSS JOIN LATERAL (
           SELECT overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(CAST(
                  floor(extract(epoch FROM moment.created_at) * 1000) AS bigint)) FROM 3) FROM 1 FOR 6) AS bytes
                  -- Of this wallet alone: rows of one instant got one id, since it was kept by what it depends on.
            WHERE grown.wallet_id > 0
           OFFSET 0
           ) AS random
     CROSS JOIN LATERAL (
           SELECT grown.wallet_id, grown.seq + 1 AS seq, 'grown-' || grown.seq + 1 AS reference_id,
                  {_NEW_ID} AS transaction_id,
                  CASE WHEN moment.is_top_up THEN 'TOPUP' ELSE 'SPEND' END AS kind,
                  'bench' AS client, 'bench' AS actor, CAST(NULL AS text) AS request_id,
                  moment.created_at AS occurred_at, CAST(NULL AS uuid) AS reverses, CAST(NULL AS bytea) AS details_hash,
                  CAST(NULL AS jsonb) AS request, CAST(NULL AS jsonb) AS result
           OFFSET 0
           ) AS transactions
     CROSS JOIN LATERAL (
           SELECT grown.wallet_id, grown.seq + 1 AS seq, grown.hash AS previous_hash, transactions.transaction_id,
                  transactions.kind AS entry_type, moves.amount, grown.balance_after + moves.amount AS balance_after,
                  CASE WHEN moment.is_top_up THEN constants.treasury ELSE constants.revenue END AS contra_wallet_id,
                  moment.created_at
             FROM (SELECT CAST(CASE WHEN moment.is_top_up THEN 10 ELSE -1 END AS bigint) AS amount) AS moves
           OFFSET 0
           ) AS entries
     WHERE grown.step < %(each)s
), written_transactions AS (
    INSERT INTO public.transactions (
           wallet_id, reference_id, transaction_id, kind, client, actor, seq, digest, occurred_at, created_at)
    SELECT wallet_id, 'grown-' || seq, transaction_id, kind, 'bench', 'bench', seq, digest, created_at, created_at
      FROM grown WHERE step > 0 ORDER BY created_at
), written_entries AS (
    INSERT INTO ledger_entries (
           wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id, created_at, hash)
    SELECT wallet_id, seq, transaction_id, kind, amount, balance_after, contra_wallet_id, created_at, hash
      FROM grown WHERE step > 0 ORDER BY created_at
), written_balances AS (
    UPDATE wallet_balances AS balances
       SET balance = grown.balance_after, version = grown.seq, chain = grown.hash, updated_at = grown.created_at
      FROM grown
     WHERE grown.wallet_id = balances.wallet_id AND grown.step = %(each)s
)
INSERT INTO system_balances AS slots (wallet_id, slot, balance)
SELECT contra_wallet_id, 0, -sum(amount) FROM grown WHERE step > 0 GROUP BY contra_wallet_id
ON CONFLICT (wallet_id, slot) DO UPDATE SET balance = slots.balance + excluded.balance
"""
