"""Instants: how they are written, where days end, and what stands for no end; pure."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

NO_END = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
"""Until when something without an end goes: an instant that every driver can read, as it could not `infinity`."""


def instant_text(instant: dt.datetime) -> str:
    """Return the instant as programs read it, and as a transaction keeps it: UTC, to the microsecond, with a Z."""
    return instant.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def end_of_day(day: dt.date, time_zone: str) -> dt.datetime:
    """Return the instant at which the day is over there, in UTC: the next one's first. At most NO_END.

    That is midnight, or, where a clock is set at midnight, when the next day's first hour begins: of an hour that comes
    twice the first one, of one that is left out the instant at which it is.
    """
    if day >= NO_END.date() - dt.timedelta(days=1):
        return NO_END
    midnight = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), tzinfo=ZoneInfo(time_zone))
    return min(midnight.astimezone(dt.UTC), NO_END)


def day_of(instant: dt.datetime, time_zone: str) -> dt.date:
    """Return the day that it is there at the instant."""
    return instant.astimezone(ZoneInfo(time_zone)).date()
