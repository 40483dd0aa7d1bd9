"""Verification of reversals and debts: what is right stays so, and each way to tamper with them shows."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask

from tests.conftest import Tamper
from tests.kernel.test_reversals import reverse
from tests.test_verify import ORIGIN, Tampering
from wallet_app import service

pytestmark = pytest.mark.wide

JOHN, JOHN_DIAMOND, DOE = 3, 4, 5


def posted(command: service.Command) -> uuid.UUID:
    return service.execute(command).transaction.transaction_id


def top_up(wallet_id: int, amount: int, reference: str) -> service.TopUp:
    return service.TopUp(wallet_id=wallet_id, amount=amount, reference=reference, origin=ORIGIN)


def spend(wallet_id: int, amount: int, reference: str) -> service.Spend:
    return service.Spend(wallet_id=wallet_id, amount=amount, reference=reference, origin=ORIGIN)


def live() -> None:
    """John begins with 500. Seq 2: a spend, reversed in parts; 3: a top-up that is owed for and repaid in part.

    4: given to Doe, and back; 5 and 6, and 2 of the diamonds: a bundle that is reversed.
    """
    spent = posted(spend(JOHN, 100, "spent"))
    topped = posted(top_up(JOHN, 50, "topped"))
    given = posted(service.Transfer(wallet_id=JOHN, to_wallet_id=DOE, amount=30, reference="given", origin=ORIGIN))
    legs = (service.Leg(JOHN, "SPEND", 10), service.Leg(JOHN_DIAMOND, "TOPUP", 5), service.Leg(JOHN, "BONUS", 2))
    bundle = posted(service.Purchase(wallet_id=JOHN, legs=legs, reference="bundle", origin=ORIGIN))
    reverse(spent, 40, reference="part")
    reverse(given, reference="back")
    reverse(bundle, reference="no bundle")
    reverse(spent, reference="rest")
    service.execute(spend(JOHN, service.get_wallet(JOHN).balance - 20, "all but 20"))
    reverse(topped, on_shortfall="debt", reference="chargeback")
    service.execute(top_up(JOHN, 10, "repays"))
    assert service.get_wallet(JOHN).owed == 20


def test_reversals_and_debts_are_right_at_each_step(app: Flask) -> None:
    assert app
    live()
    for full in (False, False, True, False):
        report = service.verify(full=full)
        assert report.broken() == set(), [str(one.examples) for one in report.findings.values() if one.faults]
    service.execute(top_up(JOHN, 21, "repays the rest"))
    assert service.verify().broken() == set()


def part(reference: str, value: str, place: str = "0") -> str:
    return f"""UPDATE transactions SET result = jsonb_set(result, '{{parts,{place}}}', '{value}')
                WHERE reference_id = '{reference}'"""


ROW = "UPDATE reversed_entries SET"
ID = "(SELECT transaction_id FROM transactions WHERE reference_id = '{}')"
TAMPERINGS = [
    Tampering("less reversed", f"{ROW} reversed = 60 WHERE wallet_id = 3 AND seq = 2", {"bounds"}),
    Tampering("more reversed than there was", "ALTER TABLE reversed_entries DROP CONSTRAINT "
              f"ck_reversed_entries_within_amount; {ROW} reversed = 101 WHERE wallet_id = 3 AND seq = 2", {"bounds"}),
    Tampering("a debt forgotten", f"{ROW} owed = 0, owed_since = NULL WHERE owed > 0", {"bounds", "owed"}),
    Tampering("a debt called repaid", f"{ROW} owed = 0, owed_since = NULL, reversed = 50 WHERE owed > 0",
              {"bounds", "owed"}),
    Tampering("a debt forgotten everywhere", f"{ROW} owed = 0, owed_since = NULL, reversed = 50 WHERE owed > 0; "
              "UPDATE wallet_balances SET owed = 0 WHERE wallet_id = 3", {"bounds"}),
    Tampering("owed", "UPDATE wallet_balances SET owed = 7 WHERE wallet_id = 3", {"owed"}),
    Tampering("a row removed", "DELETE FROM reversed_entries WHERE wallet_id = 3 AND seq = 2", {"bounds"}),
    Tampering("another amount", f"{ROW} amount = 200 WHERE wallet_id = 3 AND seq = 2", {"bounds", "reversed"}),
    Tampering("another transaction", f"{ROW} transaction_id = gen_random_uuid() WHERE wallet_id = 3 AND seq = 2",
              {"bounds", "reversed"}),
    Tampering("another other side", f"{ROW} contra_wallet_id = 1 WHERE wallet_id = 3 AND seq = 2", {"reversed"}),
    Tampering("an invented row", "INSERT INTO reversed_entries SELECT wallet_id, 1, transaction_id, contra_wallet_id, "
              "500, 500, 0, NULL FROM ledger_entries WHERE wallet_id = 3 AND seq = 1", {"reversed"}),
    Tampering("a row of no entry", "INSERT INTO reversed_entries VALUES (5, 99, gen_random_uuid(), 1, 5, 5, 0, NULL)",
              {"reversed"}),
    Tampering("a part that moved less", part("part", "[3, 2, 39, 0]"), {"reversals", "bounds", "digests"}),
    Tampering("a part of another entry", part("part", "[3, 3, 40, 0]"), {"reversals", "bounds", "digests"}),
    Tampering("a part of another wallet", part("back", "[5, 2, 30, 0]"), {"reversals", "bounds", "digests"}),
    Tampering("a part that owes more", part("part", "[3, 2, 40, 10]"), {"bounds", "digests"}),
    Tampering("no part", part("part", '"none"'), {"reversals", "bounds", "digests"}),
    Tampering("no parts", "UPDATE transactions SET result = '{\"parts\": 7}' WHERE reference_id = 'part'",
              {"reversals", "bounds", "digests"}),
    Tampering("no result", "UPDATE transactions SET result = NULL WHERE reference_id = 'chargeback'",
              {"reversals", "bounds", "digests"}),
    Tampering("a repayment of another entry",
              "UPDATE transactions SET request = jsonb_set(request, '{repays}', '2') "
              "WHERE reference_id LIKE 'sys:repay:%'", {"reversals", "digests"}),
    Tampering("asked for another transaction",
              "UPDATE transactions SET request = jsonb_set(request, '{transaction}', '\"x\"') "
              "WHERE reference_id = 'part'", {"reversals", "digests"}),
    Tampering("reverses another one",
              f"UPDATE transactions SET reverses = {ID.format('topped')} WHERE reference_id = 'part'",
              {"reversals", "bounds", "digests"}),
    Tampering("reverses none", "UPDATE transactions SET reverses = NULL WHERE reference_id = 'part'",
              {"reversals", "bounds", "digests"}),
    Tampering("reverses what is not there", "UPDATE transactions SET reverses = gen_random_uuid() "
              "WHERE reference_id = 'part'", {"reversals", "bounds", "digests"}),
    Tampering("another kind", "UPDATE transactions SET kind = 'TOPUP' WHERE reference_id = 'part'",
              {"reversals", "digests"}),
    Tampering("reversed what cannot be", "UPDATE transactions SET kind = 'HOLD_EXPIRY' WHERE reference_id = 'spent'",
              {"reversals", "digests", "holds"}),
]  # fmt: skip


@pytest.mark.tampers
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=[tampering.name for tampering in TAMPERINGS])
def test_each_tampering_is_named(app: Flask, tamper: Tamper, tampering: Tampering, full: bool) -> None:
    assert app
    live()
    tamper(tampering.sql)
    found = service.verify(full=full).broken()
    # Whoever changes what was asked for or decided changes what the digest covers, and so the chain.
    assert found - {"chain"} == tampering.broken
    assert service.verify(full=full).broken() - {"chain"} == tampering.broken, "until it is gone"


@pytest.mark.tampers
def test_a_rebuild_knows_what_is_owed(app: Flask, tamper: Tamper) -> None:
    assert app
    live()
    tamper("UPDATE wallet_balances SET owed = 7 WHERE wallet_id = 3")
    report = service.rebuild_balances()
    assert [str(change) for change in report.changes] == ["wallet 3, owed: 7 -> 20"]
    tamper("DELETE FROM wallet_balances WHERE wallet_id = 3")
    service.execute(top_up(JOHN, 21, "heals"))
    assert (service.get_wallet(JOHN).balance, service.get_wallet(JOHN).owed) == (1, 0)
    assert service.verify(full=True).is_clean
