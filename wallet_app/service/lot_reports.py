"""What of a report is bonus and what is paid, and when what there is ends; read beside the rest, in one snapshot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from wallet_app.service.instants import NO_END
from wallet_app.service.lot_totals import BONUS, ENDS
from wallet_app.service.totals_at import Totals, standing, totals_at

AGES = (("within_7_days", 7), ("within_30_days", 30), ("within_90_days", 90))
"""The ages of what ends, each from where the one before it ends; what ends after them is `later`."""

AGE_NAMES = ("due", *[name for name, _ in AGES], "later", "never")


class Age(NamedTuple):
    """What users have, held or not, that ends in some days; or that is due and was not booked yet, or never ends."""

    name: str
    bonus: int
    paid: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.bonus + self.paid


@dataclass(frozen=True, slots=True)
class LotTotals:
    """The bonus part of all entries up to a report's beginning, up to its end, and of all; and what is left by ends.

    `ends` is by kind and last day, of bonus from the end's day on.
    """

    opening: Totals
    closing: Totals
    everything: Totals
    ends: Totals


def read_lot_totals(
    connection: Connection,
    *,
    asset_type_id: int,
    wallet_ids: Sequence[int],
    since: dt.datetime | None,
    until: dt.datetime | None,
    today: dt.date,
) -> LotTotals | None:
    """Return the totals of lots, `today` being the day of the report's end; None while they do not reach so far.

    Raises ReportTooFineError.
    """
    stands = standing(connection, BONUS)
    instants = [instant for instant in (since, until) if instant is not None]
    if not stands.is_whole and (until is None or not all(stands.covers(instant) for instant in instants)):
        return None
    *found, everything = totals_at(connection, BONUS, {"wallet_ids": wallet_ids}, instants, stands=stands)
    of = {"asset_type_id": asset_type_id, "ends_from": today}
    ends = totals_at(connection, ENDS, of, instants[-1:] if until is not None else [], stands=stands)
    return LotTotals(
        opening=found[0] if since is not None else {},
        closing=found[-1] if until is not None else everything,
        everything=everything,
        ends=ends[0],
    )


def ages_of(ends: Totals, *, bonus: int, paid: int, today: dt.date) -> list[Age]:
    """Return what users have by when it ends, of that much bonus and paid credit in all.

    Bonus that is not among the ends was to end before today; paid credit that is in no lot never ends.
    """
    found = {name: {"bonus": 0, "paid": 0} for name in AGE_NAMES}
    for (kind, ends_on), sums in ends.items():
        found[_age(ends_on, today)][kind] += sums.net
    found["due"]["bonus"] += bonus - sum(age["bonus"] for age in found.values())
    found["never"]["paid"] += paid - sum(age["paid"] for age in found.values())
    return [Age(name, **age) for name, age in found.items()]


def _age(ends_on: dt.date, today: dt.date) -> str:
    if ends_on >= NO_END.date():
        return "never"
    if ends_on < today:
        return "due"
    return next((name for name, days in AGES if ends_on < today + dt.timedelta(days=days)), "later")
