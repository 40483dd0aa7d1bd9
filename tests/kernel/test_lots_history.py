"""Lots are filled from the history of before: the books are right then, as the rules would have left them."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL

from wallet_app import service
from wallet_app.errors import WalletServiceError

ORIGIN = service.Origin(client="test", actor="tester")
JOHN, JOHN_DIAMOND, DOE = 3, 4, 5

pytestmark = pytest.mark.tampers


def history() -> Any:
    spec = spec_from_file_location("lots_history", Path(__file__).parents[2] / "migrations" / "lots_history.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def owner(app: Flask, database: URL) -> Iterator[Connection]:
    """A connection that can take away what the rules made of lots."""
    engine = create_engine(database.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        yield connection
    engine.dispose()


def forget(owner: Connection) -> None:
    """Leave what there was before there were lots."""
    owner.execute(text("DELETE FROM lot_movements"))
    owner.execute(text("DELETE FROM lots"))
    owner.execute(text("UPDATE wallet_balances SET bonus = 0, lots = 0"))
    owner.execute(text("UPDATE holds SET lots = '{}'"))


class Play:
    """What people may have done with three wallets: everything that there was before there were lots."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = itertools.count(1)
        self.transactions: list[service.PostedTransaction] = []
        self.holds: list[service.Hold] = []

    def do(self, steps: int) -> None:
        for _ in range(steps):
            command = self.a_command()
            try:
                receipt = service.execute(command)
            except WalletServiceError:
                continue
            self.transactions.append(receipt.transaction)
            if receipt.transaction.kind == "HOLD":
                self.holds.append(receipt.hold)

    def a_command(self) -> service.Command:
        chance = self.chance
        wallet = chance.choice([JOHN, JOHN_DIAMOND, DOE])
        said: dict[str, Any] = {"reference": f"play-{next(self.numbers)}", "origin": ORIGIN}
        amount = chance.randint(1, 80)
        kind = chance.choice(
            ["topup", "bonus", "bonus", "spend", "spend", "transfer", "exchange", "purchase"] * 2
            + ["hold", "hold", "on_hold", "on_hold", "reversal", "reversal", "reversal"]
        )
        if kind == "on_hold" and self.holds:
            hold = chance.choice(self.holds)
            said |= {"wallet_id": hold.wallet_id, "hold_id": hold.hold_id}
            if chance.random() < 0.3:
                return service.ReleaseHold(**said)
            part = chance.choice([None, chance.randint(1, 30)])
            return service.CaptureHold(amount=part, is_final=part is None or chance.random() < 0.4, **said)
        if kind == "reversal" and self.transactions:
            original = chance.choice(self.transactions[-12:])
            others = {entry.wallet_id for entry in original.entries} - {original.wallet_id}
            return service.ReverseTransaction(
                wallet_id=original.wallet_id,
                other_wallet_ids=tuple(others),
                transaction_id=original.transaction_id,
                reason="Play",
                amount=chance.choice([None, None, chance.randint(1, 40)]),
                on_shortfall=chance.choice(["refuse", "partial", "debt"]),
                **said,
            )
        if kind == "transfer":
            return service.Transfer(wallet_id=JOHN, to_wallet_id=DOE, amount=amount, **said)
        if kind == "exchange":
            target = JOHN_DIAMOND if wallet == JOHN else JOHN
            source = JOHN if target == JOHN_DIAMOND else JOHN_DIAMOND
            rate = service_rate(chance)
            return service.Exchange(wallet_id=source, to_wallet_id=target, amount=amount, rate=rate, **said)
        if kind == "purchase":
            legs = [service.Leg(JOHN, "SPEND", amount), service.Leg(JOHN_DIAMOND, chance.choice(["BONUS", "TOPUP"]), 7)]
            return service.Purchase(wallet_id=JOHN, legs=tuple(legs), **said)
        if kind == "hold":
            return service.PlaceHold(wallet_id=wallet, amount=amount, expires_in=3600, **said)
        made = {"topup": service.TopUp, "bonus": service.Bonus}.get(kind, service.Spend)
        return made(wallet_id=wallet, amount=amount, **said)


def service_rate(chance: random.Random) -> Any:
    from fractions import Fraction

    return Fraction(chance.randint(1, 5), chance.randint(1, 7))


def test_try(app: Flask, owner: Connection) -> None:
    play = Play(1)
    play.do(400)
    from collections import Counter

    print(Counter(one.kind for one in play.transactions))
    forget(owner)
    history().fill_lots(owner)
    owner.commit()
    print(owner.execute(text("SELECT * FROM lots")).all())
    print(owner.execute(text("SELECT kind, count(*) FROM lot_movements GROUP BY 1")).all())
    owner.commit()
    report = service.verify(full=True)
    print([(f.name, f.examples) for f in report.findings.values() if f.faults])
    assert not report.broken()
