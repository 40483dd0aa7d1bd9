"""The wallets that are measured: of one asset, with more in them than a run can spend."""

from __future__ import annotations

import random

from bench.database import Database, application
from wallet_app import service

ORIGIN = service.Origin(client="bench", actor="bench")
BALANCE = 1_000_000_000_000


def make_wallets(database: Database, count: int) -> list[int]:
    """Make users with a wallet each, empty, in few statements, and return the wallets' ids."""
    with database.connect() as connection:
        wallet_ids = sorted(row[0] for row in connection.execute(_MAKE, {"count": count}))
        connection.execute(_EMPTY, {"wallet_ids": wallet_ids, "genesis": bytes(32)})
        connection.execute("ANALYZE users, wallets, wallet_balances")
    return wallet_ids


def fill(database: Database, wallet_ids: list[int]) -> None:
    """Top every wallet up through the service."""
    with application(database):
        for first in range(0, len(wallet_ids), service.BATCH_MAX):
            commands = [
                service.TopUp(wallet_id=wallet_id, reference="bench-fill", origin=ORIGIN, amount=BALANCE)
                for wallet_id in wallet_ids[first : first + service.BATCH_MAX]
            ]
            for outcome in service.execute_batch(commands):
                if isinstance(outcome, Exception):
                    raise outcome


def shuffled(wallet_ids: list[int]) -> list[int]:
    """Return the wallets in a random order that is the same in every run: which ones are popular is not by id."""
    return random.Random(1).sample(wallet_ids, len(wallet_ids))


_MAKE = """
WITH made AS (
    INSERT INTO users (name, user_type, external_id)
    SELECT 'Bench ' || number, 'USER', 'bench:' || number FROM generate_series(1, %(count)s) AS number
    RETURNING id
)
INSERT INTO wallets (user_id, asset_type_id, created_at)
SELECT made.id, asset_types.id, now() - interval '1 year' FROM made CROSS JOIN asset_types
 WHERE asset_types.code = 'GOLD'
RETURNING id
"""

_EMPTY = """
INSERT INTO wallet_balances (wallet_id, balance, held, version, chain, updated_at)
SELECT id, 0, 0, 0, %(genesis)s, created_at FROM wallets WHERE id = ANY (%(wallet_ids)s)
"""
