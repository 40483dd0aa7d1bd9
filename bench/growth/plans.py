"""How PostgreSQL goes about the service's statements: the plans, and how large and how tidy the tables are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from sqlalchemy import event, text

from bench.cells import Stage
from bench.database import Database
from bench.wallets import ORIGIN
from wallet_app import service
from wallet_app.db import close_connections, db

_TABLES = """
SELECT stats.relname AS name, stats.n_live_tup AS rows, stats.n_dead_tup AS dead,
       stats.n_tup_upd AS updates, stats.n_tup_hot_upd AS hot_updates, stats.autovacuum_count AS autovacuums,
       round(pg_table_size(stats.relid) / 1048576.0, 1) AS table_mib,
       round(pg_indexes_size(stats.relid) / 1048576.0, 1) AS indexes_mib
  FROM pg_stat_user_tables AS stats
 WHERE stats.schemaname = 'public' AND pg_table_size(stats.relid) > 1048576
 ORDER BY pg_total_relation_size(stats.relid) DESC
"""
# PostgreSQL itself tells the plan that each statement really had, as a notice to whoever sent it.
_TELLING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_triggers": "on",
    "auto_explain.log_level": "notice",
    "client_min_messages": "notice",
}


def explain(stage: Stage, deep_wallet: int) -> str:
    """Return the plans of a balance, two pages and a posting, and the state of the tables. Needs the application.

    What goes by COPY has no plan.
    """
    deep = service.get_wallet(deep_wallet).version
    commands = [
        service.TopUp(wallet_id=wallet_id, reference=f"{stage.tag()}-plan", origin=ORIGIN, amount=1)
        for wallet_id in random.sample(stage.wallet_ids, 256)
    ]
    calls: dict[str, Callable[[], object]] = {
        "A wallet with its balance": lambda: service.get_wallet(stage.wallet_ids[-1]),
        "The deep wallet's first page": lambda: service.list_entries(deep_wallet, before_seq=None, limit=50),
        "A page in its middle": lambda: service.list_entries(deep_wallet, before_seq=deep // 2, limit=50),
        "A posting of 256 top-ups": lambda: service.execute_batch(commands),
        "An incremental verification": service.verify,
    }
    parts = [_tables()]
    with _plans_told(stage.database) as told:
        for title, call in calls.items():
            told.clear()
            call()
            parts.append("\n\n".join([f"## {title}", *told.texts()]))
    return "\n\n".join(parts)


class _Told:
    """The plans of the statements since the last `clear`: of a statement that comes again, the first one."""

    def __init__(self) -> None:
        self._plans: dict[str, list[str]] = {}

    def add(self, plan: str) -> None:
        """Keep a plan as auto_explain words it: the duration in the first line, then the statement, then the plan."""
        duration, _, rest = plan.partition("\n")
        statement = rest.partition("\nQuery Parameters:")[0].partition("  (cost=")[0]
        self._plans.setdefault(statement, []).append(f"{duration}\n{rest}")

    def clear(self) -> None:
        """Forget what was told."""
        self._plans.clear()

    def texts(self) -> list[str]:
        """Return each statement's plan, shortened by what is endless in it: arrays of parameters."""
        return [
            (f"{len(plans)} times, the first:\n" if len(plans) > 1 else "")
            + "\n".join(line[:240] for line in plans[0].splitlines() if line.strip())
            for plans in self._plans.values()
        ]


@contextmanager
def _plans_told(database: Database) -> Iterator[_Told]:
    """Yield what the plan of each statement of this process is added to, where we may ask for it."""
    told = _Told()

    def listen(connection: Any, _: Any) -> None:
        connection.add_notice_handler(lambda notice: told.add(notice.message_primary or ""))

    if not database.is_superuser():
        told.add("Left out: only a superuser may have plans told.")
        yield told
        return
    _alter(database, [sql.SQL("SET {} = {}").format(sql.SQL(name), sql.Literal(to)) for name, to in _TELLING.items()])
    for engine in db.engines.values():
        event.listen(engine, "connect", listen)
    close_connections()
    try:
        yield told
    finally:
        for engine in db.engines.values():
            event.remove(engine, "connect", listen)
        close_connections()
        _alter(database, [sql.SQL("RESET {}").format(sql.SQL(name)) for name in _TELLING])


def _alter(database: Database, changes: list[sql.Composed]) -> None:
    with database.connect(admin=True) as connection:
        connection.execute("LOAD 'auto_explain'")
        for change in changes:
            connection.execute(sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(database.name), change))


def _tables() -> str:
    with db.engine.connect() as connection:
        rows = connection.execute(text(_TABLES)).mappings().all()
    return "\n".join(["## Tables", *(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)])
