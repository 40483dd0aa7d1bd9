"""The invariants of the whole: what must agree across all wallets, each a query in one and the same snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from wallet_app.service.verification.wallets import Invariant


@dataclass(slots=True)
class Unmarked:
    """Entries that this run looked at and did not mark, because something is wrong with their wallets."""

    seen: dict[int, int] = field(default_factory=dict)
    """Up to which seq, by wallet."""
    sums: dict[int, int] = field(default_factory=dict)
    """What they make of the balance of each contra wallet."""

    def add(self, sums: Mapping[int, int]) -> None:
        """Add the sums of further entries."""
        for wallet_id, total in sums.items():
            self.sums[wallet_id] = self.sums.get(wallet_id, 0) + total

    def as_parameters(self) -> dict[str, Any]:
        """Return the parameters that the sums read."""
        return {
            "seen_wallets": list(self.seen),
            "seen_seqs": list(self.seen.values()),
            "unmarked_wallets": list(self.sums),
            "unmarked_totals": list(self.sums.values()),
        }


# Sums up to the marks are known; only the entries after them are read, and the row that a posting keeps up to date
# anyway (wallet_balances.version) tells which wallets have any. A wallet without that row is read as well.
CONTRA_DIFFERENCES = """
WITH seen AS (
    SELECT * FROM unnest(CAST(:seen_wallets AS bigint[]), CAST(:seen_seqs AS bigint[])) AS seen (wallet_id, seq)
), ends AS (
    SELECT wallets.id AS wallet_id, coalesce(seen.seq, marks.seq, 0) AS seq
      FROM wallets
      LEFT JOIN wallet_balances AS balances ON balances.wallet_id = wallets.id
      LEFT JOIN verify_marks AS marks ON marks.wallet_id = wallets.id AND marks.round = :round
      LEFT JOIN seen ON seen.wallet_id = wallets.id
     WHERE balances.version IS NULL OR balances.version > coalesce(seen.seq, marks.seq, 0)
), parts AS (
    SELECT wallet_id, total FROM verify_contra_sums WHERE round = :round
     UNION ALL
    SELECT * FROM unnest(CAST(:unmarked_wallets AS bigint[]), CAST(:unmarked_totals AS numeric[]))
     UNION ALL
    SELECT tail.contra_wallet_id, -tail.amount
      FROM ends
     CROSS JOIN LATERAL (
           SELECT contra_wallet_id, amount FROM ledger_entries
            WHERE wallet_id = ends.wallet_id AND seq > ends.seq
           OFFSET 0 -- never a scan of the whole ledger
           ) AS tail
), entries AS (
    SELECT wallet_id, sum(total) AS total FROM parts GROUP BY wallet_id
), slots AS (
    SELECT wallet_id, sum(balance) AS total FROM system_balances GROUP BY wallet_id
)
SELECT wallet_id, NULL AS seq, coalesce(slots.total, 0) AS slots_total, coalesce(entries.total, 0) AS entries_total,
       format('its slots make %s, the entries against it %s', coalesce(slots.total, 0), coalesce(entries.total, 0))
           AS what
  FROM slots
  FULL JOIN entries USING (wallet_id)
 WHERE coalesce(slots.total, 0) <> coalesce(entries.total, 0)
 ORDER BY wallet_id
"""

_CLEARING = """
SELECT wallets.id AS wallet_id, NULL AS seq, format('Clearing has %s left over', sum(slots.balance)) AS what
  FROM users
  JOIN wallets ON wallets.user_id = users.id
  JOIN system_balances AS slots ON slots.wallet_id = wallets.id
 WHERE users.user_type = 'SYSTEM' AND users.name = 'Clearing'
 GROUP BY wallets.id
HAVING sum(slots.balance) <> 0
"""

_ASSETS = """
WITH balances AS (
    SELECT wallet_id, balance FROM wallet_balances
     UNION ALL
    SELECT wallet_id, balance FROM system_balances
)
SELECT NULL AS wallet_id, NULL AS seq,
       format('all %s together make %s', asset_types.code, sum(balances.balance)) AS what
  FROM balances
  JOIN wallets ON wallets.id = balances.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 GROUP BY asset_types.id
HAVING sum(balances.balance) <> 0
"""

TOTAL_INVARIANTS = (
    Invariant("slots", "each SYSTEM balance is what the entries make it", CONTRA_DIFFERENCES, "SYSTEM wallets"),
    Invariant("clearing", "Clearing is zero", _CLEARING, "SYSTEM wallets"),
    Invariant("assets", "each asset sums to zero", _ASSETS, "assets"),
)

STATEMENT_SECONDS_MAX = 60
SETTINGS = text("SELECT set_config('jit', 'off', true)")

COUNTS = text("""
SELECT count(*) FILTER (WHERE users.user_type = 'SYSTEM') AS "SYSTEM wallets",
       count(DISTINCT wallets.asset_type_id) AS assets
  FROM wallets
  JOIN users ON users.id = wallets.user_id
""")
