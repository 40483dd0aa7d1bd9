"""Exchange rates: set for an instant from which on they apply, and never changed; the audit log tells who set them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import Connection, insert, select, text

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import AssetNotFoundError, BadRateError
from wallet_app.models import AssetType, ExchangeRate
from wallet_app.money import format_rate
from wallet_app.service import audit
from wallet_app.service.audit import Act, By


@dataclass(frozen=True, slots=True)
class RateView:
    """A rate between two assets, by their codes, in smallest units; None from `valid_from` on there is none."""

    source: str
    target: str
    rate: Fraction | None
    valid_from: dt.datetime
    created_by: str


def set_rate(
    *, source: str, target: str, rate: Fraction | None, valid_from: dt.datetime | None = None, by: By
) -> RateView:
    """Let the rate apply from `valid_from` on, by default from now; with None, let there be none.

    Raises AssetNotFoundError, and BadRateError for one asset or for an instant that has passed.
    """
    with unit_of_work() as connection:
        ids = [_asset_id(connection, code) for code in (source, target)]
        now: dt.datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        if source == target:
            raise BadRateError(f"A rate is between two assets, not from {source} to itself.")
        if valid_from is not None and valid_from < now:
            raise BadRateError(f"{valid_from.isoformat()} has passed: a rate applies from now on, or from later on.")
        connection.execute(
            insert(ExchangeRate).values(
                from_asset_id=ids[0],
                to_asset_id=ids[1],
                numerator=None if rate is None else rate.numerator,
                denominator=None if rate is None else rate.denominator,
                valid_from=valid_from or now,
                created_by=by.actor,
            )
        )
        made = RateView(source, target, rate, valid_from or now, by.actor)
        after = {"rate": None if rate is None else format_rate(rate), "validFrom": made.valid_from.isoformat()}
        audit.record(connection, Act(by=by, action="rate:set", subject=f"rate:{source}/{target}", after=after))
    return made


@reads
def list_rates(connection: Connection) -> Sequence[RateView]:
    """Return all that was set and applies now or later, by assets, oldest first."""
    return [
        RateView(
            row.source,
            row.target,
            None if row.numerator is None else Fraction(row.numerator, row.denominator),
            row.valid_from,
            row.created_by,
        )
        for row in connection.execute(_RATES)
    ]


def _asset_id(connection: Connection, code: str) -> int:
    found = connection.scalar(select(AssetType.id).where(AssetType.code == code))
    if found is None:
        raise AssetNotFoundError(code)
    return found


_RATES = text("""
SELECT source.code AS source, target.code AS target, rate.numerator, rate.denominator, rate.valid_from, rate.created_by
  FROM (SELECT *, lead(valid_from) OVER (PARTITION BY from_asset_id, to_asset_id ORDER BY valid_from, id) AS until
          FROM exchange_rates) AS rate
  JOIN asset_types AS source ON source.id = rate.from_asset_id
  JOIN asset_types AS target ON target.id = rate.to_asset_id
 WHERE rate.until IS NULL OR rate.until > clock_timestamp()
 ORDER BY source.code, target.code, rate.valid_from, rate.id
""")
