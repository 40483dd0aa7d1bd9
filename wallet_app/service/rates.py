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
from wallet_app.service.permits import Permit
from wallet_app.service.queries import PAGE_MAX


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


@dataclass(frozen=True, slots=True)
class AppliedRate:
    """A rate that applies at an instant, since `valid_from` and until `valid_to`; None if nothing follows it yet."""

    source_id: int
    target_id: int
    source: str
    target: str
    rate: Fraction
    valid_from: dt.datetime
    valid_to: dt.datetime | None


@reads
def list_applied_rates(
    connection: Connection,
    *,
    instant: dt.datetime | None,
    after: tuple[int, ...] | None,
    limit: int,
    permit: Permit | None = None,
) -> Sequence[AppliedRate]:
    """Return up to `limit` + 1 of the rates that apply at the instant (UTC), now if it is None, by the assets' ids.

    `after` are the ids of two assets. The one too many tells of a next page. A permit is told of its assets alone.
    """
    source_id, target_id = after if after is not None and len(after) == 2 else (0, 0)
    codes = None if permit is None or permit.assets is None else sorted(permit.assets)
    values = {"instant": instant, "source_id": source_id, "target_id": target_id, "codes": codes}
    rows = connection.execute(_APPLIED, {**values, "rows": min(limit, PAGE_MAX) + 1})
    return [
        AppliedRate(
            row.source_id,
            row.target_id,
            row.source,
            row.target,
            Fraction(row.numerator, row.denominator),
            row.valid_from,
            row.valid_to,
        )
        for row in rows
    ]


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


# Each pair's rate by its index; assets are few.
_APPLIED = text("""
SELECT source.id AS source_id, target.id AS target_id, source.code AS source, target.code AS target,
       rate.numerator, rate.denominator, rate.valid_from, (
       SELECT min(later.valid_from) FROM exchange_rates AS later
        WHERE later.from_asset_id = source.id AND later.to_asset_id = target.id AND later.valid_from > asked.instant
       ) AS valid_to
  FROM (SELECT coalesce(CAST(:instant AS timestamptz), clock_timestamp()) AS instant) AS asked
 CROSS JOIN asset_types AS source
 CROSS JOIN asset_types AS target
 CROSS JOIN LATERAL (
       SELECT numerator, denominator, valid_from FROM exchange_rates
        WHERE from_asset_id = source.id AND to_asset_id = target.id AND valid_from <= asked.instant
        ORDER BY valid_from DESC, id DESC LIMIT 1
       ) AS rate
 WHERE rate.numerator IS NOT NULL AND (source.id, target.id) > (:source_id, :target_id)
   AND (CAST(:codes AS text[]) IS NULL
        OR source.code = ANY (CAST(:codes AS text[])) AND target.code = ANY (CAST(:codes AS text[])))
 ORDER BY source.id, target.id LIMIT :rows
""")

_RATES = text("""
SELECT source.code AS source, target.code AS target, rate.numerator, rate.denominator, rate.valid_from, rate.created_by
  FROM (SELECT *, lead(valid_from) OVER (PARTITION BY from_asset_id, to_asset_id ORDER BY valid_from, id) AS until
          FROM exchange_rates) AS rate
  JOIN asset_types AS source ON source.id = rate.from_asset_id
  JOIN asset_types AS target ON target.id = rate.to_asset_id
 WHERE rate.until IS NULL OR rate.until > clock_timestamp()
 ORDER BY source.code, target.code, rate.valid_from, rate.id
""")
