"""The economy at a glance: what the home page shows of it, and its days and its top movers as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from markupsafe import Markup

from wallet_app import service
from wallet_app.console import charts, exports, pages
from wallet_app.console.asked import Asked
from wallet_app.console.charts import Series
from wallet_app.console.screens import screen
from wallet_app.service import AssetEconomy, Economy

_DAYS = 30
_SUMS = ("issued", "bonus", "spent", "adjusted", "expired", "exchanged", "entries")
DAY_COLUMNS = ("day", "asset", "scale", "outstanding", *_SUMS, "late_since")
"""`late_since`: what came after it is not in the days; empty when everything is."""
MOVER_COLUMNS = ("as_of", "asset", "scale", "days", "wallet_id", "user_id", "user_name", "net")


def shown() -> dict[str, Any]:
    """Return what the home page shows of it: all assets, and the chosen one by day."""
    asked = request.args.get("days", "")
    days = int(asked) if asked in {str(each) for each in service.ECONOMY_DAYS} else _DAYS
    economy = service.get_economy(days=days)
    chosen = next((each for each in economy.assets if each.asset.code == request.args.get("asset")), None)
    if chosen is None and economy.assets:
        chosen = economy.assets[0]
    asset = {} if chosen is None else {"asset": chosen.asset.code}
    return {
        "economy": economy,
        "days": days,
        "days_choices": service.ECONOMY_DAYS,
        "chosen": chosen,
        "charts": _charts(chosen, days) if chosen is not None else [],
        "days_urls": _urls("days", asset | {"days": str(days)}),
        "movers_urls": _urls("movers", asset),
    }


def _urls(name: str, query: Mapping[str, str]) -> list[str]:
    return [f"/console/{name}.{form}?{urlencode(query)}" for form in ("csv", "json")]


def _charts(own: AssetEconomy, days: int) -> list[Markup]:
    labels = [f"{each.day:%-d %b}" for each in own.days]
    moved = [
        Series("Issued", [each.sums.issued for each in own.days]),
        Series("Bonus", [each.sums.bonus for each in own.days]),
        Series("Spent", [each.sums.spent for each in own.days]),
    ]
    for name in ("adjusted", "expired", "exchanged"):
        values = [getattr(each.sums, name) for each in own.days]
        moved += [Series(name.capitalize(), values)] if any(values) else []
    scale, unit = own.asset.scale, own.asset.code
    outstanding = Series("Outstanding", [each.outstanding for each in own.days])
    return [
        charts.bar_chart(f"Issued and spent in {days} days", labels, moved, scale=scale, unit=unit),
        charts.line_chart("Outstanding at the end of each day", labels, [outstanding], scale=scale, unit=unit),
    ]


@screen("GET", f"/days.<{exports.FORMS}:form>", permission="reports:export")
def days_file(form: str) -> Response:
    """Send the days as a file, the oldest first; without an asset, of all assets."""
    return _file(form, "days", DAY_COLUMNS, _days)


@screen("GET", f"/movers.<{exports.FORMS}:form>", permission="reports:export")
def movers_file(form: str) -> Response:
    """Send the wallets that gained or lost most as a file; without an asset, of all assets."""
    return _file(form, "movers", MOVER_COLUMNS, _movers)


def _file(
    form: str,
    name: str,
    columns: Sequence[str],
    rows_of: Callable[[Economy, AssetEconomy], Iterator[tuple[object, ...]]],
) -> Response:
    asked = Asked("asset", "days")
    code = asked.choice("asset", sorted(service.asset_scales()))
    days = asked.choice("days", [str(each) for each in service.ECONOMY_DAYS]) or str(_DAYS)
    if asked.errors:
        return pages.page("bad_filter.html", 422, asked=asked, back="/console")
    economy = service.get_economy(days=int(days))
    rows = (row for own in economy.assets if code in {None, own.asset.code} for row in rows_of(economy, own))
    told = {name: value for name, value in asked.values.items() if value}
    return exports.export(form, name, columns, rows, filters=told)


def _days(economy: Economy, own: AssetEconomy) -> Iterator[tuple[object, ...]]:
    for each in own.days:
        sums = (getattr(each.sums, name) for name in _SUMS)
        yield (each.day, own.asset.code, own.asset.scale, each.outstanding, *sums, economy.late_since)


def _movers(economy: Economy, own: AssetEconomy) -> Iterator[tuple[object, ...]]:
    # Today's, and those of seven days: whatever the range of days is.
    for each in own.movers:
        who = (each.wallet_id, each.user_id, each.user_name)
        yield (economy.movers_at, own.asset.code, own.asset.scale, each.days, *who, each.net)
