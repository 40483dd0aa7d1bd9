"""A history of any length, of every kind of movement, with an invented clock: to be summed up in more ways than one."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import InvalidError, NotFoundError, RefusedError
from wallet_app.service import execution, settled, wallets
from wallet_app.service.commands import UNSAID, Command, ExtendLot, Origin

DAY = dt.timedelta(days=1)
ORIGIN = Origin(client="tests", actor="history")


@dataclass
class History:
    """Four users with a wallet of each asset, and what was done with them since `begin`."""

    begin: dt.datetime
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    users: list[tuple[int, int]] = field(default_factory=list)
    """Of each user the ids of the wallets, by asset."""
    holds: list[tuple[int, uuid.UUID]] = field(default_factory=list)
    made: list[tuple[int, uuid.UUID, tuple[int, ...]]] = field(default_factory=list)

    lots: list[tuple[int, uuid.UUID]] = field(default_factory=list)
    now: dt.datetime = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.begin
        assets = {asset.code: asset.asset_type_id for asset in service.list_assets(after_id=None, limit=10)}
        with unit_of_work() as connection:
            for name in ("Ann", "Ben", "Cleo", "Dan"):
                user_id = wallets.ensure_user(connection, name=name, external_id=f"history:{name}")
                gold, diamond = (
                    wallets.ensure_wallet(
                        connection, user_id=user_id, asset_type_id=assets[code], created_at=self.begin
                    )
                    for code in ("GOLD", "DIAMOND")
                )
                self.users.append((gold, diamond))

    def post(self, days: int) -> None:
        """Post some movements on each day, and have what is kept beside the ledger begin again."""
        expected = []
        for day in range(days):
            if day % 100 == 0:
                expected.append(settled.expect_older())
            for at in sorted(self.dice.randrange(86_400_000_000) for _ in range(self.dice.choice((0, 1, 1, 1, 2, 5)))):
                # Now and then on the very instant at which a day begins.
                instant = self.begin + dt.timedelta(days=day, microseconds=at if at % 7 else 0)
                self.now = instant
                self._post(list(self._commands(f"{day}-{at}")), instant)
        settled.older_are_there(expected)

    def _post(self, commands: list[Command], instant: dt.datetime) -> None:
        for outcome in execution.execute_batch(commands, clock=lambda: instant):
            if isinstance(outcome, Exception):
                if not isinstance(outcome, RefusedError | InvalidError | NotFoundError):
                    raise outcome
                continue
            done = outcome.transaction
            if done.kind == "BONUS":
                self.lots.append((done.wallet_id, done.transaction_id))
            if done.kind == "HOLD":
                self.holds.append((done.wallet_id, done.transaction_id))
            elif done.kind in service.REVERSIBLE:
                others = {entry.wallet_id for entry in done.entries} - {done.wallet_id}
                self.made.append((done.wallet_id, done.transaction_id, tuple(others)))

    def _commands(self, name: str) -> Iterator[Command]:
        dice = self.dice
        for number in range(dice.randrange(3, 9)):
            asset, (user, other) = dice.randrange(2), dice.sample(self.users, 2)
            said: dict[str, Any] = {"wallet_id": user[asset], "reference": f"{name}-{number}", "origin": ORIGIN}
            amount, kind = dice.randrange(1, 200), dice.randrange(11)
            if kind < 2:
                yield service.TopUp(amount=amount * 3, **said)
            elif kind == 2:
                yield service.Bonus(amount=amount, expires_at=dice.choice((UNSAID, None)), **said)
            elif kind == 6:
                end = self.now + dt.timedelta(hours=dice.randrange(1, 24 * dice.choice((4, 8, 110))))
                yield service.Bonus(amount=amount, expires_at=dice.choice((end, end.date() + DAY)), **said)
            elif kind == 3:
                yield service.Spend(amount=amount, **said)
            elif kind == 4:
                yield service.Transfer(to_wallet_id=other[asset], amount=amount, **said)
            elif kind == 5:
                yield service.Exchange(to_wallet_id=user[1 - asset], amount=amount, rate=Fraction(1, 3), **said)
            elif kind == 7:
                yield service.PlaceHold(amount=amount, expires_in=dice.choice((3_600, 86_400 * 5)), **said)
            elif kind == 8 and self.holds:
                said["wallet_id"], hold_id = dice.choice(self.holds[-5:])
                if dice.random() < 0.6:
                    yield service.CaptureHold(hold_id=hold_id, amount=dice.randrange(1, 60), **said)
                else:
                    yield service.ReleaseHold(hold_id=hold_id, **said)
            elif kind == 10 and self.lots:
                said["wallet_id"], lot_id = dice.choice(self.lots[-10:])
                end = self.now + dt.timedelta(days=dice.randrange(1, 60))
                yield ExtendLot(lot_id=lot_id, expires_at=end, reason="a test", **said)
            elif kind == 9 and self.made:
                said["wallet_id"], transaction_id, others = dice.choice(self.made[-30:])
                yield service.ReverseTransaction(
                    transaction_id=transaction_id,
                    other_wallet_ids=others,
                    reason="a test",
                    on_shortfall="refuse" if others else dice.choice(("refuse", "debt")),
                    **said,
                )
