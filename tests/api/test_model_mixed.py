"""All commands mixed, alone and in batches of every kind: the API on PostgreSQL against a plain Python model.

After each step the API, the model and the database agree; a refused step leaves nothing but what was due and settled.
The database's clock is moved past the ends of holds and of lots. Each example has users of its own.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import text

from tests.api import clock
from tests.api.exploring import explore_until_all_came
from tests.api.model import FOR_EVER, REVERSIBLE, Accepted, Answer, DeclinedError, Lot, Record, Side, Wallet, World
from tests.api.support import NO_WALLET
from tests.keys import client_of
from wallet_app import service
from wallet_app.db import db
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import expiry

SEED = 20_261_122

Expected = Answer | DeclinedError
Given = tuple[int, dict[str, Any]]
"""A status and a body."""

STATUS = {"wallet_not_found": 404, "reference_mismatch": 422, "same_wallet": 422, "asset_mismatch": 422}
STATUS |= {"user_mismatch": 422, "payer_without_leg": 422, "version_mismatch": 412, "only_as_a_whole": 422}
STATUS |= {"no_debt_between_users": 422, "end_passed": 422}
"""What a refusal is answered with, where it is not 409."""

SIDES = ("debits", "credits", "both")
BETWEEN_WALLETS = ("transfer", "exchange", "purchase")
WAYS = ("alone", "each", "atomic", "lines")
PREVIEWED_EVERY = 4
"""How many requests come to one that is asked as a dry run first."""


class Machine(RuleBasedStateMachine):
    """GOLD and DIAMOND of one new player, GOLD of another one."""

    app: Flask
    outcomes: Counter[str]
    numbers = itertools.count(1)

    @initialize()
    def make_the_wallets(self) -> None:
        number = next(self.numbers)
        self.client: FlaskClient = client_of(self.app)
        self.references = (f"mixed-{number}-{index}" for index in itertools.count(1))
        self.world = World()
        # Each longer than the ones before, by more than the days that a test may take: so it is clear what ends first.
        self.grace_days = itertools.count(20, 2)
        self.begun = dt.datetime.now(dt.UTC)
        for user, assets in (("one", ("GOLD", "DIAMOND")), ("other", ("GOLD",))):
            player = {"name": "Model", "externalId": f"mixed:{number}:{user}"}
            user_id = self.client.post("/users", json=player).json["userId"]
            for asset in assets:
                wallet = self.client.post("/wallets", json={"userId": user_id, "asset": asset}).json["walletId"]
                self.world.wallets[wallet] = Wallet(user_id, asset)
        self.ids = list(self.world.wallets)
        with self.app.app_context():
            self.world.now = clock.steps_so_far()
        filled = [{"type": "topup", "walletId": wallet, "amount": 100} for wallet in self.ids]
        self.send([{**record, "referenceId": next(self.references)} for record in filled], "atomic")

    # --- steps ---

    # Hypothesis chooses the steps and shrinks them. What is in one follows from chance alone, so that each outcome is
    # as likely as it should be: Hypothesis' own choices keep to the first of what there is, and take ten times as long.

    @rule(chance=st.randoms(use_true_random=True), way=st.sampled_from(WAYS))
    def ask(self, chance: Random, way: str) -> None:
        records: list[Record] = []
        for _ in range(1 if way == "alone" else chance.randint(1, 6)):
            records.append(self.a_record(chance, records))
        self.send(records, way)

    @rule(chance=st.randoms(use_true_random=True), way=st.sampled_from(WAYS))
    def ask_again(self, chance: Random, way: str) -> None:
        """Repeat what was accepted, in one request with something new."""
        known = [done.record for done in self.world.accepted.values()]
        again = chance.choices(known, k=1 if way == "alone" else 3)
        more = [] if way == "alone" else [self.a_record(chance, again)]
        self.send([*again, *more], way)

    @rule(chance=st.randoms(use_true_random=True), way=st.sampled_from(WAYS))
    def come_late(self, chance: Random, way: str) -> None:
        """Grant what ends soon, use it, and undo that after its end; by chance alone that comes too rarely."""
        gold, diamond, _ = self.ids
        amount = chance.randint(10, 60)
        granted: Record = {"type": "bonus", "walletId": gold, "amount": amount, "expiresAt": self.instant_in(1)}
        spent = {"type": "spend", "walletId": gold, "amount": chance.randint(1, amount)}
        exchanged = {"type": "exchange", "from": gold, "to": diamond, "amount": amount, "rate": "1/1"}
        used = {**chance.choice([spent, exchanged]), "referenceId": next(self.references)}
        granted = {**granted, "referenceId": next(self.references)}
        for records in ([granted], [used]) if way == "alone" else ([granted, used],):
            self.send(records, way)
        self.pass_time(chance.randint(1, 2))
        done = self.world.accepted.get((gold, used["referenceId"]))
        if done is not None:
            self.send([{**self.undoing(chance, done), "referenceId": next(self.references)}], way)

    @rule(steps=st.integers(1, 6))
    def time_passes(self, steps: int) -> None:
        self.pass_time(steps)

    def pass_time(self, steps: int) -> None:
        with self.app.app_context():
            clock.move(steps)
        self.world.now += steps
        self.outcomes["due and unsettled"] += bool(self.world.due())
        self.outcomes["over and unsettled"] += bool(self.world.over())
        if any(lot.grant and lot.grant.in_place for hold in self.world.due() for lot, _ in hold.units if lot):
            # What returns in place of a grant is not foreseen by reads.
            self.sweep_now()
        self.compare()

    @precondition(lambda self: self.world.due() or self.world.over())
    @rule()
    def sweep(self) -> None:
        self.sweep_now()
        self.outcomes["swept"] += 1
        self.compare()

    def sweep_now(self) -> None:
        with self.app.app_context():
            expiry.expire_due(lambda: False)
            expiry.expire_due_lots(lambda: False)
        self.world.settle()

    # --- what is asked for ---

    def a_record(self, chance: Random, before: Sequence[Record]) -> Record:
        """Return something to ask for; sometimes under a reference that is taken."""
        kind = chance.choice(
            [
                *BETWEEN_WALLETS,
                "topup",
                "bonus",
                "spend",
                *["hold", "on_hold", "reversal"] * 2,
                "state",
                *["bonus", "on_lot"] * 2,
            ]
        )
        record: dict[str, Any] = getattr(self, f"a_{kind}", lambda chance: self.a_movement(chance, kind))(chance)
        taken = [reference for _, reference in self.world.accepted] + [one["referenceId"] for one in before]
        reference = chance.choice(taken) if chance.random() < 0.1 else next(self.references)
        return {**record, "referenceId": reference, **self.beside(chance, record)}

    def beside(self, chance: Random, record: Record) -> dict[str, Any]:
        """Return what else is said of it: that may be anything, but for the version that it is asked on."""
        said: dict[str, Any] = {}
        if chance.random() < 0.2:
            said["metadata"] = {"level": chance.randint(1, 9)}
        if chance.random() < 0.2:
            said["occurredAt"] = f"2026-01-{chance.randint(10, 28)}T12:00:00+01:00"
        if chance.random() < 0.2:
            anchor = self.world.wallets[self.world.wallets_of(record)[0]]
            said["ifVersion"] = max(0, anchor.version - chance.choice([0, 0, 0, 1]))
        return said

    def a_movement(self, chance: Random, kind: str) -> dict[str, Any]:
        wallet = chance.choice(self.ids)
        record = {"type": kind, "walletId": wallet, "amount": self.an_amount(chance, wallet)}
        if kind != "bonus" or chance.random() < 0.2:
            return record
        return {**record, "expiresAt": chance.choice([None, *map(self.instant_in, [0, 1, 2, 3, 5, 20])])}

    def a_on_lot(self, chance: Random) -> dict[str, Any]:
        known = [lot for lot in self.world.lots() if lot.lot_id]
        if not known:
            return self.a_movement(chance, "bonus")
        left = [lot for lot in known if lot.left]
        lot = chance.choice(left if left and chance.random() < 0.7 else known)
        if chance.random() < 0.5:
            end = self.instant_in(chance.choice([0, 1, 4, 9, 30]))
            return {"type": "extend", "lotId": lot.lot_id, "expiresAt": end, "reason": "Prolonged"}
        record = {"type": "revoke", "lotId": lot.lot_id, "reason": "Granted twice"}
        mode = chance.choice([None, "refuse", "partial", "debt"])
        return record if mode is None else {**record, "onShortfall": mode}

    def a_transfer(self, chance: Random) -> dict[str, Any]:
        gold, diamond, others = self.ids
        sensible = [(gold, others), (others, gold)] * 4
        source, target = chance.choice([*sensible, (gold, gold), (gold, diamond), (gold, NO_WALLET)])
        amount = self.an_amount(chance, source)
        asked = chance.choice([amount, {"upTo": amount}])
        return {"type": "transfer", "from": source, "to": target, "amount": asked}

    def a_exchange(self, chance: Random) -> dict[str, Any]:
        gold, diamond, others = self.ids
        source, target = chance.choice([(gold, diamond), (diamond, gold)] * 4 + [(diamond, others)])
        record = {"type": "exchange", "from": source, "to": target, "amount": self.an_amount(chance, source)}
        if chance.random() < 0.1:
            return record
        return {**record, "rate": f"{chance.randint(1, 3)}/{chance.randint(1, 30)}"}

    def a_purchase(self, chance: Random) -> dict[str, Any]:
        legs = []
        for _ in range(chance.randint(1, 4)):
            wallet, kind = chance.choice([*self.ids[:2] * 6, self.ids[2]]), chance.choice(["spend", "topup", "bonus"])
            legs.append({"walletId": wallet, "type": kind, "amount": self.an_amount(chance, wallet)})
        payer = chance.choice([legs[0]["walletId"]] * 8 + self.ids)
        return {"type": "purchase", "walletId": payer, "legs": legs}

    def a_hold(self, chance: Random) -> dict[str, Any]:
        wallet = chance.choice(self.ids)
        amount, steps = self.an_amount(chance, wallet), chance.choice([1, 4, 16, 64])
        return {"type": "hold", "walletId": wallet, "amount": amount, "expiresIn": steps}

    def a_on_hold(self, chance: Random) -> dict[str, Any]:
        known = [hold for hold in self.world.holds if hold.hold_id]
        if not known:
            return self.a_hold(chance)
        open_ones = [hold for hold in known if hold.end is None]
        hold = chance.choice(open_ones if open_ones and chance.random() < 0.8 else known)
        if chance.random() < 0.3:
            return {"type": "release", "holdId": hold.hold_id}
        record = {"type": "capture", "holdId": hold.hold_id}
        amount = chance.choice([None, hold.left, hold.left + 1, *[chance.randint(1, 10)] * 3])
        if not amount:
            return record
        return {**record, "amount": amount, **chance.choice([{}, {"final": True}, {"final": False}])}

    def a_reversal(self, chance: Random) -> dict[str, Any]:
        """Return a reversal, mostly of one of the last few, and often of a credit that is spent already."""
        known = [one for one in self.world.accepted.values() if one.transaction_id]
        credits_ = [one for one in known if one.record["type"] in ("topup", "bonus", "transfer", "purchase")]
        return self.undoing(chance, chance.choice(chance.choice([known[-6:], credits_[-4:] or known, known])))

    def undoing(self, chance: Random, original: Accepted) -> dict[str, Any]:
        """Return a reversal of it."""
        record: dict[str, Any] = {"type": "reversal", "transactionId": original.transaction_id, "reason": "Chargeback"}
        if chance.random() < 0.3:
            record["amount"] = chance.choice([1, chance.randint(1, 60), *[abs(side.amount) for side in original.sides]])
        if chance.random() < 0.4:
            record |= {"onExpired": "regrant", "graceDays": next(self.grace_days)}
        mode = chance.choice([None, "refuse", "partial", "debt", "debt"])
        return record if mode is None else {**record, "onShortfall": mode}

    def a_state(self, chance: Random) -> dict[str, Any]:
        """Return a freeze, the end of one, or the end of a wallet: of one of three, so that something is left."""
        others = self.world.wallets[self.ids[2]]
        if not others.balance or chance.random() < 0.1:
            return {"type": "close", "walletId": self.ids[2], "reason": "Left"}
        if chance.random() < 0.1:
            return {"type": "spend", "walletId": self.ids[2], "amount": others.balance}
        frozen = [wallet for wallet in self.ids if self.world.status(wallet) == "FROZEN"]
        if frozen and chance.random() < 0.8:
            record = {"type": "unfreeze", "walletId": chance.choice(frozen), "reason": "Looked into"}
            return chance.choice([record, record, {**record, "side": chance.choice(SIDES)}])
        kind, side = chance.choice(["unfreeze", *["freeze"] * 4]), chance.choice(SIDES)
        record = {"type": kind, "walletId": chance.choice(self.ids), "side": side, "reason": "Looked into"}
        steps = chance.choice([None, 0, 1, 3])
        return record if kind == "unfreeze" or steps is None else {**record, "until": self.instant_in(steps)}

    def instant_in(self, steps: int) -> str:
        """Return the instant, by the database's clock, which so many steps of it come to; of a step always the same."""
        at = self.begun + (self.world.now + steps) * dt.timedelta(seconds=clock.STEP_SECONDS)
        told = at.isoformat().replace("+00:00", "Z")
        self.world.untils[told] = self.world.now + steps
        return told

    def an_amount(self, chance: Random, wallet: int) -> int:
        """Return an amount: a small one, or now and then what is there, or more than there is or has room."""
        balance = self.world.wallets[wallet].balance
        if chance.random() < 0.75:
            return chance.randint(1, 60)
        return min(max(1, chance.choice([balance, balance + 1, AMOUNT_MAX - balance, AMOUNT_MAX])), AMOUNT_MAX)

    # --- how it is sent and judged ---

    def send(self, records: Sequence[Record], way: str) -> None:
        self.world.request += 1
        if way != "lines" and self.world.request % PREVIEWED_EVERY == 0:
            self.preview(records, way)
        world = copy.deepcopy(self.world) if way == "atomic" else self.world
        expected = [self.expect(world, record) for record in records]
        self.outcomes["settled by a command"] += world.settled
        self.outcomes["repaid by a command"] += world.repaid
        self.outcomes["expired before a command"] += world.expired
        self.outcomes["returned in place"] += world.returned
        self.outcomes["granted anew"] += world.granted_anew
        world.settled = world.repaid = world.expired = world.returned = world.granted_anew = 0
        refused = next((index for index, one in enumerate(expected) if isinstance(one, DeclinedError)), None)
        if way == "atomic" and refused is not None:
            status, body = self.post("/batches", {"mode": "atomic", "items": [self.outside(one) for one in records]})
            self.judge(records[refused], expected[refused], (status, body))
            assert body["index"] == refused
            self.outcomes["atomic: refused"] += 1
        else:
            self.world = world
            for record, one, given in zip(records, expected, self.answers(records, way), strict=True):
                self.judge(record, one, given, alone=len(records) == 1)
                self.outcomes[f"{way}: {'declined' if isinstance(one, DeclinedError) else 'accepted'}"] += 1
        self.compare()

    def preview(self, records: Sequence[Record], way: str) -> None:
        """Ask what would happen: it is what then happens, and if it changed anything, that would come differently."""
        world, outcomes = copy.deepcopy(self.world), self.outcomes
        expected = [self.expect(world, record) for record in records]
        refused = next((index for index, one in enumerate(expected) if isinstance(one, DeclinedError)), None)
        self.outcomes = Counter()
        if way == "atomic" and refused is not None:
            body = {"mode": "atomic", "items": [self.outside(one) for one in records]}
            self.judge(records[refused], expected[refused], self.post("/batches?dryRun=true", body))
        else:
            for record, one, given in zip(records, expected, self.answers(records, way, "?dryRun=true"), strict=True):
                self.judge(record, one, given)
        self.outcomes = outcomes
        self.outcomes[f"{way}: previewed {'in vain' if refused is not None else 'and accepted'}"] += 1

    def expect(self, world: World, record: Record) -> Expected:
        try:
            return world.do(record)
        except DeclinedError as declined:
            return declined

    def answers(self, records: Sequence[Record], way: str, query: str = "") -> list[Given]:
        sent = [self.outside(record) for record in records]
        if way == "alone":
            return [self.post_alone(record, query) for record in sent]
        if way == "lines":
            lines = b"\n".join(map(orjson.dumps, sent))
            answer = self.client.post("/batches", data=lines, content_type="application/x-ndjson")
            return [(line["status"], line["body"]) for line in map(orjson.loads, answer.get_data().splitlines())]
        status, body = self.post(f"/batches{query}", {"mode": way, "items": sent})
        assert status == 200, body
        return [(item["status"], item["body"]) for item in body["items"]]

    def post_alone(self, record: Record, query: str) -> Given:
        path, body = self.route_of(record)
        version = body.pop("ifVersion", None)
        return self.post(path + query, body, {} if version is None else {"If-Match": f'"{version}"'})

    def post(self, path: str, body: Record, headers: dict[str, str] | None = None) -> Given:
        answer = self.client.post(path, json=body, headers=headers)
        return answer.status_code, answer.json

    def outside(self, record: Record) -> dict[str, Any]:
        """Return the record as the service takes it: seconds for steps."""
        return {**record, **({"expiresIn": record["expiresIn"] * clock.STEP_SECONDS} if "expiresIn" in record else {})}

    def route_of(self, record: Record) -> tuple[str, dict[str, Any]]:
        body = dict(record)
        kind = body.pop("type")
        if kind == "reversal":
            return f"/transactions/{body.pop('transactionId')}/{kind}", body
        if kind in ("topup", "bonus", "spend", "freeze", "unfreeze", "close"):
            return f"/wallets/{body.pop('walletId')}/{kind}", body
        if kind in ("capture", "release"):
            return f"/holds/{body.pop('holdId')}/{kind}", body
        if kind in ("extend", "revoke"):
            return f"/lots/{body.pop('lotId')}/{kind}", body
        return f"/{kind}s", body

    def side(self, wallet: int, seq: int) -> Side:
        """Return the movement of that entry."""
        return next(
            side
            for one in self.world.accepted.values()
            for side in one.sides
            if (side.wallet, side.seq) == (wallet, seq)
        )

    def judge(self, record: Record, expected: Expected, given: Given, *, alone: bool = False) -> None:
        status, body = given
        if isinstance(expected, DeclinedError):
            assert (status, body["code"]) == (STATUS.get(expected.code, 409), expected.code), (record, body)
            self.outcomes[f"{record['type']}: {expected.code}"] += 1
            self.outcomes["wallet_closed"] += expected.code == "wallet_closed"
            return
        done = expected.accepted
        assert status == (201 if record["type"] == "hold" and not expected.is_replay else 200), (record, body)
        assert body["idempotent"] is expected.is_replay
        if not expected.is_replay:
            done.transaction_id = body["transactionId"]
            if record["type"] == "hold" and done.hold is not None:
                done.hold.hold_id = body["hold"]["holdId"]
        assert body["transactionId"] == done.transaction_id
        if record["type"] in ("reversal", "revoke"):
            told = [(one["walletId"], one["reversedSeq"], one["amount"], one["owed"]) for one in body["movements"]]
            assert told == done.parts
            self.outcomes["owed"] += any(owed for *_, owed in done.parts)
            self.outcomes["taken in part"] += body["movements"][0]["remaining"] > 0
            if alone and not expected.is_replay:
                told = {(one["walletId"], one["reversedSeq"]): one["remaining"] for one in body["movements"]}
                undone = [(wallet, seq) for wallet, seq, *_ in done.parts]
                assert told == {key: self.side(*key).reversible for key in undone}
        if "version" in body:
            assert (body["balance"], body["version"]) == (expected.balance, expected.version)
        self.outcomes[f"{record['type']}: {'replayed' if expected.is_replay else 'done'}"] += 1

    def compare(self) -> None:
        """Check that the API, the model and the database say the same of each wallet and of the latest holds."""
        for wallet, model in self.world.wallets.items():
            held, due = self.world.held(wallet), sum(hold.left for hold in self.world.due(wallet))
            body = self.client.get(f"/wallets/{wallet}").json
            assert (body["balance"], body["version"]) == (model.balance, model.version)
            over = sum(lot.available for lot in self.world.over(wallet))
            there = model.balance + due - over - sum(part for lot, part in self.back(wallet) if self.is_over(lot))
            repaid = min(there, self.world.owed(wallet))
            assert (body["held"], body["available"], body["due"]) == (held - due, there - repaid, over)
            self.compare_bonus(wallet, body, repaid)
            assert (body["owed"], body["status"]) == (self.world.owed(wallet) - repaid, self.world.status(wallet))
        for hold in self.world.holds[-2:]:
            if hold.hold_id:
                body = self.client.get(f"/holds/{hold.hold_id}").json
                is_due = hold in self.world.due()
                assert body["state"] == ("expired" if is_due else hold.state)
                assert body["remaining"] == (0 if is_due else hold.left)
        for done in list(self.world.accepted.values())[-2:]:
            if done.transaction_id and done.record["type"] in REVERSIBLE:
                sides = [side for side in done.sides if not side.is_of_hold]
                rows = self.client.get(f"/transactions/{done.transaction_id}").json["reversible"]
                told = [(one["walletId"], one["seq"], one["reversed"], one["owed"], one["remaining"]) for one in rows]
                assert told == [(one.wallet, one.seq, one.reversed, one.owed, self.reversible(one)) for one in sides]
        self.compare_lots(self.ids[self.world.request % len(self.ids)])
        with self.app.app_context(), db.engine.connect() as connection:
            rows = connection.execute(_WALLETS, {"wallets": self.ids}).all()
        assert [tuple(row) for row in rows] == [
            (
                *(wallet, model.balance, self.world.held(wallet), self.world.owed(wallet)),
                sum(lot.available for lot in model.lots),
                sum((lot.left if lot.seq else lot.held) > 0 for lot in model.lots),
                *(model.version, model.version, model.balance),
            )
            for wallet, model in self.world.wallets.items()
        ]

    def back(self, wallet: int) -> list[tuple[Lot, int]]:
        """Return what due holds will give back to lots of the wallet."""
        return [(lot, part) for hold in self.world.due(wallet) for lot, part in hold.units if lot is not None]

    def is_over(self, lot: Lot) -> bool:
        return lot.until <= self.world.now

    def compare_bonus(self, wallet: int, body: Mapping[str, Any], repaid: int) -> None:
        """Check what is told of the wallet's bonus: what is due has come back and has repaid what ends soonest."""
        there = Counter({lot: lot.available for lot in self.world.lots(wallet) if not self.is_over(lot)})
        for lot, part in self.back(wallet):
            there[lot] += 0 if self.is_over(lot) else part
        left: Counter[int] = Counter()
        for lot in sorted(there, key=lambda one: one.order):
            taken = min(there[lot], repaid)
            repaid -= taken
            left[lot.until] += there[lot] - taken
        left = +left
        assert (body["bonus"], body["paid"]) == (left.total(), body["available"] - left.total())
        ends = [until for until in left if until != FOR_EVER]
        soon = [until for until in ends if (until - self.world.now) * clock.STEP_SECONDS < 7 * 86_400]
        told = body["expiring"]
        assert (told["nextAt"] is None) == (not ends)
        assert told["nextAmount"] == (left[min(ends)] if ends else 0)
        assert told["within7d"] == sum(left[until] for until in soon)

    def reversible(self, side: Side) -> int:
        """Return how much of it a reversal that came now could reverse: one that settles first what is due."""
        granted = {lot for lot, _ in side.parts if lot is not None and self.is_over(lot)} if side.amount > 0 else set()
        back = sum(part for lot, part in self.back(side.wallet) if lot in granted)
        return max(0, side.reversible - sum(lot.available for lot in granted) - back)

    def compare_lots(self, wallet: int) -> None:
        """Check all lots of a wallet; and keep what the service calls them."""
        found = self.client.get(f"/wallets/{wallet}/lots?state=all&limit=100").json["lots"]
        lots = sorted(self.world.lots(wallet), key=lambda lot: (lot.seq, lot.part), reverse=True)[:100]
        back: Counter[Lot] = Counter()
        for lot, part in self.back(wallet):
            back[lot] += part
        expected = []
        for lot in lots:
            available, over = (0, lot.available + back[lot]) if self.is_over(lot) else (lot.available + back[lot], 0)
            expected.append(
                [lot.seq or None, lot.until == FOR_EVER, lot.amount, available, lot.held - back[lot], lot.consumed,
                 lot.expired + over, lot.revoked]
            )  # fmt: skip
        names = ("amount", "available", "held", "consumed", "expired", "revoked")
        assert [[one["seq"], one["expiresAt"] is None, *map(one.get, names)] for one in found] == expected
        for one, lot in zip(found, lots, strict=True):
            assert lot.lot_id in (None, one["lotId"])
            lot.lot_id = one["lotId"]


_WALLETS = text("""
SELECT balances.wallet_id, balances.balance, balances.held, balances.owed, balances.bonus, balances.lots,
       balances.version, count(entries.seq),
       coalesce(sum(entries.amount), 0)
  FROM wallet_balances AS balances
  LEFT JOIN ledger_entries AS entries ON entries.wallet_id = balances.wallet_id
 WHERE balances.wallet_id = ANY (:wallets)
 GROUP BY balances.wallet_id
 ORDER BY balances.wallet_id
""")
_DECLINES = {
    "topup": ("balance_above_bound",),
    "bonus": ("balance_above_bound", "lot_end_passed"),
    "spend": ("insufficient_balance", "wallet_not_active", "version_mismatch"),
    "transfer": ("insufficient_balance", "balance_above_bound", "same_wallet", "asset_mismatch", "wallet_not_found"),
    "exchange": ("insufficient_balance", "exchange_too_small", "no_exchange_rate", "user_mismatch"),
    "purchase": ("insufficient_balance", "balance_above_bound", "payer_without_leg", "user_mismatch"),
    "hold": ("insufficient_balance",),
    "capture": ("over_capture", "hold_finished"),
    "release": ("hold_finished",),
    "reversal": (
        *("not_reversible", "only_as_a_whole", "no_debt_between_users", "over_reversal", "insufficient_balance"),
        *("wallet_not_active", "version_mismatch", "brought_expired"),
    ),
    "extend": ("lot_without_end", "lot_finished", "lot_end_passed", "lot_end_not_later"),
    "revoke": ("lot_not_one_grant", "lot_finished", "lot_used"),
    "freeze": ("end_passed",),
    "unfreeze": ("wallet_not_frozen",),
    "close": ("wallet_not_empty",),
}
OUTCOMES = {
    "due and unsettled", "over and unsettled", "expired before a command", "swept", "wallet_closed",
    "settled by a command", "repaid by a command", "owed",
    "returned in place", "granted anew", "taken in part", "atomic: refused", "atomic: accepted", "alone: accepted",
    *(f"{way}: previewed {how}" for way in ("alone", "each", "atomic") for how in ("in vain", "and accepted")),
    "alone: declined", "each: accepted", "each: declined", "lines: accepted", "lines: declined",
    *(f"{kind}: {how}" for kind in _DECLINES for how in ("done", "replayed", *_DECLINES[kind])),
}  # fmt: skip


COMMON = {
    name for name in OUTCOMES if not name.startswith("close") and name.endswith((": done", ": accepted", ": declined"))
}
"""What every short run reaches; in the long ones, all must come."""


def explore(app: Flask, outcomes: set[str], *, number: int, examples: int, at_least: int) -> None:
    explore_until_all_came(Machine, app, outcomes, number=number, examples=examples, at_least=at_least)
    assert service.verify(full=True).is_clean


@pytest.mark.wide
@pytest.mark.timeout(600)
def test_whatever_is_mixed_api_model_and_database_agree(app_with_clock: Flask) -> None:
    explore(app_with_clock, COMMON, number=SEED, examples=30, at_least=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("examples", "at_least"), [(60, 1), pytest.param(150, 2, marks=pytest.mark.long)])
def test_whatever_is_mixed_api_model_and_database_agree_at_length(
    app_with_clock: Flask, examples: int, at_least: int
) -> None:
    explore(app_with_clock, OUTCOMES, number=100, examples=examples, at_least=at_least)
