"""Limits as plainly as they can be written: what is set for whom, and what of it is used, from all that was spent.

Every amount is kept with the instant at which it was spent, and each window is counted anew: nothing is kept by hours.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from wallet_app.money import AMOUNT_MAX

HOUR = dt.timedelta(hours=1)
FIGURES = ("single", "balance", "day", "rolling")
WINDOWS = ("day", "rolling")
LIMITED = ("topup", "bonus", "spend", "transfer", "exchange", "purchase", "hold")
SPENDING = ("spend", "transfer", "exchange", "purchase")
"""By what a wallet spends, beside a hold; what of a hold is captured was spent with it."""

Figures = dict[str, int]
"""What is limited; what is not is left out."""


class Spent(NamedTuple):
    """What was spent at an instant, and what of it came back, by what gave it back."""

    at: dt.datetime
    amount: int
    back: Counter[str]

    @property
    def left(self) -> int:
        return self.amount - self.back.total()


@dataclass
class Limits:
    """What is set, by its level and the asset or wallet; and to what wallets are raised, until which step."""

    settings: dict[tuple[str, str | int], Figures] = field(default_factory=dict)
    raises: dict[int, tuple[Figures, int]] = field(default_factory=dict)

    def base(self, wallet: int, asset: str) -> dict[str, tuple[str, int]]:
        """Return what is set for the wallet, each figure with the level from which it is: the narrowest."""
        found: dict[str, tuple[str, int]] = {}
        for level, whose in (("asset", asset), ("userType", asset), ("wallet", wallet)):
            found |= {name: (level, most) for name, most in self.settings.get((level, whose), {}).items()}
        return found

    def more(self, wallet: int, now: int) -> Figures:
        """Return to what the wallet is raised."""
        figures, until = self.raises.get(wallet, ({}, 0))
        return figures if until > now else {}

    def of(self, wallet: int, asset: str, now: int) -> dict[str, tuple[str, int]]:
        """Return what holds for the wallet now: a raise lets nothing be limited that is not, and narrows nothing."""
        found, more = self.base(wallet, asset), self.more(wallet, now)
        return found | {
            name: ("raise", figure) for name, figure in more.items() if name in found and figure > found[name][1]
        }


@dataclass(frozen=True)
class Window:
    """A calendar day in a time zone, or the last 24 hours, of what a wallet spent."""

    name: str
    spent: Sequence[Spent]
    zone: str

    def counting(self, at: dt.datetime) -> list[Spent]:
        """Return what counts at that instant: of the oldest hour all, as long as a part of it is inside."""
        if self.name == "day":
            return [one for one in self.spent if date_of(one.at, self.zone) == date_of(at, self.zone)]
        return [one for one in self.spent if hour_of(one.at, self.zone) + HOUR > at - 24 * HOUR]

    def used(self, at: dt.datetime) -> int:
        return sum(one.left for one in self.counting(at))

    def frees_at(self, now: dt.datetime, need: int = 1) -> dt.datetime | None:
        """Return when so much less of it is used than now."""
        counting = [one for one in self.counting(now) if one.left]
        if self.name == "day":
            ends = {begin_of(date_of(now, self.zone) + dt.timedelta(days=1), self.zone)}
        else:
            ends = {hour_of(one.at, self.zone) + 25 * HOUR for one in counting}
        return next((end for end in sorted(ends) if self.used(now) - self.used(end) >= need), None)

    def told(self, now: dt.datetime) -> dict[str, Any]:
        """Return what a read tells of its use."""
        frees_at = self.frees_at(now)
        frees = 0 if frees_at is None else self.used(now) - self.used(frees_at)
        return {"used": self.used(now), "frees": frees, "freesAt": frees_at}


@dataclass(frozen=True)
class Asked:
    """What a command takes out of a wallet and brings in; what that has, with what is held, and owes before."""

    out: int
    brought: int
    has: int
    owed: int


def refusal(
    figures: dict[str, tuple[str, int]], asked: Asked, spent: Sequence[Spent], now: dt.datetime, zone: str
) -> dict[str, Any] | None:
    """Return what the refusal tells, None where all of it is within the limits."""
    most = {name: figure for name, (_, figure) in figures.items()}
    amount, more = max(asked.out, asked.brought), asked.brought - asked.out
    if "single" in most and amount > most["single"]:
        return _told("single", most, None, amount)
    if "balance" in most and more > 0 and asked.has - asked.owed + more > most["balance"]:
        return _told("balance", most, asked.has, more)
    refusals = []
    for name in WINDOWS:
        window = Window(name, spent, zone)
        if name in most and asked.out and window.used(now) + asked.out > most[name]:
            missing = window.used(now) + asked.out - most[name]
            # Where the amount alone is too much, there is never room.
            at = window.frees_at(now, missing) if asked.out <= most[name] else None
            refusals.append((at or NEVER, _told(name, most, window.used(now), asked.out, at)))
    return max(refusals, key=lambda one: one[0])[1] if refusals else None


def why(
    answered: dict[str, Any] | None,
    figures: dict[str, tuple[str, int]],
    asked: Asked,
    spent: Sequence[Spent],
    now: dt.datetime,
    zone: str,
) -> set[str]:
    """Return the finer points that decided: without them, `answered` would be something else."""
    most = {name: figure for name, (_, figure) in figures.items()}
    if answered is not None:
        partly = sum(one.left for one in Window("rolling", spent, zone).counting(now) if one.at <= now - 24 * HOUR)
        is_by_hours = answered["limit"] == "rolling" and answered["used"] - partly + asked.out <= answered["bound"]
        return {"limit: the oldest hour counts whole"} if is_by_hours else set()
    found: set[str] = set()
    if asked.brought > asked.out and asked.has + asked.brought - asked.out > most.get("balance", AMOUNT_MAX):
        found.add("limit: what is owed is repaid first")
    for name in [name for name in WINDOWS if name in most and asked.out]:
        counting = Window(name, spent, zone).counting(now)
        needed = sum(one.left for one in counting) + asked.out
        for by in ("reversal", "release", "expiry"):
            if needed + sum(one.back[by] for one in counting) > most[name]:
                found.add(f"limit: room by a {by}")
    return found


NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)


def _told(
    name: str, most: Figures, used: int | None, amount: int, frees_at: dt.datetime | None = None
) -> dict[str, Any]:
    return {"limit": name, "bound": most[name], "used": used, "amount": amount, "freesAt": frees_at}


@cache
def date_of(instant: dt.datetime, zone: str) -> dt.date:
    return instant.astimezone(ZoneInfo(zone)).date()


@cache
def begin_of(date: dt.date, zone: str) -> dt.datetime:
    return dt.datetime.combine(date, dt.time(), ZoneInfo(zone)).astimezone(dt.UTC)


@cache
def hour_of(instant: dt.datetime, zone: str) -> dt.datetime:
    """Return when the hour began: they are counted from where the day begins."""
    begin = begin_of(date_of(instant, zone), zone)
    while begin + HOUR <= instant:
        begin += HOUR
    return begin
