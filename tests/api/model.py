"""The books as plainly as they can be written: wallets, lots, holds, limits and what was accepted; no SQL, no clock.

A record is what POST /batches takes as an item. `World.do` answers it as the service must; what it declines changes
nothing but what was due, which is settled first. A rule changes things as it goes, and what is declined in its middle
is undone.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.api import clock
from tests.api.model_limits import LIMITED, NEVER, SPENDING, Asked, Figures, Limits, Spent, refusal, why
from wallet_app.money import AMOUNT_MAX

Record = Mapping[str, Any]


class DeclinedError(Exception):
    """The record is refused, with this code, and `told` of why."""

    def __init__(self, code: str, **told: Any) -> None:
        super().__init__(code)
        self.code = code
        self.told = told


@dataclass(eq=False)
class Grant:
    """An entry that made lots, and what was taken back for it of other credit and has not come back, last taken last.

    `paid` and `standing` are how much of it is of no lot that ends and was not taken back yet.
    """

    paid: int
    standing: int
    in_place: Parts = field(default_factory=list)


@dataclass(eq=False)
class Lot:
    """A grant that ends, or (`seq` 0) what of a wallet's bonus never does. `lot_id` is the service's."""

    wallet: int
    seq: int
    part: int
    until: int
    amount: int = 0
    available: int = 0
    held: int = 0
    consumed: int = 0
    expired: int = 0
    revoked: int = 0
    lot_id: str | None = None
    is_one_grant: bool = False
    grant: Grant | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        return self.until, self.seq, self.part

    @property
    def left(self) -> int:
        return self.available + self.held


Parts = list[tuple[Lot | None, int]]
"""How much of which lots, None for paid credit, in the order in which it was taken, or came."""


@dataclass
class Wallet:
    """`debits` and `credits` are the steps of the clock until which they are frozen."""

    user: int
    asset: str
    balance: int = 0
    version: int = 0
    debits: int = 0
    credits: int = 0
    is_closed: bool = False
    lots: list[Lot] = field(default_factory=list)


@dataclass
class Hold:
    """`since` and `until` count steps of the clock. `hold_id` is the service's, once it has told it."""

    wallet: int
    amount: int
    since: int
    until: int
    hold_id: str | None = None
    captured: int = 0
    released: int = 0
    expired: int = 0
    end: str | None = None
    units: Parts = field(default_factory=list)
    """What of it is of lots."""

    @property
    def left(self) -> int:
        return self.amount - self.captured - self.released - self.expired

    @property
    def state(self) -> str:
        return self.end or ("partially_captured" if self.captured else "open")


@dataclass
class Side:
    """A movement of a wallet, by its entry `seq`, and what became of it; `since` counts requests."""

    wallet: int
    seq: int
    amount: int
    is_of_hold: bool
    reversed: int = 0
    owed: int = 0
    since: int = 0
    parts: Parts = field(default_factory=list)

    @property
    def left(self) -> int:
        return abs(self.amount) - self.reversed - self.owed

    @property
    def reversible(self) -> int:
        """How much can be reversed: what expired of the lots that it granted is gone already."""
        granted = [lot for lot, _ in self.parts if lot is not None] if self.amount > 0 else []
        return max(0, self.left - sum(lot.expired for lot in granted))

    def from_last(self, amount: int) -> Parts:
        """Return of what the next units are that go back: what it moved last, behind what went back before."""
        skipped, found = self.reversed + self.owed, []
        for lot, part in reversed(self.parts):
            behind = max(0, part - skipped)
            skipped -= part - behind
            found.append((lot, min(behind, amount)))
            amount -= found[-1][1]
        return found


@dataclass
class Accepted:
    """What was accepted under a reference, at which step of the clock, and what the service called it."""

    record: Record
    at: int = 0
    transaction_id: str | None = None
    hold: Hold | None = None
    sides: list[Side] = field(default_factory=list)
    parts: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of each movement that it undid the wallet and seq, what was moved, and what is owed since."""


@dataclass(frozen=True)
class Answer:
    """How a record is accepted: as what, whether that was so before, and what its first wallet has then."""

    accepted: Accepted
    is_replay: bool
    balance: int
    version: int


@dataclass
class World:
    """All that the service should know. References are unique in a world, whatever their wallet."""

    wallets: dict[int, Wallet] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    accepted: dict[tuple[int, str], Accepted] = field(default_factory=dict)
    debts: list[Side] = field(default_factory=list)
    untils: dict[str, int] = field(default_factory=dict)
    """Which step of the clock an instant is that a record names."""
    begun: dt.datetime = NEVER
    """The instant at which the clock's step 0 begins."""
    zones: dict[str, str] = field(default_factory=dict)
    """In which time zone an asset has its days."""
    limits: Limits = field(default_factory=Limits)
    noted: Counter[str] = field(default_factory=Counter)
    """What decided about limits."""
    now: int = 0
    request: int = 0
    settled: int = 0
    repaid: int = 0
    expired: int = 0
    returned: int = 0
    granted_anew: int = 0
    _sides: list[Side] = field(default_factory=list)
    _undo: list[Callable[[], object]] = field(default_factory=list)

    def do(self, record: Record) -> Answer:
        """Accept the record or raise DeclinedError."""
        anchor, *others = self.wallets_of(record)
        if anchor not in self.wallets:
            raise DeclinedError("wallet_not_found")
        before = self.accepted.get((anchor, record["referenceId"]))
        if before is None and record.get("ifVersion", self.wallets[anchor].version) != self.wallets[anchor].version:
            raise DeclinedError("version_mismatch")
        for wallet in (anchor, *others):
            self.settle(wallet)
        if before is not None:
            if _asked(before.record) != _asked(record):
                raise DeclinedError("reference_mismatch")
            return self._answer(before, anchor, is_replay=True)
        for wallet in (anchor, *others):
            if wallet not in self.wallets:
                raise DeclinedError("wallet_not_found")
            if self.wallets[wallet].is_closed:
                raise DeclinedError("wallet_closed")
        accepted = self.accepted[anchor, record["referenceId"]] = self._by_its_rule(record)
        for wallet in (anchor, *others):
            self._repay_by_over(wallet)
            self._expire(wallet)
        for wallet in (anchor, *others):
            self._repay(wallet)
        return self._answer(accepted, anchor, is_replay=False)

    def _by_its_rule(self, record: Record) -> Accepted:
        rule: Callable[[Record], Accepted] = getattr(self, "_" + record["type"])
        self._sides, self._undo = [], []
        try:
            accepted = rule(record)
            for side in self._sides:
                self._require_not_frozen(side)
            self._require_within_limits(record)
        except DeclinedError:
            for undo in reversed(self._undo):
                undo()
            raise
        # What is moved from here on is no part of it.
        accepted.sides, self._sides, self._undo = self._sides, [], []
        accepted.at = self.now
        return accepted

    def _answer(self, accepted: Accepted, anchor: int, *, is_replay: bool) -> Answer:
        wallet = self.wallets[anchor]
        return Answer(accepted, is_replay, wallet.balance, wallet.version)

    def wallets_of(self, record: Record) -> list[int]:
        """Return the wallets that the record has to do with, its anchor first."""
        if "transactionId" in record:
            original = self.original(record)
            return list(dict.fromkeys([self.anchor_of(original), *[side.wallet for side in original.sides]]))
        if "holdId" in record:
            return [self.hold(record["holdId"]).wallet]
        if "lotId" in record:
            return [self.lot(record["lotId"]).wallet]
        if "from" in record:
            return [record["from"], record["to"]]
        return [record["walletId"], *[leg["walletId"] for leg in record.get("legs", ())]]

    def original(self, record: Record) -> Accepted:
        """Return what the record wants to reverse."""
        return next(one for one in self.accepted.values() if one.transaction_id == record["transactionId"])

    def anchor_of(self, accepted: Accepted) -> int:
        """Return the wallet under which it was accepted."""
        return next(key[0] for key, one in self.accepted.items() if one is accepted)

    def hold(self, hold_id: str) -> Hold:
        """Return the hold that the service calls so."""
        return next(hold for hold in self.holds if hold.hold_id == hold_id)

    def lot(self, lot_id: str) -> Lot:
        """Return the lot that the service calls so."""
        return next(lot for lot in self.lots() if lot.lot_id == lot_id)

    def lots(self, wallet: int | None = None) -> list[Lot]:
        """Return the lots of a wallet, or of all."""
        return [lot for key, found in self.wallets.items() if wallet in (None, key) for lot in found.lots]

    def over(self, wallet: int | None = None) -> list[Lot]:
        """Return the lots that have something available and whose time is over, of a wallet or of all."""
        return [lot for lot in self.lots(wallet) if lot.available and lot.until <= self.now]

    def due(self, wallet: int | None = None) -> list[Hold]:
        """Return the holds whose time is over and that nobody has settled, of a wallet or of all."""
        return [
            hold for hold in self.holds if hold.end is None and hold.until <= self.now and wallet in (None, hold.wallet)
        ]

    def settle(self, wallet: int | None = None) -> None:
        """Give back what is due, and let it repay what is owed."""
        for hold in self.due(wallet):
            self._unhold(hold, hold.units)
            self._move(hold.wallet, hold.left, is_of_hold=True)
            hold.expired, hold.end = hold.left, "expired"
            self.settled += 1
        for one in self.wallets if wallet is None else (wallet,):
            self._repay_by_over(one)
            self._expire(one)
            self._repay(one)

    def owed(self, wallet: int) -> int:
        """Return what the wallet owes."""
        return sum(side.owed for side in self.debts if side.wallet == wallet)

    def status(self, wallet: int) -> str:
        """Return how the wallet stands now."""
        found = self.wallets[wallet]
        return "CLOSED" if found.is_closed else "FROZEN" if max(found.debits, found.credits) > self.now else "ACTIVE"

    def held(self, wallet: int) -> int:
        """Return what the wallet's holds have left, those that are due among them."""
        return sum(hold.left for hold in self.holds if hold.wallet == wallet)

    def instant(self, step: int) -> dt.datetime:
        """Return when that step of the clock begins."""
        return self.begun + step * dt.timedelta(seconds=clock.STEP_SECONDS)

    def step(self, instant: dt.datetime) -> int:
        """Return the step of the clock that begins then."""
        step, rest = divmod(instant - self.begun, dt.timedelta(seconds=clock.STEP_SECONDS))
        assert not rest
        return step

    def spent(self, wallet: int, but: Hold | None = None) -> list[Spent]:
        """Return all that the wallet ever spent, but for this hold; what is due of a hold is given back."""
        movements = [
            (one, side)
            for one in self.accepted.values()
            for side in one.sides
            if side.wallet == wallet and side.amount < 0
        ]
        found = [
            Spent(self.instant(one.at), -side.amount, Counter(reversal=side.reversed))
            for one, side in movements
            if one.record["type"] in SPENDING
        ]
        due = self.due(wallet)
        for hold in self.holds:
            if hold.wallet == wallet and hold is not but:
                back = Counter(release=hold.released, expiry=hold.expired + (hold.left if hold in due else 0))
                back["reversal"] = sum(
                    side.reversed for one, side in movements if one.record["type"] == "capture" and one.hold is hold
                )
                found.append(Spent(self.instant(hold.since), hold.amount, back))
        return found

    def raise_limits(self, wallet: int, figures: Figures, until: int) -> None:
        """Raise the wallet's limits to these, until that step, instead of what they were raised to."""
        base = self._base_to_raise(wallet)
        if until <= self.now:
            raise DeclinedError("end_passed")
        if any(name not in base or figure <= base[name][1] for name, figure in figures.items()):
            raise DeclinedError("limit_not_raised")
        self.limits.raises[wallet] = figures, until

    def end_raise(self, wallet: int) -> None:
        """Let what is set for the wallet hold again."""
        if not self._base_to_raise(wallet) or not self.limits.more(wallet, self.now):
            raise DeclinedError("nothing_raised")
        del self.limits.raises[wallet]

    def _base_to_raise(self, wallet: int) -> dict[str, tuple[str, int]]:
        self.settle(wallet)
        if self.wallets[wallet].is_closed:
            raise DeclinedError("wallet_closed")
        return self.limits.base(wallet, self.wallets[wallet].asset)

    def _require_within_limits(self, record: Record) -> None:
        if record["type"] not in LIMITED:
            return
        placed = self.holds[-1] if record["type"] == "hold" else None
        for wallet in dict.fromkeys(side.wallet for side in self._sides):
            found = self.wallets[wallet]
            figures = self.limits.of(wallet, found.asset, self.now)
            if not figures:
                continue
            moved = [side.amount for side in self._sides if side.wallet == wallet]
            out, brought = -sum(one for one in moved if one < 0), sum(one for one in moved if one > 0)
            before = found.balance - sum(moved)
            held = self.held(wallet) - (0 if placed is None else placed.amount)
            asked = Asked(out=out, brought=brought, has=before + held, owed=self.owed(wallet))
            at = figures, asked, self.spent(wallet, placed), self.instant(self.now), self.zones[found.asset]
            told = refusal(*at)
            self.noted.update(why(told, *at))
            if told is not None:
                version = found.version - len(moved)
                raise DeclinedError("limit_exceeded", **told, walletId=wallet, balance=before, version=version)

    # --- what may be asked of a wallet, and what it does ---

    def _funds(self, wallet: int, amount: int) -> None:
        if self.wallets[wallet].balance < amount:
            raise DeclinedError("insufficient_balance")

    def _room(self, wallet: int, amount: int) -> None:
        if self.wallets[wallet].balance + self.held(wallet) + amount > AMOUNT_MAX:
            raise DeclinedError("balance_above_bound")

    def _move(self, wallet: int, amount: int, parts: Parts = (), *, is_of_hold: bool = False) -> None:
        self._set(self.wallets[wallet], balance=self.wallets[wallet].balance + amount)
        self._set(self.wallets[wallet], version=self.wallets[wallet].version + 1)
        paid = abs(amount) - sum(part for _, part in parts)
        self._sides.append(Side(wallet, self.wallets[wallet].version, amount, is_of_hold, parts=[*parts, (None, paid)]))

    def _change(self, lot: Lot, source: str | None, target: str, amount: int) -> None:
        """Let the amount go from one of the lot's parts to another; from none, it is granted."""
        source = source or "amount"
        sign = 1 if source == "amount" else -1
        self._set(lot, **{source: getattr(lot, source) + sign * amount})
        self._set(lot, **{target: getattr(lot, target) + amount})

    def _debit(self, wallet: int, amount: int, target: str = "consumed", first: Parts = ()) -> Parts:
        """Take the amount by an entry: `first` of these, which are revoked, as far as they are there; then in order."""
        found = self.wallets[wallet]
        paid = found.balance - sum(lot.available for lot in found.lots)
        taken: Parts = []
        for lot, wanted in first:
            there = (paid if lot is None else lot.available) - sum(part for one, part in taken if one is lot)
            part = min(wanted, there, amount)
            taken += [(lot, part)] if part else []
            amount -= part
        left_of = {id(lot): lot.available - sum(part for one, part in taken if one is lot) for lot in found.lots}
        named = len(taken)
        for lot in sorted(found.lots, key=lambda one: one.order):
            part = min(left_of[id(lot)], amount)
            taken += [(lot, part)] if part else []
            amount -= part
        whole = sum(part for _, part in taken) + amount
        of_lots: dict[tuple[int, str], tuple[Lot, int]] = {}
        for place, (lot, part) in enumerate(taken):
            if lot is not None:
                key = id(lot), "revoked" if place < named else target
                of_lots[key] = lot, of_lots.get(key, (lot, 0))[1] + part
        parts: Parts = list(of_lots.values())
        for (_, becomes), (lot, part) in of_lots.items():
            self._change(lot, "available", becomes, part)
        self._move(wallet, -whole, parts)
        return parts

    def _credit(self, wallet: int, natures: list[tuple[int | None, int]], *, is_one_grant: bool = False) -> None:
        """Bring credit by an entry: paid, or until these steps; a lot for each end."""
        found, parts = self.wallets[wallet], []
        grant = Grant(*[sum(amount for until, amount in natures if until == end) for end in (None, FOR_EVER)])
        for until, amount in natures:
            if until is None or not amount:
                continue
            if until == FOR_EVER:
                lot = next((one for one in found.lots if one.seq == 0), None) or Lot(wallet, 0, 0, FOR_EVER)
            else:
                number = sum(one.seq > 0 for one, _ in parts) + 1
                lot = Lot(wallet, found.version + 1, number, until, is_one_grant=is_one_grant, grant=grant)
            if lot not in found.lots:
                self._set(found, lots=[*found.lots, lot])
            self._change(lot, None, "available", amount)
            parts.append((lot, amount))
        self._move(wallet, sum(amount for _, amount in natures), parts)

    def _natures(self, parts: Parts, amount: int) -> list[tuple[int | None, int]]:
        """Return until when what parts, each end once, and what of the amount is paid."""
        sums: dict[int | None, int] = {}
        for lot, part in parts:
            if lot is not None:
                sums[lot.until] = sums.get(lot.until, 0) + part
        paid = amount - sum(sums.values())
        return [*sums.items(), *([(None, paid)] if paid else [])]

    def _take_back(self, side: Side, amount: int, first: Parts = ()) -> None:
        """Take back of what an entry brought: first of what it made, and then in place of that."""
        own = [lot for lot in self.lots(side.wallet) if lot.seq == side.seq]
        first = [*first, *[(lot, lot.available) for lot in own]]
        revoked = [lot.revoked for lot in self.lots(side.wallet) if lot.seq == 0]
        parts = self._debit(side.wallet, amount, first=first)
        if not own or own[0].grant is None:
            return
        grant, kept = own[0].grant, list(own[0].grant.in_place)
        # Of what it brought for ever, and then of what was paid, its like; and other credit only for what is missing.
        like = sum(lot.revoked for lot in self.lots(side.wallet) if lot.seq == 0) - sum(revoked)
        self._set(grant, standing=max(0, grant.standing - like))
        units: Parts = [(lot, part) for lot, part in parts if lot is None or lot.seq != side.seq]
        if like:
            units.remove(next(unit for unit in units if unit[0] is not None and unit[0].seq == 0))
        paid = amount - sum(part for _, part in parts)
        like = min(paid, grant.paid)
        self._set(grant, paid=grant.paid - like)
        for lot, part in [*units, (None, paid - like)]:
            besides = min(part, grant.paid + grant.standing)
            of_paid = min(besides, grant.paid)
            self._set(grant, paid=grant.paid - of_paid, standing=grant.standing - besides + of_paid)
            kept += [(lot, part - besides)] if part > besides else []
        self._set(grant, in_place=kept)

    def _give_back(self, lot: Lot, source: str, amount: int, until: int | None = None, anew: Parts = ()) -> Parts:
        """Give an amount back to a lot, or what was taken in its place; if it is over, until then to a new one."""
        others: Parts = []
        late = 0
        while lot.grant is not None and lot.grant.in_place and late < amount:
            *before, (other, there) = lot.grant.in_place
            part = min(there, amount - late)
            self._set(lot.grant, in_place=[*before, *([(other, there - part)] if there > part else [])])
            others.append((other, part))
            late += part
        anew = [*anew]
        if until is not None and lot.until <= self.now:
            if late < amount:
                wallet = self.wallets[lot.wallet]
                new = Lot(lot.wallet, wallet.version + 1, len(anew) + 1, until, grant=Grant(0, 0))
                self._set(wallet, lots=[*wallet.lots, new])
                self._change(new, None, "available", amount - late)
                anew.append((new, amount - late))
                self._set(self, granted_anew=self.granted_anew + 1)
            amount = late
        self._change(lot, source, "available", amount)
        self._change(lot, "available", "revoked", late)
        self._set(self, returned=self.returned + (late > 0))
        for other, part in others:
            if other is not None:
                anew = self._give_back(other, "consumed", part, until, anew)
        return anew

    def _unhold(self, hold: Hold, units: Parts, spent: Parts = ()) -> None:
        for lot, part in units:
            if lot is not None:
                passing = sum(taken for one, taken in spent if one is lot)
                self._change(lot, "held", "available", passing)
                self._give_back(lot, "held", part - passing)
        left = [(lot, held - sum(part for one, part in units if one is lot)) for lot, held in hold.units]
        self._set(hold, units=[(lot, held) for lot, held in left if held])

    def _repay_by_over(self, wallet: int) -> None:
        """Take what is owed for a grant from what came back of it, before that expires."""
        for lot in sorted(self.over(wallet), key=lambda one: one.order):
            for side in self.debts:
                if (side.wallet, side.seq) == (wallet, lot.seq) and side.owed and lot.available:
                    self._take_debt(side, min(side.owed, lot.available), [(lot, lot.available)])

    def _expire(self, wallet: int) -> None:
        for lot in sorted(self.over(wallet), key=lambda one: one.order):
            amount = lot.available
            self._change(lot, "available", "expired", amount)
            self._move(wallet, -amount, is_of_hold=True)
            self.expired += 1

    def _set(self, thing: Any, **values: Any) -> None:
        for name, value in values.items():
            self._undo.append(partial(setattr, thing, name, getattr(thing, name)))
            setattr(thing, name, value)

    def _require_not_frozen(self, side: Side) -> None:
        found = self.wallets[side.wallet]
        until = found.debits if side.amount < 0 else 0 if side.is_of_hold else found.credits
        if until > self.now:
            raise DeclinedError("wallet_not_active")

    def _repay(self, wallet: int) -> None:
        """Take what the wallet owes from what it has, the oldest debt first: each by an entry of its own."""
        for side in sorted(self.debts, key=lambda one: (one.since, one.seq)):
            found = self.wallets.get(wallet)
            if side.wallet == wallet and side.owed and found is not None and found.balance:
                self._take_debt(side, min(side.owed, found.balance))

    def _take_debt(self, side: Side, amount: int, first: Parts = ()) -> None:
        self._take_back(side, amount, first)
        side.owed, side.reversed = side.owed - amount, side.reversed + amount
        self.repaid += 1

    # --- the rules, by the record's type ---

    def _topup(self, record: Record) -> Accepted:
        self._room(record["walletId"], record["amount"])
        self._credit(record["walletId"], [(None, record["amount"])])
        return Accepted(record)

    def _bonus(self, record: Record) -> Accepted:
        until = self.untils[record["expiresAt"]] if record.get("expiresAt") else FOR_EVER
        if until <= self.now:
            raise DeclinedError("lot_end_passed")
        self._room(record["walletId"], record["amount"])
        self._credit(record["walletId"], [(until, record["amount"])], is_one_grant=True)
        return Accepted(record)

    def _spend(self, record: Record) -> Accepted:
        self._funds(record["walletId"], record["amount"])
        self._debit(record["walletId"], record["amount"])
        return Accepted(record)

    def _transfer(self, record: Record) -> Accepted:
        source, target, amount = record["from"], record["to"], record["amount"]
        if source == target:
            raise DeclinedError("same_wallet")
        if self.wallets[source].asset != self.wallets[target].asset:
            raise DeclinedError("asset_mismatch")
        if isinstance(amount, Mapping):
            self._funds(source, 1)
            amount = min(amount["upTo"], self.wallets[source].balance)
        self._funds(source, amount)
        self._room(target, amount)
        self._credit(target, self._natures(self._debit(source, amount), amount))
        return Accepted(record)

    def _exchange(self, record: Record) -> Accepted:
        source, target, amount = record["from"], record["to"], record["amount"]
        if source == target:
            raise DeclinedError("same_wallet")
        if self.wallets[source].user != self.wallets[target].user:
            raise DeclinedError("user_mismatch")
        if "rate" not in record:
            raise DeclinedError("no_exchange_rate")
        self._funds(source, amount)
        numerator, denominator = map(int, record["rate"].split("/"))
        received = amount * numerator // denominator
        if received == 0:
            raise DeclinedError("exchange_too_small")
        self._room(target, received)
        lasting = sorted(
            self._natures(self._debit(source, amount), amount),
            key=lambda one: (one[0] is None, one[0] or 0),
            reverse=True,
        )
        so_far, made = 0, []
        for until, part in lasting:
            before, so_far = so_far * numerator // denominator, so_far + part
            made.append((until, so_far * numerator // denominator - before))
        self._credit(target, made[::-1])
        return Accepted(record)

    def _purchase(self, record: Record) -> Accepted:
        payer, legs = record["walletId"], record["legs"]
        if payer not in [leg["walletId"] for leg in legs]:
            raise DeclinedError("payer_without_leg")
        brought: Counter[int] = Counter()
        for leg in legs:
            if self.wallets[leg["walletId"]].user != self.wallets[payer].user:
                raise DeclinedError("user_mismatch")
            if leg["type"] == "spend":
                # What comes in repays first what is owed.
                self._funds(leg["walletId"], leg["amount"] + min(self.owed(leg["walletId"]), brought[leg["walletId"]]))
                self._debit(leg["walletId"], leg["amount"])
            else:
                self._room(leg["walletId"], leg["amount"])
                brought[leg["walletId"]] += leg["amount"]
                self._credit(leg["walletId"], [(FOR_EVER if leg["type"] == "bonus" else None, leg["amount"])])
        return Accepted(record)

    def _hold(self, record: Record) -> Accepted:
        self._funds(record["walletId"], record["amount"])
        units = self._debit(record["walletId"], record["amount"], "held")
        until = self.now + record["expiresIn"]
        self.holds.append(Hold(record["walletId"], record["amount"], self.now, until, units=units))
        self._undo.append(self.holds.pop)
        return Accepted(record, hold=self.holds[-1])

    def _capture(self, record: Record) -> Accepted:
        hold = self._open(record)
        amount = record.get("amount", hold.left)
        if amount > hold.left:
            raise DeclinedError("over_capture")
        spent, left = [], amount
        for lot, held in sorted(hold.units, key=lambda unit: unit[0].order):
            spent += [(lot, min(held, left))] if left else []
            left -= min(held, left)
        self._set(hold, captured=hold.captured + amount)
        back = hold.left if record.get("final") else 0
        # Without an amount, all of it is captured, and the rest, which is nothing, comes back.
        self._unhold(hold, hold.units if record.get("final") or "amount" not in record else spent, spent)
        self._set(hold, released=hold.released + back)
        self._set(hold, end=None if hold.left else "captured")
        self._move(hold.wallet, amount + back, is_of_hold=True)
        for lot, part in spent:
            self._change(lot, "available", "consumed", part)
        self._move(hold.wallet, -amount, spent)
        return Accepted(record, hold=hold)

    def _release(self, record: Record) -> Accepted:
        hold = self._open(record)
        self._unhold(hold, hold.units)
        self._move(hold.wallet, hold.left, is_of_hold=True)
        self._set(hold, released=hold.released + hold.left)
        self._set(hold, end="released")
        return Accepted(record, hold=hold)

    def _open(self, record: Record) -> Hold:
        hold = self.hold(record["holdId"])
        if hold.end is not None:
            raise DeclinedError("hold_finished")
        return hold

    def _freeze(self, record: Record) -> Accepted:
        until = self.untils[record["until"]] if "until" in record else FOR_EVER
        if until <= self.now:
            raise DeclinedError("end_passed")
        for side in _sides_of(record):
            self._set(self.wallets[record["walletId"]], **{side: until})
        return Accepted(record)

    def _unfreeze(self, record: Record) -> Accepted:
        wallet = self.wallets[record["walletId"]]
        if all(getattr(wallet, side) <= self.now for side in _sides_of(record)):
            raise DeclinedError("wallet_not_frozen")
        for side in _sides_of(record):
            self._set(wallet, **{side: 0})
        return Accepted(record)

    def _close(self, record: Record) -> Accepted:
        wallet = record["walletId"]
        if self.wallets[wallet].balance or self.held(wallet) or self.owed(wallet):
            raise DeclinedError("wallet_not_empty")
        self._set(self.wallets[wallet], is_closed=True)
        return Accepted(record)

    def _reversal(self, record: Record) -> Accepted:
        original = self.original(record)
        kind, wanted, mode = original.record["type"], record.get("amount"), record.get("onShortfall", "refuse")
        if kind not in REVERSIBLE:
            raise DeclinedError("not_reversible")
        sides = [side for side in original.sides if not side.is_of_hold]
        is_one = kind == "transfer" or len(sides) == 1
        if not is_one and (wanted or mode == "partial"):
            raise DeclinedError("only_as_a_whole")
        if kind == "transfer" and mode == "debt":
            raise DeclinedError("no_debt_between_users")
        amounts = [side.reversible for side in sides]
        left = min(amounts) if is_one else max(amounts)
        if left == 0 or (wanted or 0) > left:
            raise DeclinedError("over_reversal")
        if not is_one and mode == "refuse" and any(side.reversible < side.left for side in sides):
            raise DeclinedError("brought_expired")
        taken = [side for side in sides if side.amount > 0]
        if mode == "partial" and taken:
            self._funds(taken[0].wallet, 1)
            wanted = min(wanted or left, self.wallets[taken[0].wallet].balance)
        backwards = sides[::-1]
        # What is given back comes first: nothing is missing then that the same reversal gives.
        order = [*[one for one in backwards if one.amount < 0], *[one for one in backwards if one.amount > 0]]
        amounts = {id(side): (wanted or left) if is_one else side.reversible for side in sides}
        order = [side for side in order if amounts[id(side)]]
        grace_days = record.get("graceDays")
        return Accepted(record, parts=[self._undo_side(side, amounts[id(side)], mode, grace_days) for side in order])

    def _extend(self, record: Record) -> Accepted:
        lot, until = self.lot(record["lotId"]), self.untils[record["expiresAt"]]
        if lot.seq == 0:
            raise DeclinedError("lot_without_end")
        if not lot.left:
            raise DeclinedError("lot_finished")
        if until <= self.now:
            raise DeclinedError("lot_end_passed")
        if until <= lot.until:
            raise DeclinedError("lot_end_not_later")
        self._set(lot, until=until)
        return Accepted(record)

    def _revoke(self, record: Record) -> Accepted:
        lot, mode = self.lot(record["lotId"]), record.get("onShortfall", "refuse")
        if not lot.is_one_grant:
            raise DeclinedError("lot_not_one_grant")
        sides = [side for one in self.accepted.values() for side in one.sides]
        side = next(one for one in sides if (one.wallet, one.seq) == (lot.wallet, lot.seq))
        amount = side.reversible
        if not amount:
            raise DeclinedError("lot_finished")
        if mode == "partial":
            amount = min(amount, lot.available)
        if not amount or (mode == "refuse" and lot.available < amount):
            raise DeclinedError("lot_used")
        return Accepted(record, parts=[self._undo_side(side, amount, mode)])

    def _undo_side(
        self, side: Side, amount: int, mode: str, grace_days: int | None = None
    ) -> tuple[int, int, int, int]:
        parts = side.from_last(amount)
        if side.amount < 0:
            self._room(side.wallet, amount)
            moved = amount
            until, anew = None if grace_days is None else A_DAY_LATER + grace_days, list[tuple[Lot | None, int]]()
            for lot, part in parts:
                if lot is not None and part:
                    anew = self._give_back(lot, "consumed", part, until, anew)
            self._move(side.wallet, amount)
        else:
            if mode != "debt":
                self._funds(side.wallet, amount)
            moved = -min(amount, self.wallets[side.wallet].balance)
            if moved:
                self._take_back(side, -moved, side.from_last(-moved))
        owed = amount - abs(moved)
        self._set(side, reversed=side.reversed + abs(moved), owed=side.owed + owed)
        if owed and side not in self.debts:
            self.debts.append(side)
            self._undo.append(self.debts.pop)
        if owed and side.owed == owed:
            self._set(side, since=self.request)
        return side.wallet, side.seq, moved, owed


FOR_EVER = 10**9
A_DAY_LATER = 10**6
"""So many steps no test makes: what ends at the end of a day, so many days later, is not over in any."""
REVERSIBLE = ("topup", "bonus", "spend", "capture", "transfer", "exchange", "purchase")


def _sides_of(record: Record) -> tuple[str, ...]:
    side = record.get("side", "both")
    return ("debits", "credits") if side == "both" else (side,)


def _asked(record: Record) -> dict[str, Any]:
    """Return what makes a record the same as another one: what is said beside it does not count."""
    beside = ("note", "metadata", "occurredAt", "ifVersion")
    asked = {name: value for name, value in record.items() if name not in beside}
    if record["type"] == "capture":
        # Without an amount it is final, whatever else was said.
        asked["amount"] = record.get("amount")
        asked["final"] = bool(record.get("final")) or "amount" not in record
    return asked
