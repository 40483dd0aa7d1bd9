"""Limits of a wallet: what they bound, the windows in which spending counts, and when a window has room again; pure.

What was spent is kept by the hour. Hours are counted from the beginning of the asset's day, so that each lies in one
day whatever the time zone; the last one of a day is shorter where the clocks are put by half an hour.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple

from wallet_app.service.instants import day_of, end_of_day

HOUR = dt.timedelta(hours=1)
ROLLING = dt.timedelta(hours=24)
KEPT = dt.timedelta(hours=26)
"""How far back spending can count: a day has 25 hours at most, and a rolling window one that is partly inside."""

FIGURES = ("single", "balance", "day", "rolling")
"""The limits there are, by what they bound."""

SPENDING = ("SPEND", "TRANSFER", "EXCHANGE")
"""The types of entries by which a wallet spends. Of a hold it is the HOLD entry, and no capture counts again."""

Hours = Mapping[dt.datetime, int]
"""What was spent by the hour's beginning."""


class WalletLimits(NamedTuple):
    """What holds of a wallet, in the asset's smallest unit; None is no limit."""

    single: int | None = None
    """The most that one command takes out or brings in."""
    balance: int | None = None
    """The most that it may have when something comes in, with what is held."""
    day: int | None = None
    """The most that it spends on a calendar day of the asset."""
    rolling: int | None = None
    """The most that it spends within 24 hours."""

    @property
    def has_window(self) -> bool:
        """Whether what was spent before matters."""
        return self.day is not None or self.rolling is not None


NO_LIMITS = WalletLimits()


class LimitsOf(NamedTuple):
    """The limits of a wallet: those that hold now, and those that would if they were not raised for a while.

    `more` is to what they are raised at the moment, also where that is no more than what is set; NO_LIMITS if not.
    """

    now: WalletLimits
    base: WalletLimits
    more: WalletLimits = NO_LIMITS

    def raised_to(self, figures: WalletLimits) -> LimitsOf:
        """Return them with these figures instead, where they are higher; what is not limited stays so."""
        return LimitsOf(raised(self.base, figures), self.base, figures)


def raised(base: WalletLimits, figures: WalletLimits) -> WalletLimits:
    """Return the base's figures, or those that are given where they are higher: a raise narrows nothing."""
    pairs = zip(base, figures, strict=True)
    return WalletLimits(*[most if most is None or more is None else max(most, more) for most, more in pairs])


class Window(NamedTuple):
    """What a window has used. Later, at `frees_at`, `frees` of it are free again; None if nothing is used."""

    used: int
    frees_at: dt.datetime | None
    frees: int


NOTHING_USED = Window(0, None, 0)


def begin_of_day(instant: dt.datetime, zone: str) -> dt.datetime:
    """Return when the instant's calendar day began there, in UTC."""
    return end_of_day(day_of(instant, zone) - dt.timedelta(days=1), zone)


def next_day(instant: dt.datetime, zone: str) -> dt.datetime:
    """Return when the calendar day after the instant's begins there, in UTC."""
    return end_of_day(day_of(instant, zone), zone)


def hour_of(instant: dt.datetime, zone: str) -> dt.datetime:
    """Return the beginning of the hour in which what is spent at the instant counts."""
    day = begin_of_day(instant, zone)
    return day + (instant - day) // HOUR * HOUR


def used_today(hours: Hours, now: dt.datetime, zone: str) -> Window:
    """Return what was spent on this calendar day; all of it is free when the next one begins."""
    day = begin_of_day(now, zone)
    used = sum(amount for hour, amount in hours.items() if hour >= day)
    return Window(used, next_day(now, zone), used) if used else NOTHING_USED


def used_lately(hours: Hours, now: dt.datetime, need: int = 1) -> Window:
    """Return what was spent within 24 hours, and when at least `need` of that is free again, or all that there is.

    The oldest hour counts as a whole as long as a part of it is inside.
    """
    inside = sorted((hour, amount) for hour, amount in hours.items() if hour + HOUR > now - ROLLING and amount)
    used = sum(amount for _, amount in inside)
    frees, at = 0, None
    for hour, amount in inside:
        if frees >= need:
            break
        frees, at = frees + amount, hour + HOUR + ROLLING
    return Window(used, at, frees)


def by_hours(quarters: Hours, zone: str, *, after: dt.datetime) -> dict[dt.datetime, int]:
    """Return, of the hours that begin after the instant, what is given by quarters of an hour.

    No time zone's days begin between two quarters.
    """
    hours: dict[dt.datetime, int] = {}
    for quarter, amount in quarters.items():
        hour = hour_of(quarter, zone)
        if hour > after:
            hours[hour] = hours.get(hour, 0) + amount
    return hours
