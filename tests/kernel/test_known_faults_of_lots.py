"""The faults that wallets with credit that ends are known for, each by its name; and the largest amount."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import JOHN, Books, outcome_of
from tests.kernel.test_holds import Clock, capture, placed
from tests.kernel.test_lots import START_BALANCE, after, grant, lots, revoking, row, spend
from tests.kernel.test_reversals import reverse
from wallet_app import service
from wallet_app.errors import InsufficientBalanceError
from wallet_app.money import AMOUNT_MAX


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_expired_credit_is_not_spendable_because_the_job_is_late(books: Books, clock: Clock) -> None:
    spend(books, START_BALANCE)
    grant(books, 60, after(hours=1))
    clock.move(hours=2)
    refused = outcome_of(books.spend(JOHN, 1))
    assert isinstance(refused, InsufficientBalanceError)
    assert refused.details["balance"] == 0


def test_a_balance_does_not_collapse_when_a_partly_spent_grant_expires(books: Books, clock: Clock) -> None:
    grant(books, 60, after(hours=1))
    spend(books, 59)
    clock.move(hours=2)
    service.execute(books.top_up(JOHN, 1))
    assert row(books) == (START_BALANCE + 1, 0, 0), "one unit has expired, and not the sixty that were granted"


@pytest.mark.parametrize("hours", [0, 2])
def test_the_rest_of_a_partial_capture_is_no_permanent_credit(books: Books, clock: Clock, hours: int) -> None:
    grant(books, 60, after(hours=1))
    hold = placed(books, JOHN, 100, 36_000)
    clock.move(hours=hours)
    service.execute(capture(hold, 10, reference="capture", is_final=True))
    assert row(books) == ((START_BALANCE, 0, 0) if hours else (START_BALANCE + 50, 50, 1))
    clock.move(hours=2)
    service.execute(books.top_up(JOHN, 1))
    assert row(books) == (START_BALANCE + 1, 0, 0)
    assert lots(books) == [("bonus", 60, 0, 0, 10, 50, 0)]


def test_a_refund_does_not_make_bonus_into_paid_credit(books: Books, clock: Clock) -> None:
    grant(books, 40)
    grant(books, 60, after(hours=1))
    spent = spend(books, 110)
    reverse(spent, 30)
    assert row(books) == (START_BALANCE + 20, 20, 0), "ten that were paid, then twenty of the bonus for ever"
    reverse(spent)
    assert row(books) == (START_BALANCE + 100, 100, 1)
    clock.move(hours=2)
    service.execute(books.top_up(JOHN, 1))
    assert row(books) == (START_BALANCE + 41, 40, 0)


def test_a_spend_replays_as_it_was_after_lots_have_changed(books: Books, clock: Clock) -> None:
    lot = grant(books, 60, after(hours=1))
    first = service.execute(books.spend(JOHN, 70, "once"))
    reverse(first.transaction.transaction_id, 20)
    grant(books, 5, after(minutes=1))
    service.execute(revoking(lot, "debt"))
    clock.move(hours=2)
    before = books.sql("SELECT * FROM lot_movements WHERE transaction_id = %s", first.transaction.transaction_id)
    again = service.execute(books.spend(JOHN, 70, "once"))
    assert again.is_replay
    assert again.transaction.entries == first.transaction.entries
    found = books.sql("SELECT * FROM lot_movements WHERE transaction_id = %s", first.transaction.transaction_id)
    assert found == before
    assert books.transactions("once") == 1


def test_the_reversal_of_a_spend_does_not_revive_what_had_expired(books: Books, clock: Clock) -> None:
    grant(books, 60, after(hours=1))
    spent = spend(books, 20)
    clock.move(hours=2)
    reverse(spent)
    assert row(books) == (START_BALANCE, 0, 0)
    assert lots(books) == [("bonus", 60, 0, 0, 0, 60, 0)]


def test_the_largest_amount_is_granted_held_spent_given_back_and_expires(books: Books, clock: Clock) -> None:
    (wallet,) = books.make_wallets(1, balance=0)
    grant(books, AMOUNT_MAX, after(hours=1), wallet_id=wallet)
    hold = placed(books, wallet, AMOUNT_MAX, 1800)
    service.execute(capture(hold, AMOUNT_MAX - 1, reference="capture", is_final=True))
    assert row(books, wallet) == (1, 1, 1)
    spent = books.sql("SELECT transaction_id FROM transactions WHERE kind = 'CAPTURE'")[0][0]
    reverse(spent)
    assert row(books, wallet) == (AMOUNT_MAX, AMOUNT_MAX, 1)
    clock.move(hours=2)
    service.execute(books.top_up(wallet, AMOUNT_MAX))
    assert row(books, wallet) == (AMOUNT_MAX, 0, 0)
    assert lots(books, wallet) == [("bonus", AMOUNT_MAX, 0, 0, 0, AMOUNT_MAX, 0)]
