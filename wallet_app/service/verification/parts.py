"""How a verification is cut: parts of so many entries, each read in one short snapshot.

A part is a range of wallets, each from where it was verified before; a wallet with more new entries than a part may
have is cut by seq.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import snapshot, take_time
from wallet_app.service.chain import GENESIS

SEQ_MAX = 2**63 - 1
BUDGET_MIN = 500
BUDGET_FIRST = 5_000
BUDGET_MAX = 50_000
"""How many rows one snapshot may read."""
_SECONDS_PER_PART = 0.4


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of a wallet up to `seq`: its entries after that, up to `until`, are to be looked at.

    `created_at` is None when there is nothing before.
    """

    wallet_id: int
    seq: int
    hash: bytes
    balance: int
    held: int
    created_at: dt.datetime | None
    until: int = SEQ_MAX
    is_resumed: bool = False


class Budget:
    """How many rows the next snapshot may read, from how long the last one took.

    A slow machine gets small parts, so that no statement nears its timeout and no snapshot keeps dead rows for long.
    """

    def __init__(self) -> None:
        self.rows = BUDGET_FIRST

    @contextmanager
    def spend(self) -> Iterator[Connection]:
        """Yield one snapshot, and fit the size of the next part to the time that this one took."""
        began = time.monotonic()
        with snapshot() as connection:
            take_time(connection, _STATEMENT_SECONDS_MAX)
            connection.execute(_SETTINGS)
            yield connection
        seconds = max(time.monotonic() - began, 0.001)
        factor = min(2.0, _SECONDS_PER_PART / seconds)
        self.rows = max(BUDGET_MIN, min(BUDGET_MAX, int(self.rows * factor)))


def next_part(
    connection: Connection, *, after: int, resume: Start | None, round_number: int, budget: int
) -> Sequence[Start]:
    """Return the starts of the next part: `resume`'s rest, or the wallets with ids above `after`; none at the end.

    Only the one wallet of a part that is cut has an `until` below SEQ_MAX.
    """
    if resume is not None:
        return [_cut(connection, resume, budget)]
    rows = connection.execute(_WALLETS, {"after": after, "round": round_number, "wallets_max": budget}).all()
    part: list[Start] = []
    left = budget
    for row in rows:
        new_entries = max(0, row.last_seq - (row.seq or 0))
        if not part and new_entries > budget:
            return [_cut(connection, _start(row), budget)]
        left -= 1 + new_entries
        if part and left < 0:
            break
        part.append(_start(row))
    return part


def as_parameters(part: Sequence[Start]) -> dict[str, Any]:
    """Return the parameters that `SCOPE` reads."""
    return {
        "wallet_ids": [start.wallet_id for start in part],
        "seqs": [start.seq for start in part],
        "hashes": [start.hash for start in part],
        "balances": [start.balance for start in part],
        "helds": [start.held for start in part],
        "times": [start.created_at for start in part],
        "untils": [start.until for start in part],
        "resumed": [start.is_resumed for start in part],
    }


def part_ends(connection: Connection, part: Sequence[Start], *, holds: Sequence[int]) -> tuple[list[Start], int]:
    """Return what is known of each wallet at the part's end, if its entries are right, and how many entries there are.

    `holds` are the wallets whose contra entries make up what a wallet holds.
    """
    rows = connection.execute(_ENDS, {**as_parameters(part), "holds": holds}).all()
    ends = [
        Start(row.wallet_id, row.seq, row.hash, row.balance_after, row.held, row.created_at, is_resumed=True)
        for row in rows
    ]
    return ends, sum(row.entries for row in rows)


def contra_sums(connection: Connection, part: Sequence[Start]) -> dict[int, int]:
    """Return, per contra wallet, what the part's entries make of its balance."""
    rows = connection.execute(_CONTRA_SUMS, as_parameters(part)).all() if part else ()
    return {row.contra_wallet_id: int(row.total) for row in rows}


def _start(row: Row[Any]) -> Start:
    if row.seq is None:
        return Start(wallet_id=row.wallet_id, seq=0, hash=GENESIS, balance=0, held=0, created_at=None)
    return Start(row.wallet_id, row.seq, row.hash, row.balance, row.held, row.created_at)


def _cut(connection: Connection, start: Start, entries_max: int) -> Start:
    # Cut by counting entries and not by adding to seq: in a damaged ledger a gap may be wider than any number of steps.
    until = connection.scalar(_NTH_ENTRY, {"wallet_id": start.wallet_id, "seq": start.seq, "entries_max": entries_max})
    return replace(start, until=until or SEQ_MAX)


_STATEMENT_SECONDS_MAX = 30

# Whatever the statistics say (after an import, nothing true), these reads are to go by primary keys: a scan of a whole
# table in each part would make the verification quadratic. Of JIT only its compile time would be felt.
_SETTINGS = text("""
SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")

# The last entry is looked up rather than read from wallet_balances, which is not to be trusted here.
_WALLETS = text("""
SELECT wallets.id AS wallet_id, marks.seq, marks.hash, marks.balance, marks.held, marks.created_at,
       coalesce(last.seq, 0) AS last_seq
  FROM wallets
  LEFT JOIN verify_marks AS marks ON marks.wallet_id = wallets.id AND marks.round = :round
  LEFT JOIN LATERAL (
       SELECT seq FROM ledger_entries WHERE wallet_id = wallets.id ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 WHERE wallets.id > :after
 ORDER BY wallets.id
 LIMIT :wallets_max
""")

_NTH_ENTRY = text("""
SELECT seq FROM ledger_entries WHERE wallet_id = :wallet_id AND seq > :seq ORDER BY seq OFFSET :entries_max - 1 LIMIT 1
""")

SCOPE = """
scope AS (
    SELECT * FROM unnest(CAST(:wallet_ids AS bigint[]), CAST(:seqs AS bigint[]), CAST(:hashes AS bytea[]),
                         CAST(:balances AS bigint[]), CAST(:helds AS bigint[]), CAST(:times AS timestamptz[]),
                         CAST(:untils AS bigint[]), CAST(:resumed AS boolean[]))
        AS scope (wallet_id, seq, hash, balance, held, created_at, until, is_resumed)
)
"""
"""The part's wallets, each with what was verified of it before."""

ENTRIES = f"""{SCOPE}, entries AS (
    SELECT entry.*,
           coalesce(lag(entry.seq) OVER along_seq, scope.seq) AS previous_seq,
           coalesce(lag(entry.balance_after) OVER along_seq, scope.balance) AS previous_balance,
           coalesce(lag(entry.created_at) OVER along_seq, scope.created_at) AS previous_created_at,
           coalesce(lag(entry.hash) OVER along_seq, scope.hash) AS previous_hash
      FROM scope
     CROSS JOIN LATERAL (
           SELECT * FROM ledger_entries
            WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
            ORDER BY seq
           ) AS entry
    WINDOW along_seq AS (PARTITION BY entry.wallet_id ORDER BY entry.seq)
)
"""
"""The part's entries, each with what the one before it said."""

_ENDS = text(f"""
WITH {SCOPE}
SELECT scope.wallet_id, last.seq, last.hash, last.balance_after, last.created_at, sums.entries,
       CAST(scope.held + sums.held AS bigint) AS held
  FROM scope
  JOIN LATERAL (
       SELECT seq, hash, balance_after, created_at FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
        ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 CROSS JOIN LATERAL (
       SELECT count(*) AS entries,
              coalesce(-sum(amount) FILTER (WHERE contra_wallet_id = ANY (CAST(:holds AS bigint[]))), 0) AS held
         FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
       ) AS sums
""")

_CONTRA_SUMS = text(f"""
WITH {SCOPE}
SELECT entries.contra_wallet_id, -sum(entries.amount) AS total
  FROM scope
 CROSS JOIN LATERAL (
       SELECT contra_wallet_id, amount FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
       ) AS entries
 GROUP BY entries.contra_wallet_id
""")
