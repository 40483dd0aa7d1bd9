"""Commands on several wallets: their order while one of the wallets is busy, their replays, and who sees them.

`Shift` is a command of these tests alone, so that they are about the kernel and about no rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
from sqlalchemy.engine import URL

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, serve
from wallet_app import service
from wallet_app.db import db, unit_of_work
from wallet_app.errors import (
    AssetNotAllowedError,
    ReferenceMismatchError,
    TransactionNotFoundError,
    WalletBusyError,
    WalletClosedError,
    WalletNotActiveError,
    WalletNotFoundError,
)
from wallet_app.service import bulk, posting
from wallet_app.service.books import Books as Core
from wallet_app.service.books import Plan, PlannedEntry
from wallet_app.service.commands import Command, Requested
from wallet_app.service.posting import Deferred
from wallet_app.service.preview import previewing
from wallet_app.service.rules import RULES

NOBODYS = 999_999
JOHN_USER, DOE_USER = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift(Command):
    """Moves 1 from the anchor, to each of the others in turn."""

    kind = "SHIFT"
    scope = "wallets:transfer"
    others: tuple[int, ...]

    def wallet_ids(self) -> tuple[int, ...]:
        return (self.wallet_id, *self.others)

    def requested(self) -> Requested:
        return {"others": list(self.others)}


def _rule(books: Core, command: Shift) -> Plan:
    entries = []
    for other in command.others:
        entries += [(command.wallet_id, -1), (books.wallet(other).wallet_id, 1)]
    return Plan(tuple(PlannedEntry(wallet_id, "ADJUSTMENT", amount, "Adjustments") for wallet_id, amount in entries))


@pytest.fixture(autouse=True)
def shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, Shift, _rule)


@pytest.fixture
def grouped(database: URL) -> Iterator[Books]:
    """The service with its lanes, where no wait for a lock runs out."""
    with_patience = f"ALTER DATABASE {database.database} SET lock_timeout = '60s'"
    for books in serve(database, group_commit=True, pool_size=8):
        books.sql(with_patience)
        yield books
        assert books.faults() == {}


def shift(reference: str, *wallet_ids: int, **more: Any) -> Shift:
    return Shift(wallet_id=wallet_ids[0], others=wallet_ids[1:], reference=reference, **({"origin": ORIGIN} | more))


@contextmanager
def held(books: Books, wallet_id: int) -> Iterator[None]:
    with books.connect() as connection:
        connection.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (wallet_id,))
        yield
        connection.rollback()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def post(*commands: Command) -> list[Any]:
    """Post without waiting for any wallet."""
    with unit_of_work() as connection:
        return posting.post(connection, commands, waits_for=())


def test_what_comes_later_on_any_wallet_of_a_deferred_command_is_deferred_too(books: Books) -> None:
    third, fourth = books.make_wallets(2, balance=10)
    with held(books, DOE):
        outcomes = post(
            books.spend(JOHN, 1),  # in front of it: its turn
            shift("x", JOHN, DOE),
            books.spend(JOHN, 1),  # behind it, on a wallet that is free
            shift("y", JOHN, third),  # behind that one
            books.spend(third, 1),  # and so behind this one
            books.spend(fourth, 1),  # behind nobody
        )
    is_deferred = [outcome is Deferred.DEFERRED for outcome in outcomes]
    assert is_deferred == [False, True, True, True, True, False]


def test_control_a_later_command_overtakes_where_only_the_busy_wallet_counts(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        posting,
        "_in_turn",
        lambda books, commands, busy: [
            posting.answer(books, one) if busy.isdisjoint(one.wallet_ids()) else Deferred.DEFERRED for one in commands
        ],
    )
    with held(broken_books, DOE):
        outcomes = post(shift("x", JOHN, DOE), broken_books.spend(JOHN, 1))
    assert isinstance(outcomes[1], service.Receipt)


def test_the_lanes_keep_the_order_of_commands_that_share_any_wallet(grouped: Books) -> None:
    """While John's wallet is held, Doe -> John waits, and Doe's later commands wait behind it, in their order.

    John's is the one that is waited for first, so nobody holds Doe's: the lanes alone keep the order.
    """
    app = grouped.app
    assert app is not None
    lanes = service.use_group_commit(db.engine)
    with held(grouped, JOHN):
        tickets = [lanes._queue(shift("first", DOE, JOHN), 30)]
        eventually(lambda: bool(lanes._waiting_wallets))
        tickets += [lanes._queue(grouped.spend(DOE, 1, f"later-{n}"), 30) for n in range(10)]
        unrelated = service.execute(grouped.spend(JOHN_DIAMOND, 1))
        assert not unrelated.is_replay
        assert [ticket.outcome for ticket in tickets] == [None] * 11
    for ticket in tickets:
        assert ticket.done.acquire(timeout=30)
    receipts = [cast(service.Receipt, ticket.outcome) for ticket in tickets]
    assert [receipt.transaction.entries[0].seq for receipt in receipts] == list(range(2, 13))
    assert not lanes._waiting_wallets


def test_a_wait_that_ran_out_is_told_to_who_needs_all_that_was_waited_for(books: Books) -> None:
    """John's wallet is free: who wants nothing else is posted, in a later turn."""
    with held(books, DOE):
        outcomes = bulk.execute_each([shift("x", JOHN, DOE), books.spend(JOHN, 1), books.spend(DOE, 1)], seconds_max=30)
    assert [type(outcome) for outcome in outcomes] == [WalletBusyError, service.Receipt, WalletBusyError]


def test_in_bulk_the_order_is_kept_too(books: Books) -> None:
    third, *_ = books.make_wallets(1, balance=10)
    commands = [shift("x", JOHN, third), books.spend(JOHN, 1), shift("y", third, JOHN), books.spend(third, 1)]
    outcomes = cast(list[service.Receipt], bulk.execute_each(commands))
    seqs = {
        wallet_id: [
            one.seq for outcome in outcomes for one in outcome.transaction.entries if one.wallet_id == wallet_id
        ]
        for wallet_id in (JOHN, third)
    }
    assert seqs == {JOHN: [2, 3, 4], third: [2, 3, 4]}


@pytest.mark.parametrize("mode", ["alone", "batch", "atomic", "preview"])
def test_a_replay_reports_each_wallet_as_it_stands_now(books: Books, mode: str) -> None:
    first = service.execute(shift("x", JOHN, DOE))
    service.execute(books.top_up(DOE, 100))
    again = answer(mode, shift("x", JOHN, DOE))
    assert again.is_replay
    assert again.transaction.entries == first.transaction.entries
    assert [(one.wallet_id, one.balance) for one in again.wallets] == [(JOHN, 499), (DOE, 401)]


@pytest.mark.parametrize("other", [JOHN_DIAMOND, NOBODYS, 1])
@pytest.mark.parametrize("mode", ["alone", "batch", "preview"])
def test_the_same_reference_with_another_wallet_is_another_command(books: Books, mode: str, other: int) -> None:
    """Whatever that wallet is: of another asset, of nobody, of the system."""
    service.execute(shift("x", JOHN, DOE))
    outcome = answer(mode, shift("x", JOHN, other))
    assert isinstance(outcome, ReferenceMismatchError)
    assert outcome.details["fields"] == ["others"]


def answer(mode: str, command: Command) -> Any:
    if mode == "preview":
        with previewing() as preview:
            return preview.preview([command])[0]
    if mode == "atomic":
        return service.execute_atomic([command])[0]
    return (service.execute_batch if mode == "batch" else service.execute_each)([command])[0]


def test_the_reference_counts_under_the_anchor_alone(books: Books) -> None:
    """The wallet that receives has used the same reference itself, for something else; both stand."""
    service.execute(books.top_up(DOE, 5, "same"))
    assert not service.execute(shift("same", JOHN, DOE)).is_replay
    assert service.execute(books.top_up(DOE, 5, "same")).is_replay
    assert books.transactions("same") == 2


@pytest.mark.parametrize(("status", "error"), [("FROZEN", WalletNotActiveError), ("CLOSED", WalletClosedError)])
def test_each_wallet_must_be_active(books: Books, status: str, error: type[Exception]) -> None:
    books.stop(DOE, status)
    with pytest.raises(error) as refused:
        service.execute(shift("x", JOHN, DOE))
    assert refused.value.details["wallet_id"] == DOE  # type: ignore[attr-defined]


def test_a_permits_assets_hold_for_each_wallet_also_for_a_replay(books: Books) -> None:
    service.execute(shift("x", JOHN, JOHN_DIAMOND, origin=ORIGIN))
    limited = service.Permit(scopes=frozenset({"wallets:transfer"}), assets=frozenset({"GOLD"}))
    asking = service.Origin(client="tests", actor="tests", permit=limited)
    for reference in ("x", "another"):
        with pytest.raises(AssetNotAllowedError):
            service.execute(shift(reference, JOHN, JOHN_DIAMOND, origin=asking))


def test_a_user_sees_of_a_transaction_the_entries_of_their_own_wallets(books: Books) -> None:
    transaction_id = service.execute(shift("x", JOHN, DOE)).transaction.transaction_id

    def seen(user_id: int | None) -> list[int]:
        permit = service.Permit(scopes=frozenset({"transactions:read"}), user_id=user_id)
        view = service.get_transaction(transaction_id, permit=permit)
        assert set(view.asset_codes) == {entry.wallet_id for entry in view.transaction.entries}
        return [entry.wallet_id for entry in view.transaction.entries]

    assert seen(JOHN_USER) == [JOHN]
    assert seen(DOE_USER) == [DOE]
    assert seen(None) == [JOHN, DOE]
    with pytest.raises(TransactionNotFoundError):
        seen(1)


def test_a_users_permit_reaches_no_command_with_anothers_wallet(books: Books) -> None:
    permit = service.Permit(scopes=frozenset({"wallets:transfer"}), user_id=JOHN_USER)
    asking = service.Origin(client="tests", actor="tests", permit=permit)
    with pytest.raises(WalletNotFoundError):
        service.execute(shift("x", JOHN, DOE, origin=asking))
