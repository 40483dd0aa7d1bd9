"""The economy at a glance: what was issued and spent by day, what the users have, and whose wallets moved most.

From the daily totals and, in the same snapshot, what came after them: so it is exact at the instant of the snapshot. If
more came than can be looked at, it is as late as the totals are, and says so.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import snapshot
from wallet_app.service import daily_totals, settled
from wallet_app.service.listings import AssetView

TAIL_MAX = 5_000
"""How many transactions that are not in the totals yet are looked at."""

DAYS = (7, 30, 90)
"""For so many days, today among them, the economy can be shown."""

_OWNERS = {
    "Treasury": "issued",
    "Promotions": "bonus",
    "Revenue": "spent",
    "Adjustments": "adjusted",
    "Breakage": "expired",
    "Exchange": "exchanged",
}
"""What the users got from each SYSTEM user, net; Holds and Clearing are no others' gain or loss."""


@dataclass(slots=True)
class Sums:
    """What users got, net of what was reversed; `spent` and `expired` count what they gave. In the smallest unit."""

    issued: int = 0
    bonus: int = 0
    spent: int = 0
    adjusted: int = 0
    expired: int = 0
    exchanged: int = 0
    entries: int = 0

    @property
    def net(self) -> int:
        """By how much the users have more."""
        return self.issued + self.bonus - self.spent + self.adjusted - self.expired + self.exchanged

    def add(self, owner: str, *, net: int, entries: int) -> None:
        """Add what stands against the wallet of this SYSTEM user."""
        self.entries += entries
        if (name := _OWNERS.get(owner)) is not None:
            setattr(self, name, getattr(self, name) + (-net if name in {"spent", "expired"} else net))


class DayView(NamedTuple):
    """A day (UTC), and what the users had at its end, held amounts with it."""

    day: dt.date
    sums: Sums
    outstanding: int


class MoverView(NamedTuple):
    """A wallet that gained, or lost, most within `days` days; what it holds counts as its own."""

    days: int
    is_gain: bool
    wallet_id: int
    user_id: int
    user_name: str
    net: int


@dataclass(slots=True)
class AssetEconomy:
    """An asset: what the users have (`outstanding`), what of that is held, and each day of the range."""

    asset: AssetView
    outstanding: int = 0
    held: int = 0
    days: Sequence[DayView] = ()
    range: Sums = field(default_factory=Sums)
    """Of all its days together."""
    movers: list[MoverView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Economy:
    """All assets in the order in which they were made. `late_since`: what came after that instant is not in the days.

    It is None when everything is. The top movers are as of `movers_at`, None if they were never looked for.
    """

    assets: Sequence[AssetEconomy]
    late_since: dt.datetime | None
    movers_at: dt.datetime | None


def get_economy(*, days: int) -> Economy:
    """Return the economy of the last `days` days, today among them."""
    with snapshot() as connection:
        now = connection.execute(_BEGIN).scalar_one()
        position, is_late = _position(connection)
        assets = {row.id: AssetEconomy(AssetView(*row)) for row in connection.execute(_ASSETS)}
        for row in connection.execute(_BALANCES):
            own = assets[row.asset_type_id]
            # The other side of the books, and so with the other sign.
            own.outstanding -= int(row.total) if row.name != "Holds" else 0
            own.held += int(row.total) if row.name == "Holds" else 0
        today: dt.date = now.astimezone(dt.UTC).date()
        sums = _sums(connection, position, first=today - dt.timedelta(days=days - 1), is_late=is_late)
        movers_at = _add_movers(connection, assets)
    for asset_id, own in assets.items():
        _add_days(own, sums.get(asset_id, {}), today=today, days=days)
    return Economy(list(assets.values()), settled.time_of(position) if is_late else None, movers_at)


def _position(connection: Connection) -> tuple[uuid.UUID, bool]:
    """Return up to which id everything is in the totals, and whether too much came after it."""
    position = settled.position_of(connection, daily_totals.NAME)
    further = connection.execute(_FURTHER, {"after": position, "rows_max": TAIL_MAX}).first()
    return position, further is not None


def _sums(
    connection: Connection, position: uuid.UUID, *, first: dt.date, is_late: bool
) -> dict[int, dict[dt.date, Sums]]:
    found: dict[int, dict[dt.date, Sums]] = {}
    # Late, nothing of what came after is looked at: a part of it would be no day's whole.
    values = {"after": position, "until": position if is_late else uuid.UUID(int=2**128 - 1), "first": first}
    for row in connection.execute(_DAYS, values):
        day = found.setdefault(row.asset_type_id, {}).setdefault(row.day, Sums())
        day.add(row.name, net=int(row.net), entries=int(row.entries))
    return found


def _add_days(own: AssetEconomy, sums: Mapping[dt.date, Sums], *, today: dt.date, days: int) -> None:
    """Go back from what the users have now, a day at a time."""
    outstanding, found = own.outstanding, []
    # A clock that was set back may have left a day behind this one.
    outstanding -= sum(each.net for day, each in sums.items() if day > today)
    for back in range(days):
        day = today - dt.timedelta(days=back)
        of_day = sums.get(day, Sums())
        found.append(DayView(day, of_day, outstanding))
        outstanding -= of_day.net
        for name in (*_OWNERS.values(), "entries"):
            setattr(own.range, name, getattr(own.range, name) + getattr(of_day, name))
    own.days = found[::-1]


def _add_movers(connection: Connection, assets: Mapping[int, AssetEconomy]) -> dt.datetime | None:
    made_at = None
    for row in connection.execute(_MOVERS):
        mover = MoverView(row.days, row.is_gain, row.wallet_id, row.user_id, row.name, int(row.net))
        assets[row.asset_type_id].movers.append(mover)
        made_at = row.made_at
    return made_at


_BEGIN = text("SELECT clock_timestamp()")

_ASSETS = text("SELECT id, code, name, scale FROM asset_types ORDER BY id")

_FURTHER = text("""
SELECT FROM transactions WHERE transaction_id > :after ORDER BY transaction_id OFFSET :rows_max LIMIT 1
""")

_BALANCES = text("""
SELECT wallets.asset_type_id, users.name, sum(slots.balance) AS total
  FROM (SELECT id, name FROM users WHERE user_type = 'SYSTEM' OFFSET 0) AS users
 CROSS JOIN LATERAL (SELECT id, asset_type_id FROM wallets WHERE user_id = users.id OFFSET 0) AS wallets
 CROSS JOIN LATERAL (SELECT balance FROM system_balances WHERE wallet_id = wallets.id OFFSET 0) AS slots
 GROUP BY wallets.asset_type_id, users.name
""")

_DAYS = text(f"""
WITH entries AS ({daily_totals.PAGE}), parts AS (
    SELECT day, asset_type_id, contra_wallet_id, entries, credits - debits AS net
      FROM daily_totals WHERE day >= :first
     UNION ALL
    SELECT day, asset_type_id, contra_wallet_id, entries, credits - debits FROM ({daily_totals.SUMS}) AS tail
     WHERE day >= :first
), days AS (
    SELECT day, asset_type_id, contra_wallet_id, sum(entries) AS entries, sum(net) AS net
      FROM parts
     GROUP BY day, asset_type_id, contra_wallet_id
)
SELECT days.day, days.asset_type_id, users.name, days.entries, days.net
  FROM days
  JOIN wallets ON wallets.id = days.contra_wallet_id
  JOIN users ON users.id = wallets.user_id
""")  # noqa: S608 - constants

_MOVERS = text("""
SELECT movers.days, movers.asset_type_id, movers.is_gain, movers.wallet_id, wallets.user_id, users.name, movers.net,
       movers.made_at
  FROM top_movers AS movers
  JOIN wallets ON wallets.id = movers.wallet_id
  JOIN users ON users.id = wallets.user_id
 ORDER BY movers.days, movers.asset_type_id, movers.is_gain DESC, movers.place
""")
