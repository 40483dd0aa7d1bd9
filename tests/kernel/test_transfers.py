"""Transfers on PostgreSQL: both sides or neither, under real threads, and what `verify` says of them."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, Books, outcome_of
from tests.kernel.test_concurrency import deadlocks, find_deadlocks_soon
from wallet_app import service
from wallet_app.errors import InsufficientBalanceError, ReferenceMismatchError
from wallet_app.service import locks
from wallet_app.service.preview import previewing


@pytest.fixture(autouse=True)
def patient(broken_books: Books) -> None:
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        broken_books.sql(f"ALTER DATABASE {broken_books.url.database} SET {name} = '60s'")


def transfer(books: Books, source: int, target: int, amount: int, reference: str | None = None, **more: Any) -> Any:
    return books.command(service.Transfer, source, amount, reference, to_wallet_id=target, **more)


def rings(books: Books, *, until_deadlock: bool = False) -> tuple[list[int], int]:
    """16 threads pass credit around a ring of 8 wallets, in both directions; return the wallets and the refusals."""
    ring = books.make_wallets(8, balance=50)
    gate, refused = threading.Lock(), 0
    failed = threading.Event()

    def work(seed: int) -> None:
        nonlocal refused
        dice = random.Random(seed)
        for _ in range(25):
            if failed.is_set() and until_deadlock:
                return
            at, step = dice.randrange(8), 1 if seed % 2 else -1
            command = transfer(
                books, ring[at], ring[(at + step) % 8], dice.randint(1, 40), is_up_to=dice.random() < 0.3
            )
            outcome = outcome_of(command, seconds_max=60)
            if isinstance(outcome, service.Receipt):
                continue
            failed.set()
            assert isinstance(outcome, InsufficientBalanceError) or until_deadlock
            with gate:
                refused += 1

    books.in_threads([lambda seed=seed: work(seed) for seed in range(16)])
    return ring, refused


def test_16_threads_of_transfers_in_rings_conserve_the_money_and_never_deadlock(books: Books) -> None:
    ring, refused = rings(books)
    assert sum(books.balance(wallet_id) for wallet_id in ring) == 8 * 50
    moved = books.sql("SELECT count(*) FROM transactions WHERE kind = 'TRANSFER'")[0][0]
    assert moved + refused == 16 * 25
    assert refused > 0
    assert deadlocks(books) == 0
    assert service.verify(full=True).is_clean


def test_control_transfers_that_lock_each_side_by_itself_deadlock(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the command and not of the ids: `from`, then `to`."""
    lock_wallets = locks.lock_wallets
    both_hold_one = threading.Barrier(2)
    waited: set[int] = set()

    def one_by_one(connection: Connection, wallet_ids: Sequence[int], **options: Any) -> locks.Locked:
        order = [JOHN, DOE] if threading.current_thread().name.endswith("_0") else [DOE, JOHN]
        first = lock_wallets(connection, order[:1])
        if (me := threading.get_ident()) not in waited:
            waited.add(me)
            both_hold_one.wait(30)
        return locks.Locked(first.balances + lock_wallets(connection, order[1:]).balances, first.slot)

    find_deadlocks_soon(broken_books)
    monkeypatch.setattr(locks, "lock_wallets", one_by_one)
    commands = [transfer(broken_books, JOHN, DOE, 1), transfer(broken_books, DOE, JOHN, 1)]
    broken_books.in_threads([lambda command=command: outcome_of(command) for command in commands])
    assert deadlocks(broken_books) >= 1


def test_two_genuine_identical_transfers_are_both_made_and_one_reference_once(books: Books) -> None:
    outcomes = books.in_threads(
        [lambda name=name: service.execute(transfer(books, JOHN, DOE, 7, name)) for name in ("a", "b", "a", "b") * 4]
    )
    assert sum(not outcome.is_replay for outcome in outcomes) == 2
    assert len({outcome.transaction.transaction_id for outcome in outcomes}) == 2
    assert (books.balance(JOHN), books.balance(DOE)) == (486, 314)


def test_up_to_tells_the_same_amount_again_whatever_is_there_by_then(books: Books) -> None:
    command = transfer(books, JOHN, DOE, 1000, "sweep", is_up_to=True)
    assert service.execute(command).transaction.entries[1].amount == 500
    service.execute(books.top_up(JOHN, 3))
    again = service.execute(command)
    assert (again.is_replay, again.transaction.entries[1].amount) == (True, 500)
    assert [one.balance for one in again.wallets] == [3, 800]


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        ({"amount": 8}, ["amount"]),
        ({"to_wallet_id": JOHN_DIAMOND}, ["to"]),
        ({"is_up_to": True}, ["upTo", "amount"]),
    ],
)
def test_another_transfer_under_the_reference_is_refused_by_what_differs(
    books: Books, other: dict[str, Any], fields: list[str]
) -> None:
    asked: dict[str, Any] = {"to_wallet_id": DOE, "amount": 7}
    first = books.command(service.Transfer, JOHN, reference="once", **asked)
    service.execute(first)
    outcome = outcome_of(books.command(service.Transfer, JOHN, reference="once", **(asked | other)))
    assert isinstance(outcome, ReferenceMismatchError)
    assert outcome.details["fields"] == fields


def test_a_movement_under_a_transfers_reference_is_refused_and_the_other_way_round(books: Books) -> None:
    service.execute(transfer(books, JOHN, DOE, 7, "a"))
    service.execute(books.spend(JOHN, 7, "b"))
    for command in (books.spend(JOHN, 7, "a"), transfer(books, JOHN, DOE, 7, "b")):
        assert "kind" in outcome_of(command).details["fields"]  # type: ignore[union-attr]


def test_the_receiving_wallet_may_have_used_the_reference_itself(books: Books) -> None:
    service.execute(transfer(books, DOE, JOHN, 5, "same"))
    assert not service.execute(transfer(books, JOHN, DOE, 5, "same")).is_replay
    assert (books.balance(JOHN), books.balance(DOE)) == (500, 300)


def test_a_batch_may_pass_on_what_it_has_just_received_and_a_preview_says_the_same(books: Books) -> None:
    third, fourth = books.make_wallets(2)
    commands = [
        transfer(books, third, fourth, 10),  # nothing there yet
        transfer(books, JOHN, third, 10),
        transfer(books, third, fourth, 10),
        transfer(books, fourth, DOE, 99, is_up_to=True),
        transfer(books, fourth, DOE, 99, is_up_to=True),
    ]
    with previewing() as preview:
        # One by one, so that what it remembers counts.
        foretold = [preview.preview([command])[0] for command in commands]
        again = preview.preview([commands[3]])[0]
    assert isinstance(again, service.Receipt)
    assert again.is_replay
    outcomes = service.execute_each(commands)
    assert [type(one) for one in outcomes] == [type(one) for one in foretold]
    assert [type(one).__name__ for one in outcomes] == [
        "InsufficientBalanceError", "Receipt", "Receipt", "Receipt", "InsufficientBalanceError",
    ]  # fmt: skip
    assert [books.balance(wallet_id) for wallet_id in (JOHN, third, fourth, DOE)] == [490, 0, 0, 310]


def test_a_keys_largest_amount_holds_for_what_is_asked_for(books: Books) -> None:
    permit = service.Permit(scopes=frozenset({"wallets:transfer"}), amount_max=10)
    asking = service.Origin(client="tests", actor="tests", permit=permit)
    assert isinstance(outcome_of(transfer(books, JOHN, DOE, 10, origin=asking)), service.Receipt)
    for is_up_to in (False, True):
        refused = outcome_of(transfer(books, JOHN, DOE, 11, origin=asking, is_up_to=is_up_to))
        assert type(refused).__name__ == "AmountNotAllowedError"
