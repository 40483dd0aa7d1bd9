"""Limits in the kernel: what each refuses and when it has room again, and that no crowd gets past one."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from tests.conftest import settings_for
from tests.every_case import every
from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, outcome_of
from tests.kernel.processes import execute, in_processes
from tests.kernel.test_holds import Clock, capture, clock, place, placed, release
from tests.kernel.test_preview import posted, previewed
from tests.kernel.test_statements import names, round_trips
from wallet_app import service
from wallet_app.errors import (
    AssetNotFoundError,
    EndPassedError,
    LimitExceededError,
    LimitNotRaisedError,
    LimitsInvalidError,
    MissingScopeError,
    NothingRaisedError,
    RaiseTooLongError,
    SystemWalletError,
    WalletNotFoundError,
)
from wallet_app.service.adjustments import Adjust
from wallet_app.service.limits import hour_of
from wallet_app.service.permits import Permit

assert clock
BY = service.By(actor="tests")


def limit(asset: str = "GOLD", *, user_type: str | None = None, wallet_id: int | None = None, **figures: Any) -> bool:
    target = service.LimitTarget(asset_code=asset, user_type=user_type, wallet_id=wallet_id)
    return service.set_limits(target, service.WalletLimits(**figures), by=BY)


def refused(command: service.Command) -> LimitExceededError:
    outcome = outcome_of(command)
    assert isinstance(outcome, LimitExceededError), outcome
    return outcome


def raise_to(books: Books, wallet_id: int = JOHN, *, days: float = 1, **figures: int) -> service.RaiseLimits:
    now = books.sql("SELECT clock_timestamp()")[0][0]
    return service.RaiseLimits(
        wallet_id=wallet_id,
        figures=service.WalletLimits(**figures),
        until=now + dt.timedelta(days=days),
        reason="a tournament",
        reference=f"raise-{next(books._references)}",
        origin=ORIGIN,
    )


def everything(books: Books) -> list[tuple[Any, ...]]:
    return [
        row
        for table in ("wallet_balances", "transactions", "ledger_entries", "spend_buckets", "holds", "limits")
        for row in books.sql(f"SELECT * FROM {table} ORDER BY 1, 2")
    ]


def used(wallet_id: int = JOHN) -> tuple[int, int]:
    view = service.get_limits(wallet_id)
    return view.day.used, view.rolling.used


# --- what each refuses ---


def test_a_single_amount_passes_up_to_its_limit_in_and_out(books: Books) -> None:
    limit(single=100)
    for command in (books.spend, books.top_up, books.bonus, partial(place, books)):
        service.execute(command(JOHN, 100))
        error = refused(command(JOHN, 101))
        assert (error.details["limit"], error.details["bound"], error.details["amount"]) == ("single", 100, 101)
        assert error.details["frees_at"] is None
    legs = (service.Leg(JOHN, "SPEND", 60), service.Leg(JOHN, "SPEND", 41))
    refused(service.Purchase(wallet_id=JOHN, legs=legs, reference="legs", origin=ORIGIN))


def test_the_balance_passes_up_to_its_limit_with_what_is_held(books: Books) -> None:
    limit(balance=600)
    placed(books, JOHN, 200)
    service.execute(books.top_up(JOHN, 100))
    error = refused(books.top_up(JOHN, 1))
    assert (error.details["limit"], error.details["used"], error.details["amount"]) == ("balance", 600, 1)
    refused(books.command(service.Transfer, DOE, 1, to_wallet_id=JOHN))
    service.execute(books.spend(JOHN, 1))
    service.execute(books.top_up(JOHN, 1))
    limit(balance=10)
    service.execute(books.spend(JOHN, 1))
    refused(books.bonus(JOHN, 1))


def test_what_comes_in_repays_first_and_then_counts_for_the_balance(books: Books) -> None:
    (wallet,) = books.make_wallets(1)
    given = service.execute(books.top_up(wallet, 50)).transaction.transaction_id
    service.execute(books.spend(wallet, 50))
    undo = service.ReverseTransaction(
        wallet_id=wallet, transaction_id=given, reason="why", on_shortfall="debt", reference="undo", origin=ORIGIN
    )
    service.execute(undo)
    limit(balance=10)
    refused(books.top_up(wallet, 61))
    service.execute(books.top_up(wallet, 60))
    assert books.balance(wallet) == 10


@every("figure", ["day", "rolling"])
def test_a_refusal_says_what_was_used_and_changes_nothing(books: Books, figure: str) -> None:
    wallet = books.make_wallets(2, balance=1_000)[figure == "day"]
    limit(**{figure: 100})
    service.execute(books.spend(wallet, 60))
    before = everything(books)
    command = books.spend(wallet, 41)
    error = refused(command)
    assert everything(books) == before
    assert (error.details["limit"], error.details["bound"], error.details["used"]) == (figure, 100, 60)
    assert error.frees_at is not None
    never = refused(books.spend(wallet, 101))
    assert never.frees_at is None
    assert "never" in never.detail
    service.execute(books.spend(wallet, 40))
    refused(books.spend(wallet, 1))
    limit(**{figure: 101})
    service.execute(books.spend(wallet, 1, command.reference))  # The refusal burnt no reference.
    limit()


@every("figure", ["day", "rolling"])
def test_there_is_room_from_the_instant_on_that_the_refusal_names(books: Books, clock: Clock, figure: str) -> None:
    wallet = books.make_wallets(2, balance=1_000)[figure == "day"]
    limit(**{figure: 100})
    service.execute(books.spend(wallet, 100))
    frees_at = refused(books.spend(wallet, 50)).frees_at
    assert frees_at is not None
    ahead = frees_at - books.sql("SELECT clock_timestamp()")[0][0]
    clock.move(seconds=ahead.total_seconds() - 60)
    refused(books.spend(wallet, 50))
    clock.move(seconds=61)
    service.execute(books.spend(wallet, 50))
    clock.ahead = dt.timedelta()
    limit()


def test_of_two_windows_the_refusal_names_the_one_that_has_room_last(books: Books) -> None:
    limit(day=100, rolling=100)
    spent_at = service.execute(books.spend(JOHN, 100)).transaction.created_at
    error = refused(books.spend(JOHN, 1))
    assert error.details["limit"] == "rolling"
    assert error.frees_at == hour_of(spent_at, "UTC") + dt.timedelta(hours=25)
    assert refused(books.spend(JOHN, 101)).frees_at is None


# --- for what they are set ---


def test_the_narrowest_that_says_something_wins_for_each_figure(books: Books) -> None:
    limit(single=10, day=1_000)
    refused(books.spend(JOHN, 11))
    limit(user_type="USER", single=20)
    refused(books.spend(JOHN, 21))
    limit(wallet_id=JOHN, single=30, balance=500)
    service.execute(books.spend(JOHN, 30))
    refused(books.spend(JOHN, 31))
    refused(books.top_up(JOHN, 31))
    refused(books.spend(DOE, 21))
    view = service.get_limits(JOHN)
    assert view.limits.now == service.WalletLimits(single=30, balance=500, day=1_000)
    assert view.set_for == {"single": "wallet", "balance": "wallet", "day": "asset"}
    assert not limit(wallet_id=JOHN, single=30, balance=500), "as it was"
    limit(wallet_id=JOHN)
    assert service.get_limits(JOHN).set_for == {"single": "user_type", "day": "asset"}
    assert service.get_limits(JOHN_DIAMOND).limits.base == service.WalletLimits()
    assert service.find_limits(JOHN_DIAMOND) is None
    found = service.find_limits(JOHN)
    assert found is not None
    assert found.set_for == {"single": "user_type", "day": "asset"}
    limit(), limit(user_type="USER")
    assert service.find_limits(JOHN) is None
    service.execute(books.spend(JOHN, 200))
    acts = books.sql("SELECT action, subject, before, after FROM audit_log WHERE action = 'limits:set' ORDER BY id")
    assert [one[1] for one in acts] == [
        *("asset:GOLD", "asset:GOLD", f"wallet:{JOHN}", f"wallet:{JOHN}", "asset:GOLD", "asset:GOLD")
    ]
    nothing = {"single": None, "balance": None, "day": None, "rolling": None}
    assert acts[1][2:] == ({"userType": "USER", **nothing}, {"userType": "USER", **nothing, "single": 20})
    settings = service.list_limit_settings("GOLD")
    assert settings == []


def test_limits_are_set_for_what_is_there_and_are_amounts(books: Books) -> None:
    for error, target, figures in (
        (AssetNotFoundError, {"asset": "SILVER"}, {"day": 1}),
        (WalletNotFoundError, {"wallet_id": JOHN_DIAMOND}, {"day": 1}),
        (SystemWalletError, {"wallet_id": 1}, {"day": 1}),
        (LimitsInvalidError, {"user_type": "SYSTEM"}, {"day": 1}),
        (LimitsInvalidError, {"user_type": "USER", "wallet_id": JOHN}, {"day": 1}),
        (LimitsInvalidError, {}, {"day": -1}),
        (LimitsInvalidError, {}, {"day": True}),
        (LimitsInvalidError, {}, {"day": 2**53}),
    ):
        with pytest.raises(error):
            limit(**target, **figures)
    assert books.sql("SELECT count(*) FROM limits") == [(0,)]
    limit(day=0)
    assert refused(books.spend(JOHN, 1)).frees_at is None


# --- what counts ---


def undoing(wallet_id: int, transaction: Any, reference: str, **more: Any) -> service.ReverseTransaction:
    return service.ReverseTransaction(
        wallet_id=wallet_id,
        transaction_id=transaction.transaction_id,
        reason="why",
        reference=reference,
        origin=ORIGIN,
        **more,
    )


def test_what_counts_as_spent_and_what_gives_back(books: Books) -> None:
    limit(day=1_000, rolling=1_000)
    expected = 0

    def now(spent: int) -> None:
        nonlocal expected
        expected += spent
        assert used() == (expected, expected)
        kept = books.sql("SELECT coalesce(sum(amount), 0) FROM spend_buckets WHERE wallet_id = %s", JOHN)
        assert kept == [(expected,)]

    spent = service.execute(books.spend(JOHN, 100)).transaction
    now(100)
    service.execute(undoing(JOHN, spent, "part", amount=40))
    now(-40)
    service.execute(undoing(JOHN, spent, "rest"))
    now(-60)
    moved = service.execute(books.command(service.Transfer, JOHN, 30, to_wallet_id=DOE)).transaction
    now(30)
    assert used(DOE) == (0, 0)
    service.execute(undoing(JOHN, moved, "back", other_wallet_ids=(DOE,)))
    now(-30)
    swap = service.Exchange(
        wallet_id=JOHN, to_wallet_id=JOHN_DIAMOND, amount=20, rate=Fraction(1), reference="swap", origin=ORIGIN
    )
    service.execute(swap)
    now(20)
    legs = (service.Leg(JOHN, "TOPUP", 50), service.Leg(JOHN, "SPEND", 7))
    service.execute(service.Purchase(wallet_id=JOHN, legs=legs, reference="legs", origin=ORIGIN))
    now(7)
    credit = service.execute(books.top_up(JOHN, 100)).transaction
    service.execute(undoing(JOHN, credit, "taken back"))
    service.execute(books.command(Adjust, JOHN, 5, direction="debit", reason_code="OTHER"))
    now(0)
    hold = placed(books, JOHN, 100)
    now(100)
    taken = service.execute(capture(hold, 30, reference="first")).transaction
    now(0)
    service.execute(capture(hold, 20, reference="last", is_final=True))
    now(-50)
    service.execute(undoing(JOHN, taken, "refund", amount=10))
    now(-10)
    service.execute(release(placed(books, JOHN, 80), "free"))
    now(0)


def test_what_is_due_of_a_hold_is_not_spent_also_before_it_is_settled(books: Books, clock: Clock) -> None:
    limit(day=1_000)
    placed(books, JOHN, 100, 1)
    clock.move(seconds=2)
    service.execute(books.top_up(JOHN, 1))
    assert books.sql("SELECT sum(amount) FROM spend_buckets") == [(0,)]


def test_a_capture_is_never_refused_because_its_hold_was_asked(books: Books) -> None:
    limit(day=100, rolling=100, single=100)
    hold = placed(books, JOHN, 100)
    limit(day=1, rolling=1, single=1)
    service.execute(capture(hold, reference="all"))
    refused(books.spend(JOHN, 1))


def test_corrections_first_balances_and_the_system_pass(books: Books) -> None:
    spent = service.execute(books.spend(JOHN, 100)).transaction
    limit(single=0, balance=0, day=0, rolling=0)
    service.execute(undoing(JOHN, spent, "back"))
    service.execute(books.command(Adjust, JOHN, 5, direction="credit", reason_code="OTHER"))
    service.execute(books.command(Adjust, JOHN, 5, direction="debit", reason_code="OTHER"))
    service.execute(books.command(service.Seed, JOHN, 5, "sys:seed-2"))


def test_a_replay_tells_what_was_done_whatever_the_limits_are_now(books: Books) -> None:
    command = books.spend(JOHN, 100)
    service.execute(command)
    limit(single=1, day=1)
    assert service.execute(command).is_replay


def test_a_limit_counts_what_was_spent_before_it_was_set(books: Books) -> None:
    service.execute(books.spend(JOHN, 90))
    gone = placed(books, JOHN, 50)
    service.execute(release(gone, "gone"))
    service.execute(capture(placed(books, JOHN, 20), 10, reference="part"))
    back = service.execute(books.spend(JOHN, 30)).transaction
    service.execute(undoing(JOHN, back, "back", amount=5))
    limit(day=150, rolling=150)
    assert used() == (135, 135)
    refused(books.spend(JOHN, 16))
    service.execute(books.spend(JOHN, 15))
    limit()
    service.execute(books.spend(JOHN, 3))
    limit(day=1_000)
    assert used()[0] == 153
    service.execute(books.top_up(JOHN, 1))
    assert books.sql("SELECT sum(amount), max(seq) = %s FROM spend_buckets", books.entries(JOHN)) == [(153, True)]


# --- crowds ---


@every("figure", ["day", "rolling"])
def test_a_crowd_spends_up_to_the_limit_and_not_one_more(books: Books, figure: str) -> None:
    wallet = books.make_wallets(2, balance=1_000)[figure == "day"]
    limit(**{figure: 100})
    spends = [partial(outcome_of, books.spend(wallet, 7)) for _ in range(24)]
    outcomes = books.in_threads(spends)
    done = sum(isinstance(outcome, service.Receipt) for outcome in outcomes)
    assert done == 14
    assert all(isinstance(one, service.Receipt | LimitExceededError) for one in outcomes)
    limit()


def spend_sevens() -> list[str | None]:
    """Spend until nothing is left of the limit, and twice more."""
    told: list[str | None] = []
    while told.count("LimitExceededError") < 2:
        told.append(execute(spend_of(7)).error)
    return told


def spend_of(amount: int) -> service.Spend:
    return service.Spend(wallet_id=JOHN, amount=amount, reference=f"ref-{uuid.uuid4()}", origin=ORIGIN)


@pytest.mark.wide
def test_two_processes_spend_up_to_the_limit_and_not_one_more(books: Books) -> None:
    service.execute(books.top_up(JOHN, 10_000))
    service.execute(spend_of(7))
    limit(day=1_000, rolling=1_000)
    told = in_processes(replace(settings_for(books.url), group_commit=True, pool_size=8), [spend_sevens] * 2, threads=4)
    assert set(told) == {None, "LimitExceededError"}
    assert told.count(None) == 1_000 // 7 - 1
    assert used() == (994, 994)


# --- what it costs ---


def test_limits_cost_a_statement_more_only_where_spending_is_limited(books: Books) -> None:
    limit(single=1_000, balance=10_000)
    limit("DIAMOND", day=100)
    service.execute(books.spend(JOHN, 1))
    with round_trips() as trips:
        service.execute(books.spend(JOHN, 1))
    plain = ["lock_wallets", "try_slot", "load_wallets", "load_transactions"]
    written = ["insert_transactions", "insert_entries", "update_balances"]
    assert [names(one) for one in trips] == [plain, [*written, "add_to_system_balances", "commit"]]
    service.execute(books.spend(JOHN_DIAMOND, 1))
    for count in (1, 20):
        with round_trips() as trips:
            service.execute_batch([books.spend(JOHN_DIAMOND, 1) for _ in range(count // 5 + 1)])
        assert [names(one) for one in trips] == [
            plain,
            ["load_spend_buckets"],
            [*written, "upsert_spend_buckets", "add_to_system_balances", "commit"],
        ]


def test_a_preview_says_what_a_posting_would_also_over_chunks(books: Books) -> None:
    limit(day=100, single=70)
    chunks = [[books.spend(JOHN, 40)], [books.spend(JOHN, 61), books.top_up(JOHN, 71)], [books.spend(JOHN, 60)]]
    chunks += [[books.spend(JOHN, 1)]]
    assert previewed(chunks) == posted(chunks)


# --- raising them ---


def test_limits_are_raised_until_an_instant(books: Books, clock: Clock) -> None:
    limit(single=100, day=100)
    command = raise_to(books, single=200, day=300)
    receipt = service.execute(command)
    assert (receipt.transaction.kind, receipt.transaction.entries) == ("LIMIT_RAISE", ())
    assert service.execute(command).is_replay
    service.execute(books.spend(JOHN, 200))
    refused(books.spend(JOHN, 201))
    refused(books.spend(DOE, 101))
    view = service.get_limits(JOHN)
    assert view.set_for == {"single": "raise", "day": "raise"}
    assert view.raised is not None
    assert (view.raised.until, view.raised.transaction_id) == (command.until, receipt.transaction.transaction_id)
    assert view.limits.base == service.WalletLimits(single=100, day=100)
    clock.move(days=1, seconds=1)
    refused(books.spend(JOHN, 101))
    service.execute(books.spend(JOHN, 100))


def test_a_raise_narrows_nothing_and_the_next_takes_its_place(books: Books) -> None:
    limit(single=100, day=100)
    service.execute(raise_to(books, single=200))
    limit(single=250, day=100)
    service.execute(books.spend(JOHN, 100, "a")), refused(books.top_up(JOHN, 251))
    assert service.get_limits(JOHN).limits.now.single == 250
    service.execute(raise_to(books, day=101))
    assert service.get_limits(JOHN).limits.now == service.WalletLimits(single=250, day=101)
    limit()
    assert service.get_limits(JOHN).limits.now == service.WalletLimits()


def ended(books: Books, wallet_id: int = JOHN) -> service.EndRaise:
    reference = f"end-{next(books._references)}"
    return service.EndRaise(wallet_id=wallet_id, reason="the tournament is off", reference=reference, origin=ORIGIN)


def test_a_raise_ends_before_its_time_and_what_is_set_holds_again(books: Books) -> None:
    limit(single=100, day=300)
    service.execute(raise_to(books, single=200, day=400))
    service.execute(books.spend(JOHN, 200))
    command = ended(books)
    receipt = service.execute(command)
    assert (receipt.transaction.kind, receipt.transaction.entries) == ("LIMIT_RAISE_END", ())
    assert service.execute(command).is_replay
    view = service.get_limits(JOHN)
    assert (view.raised, view.limits.now, view.day.used) == (None, service.WalletLimits(single=100, day=300), 200)
    refused(books.spend(JOHN, 101))
    service.execute(books.spend(JOHN, 100))
    refused(books.spend(JOHN, 1))
    # What ended once is over; another raise is one of its own.
    before = everything(books)
    assert isinstance(outcome_of(ended(books)), NothingRaisedError)
    assert everything(books) == before
    service.execute(raise_to(books, day=350))
    assert service.get_limits(JOHN).limits.now == service.WalletLimits(single=100, day=350)


def test_a_raise_ends_within_a_batch_and_when_it_allows_no_more_than_what_is_set(books: Books, clock: Clock) -> None:
    limit(single=100)
    batch = [raise_to(books, single=200), books.spend(JOHN, 150), ended(books), books.spend(JOHN, 150), ended(books)]
    assert [type(one) for one in service.execute_batch(batch)] == [
        service.Receipt,
        service.Receipt,
        service.Receipt,
        LimitExceededError,
        NothingRaisedError,
    ]
    # More is allowed for all by now; it would count again when that is taken back.
    service.execute(raise_to(books, single=200))
    limit(single=300)
    service.execute(ended(books))
    limit(single=100)
    assert service.get_limits(JOHN).limits.now == service.WalletLimits(single=100)
    service.execute(raise_to(books, single=200))
    clock.move(days=1, seconds=1)
    assert isinstance(outcome_of(ended(books)), NothingRaisedError)
    assert isinstance(outcome_of(ended(books, JOHN_DIAMOND)), NothingRaisedError)


def test_what_is_no_raise_is_refused(books: Books) -> None:
    limit(day=100)
    before = everything(books)
    for error, command in (
        (LimitNotRaisedError, raise_to(books, day=100)),
        (LimitNotRaisedError, raise_to(books, day=200, rolling=200)),
        (LimitNotRaisedError, raise_to(books, JOHN_DIAMOND, day=200)),
        (EndPassedError, raise_to(books, day=200, days=-1)),
        (RaiseTooLongError, raise_to(books, day=200, days=30.1)),
        (SystemWalletError, raise_to(books, 1, day=200)),
    ):
        assert type(outcome_of(command)) is error
    passed = str(outcome_of(raise_to(books, day=200, days=-1)))
    assert passed.endswith(" has passed: name an end that is ahead."), "a raise has an end"
    permit = service.Origin(client="x", actor="x", permit=Permit(scopes=frozenset(["wallets:spend"])))
    assert isinstance(outcome_of(replace(raise_to(books, day=200), origin=permit)), MissingScopeError)
    assert everything(books) == before
