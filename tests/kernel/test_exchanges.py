"""Exchanges: exact rates, rounded down, and kept with the transaction; configured ones apply from their instant on."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, Books, outcome_of
from tests.kernel.test_books_properties import Clock, attempt, make_books
from wallet_app import service
from wallet_app.errors import (
    AmountNotAllowedError,
    AssetNotFoundError,
    BadRateError,
    BalanceAboveBoundError,
    ExchangeTooSmallError,
    InsufficientBalanceError,
    NoExchangeRateError,
    ReferenceMismatchError,
    SameWalletError,
    UserMismatchError,
)
from wallet_app.money import AMOUNT_MAX, format_rate, parse_rate
from wallet_app.service.preview import previewing

BY = service.By(actor="tests")
rates = st.builds(Fraction, st.integers(1, 10**18 - 1), st.integers(1, 10**18 - 1))


def exchange(books: Books, amount: int, rate: str | None = None, reference: str | None = None, **more: Any) -> Any:
    given = None if rate is None else parse_rate(rate)
    source, target = more.pop("source", JOHN), more.pop("target", JOHN_DIAMOND)
    return books.command(service.Exchange, source, amount, reference, to_wallet_id=target, rate=given, **more)


# --- the rule ---


@given(
    start=st.tuples(st.integers(0, AMOUNT_MAX), st.integers(0, AMOUNT_MAX)),
    amount=st.integers(1, 1000) | st.integers(1, AMOUNT_MAX),
    rate=rates | st.builds(Fraction, st.integers(1, 20), st.integers(1, 20)),
    is_configured=st.booleans(),
)
def test_it_gives_what_the_rate_makes_rounded_down_or_changes_nothing(
    start: tuple[int, int], amount: int, rate: Fraction, is_configured: bool
) -> None:
    books = make_books({3: start[0], 4: start[1], 5: 0}, {3: 0, 4: 0, 5: 0}, Clock())
    books.wallets[4] = books.wallets[4]._replace(user_id=3)
    gold, diamond = books.wallets[3].asset, books.wallets[4].asset
    for asset, contra in ((gold, 17), (diamond, 18)):
        asset.contra["Exchange"] = contra  # type: ignore[index]
    books.rates = {(gold.id, diamond.id): rate}
    command = service.Exchange(
        wallet_id=3, to_wallet_id=4, amount=amount, rate=None if is_configured else rate, reference="r",
        origin=service.Origin(client="x", actor="x"),
    )  # fmt: skip
    outcome = attempt(books, command)
    received = int(amount * rate)
    assert received <= amount * rate < received + 1
    if amount > start[0]:
        assert type(outcome) is InsufficientBalanceError
    elif received == 0:
        assert type(outcome) is ExchangeTooSmallError
    elif start[1] + received > AMOUNT_MAX:
        assert type(outcome) is BalanceAboveBoundError
    else:
        assert [(one.amount, one.contra_wallet_id) for one in outcome.transaction.entries] == [
            (-amount, 17), (received, 18),
        ]  # fmt: skip
        assert outcome.transaction.result == {"rate": [rate.numerator, rate.denominator]}
        assert attempt(books, command).is_replay
        return
    assert books.posted == []


@given(rates)
def test_every_rate_has_one_text_that_is_read_as_itself(rate: Fraction) -> None:
    assert parse_rate(format_rate(rate)) == rate


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0.1", "0.1"), ("1/10", "0.1"), ("0.10", "0.1"), ("2/6", "1/3"), ("10", "10"), ("000.5", "0.5"), ("3/1", "3"),
     ("0.000000001", "0.000000001"), ("1/10000000000", "1/10000000000"), ("2000000000/1", "2000000000/1")],
)  # fmt: skip
def test_a_rate_is_shown_as_a_decimal_if_it_is_one(text: str, shown: str) -> None:
    assert format_rate(parse_rate(text)) == shown


@pytest.mark.parametrize(
    "text", ["0", "0.0", "1/0", "0/1", "-1", "+1", "1e3", ".5", "1.", "1/2/3", " 1", "1\n", "٣", "", 1, 0.1, True, None,
             "1234567890", "0.1234567891", "1" * 19 + "/1"],
)  # fmt: skip
def test_what_is_no_exact_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a text"):
        parse_rate(text)


# --- on PostgreSQL ---


def test_the_applied_rate_is_told_again_whatever_is_configured_by_then(books: Books) -> None:
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(1, 3), by=BY)
    command = exchange(books, 100, reference="swap")
    first = service.execute(command)
    assert [one.amount for one in first.transaction.entries] == [-100, 33]
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(1, 2), by=BY)
    again = service.execute(command)
    assert (again.is_replay, again.transaction.result) == (True, {"rate": [1, 3]})
    assert [one.amount for one in service.execute(exchange(books, 100)).transaction.entries] == [-100, 50]
    service.set_rate(source="GOLD", target="DIAMOND", rate=None, by=BY)
    assert isinstance(outcome_of(exchange(books, 100)), NoExchangeRateError)
    assert service.execute(command).is_replay
    assert service.verify(full=True).is_clean


def test_a_rate_applies_from_its_instant_on(books: Books) -> None:
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(9), valid_from=tomorrow, by=BY)
    assert isinstance(outcome_of(exchange(books, 10)), NoExchangeRateError)
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(1, 10), by=BY)
    assert service.execute(exchange(books, 10)).transaction.entries[1].amount == 1
    assert [(one.rate, one.valid_from > tomorrow - dt.timedelta(hours=1)) for one in service.list_rates()] == [
        (Fraction(1, 10), False), (Fraction(9), True),
    ]  # fmt: skip
    assert isinstance(outcome_of(exchange(books, 1, source=JOHN_DIAMOND, target=JOHN)), NoExchangeRateError), (
        "the other way round is another rate"
    )


def test_what_makes_no_rate_is_refused_and_what_was_set_is_recorded(books: Books) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    for bad in ({"target": "GOLD"}, {"valid_from": yesterday}):
        with pytest.raises(BadRateError):
            service.set_rate(**({"source": "GOLD", "target": "DIAMOND", "rate": Fraction(1), "by": BY} | bad))
    with pytest.raises(AssetNotFoundError):
        service.set_rate(source="GOLD", target="SILVER", rate=Fraction(1), by=BY)
    assert list(service.list_rates()) == []
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(1, 4), by=BY)
    recorded = books.sql("SELECT actor, subject, after ->> 'rate' FROM audit_log WHERE action = 'rate:set'")
    assert recorded == [("tests", "rate:GOLD/DIAMOND", "0.25")]


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"amount": 9}, ExchangeTooSmallError),
        ({"amount": 501}, InsufficientBalanceError),
        ({"target": DOE}, UserMismatchError),
        ({"target": JOHN}, SameWalletError),
        ({"rate": "100000000000000/1"}, BalanceAboveBoundError),
        ({"rate": None}, NoExchangeRateError),
    ],
)
def test_what_is_refused_leaves_the_reference_free(books: Books, changed: dict[str, Any], refusal: Any) -> None:
    asked: dict[str, Any] = {"amount": 100, "rate": "0.1", "reference": "swap"}
    assert type(outcome_of(exchange(books, **(asked | changed)))) is refusal
    assert not service.execute(exchange(books, **asked)).is_replay


def test_the_same_rate_in_other_words_is_the_same_command(books: Books) -> None:
    service.execute(exchange(books, 100, "1/10", "swap"))
    assert service.execute(exchange(books, 100, "0.100", "swap")).is_replay
    for other in ("0.2", None):
        outcome = outcome_of(exchange(books, 100, other, "swap"))
        assert isinstance(outcome, ReferenceMismatchError)
        assert outcome.details["fields"] == ["rate"]


def test_a_keys_largest_amount_holds_for_what_comes_out_too(books: Books) -> None:
    permit = service.Permit(scopes=frozenset({"wallets:transfer"}), amount_max=50)
    asking = service.Origin(client="tests", actor="tests", permit=permit)
    assert isinstance(outcome_of(exchange(books, 10, "5", origin=asking)), service.Receipt)
    for amount, rate in ((10, "6"), (60, "0.1")):
        assert isinstance(outcome_of(exchange(books, amount, rate, origin=asking)), AmountNotAllowedError)


def test_a_preview_knows_the_rates_and_tells_a_replay_the_same(books: Books) -> None:
    service.set_rate(source="GOLD", target="DIAMOND", rate=Fraction(1, 10), by=BY)
    with previewing() as preview:
        first = preview.preview([exchange(books, 100, reference="swap")])[0]
        again = preview.preview([exchange(books, 100, reference="swap")])[0]
    assert isinstance(first, service.Receipt)
    assert isinstance(again, service.Receipt)
    assert (again.is_replay, again.transaction.result) == (True, first.transaction.result)
    assert books.balance(JOHN) == 500
