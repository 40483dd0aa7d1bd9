"""A stateful test: the API on PostgreSQL against a plain Python model, step by step.

After each step the API, the model and the database agree; a refused step leaves everything as it was. Each example has
a player of its own, so that no database is rebuilt for it.
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

from tests.api.exploring import explore_until_all_came
from tests.api.support import NO_WALLET, assert_problem
from tests.keys import client_of
from wallet_app import service
from wallet_app.db import db
from wallet_app.money import AMOUNT_MAX

SEED = 20_261_122
ASSETS = ("GOLD", "DIAMOND")
SIGN = {"topup": 1, "bonus": 1, "spend": -1}

verbs = st.sampled_from(["topup", "bonus", "spend"])
small = st.integers(1, 100)
amounts = st.one_of(small, st.integers(1, AMOUNT_MAX), st.sampled_from([1, AMOUNT_MAX - 1, AMOUNT_MAX]))
notes = st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
indexes = st.integers(0, 1_000)
bad_bodies = st.sampled_from(
    [
        {"amount": 0},
        {"amount": -5},
        {"amount": 1.5},
        {"amount": True},
        {"amount": None},
        {"amount": "1e2"},
        {"amount": AMOUNT_MAX + 1},
        {"referenceId": "x"},
        {"referenceId": None},
        {"referenceId": "sys:mine"},
        {"note": 7},
        {"note": "a\nb"},
        {"colour": "red"},
    ]
)


@dataclass
class Posted:
    verb: str
    reference: str
    amount: int
    note: str | None
    transaction_id: str
    balance_after: int


@dataclass
class ModelWallet:
    """What a wallet is: the list of what was posted, from which everything else follows."""

    posted: list[Posted] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return self.posted[-1].balance_after if self.posted else 0

    @property
    def moved(self) -> list[Posted]:
        """What moved this wallet alone."""
        return [one for one in self.posted if one.verb in SIGN]

    @property
    def version(self) -> int:
        return len(self.posted)

    def refuses(self, verb: str, amount: int) -> str | None:
        """Return the code of the refusal, or None if the movement is possible."""
        if verb == "spend":
            return "insufficient_balance" if amount > self.balance else None
        return "balance_above_bound" if self.balance + amount > AMOUNT_MAX else None


class Machine(RuleBasedStateMachine):
    """Two wallets of one new player."""

    app: Flask
    outcomes: Counter[str]
    players = itertools.count(1)

    @initialize()
    def make_a_player(self) -> None:
        number = next(self.players)
        self.client: FlaskClient = client_of(self.app)
        self.player = {"name": f"Model {number}", "externalId": f"model:{number}"}
        answer = self.client.post("/users", json=self.player)
        assert answer.status_code == 201, answer.get_data()
        self.user = answer.json["userId"]
        made = [self.client.post("/wallets", json=self.wallet_of(asset)) for asset in ASSETS]
        assert [answer.status_code for answer in made] == [201, 201]
        self.ids = [answer.json["walletId"] for answer in made]
        assert sorted(set(self.ids)) == self.ids
        self.wallets = {wallet: ModelWallet() for wallet in self.ids}
        other = self.client.post("/users", json={"name": "Other", "externalId": f"model:other:{number}"}).json["userId"]
        self.other = self.client.post("/wallets", json={"userId": other, "asset": ASSETS[0]}).json["walletId"]
        self.others = 0
        self.references = (f"model-{number}-{index}" for index in itertools.count(1))
        for wallet in self.ids:
            self.compare(wallet)

    # --- steps that may be accepted ---

    @rule(which=indexes, verb=verbs, amount=amounts, note=notes)
    def move(self, which: int, verb: str, amount: int, note: str | None) -> None:
        self.post_new(self.pick(which), verb, amount, note)

    @rule(which=indexes, verb=verbs, amount=small, as_header=st.booleans(), as_string=st.booleans())
    def move_a_little(self, which: int, verb: str, amount: int, as_header: bool, as_string: bool) -> None:
        self.post_new(self.pick(which), verb, amount, None, as_header=as_header, as_string=as_string)

    @rule(which=indexes)
    def spend_everything(self, which: int) -> None:
        wallet = self.pick(which)
        if balance := self.wallets[wallet].balance:
            self.post_new(wallet, "spend", balance, None)
            assert self.wallets[wallet].balance == 0
            self.outcomes["emptied"] += 1

    @rule(which=indexes)
    def fill_up(self, which: int) -> None:
        wallet = self.pick(which)
        if room := AMOUNT_MAX - self.wallets[wallet].balance:
            self.post_new(wallet, "topup", room, None)
            self.outcomes["filled"] += 1
            self.post_new(wallet, "bonus", 1, None)

    # --- between wallets: another player's GOLD, whose balance follows from the answers, and this player's DIAMOND ---

    @rule(amount=small, is_up_to=st.booleans(), comes_back=st.booleans())
    def pass_on(self, amount: int, is_up_to: bool, comes_back: bool) -> None:
        """Transfer to the other player, or back from there: a refusal changes nothing."""
        own, model = self.ids[0], self.wallets[self.ids[0]]
        there = self.others if comes_back else model.balance
        moved = min(amount, there) if is_up_to else amount
        sides = {"from": self.other, "to": own} if comes_back else {"from": own, "to": self.other}
        asked = {"upTo": amount} if is_up_to else amount
        is_above = comes_back and model.balance + moved > AMOUNT_MAX
        is_accepted = there >= max(moved, 1) and not is_above
        answer = self.send_between("/transfers", {**sides, "amount": asked}, replays=is_accepted)
        if there < max(moved, 1):
            assert_problem(answer, 409, "insufficient_balance")
            self.done("transfer_refused", own)
        elif is_above:
            assert_problem(answer, 409, "balance_above_bound")
            self.done("transfer_refused", own)
        else:
            self.others += -moved if comes_back else moved
            assert answer.json["amount"] == moved
            self.append(own, answer.json, moved if comes_back else -moved, "transfer")
            assert answer.json["from" if comes_back else "to"]["balance"] == self.others
            self.done("transfer", own)

    @rule(amount=small, numerator=st.integers(1, 3), denominator=st.integers(1, 30))
    def swap(self, amount: int, numerator: int, denominator: int) -> None:
        gold, diamond = self.ids
        received = amount * numerator // denominator
        refused = None
        if self.wallets[gold].balance < amount:
            refused = "insufficient_balance"
        elif received == 0:
            refused = "exchange_too_small"
        elif self.wallets[diamond].balance + received > AMOUNT_MAX:
            refused = "balance_above_bound"
        body = {"from": gold, "to": diamond, "amount": amount, "rate": f"{numerator}/{denominator}"}
        answer = self.send_between("/exchanges", body, replays=refused is None)
        if refused is not None:
            assert_problem(answer, 409, refused)
            self.done("exchange_refused")
            return
        self.append(gold, answer.json, -amount, "exchange")
        self.append(diamond, answer.json, received, "exchange")
        self.done("exchange")

    @rule(legs=st.lists(st.tuples(indexes, verbs, small), min_size=1, max_size=4))
    def buy(self, legs: list[tuple[int, str, int]]) -> None:
        gold = self.ids[0]
        asked = [(gold, "spend", 1), *[(self.pick(which), verb, amount) for which, verb, amount in legs]]
        running, refused = {wallet: self.wallets[wallet].balance for wallet in self.ids}, None
        for wallet, verb, amount in asked:
            running[wallet] += amount * SIGN[verb]
            if not 0 <= running[wallet] <= AMOUNT_MAX:
                refused = "insufficient_balance" if running[wallet] < 0 else "balance_above_bound"
                break
        body = {"walletId": gold, "legs": [{"walletId": w, "type": v, "amount": a} for w, v, a in asked]}
        answer = self.send_between("/purchases", body, replays=refused is None)
        if refused is not None:
            assert_problem(answer, 409, refused)
            self.done("purchase_refused")
            return
        for wallet, verb, amount in asked:
            self.append(wallet, answer.json, amount * SIGN[verb], "purchase")
        self.done("purchase")

    def send_between(self, path: str, body: dict[str, Any], *, replays: bool) -> Any:
        """Post under a new reference; what was accepted is posted again, and must be the same transaction."""
        body = {**body, "referenceId": next(self.references)}
        answer = self.client.post(path, json=body)
        if replays:
            assert answer.status_code == 200, answer.get_data()
            again = self.client.post(path, json=body).json
            assert (again["idempotent"], again["transactionId"]) == (True, answer.json["transactionId"])
        return answer

    def append(self, wallet: int, body: dict[str, Any], signed: int, verb: str) -> None:
        model = self.wallets[wallet]
        model.posted.append(
            Posted(
                verb=verb,
                reference=body["referenceId"],
                amount=abs(signed),
                note=None,
                transaction_id=body["transactionId"],
                balance_after=model.balance + signed,
            )
        )

    # --- steps that must change nothing ---

    @rule(which=indexes, over=small)
    def spend_too_much(self, which: int, over: int) -> None:
        wallet = self.pick(which)
        if self.wallets[wallet].balance + over <= AMOUNT_MAX:
            self.post_new(wallet, "spend", self.wallets[wallet].balance + over, None)

    @precondition(lambda self: any(wallet.moved for wallet in self.wallets.values()))
    @rule(which=indexes, index=indexes, note=notes, as_header=st.booleans())
    def replay(self, which: int, index: int, note: str | None, as_header: bool) -> None:
        wallet, posted = self.pick_posted(which, index)
        answer = self.send(wallet, posted.verb, posted.amount, posted.reference, note, as_header=as_header)
        assert answer.status_code == 200, answer.get_data()
        assert answer.headers["Idempotent-Replayed"] == "true"
        self.assert_receipt(wallet, posted, answer.json, is_replay=True)
        self.done("replayed", wallet)

    @precondition(lambda self: any(wallet.moved for wallet in self.wallets.values()))
    @rule(which=indexes, index=indexes, verb=verbs, amount=amounts)
    def use_a_reference_again(self, which: int, index: int, verb: str, amount: int) -> None:
        wallet, posted = self.pick_posted(which, index)
        differing = [
            *(["kind"] if verb != posted.verb else []),
            *(["amount"] if amount * SIGN[verb] != posted.amount * SIGN[verb] else []),
        ]
        if differing:
            problem = assert_problem(self.send(wallet, verb, amount, posted.reference), 422, "reference_mismatch")
            assert problem["fields"] == differing
            self.done("mismatched", wallet)

    @rule(verb=verbs, amount=small)
    def ask_for_an_unknown_wallet(self, verb: str, amount: int) -> None:
        answer = self.send(NO_WALLET, verb, amount, next(self.references))
        assert_problem(answer, 404, "wallet_not_found")
        assert_problem(self.client.get(f"/wallets/{NO_WALLET}"), 404, "wallet_not_found")
        self.done("unknown")

    @rule(which=indexes, verb=verbs, bad=bad_bodies)
    def send_nonsense(self, which: int, verb: str, bad: dict[str, Any]) -> None:
        wallet = self.pick(which)
        body = {"amount": 1, "referenceId": next(self.references), **bad}
        answer = self.client.post(f"/wallets/{wallet}/{verb}", json=body)
        assert_problem(answer, 422, "validation_error", *(f"/{name}" for name in bad))
        self.done("nonsense", wallet)

    @rule()
    def make_the_player_again(self) -> None:
        answer = self.client.post("/users", json=self.player)
        assert (answer.status_code, answer.json["userId"]) == (200, self.user)
        problem = assert_problem(
            self.client.post("/users", json={**self.player, "name": "Somebody else"}), 409, "external_id_taken"
        )
        assert problem["userId"] == self.user
        self.done("player_again")

    @rule(which=indexes)
    def make_a_wallet_again(self, which: int) -> None:
        wallet = self.pick(which)
        model = self.wallets[wallet]
        answer = self.client.post("/wallets", json=self.wallet_of(ASSETS[self.ids.index(wallet)]))
        assert (answer.status_code, answer.json["walletId"]) == (200, wallet)
        assert (answer.json["balance"], answer.json["version"]) == (model.balance, model.version)
        self.done("wallet_again")

    # --- reads ---

    @rule(limit=st.integers(1, 3))
    def list_the_wallets(self, limit: int) -> None:
        page = self.client.get(f"/wallets?userId={self.user}&limit={limit}").json
        assert [(wallet["walletId"], wallet["balance"]) for wallet in page["wallets"]] == [
            (wallet, self.wallets[wallet].balance) for wallet in self.ids[:limit]
        ]
        assert ("next" in page) == (limit < len(self.ids))
        self.outcomes["listed"] += 1

    @rule(which=indexes, limit=st.integers(1, 3))
    def read_all_pages(self, which: int, limit: int) -> None:
        wallet = self.pick(which)
        entries: list[dict[str, Any]] = []
        query = f"limit={limit}"
        while True:
            page = self.client.get(f"/wallets/{wallet}/entries?{query}").json
            entries += page["entries"]
            if "next" not in page:
                break
            query = f"limit={limit}&cursor={page['next']}"
        posted = self.wallets[wallet].posted
        assert [(entry["seq"], entry["transactionId"], entry["balanceAfter"]) for entry in reversed(entries)] == [
            (seq, one.transaction_id, one.balance_after) for seq, one in enumerate(posted, 1)
        ]
        assert [entry["createdAt"] for entry in entries] == sorted((e["createdAt"] for e in entries), reverse=True)
        self.outcomes["paged"] += len(entries) > limit
        self.outcomes["read"] += 1

    @precondition(lambda self: any(wallet.moved for wallet in self.wallets.values()))
    @rule(which=indexes, index=indexes)
    def read_a_transaction(self, which: int, index: int) -> None:
        wallet, posted = self.pick_posted(which, index)
        body = self.client.get(f"/transactions/{posted.transaction_id}").json
        assert (body["kind"], body["referenceId"], body["walletId"]) == (posted.verb.upper(), posted.reference, wallet)
        assert body["note"] == posted.note
        assert sum(leg["amount"] for leg in body["legs"]) == 0
        assert body["entries"][0]["amount"] == posted.amount * SIGN[posted.verb]
        self.outcomes["transaction"] += 1

    # --- how a step is done and judged ---

    def wallet_of(self, asset: str) -> dict[str, object]:
        return {"userId": self.user, "asset": asset}

    def pick(self, which: int) -> int:
        return self.ids[which % len(self.ids)]

    def pick_posted(self, which: int, index: int) -> tuple[int, Posted]:
        """Return a movement of one wallet; there must be one."""
        wallet = self.pick(which)
        if not self.wallets[wallet].moved:
            wallet = next(other for other in self.ids if self.wallets[other].moved)
        moved = self.wallets[wallet].moved
        return wallet, moved[index % len(moved)]

    def send(
        self,
        wallet: int,
        verb: str,
        amount: int | str,
        reference: str,
        note: str | None = None,
        *,
        as_header: bool = False,
    ) -> Any:
        body: dict[str, object] = {"amount": amount}
        if note is not None:
            body["note"] = note
        if not as_header:
            body["referenceId"] = reference
        headers = {"Idempotency-Key": f'"{reference}"'} if as_header else {}
        return self.client.post(f"/wallets/{wallet}/{verb}", json=body, headers=headers)

    def post_new(
        self,
        wallet: int,
        verb: str,
        amount: int,
        note: str | None,
        *,
        as_header: bool = False,
        as_string: bool = False,
    ) -> None:
        """Post under a new reference; the model says whether it must be accepted."""
        model, reference = self.wallets[wallet], next(self.references)
        sent = str(amount) if as_string else amount
        answer = self.send(wallet, verb, sent, reference, note, as_header=as_header)
        if (code := model.refuses(verb, amount)) is not None:
            problem = assert_problem(answer, 409, code)
            assert (problem["balance"], problem["version"]) == (model.balance, model.version)
            self.done(code, wallet)
            return
        assert answer.status_code == 200, answer.get_data()
        body = answer.json
        posted = Posted(
            verb=verb,
            reference=reference,
            amount=amount,
            note=(note or "").strip(_BLANKS) or None,
            transaction_id=body["transactionId"],
            balance_after=model.balance + amount * SIGN[verb],
        )
        model.posted.append(posted)
        self.assert_receipt(wallet, posted, body, is_replay=False)
        self.done(verb, wallet)

    def assert_receipt(self, wallet: int, posted: Posted, body: dict[str, Any], *, is_replay: bool) -> None:
        model = self.wallets[wallet]
        assert body["idempotent"] is is_replay
        assert (body["balance"], body["version"]) == (model.balance, model.version)
        assert (body["walletId"], body["referenceId"]) == (wallet, posted.reference)
        assert body["transactionId"] == posted.transaction_id
        assert body["amount"] == posted.amount * SIGN[posted.verb]
        # Strict order: the entry's number is its place in the history, and the balance is the sum up to there.
        assert body["seq"] == model.posted.index(posted) + 1
        assert body["balanceAfter"] == posted.balance_after

    def done(self, outcome: str, *wallets: int) -> None:
        self.outcomes[outcome] += 1
        for wallet in wallets or self.ids:
            self.compare(wallet)

    def compare(self, wallet: int) -> None:
        """Check that the API, the model and the database say the same of the wallet."""
        model = self.wallets[wallet]
        body = self.client.get(f"/wallets/{wallet}/balance").json
        assert (body["balance"], body["held"], body["version"]) == (model.balance, 0, model.version)
        with self.app.app_context(), db.engine.connect() as connection:
            row = connection.execute(_WALLET, {"wallet": wallet}).one()
        assert tuple(row) == (model.balance, model.version, model.version, model.balance, model.version)


_BLANKS = "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
_WALLET = text("""
SELECT coalesce(balances.balance, 0), coalesce(balances.version, 0), count(entries.seq),
       coalesce(sum(entries.amount), 0), count(entries.seq) FILTER (WHERE EXISTS (
           SELECT FROM transactions WHERE transactions.transaction_id = entries.transaction_id))
  FROM wallets
  LEFT JOIN wallet_balances AS balances ON balances.wallet_id = wallets.id
  LEFT JOIN ledger_entries AS entries ON entries.wallet_id = wallets.id
 WHERE wallets.id = :wallet
 GROUP BY balances.balance, balances.version
""")
OUTCOMES = {
    "topup", "bonus", "spend", "emptied", "filled", "insufficient_balance", "balance_above_bound", "replayed",
    "transfer", "transfer_refused", "exchange", "exchange_refused", "purchase", "purchase_refused",
    "mismatched", "unknown", "nonsense", "read", "paged", "transaction", "player_again", "wallet_again", "listed",
}  # fmt: skip


def explore(app: Flask, *, number: int, examples: int, at_least: int) -> None:
    came = explore_until_all_came(Machine, app, OUTCOMES, number=number, examples=examples, at_least=at_least)
    assert set(came) == OUTCOMES
    assert service.verify(full=True).is_clean


@pytest.mark.wide
@pytest.mark.timeout(600)
def test_api_model_and_database_agree(shared_app: Flask) -> None:
    explore(shared_app, number=SEED, examples=40, at_least=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "at_least"),
    [
        pytest.param(100, 5, marks=pytest.mark.timeout(900)),
        pytest.param(200, 10, marks=[pytest.mark.timeout(900), pytest.mark.long]),
    ],
)
def test_api_model_and_database_agree_at_length(shared_app: Flask, examples: int, at_least: int) -> None:
    explore(shared_app, number=100, examples=examples, at_least=at_least)
