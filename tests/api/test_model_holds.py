"""A stateful test of holds: the API on PostgreSQL against a plain Python model, with the database's clock moved on.

After each step the API, the model and the database agree; a refused step leaves nothing but what was due and settled.
Each example has a wallet of its own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import text

from tests.api import clock
from tests.api.clock import STEP_SECONDS
from tests.api.exploring import explore_until_all_came
from tests.api.support import assert_problem
from tests.keys import client_of
from wallet_app import service
from wallet_app.db import db
from wallet_app.service import expiry

indexes = st.integers(0, 1_000)
small = st.integers(1, 60)


@dataclass
class ModelHold:
    """A hold as a few integers; `until` counts steps of the clock."""

    hold_id: str
    amount: int
    until: int
    captured: int = 0
    released: int = 0
    expired: int = 0
    end: str | None = None

    @property
    def left(self) -> int:
        return self.amount - self.captured - self.released - self.expired

    @property
    def state(self) -> str:
        return self.end or ("partially_captured" if self.captured else "open")


@dataclass
class Accepted:
    """What was accepted under a reference: how to ask for it again, and what it did."""

    path: str
    body: dict[str, Any]
    transaction_id: str
    hold: ModelHold | None


@dataclass
class Model:
    """A wallet, its holds, and what was accepted."""

    balance: int = 0
    version: int = 0
    now: int = 0
    transactions: int = 0
    holds: list[ModelHold] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)

    def due(self) -> list[ModelHold]:
        return [hold for hold in self.holds if hold.end is None and hold.until <= self.now]

    def settle(self) -> int:
        due = self.due()
        for hold in due:
            self.balance += hold.left
            hold.expired = hold.left
            hold.end = "expired"
            self.version += 1
            self.transactions += 1
        return len(due)


class Machine(RuleBasedStateMachine):
    """One wallet of one new player."""

    app: Flask
    outcomes: Counter[str]
    numbers = itertools.count(1)

    @initialize()
    def make_a_wallet(self) -> None:
        number = next(self.numbers)
        self.client: FlaskClient = client_of(self.app)
        user = self.client.post("/users", json={"name": "Model", "externalId": f"holds:{number}"}).json["userId"]
        self.wallet: int = self.client.post("/wallets", json={"userId": user, "asset": "GOLD"}).json["walletId"]
        self.references = (f"holds-{number}-{index}" for index in itertools.count(1))
        self.model = Model()
        with self.app.app_context():
            self.model.now = clock.steps_so_far()
        self.ask(f"/wallets/{self.wallet}/topup", {"amount": 100})
        self.moved(100, 1)

    # --- time, and the worker ---

    @precondition(lambda self: any(hold.end is None for hold in self.model.holds))
    @rule(is_swept=st.booleans())
    def the_next_hold_ends(self, is_swept: bool) -> None:
        left = min(hold.until for hold in self.model.holds if hold.end is None) - self.model.now
        self.time_passes_by(max(0, left))
        if is_swept:
            self.sweep()

    @rule(steps=st.integers(1, 3))
    def time_passes(self, steps: int) -> None:
        self.time_passes_by(steps)

    def time_passes_by(self, steps: int) -> None:
        with self.app.app_context():
            clock.move(steps)
        self.model.now += steps
        self.outcomes["due and unsettled"] += bool(self.model.due())
        self.compare()

    def sweep(self) -> None:
        with self.app.app_context():
            expiry.expire_due(lambda: False)
        self.outcomes["swept"] += self.model.settle()
        self.compare()

    # --- steps ---

    @rule(amount=small)
    def top_up(self, amount: int) -> None:
        self.ask(f"/wallets/{self.wallet}/topup", {"amount": amount})
        self.moved(amount, 1)

    @rule(amount=small)
    def spend(self, amount: int) -> None:
        self.settled_before()
        if amount > self.model.balance:
            self.refuse(f"/wallets/{self.wallet}/spend", {"amount": amount}, 409, "insufficient_balance")
            return
        self.ask(f"/wallets/{self.wallet}/spend", {"amount": amount})
        self.moved(-amount, 1)

    @rule(amount=st.integers(15, 60), steps=st.sampled_from([1, 2, 4, 8, 16]))
    def place(self, amount: int, steps: int) -> None:
        self.settled_before()
        body = {"walletId": self.wallet, "amount": amount, "expiresIn": steps * STEP_SECONDS}
        if amount > self.model.balance:
            self.refuse("/holds", body, 409, "insufficient_balance")
            return
        answer = self.ask("/holds", body, status=201)
        hold = ModelHold(answer["hold"]["holdId"], amount, self.model.now + steps)
        self.model.holds.append(hold)
        self.model.accepted[-1].hold = hold
        self.moved(-amount, 1)
        self.outcomes["placed"] += 1

    @precondition(lambda self: self.model.holds)
    @rule(which=indexes, amount=st.one_of(st.integers(1, 10), st.none(), small), final=st.booleans())
    def capture_any(self, which: int, amount: int | None, final: bool) -> None:
        self.capture(which, amount, final=final)

    def capture(self, which: int, amount: int | None, *, final: bool) -> None:
        hold = self.pick(which)
        self.settled_before()
        body: dict[str, Any] = {} if amount is None else {"amount": amount, "final": final}
        path = f"/holds/{hold.hold_id}/capture"
        if self.is_finished(hold, path, body):
            return
        taken = hold.left if amount is None else amount
        if taken > hold.left:
            problem = self.refuse(path, body, 409, "over_capture")
            assert (problem["remaining"], problem["amount"]) == (hold.left, taken)
            return
        answer = self.ask(path, body, hold=hold)
        hold.captured += taken
        back = hold.left if final and amount is not None else 0
        hold.released += back
        hold.end = None if hold.left else "captured"
        self.moved(back, 2)
        assert answer["hold"]["state"] == hold.state
        self.outcomes[f"capture: {hold.state}"] += 1

    @precondition(lambda self: any(hold.end is None and hold.left > 1 for hold in self.model.holds))
    @rule(which=indexes, share=indexes)
    def capture_a_part(self, which: int, share: int) -> None:
        hold = self.pick_open(which)
        self.capture(self.model.holds.index(hold), 1 + share % max(1, hold.left - 1), final=False)

    @precondition(lambda self: any(hold.end is None and hold.left > 1 for hold in self.model.holds))
    @rule(which=indexes, over=small)
    def capture_too_much(self, which: int, over: int) -> None:
        hold = self.pick_open(which)
        self.capture(self.model.holds.index(hold), hold.left + over, final=True)

    def pick_open(self, which: int) -> ModelHold:
        found = [hold for hold in self.model.holds if hold.end is None and hold.left > 1]
        return found[which % len(found)]

    @precondition(lambda self: self.model.holds)
    @rule(which=indexes)
    def release(self, which: int) -> None:
        hold = self.pick(which)
        self.settled_before()
        path = f"/holds/{hold.hold_id}/release"
        if self.is_finished(hold, path, {}):
            return
        self.ask(path, {}, hold=hold)
        back, hold.released = hold.left, hold.released + hold.left
        hold.end = "released"
        self.moved(back, 1)
        self.outcomes["released"] += 1

    # --- steps that must change nothing but what was due ---

    @rule(which=indexes)
    def replay(self, which: int) -> None:
        done = self.model.accepted[which % len(self.model.accepted)]
        self.settled_before()
        answer = self.client.post(done.path, json=done.body)
        assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (200, "true")
        assert answer.json["transactionId"] == done.transaction_id
        assert (answer.json["balance"], answer.json["version"]) == (self.model.balance, self.model.version)
        if done.hold is not None:
            self.assert_hold(answer.json["hold"], done.hold)
            self.outcomes["replayed on a finished hold"] += done.hold.end is not None
        self.outcomes["replayed"] += 1
        self.compare()

    @precondition(lambda self: self.model.holds)
    @rule(which=indexes, reference=indexes)
    def use_a_reference_again(self, which: int, reference: int) -> None:
        done = self.model.accepted[reference % len(self.model.accepted)]
        path = f"/holds/{self.pick(which).hold_id}/release"
        if path == done.path:
            return
        self.settled_before()
        answer = self.client.post(path, json={"referenceId": done.body["referenceId"]})
        assert_problem(answer, 422, "reference_mismatch")
        self.outcomes["mismatched"] += 1
        self.compare()

    @precondition(lambda self: self.model.holds)
    @rule(which=indexes, atomic=st.booleans())
    def release_twice_in_a_batch(self, which: int, atomic: bool) -> None:
        hold = self.pick(which)
        items = [{"type": "release", "holdId": hold.hold_id, "referenceId": next(self.references)} for _ in range(2)]
        answer = self.client.post("/batches", json={"mode": "atomic" if atomic else "each", "items": items})
        if atomic:
            # Refused as a whole: not even what was due is settled.
            is_over = hold.end is not None or hold in self.model.due()
            assert assert_problem(answer, 409, "hold_finished")["index"] == (0 if is_over else 1)
            self.outcomes["atomic refused"] += 1
            self.compare()
            return
        self.settled_before()
        statuses = [item["status"] for item in answer.json["items"]]
        assert statuses == ([409, 409] if hold.end is not None else [200, 409])
        if hold.end is None:
            back, hold.released = hold.left, hold.released + hold.left
            hold.end = "released"
            self.model.accepted.append(
                Accepted(
                    f"/holds/{hold.hold_id}/release",
                    {"referenceId": items[0]["referenceId"]},
                    answer.json["items"][0]["body"]["transactionId"],
                    hold,
                )
            )
            self.moved(back, 1)
        self.outcomes["released twice"] += 1
        self.compare()

    @rule(state=st.none() | st.sampled_from(service.HOLD_STATES), limit=st.integers(1, 3))
    def list_holds(self, state: str | None, limit: int) -> None:
        query = f"limit={limit}" + (f"&state={state}" if state else "")
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.client.get(f"/wallets/{self.wallet}/holds?{query}{cursor}").json
            found += page["holds"]
            if "next" not in page:
                break
            cursor = f"&cursor={page['next']}"
        expected = [hold for hold in reversed(self.model.holds) if state in (None, self.read_state(hold))]
        assert [hold["holdId"] for hold in found] == [hold.hold_id for hold in expected]
        for read, hold in zip(found, expected, strict=True):
            assert read["state"] == self.read_state(hold)
        self.outcomes["listed"] += 1
        self.outcomes["paged"] += len(found) > limit

    # --- how a step is done and judged ---

    def pick(self, which: int) -> ModelHold:
        return self.model.holds[which % len(self.model.holds)]

    def settled_before(self) -> None:
        self.outcomes["settled by a command"] += self.model.settle()

    def ask(self, path: str, body: dict[str, Any], *, status: int = 200, hold: ModelHold | None = None) -> Any:
        self.settled_before()
        sent = {**body, "referenceId": next(self.references)}
        answer = self.client.post(path, json=sent)
        assert answer.status_code == status, answer.get_data()
        assert answer.json["idempotent"] is False
        self.model.accepted.append(Accepted(path, sent, answer.json["transactionId"], hold))
        self.answered = answer.json
        return answer.json

    def moved(self, amount: int, entries: int) -> None:
        self.model.balance += amount
        self.model.version += entries
        self.model.transactions += 1
        self.compare()

    def refuse(self, path: str, body: dict[str, Any], status: int, code: str) -> dict[str, Any]:
        problem = assert_problem(
            self.client.post(path, json={**body, "referenceId": next(self.references)}), status, code
        )
        self.outcomes[code] += 1
        self.compare()
        return problem

    def is_finished(self, hold: ModelHold, path: str, body: dict[str, Any]) -> bool:
        if hold.end is None:
            return False
        assert self.refuse(path, body, 409, "hold_finished")["state"] == hold.end
        self.outcomes[f"finished: {hold.end}"] += 1
        return True

    def read_state(self, hold: ModelHold) -> str:
        return "expired" if hold in self.model.due() else hold.state

    def assert_hold(self, read: dict[str, Any], hold: ModelHold) -> None:
        due = hold.left if hold in self.model.due() else 0
        assert (read["state"], read["amount"]) == (self.read_state(hold), hold.amount)
        assert (read["captured"], read["released"], read["expired"]) == (
            hold.captured,
            hold.released,
            hold.expired + due,
        )
        assert read["remaining"] == hold.left - due
        assert (read["endedAt"] is None) == (hold.end is None and not due)

    def compare(self) -> None:
        """Check that the API, the model and the database say the same."""
        model = self.model
        due = sum(hold.left for hold in model.due())
        held = sum(hold.left for hold in model.holds)
        body = self.client.get(f"/wallets/{self.wallet}/balance").json
        assert (body["balance"], body["version"]) == (model.balance, model.version)
        assert (body["held"], body["available"]) == (held - due, model.balance + due)
        assert body["total"] == model.balance + held
        for hold in model.holds[-3:]:
            self.assert_hold(self.client.get(f"/holds/{hold.hold_id}").json, hold)
        with self.app.app_context(), db.engine.connect() as connection:
            row = connection.execute(_WALLET, {"wallet": self.wallet}).one()
        assert tuple(row) == (model.balance, held, model.version, model.version, model.balance, model.transactions)


_WALLET = text("""
SELECT balances.balance, balances.held, balances.version, count(entries.seq), coalesce(sum(entries.amount), 0),
       (SELECT count(*) FROM transactions WHERE wallet_id = :wallet)
  FROM wallet_balances AS balances
  LEFT JOIN ledger_entries AS entries ON entries.wallet_id = balances.wallet_id
 WHERE balances.wallet_id = :wallet
 GROUP BY balances.balance, balances.held, balances.version
""")
OUTCOMES = {
    "placed", "released", "capture: partially_captured", "capture: captured", "insufficient_balance", "over_capture",
    "hold_finished", "finished: captured", "finished: released", "finished: expired", "replayed", "mismatched",
    "replayed on a finished hold", "released twice", "atomic refused", "listed", "paged", "swept",
    "settled by a command", "due and unsettled",
}  # fmt: skip


def explore(app: Flask, *, number: int, examples: int, at_least: int) -> None:
    came = explore_until_all_came(Machine, app, OUTCOMES, number=number, examples=examples, at_least=at_least)
    assert set(came) == OUTCOMES
    assert service.verify(full=True).is_clean


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "at_least"),
    [
        pytest.param(80, 3, marks=pytest.mark.timeout(900)),
        pytest.param(150, 5, marks=[pytest.mark.timeout(900), pytest.mark.long]),
    ],
)
def test_api_model_and_database_agree_about_holds(app_with_clock: Flask, examples: int, at_least: int) -> None:
    explore(app_with_clock, number=100, examples=examples, at_least=at_least)
