"""Bulk work: each command answered on its own, or all of them together or not at all; and it is in nobody's way."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError

from tests.kernel.conftest import DOE, JOHN, Books, outcome_of
from tests.kernel.test_failures import add_trigger, set_for_new_connections
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import InsufficientBalanceError, OverloadedError, WalletBusyError, WalletNotFoundError
from wallet_app.service import bulk, rules

NO_WALLET = 999_999


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks of three commands: their edges are then everywhere."""
    monkeypatch.setattr(bulk, "CHUNK_MAX", 3)
    return 3


def kinds(outcomes: list[Any]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def wait_long(books: Books) -> None:
    """For tests that let go in the end: no wait for a lock runs out, on a machine however busy."""
    for name in ("lock_timeout", "statement_timeout"):
        set_for_new_connections(books, name, "60s")


def stands(books: Books) -> list[tuple[Any, ...]]:
    """Return everything that a posting writes, as it stands."""
    tables = ("transactions", "transaction_details", "ledger_entries", "wallet_balances", "system_balances")
    return [(table, *row) for table in tables for row in books.sql(f"SELECT * FROM {table} ORDER BY 1, 2, 3")]


# --- each on its own ---


def test_each_command_is_answered_as_if_alone_and_sees_what_came_before_it(books: Books, small_chunks: int) -> None:
    again = books.top_up(JOHN, 5, "twice")
    commands = [
        books.spend(JOHN, 501),
        books.top_up(JOHN, 1),
        books.spend(JOHN, 501),
        again,
        again,
        books.top_up(NO_WALLET, 1),
        books.spend(JOHN, 5),
        books.spend(JOHN, 1),
    ]
    outcomes = service.execute_each(commands)
    receipt, refused = service.Receipt, InsufficientBalanceError
    assert kinds(outcomes) == [refused, receipt, receipt, receipt, receipt, WalletNotFoundError, receipt, refused]
    assert [outcome.is_replay for outcome in outcomes if isinstance(outcome, service.Receipt)] == [
        *(False, False, False, True, False)
    ]
    assert books.balance(JOHN) == 0


def test_no_commands_have_no_outcomes(books: Books) -> None:
    assert service.execute_each([]) == []
    assert service.execute_atomic([]) == []


def test_each_chunk_is_a_unit_of_work(books: Books, small_chunks: int) -> None:
    commits: list[Connection] = []
    event.listen(db.engine, "commit", commits.append)
    service.execute_each([books.top_up(JOHN, 1) for _ in range(2 * small_chunks + 1)])
    assert len(commits) == 3


def test_a_wallet_that_another_holds_makes_only_its_own_commands_busy(books: Books, small_chunks: int) -> None:
    set_for_new_connections(books, "lock_timeout", "200ms")
    commands = [books.top_up(wallet, 1) for wallet in (DOE, JOHN, DOE, JOHN, JOHN, DOE)]
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        outcomes = service.execute_each(commands)
    receipt, busy = service.Receipt, WalletBusyError
    assert kinds(outcomes) == [receipt, busy, receipt, busy, busy, receipt]
    assert (books.balance(JOHN), books.balance(DOE)) == (500, 303)


def test_a_wallet_that_is_held_for_a_moment_is_waited_for_and_its_order_kept(books: Books) -> None:
    wait_long(books)
    commands = [books.spend(JOHN, 500), books.top_up(DOE, 1), books.spend(JOHN, 1), books.top_up(JOHN, 1)]
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        threading.Timer(0.3, other.rollback).start()
        outcomes = service.execute_each(commands)
    assert kinds(outcomes) == [service.Receipt, service.Receipt, InsufficientBalanceError, service.Receipt]


def test_a_wallet_that_is_held_for_a_moment_does_not_pay_for_one_that_is_held_for_long(books: Books) -> None:
    set_for_new_connections(books, "lock_timeout", "1s")
    with books.connect() as long, books.connect() as short:
        long.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        short.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (DOE,))
        threading.Timer(0.1, short.rollback).start()
        outcomes = service.execute_each([books.top_up(JOHN, 1), books.top_up(DOE, 1)])
    assert kinds(outcomes) == [WalletBusyError, service.Receipt]


def test_what_has_not_had_its_turn_in_time_is_busy_and_not_posted(books: Books, small_chunks: int) -> None:
    set_for_new_connections(books, "lock_timeout", "400ms")
    commands = [books.top_up(JOHN, 1), *(books.top_up(DOE, 1) for _ in range(small_chunks))]
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        outcomes = service.execute_each(commands, seconds_max=0.2)
    receipt, busy = service.Receipt, WalletBusyError
    assert kinds(outcomes) == [busy, receipt, busy, busy], "the last two are the second chunk"
    assert books.balance(DOE) == 301


def test_a_command_that_cannot_be_written_fails_alone(books: Books, small_chunks: int) -> None:
    add_trigger(books, "IF NEW.amount = 13 THEN RAISE unique_violation; END IF;")
    outcomes = service.execute_each([books.top_up(JOHN, amount) for amount in (1, 13, 2, 3)])
    assert kinds(outcomes) == [service.Receipt, IntegrityError, service.Receipt, service.Receipt]
    assert books.balance(JOHN) == 506


# --- all or nothing ---


def test_all_are_posted_in_one_unit_of_work(books: Books) -> None:
    commits: list[Connection] = []
    event.listen(db.engine, "commit", commits.append)
    receipts = service.execute_atomic([books.top_up(JOHN, 1), books.spend(JOHN, 501), books.top_up(DOE, 2)])
    assert [receipt.wallets[0].balance for receipt in receipts] == [501, 0, 302]
    assert len(commits) == 1


def test_refused_at_the_last_of_a_thousand_nothing_has_happened(books: Books) -> None:
    before = stands(books)
    commands = [books.top_up(DOE, 1, note="note") for _ in range(service.BATCH_MAX - 1)]
    with pytest.raises(service.BatchRefusedError) as refused:
        service.execute_atomic([*commands, books.spend(JOHN, 501)])
    assert (refused.value.index, type(refused.value.error)) == (service.BATCH_MAX - 1, InsufficientBalanceError)
    assert stands(books) == before
    receipts = service.execute_atomic([*commands, books.spend(JOHN, 500)])
    assert not any(receipt.is_replay for receipt in receipts), "no reference was burnt"


def test_the_first_that_is_refused_is_named(books: Books) -> None:
    commands = [books.top_up(JOHN, 1), books.spend(JOHN, 502), books.top_up(NO_WALLET, 1)]
    with pytest.raises(service.BatchRefusedError) as refused:
        service.execute_atomic(commands)
    assert refused.value.index == 1


def test_what_was_posted_before_counts_as_done(books: Books) -> None:
    commands = [books.spend(JOHN, 300), books.spend(JOHN, 200)]
    service.execute(commands[0])
    assert [receipt.is_replay for receipt in service.execute_atomic(commands)] == [True, False]
    assert [receipt.is_replay for receipt in service.execute_atomic(commands)] == [True, True]
    assert books.balance(JOHN) == 0


def test_a_fault_of_a_rule_refuses_all(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.RULES, service.Bonus, lambda books, command: 1 / 0)
    before = stands(books)
    with pytest.raises(service.BatchRefusedError) as refused:
        service.execute_atomic([books.top_up(JOHN, 1), books.bonus(JOHN, 1)])
    assert (refused.value.index, type(refused.value.error)) == (1, ZeroDivisionError)
    assert stands(books) == before


def test_a_command_that_cannot_be_written_fails_all(books: Books) -> None:
    add_trigger(books, "IF NEW.amount = 13 THEN RAISE unique_violation; END IF;")
    before = stands(books)
    with pytest.raises(IntegrityError):
        service.execute_atomic([books.top_up(JOHN, amount) for amount in (1, 13, 2)])
    assert stands(books) == before


def test_an_atomic_batch_waits_for_its_wallets_or_is_busy_as_a_whole(books: Books) -> None:
    set_for_new_connections(books, "lock_timeout", "200ms")
    before = stands(books)
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        with pytest.raises(WalletBusyError):
            service.execute_atomic([books.top_up(DOE, 1), books.top_up(JOHN, 1)])
    assert stands(books) == before


def test_a_missing_balance_row_is_made(books: Books) -> None:
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", JOHN)
    receipts = service.execute_atomic([books.spend(JOHN, 500), books.top_up(DOE, 1)])
    assert receipts[0].wallets[0].balance == 0


# --- with others ---


@pytest.mark.parametrize("execute", [service.execute_each, service.execute_atomic])
def test_batches_over_the_same_wallets_in_opposite_orders_do_not_deadlock(
    books: Books, execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_turns", threading.BoundedSemaphore(4))
    conflicts: list[object] = []
    monkeypatch.setattr("wallet_app.service.attempts.log.error", lambda *args, **more: conflicts.append(args))
    made = books.make_wallets(40)

    def work(wallets: list[int]) -> int:
        done = 0
        for _ in range(8):
            outcomes = execute([books.top_up(wallet, 1) for wallet in wallets])
            done += sum(isinstance(outcome, service.Receipt) for outcome in outcomes)
        return done

    orders = [made, made[::-1], made, made[::-1]]
    assert books.in_threads([lambda order=order: work(order) for order in orders]) == [8 * 40] * 4
    assert conflicts == []


def test_only_so_many_run_at_once_and_the_next_waits_for_its_turn_or_is_told(books: Books) -> None:
    for _ in range(bulk.RUNS_MAX):
        assert bulk._turns.acquire(blocking=False)
    try:
        for execute in (service.execute_each, service.execute_atomic):
            with pytest.raises(OverloadedError):
                execute([books.top_up(JOHN, 1)], seconds_max=0.1)
        threading.Timer(0.2, bulk._turns.release).start()
        assert kinds(service.execute_each([books.top_up(JOHN, 1)])) == [service.Receipt]
    finally:
        for _ in range(bulk.RUNS_MAX - 1):
            bulk._turns.release()
    assert books.balance(JOHN) == 501


def test_single_commands_go_on_while_bulk_work_waits(books: Books) -> None:
    """John's wallet is free again while the batch waits for Doe's: of the two it is the one that is locked first."""
    wait_long(books)
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (DOE,))
        batch = [books.top_up(JOHN, 1), books.top_up(DOE, 1)]

        def release_after_the_single() -> service.Receipt | Exception:
            try:
                wait_until_waiting(books)
                return outcome_of(books.top_up(JOHN, 1), seconds_max=30)
            finally:
                other.rollback()

        outcomes, single = books.in_threads(
            [lambda: service.execute_each(batch, seconds_max=60), release_after_the_single]
        )
    assert isinstance(single, service.Receipt)
    assert kinds(outcomes) == [service.Receipt, service.Receipt]


def wait_until_waiting(books: Books) -> None:
    """Return once a session of the database waits for a row."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 30
    while books.sql(waiting)[0][0] == 0:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)
