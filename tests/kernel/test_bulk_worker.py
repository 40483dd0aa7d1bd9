"""A run of 5,000 rows whose workers are killed, and lose their connections, again and again: each row is done once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.kernel.conftest import Books
from tests.kernel.operators import VISITOR
from tests.kernel.test_bulk_runs import approve, credit, crew, draft
from tests.kernel.test_expiry import wait_for, worker
from wallet_app import service
from wallet_app.db import close_connections

__all__ = ["crew"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 5_000
KILLS = 4


def test_each_row_is_posted_once_however_often_its_worker_is_killed(
    books: Books,
    crew: dict[str, service.Session],
    tmp_path: Path,
) -> None:
    wallets = books.make_wallets(500)
    text = credit([(f"r{n}", wallets[n % 500], 1) for n in range(ROWS)])
    run_id = draft(crew, text)
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)

    def settled() -> int:
        run = service.get_bulk_run(run_id)
        return run.done + run.refused

    def has_settled(more: int) -> bool:
        return settled() >= more or service.get_bulk_run(run_id).state != "running"

    for kill in range(KILLS):
        before = settled()
        with worker(books, tmp_path / "log") as process:
            wait_for(partial(has_settled, before + 1))
            if kill % 2:
                # It loses its connections, and not its life: what it was about to commit is done or it is not.
                books.sql(_CUT_OFF)
                wait_for(partial(has_settled, before + 300))
            process.kill()
            process.wait()
        # What was on its way in the database at the kill ends by itself.
        wait_for(lambda: not books.sql(_ON_ITS_WAY))
        assert books.sql(_MOVED)[0][0] == settled()
    assert service.get_bulk_run(run_id).state == "running", "a kill that comes after the end proves nothing"
    with worker(books, tmp_path / "log"):
        wait_for(lambda: service.get_bulk_run(run_id).state != "running")
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.refused) == ("completed", ROWS, 0)
    assert {books.balance(wallet) for wallet in wallets} == {ROWS // 500}
    close_connections()
    assert service.verify(full=True).broken() == set()


_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_ON_ITS_WAY = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""
_MOVED = """
SELECT CAST(coalesce(sum(amount), 0) AS bigint) FROM ledger_entries
 WHERE contra_wallet_id IN (SELECT wallets.id FROM wallets JOIN users ON users.id = user_id
                             WHERE users.name = 'Adjustments')
"""
