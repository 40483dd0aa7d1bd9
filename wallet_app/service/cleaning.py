"""Removes what is over: sessions, challenges and counts of attempts that nobody will ask for again."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.orm import InstrumentedAttribute

from wallet_app.models_console import PasskeyChallenge, Session, SignInAttempt
from wallet_app.service import locks, sessions, throttle

ROWS_MAX = 500
"""Rows of each kind that go at once: somebody is waiting for the sign-in that cleans."""


def clean(connection: Connection) -> None:
    """Remove some of what is over, in the caller's unit of work. What others are using is left, and nobody waits."""
    now = func.clock_timestamp()
    _clean(connection, Session.id_hash, Session.began_at < now - dt.timedelta(seconds=sessions.SECONDS_MAX))
    _clean(connection, PasskeyChallenge.challenge_hash, PasskeyChallenge.expires_at < now)
    _clean(connection, SignInAttempt.bucket, SignInAttempt.last_at < now - throttle.FORGOTTEN_AFTER)


def _clean(connection: Connection, key: InstrumentedAttribute[bytes], is_over: ColumnElement[bool]) -> None:
    found = locks.lock_free_rows(connection, select(key).where(is_over).limit(ROWS_MAX))
    if found:
        connection.execute(delete(key.class_).where(key.in_(found)))
