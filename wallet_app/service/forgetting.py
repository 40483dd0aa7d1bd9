"""Forgets what wallets spent when that cannot count any more: no window of a limit reaches so far back."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from wallet_app.db import unit_of_work

HOURS = 48
"""How long what was spent is kept. A window reaches back 26 hours, also where a clock was set."""

_ROWS_MAX = 1_000


def forget_spending(should_stop: Callable[[], bool]) -> int:
    """Remove what is too old; return of how many hours. No posting looks at these rows, so nobody waits."""
    forgotten = 0
    while not should_stop():
        with unit_of_work() as connection:
            found = connection.execute(_FORGET, {"hours": HOURS, "rows": _ROWS_MAX}).rowcount
        forgotten += found
        if found < _ROWS_MAX:
            break
    return forgotten


OVER = f"spend_buckets WHERE hour < clock_timestamp() - interval '{HOURS} hours'"

_FORGET = text("""
WITH old AS (
    SELECT wallet_id, hour FROM spend_buckets WHERE hour < clock_timestamp() - make_interval(hours => :hours)
     ORDER BY hour, wallet_id LIMIT :rows
)
DELETE FROM spend_buckets USING old WHERE spend_buckets.wallet_id = old.wallet_id AND spend_buckets.hour = old.hour
""")
