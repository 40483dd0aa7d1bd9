"""The rules of freezes and closings against a plain model, without a database, with a clock that jumps over their ends.

The model knows what a side is frozen until, and of each command only what it takes from the wallet, or brings.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.test_books_properties import START, USERS, Clock, attempt, make_books, seen
from wallet_app import service
from wallet_app.service.books import Books, Stop

ORIGIN = service.Origin(client="x", actor="x")
WALLET, OTHER = 3, 5
SIDES = st.sampled_from(["debits", "credits", "both"])
ENDS = st.sampled_from([None, None, -1, 1, 30, 600])
"""Seconds from the time of the command; None for no end."""

steps = st.one_of(
    st.tuples(st.just("topup"), st.integers(1, 20)),
    st.tuples(st.just("spend"), st.integers(1, 20)),
    st.tuples(st.just("spend all"), st.none()),
    st.tuples(st.just("transfer"), st.integers(1, 20)),
    st.tuples(st.just("receive"), st.integers(1, 20)),
    st.tuples(st.just("freeze"), st.tuples(SIDES, ENDS)),
    st.tuples(st.just("freeze"), st.tuples(SIDES, ENDS)),
    st.tuples(st.just("unfreeze"), SIDES),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("stop"), st.one_of(st.none(), SIDES)),
)
runs = st.lists(st.tuples(steps, st.integers(0, 12), st.sampled_from([0, 0, 1, 29, 601])), min_size=1, max_size=40)
"""Steps, each with the number of its reference and the seconds by which the clock goes on before it."""


@dataclass
class Model:
    """One wallet and another one."""

    balances: dict[int, int]
    now: dt.datetime = START
    closed: bool = False
    until: dict[str, Any] = field(default_factory=lambda: {"debits": None, "credits": None})
    stopped: set[str] = field(default_factory=set)
    accepted: dict[tuple[int, str], tuple[Any, ...]] = field(default_factory=dict)

    def frozen(self) -> set[str]:
        return {side for side, until in self.until.items() if until == "for ever" or (until and until > self.now)}

    def expected(self, verb: str, what: Any) -> str:
        sides = {"debits", "credits"} if what == "both" else {what}
        if self.closed:
            return "closed"
        if verb == "close":
            return "not empty" if self.balances[WALLET] else "close"
        if verb == "freeze":
            return "passed" if what[1] == -1 else "freeze"
        if verb == "unfreeze":
            return "unfreeze" if sides & self.frozen() else "not frozen"
        source = {"spend": WALLET, "transfer": WALLET, "receive": OTHER}.get(verb)
        if source is not None and self.balances[source] < what:
            return "insufficient"
        side = "credits" if verb in ("topup", "receive") else "debits"
        return "frozen" if side in self.frozen() else "stopped" if side in self.stopped else verb

    def post(self, verb: str, what: Any) -> None:
        if verb == "freeze":
            for side in ("debits", "credits"):
                if what[0] in (side, "both"):
                    self.until[side] = "for ever" if what[1] is None else self.now + dt.timedelta(seconds=what[1])
        elif verb == "unfreeze":
            for side in ("debits", "credits"):
                if what in (side, "both"):
                    self.until[side] = None
        elif verb == "close":
            self.closed = True
        else:
            self.balances[WALLET] += what if verb in ("topup", "receive") else -what
            self.balances[OTHER] += {"transfer": what, "receive": -what}.get(verb, 0)


def command_of(verb: str, what: Any, reference: str, now: dt.datetime) -> service.Command:
    common: dict[str, Any] = {"wallet_id": WALLET, "reference": reference, "origin": ORIGIN}
    why = common | {"reason": "why"}
    if verb == "freeze":
        until = None if what[1] is None else now + dt.timedelta(seconds=what[1])
        return service.Freeze(side=what[0], until=until, **why)
    if verb == "unfreeze":
        return service.Unfreeze(side=what, **why)
    if verb == "close":
        return service.Close(**why)
    if verb == "transfer":
        return service.Transfer(to_wallet_id=OTHER, amount=what, **common)
    if verb == "receive":
        return service.Transfer(to_wallet_id=WALLET, amount=what, **common | {"wallet_id": OTHER})
    return (service.TopUp if verb == "topup" else service.Spend)(amount=what, **common)


ERRORS = {
    "WalletClosedError": "closed",
    "WalletNotEmptyError": "not empty",
    "WalletNotFrozenError": "not frozen",
    "EndPassedError": "passed",
    "WalletNotActiveError": "frozen",
    "StoppedError": "stopped",
    "InsufficientBalanceError": "insufficient",
    "ReferenceMismatchError": "mismatch",
}
OUTCOMES = {*ERRORS.values(), "replay", "topup", "spend", "transfer", "receive", "freeze", "unfreeze", "close"}


def test_freezes_do_what_a_plain_model_does_and_every_outcome_comes() -> None:
    counted: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(balance=st.integers(0, 30), run=runs)
    def play(balance: int, run: list[Any]) -> None:
        clock = Clock()
        opening = {WALLET: balance, 4: 0, OTHER: 10}
        books, model = make_books(opening, dict.fromkeys(USERS, 0), clock), Model({WALLET: balance, OTHER: 10})
        for (verb, what), number, seconds in run:
            clock.now += dt.timedelta(seconds=seconds)
            model.now = clock.now
            if verb == "stop":
                books.stops = {} if what is None else {WALLET: (Stop("user", what),)}
                model.stopped = {"debits", "credits"} if what == "both" else {what}
            else:
                counted[step(books, model, verb, what, f"ref-{number}")] += 1

    play()
    assert {name for name in OUTCOMES if counted[name] < 5} == set(), counted


def step(books: Books, model: Model, verb: str, what: Any, reference: str) -> str:
    if verb == "spend all":
        verb, what = "spend", model.balances[WALLET] or 1
    command = command_of(verb, what, reference, model.now)
    asked = (verb, dict(command.requested()))
    key = command.wallet_id, reference
    if key in model.accepted:
        expected = "replay" if model.accepted[key] == asked else "mismatch"
    else:
        expected = model.expected(verb, what)
    before = seen(books), dict(books.wallets), set(books.changed_states)
    outcome = attempt(books, command)
    if isinstance(outcome, service.Receipt):
        told = "replay" if outcome.is_replay else verb
    else:
        told = ERRORS[type(outcome).__name__]
    assert told == expected, (command, outcome)
    if told == verb:
        model.post(verb, what)
        model.accepted[key] = asked
    else:
        assert (seen(books), dict(books.wallets), set(books.changed_states)) == before
    assert_same(books, model)
    return told


def assert_same(books: Books, model: Model) -> None:
    wallet = books.wallets[WALLET]
    assert (wallet.balance, books.wallets[OTHER].balance) == (model.balances[WALLET], model.balances[OTHER])
    assert (wallet.status == "CLOSED") == model.closed
    assert not model.closed or wallet.balance == 0
    now = wallet.frozen.at(model.now)
    assert {side for side, until in now._asdict().items() if until} == model.frozen()
    assert books.wallets[OTHER].frozen == service.Frozen()
