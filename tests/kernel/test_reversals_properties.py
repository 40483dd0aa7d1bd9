"""The rules of reversals and debts against a plain model, without a database."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.test_books_properties import START, USERS, Clock, attempt, make_books, seen
from wallet_app import service
from wallet_app.errors import (
    InsufficientBalanceError,
    NoDebtBetweenUsersError,
    NotReversibleError,
    OnlyAsAWholeError,
    OverReversalError,
    ReferenceMismatchError,
)
from wallet_app.service.books import BookkeepingError, Books, Plan, PlannedEntry, ReversedEntry, ReversedPart

ORIGIN = service.Origin(client="x", actor="x")
WALLETS = (3, 5)


@dataclass
class Side:
    """A movement of a wallet, and what became of it."""

    wallet_id: int
    amount: int
    number: int = 0
    reversed: int = 0
    owed: int = 0
    since: dt.datetime = START

    @property
    def left(self) -> int:
        return abs(self.amount) - self.reversed - self.owed


@dataclass
class Made:
    """What was accepted: its kind, and its movements; of a reversal none that count."""

    kind: str
    transaction_id: uuid.UUID
    sides: list[Side]


Step = tuple[Any, ...]


@dataclass
class Model:
    """Wallets as integers, what moved them, and who owes for what since when."""

    balances: dict[int, int]
    made: list[Made] = field(default_factory=list)
    accepted: dict[tuple[int, str], Step] = field(default_factory=dict)
    debts: list[Side] = field(default_factory=list)
    """The oldest first."""

    def owed(self, wallet_id: int) -> int:
        return sum(side.owed for side in self.debts if side.wallet_id == wallet_id)

    def anchor(self, step: Step) -> int:
        return self.made[step[1]].sides[0].wallet_id if step[0] == "reverse" else step[1]

    def expected(self, step: Step, reference: str) -> str:
        before = self.accepted.get((self.anchor(step), reference))
        if before is not None:
            return "replay" if before == step else "mismatch"
        if step[0] == "reverse":
            return self.expected_reversal(*step[1:])
        verb, wallet_id, amount = step
        return "insufficient" if verb in ("spend", "transfer") and amount > self.balances[wallet_id] else verb

    def expected_reversal(self, which: int, amount: int | None, mode: str) -> str:
        made = self.made[which]
        if made.kind == "reverse":
            return "not reversible"
        is_one = made.kind == "transfer" or len(made.sides) == 1
        if not is_one and (amount is not None or mode == "partial"):
            return "only as a whole"
        if made.kind == "transfer" and mode == "debt":
            return "no debt"
        left = made.sides[0].left
        if left == 0 or (amount or 0) > left:
            return "over"
        there = [self.balances[side.wallet_id] for side in made.sides if side.amount > 0]
        wanted = sum(amount or side.left for side in made.sides if side.amount > 0)
        if there and mode != "debt" and there[0] < (1 if mode == "partial" else wanted):
            return "insufficient"
        return f"reverse {mode}" if there and there[0] < wanted else "reverse"

    def post(self, step: Step, reference: str, posted: service.PostedTransaction) -> None:
        self.accepted[self.anchor(step), reference] = step
        if step[0] == "reverse":
            self.reverse(*step[1:], posted)
        else:
            verb, wallet_id, amount = step
            other = next(one for one in WALLETS if one != wallet_id)
            sides = {
                "topup": [Side(wallet_id, amount)],
                "spend": [Side(wallet_id, -amount)],
                "transfer": [Side(wallet_id, -amount), Side(other, amount)],
                "bundle": [Side(wallet_id, amount), Side(wallet_id, 3)],
            }[verb]
            for number, side in enumerate(sides):
                side.number = len(self.made) * 10 + number
                self.balances[side.wallet_id] += side.amount
            self.made.append(Made(verb, posted.transaction_id, sides))
        self.repay()

    def reverse(self, which: int, amount: int | None, mode: str, posted: service.PostedTransaction) -> None:
        made = self.made[which]
        taken = [side for side in made.sides if side.amount > 0]
        if mode == "partial" and taken:
            amount = min(amount or taken[0].left, self.balances[taken[0].wallet_id])
        for side in reversed(made.sides):
            wanted = amount or side.left
            moved = wanted if side.amount < 0 else min(wanted, self.balances[side.wallet_id])
            self.balances[side.wallet_id] += moved if side.amount < 0 else -moved
            side.reversed += moved
            side.owed += wanted - moved
            if side.owed and not any(one is side for one in self.debts):
                side.since = posted.created_at
                self.debts.append(side)
        # At one instant, the wallet's older entry counts as the older debt.
        self.debts.sort(key=lambda side: (side.since, side.number))
        self.made.append(Made("reverse", posted.transaction_id, [Side(made.sides[0].wallet_id, 0)]))

    def repay(self) -> None:
        for side in self.debts:
            moved = min(side.owed, self.balances[side.wallet_id])
            self.balances[side.wallet_id] -= moved
            side.owed -= moved
            side.reversed += moved
        self.debts = [side for side in self.debts if side.owed]


steps = st.lists(
    st.tuples(
        st.sampled_from(["topup", "topup", "spend", "transfer", "bundle", *["chargeback"] * 4, *["reverse"] * 4]),
        st.sampled_from(WALLETS),
        st.integers(0, 30),
        st.one_of(st.none(), st.integers(1, 40)),
        st.sampled_from(service.SHORTFALLS),
        st.integers(0, 60),
        st.sampled_from([0, 0, 0, 1, -1]),
    ),
    min_size=8,
    max_size=40,
)
"""Verb, wallet, which transaction, amount, what on shortfall, the reference's number, and how the clock moves."""
outcomes: Counter[str] = Counter()

REFUSALS: dict[str, type[Exception]] = {
    "insufficient": InsufficientBalanceError,
    "mismatch": ReferenceMismatchError,
    "not reversible": NotReversibleError,
    "only as a whole": OnlyAsAWholeError,
    "no debt": NoDebtBetweenUsersError,
    "over": OverReversalError,
}


@settings(max_examples=400, deadline=None)
@given(balance=st.integers(0, 60), steps=steps)
def check_the_rules_of_reversals(balance: int, steps: list[Step]) -> None:
    clock = Clock()
    books = make_books({3: balance, 4: 0, 5: 0}, dict.fromkeys(USERS, 0), clock)
    model = Model({3: balance, 5: 0})
    for verb, wallet_id, which, amount, mode, number, seconds in steps:
        clock.now += dt.timedelta(seconds=seconds)
        for place, step in enumerate(shaped(model, verb, wallet_id, which, amount, mode)):
            take(books, model, step, f"r{number}.{place}")


def shaped(model: Model, verb: str, wallet_id: int, which: int, amount: int | None, mode: str) -> Iterator[Step]:
    """Yield what the drawn step comes to, as the model stands."""
    if verb == "chargeback":
        # Of the newest credit, after its wallet was emptied but for a few.
        newest = [n for n, one in enumerate(model.made) if one.sides[-1].amount > 0 and one.sides[-1].left]
        if not newest:
            return
        taken_from = model.made[newest[-1]].sides[-1].wallet_id
        if model.balances[taken_from]:
            yield "spend", taken_from, max(1, model.balances[taken_from] - which % 4)
        yield "reverse", newest[-1], amount, mode
    elif verb == "reverse":
        if model.made:
            # Mostly one of the last few.
            yield verb, max(0, len(model.made) - 1 - which % 4), amount, mode
    elif verb == "transfer" and which % 4:
        yield verb, wallet_id, min(amount or 1, max(1, model.balances[wallet_id]))
    else:
        yield verb, wallet_id, amount or 1


def take(books: Books, model: Model, step: Step, reference: str) -> None:
    books.originals = {one.transaction_id: one for one in books.posted}
    expected = model.expected(step, reference)
    before = seen(books), dict(books.reversed)
    outcome = attempt(books, command_of(model, step, reference))
    outcomes[expected] += 1
    if expected in REFUSALS:
        assert type(outcome) is REFUSALS[expected]
        assert (seen(books), dict(books.reversed)) == before
    elif expected == "replay":
        assert outcome.is_replay
        assert (seen(books), dict(books.reversed)) == before
    else:
        assert not outcome.is_replay
        model.post(step, reference, outcome.transaction)
        repaid = books.posted[len(before[0][2]) + 1 :]
        outcomes["repaid"] += len(repaid)
        assert {one.reference.rpartition(":")[0].rpartition(":")[0] for one in repaid} <= {"sys:repay"}
        assert outcome.wallets == tuple(books.wallets[wallet.wallet_id] for wallet in outcome.wallets)
    assert_same(books, model)


def command_of(model: Model, step: Step, reference: str) -> service.Command:
    common: Any = {"wallet_id": model.anchor(step), "reference": reference, "origin": ORIGIN}
    if step[0] == "reverse":
        _, which, amount, mode = step
        made = model.made[which]
        others = {side.wallet_id for side in made.sides} - {common["wallet_id"]}
        return service.ReverseTransaction(
            transaction_id=made.transaction_id,
            other_wallet_ids=tuple(others),
            reason="a test",
            amount=amount,
            on_shortfall=mode,
            **common,
        )
    verb, wallet_id, amount = step
    makers: dict[str, Callable[[], service.Command]] = {
        "topup": lambda: service.TopUp(amount=amount, **common),
        "spend": lambda: service.Spend(amount=amount, **common),
        "transfer": lambda: service.Transfer(
            amount=amount, to_wallet_id=next(one for one in WALLETS if one != wallet_id), **common
        ),
        "bundle": lambda: service.Purchase(
            legs=(service.Leg(wallet_id, "TOPUP", amount), service.Leg(wallet_id, "BONUS", 3)), **common
        ),
    }
    return makers[verb]()


def assert_same(books: Books, model: Model) -> None:
    for wallet_id in WALLETS:
        state = books.wallets[wallet_id]
        assert (state.balance, state.owed) == (model.balances[wallet_id], model.owed(wallet_id))
        assert not (state.balance and state.owed)
        debts = [(one.amount, one.reversed, one.owed) for one in books.debts(wallet_id)]
        mine = [side for side in model.debts if side.wallet_id == wallet_id]
        assert debts == [(abs(side.amount), side.reversed, side.owed) for side in mine]
        assert state.version == wallet_id + sum(
            entry.wallet_id == wallet_id for one in books.posted for entry in one.entries
        )
    became = sorted((one.amount, one.reversed, one.owed) for one in books.reversed.values())
    sides = [side for made in model.made for side in made.sides if side.reversed or side.owed]
    assert became == sorted((abs(side.amount), side.reversed, side.owed) for side in sides)
    assert books.contra_deltas.get(USERS[3].contra["Clearing"], 0) == 0


def test_the_books_do_with_reversals_what_a_plain_model_does() -> None:
    outcomes.clear()
    wanted = {"topup", "spend", "transfer", "bundle", "reverse", "reverse partial", "reverse debt", "repaid", "replay"}
    wanted |= set(REFUSALS)
    for _ in range(3):
        check_the_rules_of_reversals()
        # What is drawn differs from run to run: now and then 400 examples have one of the rarer outcomes nine times.
        if not (rare := {name: outcomes[name] for name in wanted if outcomes[name] < 10}):
            break
    assert rare == {}


WHICH = uuid.UUID(int=7)
OWING = ReversedEntry(3, 1, WHICH, USERS[3].contra["Treasury"], 10, 2, 3, START)


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ([-5], [ReversedPart(OWING, -6)]),
        ([-6], [ReversedPart(OWING, -6)]),
        ([], [ReversedPart(OWING, 0, 6)]),
        ([-3], [ReversedPart(OWING, -3, 3)]),
        ([], [ReversedPart(OWING, 0)]),
        ([], [ReversedPart(OWING, 0, -4)]),
        ([-1, -1], [ReversedPart(OWING, -2, -2)]),
        ([-1], [ReversedPart(OWING._replace(transaction_id=uuid.UUID(int=8)), -1)]),
        ([-1], [ReversedPart(OWING._replace(contra_wallet_id=99), -1)]),
    ],
)
def test_a_plan_that_is_not_what_it_undoes_changes_nothing(entries: list[int], parts: list[ReversedPart]) -> None:
    books = make_books({3: 20, 4: 0, 5: 0}, dict.fromkeys(USERS, 0), Clock())
    books.reversed = {(3, 1): OWING}
    books.wallets[3] = books.wallets[3]._replace(owed=3)
    planned = tuple(PlannedEntry(3, "REVERSAL", amount, "Treasury") for amount in entries)
    before = seen(books), dict(books.reversed), dict(books.changed_reversed)
    command = service.ReverseTransaction(
        wallet_id=3, reference="r", origin=ORIGIN, transaction_id=WHICH, reason="a test"
    )
    plan = Plan(planned, reverses=WHICH, reversed=tuple(parts), result={"parts": []})
    with pytest.raises(BookkeepingError):
        books.apply(command, plan)
    assert (seen(books), dict(books.reversed), dict(books.changed_reversed)) == before
