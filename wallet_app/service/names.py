"""Names as they are searched for: what was made before there was such a column, the worker fills in."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select, text

from wallet_app.db import unit_of_work
from wallet_app.models import User
from wallet_app.service import locks
from wallet_app.text import folded

ROWS_MAX = 1_000
"""How many users one unit of work changes."""


def fold_names(should_stop: Callable[[], bool]) -> int:
    """Fill in the folded names that are missing; return how many. Any number may do it at once."""
    done = 0
    while not should_stop():
        with unit_of_work() as connection:
            missing = select(User.id).where(User.name_folded.is_(None)).order_by(User.id).limit(ROWS_MAX)
            ids = locks.lock_free_rows(connection, missing)
            names = connection.execute(select(User.id, User.name).where(User.id.in_(ids))).all() if ids else []
            values = {"ids": [row.id for row in names], "names": [folded(row.name) for row in names]}
            if names:
                connection.execute(_FILL, values)
        done += len(names)
        if len(names) < ROWS_MAX:
            break
    return done


_FILL = text("""
UPDATE users SET name_folded = given.name
  FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[])) AS given (id, name)
 WHERE users.id = given.id
""")
