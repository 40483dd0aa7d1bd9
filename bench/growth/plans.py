"""How PostgreSQL goes about the service's statements: the plans, and how large and how tidy the tables are."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text

from bench.cells import Stage
from bench.wallets import ORIGIN
from wallet_app import service
from wallet_app.db import db

_READS = ("SELECT", "WITH")

_TABLES = """
SELECT stats.relname AS name, stats.n_live_tup AS rows, stats.n_dead_tup AS dead,
       stats.n_tup_upd AS updates, stats.n_tup_hot_upd AS hot_updates, stats.autovacuum_count AS autovacuums,
       round(pg_table_size(stats.relid) / 1048576.0, 1) AS table_mib,
       round(pg_indexes_size(stats.relid) / 1048576.0, 1) AS indexes_mib
  FROM pg_stat_user_tables AS stats
 WHERE stats.schemaname = 'public' AND pg_table_size(stats.relid) > 1048576
 ORDER BY pg_total_relation_size(stats.relid) DESC
"""


def explain(stage: Stage, deep_wallet: int) -> str:
    """Return the plans of a balance, two pages and a posting, and the state of the tables. Needs the application.

    Reads are carried out, with their real times and pages; writes are only planned: theirs are in the cells.
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
    }
    parts = [_tables()]
    for title, call in calls.items():
        plans = [_plan(statement, parameters) for statement, parameters in _statements_of(call)]
        parts.append("\n\n".join([f"## {title}", *plans]))
    stage.posted_min += len(commands)
    stage.posted_max += len(commands)
    return "\n\n".join(parts)


def _statements_of(call: Callable[[], object]) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", listen)
    try:
        call()
    finally:
        event.remove(db.engine, "before_cursor_execute", listen)
    return seen


def _plan(statement: str, parameters: Any) -> str:
    """Return the plan; what locks or writes is not carried out a second time."""
    is_read = statement.strip().startswith(_READS) and "FOR UPDATE" not in statement and "advisory" not in statement
    options = "ANALYZE, BUFFERS" if is_read else "VERBOSE off"
    with db.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN ({options}) {statement}", parameters).scalars().all()
    return "\n".join([" ".join(statement.split())[:100] + " ...", *(f"    {row}" for row in rows)])


def _tables() -> str:
    with db.engine.connect() as connection:
        rows = connection.execute(text(_TABLES)).mappings().all()
    return "\n".join(["## Tables", *(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)])
