"""Lots over the API: grants that end, how they are read and listed, and what extends and takes them back."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api import clock
from tests.api.support import DOE_GOLD, JOHN_GOLD, TREASURY_GOLD, assert_problem, movement, new_reference
from tests.api.test_tokens import DOE, player
from tests.keys import client_of
from wallet_app import service
from wallet_app.service import expiry

STEP = dt.timedelta(seconds=clock.STEP_SECONDS)
_users = itertools.count(1)


def told(instant: dt.datetime) -> str:
    """Return the instant as the API tells it."""
    return instant.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.fixture
def client(app_with_clock: Flask) -> FlaskClient:
    return client_of(app_with_clock)


@pytest.fixture
def wallet(client: FlaskClient) -> int:
    """A new, empty wallet of GOLD."""
    made = client.post("/users", json={"name": "Lots", "externalId": f"lots:{next(_users)}"}).json
    wallet: int = client.post("/wallets", json={"userId": made["userId"], "asset": "GOLD"}).json["walletId"]
    return wallet


def now(app: Flask) -> dt.datetime:
    """Return the database's time."""
    return dt.datetime.now(dt.UTC) + clock.steps_so_far() * STEP


def post(client: FlaskClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = client.post(path, json={"referenceId": new_reference()} | body)
    assert answer.status_code == status, answer.get_data()
    return answer.json


def grant(client: FlaskClient, wallet: int, amount: int, expires_at: object = None, **more: Any) -> Any:
    return post(client, f"/wallets/{wallet}/bonus", amount=amount, expiresAt=expires_at, **more)


def lots(client: FlaskClient, wallet: int, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/wallets/{wallet}/lots{query}").json["lots"]
    return found


def parts(lot: dict[str, Any]) -> tuple[int, ...]:
    names = ("amount", "available", "held", "consumed", "expired", "revoked")
    return tuple(lot[name] for name in names)


def balance(client: FlaskClient, wallet: int) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/wallets/{wallet}/balance").json
    return body


def test_a_grant_tells_its_lot_and_its_end(client: FlaskClient, wallet: int, app_with_clock: Flask) -> None:
    end = now(app_with_clock) + 3 * STEP
    reference = new_reference()
    body = grant(client, wallet, 40, told(end), referenceId=reference)
    assert (body["lotId"], body["expiresAt"]) == (body["transactionId"], told(end))
    # The same instant in other words is the same; another one is not.
    other_zone = end.astimezone(dt.timezone(dt.timedelta(hours=5))).isoformat()
    again = grant(client, wallet, 40, other_zone, referenceId=reference)
    assert (again["idempotent"], again["lotId"], again["expiresAt"]) == (True, body["lotId"], told(end))
    for said in ({"expiresAt": told(end + STEP)}, {"expiresAt": None}, {}):
        sent = {"amount": 40, "referenceId": reference} | said
        problem = assert_problem(client.post(f"/wallets/{wallet}/bonus", json=sent), 422, "reference_mismatch")
        assert problem["fields"] == ["expiresAt"]
    assert lots(client, wallet) == [
        {
            "lotId": body["lotId"], "kind": "bonus", "amount": 40, "available": 40, "held": 0, "consumed": 0,
            "expired": 0, "revoked": 0, "expiresAt": told(end), "createdAt": body["createdAt"],
            "changedAt": body["createdAt"], "walletId": wallet, "userId": body["userId"],
            "asset": {"code": "GOLD", "name": "Gold Coins"}, "seq": 1, "type": "BONUS",
            "transactionId": body["transactionId"],
        }
    ]  # fmt: skip
    assert client.get(f"/lots/{body['lotId']}").json == {"ok": True, **lots(client, wallet)[0]}


def test_a_day_ends_where_the_asset_is_and_what_is_unsaid_is_the_asset_s(
    client: FlaskClient, wallet: int, app_with_clock: Flask
) -> None:
    by, usual = service.By(actor="tests"), service.CreditLife()
    berlin = service.CreditLife("Europe/Berlin", bonus_days=10)
    try:
        service.change_asset("GOLD", life=berlin, by=by)
        assert {"timeZone": "Europe/Berlin", "bonusDays": 10, "paidDays": None}.items() <= next(
            asset.items() for asset in client.get("/assets").json["assets"] if asset["code"] == "GOLD"
        )
        # Clocks go forward there in the night before, and back in the other.
        for day, end in (("2090-03-26", "2090-03-26T22:00:00"), ("2090-10-29", "2090-10-29T23:00:00")):
            assert grant(client, wallet, 1, day)["expiresAt"] == f"{end}.000000Z"
        unsaid = post(client, f"/wallets/{wallet}/bonus", amount=1)
        days = dt.datetime.fromisoformat(unsaid["expiresAt"]) - dt.datetime.fromisoformat(unsaid["createdAt"])
        assert dt.timedelta(days=10) <= days < dt.timedelta(days=11, hours=1)
        for never in (None, "never"):
            assert "lotId" not in grant(client, wallet, 1, never)
        assert "lotId" not in post(client, f"/wallets/{wallet}/topup", amount=1)
    finally:
        service.change_asset("GOLD", life=usual, by=by)
    assert "lotId" not in post(client, f"/wallets/{wallet}/bonus", amount=1)
    assert balance(client, wallet)["bonus"] == 6


@pytest.mark.parametrize(
    "value",
    ["", "2090-02-30", "2090-01-01T00:00:00", "1999-12-31", "3000-01-01", 5, "Never", "2090-01-01T24:00:00Z", {}],
)
def test_an_end_that_is_none_is_refused(client: FlaskClient, value: object) -> None:
    sent = movement(1, expiresAt=value)
    problem = assert_problem(client.post(f"/wallets/{JOHN_GOLD}/bonus", json=sent), 422, "validation_error")
    assert problem["errors"][0]["pointer"] == "/expiresAt"


def test_an_end_that_is_over_is_refused_and_burns_nothing(client: FlaskClient, wallet: int) -> None:
    reference = new_reference()
    sent = movement(1, reference, expiresAt="2001-01-01")
    assert assert_problem(client.post(f"/wallets/{wallet}/bonus", json=sent), 409, "lot_end_passed")
    assert grant(client, wallet, 1, "2090-01-01", referenceId=reference)["idempotent"] is False


@pytest.mark.parametrize("value", ["2027-02-29", "2090-04-31", "2027-02-29T12:00:00Z"])
@pytest.mark.parametrize(("act", "field"), [("bonus", "expiresAt"), ("freeze", "until")])
def test_a_day_that_does_not_exist_is_called_so(
    client: FlaskClient, wallet: int, act: str, field: str, value: str
) -> None:
    said = {"amount": 1} if act == "bonus" else {"side": "both", "reason": "a test"}
    sent = {"referenceId": new_reference(), field: value, **said}
    problem = assert_problem(client.post(f"/wallets/{wallet}/{act}", json=sent), 422, "validation_error")
    assert problem["errors"][0]["detail"] == f"must be a day that exists: {value[:10]} does not"


def test_who_is_refused_an_end_is_told_in_which_time_zone_and_whether_there_may_be_none(
    client: FlaskClient, wallet: int
) -> None:
    lot_id = grant(client, wallet, 5, "2090-01-01")["lotId"]
    service.change_asset("GOLD", life=service.CreditLife("Europe/Berlin"), by=service.By(actor="tests"))
    try:
        for value, zone in (("2001-01-01", "Europe/Berlin"), ("2001-01-01T00:00:00Z", "UTC")):
            said = value if zone != "UTC" else "2001-01-01T00:00:00.000000Z"
            text = f"Credit cannot be usable until {said} ({zone}): name an end that is ahead, up to the year 2999"
            passed = post(client, f"/wallets/{wallet}/bonus", 409, amount=1, expiresAt=value)
            assert (passed["detail"], passed["timeZone"]) == (f"{text}, or none.", zone)
            passed = post(client, f"/lots/{lot_id}/extend", 409, expiresAt=value, reason="a test")
            assert (passed["detail"], passed["timeZone"]) == (f"{text}.", zone)
        sooner = post(client, f"/lots/{lot_id}/extend", 409, expiresAt="2089-01-01", reason="a test")
        assert sooner["detail"].endswith("already: 2089-01-01 (Europe/Berlin) is not later.")
    finally:
        service.change_asset("GOLD", life=service.CreditLife(), by=service.By(actor="tests"))


def test_a_reversal_tells_as_remaining_what_its_transaction_tells(
    client: FlaskClient, wallet: int, app_with_clock: Flask
) -> None:
    granted = grant(client, wallet, 50, told(now(app_with_clock) + 2 * STEP))
    spent = post(client, f"/wallets/{wallet}/spend", amount=20)
    post(client, f"/wallets/{wallet}/topup", amount=100)
    clock.move(3)
    path = f"/transactions/{granted['transactionId']}"
    reference = new_reference()
    for _ in range(2):
        body = post(client, f"{path}/reversal", amount=5, reason="a test", referenceId=reference)
        (told_then,) = client.get(path).json["reversible"]
        assert body["movements"][0]["remaining"] == told_then["remaining"] == 15
        assert (told_then["reversed"], told_then["expired"]) == (5, 30)
    back = post(client, f"/transactions/{spent['transactionId']}/reversal", amount=8, reason="a test")
    assert (back["movements"][0]["remaining"], balance(client, wallet)["paid"]) == (12, 100)
    again = post(client, f"{path}/reversal", amount=5, reason="a test", referenceId=reference)
    (told_then,) = client.get(path).json["reversible"]
    assert again["movements"][0]["remaining"] == told_then["remaining"] == 12


def test_what_expires_first_is_spent_first(client: FlaskClient, wallet: int, app_with_clock: Flask) -> None:
    begun = now(app_with_clock)
    post(client, f"/wallets/{wallet}/topup", amount=100)
    grant(client, wallet, 10)
    late, soon = (grant(client, wallet, 20, told(begun + steps * STEP))["lotId"] for steps in (9, 5))
    body = balance(client, wallet)
    assert (body["balance"], body["available"], body["bonus"], body["paid"], body["due"]) == (150, 150, 50, 100, 0)
    assert body["expiring"] == {
        "nextAt": told(begun + 5 * STEP), "nextAmount": 20, "within7d": 40, "within30d": 40,
    }  # fmt: skip
    post(client, f"/wallets/{wallet}/spend", amount=45)
    by_id = {lot["lotId"]: lot for lot in lots(client, wallet, "?state=all")}
    assert parts(by_id[soon]) == (20, 0, 0, 20, 0, 0)
    assert parts(by_id[late]) == (20, 0, 0, 20, 0, 0)
    standing = lots(client, wallet)
    assert [(lot["expiresAt"], lot["seq"], lot["type"], parts(lot)) for lot in standing] == [
        (None, None, None, (10, 5, 0, 5, 0, 0))
    ]
    body = balance(client, wallet)
    assert (body["bonus"], body["paid"]) == (5, 100)
    assert body["expiring"] == {"nextAt": None, "nextAmount": 0, "within7d": 0, "within30d": 0}


def test_what_is_due_is_not_counted_though_nobody_books_it(
    client: FlaskClient, wallet: int, app_with_clock: Flask
) -> None:
    end = now(app_with_clock) + 2 * STEP
    post(client, f"/wallets/{wallet}/topup", amount=10)
    lot = grant(client, wallet, 30, told(end))["lotId"]
    post(client, f"/wallets/{wallet}/spend", amount=12)
    hold = post(client, "/holds", 201, walletId=wallet, amount=8, expiresIn=3 * clock.STEP_SECONDS)["hold"]["holdId"]
    clock.move(2)
    body = balance(client, wallet)
    assert (body["balance"], body["due"], body["available"], body["held"]) == (20, 10, 10, 8)
    assert (body["bonus"], body["paid"], body["total"], body["version"]) == (0, 10, 18, 4)
    read = client.get(f"/lots/{lot}").json
    assert parts(read) == (30, 0, 8, 12, 10, 0)
    assert client.get(f"/wallets/{wallet}/lots").json["lots"] == [{k: v for k, v in read.items() if k != "ok"}]
    then = told(now(app_with_clock))
    problem = assert_problem(client.post(f"/wallets/{wallet}/spend", json=movement(11)), 409, "insufficient_balance")
    assert (problem["balance"], problem["required"]) == (10, 11)
    body = balance(client, wallet)
    assert (body["balance"], body["due"], body["available"], body["version"]) == (10, 0, 10, 5)
    entries = client.get(f"/wallets/{wallet}/entries?limit=1").json["entries"]
    assert (entries[0]["type"], entries[0]["kind"], entries[0]["amount"]) == ("EXPIRY", "EXPIRY", -10)
    assert entries[0]["referenceId"] == f"sys:expire:{lot}"
    past = client.get(f"/wallets/{wallet}/balance?at={then.replace('+', '%2B')}").json
    assert (past["balance"], past["due"], past["available"], past["held"]) == (20, 10, 10, 8)
    assert (past["bonus"], past["paid"], past["expiring"]) == (None, None, None)
    # What the hold gives back expires with its coming back.
    clock.move(1)
    body = balance(client, wallet)
    assert (body["balance"], body["due"], body["available"], body["held"]) == (10, 0, 10, 0)
    assert parts(client.get(f"/lots/{lot}").json) == (30, 0, 0, 12, 18, 0)
    assert expiry.expire_due(lambda: False) >= 1
    expiry.expire_due_lots(lambda: False)
    body = balance(client, wallet)
    assert (body["balance"], body["available"], body["version"]) == (10, 10, 7)
    assert client.get(f"/holds/{hold}").json["state"] == "expired"


def test_the_sweep_books_what_nobody_came_for(client: FlaskClient, app_with_clock: Flask, wallet: int) -> None:
    end = now(app_with_clock) + STEP
    granted = [grant(client, wallet, amount, told(end))["lotId"] for amount in (1, 2, 3)]
    expiry.expire_due_lots(lambda: False)
    assert [parts(lot)[4] for lot in lots(client, wallet)] == [0, 0, 0]
    clock.move(1)
    # Other tests' wallets may have something due, too.
    assert expiry.expire_due_lots(lambda: False) >= len(granted)
    assert expiry.expire_due_lots(lambda: False) == 0
    assert [parts(lot)[4] for lot in lots(client, wallet, "?state=all")] == [3, 2, 1]
    assert lots(client, wallet) == []
    assert balance(client, wallet)["balance"] == 0


def test_lots_are_listed_page_by_page(client: FlaskClient, wallet: int, app_with_clock: Flask) -> None:
    begun = now(app_with_clock)
    made = [grant(client, wallet, 5, told(begun + steps * STEP))["lotId"] for steps in (30, 10, 20, 10)]
    grant(client, wallet, 5)
    post(client, "/holds", 201, walletId=wallet, amount=10, expiresIn=600)
    in_order = [made[1], made[3], made[2], made[0], lots(client, wallet)[-1]["lotId"]]
    for query, expected in (("state=open", in_order), ("state=all", [*reversed(made), in_order[-1]])):
        for limit in (1, 2, 5):
            found, cursor, pages = [], "", 0
            while True:
                page = client.get(f"/wallets/{wallet}/lots?{query}&limit={limit}{cursor}").json
                found += [lot["lotId"] for lot in page["lots"]]
                pages += 1
                if "next" not in page:
                    break
                cursor = f"&cursor={page['next']}"
            assert (found, pages) == (expected, -(-5 // limit))
    cursor = client.get(f"/wallets/{wallet}/lots?limit=1").json["next"]
    for url in (f"/wallets/{wallet}/lots?state=all&cursor={cursor}", f"/wallets/{DOE_GOLD}/lots?cursor={cursor}"):
        assert_problem(client.get(url), 400, "bad_cursor")
    assert_problem(client.get(f"/wallets/{wallet}/lots?state=spent"), 422, "validation_error")
    assert_problem(client.get(f"/wallets/{TREASURY_GOLD}/lots"), 409, "system_wallet_entries")


def test_a_lot_lives_longer(client: FlaskClient, wallet: int, app_with_clock: Flask) -> None:
    begun = now(app_with_clock)
    lot = grant(client, wallet, 30, told(begun + 2 * STEP))["lotId"]
    asked = {"expiresAt": told(begun + 4 * STEP), "reason": "Prolonged", "referenceId": new_reference()}
    preview = client.post(f"/lots/{lot}/extend?dryRun=true", json=asked).json
    assert (preview["dryRun"], preview["transactionId"], preview["expiresAt"]) == (True, None, asked["expiresAt"])
    answer = client.post(f"/lots/{lot}/extend", json=asked, headers={"If-Match": '"1"'})
    body = answer.json
    assert (answer.status_code, answer.headers["ETag"], body["version"], body["balance"]) == (200, '"1"', 1, 30)
    assert (body["type"], body["lotId"], body["expiresAt"]) == ("EXTEND", lot, asked["expiresAt"])
    clock.move(2)
    assert balance(client, wallet)["available"] == 30
    again = client.post(f"/lots/{lot}/extend", json=asked).json
    assert (again["idempotent"], again["transactionId"]) == (True, body["transactionId"])
    clock.move(2)
    for code, expires_at in (("lot_finished", "2090-01-01"),):
        sent = {"expiresAt": expires_at, "reason": "Again", "referenceId": new_reference()}
        assert_problem(client.post(f"/lots/{lot}/extend", json=sent), 409, code)
    assert client.get(f"/lots/{lot}").json["expired"] == 30
    assert client.post(f"/lots/{lot}/extend", json=asked).json["expiresAt"] == asked["expiresAt"]
    seen = client.get(f"/transactions/{body['transactionId']}").json
    assert (seen["kind"], seen["reason"], seen["entries"]) == ("EXTEND", "Prolonged", [])


def test_a_single_grant_is_taken_back(client: FlaskClient, wallet: int) -> None:
    post(client, f"/wallets/{wallet}/topup", amount=50)
    first = grant(client, wallet, 20, "2090-01-01")["lotId"]
    second = grant(client, wallet, 20, "2090-02-01")
    post(client, f"/wallets/{wallet}/spend", amount=25)
    body = post(client, f"/lots/{second['lotId']}/revoke", 409, reason="Granted twice")
    assert (body["code"], body["available"], body["remaining"]) == ("lot_used", 15, 20)
    asked = {"reason": "Granted twice", "onShortfall": "partial", "referenceId": new_reference()}
    body = client.post(f"/lots/{second['lotId']}/revoke", json=asked).json
    assert (body["type"], body["lotId"], body["reverses"]) == ("REVERSAL", second["lotId"], second["transactionId"])
    assert [(one["amount"], one["remaining"], one["balance"]) for one in body["movements"]] == [(-15, 5, 50)]
    assert client.post(f"/lots/{second['lotId']}/revoke", json=asked).json["idempotent"] is True
    assert parts(client.get(f"/lots/{second['lotId']}").json) == (20, 0, 0, 5, 0, 15)
    assert parts(client.get(f"/lots/{first}").json) == (20, 0, 0, 20, 0, 0)
    # With a reversal of the same bonus it never takes back more than was granted.
    reversal = f"/transactions/{second['transactionId']}/reversal"
    sent = {"reason": "More", "amount": 6, "referenceId": new_reference()}
    assert assert_problem(client.post(reversal, json=sent), 409, "over_reversal")["remaining"] == 5
    owed = post(client, f"/lots/{first}/revoke", reason="All of it", onShortfall="debt")
    assert owed["movements"][0]["owed"] + -owed["movements"][0]["amount"] == 20


def test_what_a_reversal_gives_back_expires_or_is_granted_anew(
    client: FlaskClient, wallet: int, app_with_clock: Flask
) -> None:
    lot = grant(client, wallet, 30, told(now(app_with_clock) + STEP))["lotId"]
    spent = post(client, f"/wallets/{wallet}/spend", amount=20)["transactionId"]
    clock.move(1)
    undone = post(client, f"/transactions/{spent}/reversal", amount=5, reason="Broken")
    assert undone["movements"][0]["balance"] == 0
    assert parts(client.get(f"/lots/{lot}").json) == (30, 0, 0, 15, 15, 0)
    wrong = [
        {"onExpired": "regrant"},
        {"graceDays": 3},
        {"onExpired": "regrant", "graceDays": 0},
        {"onExpired": "keep"},
    ]
    for said in wrong:
        sent = {"reason": "Broken", "referenceId": new_reference()} | said
        assert_problem(client.post(f"/transactions/{spent}/reversal", json=sent), 422, "validation_error")
    asked = {"reason": "Broken", "onExpired": "regrant", "graceDays": 3}
    undone = post(client, f"/transactions/{spent}/reversal", **asked)
    assert undone["movements"][0]["balance"] == 15
    assert parts(client.get(f"/lots/{lot}").json) == (30, 0, 0, 15, 15, 0)
    anew = lots(client, wallet)
    assert [(one["type"], one["kind"], one["available"]) for one in anew] == [("REVERSAL", "bonus", 15)]


def test_records_say_the_same(client: FlaskClient, wallet: int) -> None:
    granted = grant(client, wallet, 9, "2090-01-01")["lotId"]
    items = [
        {"type": "bonus", "walletId": wallet, "amount": "3", "expiresAt": "2090-01-01", "referenceId": new_reference()},
        {"type": "bonus", "walletId": wallet, "amount": 3, "expiresAt": "never", "referenceId": new_reference()},
        {"type": "extend", "lotId": granted, "expiresAt": "2091-01-01", "reason": "On", "referenceId": new_reference()},
        {"type": "revoke", "lotId": granted, "reason": "Off", "referenceId": new_reference()},
        {"type": "revoke", "lotId": new_lot_id(), "reason": "Off", "referenceId": new_reference()},
    ]
    body = client.post("/batches", json={"mode": "each", "items": items}).json
    assert [item["status"] for item in body["items"]] == [200, 200, 200, 200, 404]
    assert body["items"][4]["body"]["code"] == "lot_not_found"
    assert body["items"][2]["body"]["lotId"] == body["items"][3]["body"]["lotId"] == granted


def new_lot_id() -> str:
    return "019a202e-4254-7c9c-bda5-000000000000"


def test_what_is_another_s_is_not_there(client: FlaskClient, wallet: int, app_with_clock: Flask) -> None:
    lot = grant(client, wallet, 9, "2090-01-01")["lotId"]
    own = grant(client, DOE_GOLD, 9, "2090-01-01")["lotId"]
    doe = player(app_with_clock, DOE)
    assert_problem(doe.get(f"/lots/{lot}"), 404, "lot_not_found")
    assert_problem(doe.get(f"/wallets/{wallet}/lots"), 404, "wallet_not_found")
    assert doe.get(f"/lots/{own}").json["lotId"] == own
    assert_problem(doe.post(f"/lots/{own}/revoke", json={"reason": "x", "referenceId": "abc"}), 403, "forbidden")
    for strange in ("x", new_lot_id()):
        assert_problem(client.get(f"/lots/{strange}"), 404, "lot_not_found")
