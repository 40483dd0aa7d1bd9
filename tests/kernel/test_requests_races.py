"""Requests under races, kills and cut wires: decided once, carried out once, and told so."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import current_app
from sqlalchemy.engine import URL

from tests.conftest import settings_for
from tests.kernel import wire
from tests.kernel.conftest import JOHN, Books, serve
from tests.kernel.operators import NAMES, VISITOR, adjustment, make_operator, sign_in
from tests.kernel.processes import in_processes, in_threads
from tests.kernel.test_failures import set_for_new_connections
from tests.kernel.test_requests import Office, let_them_expire, office, refusal
from tests.kernel.wire import AnswerLost, BeforeSent, InFlight, Terminated, Wire
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import OutcomeUnknownError, RequestDecidedError, WalletBusyError, WalletServiceError
from wallet_app.service import locks

assert office


def outcome_of(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except WalletServiceError as refused:
        return refused


def race(office: Office, request_id: int, seen: str, *, rivals: Any) -> list[Any]:
    """Let the rivals go at the same moment; return what each was answered."""
    works = {
        "approve": lambda: office.approve(request_id, seen=seen, although_moving=True),
        "approve too": lambda: office.approve(request_id, by="second", seen=seen, although_moving=True),
        "reject": lambda: office.reject(request_id, by="second"),
        "withdraw": lambda: office.withdraw(request_id),
    }
    return office.books.in_threads([lambda work=works[one]: outcome_of(work) for one in rivals])


def race_many(office: Office, count: int) -> Counter[str]:
    """Race two rivals for each of many requests; return how often each decision was the one."""
    draw = random.Random(7)
    pairs = [("approve", "approve too"), ("approve", "withdraw"), ("approve", "reject"), ("reject", "withdraw")]
    decided: Counter[str] = Counter()
    service.set_day_bound(service.DayBoundView(None, 0, 0), by=service.By(actor="tests"))
    for n in range(count):
        request_id = office.ask(adjustment(JOHN, n + 1))
        seen, entries = office.seen(request_id), office.books.entries(JOHN)
        answers = race(office, request_id, seen, rivals=draw.sample(draw.choice(pairs), 2))
        won = [one for one in answers if not isinstance(one, Exception)]
        lost = [one for one in answers if isinstance(one, Exception)]
        status = office.status(request_id)
        assert ([len(won), len(lost)], type(lost[0])) == ([1, 1], RequestDecidedError), answers
        assert lost[0].details["request_status"] == status
        assert office.books.entries(JOHN) - entries == (status == "approved")
        decided[status] += 1
    return decided


def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(office: Office) -> None:
    decided = race_many(office, 30)
    assert set(decided) == {"approved", "rejected", "withdrawn"}
    assert office.books.sql("SELECT sum(counted) FROM operator_postings") == office.books.sql(
        "SELECT sum(amount) FROM ledger_entries WHERE entry_type = 'ADJUSTMENT'"
    )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_500_races_are_decided_once_each(office: Office) -> None:
    assert set(race_many(office, 500)) == {"approved", "rejected", "withdrawn"}


def test_a_request_expires_while_its_approver_waits(office: Office) -> None:
    """The clock is read under the lock: whoever waited past the end is too late."""
    for name in ("lock_timeout", "statement_timeout"):
        set_for_new_connections(office.books, name, "60s")
    request_id = office.ask(adjustment(JOHN, 2_000))
    seen = office.seen(request_id)
    with office.books.connect() as other:
        other.execute("SELECT FROM approval_requests WHERE id = %s FOR UPDATE", (request_id,))
        answers: list[Any] = []

        def approve() -> None:
            with office.books.app.app_context():  # type: ignore[union-attr]
                answers.append(outcome_of(lambda: office.approve(request_id, seen=seen)))

        approver = threading.Thread(target=approve)
        approver.start()
        wait_until_waiting(office)
        # The approver's unit of work has begun, and is not too late before this moment.
        other.execute("SET LOCAL session_replication_role = replica")
        other.execute("UPDATE approval_requests SET expires_at = clock_timestamp() + interval '0.2 seconds'")
        while other.execute("SELECT expires_at > clock_timestamp() FROM approval_requests").fetchone() == (True,):
            threading.Event().wait(0.02)
        other.commit()
        approver.join(30)
    (answer,) = answers
    assert isinstance(answer, RequestDecidedError)
    assert (answer.details["request_status"], office.status(request_id)) == ("expired", "expired")
    assert office.books.balance(JOHN) == 500


def wait_until_waiting(office: Office) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(2_000):
        if office.books.sql(waiting)[0][0]:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


def adjust_at_once(session: service.Session, wallets: Sequence[int]) -> list[str]:
    """Adjust each of the wallets by 10, all at the same moment, and return what came of each."""

    def adjust(wallet_id: int) -> str:
        form_key = service.new_form_key()
        for _ in range(20):
            with suppress(WalletBusyError):
                done = service.carry_out(session, adjustment(wallet_id, 10), form_key=form_key, visitor=VISITOR)
                return type(done).__name__
        return "busy"

    app = current_app._get_current_object()  # type: ignore[attr-defined]
    return in_threads(app, [partial(adjust, wallet_id) for wallet_id in wallets])


@pytest.mark.wide
def test_what_an_operator_moves_in_a_day_is_exact_with_two_processes(office: Office) -> None:
    """Eight at once in each of two services on the database; the day's bound has room for ten of the sixteen."""
    service.set_day_bound(service.DayBoundView(None, 100, 2_000), by=service.By(actor="tests"))
    wallets = office.books.make_wallets(16)
    settings = replace(settings_for(office.books.url), pool_size=10, pool_seconds_max=20)
    works = [partial(adjust_at_once, office.of["maker"], some) for some in (wallets[:8], wallets[8:])]
    answers = in_processes(settings, works)
    assert Counter(answers) == {"Posted": 10, "Asked": 6}
    assert sum(office.books.balance(wallet) for wallet in wallets) == 100
    assert office.books.sql("SELECT sum(counted) FROM operator_postings") == [(100,)]


def test_control_without_the_operators_lock_the_days_bound_does_not_hold(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen wallets at once: each posting sees the totals as they were before all others."""
    for name, role in NAMES.items():
        make_operator(name, role)
    office = Office(broken_books, {name: sign_in(name) for name in NAMES})
    service.set_day_bound(service.DayBoundView(None, 100, 2_000), by=service.By(actor="tests"))
    wallets = broken_books.make_wallets(16)
    # They wait for one another with their units of work open.
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        set_for_new_connections(broken_books, name, "60s")
    gate, real = threading.Barrier(16), locks.lock_wallets

    def meet(*arguments: Any, **options: Any) -> Any:
        locked = real(*arguments, **options)
        gate.wait(30)
        return locked

    maker = lock_operators_now(office)

    monkeypatch.setattr(locks, "lock_operators", lambda *_: maker)
    monkeypatch.setattr(locks, "lock_wallets", meet)
    results = broken_books.in_threads([lambda to=to: office.do(adjustment(to, 10)) for to in wallets])
    assert sum(isinstance(one, service.Posted) for one in results) > 10, "as many as the day's bound lets through"
    assert service.verify(full=True).broken() == {"alone"}


def lock_operators_now(office: Office) -> dict[int, locks.LockedOperator]:
    with unit_of_work() as connection:
        return locks.lock_operators(connection, [office.of["maker"].operator_id])


# --- the wire ---


@pytest.fixture
def far_office(database: URL) -> Iterator[tuple[Office, Wire]]:
    """Operators at the other end of a wire that can be cut."""
    with Wire(database) as cable:
        for books in serve(cable.url, pool_size=8):
            for name, role in NAMES.items():
                make_operator(name, role)
            near = Books(books.app, database)
            yield Office(near, {name: sign_in(name) for name in NAMES}), cable
            assert near.faults() == {}
            assert service.verify(full=True).broken() == set()


HARMS = [
    (BeforeSent(wire.commit), False),
    (AnswerLost(wire.commit), True),
    (InFlight(wire.commit, seconds=0.5), True),
    (AnswerLost(wire.lock), False),
    (Terminated(wire.end_of(wire.lock)), False),
]
"""Where the wire is cut, and whether what was sent was carried out."""


@pytest.mark.wide
@pytest.mark.parametrize(("harm", "was_done"), HARMS)
def test_a_cut_wire_carries_out_a_request_once_and_says_so(
    far_office: tuple[Office, Wire], harm: wire.Fault, was_done: bool
) -> None:
    office, cable = far_office
    request_id = office.ask(adjustment(JOHN, 2_000))
    seen = office.seen(request_id)
    cable.arm(harm)
    posted = office.approve(request_id, seen=seen)
    assert harm.over.is_set() or harm.times == 0
    assert (office.status(request_id), office.books.balance(JOHN), office.books.entries(JOHN)) == ("approved", 2_500, 2)
    assert posted.is_replay is was_done
    assert len(office.audited("approval:approve")) == 1
    assert office.totals() == [(JOHN, 2_000, 2_000, request_id)]

    cable.arm(AnswerLost(wire.commit))
    key = service.new_form_key()
    assert isinstance(office.do(adjustment(JOHN, 7), form_key=key), service.Posted)
    assert office.do(adjustment(JOHN, 7), form_key=key).is_replay
    assert office.books.balance(JOHN) == 2_507


@pytest.mark.wide
def test_a_killed_backend_leaves_a_request_undecided_or_carried_out_and_never_half(
    far_office: tuple[Office, Wire],
) -> None:
    office, cable = far_office
    request_id = office.ask(adjustment(JOHN, 2_000))
    seen = office.seen(request_id)
    cable.arm(BeforeSent(wire.commit, blackout=True))
    timer = threading.Timer(1.0, cable.up)
    timer.start()
    posted = outcome_of(lambda: office.approve(request_id, seen=seen))
    timer.join()
    assert isinstance(posted, service.Posted | OutcomeUnknownError)
    again = office.approve(request_id, seen=seen)
    assert again.is_replay is isinstance(posted, service.Posted)
    assert (office.status(request_id), office.books.balance(JOHN)) == ("approved", 2_500)
    assert office.totals() == [(JOHN, 2_000, 2_000, request_id)]


def asking_commits() -> wire.Moment:
    """The COMMIT of a unit of work that keeps a request; a plain one, because nothing is posted with it."""
    asking: set[wire.Session] = set()

    def is_commit(session: wire.Session, message: bytes) -> bool:
        if b"INSERT INTO approval_requests" in message:
            asking.add(session)
        return session in asking and message[:1] == b"Q" and b"COMMIT" in message

    return is_commit


@pytest.mark.wide
@pytest.mark.parametrize(("harm", "was_done"), [(BeforeSent, False), (AnswerLost, True)])
def test_an_asking_that_nobody_confirmed_asks_once(
    far_office: tuple[Office, Wire], harm: type[wire.Fault], was_done: bool
) -> None:
    office, cable = far_office
    fault = cable.arm(harm(asking_commits()))
    key = service.new_form_key()
    asked = office.do(adjustment(JOHN, 2_000), form_key=key)
    assert (fault.times, asked.is_replay) == (0, was_done)
    assert office.do(adjustment(JOHN, 2_000), form_key=key).request == asked.request
    assert len(office.audited("adjustment:ask")) == 1


def test_a_form_that_asks_asks_once_however_often_it_comes(office: Office) -> None:
    key = service.new_form_key()
    results = office.books.in_threads([lambda: office.do(adjustment(JOHN, 2_000), form_key=key)] * 6)
    assert sorted(one.is_replay for one in results) == [False] + [True] * 5
    let_them_expire(office)
    late = office.do(adjustment(JOHN, 2_000), form_key=key)
    assert (late.is_replay, late.request.status) == (True, "expired")
    refusal(RequestDecidedError, lambda: office.withdraw(late.request.request_id))
