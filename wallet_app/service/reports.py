"""Reports: what users have of an asset and how it came about, from one instant to another, compared with the books.

Each line of the roll-forward is the sum of the entries of some types against one SYSTEM wallet, so the lines and the
opening make the closing by construction, and what no line knows is a line too. What they are compared with comes from
elsewhere: the balances of the users' wallets, and those of the SYSTEM wallets.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import snapshot
from wallet_app.errors import AssetNotFoundError, BadFilterError, InstantAheadError, ReportBehindError
from wallet_app.service.listings import AssetView
from wallet_app.service.lot_reports import Age, LotTotals, ages_of, read_lot_totals
from wallet_app.service.permits import Permit
from wallet_app.service.totals_at import ENTRIES, Sums, Totals, standing, totals_at

WALLETS_MAX = 500_000
"""The wallets of more users are not added up for a report; `verify` compares them, a part at a time."""

_OTHERS_MAX = 10_000
"""Up to how many wallets of other assets are left out one by one, instead of looking up those of the asset."""

_OWN = MappingProxyType(
    {
        "Treasury": ("issued", ("TOPUP", "SEED")),
        "Promotions": ("bonus", ("BONUS",)),
        "Adjustments": ("adjusted", ("ADJUSTMENT",)),
        "Exchange": ("exchanged", ("EXCHANGE",)),
        "Clearing": ("transferred", ("TRANSFER",)),
        "Revenue": ("spent", ("SPEND",)),
        "Breakage": ("expired", ("EXPIRY",)),
    }
)
"""By SYSTEM user, the line of its entries of these types. Of its REVERSAL entries it is `reversed_` and that name."""

LINES = (*[name for name, _ in _OWN.values()], *[f"reversed_{name}" for name, _ in _OWN.values()], "other")
"""The lines of a roll-forward, in order. `other` is for what the rest does not know: it is empty."""

HOLD_LINES = ("held", "released")
"""What was set aside, and what came back from there, to be spent or kept. Both leave alone what users have."""


class Outstanding(NamedTuple):
    """What users have of an asset, in the smallest unit: what they can spend, and what is held of theirs.

    As the ledger has it: what is due, and not settled yet, is still held.
    """

    balance: int
    held: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.balance + self.held

    def minus(self, other: Outstanding) -> Outstanding:
        """Return what is left without the other."""
        return Outstanding(self.balance - other.balance, self.held - other.held)


class Line(NamedTuple):
    """A line: its name, and the sums of its entries from the beginning of the report to its end."""

    name: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class Tie:
    """What the closing has to be, by the books as they are now less what was posted after the report's end.

    `users` is by the balances of the users' wallets, and `bonus` what they say of it is bonus and can be spent; None
    for more than WALLETS_MAX of them, `bonus` also where the report does not tell it. `system` is by the balances of
    the SYSTEM wallets, and `clearing` what Clearing has, which is nothing.
    """

    users: Outstanding | None
    bonus: int | None
    system: Outstanding
    clearing: int


@dataclass(frozen=True, slots=True)
class Natures:
    """What of a report is bonus: at its beginning, at its end, and of its lines by their names. The rest is paid.

    `ages` is what users have at its end by when it ends, in whole days (UTC).
    """

    opening: Outstanding
    closing: Outstanding
    lines: Mapping[str, int]
    ages: Sequence[Age]


@dataclass(frozen=True, slots=True)
class AssetReport:
    """What users had of an asset at `since` (`opening`) and at `until` (`closing`), and the lines between.

    Without `since` it is from the beginning. `until` is not included; for a report on how it stands now, it is the
    instant of the look, and so is everything that was there. `is_final`: nothing can be added to it any more. `tie` is
    None while so much is not in the daily totals yet that they cannot be compared, and `natures` while the totals of
    lots do not reach as far.
    """

    asset: AssetView
    since: dt.datetime | None
    until: dt.datetime
    made_at: dt.datetime
    opening: Outstanding
    closing: Outstanding
    lines: Sequence[Line]
    holds: Sequence[Line]
    is_final: bool
    tie: Tie | None
    natures: Natures | None

    def sums(self, name: str) -> Sums:
        """Return the sums of the line with this name."""
        return next((line.sums for line in (*self.lines, *self.holds) if line.name == name), Sums())

    def bonus(self, name: str) -> int | None:
        """Return what of the net of the line with this name was bonus; None where natures are not told."""
        return None if self.natures is None else self.natures.lines.get(name, 0)

    @property
    def reversed(self) -> int:
        """What all reversals brought users, net."""
        return sum(line.sums.net for line in self.lines if line.name.startswith("reversed_"))

    @property
    def differences(self) -> Mapping[str, int]:
        """By how much each that the closing is compared with is more; of those that are not the same."""
        if self.tie is None:
            return {}
        found = {
            "system": self.tie.system.total - self.closing.total,
            "system_held": self.tie.system.held - self.closing.held,
            "clearing": self.tie.clearing,
        }
        if self.tie.users is not None:
            found["users"] = self.tie.users.total - self.closing.total
            found["users_held"] = self.tie.users.held - self.closing.held
        if self.tie.bonus is not None and self.natures is not None:
            found["bonus"] = self.tie.bonus - self.natures.closing.balance
        found["lines"] = self.opening.total + sum(line.sums.net for line in self.lines) - self.closing.total
        return {name: difference for name, difference in found.items() if difference}

    @property
    def ties(self) -> bool | None:
        """Whether all that it is compared with says the same, to the unit; None where that could not be looked at."""
        return None if self.tie is None else not self.differences


class _Side(NamedTuple):
    """The SYSTEM wallets of an asset, by their ids."""

    owners: Mapping[int, str]

    def outstanding(self, totals: Totals) -> Outstanding:
        """Return what users have if these are all entries."""
        held = -sum(sums.net for (_, contra), sums in totals.items() if self.owners[contra] == "Holds")
        return Outstanding(sum(sums.net for sums in totals.values()), held)

    def lines(self, opening: Totals, closing: Totals) -> tuple[list[Line], list[Line]]:
        """Return the lines of what lies between, and those of holds."""
        found: dict[str, Sums] = dict.fromkeys((*LINES, *HOLD_LINES), Sums())
        for key, sums in closing.items():
            name = self._line_of(*key)
            found[name] = found[name].plus(sums.minus(opening.get(key, Sums())))
        if found["other"] == Sums():
            del found["other"]
        lines = [Line(name, sums) for name, sums in found.items()]
        return [line for line in lines if line.name in LINES], [line for line in lines if line.name in HOLD_LINES]

    def _line_of(self, entry_type: str, contra: int) -> str:
        owner = self.owners[contra]
        if owner == "Holds":
            return {"HOLD": "held", "RELEASE": "released"}.get(entry_type, "other")
        name, entry_types = _OWN.get(owner, ("", ()))
        if entry_type in entry_types:
            return name
        return f"reversed_{name}" if entry_type == "REVERSAL" and name else "other"


def get_asset_report(
    code: str, *, since: dt.datetime | None = None, until: dt.datetime | None = None, permit: Permit | None = None
) -> AssetReport:
    """Return the report on an asset from `since` (included) to `until` (not), or to now.

    Instants are UTC. Raises AssetNotFoundError, AssetNotAllowedError, BadFilterError for an end before the beginning,
    InstantAheadError, ReportTooFineError, ReportBehindError.
    """
    if permit is not None:
        permit.require_asset(code)
    if since is not None and until is not None and until < since:
        raise BadFilterError("A report ends before it begins: let `to` not be before `from`.")
    with snapshot() as connection:
        now = connection.execute(_NOW).scalar_one()
        asset, side = _asset(connection, code)
        # What was created in the very instant of the look is not ahead of it.
        if (until or since or now) > now + _MICROSECOND or (since or now) > now:
            raise InstantAheadError
        stands = standing(connection, ENTRIES)
        if until is None and not stands.is_whole:
            raise ReportBehindError(stands.reaches_to)
        instants = [instant for instant in (since, until) if instant is not None]
        *found, everything = totals_at(connection, ENTRIES, {"wallet_ids": list(side.owners)}, instants, stands=stands)
        opening = found[0] if since is not None else {}
        closing = found[-1] if until is not None else everything
        after = side.outstanding(everything).minus(side.outstanding(closing))
        today = (until or now).astimezone(dt.UTC).date()
        lots = read_lot_totals(
            connection,
            asset_type_id=asset.asset_type_id,
            wallet_ids=list(side.owners),
            since=since,
            until=until,
            today=today,
        )
        tie = _tie(connection, asset, side, after, lots) if stands.is_whole else None
    lines, holds = side.lines(opening, closing)
    outstanding = side.outstanding(closing)
    return AssetReport(
        asset=asset,
        since=since,
        until=until or now,
        made_at=now,
        opening=side.outstanding(opening),
        closing=outstanding,
        lines=lines,
        holds=holds,
        is_final=until is not None and stands.covers(until),
        tie=tie,
        natures=None if lots is None else _natures(side, lots, outstanding, today),
    )


def _natures(side: _Side, lots: LotTotals, closing: Outstanding, today: dt.date) -> Natures:
    bonus = side.outstanding(lots.closing)
    lines, holds = side.lines(lots.opening, lots.closing)
    ages = ages_of(lots.ends, bonus=bonus.total, paid=closing.total - bonus.total, today=today)
    nets = {line.name: line.sums.net for line in (*lines, *holds)}
    return Natures(side.outstanding(lots.opening), bonus, nets, ages)


def _asset(connection: Connection, code: str) -> tuple[AssetView, _Side]:
    rows = connection.execute(_ASSET, {"code": code}).all()
    if not rows:
        raise AssetNotFoundError(code)
    asset = rows[0]
    return AssetView(asset.id, asset.code, asset.name, asset.scale), _Side({row.wallet_id: row.owner for row in rows})


def _tie(connection: Connection, asset: AssetView, side: _Side, after: Outstanding, lots: LotTotals | None) -> Tie:
    """Return what the balances make of the report's end, after which that much came."""
    slots = {row.wallet_id: int(row.total) for row in connection.execute(_SLOTS, {"wallet_ids": list(side.owners)})}
    system = Outstanding(-sum(slots.values()), sum(slots[one] for one in slots if side.owners[one] == "Holds"))
    users, bonus, values = None, None, {"asset_type_id": asset.asset_type_id}
    wallets = connection.execute(_WALLETS, {**values, "rows_max": WALLETS_MAX, "others_max": _OTHERS_MAX}).one()
    if not wallets.is_many:
        row = connection.execute(_USERS_OF_MOST if wallets.is_most else _USERS, values).one()
        users = Outstanding(int(row.balance), int(row.held)).minus(after)
        if lots is not None:
            bonus_after = side.outstanding(lots.everything).minus(side.outstanding(lots.closing))
            bonus = int(row.bonus) - bonus_after.balance
    clearing = sum(slots[one] for one in slots if side.owners[one] == "Clearing")
    return Tie(users, bonus, system.minus(after), clearing)


_MICROSECOND = dt.timedelta(microseconds=1)

_NOW = text("SELECT clock_timestamp()")

_ASSET = text("""
SELECT asset_types.id, asset_types.code, asset_types.name, asset_types.scale, wallets.id AS wallet_id,
       users.name AS owner
  FROM asset_types
  JOIN users ON users.user_type = 'SYSTEM'
  JOIN wallets ON wallets.user_id = users.id AND wallets.asset_type_id = asset_types.id
 WHERE asset_types.code = :code
""")

_SLOTS = text("""
SELECT wallet_id, sum(balance) AS total FROM system_balances
 WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[])) GROUP BY wallet_id
""")

# Along the index: the others by what comes before the asset and what comes after it.
_WALLETS = text("""
SELECT EXISTS (SELECT FROM wallets WHERE asset_type_id = :asset_type_id
                ORDER BY id OFFSET :rows_max LIMIT 1) AS is_many,
       NOT EXISTS (SELECT FROM (SELECT FROM wallets WHERE asset_type_id < :asset_type_id
                                 UNION ALL
                                SELECT FROM wallets WHERE asset_type_id > :asset_type_id) AS others
                   OFFSET :others_max LIMIT 1) AS is_most
""")

_SUMS = """
SELECT coalesce(sum(balances.balance), 0) AS balance, coalesce(sum(balances.held), 0) AS held,
       coalesce(sum(balances.bonus), 0) AS bonus
"""

# Whole: with a limit on the wallets they would be hashed, which takes twice as long as to walk along both keys.
_USERS = text(f"""{_SUMS}
  FROM wallets
  JOIN wallet_balances AS balances ON balances.wallet_id = wallets.id
 WHERE wallets.asset_type_id = :asset_type_id
""")

# Where nearly all wallets are of the asset, to know the others is less: a third of the time.
_USERS_OF_MOST = text(f"""{_SUMS}
  FROM wallet_balances AS balances
 WHERE NOT EXISTS (SELECT FROM wallets
                    WHERE (wallets.asset_type_id < :asset_type_id OR wallets.asset_type_id > :asset_type_id)
                      AND wallets.id = balances.wallet_id)
""")
