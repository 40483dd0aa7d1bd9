"""Limits on spending against a plain model that keeps every amount with its instant, on days of all lengths."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.every_case import every
from tests.kernel.conftest import ORIGIN, Books
from tests.kernel.test_limits import limit
from wallet_app import service
from wallet_app.errors import LimitExceededError
from wallet_app.service.limits import by_hours, hour_of, used_lately, used_today

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(hours=24)
MICROSECOND = dt.timedelta(microseconds=1)
QUARTER = dt.timedelta(minutes=15)
CHANGES = {
    "UTC": "2026-02-28",
    "Europe/Berlin": "2026-03-29",
    "America/New_York": "2026-11-01",
    "Asia/Kolkata": "2026-06-01",
    "Asia/Kathmandu": "2026-06-01",
    "Australia/Lord_Howe": "2026-04-05",
    "Pacific/Chatham": "2026-09-27",
    "America/Havana": "2026-03-08",
    "Africa/Cairo": "2026-04-24",
    "America/Santiago": "2026-04-05",
}
"""Time zones, each with a day on which its clocks are put, where they are: by half an hour too, and at midnight."""

Spent = tuple[dt.datetime, int]


def date_of(instant: dt.datetime, zone: str) -> dt.date:
    return instant.astimezone(ZoneInfo(zone)).date()


def hour_slowly(instant: dt.datetime, zone: str) -> dt.datetime:
    """Walk back by quarters to where the day began, and forth by hours."""
    date = date_of(instant, zone)
    begin = instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)
    while date_of(begin - QUARTER, zone) == date:
        begin -= QUARTER
    while begin + HOUR <= instant:
        begin += HOUR
    return begin


def today_slowly(spent: Sequence[Spent], now: dt.datetime, zone: str) -> int:
    return sum(amount for at, amount in spent if date_of(at, zone) == date_of(now, zone))


def lately_slowly(spent: Sequence[Spent], now: dt.datetime, zone: str) -> int:
    return sum(amount for at, amount in spent if hour_slowly(at, zone) + HOUR > now - DAY)


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[Spent]]:
    zone = draw(st.sampled_from(list(CHANGES)))
    around = dt.datetime.fromisoformat(CHANGES[zone]).replace(tzinfo=dt.UTC)
    minutes = draw(st.lists(st.integers(-40 * 60, 40 * 60), min_size=1, max_size=12))
    instants = sorted(
        around + dt.timedelta(minutes=one, microseconds=draw(st.sampled_from([0, 1, -1]))) for one in minutes
    )
    return zone, [(instant, draw(st.integers(0, 50))) for instant in instants]


@settings(max_examples=150, deadline=None)
@given(histories())
def test_windows_count_what_a_plain_model_counts(history: tuple[str, list[Spent]]) -> None:
    zone, spent = history
    hours: dict[dt.datetime, int] = {}
    for at, amount in spent:
        hour = hour_of(at, zone)
        assert hour == hour_slowly(at, zone)
        hours[hour] = hours.get(hour, 0) + amount
    quarters: dict[dt.datetime, int] = {}
    for at, amount in spent:
        quarter = at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
        quarters[quarter] = quarters.get(quarter, 0) + amount
    assert by_hours(quarters, zone, after=spent[0][0] - DAY) == hours
    for now in (spent[-1][0], spent[-1][0] + 7 * HOUR):
        today, lately = used_today(hours, now, zone), used_lately(hours, now)
        assert today.used == today_slowly(spent, now, zone)
        assert lately.used == lately_slowly(spent, now, zone)
        exact = sum(amount for at, amount in spent if at > now - DAY)
        assert exact <= lately.used <= sum(amount for at, amount in spent if at > now - DAY - HOUR)
        for window, count in ((today, today_slowly), (lately, lately_slowly)):
            assert (window.frees_at is None) == (window.used == 0)
            if window.frees_at is not None:
                before, then = window.frees_at - MICROSECOND, window.frees_at
                assert count(spent, before, zone) == window.used
                assert count(spent, then, zone) == window.used - window.frees


@dataclass
class Model:
    """One wallet: every amount that is spent, with its instant, and what is still held of which."""

    zone: str
    day: int
    rolling: int
    spent: list[list[Any]] = field(default_factory=list)

    def refuses(self, amount: int, now: dt.datetime) -> bool:
        pairs = [(at, left) for at, left in self.spent]
        return (
            today_slowly(pairs, now, self.zone) + amount > self.day
            or lately_slowly(pairs, now, self.zone) + amount > self.rolling
        )


class Player:
    """Does random things to a wallet of the service, at instants of its own, and tells the model."""

    def __init__(self, books: Books, wallet: int, model: Model, dice: random.Random, now: dt.datetime) -> None:
        self.books, self.wallet, self.model, self.dice, self.now = books, wallet, model, dice, now
        self.seen: Counter[str] = Counter()
        self.holds: list[tuple[service.Hold, list[Any]]] = []
        self.done: list[tuple[Any, list[Any]]] = []
        self.frees_at: dt.datetime | None = None

    def post(self, command: service.Command) -> Any:
        (outcome,) = service.execute_batch([command], clock=lambda: self.now)
        return outcome

    def step(self) -> None:
        self.now += dt.timedelta(minutes=self.dice.choice((0, 1, 13, 45, 60, 61, 180)))
        if self.frees_at is not None and self.frees_at > self.now and self.dice.random() < 0.3:
            self.now = self.frees_at - self.dice.choice((dt.timedelta(), MICROSECOND))
        verb = self.dice.choice((self.spend, self.spend, self.hold, self.capture, self.end, self.reverse))
        verb()

    def _asked(self, command: Any) -> tuple[Any, list[Any]] | None:
        outcome = self.post(command)
        if self.model.refuses(command.amount, self.now):
            assert isinstance(outcome, LimitExceededError), outcome
            self.seen["refused"] += 1
            self.frees_at = outcome.frees_at
            return None
        assert isinstance(outcome, service.Receipt), outcome
        spent = [self.now, command.amount]
        self.model.spent.append(spent)
        return outcome, spent

    def spend(self) -> None:
        if (done := self._asked(self.books.spend(self.wallet, self.dice.randint(1, 60)))) is not None:
            self.seen["spent"] += 1
            self.done.append((done[0].transaction, done[1]))

    def hold(self) -> None:
        command = self.books.command(service.PlaceHold, self.wallet, self.dice.randint(1, 60), expires_in=30 * 86_400)
        if (done := self._asked(command)) is not None:
            self.seen["held"] += 1
            self.holds.append((done[0].hold, done[1]))

    def capture(self) -> None:
        if not self.holds:
            return
        hold, spent = self.holds.pop(self.dice.randrange(len(self.holds)))
        amount = self.dice.randint(1, hold.amount)
        reference = f"capture-{next(self.books._references)}"
        receipt = self.post(
            service.CaptureHold(
                wallet_id=self.wallet,
                hold_id=hold.hold_id,
                amount=amount,
                is_final=True,
                reference=reference,
                origin=ORIGIN,
            )
        )
        spent[1] = amount
        self.seen["captured"] += 1
        self.done.append((receipt.transaction, spent))

    def end(self) -> None:
        if self.holds:
            hold, spent = self.holds.pop(self.dice.randrange(len(self.holds)))
            reference = f"release-{next(self.books._references)}"
            self.post(
                service.ReleaseHold(wallet_id=self.wallet, hold_id=hold.hold_id, reference=reference, origin=ORIGIN)
            )
            spent[1] = 0
            self.seen["released"] += 1

    def reverse(self) -> None:
        if not self.done:
            return
        transaction, spent = self.done.pop(self.dice.randrange(len(self.done)))
        amount = self.dice.randint(1, spent[1])
        reference = f"undo-{next(self.books._references)}"
        outcome = self.post(
            service.ReverseTransaction(
                wallet_id=self.wallet,
                transaction_id=transaction.transaction_id,
                amount=amount,
                reason="why",
                reference=reference,
                origin=ORIGIN,
            )
        )
        assert isinstance(outcome, service.Receipt), outcome
        spent[1] -= amount
        self.seen["reversed"] += 1


@pytest.mark.wide
def test_the_kernel_refuses_what_a_plain_model_refuses_on_days_of_all_lengths(books: Books) -> None:
    """Also where the limits were lifted for a while, and nobody counted."""
    wallets = books.make_wallets(4, balance=1_000_000)
    zones = ("Australia/Lord_Howe", "Europe/Berlin", "Africa/Cairo", "Asia/Kathmandu")
    seen: Counter[str] = Counter()
    for wallet, zone in zip(wallets, zones, strict=True):
        books.sql("UPDATE asset_types SET time_zone = %s WHERE code = 'GOLD'", zone)
        # After the wallet's first entry, which is today's.
        begin = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        year = begin.year + 1
        now = dt.datetime.fromisoformat(f"{year}{change_of(zone, year)}").replace(tzinfo=dt.UTC) - 12 * HOUR
        player = Player(books, wallet, Model(zone, 200, 300), random.Random(zone), now)
        limit(wallet_id=wallet, day=200, rolling=300)
        for number in range(70):
            if number in (30, 40):
                limit(wallet_id=wallet, **({} if number == 30 else {"day": 200, "rolling": 300}))
                player.model.day, player.model.rolling = (10**9, 10**9) if number == 30 else (200, 300)
            player.step()
        seen += player.seen
    assert {name for name in seen if seen[name] < 5} == set(), seen
    assert seen["refused"] > 20


def change_of(zone: str, year: int) -> str:
    """Return a day of the year on which the zone's clocks are put, if they are."""
    day = dt.date(year, 1, 1)
    while day.year == year:
        noon = dt.datetime.combine(day, dt.time(12), tzinfo=ZoneInfo(zone))
        before = dt.datetime.combine(day - dt.timedelta(days=1), dt.time(12), tzinfo=ZoneInfo(zone))
        if noon.utcoffset() != before.utcoffset():
            return f"-{day:%m-%d}"
        day += dt.timedelta(days=1)
    return "-06-01"


def test_another_time_zone_has_days_of_its_own_from_then_on(books: Books) -> None:
    (wallet,) = books.make_wallets(1, balance=1_000)
    limit(day=100)
    noon = dt.datetime.combine(dt.datetime.now(dt.UTC) + dt.timedelta(days=2), dt.time(12), tzinfo=dt.UTC)

    def spend(amount: int, hours: float) -> Any:
        clock = noon + dt.timedelta(hours=hours)
        return service.execute_batch([books.spend(wallet, amount)], clock=lambda: clock)[0]

    # The day of Kathmandu begins at 18:15, in the middle of an hour of UTC.
    assert isinstance(spend(30, 6.1), service.Receipt)
    assert isinstance(spend(50, 6.5), service.Receipt)
    books.sql("UPDATE asset_types SET time_zone = 'Asia/Kathmandu' WHERE code = 'GOLD'")
    assert isinstance(spend(51, 8), LimitExceededError)
    assert isinstance(spend(50, 8), service.Receipt)
    assert isinstance(spend(1, 8), LimitExceededError)


@every("zone", CHANGES)
def test_every_hour_of_a_day_lies_in_it(zone: str) -> None:
    begin = dt.datetime.fromisoformat(CHANGES[zone]).replace(tzinfo=dt.UTC) - 26 * HOUR
    for quarters in range(4 * 52):
        now = begin + quarters * QUARTER
        hour = hour_of(now, zone)
        assert hour <= now < hour + HOUR
        assert date_of(hour, zone) == date_of(now, zone)
        assert hour_of(hour, zone) == hour
