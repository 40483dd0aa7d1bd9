"""Holds in the kernel: what is held cannot be spent, no part of it is used twice, and it ends to the microsecond."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.kernel.conftest import DOE, JOHN, ORIGIN, Books, outcome_of
from tests.kernel.test_statements import names, round_trips
from wallet_app import service
from wallet_app.errors import (
    AmountNotAllowedError,
    HoldFinishedError,
    HoldNotFoundError,
    HoldTooLongError,
    InsufficientBalanceError,
    OverCaptureError,
    ReferenceMismatchError,
    TooManyCapturesError,
    TooManyHoldsError,
)
from wallet_app.service import holds, posting
from wallet_app.service.commands import ExpireHold

LONG = 3600


def place(books: Books, wallet_id: int, amount: int, expires_in: int = LONG, reference: str | None = None) -> Any:
    return books.command(service.PlaceHold, wallet_id, amount, reference, expires_in=expires_in)


def placed(books: Books, wallet_id: int, amount: int, expires_in: int = LONG) -> service.Hold:
    hold = service.execute(place(books, wallet_id, amount, expires_in)).hold
    assert hold is not None
    return hold


def capture(
    hold: service.Hold, amount: int | None = None, *, reference: str, is_final: bool = False, **more: Any
) -> service.CaptureHold:
    return service.CaptureHold(
        wallet_id=hold.wallet_id,
        hold_id=hold.hold_id,
        amount=amount,
        is_final=is_final,
        reference=reference,
        **({"origin": ORIGIN} | more),
    )


def release(hold: service.Hold, reference: str) -> service.ReleaseHold:
    return service.ReleaseHold(wallet_id=hold.wallet_id, hold_id=hold.hold_id, reference=reference, origin=ORIGIN)


def hold_now(hold: service.Hold) -> service.Hold:
    return service.get_hold(hold.hold_id).hold


def state_of(books: Books, wallet_id: int) -> tuple[int, int, int]:
    found = books.sql("SELECT balance, held, version FROM wallet_balances WHERE wallet_id = %s", wallet_id)[0]
    return found[0], found[1], found[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Clock:
    """The posting's clock, which a test may set forward; its reads' clock is the database's and stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = dt.timedelta()
        post = posting.post

        def posted(connection: Any, commands: Any, **options: Any) -> Any:
            if options.get("clock") is None and self.ahead:
                now = dt.datetime.now(dt.UTC) + self.ahead
                options["clock"] = lambda: now
            return post(connection, commands, **options)

        monkeypatch.setattr(posting, "post", posted)

    def move(self, **by: float) -> None:
        self.ahead += dt.timedelta(**by)


# --- placing ---


def test_what_is_held_leaves_the_balance_and_comes_back(books: Books) -> None:
    hold = placed(books, JOHN, 200)
    assert (hold.state, hold.amount, hold.remaining) == ("open", 200, 200)
    assert hold.expires_at - hold.created_at == dt.timedelta(seconds=LONG)
    assert state_of(books, JOHN)[:2] == (300, 200)
    receipt = service.execute(release(hold, "back"))
    assert [(entry.entry_type, entry.amount) for entry in receipt.transaction.entries] == [("RELEASE", 200)]
    assert receipt.hold == hold_now(hold)
    assert receipt.hold is not None
    assert receipt.hold.state == "released"
    assert state_of(books, JOHN)[:2] == (500, 0)


def test_six_holds_of_1000_on_a_balance_of_5000_are_five(books: Books) -> None:
    (wallet,) = books.make_wallets(1, balance=5_000)
    outcomes = books.in_threads([partial(outcome_of, place(books, wallet, 1_000)) for _ in range(6)])
    refused = [outcome for outcome in outcomes if isinstance(outcome, InsufficientBalanceError)]
    assert len(refused) == 1
    assert (refused[0].details["balance"], refused[0].details["required"]) == (0, 1_000)
    assert state_of(books, wallet)[:2] == (0, 5_000)
    assert isinstance(outcome_of(books.spend(wallet, 1)), InsufficientBalanceError)


def test_six_holds_in_one_batch_are_five_too(books: Books) -> None:
    (wallet,) = books.make_wallets(1, balance=5_000)
    outcomes = service.execute_batch([place(books, wallet, 1_000) for _ in range(6)])
    assert [isinstance(outcome, service.Receipt) for outcome in outcomes] == [True] * 5 + [False]


def test_a_retry_tells_the_same_hold(books: Books) -> None:
    command = place(books, JOHN, 100, reference="once")
    first, again = service.execute(command), service.execute(command)
    assert again.is_replay
    assert first.hold == again.hold
    assert first.hold is not None
    assert first.hold.hold_id == first.transaction.transaction_id
    with pytest.raises(ReferenceMismatchError) as mismatch:
        service.execute(place(books, JOHN, 100, LONG + 1, reference="once"))
    assert mismatch.value.details["fields"] == ["expiresIn"]
    assert state_of(books, JOHN)[:2] == (400, 100)


def test_a_hold_that_may_not_last_so_long_is_refused_and_a_retry_of_it_is_not(books: Books) -> None:
    made = service.execute(place(books, JOHN, 100, 60, reference="long"))
    lower = books.command(service.PlaceHold, JOHN, 100, "long", expires_in=60, seconds_max=59)
    assert service.execute(lower).hold == made.hold
    with pytest.raises(HoldTooLongError):
        service.execute(books.command(service.PlaceHold, JOHN, 100, expires_in=60, seconds_max=59))


def test_a_wallet_has_so_many_open_holds_and_no_more(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "HOLDS_MAX", 3)
    first, *_ = [placed(books, JOHN, 1) for _ in range(2)]
    outcomes = service.execute_batch([place(books, JOHN, 1), place(books, JOHN, 1), place(books, DOE, 1)])
    assert [type(outcome) for outcome in outcomes] == [service.Receipt, TooManyHoldsError, service.Receipt]
    service.execute(release(first, "room"))
    placed(books, JOHN, 1)
    assert isinstance(outcome_of(place(books, JOHN, 1)), TooManyHoldsError)


# --- capturing and releasing ---


def test_a_capture_releases_and_spends_under_one_reference(books: Books) -> None:
    hold = placed(books, JOHN, 200)
    receipt = service.execute(capture(hold, reference="all of it"))
    entries = receipt.transaction.entries
    assert [(entry.entry_type, entry.amount) for entry in entries] == [("RELEASE", 200), ("SPEND", -200)]
    assert [entry.balance_after for entry in entries] == [500, 300]
    assert books.transactions("all of it") == 1
    assert state_of(books, JOHN)[:2] == (300, 0)
    assert receipt.hold is not None
    assert (receipt.hold.state, receipt.hold.captured, receipt.hold.remaining) == ("captured", 200, 0)


def test_parts_are_captured_until_one_is_final(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    states = [
        service.execute(capture(hold, 30, reference="first")).hold,
        service.execute(capture(hold, 20, reference="second")).hold,
        service.execute(capture(hold, 10, reference="last", is_final=True)).hold,
    ]
    assert [(one.state, one.captured, one.released) for one in states if one] == [
        ("partially_captured", 30, 0),
        ("partially_captured", 50, 0),
        ("captured", 60, 40),
    ]
    assert state_of(books, JOHN)[:2] == (440, 0)


def test_captures_that_take_the_last_coin_finish_the_hold(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    service.execute(capture(hold, 60, reference="most"))
    done = service.execute(capture(hold, 40, reference="rest")).hold
    assert done is not None
    assert (done.state, done.captured) == ("captured", 100)


def test_releasing_the_rest_of_what_was_captured_in_part(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    service.execute(capture(hold, 60, reference="most"))
    done = service.execute(release(hold, "rest")).hold
    assert done is not None
    assert (done.state, done.captured, done.released) == ("released", 60, 40)
    assert state_of(books, JOHN)[:2] == (440, 0)


@pytest.mark.parametrize("amount", [101, 500, 10**15])
def test_more_than_is_held_cannot_be_captured(books: Books, amount: int) -> None:
    hold = placed(books, JOHN, 100)
    with pytest.raises(OverCaptureError) as refused:
        service.execute(capture(hold, amount, reference="more"))
    assert (refused.value.details["remaining"], refused.value.details["amount"]) == (100, amount)
    service.execute(capture(hold, 99, reference="more"))
    assert isinstance(outcome_of(capture(hold, 2, reference="again")), OverCaptureError)
    assert state_of(books, JOHN)[:2] == (400, 1)


FINISHES: dict[str, Callable[[Clock, service.Hold], object]] = {
    "captured": lambda _, hold: service.execute(capture(hold, reference="the end")),
    "released": lambda _, hold: service.execute(release(hold, "the end")),
    "expired": lambda clock, _: clock.move(seconds=LONG),
}


@pytest.mark.parametrize("state", FINISHES)
def test_a_finished_hold_refuses_and_says_its_state(books: Books, clock: Clock, state: str) -> None:
    hold = placed(books, JOHN, 100)
    FINISHES[state](clock, hold)
    for command in (
        capture(hold, reference="later"),
        capture(hold, 1, reference="later"),
        release(hold, "later"),
    ):
        refused = outcome_of(command)
        assert isinstance(refused, HoldFinishedError)
        assert refused.details == {"hold_id": str(hold.hold_id), "state": state}
    assert books.transactions("later") == 0
    balance = 400 if state == "captured" else 500
    assert state_of(books, JOHN)[:2] == (balance, 0)


def test_a_refused_hold_is_none_and_cannot_be_captured(books: Books) -> None:
    with pytest.raises(InsufficientBalanceError):
        service.execute(place(books, JOHN, 501, reference="refused"))
    never = uuid.uuid4()
    assert service.find_hold_wallets([never]) == {}
    with pytest.raises(HoldNotFoundError):
        service.execute(service.CaptureHold(wallet_id=JOHN, hold_id=never, reference="it", origin=ORIGIN))


def test_a_hold_is_none_of_another_wallet_and_no_other_transaction_is_a_hold(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    spent = service.execute(books.spend(JOHN, 1)).transaction.transaction_id
    foreign = service.CaptureHold(wallet_id=DOE, hold_id=hold.hold_id, reference="foreign", origin=ORIGIN)
    no_hold = service.ReleaseHold(wallet_id=JOHN, hold_id=spent, reference="no hold", origin=ORIGIN)
    for command in (foreign, no_hold):
        with pytest.raises(HoldNotFoundError):
            service.execute(command)
    assert service.find_hold_wallets([hold.hold_id, spent]) == {hold.hold_id: JOHN}


@pytest.mark.parametrize("end", ["captured", "released", "expired"])
def test_a_retry_is_answered_after_the_hold_is_finished_too(books: Books, clock: Clock, end: str) -> None:
    """The replay is looked up before the state is judged; what is told of the hold is how it stands now."""
    hold = placed(books, JOHN, 100)
    part = capture(hold, 30, reference="part")
    first = service.execute(part)
    last: service.Command = capture(hold, reference="last") if end == "captured" else release(hold, "last")
    if end == "expired":
        clock.move(seconds=LONG)
    else:
        service.execute(last)
    retries = [part, place(books, JOHN, 100, reference=first_reference(books, hold))]
    retries += [] if end == "expired" else [last]
    for retry in retries:
        again = service.execute(retry)
        assert again.is_replay
        assert again.hold is not None
        assert (again.hold.state, again.hold.captured) == (end, 100 if end == "captured" else 30)
    assert service.execute(part).transaction.transaction_id == first.transaction.transaction_id
    with pytest.raises(ReferenceMismatchError):
        service.execute(capture(hold, 31, reference="part"))


def first_reference(books: Books, hold: service.Hold) -> str:
    return str(books.sql("SELECT reference_id FROM transactions WHERE transaction_id = %s", hold.hold_id)[0][0])


def test_a_capture_is_as_much_as_its_key_allows(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    permit = service.Permit(scopes=frozenset({"holds:write"}), amount_max=50)
    small = service.Origin(client="small", actor="small", permit=permit)
    for amount in (None, 51):
        with pytest.raises(AmountNotAllowedError):
            service.execute(capture(hold, amount, reference="much", origin=small))
    done = service.execute(capture(hold, 50, reference="much", is_final=True, origin=small)).hold
    assert done is not None
    assert (done.captured, done.released) == (50, 50), "to give back what was held moves nothing"


def test_so_many_captures_and_the_last_must_be_final(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "CAPTURES_MAX", 3)
    hold = placed(books, JOHN, 100)
    for number in range(2):
        service.execute(capture(hold, 1, reference=f"part {number}"))
    with pytest.raises(TooManyCapturesError):
        service.execute(capture(hold, 1, reference="one more"))
    assert service.execute(capture(hold, 1, reference="one more", is_final=True)).hold


def test_sixteen_captures_at_once_take_what_is_held_and_no_more(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    outcomes = books.in_threads([partial(outcome_of, capture(hold, 10, reference=f"part {n}")) for n in range(16)])
    assert sum(isinstance(outcome, service.Receipt) for outcome in outcomes) == 10
    assert {type(outcome) for outcome in outcomes} == {service.Receipt, HoldFinishedError}
    assert state_of(books, JOHN)[:2] == (400, 0)


def test_all_kinds_in_one_batch_see_each_other(books: Books) -> None:
    hold, other = placed(books, JOHN, 100), placed(books, DOE, 100)
    commands = [
        capture(hold, 40, reference="a"),
        release(hold, "b"),
        capture(hold, 1, reference="c"),
        capture(hold, 40, reference="a"),
        books.spend(JOHN, 460),
        books.spend(JOHN, 1),
        release(other, "b"),
        place(books, DOE, 300),
    ]
    outcomes = service.execute_batch(commands)
    assert [type(outcome) for outcome in outcomes] == [
        service.Receipt,
        service.Receipt,
        HoldFinishedError,
        service.Receipt,
        service.Receipt,
        InsufficientBalanceError,
        service.Receipt,
        service.Receipt,
    ]
    assert isinstance(outcomes[3], service.Receipt)
    assert outcomes[3].is_replay


# --- statements ---


def test_who_holds_nothing_pays_nothing(books: Books) -> None:
    placed(books, DOE, 1)
    with round_trips() as trips:
        service.execute(books.spend(JOHN, 1))
    assert [names(questions) for questions in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions"],
        ["insert_transactions", "insert_entries", "update_balances", "add_to_system_balances", "commit"],
    ]


def test_a_spend_beside_a_hold_takes_a_round_trip_more(books: Books) -> None:
    placed(books, JOHN, 1)
    with round_trips() as trips:
        service.execute(books.spend(JOHN, 1))
    assert [names(questions) for questions in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions"],
        ["load_holds"],
        ["insert_transactions", "insert_entries", "update_balances", "add_to_system_balances", "commit"],
    ]


@pytest.mark.parametrize("count", [1, 50])
def test_holds_take_the_same_number_of_statements_for_every_size_of_batch(books: Books, count: int) -> None:
    wallets = books.make_wallets(count, balance=10)
    with round_trips() as trips:
        outcomes = service.execute_batch([place(books, wallet, 5) for wallet in wallets])
    found = [outcome.hold for outcome in outcomes if isinstance(outcome, service.Receipt) and outcome.hold]
    assert [names(questions) for questions in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions", "load_holds", "count_open_holds"],
        [
            "insert_transactions",
            "insert_entries",
            "update_balances",
            "upsert_holds",
            "add_to_system_balances",
            "commit",
        ],
    ]
    with round_trips() as trips:
        service.execute_batch([capture(hold, 2, reference="part") for hold in found])
    assert [names(questions) for questions in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions", "load_holds"],
        [
            "insert_transactions",
            "insert_entries",
            "update_balances",
            "upsert_holds",
            "add_to_system_balances",
            "commit",
        ],
    ]


# --- expiry ---


def test_a_due_hold_is_settled_before_the_next_command_is_decided(books: Books, clock: Clock) -> None:
    hold = placed(books, JOHN, 500, 60)
    assert isinstance(outcome_of(books.spend(JOHN, 1)), InsufficientBalanceError)
    clock.move(seconds=61)
    receipt = service.execute(books.spend(JOHN, 500))
    assert receipt.transaction.entries[0].balance_after == 0
    ((kind, client, reference, occurred_at),) = books.sql(
        "SELECT kind, client, reference_id, occurred_at FROM transactions WHERE kind = 'HOLD_EXPIRY'"
    )
    assert (kind, client, reference) == ("HOLD_EXPIRY", "system", f"sys:expire:{hold.hold_id}")
    assert occurred_at == hold.expires_at
    now = hold_now(hold)
    assert (now.state, now.expired, now.ended_at) == ("expired", 500, hold.expires_at)


def test_it_stays_settled_though_the_command_declines(books: Books, clock: Clock) -> None:
    placed(books, JOHN, 200, 60)
    clock.move(seconds=61)
    with pytest.raises(InsufficientBalanceError) as refused:
        service.execute(books.spend(JOHN, 501, "too much"))
    assert refused.value.details["balance"] == 500, "what was due is counted"
    assert state_of(books, JOHN)[:2] == (500, 0)
    assert books.transactions("too much") == 0


def test_an_atomic_batch_that_is_refused_leaves_nothing_not_even_what_it_settled(books: Books, clock: Clock) -> None:
    placed(books, JOHN, 200, 60)
    clock.move(seconds=61)
    with pytest.raises(service.BatchRefusedError):
        service.execute_atomic([books.spend(JOHN, 450), books.spend(JOHN, 51)])
    assert state_of(books, JOHN)[:2] == (300, 200)
    receipts = service.execute_atomic([books.spend(JOHN, 450), books.spend(JOHN, 50)])
    assert receipts[-1].wallets[0].balance == 0


def test_the_instant_of_expiry_is_too_late_and_the_one_before_is_not(books: Books, clock: Clock) -> None:
    first, second = placed(books, JOHN, 10, 60), placed(books, DOE, 10, 60)

    def at(instant: dt.datetime) -> Any:
        return lambda: instant

    before = first.expires_at - dt.timedelta(microseconds=1)
    (in_time,) = service.execute_batch([capture(first, 10, reference="in time")], clock=at(before))
    assert isinstance(in_time, service.Receipt)
    (too_late,) = service.execute_batch([capture(second, 10, reference="late")], clock=at(second.expires_at))
    assert isinstance(too_late, HoldFinishedError)
    assert too_late.details["state"] == "expired"
    clock.move(seconds=61)


def test_what_expired_does_not_come_back_when_the_clock_is_set_back(books: Books, clock: Clock) -> None:
    hold = placed(books, JOHN, 10, 60)
    clock.move(seconds=61)
    service.execute(books.top_up(JOHN, 1))
    clock.move(seconds=-61)
    assert isinstance(outcome_of(capture(hold, reference="later")), HoldFinishedError)
    again = placed(books, JOHN, 10, 60)
    assert again.created_at > hold.expires_at, "along a wallet the time never falls"


def test_all_due_holds_of_a_wallet_are_settled_in_the_order_of_their_time(books: Books, clock: Clock) -> None:
    due = [placed(books, JOHN, 10, seconds) for seconds in (30, 10, 20, 10)]
    left = placed(books, JOHN, 10, 3000)
    clock.move(seconds=31)
    receipt = service.execute(books.spend(JOHN, 490))
    assert (receipt.wallets[0].balance, receipt.wallets[0].held) == (0, 10)
    settled = books.sql("SELECT hold_id FROM holds WHERE state = 'expired' ORDER BY changes[1]")
    assert [row[0] for row in settled] == [due[1].hold_id, due[3].hold_id, due[2].hold_id, due[0].hold_id]
    ((expiries,),) = books.sql("SELECT count(*) FROM transactions WHERE kind = 'HOLD_EXPIRY'")
    assert expiries == 4, "each is a transaction of its own"
    assert hold_now(left).state == "open"


def test_only_a_due_hold_can_be_expired(books: Books, clock: Clock) -> None:
    hold = placed(books, JOHN, 10, 60)
    command = holds.expiry_of(JOHN, hold.hold_id, hold.expires_at)
    assert isinstance(command, ExpireHold)
    assert "has not expired" in str(outcome_of(command))
    clock.move(seconds=61)
    assert service.execute(command).is_replay, "it was settled before it was asked"
    assert service.execute(command).hold == hold_now(hold)


def test_a_frozen_wallet_holds_nothing_longer_than_it_should(books: Books, clock: Clock) -> None:
    hold = placed(books, JOHN, 100, 60)
    books.stop(JOHN, "FROZEN")
    assert "frozen" in str(outcome_of(capture(hold, 1, reference="frozen")))
    clock.move(seconds=61)
    assert "frozen" in str(outcome_of(books.spend(JOHN, 1)))
    assert state_of(books, JOHN)[:2] == (500, 0)
