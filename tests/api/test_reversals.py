"""Reversals over the API: what is sent, what comes back, what is owed, and how it reads then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api import clock
from tests.api.conftest import client_of
from tests.api.support import DOE_GOLD, JOHN_DIAMOND, JOHN_GOLD, assert_problem, is_instant, movement, new_reference
from tests.api.test_keys import MakeKey, make
from tests.api.test_openapi import validator
from wallet_app.api.openapi import document

__all__ = ["make"]

GOLD = {"code": "GOLD", "name": "Gold Coins"}


def posted(client: FlaskClient, path: str, **body: Any) -> str:
    answer = client.post(path, json={"referenceId": new_reference()} | body)
    assert answer.status_code in (200, 201), answer.json
    transaction: str = answer.json["transactionId"]
    return transaction


def reverse(client: FlaskClient, transaction: str, **body: Any) -> Any:
    asked = {"reason": "a test", "referenceId": new_reference()} | body
    return client.post(f"/transactions/{transaction}/reversal", json=asked)


def read(client: FlaskClient, transaction: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/transactions/{transaction}").json
    return body


def balance(client: FlaskClient, wallet: int = JOHN_GOLD) -> dict[str, int]:
    body: dict[str, Any] = client.get(f"/wallets/{wallet}/balance").json
    return {name: body[name] for name in ("balance", "held", "available", "total", "owed")}


def test_a_spend_is_given_back(client: FlaskClient) -> None:
    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=100)
    answer = reverse(client, spent, reason="  Sword was broken ", referenceId="refund-1", note="Ticket 5", amount=40)
    assert answer.status_code == 200
    body = answer.json
    assert is_instant(body.pop("createdAt"))
    reversal = body.pop("transactionId")
    assert body == {
        "ok": True,
        "idempotent": False,
        "referenceId": "refund-1",
        "type": "REVERSAL",
        "walletId": JOHN_GOLD,
        "reverses": spent,
        "reason": "Sword was broken",
        "movements": [
            {
                "walletId": JOHN_GOLD, "userId": 2, "asset": GOLD, "balance": 440, "held": 0, "version": 3,
                "amount": 40, "balanceAfter": 440, "seq": 3, "reversedSeq": 2, "owed": 0, "remaining": 60,
            }
        ],
    }  # fmt: skip
    seen = read(client, reversal)
    assert (seen["kind"], seen["reverses"], seen["reason"]) == ("REVERSAL", spent, "Sword was broken")
    assert (seen["note"], seen["reversible"]) == ("Ticket 5", [])
    assert sum(leg["amount"] for leg in seen["legs"]) == 0
    original = read(client, spent)
    assert (original["reverses"], original["reason"]) == (None, None)
    assert original["reversible"] == [
        {"walletId": JOHN_GOLD, "seq": 2, "amount": 100, "reversed": 40, "owed": 0, "expired": 0, "remaining": 60}
    ]
    entries = client.get(f"/wallets/{JOHN_GOLD}/entries?limit=1").json["entries"]
    assert (entries[0]["type"], entries[0]["kind"], entries[0]["amount"]) == ("REVERSAL", "REVERSAL", 40)


def test_a_repetition_answers_as_before_also_when_nothing_is_left(client: FlaskClient) -> None:
    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=100)
    first = reverse(client, spent, referenceId="again", amount="40").json
    assert reverse(client, spent).status_code == 200
    again = reverse(client, spent, referenceId="again", amount=40, note="worded otherwise")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    for name in ("transactionId", "createdAt", "reason", "reverses"):
        assert again.json[name] == first[name]
    (movement_now,) = again.json["movements"]
    assert (movement_now["amount"], movement_now["remaining"], movement_now["balance"]) == (40, 0, 500)
    for other in ({"amount": 41}, {"reason": "another"}, {"onShortfall": "debt"}):
        problem = assert_problem(
            reverse(client, spent, **({"referenceId": "again", "amount": 40} | other)), 422, "reference_mismatch"
        )
        assert problem["fields"] == list(other)
    over = assert_problem(reverse(client, spent, amount=1), 409, "over_reversal")
    assert (over["remaining"], over["amount"], over["transactionId"]) == (0, 1, spent)
    assert "amount" not in assert_problem(reverse(client, spent), 409, "over_reversal")


def test_the_reference_may_come_as_a_header(client: FlaskClient) -> None:
    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=100)
    path, body = f"/transactions/{spent}/reversal", {"reason": "by header"}
    first, again = (client.post(path, json=body, headers={"Idempotency-Key": '"by-header"'}) for _ in range(2))
    assert (first.json["idempotent"], again.json["idempotent"]) == (False, True)
    assert_problem(client.post(path, json=body), 422, "validation_error", "/referenceId")


def test_what_cannot_be_reversed(client: FlaskClient) -> None:
    hold = posted(client, "/holds", walletId=JOHN_GOLD, amount=10, expiresIn=60)
    assert assert_problem(reverse(client, hold), 409, "not_reversible")["kind"] == "HOLD"
    legs = [
        {"walletId": JOHN_GOLD, "type": "spend", "amount": 5},
        {"walletId": JOHN_DIAMOND, "type": "topup", "amount": 1},
    ]
    bundle = posted(client, "/purchases", walletId=JOHN_GOLD, legs=legs)
    assert_problem(reverse(client, bundle, amount=1), 422, "only_as_a_whole")
    assert_problem(reverse(client, bundle, onShortfall="partial"), 422, "only_as_a_whole")
    gift = posted(client, "/transfers", **{"from": JOHN_GOLD, "to": DOE_GOLD, "amount": 5})
    assert_problem(reverse(client, gift, onShortfall="debt"), 422, "no_debt_between_users")
    assert reverse(client, bundle).status_code == 200
    assert [one["walletId"] for one in reverse(client, gift).json["movements"]] == [JOHN_GOLD, DOE_GOLD]


def test_a_debt_is_told_listed_and_repaid(client: FlaskClient) -> None:
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100, referenceId="order-1")
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=540)
    problem = assert_problem(reverse(client, topped), 409, "insufficient_balance")
    assert (problem["balance"], problem["required"]) == (60, 100)
    (made,) = reverse(client, topped, onShortfall="debt").json["movements"]
    assert (made["amount"], made["owed"], made["remaining"], made["balance"]) == (-60, 40, 0, 0)
    assert balance(client) == {"balance": 0, "held": 0, "available": 0, "total": 0, "owed": 40}
    debts = client.get(f"/wallets/{JOHN_GOLD}/debts").json
    assert is_instant(debts["debts"][0].pop("since"))
    assert debts == {
        "ok": True,
        "walletId": JOHN_GOLD,
        "userId": 2,
        "asset": GOLD,
        "owed": 40,
        "debts": [
            {"transactionId": topped, "kind": "TOPUP", "referenceId": "order-1", "seq": 2, "amount": 100,
             "reversed": 60, "owed": 40}
        ],
    }  # fmt: skip
    credited = client.post(f"/wallets/{JOHN_GOLD}/bonus", json=movement(30)).json
    assert (credited["balanceAfter"], credited["balance"], credited["version"]) == (30, 0, 6)
    assert read(client, topped)["reversible"][0] == {
        "walletId": JOHN_GOLD, "seq": 2, "amount": 100, "reversed": 90, "owed": 10, "expired": 0, "remaining": 0
    }  # fmt: skip
    repayment = client.get(f"/wallets/{JOHN_GOLD}/entries?limit=1").json["entries"][0]
    assert (repayment["kind"], repayment["amount"], repayment["actor"]) == ("REVERSAL", -30, "debt repayment")
    assert repayment["referenceId"].startswith("sys:repay:")
    assert read(client, repayment["transactionId"])["reverses"] == topped
    posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=25)
    assert balance(client)["balance"] == 15
    assert client.get(f"/wallets/{JOHN_GOLD}/debts").json["debts"] == []
    assert [wallet["owed"] for wallet in client.get("/wallets?userId=2").json["wallets"]] == [0, 0]


def test_a_purchase_spends_nothing_that_repays_a_debt(client: FlaskClient) -> None:
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100)
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=600)
    assert reverse(client, topped, onShortfall="debt").status_code == 200
    for brought, spent, is_enough in ((10, 10, False), (120, 30, False), (120, 20, True)):
        legs = [
            {"walletId": JOHN_GOLD, "type": "bonus", "amount": brought},
            {"walletId": JOHN_GOLD, "type": "spend", "amount": spent},
        ]
        body = {"walletId": JOHN_GOLD, "legs": legs, "referenceId": new_reference()}
        answer = client.post("/purchases", json=body)
        if is_enough:
            assert answer.status_code == 200
        else:
            assert_problem(answer, 409, "insufficient_balance")
            assert balance(client)["owed"] == 100
    assert balance(client) == {"balance": 0, "held": 0, "available": 0, "total": 0, "owed": 0}


def test_a_debt_of_all_of_it_is_a_transaction_without_entries(client: FlaskClient) -> None:
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100)
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=600)
    assert_problem(reverse(client, topped, onShortfall="partial"), 409, "insufficient_balance")
    first = reverse(client, topped, onShortfall="debt", referenceId="all")
    (made,) = first.json["movements"]
    assert (made["amount"], made["balanceAfter"], made["seq"], made["owed"]) == (0, None, None, 100)
    assert reverse(client, topped, onShortfall="debt", referenceId="all").json["movements"] == [made]
    seen = read(client, first.json["transactionId"])
    assert (seen["entries"], seen["legs"], seen["reverses"]) == ([], [], topped)


def test_a_transaction_without_entries_is_of_its_wallet_s_asset(app: Flask, client: FlaskClient, make: MakeKey) -> None:
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100)
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=600)
    made = reverse(client, topped, onShortfall="debt").json["transactionId"]
    diamonds = client_of(app, make(assets=["DIAMOND"]).text)
    assert_problem(diamonds.get(f"/transactions/{made}"), 403, "asset_not_allowed")
    assert_problem(diamonds.get(f"/wallets/{JOHN_GOLD}/debts"), 403, "asset_not_allowed")
    gold = client_of(app, make(client="other", assets=["GOLD"]).text)
    assert gold.get(f"/transactions/{made}").status_code == 200


def test_what_is_due_of_a_hold_repays_before_it_is_available(client: FlaskClient) -> None:
    clock.make_movable()
    asked = {"walletId": JOHN_GOLD, "amount": 70, "expiresIn": clock.STEP_SECONDS, "referenceId": new_reference()}
    hold = client.post("/holds", json=asked).json["hold"]["holdId"]
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100)
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=530)
    reverse(client, topped, onShortfall="debt", amount=50)
    clock.move(1)
    assert client.get(f"/holds/{hold}").json["state"] == "expired"
    assert balance(client) == {"balance": 0, "held": 0, "available": 20, "total": 20, "owed": 0}
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=20)
    assert balance(client) == {"balance": 0, "held": 0, "available": 0, "total": 0, "owed": 0}


def test_batches_and_lines_reverse_as_the_route_does(client: FlaskClient) -> None:
    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=100)
    record = {"type": "reversal", "transactionId": spent, "reason": "a test"}
    never = "01a202ea-16a9-7b16-a647-a13ad9a0d7db"
    items = [
        record | {"amount": 30, "referenceId": "one"},
        record | {"amount": 80, "referenceId": "two"},
        record | {"transactionId": never, "referenceId": "three"},
        record | {"referenceId": "four", "onShortfall": "never"},
        record | {"amount": 30, "referenceId": "one"},
    ]
    answer = client.post("/batches", json={"mode": "each", "items": items}).json
    assert [item["status"] for item in answer["items"]] == [200, 409, 404, 422, 200]
    assert answer["items"][0]["body"]["movements"][0]["remaining"] == 70
    assert answer["items"][4]["body"]["idempotent"] is True
    refused = client.post(
        "/batches", json={"mode": "atomic", "items": [record | {"referenceId": "five"}] * 1 + items[1:2]}
    )
    assert assert_problem(refused, 409, "over_reversal")["index"] == 1
    lines = "".join(f"{json.dumps(one)}\n" for one in [record | {"referenceId": "six"}, items[0]])
    done = client.post("/batches", data=lines, content_type="application/x-ndjson").get_data(as_text=True)
    assert [json.loads(line)["status"] for line in done.splitlines()] == [200, 200]
    assert balance(client)["balance"] == 500


def test_a_key_needs_the_scope_and_its_limits_hold(app: Flask, client: FlaskClient, make: MakeKey) -> None:
    def make_client(*scopes: str, **limits: Any) -> FlaskClient:
        return client_of(app, make(client=f"shop-{new_reference()}", scopes=scopes, **limits).text)

    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=100)
    spender = make_client("wallets:spend", "transactions:read")
    assert_problem(reverse(spender, spent), 403, "forbidden")
    record = {"type": "reversal", "transactionId": spent, "reason": "a test", "referenceId": "abc"}
    (item,) = spender.post("/batches", json={"mode": "each", "items": [record]}).json["items"]
    assert item["body"]["code"] == "forbidden"
    small = make_client("transactions:reverse", amount_max=50)
    assert_problem(reverse(small, spent), 403, "amount_not_allowed")
    assert reverse(small, spent, amount=50).status_code == 200
    other = make_client("transactions:reverse", assets=["DIAMOND"])
    assert_problem(reverse(other, spent), 403, "asset_not_allowed")


def test_answers_are_as_the_document_says(client: FlaskClient) -> None:
    topped = posted(client, f"/wallets/{JOHN_GOLD}/topup", amount=100)
    posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=590)
    operations = document()["paths"]
    answers = {
        ("/transactions/{transactionId}/reversal", "post"): reverse(client, topped, onShortfall="debt").json,
        ("/wallets/{walletId}/debts", "get"): client.get(f"/wallets/{JOHN_GOLD}/debts").json,
        ("/transactions/{transactionId}", "get"): read(client, topped),
        ("/wallets/{walletId}", "get"): client.get(f"/wallets/{JOHN_GOLD}").json,
    }
    for (path, method), body in answers.items():
        schema = operations[path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        assert [error.message for error in validator(schema).iter_errors(body)] == []


@pytest.mark.parametrize("reason", ["x" * 500, "\U0001f995" * 500, "  padded  "])
def test_reasons_at_their_bounds(client: FlaskClient, reason: str) -> None:
    spent = posted(client, f"/wallets/{JOHN_GOLD}/spend", amount=1)
    assert reverse(client, spent, reason=reason).json["reason"] == reason.strip()
