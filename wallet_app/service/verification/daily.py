"""The invariants of the daily totals: they are what the entries of the transactions make that were added up.

Every run compares what they make of each SYSTEM wallet, and of what users have of lots; a full one makes all daily
totals anew from the ledger.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from wallet_app.service import daily_totals, lot_totals, settled
from wallet_app.service.verification.report import Fault
from wallet_app.service.verification.wallets import Invariant

TAIL_MAX = 100_000
"""With more transactions that were not added up yet, the totals are not compared: the snapshot would last too long."""

DAILY = Invariant("daily_totals", "the daily totals are what the ledger says", "", "daily totals")

LOTS = Invariant("lot_totals", "the totals of lots are what the wallets have of them", "", "assets")

_ID_MAX = uuid.UUID(int=2**128 - 1)


class _Sums(NamedTuple):
    entries: int = 0
    credits: Decimal = Decimal(0)
    debits: Decimal = Decimal(0)

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(self.entries + other.entries, self.credits + other.credits, self.debits + other.debits)


@dataclass(slots=True)
class Recount:
    """What the ledger makes of each day, from the pages of transactions of a full verification."""

    position: uuid.UUID
    """Up to here the transactions had been added up when the verification began, so that none comes below it later."""
    sums: dict[tuple[Any, ...], _Sums] = field(default_factory=dict)

    @staticmethod
    def begin(connection: Connection) -> Recount:
        """Return an empty one."""
        return Recount(settled.position_of(connection, daily_totals.NAME))

    def add(self, connection: Connection, *, after: uuid.UUID, until: uuid.UUID) -> None:
        """Add the transactions of a page, as far as they had been added up."""
        if after < self.position:
            rows = connection.execute(_RECOUNT, {"after": after, "until": min(until, self.position)}).all()
            self._add(rows)

    def differences(self, connection: Connection) -> list[Fault] | None:
        """Return where the totals are others, in one snapshot; None if they were begun again meanwhile."""
        position = settled.position_of(connection, daily_totals.NAME)
        if position < self.position:
            return None
        self._add(connection.execute(_RECOUNT, {"after": self.position, "until": position}).all())
        kept = {tuple(row[:4]): _Sums(*row[4:]) for row in connection.execute(_KEPT)}
        return [
            Fault(key[3], None, _difference(key, kept.get(key, _Sums()), self.sums.get(key, _Sums())))
            for key in sorted(kept.keys() | self.sums.keys())
            if kept.get(key) != self.sums.get(key)
        ]

    def _add(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            key = tuple(row[:4])
            self.sums[key] = self.sums.get(key, _Sums()).plus(_Sums(*row[4:]))


def net_differences(connection: Connection) -> list[Fault] | None:
    """Return the SYSTEM wallets whose slots are not what the totals and all later transactions make, in one snapshot.

    None if there are more than TAIL_MAX of these.
    """
    position = settled.position_of(connection, daily_totals.NAME)
    if position == settled.BEGINNING:
        return [] if not connection.execute(_ANY).scalar_one() else [Fault(None, None, "nothing was added up to them")]
    if connection.execute(_TAIL, {"after": position, "rows_max": TAIL_MAX}).first() is not None:
        return None
    rows = connection.execute(_NETS, {"after": position, "until": _ID_MAX}).all()
    return [Fault(row.wallet_id, None, row.what) for row in rows]


def lot_differences(connection: Connection) -> list[Fault] | None:
    """Return the assets of which users have more or less of lots than their totals and all later movements make.

    In one snapshot. None if there are more than TAIL_MAX of these.
    """
    position = settled.position_of(connection, lot_totals.NAME)
    if connection.execute(_TAIL, {"after": position, "rows_max": TAIL_MAX}).first() is not None:
        return None
    values = {"after": position, "until": _ID_MAX}
    return [Fault(None, None, row.what) for row in connection.execute(_LOTS, values)]


def count_assets(connection: Connection) -> int:
    """Return how many assets there are."""
    found: int = connection.execute(text("SELECT count(*) FROM asset_types")).scalar_one()
    return found


def count(connection: Connection) -> int:
    """Return how many totals there are."""
    found: int = connection.execute(text("SELECT count(*) FROM daily_totals")).scalar_one()
    return found


def _difference(key: tuple[Any, ...], kept: _Sums, counted: _Sums) -> str:
    return (
        f"the total of {key[0]} for {key[2]} has {kept.entries:,} entries, +{kept.credits} -{kept.debits}; "
        f"the ledger has {counted.entries:,}, +{counted.credits} -{counted.debits}"
    )


_RECOUNT = text(f"WITH entries AS ({daily_totals.PAGE}) {daily_totals.SUMS}")

_KEPT = text("""
SELECT day, asset_type_id, entry_type, contra_wallet_id, entries, credits, debits FROM daily_totals
""")

_ANY = text("SELECT EXISTS (SELECT FROM daily_totals)")

_TAIL = text("""
SELECT FROM transactions WHERE transaction_id > :after ORDER BY transaction_id OFFSET :rows_max LIMIT 1
""")

_NETS = text(f"""
WITH entries AS ({daily_totals.PAGE}), parts AS (
    SELECT contra_wallet_id AS wallet_id, debits - credits AS net FROM daily_totals
     UNION ALL
    SELECT contra_wallet_id, -amount FROM entries
), made AS (
    SELECT wallet_id, sum(net) AS total FROM parts GROUP BY wallet_id
), slots AS (
    SELECT wallet_id, sum(balance) AS total FROM system_balances GROUP BY wallet_id
)
SELECT wallet_id, format('its slots make %s, the daily totals and what came after them %s',
                         coalesce(slots.total, 0), coalesce(made.total, 0)) AS what
  FROM slots
  FULL JOIN made USING (wallet_id)
 WHERE coalesce(slots.total, 0) <> coalesce(made.total, 0)
 ORDER BY wallet_id
""")

_LOTS = text(f"""
WITH moved AS MATERIALIZED ({lot_totals.PAGE}), left_of AS ({lot_totals.LEFT}), parts AS (
    SELECT contra.asset_type_id, 'bonus that can be spent' AS of_what, totals.credits - totals.debits AS net
      FROM bonus_totals AS totals JOIN wallets AS contra ON contra.id = totals.contra_wallet_id
     UNION ALL
    SELECT asset_type_id, 'bonus that can be spent', CASE WHEN is_credit THEN amount ELSE -amount END
      FROM moved WHERE lot_kind = 'bonus' AND kind <> 'extend'
     UNION ALL
    SELECT asset_type_id, kind || ' by its end', credits - debits FROM lot_ends
     UNION ALL
    SELECT asset_type_id, lot_kind || ' by its end', net FROM left_of
), made AS (
    SELECT asset_type_id, of_what, sum(net) AS total FROM parts GROUP BY asset_type_id, of_what
), there AS (
    SELECT wallets.asset_type_id, 'bonus that can be spent' AS of_what, sum(balances.bonus) AS total
      FROM wallet_balances AS balances JOIN wallets ON wallets.id = balances.wallet_id
     WHERE balances.bonus > 0 GROUP BY wallets.asset_type_id
     UNION ALL
    SELECT wallets.asset_type_id, lots.kind || ' by its end', sum(lots.available + lots.held)
      FROM lots JOIN wallets ON wallets.id = lots.wallet_id
     WHERE lots.available + lots.held > 0 GROUP BY wallets.asset_type_id, lots.kind
)
SELECT format('of %s, %s: the wallets have %s, the totals and what came after them make %s', asset_types.code, of_what,
              coalesce(there.total, 0), coalesce(made.total, 0)) AS what
  FROM there
  FULL JOIN made USING (asset_type_id, of_what)
  JOIN asset_types ON asset_types.id = asset_type_id
 WHERE coalesce(there.total, 0) <> coalesce(made.total, 0)
 ORDER BY asset_type_id, of_what
""")
