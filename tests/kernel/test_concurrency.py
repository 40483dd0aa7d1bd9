"""The books under real threads. Each promise has its control: the same load with its guard away, where it breaks."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.kernel.conftest import DOE, JOHN, ORIGIN, UNLOCKED, Books, outcome_of
from wallet_app import service
from wallet_app.db import close_connections
from wallet_app.errors import InsufficientBalanceError, ReferenceMismatchError
from wallet_app.service import loading, locks


@pytest.fixture(autouse=True)
def patient(broken_books: Books) -> None:
    """Let a wait last: 64 threads queue for one wallet, and on a busy machine the last one's turn comes late."""
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        broken_books.sql(f"ALTER DATABASE {broken_books.url.database} SET {name} = '60s'")


def find_deadlocks_soon(books: Books) -> None:
    """For controls that make them by the dozen: each would be waited for a second."""
    books.sql(f"ALTER DATABASE {books.url.database} SET deadlock_timeout = '20ms'")
    close_connections()


def spend_all(books: Books) -> list[service.Receipt | Exception]:
    """64 threads spend John's 500 by 5s, two each: 128 tries for what suffices for 100."""
    commands = [(books.spend(JOHN, 5), books.spend(JOHN, 5)) for _ in range(64)]
    works = [lambda pair=pair: [outcome_of(command, seconds_max=60) for command in pair] for pair in commands]
    return [outcome for outcomes in books.in_threads(works) for outcome in outcomes]


def test_64_threads_spend_a_wallet_down_to_exactly_nothing_and_no_refusal_is_too_early(books: Books) -> None:
    outcomes = spend_all(books)
    receipts = [outcome for outcome in outcomes if isinstance(outcome, service.Receipt)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, InsufficientBalanceError)]
    assert (len(receipts), len(refusals)) == (100, 28)
    assert books.balance(JOHN) == 0
    assert {refusal.details["balance"] for refusal in refusals} == {0}
    assert sorted(receipt.transaction.entries[0].balance_after for receipt in receipts) == list(range(0, 500, 5))


def test_control_without_the_row_lock_the_primary_key_of_the_ledger_still_refuses_a_double_spend(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT", UNLOCKED)
    outcomes = spend_all(books)
    assert any(isinstance(outcome, IntegrityError) for outcome in outcomes)


def test_control_without_lock_and_primary_key_money_is_spent_that_is_not_there(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT", UNLOCKED)
    broken_books.sql("ALTER TABLE ledger_entries DROP CONSTRAINT pk_ledger_entries")
    find_deadlocks_soon(broken_books)
    outcomes = spend_all(broken_books)
    receipts = [outcome for outcome in outcomes if isinstance(outcome, service.Receipt)]
    assert len(receipts) * 5 + broken_books.balance(JOHN) > 500
    assert {"a balance is not the sum of its entries", "seq has a gap, or a double"} <= broken_books.faults().keys()


def send_same_reference(books: Books) -> list[service.Receipt | Exception]:
    works = [lambda: outcome_of(books.top_up(JOHN, 7, "once"), seconds_max=60) for _ in range(50)]
    return books.in_threads(works)


def test_50_threads_with_the_same_reference_make_exactly_one_entry(books: Books) -> None:
    receipts = send_same_reference(books)
    assert [type(receipt) for receipt in receipts] == [service.Receipt] * 50
    assert sorted(receipt.is_replay for receipt in receipts) == [False] + [True] * 49
    assert len({receipt.transaction.transaction_id for receipt in receipts}) == 1
    assert {receipt.wallets[0].balance for receipt in receipts} == {507}
    assert (books.balance(JOHN), books.entries(JOHN), books.transactions("once")) == (507, 2, 1)


def test_control_without_the_reference_look_up_the_primary_key_still_refuses_the_second(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_known_transactions", lambda rows: {})
    outcomes = send_same_reference(books)
    assert sum(isinstance(outcome, IntegrityError) for outcome in outcomes) == 49
    assert books.entries(JOHN) == 2


def test_control_without_look_up_and_primary_key_the_same_reference_is_posted_again(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_known_transactions", lambda rows: {})
    broken_books.sql("ALTER TABLE transactions DROP CONSTRAINT pk_transactions")
    send_same_reference(broken_books)
    assert broken_books.entries(JOHN) == 51
    assert "a reference stands twice" in broken_books.faults()


def test_a_reference_that_comes_several_times_within_batches_is_posted_once(books: Books) -> None:
    def batch() -> list[Any]:
        return service.execute_batch(
            [
                books.top_up(JOHN, 1, "first"),
                books.top_up(JOHN, 1, "first"),
                books.bonus(JOHN, 1, "first"),
                books.spend(DOE, 2, "second"),
                books.top_up(JOHN, 1, "first"),
                books.spend(DOE, 2, "second"),
                books.top_up(DOE, 1, "first"),
            ],
            seconds_max=60,
        )

    answers = books.in_threads([batch] * 8)
    for outcomes in answers:
        assert isinstance(outcomes[2], ReferenceMismatchError)
        assert [one.is_replay for one in (outcomes[1], outcomes[4], outcomes[5])] == [True] * 3
    new = [one for outcomes in answers for one in outcomes if isinstance(one, service.Receipt) and not one.is_replay]
    assert sorted((one.transaction.wallet_id, one.transaction.reference) for one in new) == [
        (JOHN, "first"),
        (DOE, "first"),
        (DOE, "second"),
    ]
    assert (books.balance(JOHN), books.balance(DOE)) == (501, 299)


def post_in_all_orders(books: Books, wallet_ids: Sequence[int], *, batches: int) -> None:
    """8 threads post batches over the same wallets, each batch in an order of its own, with every kind of contra."""

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(batches):
            order = dice.sample(wallet_ids, len(wallet_ids))
            make = [dice.choice((books.top_up, books.bonus, books.spend)) for _ in order]
            commands = [build(wallet_id, 1) for build, wallet_id in zip(make, order, strict=True)]
            outcomes = service.execute_batch(commands, seconds_max=60)
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]

    books.in_threads([lambda seed=seed: work(seed) for seed in range(8)])


def deadlocks(books: Books) -> int:
    """Return the deadlocks of this database. A backend reports them at its end, so all of the service's have to end."""
    close_connections()
    with books.connect(autocommit=True) as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while connection.execute(others).fetchone() != (0,):
            time.sleep(0.02)
            connection.execute("SELECT pg_stat_clear_snapshot()")
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert row is not None
        return int(row[0])


def test_batches_over_the_same_wallets_in_opposite_orders_never_deadlock(books: Books) -> None:
    wallet_ids = books.make_wallets(12, balance=1000)
    post_in_all_orders(books, wallet_ids, batches=25)
    assert deadlocks(books) == 0


def test_control_when_each_posting_takes_its_locks_in_an_order_of_its_own_they_deadlock(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_hold_one = threading.Barrier(2)
    waited: set[int] = set()
    lock_wallets = locks.lock_wallets

    def lock_in_turn(connection: Connection, wallet_ids: Sequence[int], *, then: Any, **_: Any) -> locks.Locked:
        order = [JOHN, DOE] if threading.current_thread().name.endswith("_0") else [DOE, JOHN]
        first = lock_wallets(connection, order[:1])
        if (me := threading.get_ident()) not in waited:
            waited.add(me)
            both_hold_one.wait(30)
        others = lock_wallets(connection, order[1:], then=then)
        return others._replace(balances=first.balances + others.balances)

    monkeypatch.setattr(locks, "lock_wallets", lock_in_turn)
    transfers = [[books.top_up(JOHN, 1), books.spend(DOE, 1)], [books.top_up(DOE, 1), books.spend(JOHN, 1)]]
    answers = books.in_threads([lambda batch=batch: service.execute_batch(batch) for batch in transfers])
    # The victim is posted again, so that even then nothing is lost: but it cost a second.
    assert not [outcome for outcomes in answers for outcome in outcomes if isinstance(outcome, Exception)]
    assert deadlocks(books) >= 1


def meet_in_the_system_balances(books: Books, *, until_deadlock: bool) -> None:
    """8 threads post different wallets, which meet in Treasury and Revenue only, and there in opposite orders."""
    pairs = books.make_wallets(16, balance=1000)
    failed = threading.Event()

    def work(number: int) -> None:
        first, second = (books.top_up, books.spend) if number % 2 else (books.spend, books.top_up)
        for _ in range(40):
            if failed.is_set() and until_deadlock:
                return
            batch = [first(pairs[number], 1), second(pairs[number + 8], 2)]
            if any(isinstance(outcome, Exception) for outcome in service.execute_batch(batch, seconds_max=60)):
                failed.set()

    books.in_threads([lambda number=number: work(number) for number in range(8)])
    assert until_deadlock or not failed.is_set()


def test_postings_of_different_wallets_never_deadlock_on_the_system_balances(books: Books) -> None:
    meet_in_the_system_balances(books, until_deadlock=False)
    assert deadlocks(books) == 0


def test_control_slots_that_are_shared_deadlock_on_the_system_balances(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_wallets = locks.lock_wallets
    monkeypatch.setattr(locks, "lock_wallets", lambda *args, **options: lock_wallets(*args, **options)._replace(slot=0))
    find_deadlocks_soon(books)
    meet_in_the_system_balances(books, until_deadlock=True)
    assert deadlocks(books) >= 1


def test_16_threads_over_20_wallets_agree_with_plain_arithmetic(books: Books) -> None:
    """Whatever order the postings took, the books are those of that order, step by step, refusals included."""
    wallet_ids = books.make_wallets(20, balance=20)
    outcomes: dict[int, list[tuple[service.Movement, service.Receipt | Exception]]] = defaultdict(list)
    guard = threading.Lock()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(40):
            build = dice.choice((books.top_up, books.spend, books.spend))
            command = build(dice.choice(wallet_ids), dice.randint(1, 15))
            outcome = outcome_of(command, seconds_max=60)
            with guard:
                outcomes[command.wallet_id].append((command, outcome))

    books.in_threads([lambda seed=seed: work(seed) for seed in range(16)])
    for wallet_id in wallet_ids:
        assert_serial(outcomes[wallet_id], start=20, end=books.balance(wallet_id))


def assert_serial(
    outcomes: Sequence[tuple[service.Movement, service.Receipt | Exception]], *, start: int, end: int
) -> None:
    """One wallet's answers are those of doing them one after the other, in the order of their versions."""
    receipts = [(one.transaction.entries[0].seq, asked, one) for asked, one in outcomes if type(one) is service.Receipt]
    balance_at = {1: start}
    for seq, asked, receipt in sorted(receipts, key=lambda answer: answer[0]):
        signed = asked.amount if asked.kind == "TOPUP" else -asked.amount
        balance_at[seq] = balance_at[seq - 1] + signed
        assert receipt.transaction.entries[0].balance_after == balance_at[seq] >= 0
    assert balance_at[len(balance_at)] == end
    for asked, refusal in outcomes:
        if isinstance(refusal, Exception):
            assert isinstance(refusal, InsufficientBalanceError)
            assert refusal.details["balance"] == balance_at[refusal.details["version"]] < asked.amount


def test_the_clients_of_a_reference_are_told_apart_under_load(books: Books) -> None:
    """Of 20 clients that use one reference at once, one has it, and every other one is refused by name."""
    origins = [service.Origin(client=f"client-{n}", actor="tests") for n in range(20)]
    works = [lambda origin=origin: outcome_of(books.top_up(JOHN, 1, "mine", origin=origin)) for origin in origins]
    outcomes = books.in_threads(works)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, ReferenceMismatchError)]
    assert len(refusals) == 19
    assert all(refusal.details["fields"] == ["client"] for refusal in refusals)
    assert ORIGIN.client not in {origin.client for origin in origins}
