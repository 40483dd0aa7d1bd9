"""The rules of holds against a plain model, without a database, with a clock that jumps over their ends and back."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.test_books_properties import START, USERS, Clock, attempt, make_books, seen
from wallet_app import service
from wallet_app.errors import (
    HoldFinishedError,
    InsufficientBalanceError,
    OverCaptureError,
    ReferenceMismatchError,
)
from wallet_app.service.books import BookkeepingError, Books, Hold, HoldPart, Plan, PlannedEntry

ORIGIN = service.Origin(client="x", actor="x")
WALLET = 3


@dataclass
class ModelHold:
    """A hold as four integers and an instant."""

    reference: str
    amount: int
    expires_at: dt.datetime
    captured: int = 0
    given_back: int = 0
    end: str | None = None

    @property
    def left(self) -> int:
        return self.amount - self.captured - self.given_back


@dataclass
class Model:
    """One wallet: an integer, its holds, and what was accepted under each reference."""

    balance: int
    now: dt.datetime
    holds: list[ModelHold] = field(default_factory=list)
    accepted: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(hold.left for hold in self.holds)

    def settle(self) -> None:
        for hold in self.holds:
            if hold.end is None and hold.expires_at <= self.now:
                self.balance += hold.left
                hold.given_back += hold.left
                hold.end = "expired"

    def expected(self, step: tuple[Any, ...], reference: str) -> str:
        if reference in self.accepted:
            return "replay" if self.accepted[reference] == step else "mismatch"
        verb, which, amount, _ = step
        if verb in ("spend", "hold"):
            return "insufficient" if amount > self.balance else verb
        hold = self.holds[which]
        if hold.end is not None:
            return f"finished {hold.end}"
        if verb == "capture" and amount is not None and amount > hold.left:
            return "over"
        return verb

    def post(self, step: tuple[Any, ...], reference: str) -> None:
        verb, which, amount, is_final = step
        self.accepted[reference] = step
        if verb == "spend":
            self.balance -= amount
        elif verb == "hold":
            self.balance -= amount
            self.holds.append(ModelHold(reference, amount, self.now + dt.timedelta(seconds=which)))
        else:
            self.change(self.holds[which], verb, amount, is_final)

    def change(self, hold: ModelHold, verb: str, amount: int | None, is_final: bool) -> None:
        if verb == "release":
            self.balance += hold.left
            hold.given_back += hold.left
            hold.end = "released"
            return
        hold.captured += hold.left if amount is None else amount
        if is_final or not hold.left:
            self.balance += hold.left
            hold.given_back += hold.left
            hold.end = "captured"


steps = st.lists(
    st.tuples(
        st.sampled_from(["spend", "hold", "hold", "capture", "capture", "capture", "release"]),
        st.integers(0, 5),
        st.one_of(st.none(), st.integers(1, 40)),
        st.booleans(),
        st.integers(0, 12),
        st.sampled_from([0, 0, 0, 1, 2, 5, -1, -4]),
    ),
    max_size=40,
)
"""Verb, which hold (or seconds), amount, whether final, the reference's number, and by how much the clock jumps."""
outcomes: Counter[str] = Counter()


@settings(max_examples=300, deadline=None)
@given(balance=st.integers(0, 100), steps=steps)
def check_the_rules_of_holds(balance: int, steps: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    books = make_books({WALLET: balance, 4: 0, 5: 0}, dict.fromkeys(USERS, 0), clock)
    model = Model(balance, START)
    for verb, which, amount, is_final, number, jump in steps:
        clock.now += dt.timedelta(seconds=jump)
        step = shaped(model, verb, which, amount, is_final)
        if step is None:
            continue
        # Along a wallet the time never falls.
        model.now = max(clock.now, books.wallets[WALLET].updated_at)
        take(books, model, step, f"r{number}")


def shaped(model: Model, verb: str, which: int, amount: int | None, is_final: bool) -> tuple[Any, ...] | None:
    if verb in ("spend", "hold"):
        return (verb, which + 1 if verb == "hold" else 0, amount or 1, False)
    if not model.holds:
        return None
    which %= len(model.holds)
    return (verb, which, None, False) if verb == "release" else (verb, which, amount, is_final or amount is None)


def take(books: Books, model: Model, step: tuple[Any, ...], reference: str) -> None:
    model.settle()
    command = command_of(books, model, step, reference)
    expected = model.expected(step, reference)
    before, settled = seen(books), Counter(one.kind for one in books.posted)["HOLD_EXPIRY"]
    outcome = attempt(books, command)
    outcomes[expected] += 1
    outcomes["settled"] += Counter(one.kind for one in books.posted)["HOLD_EXPIRY"] - settled
    if expected in ("spend", "hold", "capture", "release"):
        model.post(step, reference)
        assert not outcome.is_replay
    else:
        kinds = {"insufficient": InsufficientBalanceError, "over": OverCaptureError, "mismatch": ReferenceMismatchError}
        if expected == "replay":
            assert outcome.is_replay
        elif expected.startswith("finished"):
            assert type(outcome) is HoldFinishedError
            assert outcome.details["state"] == expected.removeprefix("finished ")
        else:
            assert type(outcome) is kinds[expected]
        new = Counter(one.kind for one in books.posted) - Counter(one.kind for one in before[2])
        assert set(new) <= {"HOLD_EXPIRY"}, "a replay or a decline leaves nothing but what was due"
    assert_same(books, model)


def command_of(books: Books, model: Model, step: tuple[Any, ...], reference: str) -> service.Command:
    verb, which, amount, is_final = step
    common: Any = {"wallet_id": WALLET, "reference": reference, "origin": ORIGIN}
    if verb == "spend":
        return service.Spend(amount=amount, **common)
    if verb == "hold":
        return service.PlaceHold(amount=amount, expires_in=which, **common)
    placing = books.transactions[WALLET, model.holds[which].reference]
    if verb == "capture":
        return service.CaptureHold(hold_id=placing.transaction_id, amount=amount, is_final=is_final, **common)
    return service.ReleaseHold(hold_id=placing.transaction_id, **common)


def assert_same(books: Books, model: Model) -> None:
    state = books.wallets[WALLET]
    assert (state.balance, state.held) == (model.balance, model.held)
    found = sorted(books.holds.get(WALLET, {}).values(), key=lambda hold: hold.seq)
    assert [(hold.amount, hold.captured, hold.released + hold.expired, hold.expires_at) for hold in found] == [
        (hold.amount, hold.captured, hold.given_back, hold.expires_at) for hold in model.holds
    ]
    assert [hold.state if not hold.is_open else None for hold in found] == [hold.end for hold in model.holds]
    assert all((hold.state == "open") == (hold.is_open and not hold.captured) for hold in found)
    assert books.contra_deltas.get(USERS[WALLET].contra["Holds"], 0) == model.held
    assert books.open_holds[WALLET] == sum(hold.end is None for hold in model.holds)


def test_the_books_do_with_holds_what_a_plain_model_does() -> None:
    outcomes.clear()
    check_the_rules_of_holds()
    wanted = {"spend", "hold", "capture", "release", "insufficient", "over", "replay", "mismatch", "settled"}
    wanted |= {"finished captured", "finished released", "finished expired"}
    assert {name: outcomes[name] for name in wanted if outcomes[name] < 10} == {}


OPEN = Hold(WALLET, 1, uuid.UUID(int=1), 10, 2, 0, 0, "partially_captured", START, START, None, (2,))


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ([("RELEASE", 9)], HoldPart(OPEN, released=9)),
        ([("RELEASE", 3)], HoldPart(OPEN, released=4)),
        ([("RELEASE", 3), ("SPEND", -4)], HoldPart(OPEN, captured=3)),
        ([("RELEASE", 3), ("SPEND", -2)], HoldPart(OPEN, captured=3)),
        ([("RELEASE", 3)], HoldPart(OPEN, captured=3)),
        ([("RELEASE", 2), ("RELEASE", 1)], HoldPart(OPEN, released=3)),
        ([("RELEASE", 2)], HoldPart(OPEN, released=3, expired=-1)),
        ([("RELEASE", 1)], HoldPart(OPEN._replace(ended_at=START, state="released"), released=1)),
        ([], HoldPart(OPEN)),
    ],
)
def test_a_plan_that_is_not_what_it_does_to_the_hold_changes_nothing(
    entries: list[tuple[str, int]], part: HoldPart
) -> None:
    books = make_books({WALLET: 20, 4: 0, 5: 0}, {WALLET: 20, 4: 0, 5: 0}, Clock())
    planned = tuple(
        PlannedEntry(WALLET, entry_type, amount, "Holds" if entry_type == "RELEASE" else "Revenue")
        for entry_type, amount in entries
    )
    before = seen(books), dict(books.holds), dict(books.changed_holds)
    command = service.ReleaseHold(wallet_id=WALLET, reference="r", origin=ORIGIN, hold_id=OPEN.hold_id)
    with pytest.raises(BookkeepingError):
        books.apply(command, Plan(planned, part=part))
    assert (seen(books), dict(books.holds), dict(books.changed_holds)) == before
