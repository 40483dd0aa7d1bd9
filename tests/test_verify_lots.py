"""Verification of lots: what is right stays so through all that can become of one, and each way to tamper shows."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import Tamper, lend, new_database, settings_for
from tests.copies import Copies
from tests.test_verify import ORIGIN, Tampering
from wallet_app import create_app, service
from wallet_app.db import close_connections

pytestmark = pytest.mark.wide

JOHN, DOE = 3, 5
LATE = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


def do(kind: type[service.Command], reference: str, wallet: int = JOHN, **asked: Any) -> service.Receipt:
    return service.execute(kind(wallet_id=wallet, reference=reference, origin=ORIGIN, **asked))


def grant(amount: int, reference: str, end: dt.datetime | None = LATE, wallet: int = JOHN) -> uuid.UUID:
    return do(service.Bonus, reference, wallet, amount=amount, expires_at=end).transaction.transaction_id


def live() -> None:
    """Make what can become of lots. John has 500 of paid credit, then by seq:

    2: 100 until LATE. 3: 20 for ever. 4: 30 until a day later, extended by another. 5: 110 are spent, 10 of them of 4.
    6: 50 are held: 20 of 4, 20 for ever, 10 paid; of these 7 and 8 capture 5 of 4. 9: 2 of 4 come back of what was
    spent. 10: 40 whose time comes, which 11 books. 12: 5 go to Doe: 2 of 4, and 3 paid. 13: 7 that 14 takes back.
    """
    grant(100, "first")
    grant(20, "standing", None)
    third = grant(30, "third", LATE + dt.timedelta(days=1))
    do(service.ExtendLot, "longer", lot_id=third, expires_at=LATE + dt.timedelta(days=2), reason="On")
    spent = do(service.Spend, "spend", amount=110).transaction.transaction_id
    hold = do(service.PlaceHold, "hold", amount=50, expires_in=3600).hold
    assert hold is not None
    do(service.CaptureHold, "capture", hold_id=hold.hold_id, amount=5)
    do(service.ReverseTransaction, "undo", transaction_id=spent, amount=2, reason="Broken")
    soon = grant(40, "soon", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3))
    deadline = time.monotonic() + 30
    while service.get_lot(soon).lot.expired == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    do(service.Transfer, "gift", to_wallet_id=DOE, amount=5)
    do(service.RevokeLot, "revoke", lot_id=grant(7, "mistake"), reason="Twice")
    do(service.TopUp, "settles", amount=1)


@pytest.fixture(scope="module")
def template_with_lots(server: URL, template: str) -> Iterator[str]:
    """A copy of the template with lots that are worth to be tampered with: made once for all tamperings."""
    for url in new_database(server, template=template):
        with create_app(settings_for(url)).app_context():
            live()
            close_connections()
        assert url.database is not None
        yield url.database


@pytest.fixture
def database(database_copies: Copies, template_with_lots: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    yield from lend(database_copies, template_with_lots, request)


def test_what_becomes_of_lots_is_right(app: Flask) -> None:
    assert app
    kept = {view.lot.seq: view.lot for view in service.list_lots(JOHN, state="all", after=None, limit=100)}
    assert [(seq, *kept[seq][5:11]) for seq in sorted(kept)] == [
        (0, 20, 0, 20, 0, 0, 0), (2, 100, 0, 0, 100, 0, 0), (4, 30, 0, 15, 15, 0, 0), (10, 40, 0, 0, 0, 40, 0),
        (13, 7, 0, 0, 0, 0, 7),
    ]  # fmt: skip
    for full in (False, False, True, False):
        assert service.verify(full=full).broken() == set()


LOT = "WHERE wallet_id = 3 AND seq"
MOVED = "WHERE wallet_id = 3 AND seq"
TAMPERINGS = [
    Tampering(
        "more left",
        f"UPDATE lots SET available = 1, consumed = 14 {LOT} = 4",
        {"lots", "bonus", "lot_order", "lot_totals"},
    ),
    Tampering("consumed again", f"UPDATE lots SET consumed = 30, expired = 10 {LOT} = 10", {"lots"}),
    Tampering("a longer life", f"UPDATE lots SET expires_at = expires_at + interval '1 day' {LOT} = 4", {"lots"}),
    Tampering("a larger amount", f"UPDATE lots SET amount = 101, consumed = 101 {LOT} = 2", {"lots"}),
    Tampering("paid credit", f"UPDATE lots SET kind = 'paid' {LOT} = 13", {"lot_kinds"}),
    Tampering("a lot removed", f"DELETE FROM lots {LOT} = 10", {"lots"}),
    Tampering(
        "an invented lot",
        """INSERT INTO lots SELECT wallet_id, 15, 1, gen_random_uuid(), 'bonus', 5, 5, 0, 0, 0, 0, expires_at,
                  created_at, changed_at FROM lots WHERE wallet_id = 3 AND seq = 4""",
        {"lots", "bonus", "lot_order", "lot_kinds", "lot_totals"},
    ),
    Tampering("held", f"UPDATE lots SET held = 16, consumed = 14 {LOT} = 4", {"lots", "lots_held", "lot_totals"}),
    Tampering("a hold's units", "UPDATE holds SET lots = '{0,0,20,4,1,14}' WHERE wallet_id = 3", {"lots_held"}),
    Tampering("bonus", "UPDATE wallet_balances SET bonus = 1 WHERE wallet_id = 3", {"bonus", "lot_totals"}),
    Tampering("how many lots there are", "UPDATE wallet_balances SET lots = 0 WHERE wallet_id = 3", {"bonus"}),
    Tampering(
        "a movement's amount",
        f"UPDATE lot_movements SET amount = 99 {MOVED} = 5 AND lot_seq = 2",
        {"lots", "lot_order", "lot_totals"},
    ),
    Tampering(
        "a movement of another lot", f"UPDATE lot_movements SET lot_seq = 4 {MOVED} = 5 AND lot_seq = 2", {"lots"}
    ),
    Tampering("a movement removed", f"DELETE FROM lot_movements {MOVED} = 12", {"lots", "lot_order", "lot_totals"}),
    Tampering(
        "a grant removed", f"DELETE FROM lot_movements {MOVED} = 13", {"lots", "lot_entries", "lot_order", "lot_totals"}
    ),
    Tampering(
        "a movement of another transaction",
        f"UPDATE lot_movements SET transaction_id = gen_random_uuid() {MOVED} = 12",
        {"lot_entries", "lot_totals"},
    ),
    Tampering(
        "a movement of another kind",
        f"UPDATE lot_movements SET kind = 'revoke' {MOVED} = 12",
        {"lots", "lot_entries"},
    ),
    Tampering(
        "a movement at another time",
        f"UPDATE lot_movements SET created_at = created_at - interval '1 second' {MOVED} = 12",
        {"lots", "lot_entries"},
    ),
    Tampering(
        "an entry without its lots",
        "UPDATE lot_movements SET seq = 99 WHERE wallet_id = 3 AND seq = 12",
        {"lot_entries", "lot_order", "lot_totals"},
    ),
    Tampering(
        "an end that had come before",
        f"""UPDATE lot_movements SET expires_at = '2026-01-01' {MOVED} = 2;
            UPDATE lots SET expires_at = '2026-01-01' {LOT} = 2""",
        {"lot_ends"},
    ),
    Tampering(
        "an end that had not come",
        f"""UPDATE lot_movements SET expires_at = '2089-01-01' {MOVED} = 10;
            UPDATE lots SET expires_at = '2089-01-01' {LOT} = 10""",
        {"lot_ends"},
    ),
    Tampering(
        "an extension removed",
        f"""DELETE FROM lot_movements WHERE kind = 'extend';
            UPDATE lots SET expires_at = '2090-01-02' {LOT} = 4""",
        {"extensions"},
    ),
    Tampering(
        "an extension of another lot",
        "UPDATE lot_movements SET lot_seq = 2 WHERE kind = 'extend'",
        {"extensions", "lots"},
    ),
    Tampering(
        "an extension that was never asked for",
        f"""INSERT INTO lot_movements SELECT wallet_id, 15, gen_random_uuid(), 1, lot_seq, lot_part, kind, amount,
                   expires_at + interval '9 days', created_at FROM lot_movements WHERE kind = 'extend';
            UPDATE lots SET expires_at = expires_at + interval '9 days' {LOT} = 4""",
        {"lot_entries"},
    ),
    Tampering(
        "taken back besides that it expired",
        """INSERT INTO reversed_entries
           SELECT wallet_id, seq, transaction_id, contra_wallet_id, amount, 1, 0 FROM ledger_entries
            WHERE wallet_id = 3 AND seq = 10""",
        {"lot_bounds", "reversed"},
    ),
    Tampering(
        "paid credit taken before bonus",
        f"""UPDATE lot_movements SET amount = 1 {MOVED} = 12;
            UPDATE lots SET available = 1, consumed = 14 {LOT} = 4;
            UPDATE wallet_balances SET bonus = 1 WHERE wallet_id = 3""",
        {"lot_order"},
    ),
    Tampering(
        "a revocation of another grant",
        """UPDATE transactions SET request = jsonb_set(request, '{lot}', to_jsonb((SELECT lot_id FROM lots
            WHERE wallet_id = 3 AND seq = 4)::text)) WHERE reference_id = 'revoke'""",
        {"reversals", "digests"},
    ),
    Tampering(
        "an extension of no lot",
        """UPDATE transactions SET request = jsonb_set(request, '{lot}', '"none"') WHERE reference_id = 'longer'""",
        {"extensions", "digests"},
    ),
]


@pytest.mark.tampers
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=[tampering.name for tampering in TAMPERINGS])
def test_each_tampering_is_named(app: Flask, tamper: Tamper, tampering: Tampering) -> None:
    assert app
    tamper(tampering.sql)
    found = service.verify().broken()
    # Whoever changes what was asked for changes what the digest covers, and so the chain.
    assert found - {"chain"} == tampering.broken
    assert service.verify(full=True).broken() - {"chain"} == tampering.broken


@pytest.mark.tampers
def test_what_is_changed_after_it_was_verified_is_found(app: Flask, tamper: Tamper) -> None:
    assert app
    assert service.verify().is_clean
    do(service.Bonus, "later", amount=3, expires_at=LATE)
    tamper("UPDATE lots SET expires_at = expires_at + interval '1 day' WHERE wallet_id = 3 AND seq = 16")
    assert service.verify().broken() == {"lots"}
    tamper("UPDATE lots SET consumed = 40, expired = 0 WHERE wallet_id = 3 AND seq = 10")
    assert service.verify(full=True).broken() == {"lots"}


@pytest.mark.tampers
def test_an_overdue_lot_is_a_note_and_no_fault(app: Flask, tamper: Tamper) -> None:
    assert app
    assert service.verify().notes == []
    grant(1, "late", LATE, DOE)
    tamper(
        """UPDATE lots SET expires_at = created_at - interval '1 hour' WHERE wallet_id = 5 AND seq = 3;
           UPDATE lot_movements SET expires_at = created_at - interval '1 hour' WHERE wallet_id = 5 AND seq = 3"""
    )
    report = service.verify()
    assert "1 lots have been due for more than 10 minutes" in report.notes[0]
    assert report.is_clean


@pytest.mark.tampers
def test_a_rebuild_makes_lots_and_balances_what_the_movements_say(app: Flask, tamper: Tamper) -> None:
    assert app
    tamper(
        "UPDATE wallet_balances SET bonus = 7, lots = 9 WHERE wallet_id = 3",
        "UPDATE lots SET available = 3, consumed = 12 WHERE wallet_id = 3 AND seq = 4",
        "DELETE FROM wallet_balances WHERE wallet_id = 5",
    )
    assert len(service.rebuild_balances(dry_run=True).changes) == 4
    report = service.rebuild_balances()
    assert report.refusals == []
    assert sorted(str(change)[:20] for change in report.changes) == [
        "wallet 3, bonus: 7 -", "wallet 3, lot 4.1: 3", "wallet 3, lots: 9 ->", "wallet 5, row: missi",
    ]  # fmt: skip
    assert service.verify(full=True).is_clean


@pytest.mark.tampers
def test_a_rebuild_does_not_hide_that_a_movement_is_gone(app: Flask, tamper: Tamper) -> None:
    assert app
    tamper(
        "DELETE FROM lot_movements WHERE wallet_id = 3 AND seq = 12",
        "DELETE FROM lots WHERE wallet_id = 3 AND seq = 10",
    )
    report = service.rebuild_balances()
    assert [str(refusal) for refusal in report.refusals] == [
        "wallet 3: its lot 4.1 knows of more than its movements: some are missing or changed",
        "wallet 3: its lot 10.1 is gone, and cannot be made again: restore it from a backup",
    ]
    assert report.changes == []
    assert not service.verify(full=True).is_clean
