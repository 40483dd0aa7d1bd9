"""Group commit: what the lanes promise, with real threads and foreign transactions that hold wallets."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from tests.conftest import run_sql
from tests.kernel.conftest import DOE, JOHN, Books, outcome_of, serve
from wallet_app import service
from wallet_app.db import close_connections, db
from wallet_app.errors import (
    InsufficientBalanceError,
    OutcomeUnknownError,
    OverloadedError,
    WalletBusyError,
)
from wallet_app.service import group_commit, posting


@pytest.fixture
def grouped(database: URL) -> Iterator[Books]:
    """The service with group commit, on a fresh database, whose books must be right when the test is over."""
    for books in serve(database, group_commit=True, pool_size=8):
        yield books
        assert books.faults() == {}


@pytest.fixture
def patient(database: URL) -> Iterator[Books]:
    """The same, where no wait for a lock runs out: for tests that let go in the end, on a machine however busy."""
    run_sql(database, f"ALTER DATABASE {database.database} SET lock_timeout = '60s'")
    run_sql(database, f"ALTER DATABASE {database.database} SET statement_timeout = '60s'")
    for books in serve(database, group_commit=True, pool_size=8):
        yield books
        assert books.faults() == {}


class Postings:
    """What the lanes have begun to post, as (lane, number of commands)."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def of(self, lane: str) -> list[int]:
        return [size for which, size in self.begun if which == lane]


@pytest.fixture(autouse=True)
def postings(monkeypatch: pytest.MonkeyPatch) -> Postings:
    postings, post = Postings(), group_commit.post_with_retries

    def told(engine: Engine, commands: Sequence[service.Command], *, lane: str, **options: Any) -> Any:
        postings.begun.append((lane, len(commands)))
        return post(engine, commands, lane=lane, **options)

    monkeypatch.setattr(group_commit, "post_with_retries", told)
    return postings


def lanes() -> group_commit.GroupCommit:
    return service.use_group_commit(db.engine)


@contextmanager
def held(books: Books, wallet_id: int) -> Iterator[Callable[[], None]]:
    """Hold the wallet's row in a foreign transaction; the value yielded lets it go."""
    with books.connect() as connection:
        connection.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (wallet_id,))
        yield connection.rollback


def eventually(condition: Callable[[], bool], seconds_max: float = 30) -> None:
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def in_background(books: Books, work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run the work in a thread; its result, or the exception it raises, ends up in the list."""
    results: list[object] = []
    app = books.app
    assert app is not None

    def run() -> None:
        with app.app_context():
            results.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_concurrent_commands_share_database_transactions_and_each_gets_its_own_answer(
    grouped: Books, postings: Postings
) -> None:
    works = [lambda: [outcome_of(grouped.spend(JOHN, 5)) for _ in range(4)] for _ in range(32)]
    outcomes = [outcome for answers in grouped.in_threads(works) for outcome in answers]
    receipts = [outcome for outcome in outcomes if isinstance(outcome, service.Receipt)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, InsufficientBalanceError)]
    assert (len(receipts), len(refusals)) == (100, 28)
    assert sorted(receipt.wallets[0].version for receipt in receipts) == list(range(2, 102))
    assert sum(postings.of("shared")) == 128
    assert len(postings.of("shared")) < 128
    assert max(postings.of("shared")) > 1


def test_a_wallet_that_a_foreign_transaction_holds_delays_nobody_else(patient: Books, postings: Postings) -> None:
    with held(patient, JOHN) as let_go:
        thread, answers = in_background(patient, lambda: outcome_of(patient.spend(JOHN, 5)))
        eventually(lambda: postings.of("waiting"))
        for _ in range(20):
            service.execute(patient.top_up(DOE, 1))
        assert not answers, "John's command waits, Doe's twenty are done"
        let_go()
        thread.join(30)
    assert isinstance(answers[0], service.Receipt)


def test_control_a_lane_that_waits_for_every_wallet_stops_everybody(
    patient: Books, monkeypatch: pytest.MonkeyPatch, postings: Postings
) -> None:
    post = posting.post
    monkeypatch.setattr(posting, "post", lambda *args, **options: post(*args, **{**options, "waits_for": None}))
    with held(patient, JOHN) as let_go:
        thread, _ = in_background(patient, lambda: outcome_of(patient.spend(JOHN, 5)))
        eventually(lambda: postings.of("shared"))
        other, answers = in_background(patient, lambda: outcome_of(patient.top_up(DOE, 1)))
        other.join(0.5)
        assert not answers
        let_go()
        thread.join(30)
        other.join(30)
    assert isinstance(answers[0], service.Receipt)


def test_a_wait_that_runs_out_is_told_to_its_own_command_alone(grouped: Books, postings: Postings) -> None:
    with held(grouped, JOHN):
        first, answers_of_first = in_background(grouped, lambda: outcome_of(grouped.spend(JOHN, 5)))
        eventually(lambda: postings.of("waiting"))
        with held(grouped, DOE) as let_doe_go:
            second, answers_of_second = in_background(grouped, lambda: outcome_of(grouped.spend(DOE, 5)))
            eventually(lambda: lanes().queued()[1] == 1)
            let_doe_go()
        first.join(30)
        second.join(30)
    assert isinstance(answers_of_first[0], WalletBusyError)
    assert isinstance(answers_of_second[0], service.Receipt)
    assert grouped.balance(JOHN) == 500


def test_a_held_wallet_does_not_starve_another_that_was_busy_for_a_moment(grouped: Books, postings: Postings) -> None:
    """Both are in the waiting lane; only the callers of the one that stays held are told that it is busy.

    The other one is posted as soon as the lane is free, before it waits for the held one again.
    """
    with held(grouped, JOHN):
        spends = [in_background(grouped, lambda: outcome_of(grouped.spend(JOHN, 5)))]
        eventually(lambda: bool(postings.of("waiting")))
        spends += [in_background(grouped, lambda: outcome_of(grouped.spend(JOHN, 5))) for _ in range(4)]
        eventually(lambda: lanes()._waiting_wallets[JOHN] == 5)
        with held(grouped, DOE) as let_doe_go:
            doe, answers_of_doe = in_background(grouped, lambda: outcome_of(grouped.spend(DOE, 5)))
            eventually(lambda: lanes()._waiting_wallets[DOE] == 1)
            let_doe_go()
        doe.join(30)
        assert isinstance(answers_of_doe[0], service.Receipt)
        assert sum(bool(answers) for _, answers in spends) == 1, "the four behind the first still wait"
        for thread, _ in spends:
            thread.join(30)
    assert {type(answers[0]) for _, answers in spends} == {WalletBusyError}
    assert grouped.balance(JOHN) == 500


def test_a_lane_goes_on_whatever_was_thrown_in_it(grouped: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended would not be started again, and every caller would wait in vain."""

    def end(*_: object, **__: object) -> None:
        raise SystemExit("of this thread")

    with monkeypatch.context() as patch:
        patch.setattr(group_commit, "post_with_retries", end)
        assert isinstance(outcome_of(grouped.top_up(JOHN, 1), seconds_max=2), OutcomeUnknownError)
    assert service.execute(grouped.top_up(JOHN, 1)).wallets[0].balance == 501


def test_commands_on_a_busy_wallet_are_posted_in_the_order_in_which_they_came(patient: Books) -> None:
    with held(patient, JOHN) as let_go:
        threads = []
        for amount in (1, 2, 3, 4, 5):
            threads.append(in_background(patient, lambda amount=amount: outcome_of(patient.top_up(JOHN, amount)))[0])
            eventually(lambda: lanes()._waiting_wallets[JOHN] == amount)  # noqa: B023
        let_go()
        for thread in threads:
            thread.join(30)
    amounts = patient.sql("SELECT amount FROM ledger_entries WHERE wallet_id = %s ORDER BY seq", JOHN)
    assert amounts == [(500,), (1,), (2,), (3,), (4,), (5,)]


def test_what_comes_while_a_lane_waits_for_a_wallet_is_posted_with_what_waited(
    patient: Books, postings: Postings
) -> None:
    def top_up(wallet_id: int, expected: int) -> threading.Thread:
        thread, _ = in_background(patient, lambda: outcome_of(patient.top_up(wallet_id, 1)))
        eventually(lambda: lanes()._waiting_wallets[wallet_id] == expected)
        return thread

    with held(patient, JOHN) as let_john_go, held(patient, DOE) as let_doe_go:
        first = top_up(JOHN, 1)
        eventually(lambda: postings.of("waiting"))
        second, does, third = top_up(JOHN, 2), top_up(DOE, 1), top_up(JOHN, 3)
        let_john_go()
        for thread in (first, second, third):
            thread.join(30)
        assert does.is_alive()
        let_doe_go()
        does.join(30)
    units = patient.sql("SELECT DISTINCT CAST(xmin AS text) FROM ledger_entries WHERE wallet_id = %s AND seq > 1", JOHN)
    assert len(units) == 1
    assert patient.sql("SELECT count(*) FROM ledger_entries WHERE wallet_id = %s", DOE) == [(2,)]


def test_what_the_shared_lane_has_not_come_to_yet_joins_the_others_of_its_wallet_in_order(
    patient: Books, monkeypatch: pytest.MonkeyPatch, postings: Postings
) -> None:
    post, has_halted, go_on = group_commit.post_with_retries, threading.Event(), threading.Event()

    def halting(engine: Engine, commands: Sequence[service.Command], *, lane: str, **options: Any) -> Any:
        if commands[0].wallet_ids() == (DOE,):
            has_halted.set()
            go_on.wait(30)
        return post(engine, commands, lane=lane, **options)

    def top_up(wallet_id: int, amount: int) -> threading.Thread:
        return in_background(patient, lambda: outcome_of(patient.top_up(wallet_id, amount)))[0]

    monkeypatch.setattr(group_commit, "post_with_retries", halting)
    with held(patient, JOHN) as let_go:
        johns = [top_up(JOHN, 1)]
        eventually(lambda: postings.of("waiting"))
        does = top_up(DOE, 1)
        assert has_halted.wait(30)
        for amount in (2, 3):
            johns.append(top_up(JOHN, amount))
            eventually(lambda: lanes().queued() == (len(johns) - 1, 0))
        late = patient.top_up(JOHN, 4)
        assert isinstance(outcome_of(late, seconds_max=0.2), WalletBusyError)
        let_go()
        for thread in johns:
            thread.join(30)
    assert does.is_alive()
    go_on.set()
    does.join(30)
    amounts = patient.sql("SELECT amount FROM ledger_entries WHERE wallet_id = %s ORDER BY seq", JOHN)
    assert amounts == [(500,), (1,), (2,), (3,)]
    assert patient.transactions(late.reference) == 0


def test_a_command_whose_time_runs_out_in_the_queue_is_withdrawn_and_never_posted(
    patient: Books, postings: Postings
) -> None:
    with held(patient, JOHN) as let_go:
        thread, _ = in_background(patient, lambda: outcome_of(patient.spend(JOHN, 5)))
        eventually(lambda: postings.of("waiting"))
        late = patient.spend(JOHN, 7)
        assert isinstance(outcome_of(late, seconds_max=0.2), WalletBusyError)
        let_go()
        thread.join(30)
    assert patient.transactions(late.reference) == 0
    assert isinstance(outcome_of(late), service.Receipt)


def test_a_command_whose_time_runs_out_while_it_is_posted_has_an_unknown_outcome(
    grouped: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    post = posting.post

    def slow(*args: object, **options: object) -> object:
        go_on.wait(30)
        return post(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(posting, "post", slow)
    command = grouped.spend(JOHN, 5)
    # Long enough for the lane to take it, on a machine however busy: otherwise it is withdrawn.
    assert isinstance(outcome_of(command, seconds_max=1.5), OutcomeUnknownError)
    go_on.set()
    eventually(lambda: grouped.transactions(command.reference) == 1)
    assert service.execute(command).is_replay


def test_a_full_queue_refuses_at_once_and_grows_no_further(
    patient: Books, monkeypatch: pytest.MonkeyPatch, postings: Postings
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_MAX", 3)
    with held(patient, JOHN) as let_go:
        threads = []
        for n in range(4):
            threads.append(in_background(patient, lambda: outcome_of(patient.spend(JOHN, 5)))[0])
            eventually(lambda: lanes()._waiting_wallets[JOHN] > n and bool(postings.of("waiting")))  # noqa: B023
        assert isinstance(outcome_of(patient.top_up(DOE, 1)), OverloadedError)
        let_go()
        for thread in threads:
            thread.join(30)
    assert patient.balance(JOHN) == 480
    assert service.execute(patient.top_up(DOE, 1)).wallets[0].balance == 301


def test_a_fault_in_a_lane_is_answered_and_the_lane_goes_on(grouped: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(group_commit, "post_with_retries", lambda *args, **options: 1 / 0)
        assert isinstance(outcome_of(grouped.top_up(JOHN, 1)), ZeroDivisionError)
    assert service.execute(grouped.top_up(JOHN, 1)).wallets[0].balance == 501


def test_a_poisoned_command_fails_alone_among_those_that_share_its_transaction(
    patient: Books, postings: Postings
) -> None:
    with held(patient, JOHN) as let_go:
        threads = [in_background(patient, lambda: outcome_of(patient.top_up(JOHN, 1)))]
        eventually(lambda: postings.of("waiting"))
        for note in ("fine", "a NUL \x00 in it", "fine too"):
            before = lanes()._waiting_wallets[JOHN]
            threads.append(in_background(patient, lambda note=note: outcome_of(patient.top_up(JOHN, 1, note=note))))
            eventually(lambda: lanes()._waiting_wallets[JOHN] > before)  # noqa: B023
        let_go()
        for thread, _ in threads:
            thread.join(30)
    kinds = [isinstance(answers[0], service.Receipt) for _, answers in threads]
    assert kinds == [True, True, False, True]
    assert patient.balance(JOHN) == 503


def test_a_forked_process_has_lanes_of_its_own(grouped: Books) -> None:
    """A server that preloads forks after the application was made, and may have posted by then."""
    service.execute(grouped.top_up(JOHN, 1))
    close_connections()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: service.execute(grouped.top_up(JOHN, 2, "from-the-child")))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert service.execute(grouped.top_up(JOHN, 4)).wallets[0].balance == 507


def test_it_can_be_turned_off(books: Books) -> None:
    before = set(threading.enumerate())
    service.execute(books.top_up(JOHN, 1))
    assert set(threading.enumerate()) <= before
