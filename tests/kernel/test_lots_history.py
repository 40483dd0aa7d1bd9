"""Lots are filled from the history of before: the books are right then, as the rules would have left them."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
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
SEED, STEPS = 20_261_123, 250

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
            rate = Fraction(chance.randint(1, 5), chance.randint(1, 7))
            return service.Exchange(wallet_id=source, to_wallet_id=target, amount=amount, rate=rate, **said)
        if kind == "purchase":
            legs = [service.Leg(JOHN, "SPEND", amount), service.Leg(JOHN_DIAMOND, chance.choice(["BONUS", "TOPUP"]), 7)]
            return service.Purchase(wallet_id=JOHN, legs=tuple(legs), **said)
        if kind == "hold":
            return service.PlaceHold(wallet_id=wallet, amount=amount, expires_in=3600, **said)
        made = {"topup": service.TopUp, "bonus": service.Bonus}.get(kind, service.Spend)
        return made(wallet_id=wallet, amount=amount, **said)


_MOVEMENTS = text("""
SELECT wallet_id, seq, place, lot_seq, lot_part, kind, amount, expires_at, created_at, transaction_id
  FROM lot_movements ORDER BY wallet_id, seq, place
""")
_LOTS = text("SELECT * FROM lots ORDER BY wallet_id, seq, part")
_BALANCES = text("SELECT wallet_id, bonus, lots FROM wallet_balances ORDER BY wallet_id")
_HOLDS = text("SELECT wallet_id, seq, lots FROM holds ORDER BY wallet_id, seq")


def told(owner: Connection) -> list[list[tuple[Any, ...]]]:
    """Return all that is told of lots."""
    found = [[tuple(row) for row in owner.execute(query)] for query in (_MOVEMENTS, _LOTS, _BALANCES, _HOLDS)]
    owner.commit()
    return found


def test_history_is_filled_as_the_rules_would_have_left_it(app: Flask, owner: Connection) -> None:
    assert app
    play = Play(SEED)
    play.do(STEPS)
    made = told(owner)
    assert {movement[5] for movement in made[0]} == {"grant", "consume", "hold", "release", "restore", "revoke"}
    forget(owner)
    history().fill_lots(owner)
    owner.commit()
    assert told(owner) == made
    assert service.verify(full=True).broken() == set()


def test_windows_tell_of_plain_wallets_what_a_walk_tells(app: Flask, owner: Connection) -> None:
    assert app
    chance = random.Random(SEED)
    kinds = [service.TopUp, service.Bonus, service.Spend, service.Spend]
    commands = [
        chance.choice(kinds)(wallet_id=wallet, reference=f"plain-{n}", origin=ORIGIN, amount=chance.randint(1, 90))
        for n in range(STEPS)
        for wallet in (JOHN, DOE)
    ]
    service.execute_batch(commands)
    made = told(owner)
    assert len(made[1]) == 2
    forget(owner)
    history().fill_lots(owner)
    owner.commit()
    assert told(owner) == made
