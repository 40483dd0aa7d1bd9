"""Every part that pages are made of, in every state, on one page: to be looked at whenever one of them changes."""

from __future__ import annotations

import datetime as dt

from flask import Response

from wallet_app.console import charts, pages
from wallet_app.console.charts import Series
from wallet_app.console.screens import screen
from wallet_app.service import AssetView

_GOLD = AssetView(0, "GOLD", "Gold", 0)
_POINTS = AssetView(0, "POINTS", "Points", 2)


@screen("GET", "/patterns", permission="account:own")
def patterns() -> Response:
    """Show it; nothing on it is anybody's."""
    now = dt.datetime.now(dt.UTC)
    days = [f"{now - dt.timedelta(days=back):%-d %b}" for back in range(6, -1, -1)]
    issued = Series("Issued", (120_000, 90_500, 0, 210_000, 180_000, 95_000, 130_000))
    spent = Series("Spent", (-80_000, -60_000, -12_000, -150_000, None, -90_000, -70_000))
    return pages.page(
        "patterns.html",
        gold=_GOLD,
        points=_POINTS,
        instants=(now, now - dt.timedelta(hours=5), now + dt.timedelta(days=3)),
        bars=charts.bar_chart("Movements by day", days, (issued, spent), scale=2, unit="POINTS"),
        line=charts.line_chart(
            "Balance over time",
            days,
            (Series("Balance", (0, 5_000, 4_200, 9_000, 8_100, 12_345, 11_000)),),
            places=(0, 0.1, 0.3, 0.35, 0.6, 0.8, 1),
            is_step=True,
            unit="GOLD",
        ),
        nothing=charts.line_chart("Nothing yet", (), (Series("Balance", ()),)),
        before={"Balance": "1,200 GOLD", "Held": "0 GOLD"},
        after={"Balance": "1,700 GOLD", "Held": "0 GOLD"},
    )
