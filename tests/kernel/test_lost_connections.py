"""The wire to PostgreSQL is cut before COMMIT, after it, while it is in flight, and at the first statement.

Whatever happens, one reference makes one entry; and what the caller is told is never wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.kernel import wire
from tests.kernel.conftest import DOE, JOHN, UNLOCKED, Books, outcome_of, serve
from tests.kernel.wire import AnswerLost, BeforeSent, InFlight, Silence, Terminated, Wire
from wallet_app import patience, service
from wallet_app.db import close_connections, db
from wallet_app.errors import DatabaseUnavailableError, OutcomeUnknownError
from wallet_app.service import attempts, execution, loading, locks, posting

pytestmark = pytest.mark.wide


@pytest.fixture
def cable(database: URL) -> Iterator[Wire]:
    with Wire(database) as cable:
        yield cable


@pytest.fixture(params=[False, True], ids=["alone", "grouped"])
def broken_far_books(cable: Wire, database: URL, request: pytest.FixtureRequest) -> Iterator[Books]:
    """A service at the other end of the wire, with a connection already open; its books may come to harm."""
    for books in serve(cable.url, pool_size=8, group_commit=request.param):
        service.get_wallet(JOHN)
        yield Books(books.app, database)


@pytest.fixture
def far_books(broken_far_books: Books) -> Iterator[Books]:
    """A service at the other end of the wire, whose books must be right when the test is over."""
    yield broken_far_books
    assert broken_far_books.faults() == {}


def assert_posted_once(books: Books, reference: str = "once", *, balance: int = 507) -> None:
    assert (books.transactions(reference), books.entries(JOHN), books.balance(JOHN)) == (1, 2, balance)


def assert_repeats(books: Books) -> None:
    """The caller's own retry finds what was posted, and posts nothing again."""
    assert service.execute(books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(books)


def test_cut_before_commit_is_sent_the_command_is_posted_by_the_repetition(far_books: Books, cable: Wire) -> None:
    cable.arm(BeforeSent(wire.commit))
    receipt = service.execute(far_books.top_up(JOHN, 7, "once"))
    assert not receipt.is_replay
    assert_posted_once(far_books)
    assert_repeats(far_books)


@pytest.mark.parametrize(
    ("harm", "moment"), [(BeforeSent, wire.lock), (AnswerLost, wire.lock), (BeforeSent, wire.write)]
)
def test_cut_on_the_way_to_commit_the_command_is_posted_by_the_repetition(
    far_books: Books, cable: Wire, harm: Any, moment: Any
) -> None:
    cable.arm(harm(moment))
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(far_books)


def test_a_connection_that_ends_with_a_pipeline_goes_without_a_word(
    far_books: Books, cable: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Told the reason where its pipeline ends, and not closed yet: open, but it cannot roll back any more."""
    cable.arm(Terminated(wire.end_of(wire.lock)))
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy")] == []
    assert_posted_once(far_books)


def test_cut_before_the_answer_to_commit_the_repetition_finds_it_posted(far_books: Books, cable: Wire) -> None:
    cable.arm(AnswerLost(wire.commit))
    receipt = service.execute(far_books.top_up(JOHN, 7, "once"))
    assert receipt.is_replay
    assert receipt.wallets[0].balance == 507
    assert_posted_once(far_books)
    assert_repeats(far_books)


def test_cut_while_commit_is_in_flight_the_repetition_waits_for_it_under_the_lock(
    far_books: Books, cable: Wire
) -> None:
    found: list[int] = []

    def look_up() -> None:
        found.append(far_books.transactions("once"))

    fault = cable.arm(InFlight(wire.commit, seconds=0.5, meanwhile=look_up))
    receipt = service.execute(far_books.top_up(JOHN, 7, "once"))
    assert fault.over.wait(30)
    assert receipt.is_replay
    assert found == [0], "a bare look-up would have told the caller that nothing was posted"
    assert_posted_once(far_books)
    assert_repeats(far_books)


def test_a_commit_in_flight_for_longer_than_a_lock_may_wait_is_still_waited_for(far_books: Books, cable: Wire) -> None:
    far_books.sql(f"ALTER DATABASE {far_books.url.database} SET lock_timeout = '200ms'")
    cable.arm(InFlight(wire.commit, seconds=1))
    assert service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(far_books)


def test_a_commit_in_flight_at_the_deadline_is_answered_as_unknown_and_found_later(
    far_books: Books, cable: Wire
) -> None:
    far_books.sql(f"ALTER DATABASE {far_books.url.database} SET lock_timeout = '100ms'")
    # It is let go when the caller was told, and before the database ends who idles in a transaction for five seconds.
    was_told = threading.Event()
    fault = cable.arm(InFlight(wire.commit, seconds=0, meanwhile=lambda: was_told.wait(4)))
    with pytest.raises(OutcomeUnknownError):
        service.execute(far_books.top_up(JOHN, 7, "once"), seconds_max=1)
    assert not fault.over.is_set()
    was_told.set()
    assert fault.over.wait(30)
    assert_repeats(far_books)


def test_a_commit_in_doubt_waits_for_no_wallet_that_it_never_had(cable: Wire, far_books: Books) -> None:
    """A batch of a lane, of which one command was deferred: the doubt is about the other alone."""
    with far_books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (DOE,))
        cable.arm(AnswerLost(wire.commit))
        outcomes = attempts.post_with_retries(
            db.engine,
            [far_books.top_up(JOHN, 7, "once"), far_books.top_up(DOE, 1)],
            deadline=time.monotonic() + 10,
            waits_for=(),
        )
    assert isinstance(outcomes[0], service.Receipt)
    assert outcomes[0].is_replay
    assert outcomes[1] is posting.Deferred.DEFERRED
    assert_posted_once(far_books)


@pytest.mark.parametrize("harm", [BeforeSent, AnswerLost])
def test_when_the_database_stays_away_after_a_lost_commit_the_outcome_is_unknown(
    far_books: Books, cable: Wire, harm: type[wire.Fault]
) -> None:
    cable.arm(harm(wire.commit, blackout=True))
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknownError):
        service.execute(far_books.top_up(JOHN, 7, "once"), seconds_max=1)
    assert 1 <= time.monotonic() - begun < 6, "and not the ten seconds that others have"
    cable.up()
    replay = service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    # Alone, one that was never committed is new; a lane's last attempt may still post it just before the repetition.
    assert replay == (harm is AnswerLost) or (harm is BeforeSent and db.engine in execution._lanes)
    assert_posted_once(far_books)


@pytest.mark.parametrize("harm", [BeforeSent, AnswerLost])
@pytest.mark.parametrize("execute", [service.execute_each, service.execute_atomic])
def test_a_batch_whose_commit_is_in_doubt_is_repeated_under_the_locks(
    cable: Wire, far_books: Books, harm: type[wire.Fault], execute: Callable[[list[service.Command]], list[Any]]
) -> None:
    cable.arm(harm(wire.commit))
    commands = [far_books.top_up(JOHN, 7, "once"), far_books.spend(DOE, 300), far_books.spend(JOHN, 507)]
    receipts = execute(commands)
    assert [receipt.is_replay for receipt in receipts] == [harm is AnswerLost] * 3
    assert (far_books.balance(JOHN), far_books.balance(DOE)) == (0, 0)
    assert far_books.transactions("once") == 1


@pytest.mark.parametrize("execute", [service.execute_each, service.execute_atomic])
def test_a_batch_whose_commit_is_in_flight_for_longer_than_a_lock_may_wait_is_not_told_busy(
    far_books: Books, cable: Wire, execute: Callable[[list[service.Command]], list[Any]]
) -> None:
    far_books.sql(f"ALTER DATABASE {far_books.url.database} SET lock_timeout = '200ms'")
    cable.arm(InFlight(wire.commit, seconds=1))
    receipts = execute([far_books.top_up(JOHN, 7, "once"), far_books.spend(DOE, 300)])
    assert [receipt.is_replay for receipt in receipts] == [True, True]
    assert_posted_once(far_books)


def test_cut_at_the_first_statement_the_command_is_simply_done_again(far_books: Books, cable: Wire) -> None:
    cable.arm(AnswerLost(wire.lock))
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(far_books)


def test_cut_at_every_first_statement_the_answer_is_that_nothing_was_posted(far_books: Books, cable: Wire) -> None:
    fault = cable.arm(BeforeSent(wire.lock, times=100))
    with pytest.raises(DatabaseUnavailableError):
        service.execute(far_books.top_up(JOHN, 7, "once"))
    assert fault.times == 97, "one attempt and two repetitions"
    fault.times = 0
    assert far_books.transactions("once") == 0
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay


def test_a_database_that_is_away_is_told_from_a_lost_commit(far_books: Books, cable: Wire) -> None:
    cable.down()
    with pytest.raises(DatabaseUnavailableError):
        service.execute(far_books.top_up(JOHN, 7, "once"))
    cable.up()
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(far_books)


def test_a_backend_that_was_ended_while_idle_costs_the_caller_nothing(far_books: Books) -> None:
    far_books.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert_posted_once(far_books)


def test_a_batch_whose_commit_is_lost_is_answered_command_by_command(far_books: Books, cable: Wire) -> None:
    cable.arm(AnswerLost(wire.commit))
    new, replay, refused = service.execute_batch(
        [far_books.top_up(JOHN, 7, "once"), far_books.top_up(JOHN, 7, "once"), far_books.spend(JOHN, 9999, "more")]
    )
    assert new.is_replay
    assert replay.is_replay
    assert refused.code == "insufficient_balance"
    assert_posted_once(far_books)


def test_16_threads_lose_commits_and_every_command_is_posted_exactly_once(far_books: Books, cable: Wire) -> None:
    cable.arm(BeforeSent(wire.commit, times=4))
    cable.arm(AnswerLost(wire.commit, times=4))
    works = [lambda: outcome_of(far_books.spend(JOHN, 1), seconds_max=60) for _ in range(64)]
    receipts = [receipt for n in range(4) for receipt in far_books.in_threads(works[n * 16 : n * 16 + 16])]
    assert [type(receipt) for receipt in receipts] == [service.Receipt] * 64
    assert (far_books.balance(JOHN), far_books.entries(JOHN)) == (436, 65)


def test_a_commit_that_is_never_answered_is_unknown_at_the_deadline(far_books: Books, cable: Wire) -> None:
    """The lane waits for longer than the caller does."""
    service.use_group_commit(db.engine)
    cable.arm(Silence(wire.commit))
    outcomes: list[object] = []

    def spend() -> None:
        with far_books.app.app_context():
            outcomes.append(outcome_of(far_books.spend(JOHN, 1), seconds_max=1))

    caller = threading.Thread(target=spend)
    caller.start()
    caller.join(4)
    was_answered = not caller.is_alive()
    cable.down()
    cable.up()
    caller.join()
    assert was_answered
    assert isinstance(outcomes[0], OutcomeUnknownError)


@pytest.mark.parametrize("moment", [wire.lock, wire.commit])
def test_a_lane_gives_up_an_answer_that_is_overdue_and_goes_on(
    far_books: Books, cable: Wire, monkeypatch: pytest.MonkeyPatch, moment: Any
) -> None:
    """The connection stands and nobody answers, as with a backend that is stopped: nobody cuts the wire here."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.3)
    far_books.sql(f"ALTER DATABASE {far_books.url.database} SET statement_timeout = '1s'")
    close_connections()
    service.use_group_commit(db.engine)
    cable.arm(Silence(moment))
    begun = time.monotonic()
    assert not service.execute(far_books.top_up(JOHN, 7, "once")).is_replay
    assert 1.3 < time.monotonic() - begun < 8
    assert_repeats(far_books)
    assert not service.execute(far_books.top_up(DOE, 7)).is_replay


def test_control_repeating_without_the_reference_look_up_would_post_twice(
    broken_far_books: Books, cable: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_known_transactions", lambda rows: {})
    broken_far_books.sql("ALTER TABLE transactions DROP CONSTRAINT pk_transactions")
    cable.arm(AnswerLost(wire.commit))
    service.execute(broken_far_books.top_up(JOHN, 7, "once"))
    assert broken_far_books.balance(JOHN) == 514


def test_control_a_bare_look_up_after_a_lost_commit_tells_the_caller_that_nothing_was_posted(
    broken_far_books: Books, cable: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking the reference up without the wallet's lock is what the repetition must not be."""
    fault = cable.arm(InFlight(wire.commit, seconds=0.5))
    monkeypatch.setattr(locks, "_WAIT", UNLOCKED)
    outcome = outcome_of(broken_far_books.top_up(JOHN, 7, "once"))
    # Unlocked, it decides that the reference is free; only the primary key makes it wait, and then refuses it.
    assert isinstance(outcome, OutcomeUnknownError)
    assert fault.over.wait(30)
    assert broken_far_books.transactions("once") == 1
