"""A database whose clock can be moved on: for all that asks it, postings, reads and sweeps alike."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import text

from tests.conftest import run_sql
from wallet_app.db import close_connections, db

STEP_SECONDS = 900
"""The clock moves by whole steps, and what ends does so after such: the seconds that a test takes decide nothing.

A quarter of an hour: wherever the hours of a day begin, that is where a step does, after `wait_for`.
"""

_CLOCK = (
    "CREATE SCHEMA moved",
    "CREATE TABLE moved.clock (steps bigint NOT NULL, ahead interval NOT NULL)",
    "INSERT INTO moved.clock VALUES (0, interval '0')",
    f"""CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
        SELECT pg_catalog.clock_timestamp() + ahead + steps * interval '{STEP_SECONDS} seconds' FROM moved.clock $$""",
    """CREATE FUNCTION moved.move(by bigint) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
        UPDATE moved.clock SET steps = steps + by $$""",
    """CREATE FUNCTION moved.wait_for(hour int) RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
        UPDATE moved.clock SET ahead = ahead + next - now + interval '1 second'
          FROM (SELECT now, date_bin('1 day', now, timestamptz '2000-01-01 00:00Z' + hour * interval '1 hour')
                            + interval '1 day' AS next
                  FROM (SELECT moved.clock_timestamp() AS now) AS clock) AS waited
        RETURNING next $$""",
    "GRANT USAGE ON SCHEMA moved TO PUBLIC",
    "GRANT SELECT ON moved.clock TO PUBLIC",
)


def make_movable() -> None:
    """Let the clock of the current application's database be moved."""
    url = db.engine.url
    owner = url.set(drivername="postgresql")
    run_sql(owner, *_CLOCK, f"ALTER DATABASE {url.database} SET search_path = moved, pg_catalog, public")
    close_connections()


def move(steps: int) -> None:
    """Let so many steps of time pass."""
    with db.engine.begin() as connection:
        connection.execute(text("SELECT moved.move(:steps)"), {"steps": steps})


def steps_so_far() -> int:
    """Return by how many steps the clock was moved."""
    with db.engine.begin() as connection:
        steps: int = connection.execute(text("SELECT steps FROM moved.clock")).scalar_one()
        return steps


def wait_for(hour: int) -> dt.datetime:
    """Let time pass until it is this hour, UTC, and return when it began: as the next steps do, on the quarter."""
    with db.engine.begin() as connection:
        begun: dt.datetime = connection.execute(text("SELECT moved.wait_for(:hour)"), {"hour": hour}).scalar_one()
        return begun.astimezone(dt.UTC)
