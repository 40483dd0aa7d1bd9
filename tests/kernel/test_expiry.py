"""The sweep of due holds and the worker that does it: late, twice at once, killed in the middle, against captures."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.kernel.conftest import DOE, JOHN, Books, outcome_of
from tests.kernel.test_failures import set_for_new_connections
from tests.kernel.test_holds import LONG, capture, hold_now, place, placed, release, state_of
from tests.keys import ENVIRONMENT
from wallet_app import service
from wallet_app.errors import HoldFinishedError
from wallet_app.service import expiry

pytestmark = pytest.mark.wide

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 60.0


def place_in(books: Books, wallets: list[int], amount: int, expires_in: int) -> list[service.Hold]:
    outcomes = service.execute_batch([place(books, wallet, amount, expires_in) for wallet in wallets])
    return [outcome.hold for outcome in outcomes if isinstance(outcome, service.Receipt) and outcome.hold]


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def wait_until_due(books: Books, *holds: service.Hold) -> None:
    last = max(hold.expires_at for hold in holds)
    wait_for(lambda: books.sql("SELECT clock_timestamp() >= %s", last)[0][0])


def open_holds(books: Books) -> int:
    found: int = books.sql("SELECT count(*) FROM holds WHERE ended_at IS NULL")[0][0]
    return found


def never() -> bool:
    return False


def test_a_sweep_settles_what_is_due_and_nothing_else(books: Books) -> None:
    wallets = books.make_wallets(250, balance=10)
    due = place_in(books, wallets, 4, 1)
    kept, done = placed(books, JOHN, 5), placed(books, DOE, 5, 4)
    service.execute(capture(done, 2, reference="part"))
    service.execute(release(done, "the rest"))
    wait_until_due(books, *due, done)
    assert expiry.expire_due(never) == 250
    assert open_holds(books) == 1
    assert {hold_now(hold).state for hold in due} == {"expired"}
    assert hold_now(kept).state == "open"
    assert expiry.expire_due(never) == 0
    assert state_of(books, wallets[0]) == (10, 0, 3)


def test_a_sweep_that_comes_late_changes_nothing_of_what_is_told(books: Books) -> None:
    due = placed(books, JOHN, 100, 1)
    wait_until_due(books, due)
    before = service.get_hold(due.hold_id).hold
    assert isinstance(outcome_of(capture(due, reference="too late")), HoldFinishedError)
    assert expiry.expire_due(never) == 0, "the capture that was refused has settled it"
    after = service.get_hold(due.hold_id).hold
    assert after._replace(changes=()) == before
    assert after.ended_at == due.expires_at


def test_a_sweep_waits_for_nobody(books: Books) -> None:
    first, second = placed(books, JOHN, 100, 1), placed(books, DOE, 100, 1)
    wait_until_due(books, first, second)
    with books.connect() as holder:
        holder.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        assert expiry.expire_due(never) == 1
        assert hold_now(second).changes
        assert not hold_now(first).changes
    assert expiry.expire_due(never) == 1


def test_a_sweep_that_is_told_to_stop_stops_at_a_page_s_end(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "PAGE_MAX", 10)
    due = place_in(books, books.make_wallets(35, balance=10), 4, 1)
    wait_until_due(books, *due)
    told = iter([False, False, True])
    assert expiry.expire_due(lambda: next(told)) == 20
    assert expiry.expire_due(never) == 15


def test_sweeps_at_once_settle_each_hold_once(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "PAGE_MAX", 7)
    due = place_in(books, books.make_wallets(100, balance=10), 4, 1)
    wait_until_due(books, *due)
    books.in_threads([partial(expiry.expire_due, never) for _ in range(8)])
    expiry.expire_due(never)
    assert open_holds(books) == 0
    ((expiries,),) = books.sql("SELECT count(*) FROM transactions WHERE kind = 'HOLD_EXPIRY'")
    assert expiries == 100


def test_of_a_capture_and_the_expiry_exactly_one_wins(books: Books) -> None:
    """200 captures around the very instant at which their holds expire, while two sweeps do nothing else."""
    for name in ("lock_timeout", "statement_timeout"):
        set_for_new_connections(books, name, "60s")
    wallets = books.make_wallets(200, balance=10)
    found = [hold for half in range(2) for hold in place_in(books, wallets[half::2], 10, 4 + half)]
    ended = threading.Event()

    def sweep() -> list[tuple[service.Hold, object]]:
        while not ended.is_set():
            expiry.expire_due(never)
        return []

    def capture_them(mine: list[service.Hold]) -> list[tuple[service.Hold, object]]:
        dice = random.Random(mine[0].wallet_id)
        outcomes: list[tuple[service.Hold, object]] = []
        for at, hold in sorted((hold.expires_at.timestamp() + dice.uniform(-0.4, 0.1), hold) for hold in mine):
            time.sleep(max(0.0, at - time.time()))
            outcomes.append((hold, outcome_of(capture(hold, reference="racing"))))
        waiting.remove(mine[0].wallet_id)
        if not waiting:
            ended.set()
        return outcomes

    shares = [found[n::8] for n in range(8)]
    waiting = [share[0].wallet_id for share in shares]
    works = [*(partial(capture_them, share) for share in shares), sweep, sweep]
    outcomes = [one for part in books.in_threads(works) for one in part]
    wait_until_due(books, *found)
    expiry.expire_due(never)
    assert len(outcomes) == 200
    wins: Counter[str] = Counter()
    for hold, outcome in outcomes:
        now = hold_now(hold)
        wins[now.state] += 1
        if isinstance(outcome, service.Receipt):
            assert (now.state, now.captured, now.expired) == ("captured", 10, 0)
            assert outcome.transaction.created_at < hold.expires_at
        else:
            assert isinstance(outcome, HoldFinishedError)
            assert (now.state, now.captured, now.expired) == ("expired", 0, 10)
        assert state_of(books, hold.wallet_id)[:2] == ((0, 0) if now.state == "captured" else (10, 0))
    assert set(wins) == {"captured", "expired"}, wins


# --- the worker, a process of its own ---


@contextmanager
def worker(books: Books, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    url = books.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WALLET_", "DATABASE_"))},
        "DATABASE_URL": url,
        **ENVIRONMENT,
    }
    command = [sys.executable, "-m", "flask", "--app", "wsgi:app", "wallet", "worker", *options]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_undone_or_done_twice(
    books: Books, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    wallets = books.make_wallets(1_000, balance=10)
    due = place_in(books, wallets[:500], 4, 1) + place_in(books, wallets[500:], 4, 1)
    wait_until_due(books, *due)
    with books.connect() as holder:
        # One that cannot be settled as long as the first worker lives: it is killed in the middle for certain.
        holder.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (wallets[-1],))
        with worker(books, log) as first:
            wait_for(lambda: open_holds(books) < 1_000)
            first.send_signal(signal.SIGKILL)
            first.wait(60)
            assert first.returncode == -signal.SIGKILL
    assert open_holds(books) > 0
    with worker(books, log):
        wait_for(lambda: open_holds(books) == 0)
    ((expiries,),) = books.sql("SELECT count(*) FROM transactions WHERE kind = 'HOLD_EXPIRY'")
    assert expiries == 1_000


def test_two_workers_at_once_and_a_signal_to_stop(books: Books, tmp_path: Path) -> None:
    log = tmp_path / "log"
    due = place_in(books, books.make_wallets(200, balance=10), 4, 2)
    kept = placed(books, JOHN, 5, LONG)
    service.create_operator(email="a@example.com", name="A", role="viewer", by=service.By(actor="tests"))
    with worker(books, log) as first, worker(books, log) as second:
        wait_for(lambda: open_holds(books) == 1)
        wait_for(lambda: len(service.list_heartbeats()) == 2)
        wait_for(lambda: books.sql("SELECT count(*) FROM audit_chain")[0][0] > 0)
        for process in (first, second):
            process.terminate()
        assert [process.wait(60) for process in (first, second)] == [0, 0]
    assert service.list_heartbeats() == [], "who ends in order is not looked for"
    assert hold_now(kept).state == "open"
    assert {hold_now(hold).state for hold in due} == {"expired"}
    assert "Traceback" not in log.read_text()
    assert '"event":"worker_stopped"' in log.read_text()


def test_a_worker_ends_with_the_program_that_started_it(books: Books, tmp_path: Path) -> None:
    """The shell in between ends at once, and so does the worker; without the option it would go on."""
    log = tmp_path / "log"
    url = books.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {**os.environ, "DATABASE_URL": url, **ENVIRONMENT}
    worker = shlex.join([sys.executable, "-m", "flask", "--app", "wsgi:app", "wallet", "worker"])
    command = f"{worker} --parent=$$ > {shlex.quote(str(log))} 2>&1 & echo $!; sleep 60"
    with subprocess.Popen(["/bin/sh", "-c", command], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            wait_for(service.list_heartbeats)
            shell.kill()
            shell.wait()
            wait_for(lambda: service.list_heartbeats() == [])
        finally:
            if Path(f"/proc/{pid}/cmdline").exists() and b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def test_a_worker_whose_parent_ended_before_it_had_started_ends_at_once(books: Books) -> None:
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()
    url = books.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "flask", "--app", "wsgi:app", "wallet", "worker", f"--parent={ended.pid}"]
    environment = {**os.environ, "DATABASE_URL": url, **ENVIRONMENT}
    worker = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=True)
    assert b'"event":"parent_ended"' in worker.stdout + worker.stderr
    assert service.list_heartbeats() == []


def test_a_worker_goes_on_when_the_database_was_away(books: Books, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker(books, log):
        wait_for(service.list_heartbeats)
        name = books.url.database
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        books.sql(cut, name)
        due = placed_again(books)
        wait_for(lambda: hold_now(due).changes)


def placed_again(books: Books) -> service.Hold:
    """Place a hold on connections of which the pool does not know yet that they are gone."""
    wait_for(lambda: isinstance(outcome_of(books.top_up(JOHN, 1)), service.Receipt))
    return placed(books, JOHN, 5, 1)
