"""What the drill must find: an acknowledgement that never was, a client that doubles, a server that is not durable.

A control that finds nothing means that the drill itself is broken.
"""

from __future__ import annotations

import secrets
import time
import uuid
from pathlib import Path

from drill import checks, kills, ledger, replays
from drill.asking import OK, ask, connect
from drill.checks import Findings
from drill.journal import Journal, Told, Wanted
from drill.stage import Stage, open_stage

ATTEMPTS_MAX = 8


def retry_under_a_new_reference(stage: Stage) -> list[str]:
    """Double a top-up as a client does that repeats with a new reference; return what is found.

    By the count of what it wanted, and by the arithmetic of what the wallet then has. The stage is settled.
    """
    wallet_id = min(stage.balances_before)
    journal = Journal(stage.folder / "naive.journal")
    for answer_is_lost in (True, False):
        wanted = Wanted("topup", wallet_id, 7, f"naive-{secrets.token_hex(8)}")
        journal.intend(1, "single", [wanted], time.time())
        told = ask(connect(stage.service.port), "single", [wanted]).told
        journal.hear(1, [] if answer_is_lost else told, "TimeoutError" if answer_is_lost else None, time.time())
    found = _look(stage).doubled
    expected = checks.expected_balances(stage.known, stage.ledger, stage.balances_before)[wallet_id]
    balance = replays.balances(stage.service.port, [wallet_id])[wallet_id]
    return [*found, f"wallet {wallet_id} has {balance}, not {expected}"] if found and balance != expected else []


def claim_what_never_happened(stage: Stage) -> list[str]:
    """Write an acknowledgement into a journal that nobody gave; return what is found. The stage is settled."""
    wallet_id, version = min(stage.balances_before), 1_000_000_000
    wanted = Wanted("topup", wallet_id, 1, f"claimed-{secrets.token_hex(8)}")
    body = {
        "idempotent": False,
        "transactionId": str(uuid.uuid4()),
        "amount": wanted.amount,
        "seq": version,
        "version": version,
        "balance": wanted.amount,
        "balanceAfter": wanted.amount,
    }
    journal = Journal(stage.folder / "liar.journal")
    journal.intend(1, "single", [wanted], time.time())
    journal.hear(1, [Told(0, OK, body)], None, time.time())
    return _look(stage).lost


def lose_what_was_not_flushed(parent: Path, *, seed: int) -> list[str]:
    """Kill all of a PostgreSQL that acknowledges before it writes; return what is found to be lost.

    It loses what only its memory holds, and now and then that is nothing.
    """
    with open_stage(parent, seed=seed) as stage:
        with ledger.connect_as_superuser(stage.service.data_dir) as connection:
            for statement in _CARELESS:
                connection.execute(statement)
        stage.press(seed=seed)
        for _ in range(ATTEMPTS_MAX):
            stage.wait_for_load()
            time.sleep(1)
            kills.kill_all_of_postgresql(stage.service)
            stage.service.wait_until_up()
            if lost := stage.look().lost:
                return lost
    return []


def _look(stage: Stage) -> Findings:
    stage.known.read_new()
    stage.ledger.read_new()
    return checks.find_all(stage.known, stage.ledger)


# What the database says of itself wins over the command line, on which PostgreSQL is told to be durable.
_CARELESS = (
    "ALTER DATABASE wallet SET synchronous_commit = off",
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
    "SELECT pg_reload_conf()",
)
