"""Verification of limits: what is right stays so, and each way to tamper with what is kept shows."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from flask import Flask

from tests.conftest import Tamper
from tests.kernel.operators import VISITOR, make_operator, sign_in
from tests.test_verify import ORIGIN
from wallet_app import service

pytestmark = pytest.mark.wide

JOHN, DOE = 3, 5


def live(*, ends: bool = False) -> None:
    """Both users spend, hold, release and get something back, under limits that two people raise for one of them.

    With `ends`, one of the two lets the raise end.
    """
    by = service.By(actor="tests")
    service.set_limits(service.LimitTarget(asset_code="GOLD"), service.WalletLimits(day=400, rolling=400), by=by)
    for wallet_id in (JOHN, DOE):
        for number in range(3):
            service.execute(service.Spend(wallet_id=wallet_id, amount=10, reference=f"s{number}", origin=ORIGIN))
        placing = service.PlaceHold(wallet_id=wallet_id, amount=50, expires_in=600, reference="h", origin=ORIGIN)
        hold = service.execute(placing).hold
        assert hold is not None
        taking = service.CaptureHold(
            wallet_id=wallet_id, hold_id=hold.hold_id, amount=20, is_final=True, reference="c", origin=ORIGIN
        )
        service.execute(taking)
    for name, role in (("maker", "support"), ("checker", "approver")):
        make_operator(name, role)
    maker, checker = sign_in("maker"), sign_in("checker")
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    operation = service.LimitRaiseOperation(wallet_id=JOHN, day=500, until=until, reason="a tournament")
    asked = service.carry_out(maker, operation, form_key=uuid.uuid4().hex, visitor=VISITOR)
    assert isinstance(asked, service.Asked)
    page = service.get_request(checker, asked.request.request_id, visitor=VISITOR)
    assert page.weighed is not None
    service.approve(checker, asked.request.request_id, seen=page.weighed.seen, visitor=VISITOR)
    assert service.get_limits(JOHN).limits.now.day == 500
    if ends:
        end = service.LimitRaiseEndOperation(wallet_id=JOHN, reason="it is off")
        assert isinstance(service.carry_out(maker, end, form_key=uuid.uuid4().hex, visitor=VISITOR), service.Posted)
        assert service.get_limits(JOHN).limits.now.day == 400


TAMPERINGS = {
    "more is kept": ("UPDATE spend_buckets SET amount = amount + 1 WHERE wallet_id = 3", {"spending"}),
    "less is kept": ("UPDATE spend_buckets SET amount = amount - 1 WHERE wallet_id = 3", {"spending"}),
    "counted further": ("UPDATE spend_buckets SET seq = seq + 1 WHERE wallet_id = 3", {"spending"}),
    "moved to another hour": (
        "UPDATE spend_buckets SET hour = hour + interval '1 hour' WHERE wallet_id = 3",
        {"spending"},
    ),
    "raised further": ("UPDATE limits SET day_max = day_max + 1 WHERE level = 'raise'", {"raised", "raises"}),
    "raised for longer": (
        "UPDATE limits SET until = until + interval '1 day' WHERE level = 'raise'",
        {"raised", "raises"},
    ),
    "raised by nobody": (
        """INSERT INTO limits (level, asset_type_id, wallet_id, day_max, until, transaction_id, set_by)
           SELECT level, asset_type_id, 5, day_max, until, transaction_id, set_by FROM limits WHERE level = 'raise'""",
        {"raised"},
    ),
    "the raise is gone": ("DELETE FROM limits WHERE level = 'raise'", {"raises"}),
}


@pytest.mark.tampers
def test_each_way_to_tamper_with_limits_shows(app: Flask, tamper: Tamper) -> None:
    live()
    assert service.verify(full=True).broken() == set()
    tamper("CREATE TABLE kept_buckets AS TABLE spend_buckets", "CREATE TABLE kept_limits AS TABLE limits")
    for name, (sql, broken) in TAMPERINGS.items():
        tamper(sql)
        assert service.verify(full=True).broken() == broken, name
        tamper("DELETE FROM spend_buckets", "INSERT INTO spend_buckets TABLE kept_buckets", "DELETE FROM limits")
        tamper("INSERT INTO limits OVERRIDING SYSTEM VALUE TABLE kept_limits")
    tamper("DROP TABLE kept_buckets, kept_limits")


@pytest.mark.tampers
def test_an_end_of_a_raise_that_is_not_an_operators_shows(app: Flask, tamper: Tamper) -> None:
    live(ends=True)
    assert service.verify(full=True).broken() == set()
    tamper("CREATE TABLE kept_limits AS TABLE limits")
    of_end = "transaction_id IN (SELECT transaction_id FROM transactions WHERE kind = 'LIMIT_RAISE_END')"
    for sql, broken in (
        (f"UPDATE limits SET until = until + interval '1 day' WHERE {of_end}", {"raised", "raises"}),
        (f"UPDATE limits SET day_max = day_max + 1 WHERE {of_end}", {"raised", "raises"}),
        (f"DELETE FROM limits WHERE {of_end}", {"raises"}),
    ):
        tamper(sql)
        assert service.verify(full=True).broken() == broken, sql
        tamper("DELETE FROM limits", "INSERT INTO limits OVERRIDING SYSTEM VALUE TABLE kept_limits")
    tamper("DROP TABLE kept_limits")


def test_what_is_too_old_to_count_is_forgotten(app: Flask, tamper: Tamper) -> None:
    live()
    tamper("UPDATE spend_buckets SET hour = hour - interval '3 days' WHERE wallet_id = 5")
    job = next(one for one in service.JOBS if one.name == "forget_spending")
    assert job.run(lambda: False) == 1
    assert service.get_limits(DOE).day.used == service.get_limits(JOHN).day.used == 50
