"""What each full block of a wallet's entries makes, by type: made by the worker of what has settled; no posting pays.

Entries never change, so the sums of a block are right for ever. A read adds up the blocks that there are and looks at
all other entries: it is right whatever the worker has done, and quick once it has.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import Connection, text

from wallet_app.service import settled
from wallet_app.service.settled import Consumer

NAME = "wallet_sums"

BLOCK = 5_000
"""How many entries a block has: block 0 those with seq 1 to BLOCK. What is kept was made with this number."""

_BLOCKS_MAX = 500
"""How many blocks are summed up at once. Others that the same page of transactions has filled are left to the reads."""


def sum_up(should_stop: Callable[[], bool]) -> int:
    """Sum up the blocks that what has settled has filled; return how many transactions that were.

    Safe at any number of workers. The first time it goes through the whole ledger.
    """
    return settled.hand_out(Consumer(NAME, _take, _begin_again), should_stop)


def _take(connection: Connection, after: uuid.UUID, until: uuid.UUID) -> None:
    connection.execute(_ADD, {"after": after, "until": until, "blocks_max": _BLOCKS_MAX})


def _begin_again(connection: Connection) -> None:
    connection.execute(text("DELETE FROM wallet_sums"))


SUMS = f"""
SELECT entry_type, amount > 0 AS is_credit, count(*) AS entries, sum(amount) AS amount
  FROM ledger_entries
 WHERE wallet_id = blocks.wallet_id AND seq > blocks.block * {BLOCK} AND seq <= (blocks.block + 1) * {BLOCK}
 GROUP BY entry_type, amount > 0
"""  # noqa: S608 - constants
"""What the ledger makes of a row of `blocks`, with wallet_id and block."""

# Whoever wrote the last entry of a block comes after all others of it: along a wallet they are committed in order.
_ADD = text(f"""
WITH blocks AS MATERIALIZED (
    SELECT DISTINCT keys.wallet_id, keys.seq / {BLOCK} - 1 AS block
      FROM transactions
     CROSS JOIN LATERAL (
           SELECT transactions.wallet_id, transactions.seq WHERE entry_keys IS NULL
            UNION ALL
           SELECT entry_keys[place], entry_keys[place + 1]
             FROM generate_series(1, cardinality(entry_keys), 2) AS place
           ) AS keys
     WHERE transaction_id > :after AND transaction_id <= :until AND keys.seq % {BLOCK} = 0
     ORDER BY 1, 2
     LIMIT :blocks_max
)
INSERT INTO wallet_sums (wallet_id, block, entry_type, is_credit, entries, amount)
SELECT blocks.wallet_id, blocks.block, sums.entry_type, sums.is_credit, sums.entries, sums.amount
  FROM blocks CROSS JOIN LATERAL ({SUMS} OFFSET 0) AS sums
    ON CONFLICT DO NOTHING
""")  # noqa: S608 - constants
