"""Purchases: every leg or none, in order, on one user's wallets; against plain sums, and on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, outcome_of
from tests.kernel.test_books_properties import Clock, attempt, make_books, seen
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import (
    AmountNotAllowedError,
    BalanceAboveBoundError,
    InsufficientBalanceError,
    MissingScopeError,
    PayerWithoutLegError,
    ReferenceMismatchError,
    UserMismatchError,
    WalletNotFoundError,
)
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.preview import previewing

CONTRA = {"TOPUP": {3: 1, 4: 2}, "BONUS": {3: 7, 4: 8}, "SPEND": {3: 9, 4: 10}}

legs = st.builds(
    service.Leg,
    st.sampled_from([3, 3, 3, 4, 4, 5]),
    st.sampled_from(["SPEND", "SPEND", "TOPUP", "BONUS"]),
    st.integers(1, 30) | st.sampled_from([1, AMOUNT_MAX]),
)
balances = st.integers(0, 40) | st.sampled_from([0, AMOUNT_MAX - 1, AMOUNT_MAX])


def purchase(*legs: tuple[int, str, int], payer: int = JOHN, reference: str = "bundle", **more: Any) -> Any:
    made = tuple(service.Leg(*leg) for leg in legs)
    return service.Purchase(wallet_id=payer, legs=made, reference=reference, **({"origin": ORIGIN} | more))


def test_legs_do_what_plain_sums_do_and_every_outcome_comes() -> None:
    counted: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(start=st.tuples(balances, balances), legs=st.lists(legs, min_size=1, max_size=5))
    def run(start: tuple[int, int], legs: list[service.Leg]) -> None:
        books = make_books({3: start[0], 4: start[1], 5: 50}, {3: 0, 4: 0, 5: 0}, Clock())
        books.wallets[4] = books.wallets[4]._replace(user_id=3)
        before, command = seen(books), purchase(*legs)
        outcome = attempt(books, command)
        expected = plainly({3: start[0], 4: start[1]}, legs)
        counted[expected if isinstance(expected, str) else "posted"] += 1
        if isinstance(expected, str):
            assert type(outcome).__name__ == expected
            assert seen(books) == before
            return
        entries = outcome.transaction.entries
        assert [(one.wallet_id, one.entry_type, one.amount, one.balance_after) for one in entries] == expected
        assert all(one.contra_wallet_id == CONTRA[one.entry_type][one.wallet_id] for one in entries)
        assert attempt(books, command).is_replay

    run()
    assert {name for name, times in counted.items() if times >= 3} == {
        "posted", "PayerWithoutLegError", "UserMismatchError", "InsufficientBalanceError", "BalanceAboveBoundError",
    }  # fmt: skip


def plainly(balances: dict[int, int], legs: list[service.Leg]) -> str | list[tuple[int, str, int, int]]:
    """Return the entries, or the name of the refusal."""
    if all(leg.wallet_id != 3 for leg in legs):
        return "PayerWithoutLegError"
    entries = []
    for wallet_id, kind, amount in legs:
        if wallet_id == 5:
            return "UserMismatchError"
        signed = -amount if kind == "SPEND" else amount
        balances[wallet_id] += signed
        if balances[wallet_id] < 0:
            return "InsufficientBalanceError"
        if balances[wallet_id] > AMOUNT_MAX:
            return "BalanceAboveBoundError"
        entries.append((wallet_id, kind, signed, balances[wallet_id]))
    return entries


def test_a_purchase_is_one_transaction_and_safe_to_repeat(books: Books) -> None:
    command = purchase((JOHN, "SPEND", 200), (JOHN_DIAMOND, "TOPUP", 5), (JOHN, "BONUS", 20))
    first = service.execute(command)
    assert [one.balance_after for one in first.transaction.entries] == [300, 15, 320]
    assert [(one.wallet_id, one.balance) for one in first.wallets] == [(JOHN, 320), (JOHN_DIAMOND, 15)]
    again = service.execute(command)
    assert (again.is_replay, again.transaction.transaction_id) == (True, first.transaction.transaction_id)
    for other in (
        purchase((JOHN, "SPEND", 200), (JOHN_DIAMOND, "TOPUP", 6), (JOHN, "BONUS", 20)),
        purchase((JOHN, "SPEND", 200), (JOHN_DIAMOND, "TOPUP", 5)),
    ):
        outcome = outcome_of(other)
        assert isinstance(outcome, ReferenceMismatchError)
        assert outcome.details["fields"] == ["legs"]
    assert service.verify(full=True).is_clean


def test_a_leg_alone_is_a_purchase_too(books: Books) -> None:
    service.execute(purchase((JOHN, "SPEND", 200)))
    assert service.execute(purchase((JOHN, "SPEND", 200))).is_replay
    assert service.verify(full=True).is_clean


@pytest.mark.parametrize(
    ("legs", "refusal"),
    [
        ([(JOHN, "SPEND", 501), (JOHN_DIAMOND, "BONUS", 1)], InsufficientBalanceError),
        ([(JOHN, "SPEND", 400), (JOHN, "SPEND", 101)], InsufficientBalanceError),
        ([(JOHN, "SPEND", 1), (JOHN_DIAMOND, "BONUS", AMOUNT_MAX)], BalanceAboveBoundError),
        ([(JOHN, "SPEND", 1), (DOE, "BONUS", 1)], UserMismatchError),
        ([(JOHN_DIAMOND, "SPEND", 1)], PayerWithoutLegError),
        ([(JOHN, "SPEND", 1), (99, "BONUS", 1)], WalletNotFoundError),
    ],
)
def test_what_is_refused_is_refused_whole(books: Books, legs: list[tuple[int, str, int]], refusal: Any) -> None:
    outcome = outcome_of(purchase(*legs))
    assert type(outcome) is refusal
    assert (books.balance(JOHN), books.balance(JOHN_DIAMOND), books.transactions("bundle")) == (500, 10, 0)
    if refusal is InsufficientBalanceError:
        assert (outcome.details["balance"], outcome.details["required"]) == (500, 501)  # type: ignore[union-attr]


def test_each_leg_needs_the_scope_of_its_type(books: Books) -> None:
    def asking(*scopes: str, **limits: Any) -> service.Origin:
        permit = service.Permit(scopes=frozenset(scopes), **limits)
        return service.Origin(client="tests", actor="tests", permit=permit)

    legs = [(JOHN, "SPEND", 10), (JOHN_DIAMOND, "BONUS", 1)]
    for scopes in ((), ("wallets:spend",), ("wallets:bonus",), ("wallets:transfer",)):
        assert isinstance(outcome_of(purchase(*legs, origin=asking(*scopes))), MissingScopeError)
    both = ("wallets:spend", "wallets:bonus")
    assert isinstance(outcome_of(purchase(*legs, origin=asking(*both, amount_max=9))), AmountNotAllowedError)
    twice = [(JOHN, "SPEND", 5), (JOHN, "SPEND", 5)]
    assert isinstance(outcome_of(purchase(*twice, origin=asking(*both, amount_max=9))), AmountNotAllowedError)
    assert isinstance(outcome_of(purchase(*legs, origin=asking(*both, amount_max=10))), service.Receipt)


def test_a_player_may_buy_with_what_they_have_and_grant_themselves_nothing(books: Books) -> None:
    permit = service.Permit(scopes=service.TOKEN_SCOPES, user_id=2)
    asking = service.Origin(client="tests", actor="tests", permit=permit)
    assert isinstance(
        outcome_of(purchase((JOHN, "SPEND", 1), (JOHN_DIAMOND, "SPEND", 1), origin=asking)), service.Receipt
    )
    bonus = purchase((JOHN, "SPEND", 1), (JOHN_DIAMOND, "BONUS", 1), reference="b", origin=asking)
    assert isinstance(outcome_of(bonus), MissingScopeError)
    foreign = purchase((JOHN, "SPEND", 1), (DOE, "SPEND", 1), reference="c", origin=asking)
    assert isinstance(outcome_of(foreign), WalletNotFoundError)


def test_many_buy_the_same_at_once_and_nobody_gets_it_for_nothing(books: Books) -> None:
    """John's 500 are enough for 5 of 16 bundles of 100."""
    works = [
        lambda n=n: outcome_of(
            purchase((JOHN, "SPEND", 100), (JOHN_DIAMOND, "TOPUP", 7), reference=f"bundle-{n}"), seconds_max=60
        )
        for n in range(16)
    ]
    outcomes = books.in_threads(works)
    assert sum(isinstance(outcome, service.Receipt) for outcome in outcomes) == 5
    assert (books.balance(JOHN), books.balance(JOHN_DIAMOND)) == (0, 10 + 5 * 7)


def test_a_preview_says_the_same(books: Books) -> None:
    command = purchase((JOHN, "SPEND", 200), (JOHN_DIAMOND, "TOPUP", 5))
    with previewing() as preview:
        first, again = preview.preview([command])[0], preview.preview([command])[0]
    assert isinstance(first, service.Receipt)
    assert isinstance(again, service.Receipt)
    assert again.is_replay
    assert [one.amount for one in again.transaction.entries] == [-200, 5]
    assert not service.execute(command).is_replay


@pytest.mark.parametrize("join", ["hash", "merge"])
def test_a_replay_has_the_entries_in_their_order_however_the_planner_joins(books: Books, join: str) -> None:
    for setting in {"nestloop", "hashjoin", "mergejoin"} - {f"{join}join"}:
        books.sql(f"ALTER DATABASE {books.url.database} SET enable_{setting} = off")
    db.engine.dispose()
    command = purchase(
        *[(wallet, kind, 1) for kind in ("TOPUP", "SPEND") for wallet in (JOHN_DIAMOND, JOHN)] * 5, reference="many"
    )
    made = service.execute(command).transaction
    replayed = service.execute(command)
    assert replayed.is_replay
    assert replayed.transaction.entries == made.entries
