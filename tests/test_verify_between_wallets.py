"""Verification of transactions on several wallets: what was asked for, what was decided, and what the entries say."""

from __future__ import annotations

from fractions import Fraction

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import Tamper
from tests.test_verify import ORIGIN, Tampering
from wallet_app import service

pytestmark = pytest.mark.wide

TRANSFER = "WHERE kind = 'TRANSFER'"
PURCHASE = "WHERE kind = 'PURCHASE'"
EXCHANGE = "WHERE kind = 'EXCHANGE'"
RENAME_CLEARING = """
    UPDATE users SET name = 'Cleared' WHERE name = 'Clearing';
"""

TAMPERINGS = [
    Tampering("whom a transfer was for", f"UPDATE transactions SET request = request || '{{\"to\": 4}}' {TRANSFER}",
              {"digests", "chain", "transfers"}),
    Tampering("how much was asked for", f"UPDATE transactions SET request = request || '{{\"amount\": 8}}' {TRANSFER}",
              {"digests", "chain", "transfers"}),
    Tampering("a result that there was not", f"UPDATE transactions SET result = '{{}}' {TRANSFER}",
              {"digests", "chain"}),
    Tampering("no request any more", f"UPDATE transactions SET request = NULL {TRANSFER}",
              {"digests", "chain", "transfers"}),
    Tampering("one side alone", f"UPDATE transactions SET entry_keys = entry_keys[1:2] {TRANSFER}",
              {"transaction", "transfers"}),
    Tampering("sides exchanged",
              f"UPDATE transactions SET entry_keys = entry_keys[3:4] || entry_keys[1:2] {TRANSFER}", {"transfers"}),
    Tampering("not against Clearing", RENAME_CLEARING, {"transfers"}),
    Tampering("another rate", f"""UPDATE transactions SET result = '{{"rate": [1, 3]}}' {EXCHANGE}""",
              {"digests", "chain", "exchanges"}),
    Tampering("a rate that was not asked for",
              f"""UPDATE transactions SET request = request || '{{"rate": [1, 5]}}' {EXCHANGE}""",
              {"digests", "chain", "exchanges"}),
    Tampering("no rate any more", f"UPDATE transactions SET result = NULL {EXCHANGE}",
              {"digests", "chain", "exchanges"}),
    Tampering("not against Exchange", "UPDATE users SET name = 'Exchanged' WHERE name = 'Exchange'", {"exchanges"}),
    Tampering("a leg that was not asked for",
              f"""UPDATE transactions SET request = '{{"legs": [[3, "SPEND", 9]]}}' {PURCHASE}""",
              {"digests", "chain", "purchases"}),
    Tampering("no legs any more", f"UPDATE transactions SET request = NULL {PURCHASE}",
              {"digests", "chain", "purchases"}),
    Tampering("a purchase's bonus from nowhere", "UPDATE users SET name = 'Gifts' WHERE name = 'Promotions'",
              {"purchases"}),
]  # fmt: skip


def move_between_wallets() -> None:
    """Post one of each kind, between John's (3, 4) and Doe's (5, 6) wallets."""
    transfer = service.Transfer(wallet_id=3, to_wallet_id=5, amount=7, reference="t", origin=ORIGIN, note="for lunch")
    service.execute(transfer)
    rate = Fraction(1, 10)
    service.execute(service.Exchange(wallet_id=3, to_wallet_id=4, amount=105, rate=rate, reference="e", origin=ORIGIN))
    legs = (service.Leg(3, "SPEND", 20), service.Leg(4, "BONUS", 2), service.Leg(3, "TOPUP", 1))
    service.execute(service.Purchase(wallet_id=3, legs=legs, reference="p", origin=ORIGIN))


@pytest.mark.tampers
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.name)
@pytest.mark.parametrize("full", [True, False], ids=["full", "incremental"])
def test_tampering_is_reported_by_the_right_invariant(tamper: Tamper, tampering: Tampering, full: bool) -> None:
    service.verify()
    move_between_wallets()

    tamper(tampering.sql)

    assert service.verify(full=full).broken() == tampering.broken


def test_it_is_clean_while_nobody_tampers(app: Flask, database: URL) -> None:
    move_between_wallets()
    assert service.verify(full=True).is_clean
