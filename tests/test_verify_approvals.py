"""Verification of what operators did: right through posting, asking and approving, and each way round it shows."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.conftest import Tamper
from tests.kernel.operators import NAMES, VISITOR, adjustment, make_operator, sign_in
from tests.test_verify import Tampering
from wallet_app import service
from wallet_app.service import execution
from wallet_app.service.adjustments import Adjust

pytestmark = pytest.mark.wide

JOHN, DOE = 3, 5


def live() -> None:
    """Wallet 3 got 7 by one operator alone and 2,000 by two, and gave 5 to wallet 5; another request was rejected."""
    for name, role in NAMES.items():
        make_operator(name, role)
    maker, checker = sign_in("maker"), sign_in("checker")

    def do(operation: service.Operation) -> service.Posted | service.Asked:
        return service.carry_out(maker, operation, form_key=service.new_form_key(), visitor=VISITOR)

    do(adjustment(JOHN, 7))
    for amount in (2_000, 2_001):
        asked = do(adjustment(JOHN, amount))
        assert isinstance(asked, service.Asked)
        request_id = asked.request.request_id
        if amount == 2_000:
            weighed = service.get_request(checker, request_id, visitor=VISITOR).weighed
            assert weighed is not None
            service.approve(checker, request_id, seen=weighed.seen, visitor=VISITOR)
        else:
            service.reject(checker, request_id, comment="no", visitor=VISITOR)
    why = {"reason_code": "CORRECTION", "ticket": "T-1", "note": "a test"}
    do(service.TransferOperation(wallet_id=JOHN, to_wallet_id=DOE, amount=5, **why))


def test_what_operators_do_is_right_at_each_step(app: Flask) -> None:
    assert app
    live()
    for full in (False, False, True, False):
        report = service.verify(full=full)
        assert report.broken() == set()
    assert [report.findings[name].looked_at > 0 for name in ("requests", "alone", "executed")] == [True] * 3


APPROVED = "UPDATE approval_requests SET {} WHERE status = 'approved'"
REJECTED = "UPDATE approval_requests SET {} WHERE status = 'rejected'"
ALONE = "UPDATE operator_postings SET {} WHERE kind = 'adjustment' AND request_id IS NULL"
TAMPERINGS = [
    Tampering(
        "another amount asked for",
        APPROVED.format("payload = jsonb_set(payload, '{command,amount}', '1')"),
        {"requests", "executed"},
    ),
    Tampering(
        "another amount asked for, and hashed",
        APPROVED.format(
            "payload = jsonb_set(payload, '{command,amount}', '1'), "
            "payload_hash = sha256(convert_to(jsonb_set(payload, '{command,amount}', '1')::text, 'UTF8'))"
        ),
        {"requests", "executed"},
    ),
    Tampering("another maker", APPROVED.format("maker_id = (SELECT max(id) FROM operators)"), {"requests", "executed"}),
    Tampering("another note", REJECTED.format("note = 'said otherwise'"), {"requests"}),
    Tampering(
        "its own checker",
        "ALTER TABLE approval_requests DROP CONSTRAINT ck_approval_requests_checker_is_another;"
        + APPROVED.format("checker_id = maker_id"),
        {"requests", "executed"},
    ),
    Tampering(
        "never approved", APPROVED.format("status = 'rejected', transaction_id = NULL"), {"requests", "executed"}
    ),
    Tampering(
        "approved after all", REJECTED.format("status = 'approved', transaction_id = gen_random_uuid()"), {"requests"}
    ),
    Tampering("request removed", "DELETE FROM approval_requests WHERE status = 'approved'", {"executed"}),
    Tampering("not counted", "DELETE FROM operator_postings WHERE kind = 'adjustment'", {"counted"}),
    Tampering("counted for another", ALONE.format("operator_id = (SELECT max(id) FROM operators)"), {"counted"}),
    Tampering("counted as less", ALONE.format("amount = 6, counted = 6"), {"counted"}),
    Tampering("counted for nobody", ALONE.format("counted = 0"), {"alone"}),
    Tampering(
        "said to be approved",
        ALONE.format("request_id = 1, approval_above = NULL, operator_day_max = NULL, wallet_day_max = NULL"),
        {"counted"},
    ),
    Tampering("above the threshold", ALONE.format("approval_above = 6"), {"alone"}),
    Tampering("above the operator's day", ALONE.format("operator_day_max = 6"), {"alone"}),
    Tampering("above the wallet's day", ALONE.format("wallet_day_max = 6"), {"alone"}),
]


@pytest.mark.tampers
@pytest.mark.parametrize("case", TAMPERINGS, ids=lambda case: case.name)
def test_each_way_round_four_eyes_shows(app: Flask, tamper: Tamper, case: Tampering) -> None:
    assert app
    live()
    assert service.verify(full=True).broken() == set()
    tamper(case.sql)
    assert service.verify(full=True).broken() == case.broken


@pytest.mark.tampers
def test_an_adjustment_past_four_eyes_shows(app: Flask) -> None:
    """The command itself, as no face can build it: by an operator's name, and by a service's."""
    assert app
    for client, broken in (("console", {"counted"}), ("shop", {"counted", "adjustments"})):
        origin = service.Origin(client=client, actor="operator:1")
        execution.execute(
            Adjust(
                wallet_id=JOHN,
                reference=f"past-{client}",
                origin=origin,
                direction="credit",
                amount=9,
                reason_code="OTHER",
            )
        )
        assert service.verify(full=True).broken() == broken
