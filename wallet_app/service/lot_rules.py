"""The rules of lots: when a grant ends, which lots are taken from, and what becomes of those whose time is over; pure."""

from __future__ import annotations

import datetime as dt

from wallet_app.errors import LotEndPassedError
from wallet_app.service.books import Asset
from wallet_app.service.commands import Unsaid, Until, until_text
from wallet_app.service.instants import NO_END, day_of, end_of_day


def bonus_end(asset: Asset, said: Until | Unsaid | None, now: dt.datetime) -> dt.datetime:
    """Return when a bonus ends that is granted now; NO_END for never. Raises LotEndPassedError.

    Unsaid, it can be used for the asset's number of days after today, each of them to its end there.
    """
    if isinstance(said, Unsaid):
        return days_on(asset, asset.bonus_days, now)
    return NO_END if said is None else require_ahead(asset, said, now)


def days_on(asset: Asset, days: int | None, now: dt.datetime) -> dt.datetime:
    """Return the end of the day that is so many days after today, where the asset is; for None, NO_END."""
    if days is None:
        return NO_END
    return end_of_day(day_of(now, asset.time_zone) + dt.timedelta(days=days), asset.time_zone)


def require_ahead(asset: Asset, until: Until, now: dt.datetime) -> dt.datetime:
    """Return the instant at which something ends; a day does where it ends in the asset's time zone.

    Raises LotEndPassedError for one that has come, and for one that is as good as none.
    """
    end = until if isinstance(until, dt.datetime) else end_of_day(until, asset.time_zone)
    if not now < end < NO_END:
        raise LotEndPassedError(str(until_text(until)))
    return end.astimezone(dt.UTC)
