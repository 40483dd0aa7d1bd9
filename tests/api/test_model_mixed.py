"""All commands mixed, alone and in batches of every kind: the API on PostgreSQL against a plain Python model.

After each step the API, the model and the database agree; a refused step leaves nothing but what was due and settled.
The database's clock is moved past the ends of holds and of lots, and of the windows of limits. Each example has users
of its own.
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
from tests.api.model_limits import FIGURES, LIMITED, WINDOWS, Figures, Window
from tests.api.support import NO_WALLET
from tests.keys import client_of
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import WalletServiceError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import expiry, forgetting

SEED = 20_261_122

Expected = Answer | DeclinedError
Given = tuple[int, dict[str, Any]]
"""A status and a body."""

STATUS = {"wallet_not_found": 404, "reference_mismatch": 422, "same_wallet": 422, "asset_mismatch": 422}
STATUS |= {"user_mismatch": 422, "payer_without_leg": 422, "version_mismatch": 412, "only_as_a_whole": 422}
STATUS |= {"no_debt_between_users": 422, "end_passed": 422}
"""What a refusal is answered with, where it is not 409."""

STEP = dt.timedelta(seconds=clock.STEP_SECONDS)
SIDES = ("debits", "credits", "both")
BETWEEN_WALLETS = ("transfer", "exchange", "purchase")
ALONE = ("spend", "capture")
"""What takes from one wallet and brings nothing to any."""
WAYS = ("alone", "each", "atomic", "lines")
ZONES = {"GOLD": "UTC", "DIAMOND": "Asia/Kathmandu"}
"""Where the days of an asset begin: there at a quarter past, of UTC, and so do its hours."""
ORIGIN = service.Origin(client="mixed", actor="mixed")
PREVIEWED_EVERY = 4
"""How many requests come to one that is asked as a dry run first."""


class Machine(RuleBasedStateMachine):
    """GOLD and DIAMOND of one new player, GOLD of another one."""

    app: Flask
    outcomes: Counter[str]
    numbers = itertools.count(1)

    @initialize(hour=st.integers(0, 23))
    def make_the_wallets(self, hour: int) -> None:
        number = next(self.numbers)
        self.client: FlaskClient = client_of(self.app)
        self.references = (f"mixed-{number}-{index}" for index in itertools.count(1))
        self.world = World(zones=ZONES)
        # Each longer than the ones before, by more than the days that a test may take: so it is clear what ends first.
        self.grace_days = itertools.count(60, 2)
        self.waiting: list[Record] = []
        for user, assets in (("one", ("GOLD", "DIAMOND")), ("other", ("GOLD",))):
            player = {"name": "Model", "externalId": f"mixed:{number}:{user}"}
            user_id = self.client.post("/users", json=player).json["userId"]
            for asset in assets:
                wallet = self.client.post("/wallets", json={"userId": user_id, "asset": asset}).json["walletId"]
                self.world.wallets[wallet] = Wallet(user_id, asset)
        self.ids = list(self.world.wallets)
        with self.app.app_context():
            self.world.now = clock.steps_so_far()
            # Not whatever hour it is: an example must be the same when it is asked again.
            self.world.begun = clock.wait_for(hour) - self.world.now * STEP
        filled = [{"type": "topup", "walletId": wallet, "amount": 100} for wallet in self.ids]
        self.send([{**record, "referenceId": next(self.references)} for record in filled], "atomic")

    # --- steps ---

    # Hypothesis chooses the steps and shrinks them. What is in one follows from chance alone, so that each outcome is
    # as likely as it should be: Hypothesis' own choices keep to the first of what there is, and take ten times as long.

    @rule(chance=st.randoms(use_true_random=True), way=st.sampled_from(WAYS))
    def ask(self, chance: Random, way: str) -> None:
        self.ask_something(self.of_this_step(chance), way)

    @rule(chance=st.randoms(use_true_random=True), way=st.sampled_from(WAYS), steps=st.integers(1, 6))
    def time_passes(self, chance: Random, way: str, steps: int) -> None:
        """Let so many steps pass, or until there is room for what was refused; and ask for something."""
        chance = self.of_this_step(chance)
        found = self.refused_still() if chance.random() < 0.5 else None
        if found is None:
            self.move_the_clock(steps)
            self.compare()
        else:
            self.wait_for_room(*found)
        self.ask_something(chance, way)

    def of_this_step(self, chance: Random) -> Random:
        """Return another chance at each step: the seeds that Hypothesis draws are often the same few."""
        return Random(chance.getrandbits(64) + self.world.request)

    def ask_something(self, chance: Random, way: str) -> None:
        """Ask for something new, or repeat what was accepted, in one request with something new."""
        if chance.random() < 0.35:
            self.change_limits(chance)
        # Of what is accepted only as a whole, fewer: or hardly anything would be.
        most = {"alone": 1, "atomic": 5}.get(way, 9)
        records: list[Record] = []
        if chance.random() < 0.2:
            # Of each type as often: of a wallet's end there is one at most.
            known = {done.record["type"]: list[Record]() for done in self.world.accepted.values()}
            for done in self.world.accepted.values():
                known[done.record["type"]].append(done.record)
            records += [chance.choice(known[kind]) for kind in chance.choices(list(known), k=min(most, 3))]
        for _ in range(chance.randint(1, most) - len(records)):
            records.append(self.a_record(chance, records))
        self.send(records, way)

    def move_the_clock(self, steps: int) -> None:
        with self.app.app_context():
            clock.move(steps)
        self.world.now += steps
        self.outcomes["due and unsettled"] += bool(self.world.due())
        self.outcomes["over and unsettled"] += bool(self.world.over())
        if any(lot.grant and lot.grant.in_place for hold in self.world.due() for lot, _ in hold.units if lot):
            # What returns in place of a grant is not foreseen by reads.
            self.sweep_now()

    def refused_still(self) -> tuple[Record, int] | None:
        """Return what a window refused and still would, and the step from which on it should have room for it."""
        while self.waiting:
            record = self.waiting.pop()
            expected = self.expect(copy.deepcopy(self.world), record)
            frees_at = expected.told.get("freesAt") if isinstance(expected, DeclinedError) else None
            if frees_at is not None:
                return record, self.world.step(frees_at)
        return None

    def wait_for_room(self, record: Record, frees_at: int) -> None:
        """Ask for it again in front of the instant from which on the window has room for it, and then."""
        self.move_the_clock(frees_at - 1 - self.world.now)
        self.compare()
        early = self.expect(copy.deepcopy(self.world), record)
        self.send([record], "alone")
        self.move_the_clock(1)
        if isinstance(early, DeclinedError) and early.told:
            # What it had may have expired meanwhile.
            filled = {"type": "topup", "walletId": early.told["walletId"], "amount": early.told["amount"]}
            self.send([{**filled, "referenceId": next(self.references)}], "alone")
        known = len(self.world.accepted)
        self.send([record], "alone")
        if isinstance(early, DeclinedError) and early.told and len(self.world.accepted) > known:
            self.outcomes[f"limit: room again: {early.told['limit']}"] += 1

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
            forgetting.forget_spending(lambda: False)
        self.world.settle()

    # --- limits ---

    def change_limits(self, chance: Random) -> None:
        """Set limits for a wallet, or all of an asset, or let them be no more; or raise a wallet's, or end that."""
        # Where something is raised, or owed, a limit has more to show.
        of_interest = [one for one in self.ids if self.world.limits.more(one, self.world.now) or self.world.owed(one)]
        wallet = chance.choice(of_interest if of_interest and chance.random() < 0.7 else self.ids)
        raised = self.world.limits.more(wallet, self.world.now)
        if chance.random() < (0.5 if raised else 0.2):
            self.raise_limits(chance, wallet, is_end=bool(raised))
            return
        asset = self.world.wallets[wallet].asset
        target = chance.choice([*[("wallet", wallet)] * 4, ("asset", asset), ("userType", asset)])
        is_end = target in self.world.limits.settings and chance.random() < 0.5
        names = [] if is_end else chance.choices([*FIGURES, *WINDOWS, "rolling"], k=chance.randint(1, 2))
        if self.world.owed(wallet) and not is_end:
            names = ["balance"]
        self.set_limits(target, {name: self.a_figure(chance, wallet, name) for name in names})

    def set_limits(self, target: tuple[str, str | int], figures: Figures) -> None:
        level, whose = target
        found = service.LimitTarget(
            asset_code=whose if isinstance(whose, str) else self.world.wallets[whose].asset,
            user_type="USER" if level == "userType" else None,
            wallet_id=whose if isinstance(whose, int) else None,
        )
        with self.app.app_context():
            service.set_limits(found, service.WalletLimits(**figures), by=service.By(actor="mixed"))
        self.world.limits.settings.pop(target, None)
        if figures:
            self.world.limits.settings[target] = figures
        self.outcomes["limits: set" if figures else "limits: ended"] += 1

    def raise_limits(self, chance: Random, wallet: int, *, is_end: bool) -> None:
        """Raise a wallet's limits, as an operator whom another one has approved, or end it."""
        command: service.Command
        if is_end or chance.random() < 0.2:
            command = service.EndRaise(wallet_id=wallet, reason="Over", reference=next(self.references), origin=ORIGIN)
            ask, what = lambda: self.world.end_raise(wallet), "raise ended"
        else:
            base = self.world.limits.base(wallet, self.world.wallets[wallet].asset)
            names = chance.choice([list(base), [chance.choice(FIGURES)]]) or ["day"]
            figures = {name: min(base.get(name, ("", 9))[1] + chance.randint(0, 60), AMOUNT_MAX) for name in names}
            until = self.world.now + chance.choice([0, 10, 40, 400])
            command = service.RaiseLimits(
                wallet_id=wallet,
                figures=service.WalletLimits(**figures),
                until=self.world.instant(until),
                reason="A tournament",
                reference=next(self.references),
                origin=ORIGIN,
            )
            ask, what = lambda: self.world.raise_limits(wallet, figures, until), "raised"
        expected = given = "done"
        try:
            ask()
        except DeclinedError as declined:
            expected = declined.code
        with self.app.app_context():
            try:
                service.execute(command)
            except WalletServiceError as error:
                given = error.code
        assert given == expected
        self.outcomes[f"limits: {what}: {expected}"] += 1

    def a_figure(self, chance: Random, wallet: int, name: str) -> int:
        """Return a limit that soon is in the way: a little more than what is there, or used, if not a little less."""
        return min(max(0, self.used(wallet, name) + chance.randint(-5, 90)), AMOUNT_MAX)

    def room(self, wallet: int, *, comes_in: bool) -> int | None:
        """Return how much the wallet's limits still allow, None where they do not bound it."""
        limits = self.limits_of(wallet)
        left = {name: most - self.used(wallet, name) for name, (_, most) in limits.items()}
        if "balance" in left:
            left["balance"] += self.world.owed(wallet)
        names = ["single", *(["balance"] if comes_in else WINDOWS)]
        return min([left[name] for name in names if name in left], default=None)

    def limits_of(self, wallet: int) -> dict[str, tuple[str, int]]:
        """Return the wallet's limits as they are now, each with what it is set for."""
        return self.world.limits.of(wallet, self.world.wallets[wallet].asset, self.world.now)

    def used(self, wallet: int, name: str) -> int:
        """Return what is used of a limit of the wallet."""
        model = self.world.wallets[wallet]
        if name in WINDOWS:
            window = Window(name, self.world.spent(wallet), ZONES[model.asset])
            return window.used(self.world.instant(self.world.now))
        return model.balance + self.world.held(wallet) if name == "balance" else 0

    def teardown(self) -> None:
        for level, whose in list(self.world.limits.settings):
            if level != "wallet":
                self.set_limits((level, whose), {})

    # --- what is asked for ---

    def a_record(self, chance: Random, before: Sequence[Record]) -> Record:
        """Return something to ask for; sometimes under a reference that is taken."""
        owing = [one for one in self.ids if self.world.owed(one) and "balance" in self.limits_of(one)]
        if owing and chance.random() < 0.3:
            return {**self.a_repayment(chance, chance.choice(owing)), "referenceId": next(self.references)}
        kind = chance.choice(
            [
                *BETWEEN_WALLETS,
                "topup",
                "bonus",
                "spend",
                *["hold", "on_hold", "reversal"] * 2,
                "state",
                *["bonus", "on_lot", "late_reversal"] * 2,
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
        record = {"type": kind, "walletId": wallet, "amount": self.an_amount(chance, wallet, comes_in=kind != "spend")}
        if kind != "bonus" or chance.random() < 0.2:
            return record
        return {**record, "expiresAt": chance.choice([None, *map(self.instant_in, [0, 1, 2, 3, 5, 20])])}

    def a_repayment(self, chance: Random, wallet: int) -> dict[str, Any]:
        """Return a top-up of as much as the wallet's limits allow, with what it owes; or of one more."""
        room = self.room(wallet, comes_in=True) or 0
        amount = min(max(1, room + chance.choice([0, 0, 0, 1])), AMOUNT_MAX)
        return {"type": "topup", "walletId": wallet, "amount": amount}

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
        if target != NO_WALLET and chance.random() < 0.3:
            above = AMOUNT_MAX - self.world.wallets[target].balance - self.world.held(target) + 1
            amount = above if above <= self.world.wallets[source].balance else amount
        asked = chance.choice([amount, {"upTo": amount}])
        return {"type": "transfer", "from": source, "to": target, "amount": asked}

    def a_exchange(self, chance: Random) -> dict[str, Any]:
        gold, diamond, others = self.ids
        source, target = chance.choice([(gold, diamond), (diamond, gold)] * 4 + [(diamond, others)])
        ending = [lot for lot in self.world.lots() if lot.seq and lot.available and lot.wallet in (gold, diamond)]
        if ending and chance.random() < 0.5:
            # So something is brought that may expire.
            lot = chance.choice(ending)
            target = diamond if lot.wallet == gold else gold
            amount, rate = chance.randint(1, min(lot.available, 60)), f"{chance.randint(1, 3)}/1"
            return {"type": "exchange", "from": lot.wallet, "to": target, "amount": amount, "rate": rate}
        record = {"type": "exchange", "from": source, "to": target, "amount": self.an_amount(chance, source)}
        if chance.random() < 0.1:
            return record
        return {**record, "rate": f"{chance.randint(1, 3)}/{chance.choice([1, chance.randint(1, 30)])}"}

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
        """Return a reversal, mostly of one of the last few, often of credit that is spent, or of what is over."""
        known = [one for one in self.world.accepted.values() if one.transaction_id]
        credits_ = [one for one in known if one.record["type"] in ("topup", "bonus", "transfer", "purchase")]
        late = [one for one in known if self.is_late(one)]
        original = chance.choice(chance.choice([known[-6:], credits_[-4:] or known, late or known, known]))
        record: dict[str, Any] = {"type": "reversal", "transactionId": original.transaction_id, "reason": "Chargeback"}
        if chance.random() < 0.3:
            record["amount"] = chance.choice([1, chance.randint(1, 60), *[abs(side.amount) for side in original.sides]])
        if chance.random() < 0.4:
            record |= {"onExpired": "regrant", "graceDays": next(self.grace_days)}
        mode = chance.choice([None, "refuse", "partial", "debt", "debt"])
        return record if mode is None else {**record, "onShortfall": mode}

    def a_late_reversal(self, chance: Random) -> dict[str, Any]:
        """Return a reversal of something of which credit has expired meanwhile: given back, or brought by it."""
        late = [one for one in self.world.accepted.values() if one.transaction_id and self.is_late(one)]
        if not late:
            return self.a_reversal(chance)
        used = [one for one in late if self.is_late(one, with_credits=False) and one.record["type"] in ALONE]
        brought = [one for one in late if one.record["type"] in ("exchange", "purchase")]
        original = chance.choice(chance.choice([used or late, brought or used or late]))
        record = {"type": "reversal", "transactionId": original.transaction_id, "reason": "Late"}
        regrant = {"onExpired": "regrant", "graceDays": next(self.grace_days)}
        return {**record, **chance.choice([{}, regrant, regrant])}

    def is_late(self, one: Accepted, *, with_credits: bool = True) -> bool:
        """Return whether something is left to reverse of what took from a lot that is over, or made one."""
        return one.record["type"] in REVERSIBLE and any(
            side.left and (with_credits or side.amount < 0) and lot is not None and self.is_over(lot)
            for side in one.sides
            for lot, _ in side.parts
        )

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
        told = self.world.instant(self.world.now + steps).isoformat().replace("+00:00", "Z")
        self.world.untils[told] = self.world.now + steps
        return told

    def an_amount(self, chance: Random, wallet: int, *, comes_in: bool = False) -> int:
        """Return an amount: a small one, or now and then what is there, or more than there is or has room."""
        balance = self.world.wallets[wallet].balance
        room = self.room(wallet, comes_in=comes_in)
        if room is not None and chance.random() < 0.4:
            return min(max(1, room + chance.choice([0, 0, 0, 1])), AMOUNT_MAX)
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
        self.outcomes.update(world.noted)
        world.noted.clear()
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
            if expected.told:
                self.judge_limit(record, expected.told, body)
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

    def judge_limit(self, record: Record, expected: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """Check what the refusal tells; and keep it, to be asked again when there should be room."""
        limit, frees_at = expected["limit"], expected["freesAt"]
        assert {name: body[name] for name in expected} | read(body) == expected
        self.outcomes[f"limit: {limit}"] += 1
        self.outcomes["limit: never room"] += limit in WINDOWS and frees_at is None
        if frees_at is not None:
            again = {name: value for name, value in record.items() if name != "ifVersion"}
            self.waiting = [*self.waiting[-3:], again]

    def compare(self) -> None:
        """Check that the API, the model and the database say the same of each wallet and of the latest holds."""
        looked_at = self.ids[self.world.request % len(self.ids)]
        for wallet, model in self.world.wallets.items():
            held, due = self.world.held(wallet), sum(hold.left for hold in self.world.due(wallet))
            body = self.client.get(f"/wallets/{wallet}").json
            assert (body["balance"], body["version"]) == (model.balance, model.version)
            over = sum(lot.available for lot in self.world.over(wallet))
            there = model.balance + due - over - sum(part for lot, part in self.back(wallet) if self.is_over(lot))
            repaid = min(there, self.world.owed(wallet))
            assert (body["held"], body["available"], body["due"]) == (held - due, there - repaid, over)
            self.compare_bonus(wallet, body, repaid)
            if wallet == looked_at and self.world.limits.base(wallet, model.asset):
                self.compare_limits(wallet, body["available"] + body["held"])
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
        self.compare_lots(looked_at)
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

    def compare_limits(self, wallet: int, total: int) -> None:
        """Check what is told of the wallet's limits: what holds of them, from where, and what is used."""
        limits, model, now = self.world.limits, self.world.wallets[wallet], self.world.instant(self.world.now)
        expected: dict[str, Any] = dict.fromkeys(FIGURES)
        for name, (level, most) in limits.of(wallet, model.asset, self.world.now).items():
            expected[name] = {"max": most, "setFor": level}
            if name == "balance":
                expected[name] |= {"used": total, "left": max(0, most - total)}
            if name in WINDOWS:
                window = Window(name, self.world.spent(wallet), ZONES[model.asset])
                expected[name] |= {**window.told(now), "left": max(0, most - window.used(now))}
        body = self.client.get(f"/wallets/{wallet}/limits").json
        told = {name: limit and limit | read(limit) for name, limit in body["limits"].items()}
        assert (told, body["timeZone"]) == (expected, ZONES[model.asset])
        is_raised = limits.more(wallet, self.world.now)
        assert at(body["raisedUntil"]) == (self.world.instant(limits.raises[wallet][1]) if is_raised else None)

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


def at(told: str | None) -> dt.datetime | None:
    """Return the instant that is told."""
    return None if told is None else dt.datetime.fromisoformat(told)


def read(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what there is of instants, and of numbers that are told as text where they are too large."""
    numbers = {name: int(told[name]) for name in ("used", "amount", "frees") if told.get(name) is not None}
    return numbers | ({"freesAt": at(told["freesAt"])} if "freesAt" in told else {})


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
    *(f"{kind}: limit_exceeded" for kind in LIMITED), *(f"limit: {name}" for name in FIGURES),
    *(f"limit: room again: {name}" for name in WINDOWS),
    *(f"limit: room by a {what}" for what in ("reversal", "release", "expiry")),
    "limit: never room", "limit: the oldest hour counts whole", "limit: what is owed is repaid first",
    "limits: set", "limits: ended", "limits: raised: done", "limits: raised: limit_not_raised",
    "limits: raised: end_passed", "limits: raise ended: done", "limits: raise ended: nothing_raised",
}  # fmt: skip


COMMON = {
    name
    for name in OUTCOMES
    if not name.startswith(("close", "limits")) and name.endswith((": done", ": accepted", ": declined"))
}
"""What every short run reaches; in the long ones, all must come."""


def explore(app: Flask, outcomes: set[str], *, number: int, examples: int, at_least: int) -> None:
    for asset, zone in ZONES.items():
        service.change_asset(asset, life=service.CreditLife(zone), by=service.By(actor="mixed"))
    explore_until_all_came(Machine, app, outcomes, number=number, examples=examples, at_least=at_least)
    # Raises come here without the operators who ask for them and approve them, and verify says so.
    assert service.verify(full=True).broken() <= {"raises"}


@pytest.mark.wide
@pytest.mark.timeout(600)
def test_whatever_is_mixed_api_model_and_database_agree(app_with_clock: Flask) -> None:
    explore(app_with_clock, COMMON, number=SEED, examples=15, at_least=1)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("examples", "at_least"), [(40, 1), pytest.param(100, 2, marks=pytest.mark.long)])
def test_whatever_is_mixed_api_model_and_database_agree_at_length(
    app_with_clock: Flask, examples: int, at_least: int
) -> None:
    explore(app_with_clock, OUTCOMES, number=100, examples=examples, at_least=at_least)
