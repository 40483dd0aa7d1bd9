"""The books as plainly as they can be written: wallets, holds and what was accepted, in dictionaries; no SQL, no clock.

A record is what POST /batches takes as an item. `World.do` answers it as the service must; what it declines changes
nothing but what was due, which is settled first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wallet_app.money import AMOUNT_MAX

Record = Mapping[str, Any]
SIGNS = {"topup": 1, "bonus": 1, "spend": -1}


class DeclinedError(Exception):
    """The record is refused, with this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Wallet:
    user: int
    asset: str
    balance: int = 0
    version: int = 0


@dataclass
class Hold:
    """`until` counts steps of the clock. `hold_id` is the service's, once it has told it."""

    wallet: int
    amount: int
    until: int
    hold_id: str | None = None
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
    """What was accepted under a reference: the record, and what the service called it."""

    record: Record
    transaction_id: str | None = None
    hold: Hold | None = None


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
    now: int = 0
    settled: int = 0

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
        if any(wallet not in self.wallets for wallet in others):
            raise DeclinedError("wallet_not_found")
        rule: Callable[[Record], Accepted] = getattr(self, "_" + record["type"])
        accepted = self.accepted[anchor, record["referenceId"]] = rule(record)
        return self._answer(accepted, anchor, is_replay=False)

    def _answer(self, accepted: Accepted, anchor: int, *, is_replay: bool) -> Answer:
        wallet = self.wallets[anchor]
        return Answer(accepted, is_replay, wallet.balance, wallet.version)

    def wallets_of(self, record: Record) -> list[int]:
        """Return the wallets that the record has to do with, its anchor first."""
        if "holdId" in record:
            return [self.hold(record["holdId"]).wallet]
        if "from" in record:
            return [record["from"], record["to"]]
        return [record["walletId"], *[leg["walletId"] for leg in record.get("legs", ())]]

    def hold(self, hold_id: str) -> Hold:
        """Return the hold that the service calls so."""
        return next(hold for hold in self.holds if hold.hold_id == hold_id)

    def due(self, wallet: int | None = None) -> list[Hold]:
        """Return the holds whose time is over and that nobody has settled, of a wallet or of all."""
        return [
            hold for hold in self.holds if hold.end is None and hold.until <= self.now and wallet in (None, hold.wallet)
        ]

    def settle(self, wallet: int | None = None) -> None:
        """Give back what is due."""
        for hold in self.due(wallet):
            self._move(hold.wallet, hold.left)
            hold.expired, hold.end = hold.left, "expired"
            self.settled += 1

    def held(self, wallet: int) -> int:
        """Return what the wallet's holds have left, those that are due among them."""
        return sum(hold.left for hold in self.holds if hold.wallet == wallet)

    # --- what may be asked of a wallet, and what it does ---

    def _funds(self, wallet: int, amount: int) -> None:
        if self.wallets[wallet].balance < amount:
            raise DeclinedError("insufficient_balance")

    def _room(self, wallet: int, amount: int) -> None:
        if self.wallets[wallet].balance + self.held(wallet) + amount > AMOUNT_MAX:
            raise DeclinedError("balance_above_bound")

    def _move(self, wallet: int, amount: int) -> None:
        self.wallets[wallet].balance += amount
        self.wallets[wallet].version += 1

    # --- the rules, by the record's type ---

    def _topup(self, record: Record) -> Accepted:
        self._room(record["walletId"], record["amount"])
        self._move(record["walletId"], record["amount"])
        return Accepted(record)

    _bonus = _topup

    def _spend(self, record: Record) -> Accepted:
        self._funds(record["walletId"], record["amount"])
        self._move(record["walletId"], -record["amount"])
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
        self._move(source, -amount)
        self._move(target, amount)
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
        self._move(source, -amount)
        self._move(target, received)
        return Accepted(record)

    def _purchase(self, record: Record) -> Accepted:
        payer, legs = record["walletId"], record["legs"]
        if payer not in [leg["walletId"] for leg in legs]:
            raise DeclinedError("payer_without_leg")
        before = {wallet: (found.balance, found.version) for wallet, found in self.wallets.items()}
        try:
            for leg in legs:
                if self.wallets[leg["walletId"]].user != self.wallets[payer].user:
                    raise DeclinedError("user_mismatch")
                require = self._funds if leg["type"] == "spend" else self._room
                require(leg["walletId"], leg["amount"])
                self._move(leg["walletId"], SIGNS[leg["type"]] * leg["amount"])
        except DeclinedError:
            for wallet, (balance, version) in before.items():
                self.wallets[wallet].balance, self.wallets[wallet].version = balance, version
            raise
        return Accepted(record)

    def _hold(self, record: Record) -> Accepted:
        self._funds(record["walletId"], record["amount"])
        self._move(record["walletId"], -record["amount"])
        self.holds.append(Hold(record["walletId"], record["amount"], self.now + record["expiresIn"]))
        return Accepted(record, hold=self.holds[-1])

    def _capture(self, record: Record) -> Accepted:
        hold = self._open(record)
        amount = record.get("amount", hold.left)
        if amount > hold.left:
            raise DeclinedError("over_capture")
        hold.captured += amount
        back = hold.left if record.get("final") else 0
        hold.released += back
        hold.end = None if hold.left else "captured"
        self._move(hold.wallet, amount + back)
        self._move(hold.wallet, -amount)
        return Accepted(record, hold=hold)

    def _release(self, record: Record) -> Accepted:
        hold = self._open(record)
        self._move(hold.wallet, hold.left)
        hold.released, hold.end = hold.released + hold.left, "released"
        return Accepted(record, hold=hold)

    def _open(self, record: Record) -> Hold:
        hold = self.hold(record["holdId"])
        if hold.end is not None:
            raise DeclinedError("hold_finished")
        return hold


def _asked(record: Record) -> dict[str, Any]:
    """Return what makes a record the same as another one: what is said beside it does not count."""
    beside = ("note", "metadata", "occurredAt", "ifVersion")
    asked = {name: value for name, value in record.items() if name not in beside}
    if record["type"] == "capture":
        # Without an amount it is final, whatever else was said.
        asked["amount"] = record.get("amount")
        asked["final"] = bool(record.get("final")) or "amount" not in record
    return asked
