"""POST /transfers, /exchanges and /purchases: the contract, alone and in batches, lines and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.support import (
    DOE_GOLD,
    JOHN_DIAMOND,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_headers,
    assert_problem,
    books,
    is_instant,
    movement,
    new_reference,
)
from tests.api.test_openapi import validator
from tests.every_case import every
from wallet_app.api.openapi import document
from wallet_app.money import AMOUNT_MAX

OF_THE_MOMENT = {"transactionId", "createdAt"}


def transfer(amount: object = 1, **more: object) -> dict[str, Any]:
    return {"from": JOHN_GOLD, "to": DOE_GOLD, **movement(amount), **more}


def post(client: FlaskClient, path: str, body: dict[str, Any], **more: Any) -> Any:
    return client.post(path, json=body, **more)


def balances(client: FlaskClient) -> list[tuple[int, int]]:
    """Return balance and version of John's and Doe's wallets."""
    read = [client.get(f"/wallets/{wallet}/balance").json for wallet in (3, 4, 5, 6)]
    return [(one["balance"], one["version"]) for one in read]


def assert_described(path: str, answer: Any) -> None:
    schema = document()["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert [error.message for error in validator(schema).iter_errors(answer.json)] == []


# --- transfers ---


def test_a_transfer_moves_both_sides_and_tells_how_they_stand(client: FlaskClient) -> None:
    body = transfer(120, note=" Happy birthday ")
    answer = post(client, "/transfers", body)
    assert answer.status_code == 200, answer.get_data()
    assert_headers(answer)
    assert_described("/transfers", answer)
    gold = {"code": "GOLD", "name": "Gold Coins"}
    told = answer.json
    assert is_instant(told.pop("createdAt"))
    transaction = told.pop("transactionId")
    assert told == {
        "ok": True,
        "idempotent": False,
        "referenceId": body["referenceId"],
        "type": "TRANSFER",
        "amount": 120,
        "from": {
            "walletId": 3, "userId": 2, "asset": gold, "balance": 380, "held": 0, "version": 2, "amount": -120,
            "balanceAfter": 380, "seq": 2,
        },
        "to": {
            "walletId": 5, "userId": 3, "asset": gold, "balance": 420, "held": 0, "version": 2, "amount": 120,
            "balanceAfter": 420, "seq": 2,
        },
    }  # fmt: skip
    assert balances(client) == [(380, 2), (10, 1), (420, 2), (0, 0)]
    read = client.get(f"/transactions/{transaction}").json
    assert (read["kind"], read["walletId"], read["note"]) == ("TRANSFER", JOHN_GOLD, "Happy birthday")
    assert sorted(leg["amount"] for leg in read["legs"]) == [-120, -120, 120, 120]
    assert sum(leg["amount"] for leg in read["legs"]) == 0


@pytest.mark.parametrize("as_header", [True, False])
def test_it_is_safe_to_repeat(client: FlaskClient, as_header: bool) -> None:
    body = transfer(20)
    first = post(client, "/transfers", body).json
    client.post(f"/wallets/{DOE_GOLD}/spend", json=movement(300))
    before, headers = books(), {}
    if as_header:
        headers = {"Idempotency-Key": str(body.pop("referenceId"))}
    again = post(client, "/transfers", {**body, "note": "worded differently"}, headers=headers)
    assert again.status_code == 200, again.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["transactionId"] == first["transactionId"]
    assert (again.json["idempotent"], again.json["amount"]) == (True, 20)
    assert (again.json["to"]["balance"], again.json["to"]["balanceAfter"]) == (20, 320)
    assert books() == before


def test_up_to_moves_what_is_there_and_tells_how_much(client: FlaskClient) -> None:
    body = transfer({"upTo": 10_000})
    assert post(client, "/transfers", body).json["amount"] == 500
    assert_problem(post(client, "/transfers", transfer({"upTo": "5"})), 409, "insufficient_balance")
    client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(3))
    again = post(client, "/transfers", body).json
    assert (again["idempotent"], again["amount"], again["from"]["balance"]) == (True, 500, 3)


@every(
    ("change", "status", "code"),
    [
        ({"amount": 501}, 409, "insufficient_balance"),
        ({"from": NO_WALLET}, 404, "wallet_not_found"),
        ({"to": NO_WALLET}, 404, "wallet_not_found"),
        ({"to": 2**63}, 404, "wallet_not_found"),
        ({"from": TREASURY_GOLD}, 409, "system_wallet"),
        ({"to": TREASURY_GOLD}, 409, "system_wallet"),
        ({"to": JOHN_GOLD}, 422, "same_wallet"),
        ({"to": JOHN_DIAMOND}, 422, "asset_mismatch"),
        ({"referenceId": "sys:mine"}, 422, "validation_error"),
        ({"amount": {"upTo": 0}}, 422, "validation_error"),
        ({"amount": {"upTo": 1, "atLeast": 1}}, 422, "validation_error"),
        ({"amount": {}}, 422, "validation_error"),
    ],
)
def test_what_is_refused_changes_nothing_and_leaves_the_reference_free(
    client: FlaskClient, change: dict[str, Any], status: int, code: str
) -> None:
    before, body = books(), transfer(20)
    assert_problem(post(client, "/transfers", {**body, **change}), status, code)
    assert books() == before
    assert not post(client, "/transfers", body).json["idempotent"]


def test_a_full_wallet_receives_nothing(client: FlaskClient) -> None:
    client.post(f"/wallets/{DOE_GOLD}/topup", json=movement(AMOUNT_MAX - 300))
    problem = assert_problem(post(client, "/transfers", transfer(1)), 409, "balance_above_bound")
    assert (problem["walletId"], problem["balance"], problem["version"]) == (DOE_GOLD, AMOUNT_MAX, 2)


@pytest.mark.parametrize(
    ("wallet", "verb", "code"), [(JOHN_GOLD, "freeze", "wallet_not_active"), (DOE_GOLD, "close", "wallet_closed")]
)
def test_a_wallet_that_is_not_active_takes_no_part(client: FlaskClient, wallet: int, verb: str, code: str) -> None:
    if verb == "close":
        client.post(f"/wallets/{wallet}/spend", json=movement(300))
    body = {"reason": "A test", "referenceId": new_reference(), **({"side": "both"} if verb == "freeze" else {})}
    assert client.post(f"/wallets/{wallet}/{verb}", json=body).status_code == 200
    problem = assert_problem(post(client, "/transfers", transfer(1)), 409, code)
    assert problem["walletId"] == wallet


@pytest.mark.parametrize("path", ["/transfers", "/exchanges", "/purchases"])
def test_the_example_is_what_the_service_answers(client: FlaskClient, path: str) -> None:
    operation = document()["paths"][path]["post"]
    request = operation["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]
    for name in ("new", "replayed"):
        answer = post(client, path, request).json
        expected = shown[name]["value"]
        assert answer.keys() == expected.keys()
        assert {k: v for k, v in answer.items() if k not in OF_THE_MOMENT} == {
            k: v for k, v in expected.items() if k not in OF_THE_MOMENT
        }


# --- exchanges ---


def exchange(amount: object = 100, **more: object) -> dict[str, Any]:
    return {"from": JOHN_GOLD, "to": JOHN_DIAMOND, **movement(amount), "rate": "0.1", **more}


def test_an_exchange_gives_what_the_rate_makes_and_tells_it(client: FlaskClient) -> None:
    body = exchange(119)
    answer = post(client, "/exchanges", body)
    assert answer.status_code == 200, answer.get_data()
    assert_headers(answer)
    assert_described("/exchanges", answer)
    told = answer.json
    assert (told["type"], told["rate"]) == ("EXCHANGE", "0.1")
    assert (told["from"]["amount"], told["from"]["balance"]) == (-119, 381)
    assert (told["to"]["amount"], told["to"]["balance"], told["to"]["asset"]["code"]) == (11, 21, "DIAMOND")
    again = post(client, "/exchanges", {**body, "rate": "1/10"})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["transactionId"] == told["transactionId"]


def test_without_a_rate_the_configured_one_applies(app: Flask, client: FlaskClient) -> None:
    body = exchange()
    del body["rate"]
    assert_problem(post(client, "/exchanges", body), 409, "no_exchange_rate")
    run = app.test_cli_runner().invoke
    assert run(args=["wallet", "rates", "list"]).stderr.startswith("There is no rate.")
    done = run(args=["wallet", "rates", "set", "GOLD", "DIAMOND", "1/8", "--reason", "spring"])
    assert done.exit_code == 0, done.output
    assert "GOLD -> DIAMOND  0.125  from" in done.stdout
    first = post(client, "/exchanges", body).json
    assert (first["rate"], first["to"]["amount"]) == ("0.125", 12)
    assert run(args=["wallet", "rates", "end", "GOLD", "DIAMOND"]).exit_code == 0
    assert "GOLD -> DIAMOND  none  from" in run(args=["wallet", "rates", "list"]).stdout
    again = post(client, "/exchanges", body).json
    assert (again["idempotent"], again["rate"], again["to"]["amount"]) == (True, "0.125", 12)
    assert_problem(post(client, "/exchanges", {**body, **movement(100)}), 409, "no_exchange_rate")


@every(
    ("arguments", "says"),
    [
        (["set", "GOLD", "DIAMOND", "0"], "above zero"),
        (["set", "GOLD", "SILVER", "1"], "There is no asset SILVER."),
        (["set", "GOLD", "GOLD", "1"], "not from GOLD to itself"),
        (["set", "GOLD", "DIAMOND", "1", "--from", "2020-01-01T00:00:00"], "has passed"),
    ],
)
def test_a_bad_rate_is_refused_at_the_command_line(app: Flask, arguments: list[str], says: str) -> None:
    done = app.test_cli_runner().invoke(args=["wallet", "rates", *arguments])
    assert done.exit_code != 0
    assert says in done.stderr


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount": 9}, 409, "exchange_too_small"),
        ({"amount": 501}, 409, "insufficient_balance"),
        ({"rate": "999999999999999999/1"}, 409, "balance_above_bound"),
        ({"to": DOE_GOLD}, 422, "user_mismatch"),
        ({"to": JOHN_GOLD}, 422, "same_wallet"),
        ({"to": NO_WALLET}, 404, "wallet_not_found"),
        ({"to": TREASURY_GOLD}, 409, "system_wallet"),
        ({"amount": {"upTo": 5}}, 422, "validation_error"),
    ],
)
def test_an_exchange_that_is_refused_changes_nothing(
    client: FlaskClient, change: dict[str, Any], status: int, code: str
) -> None:
    before, body = books(), exchange()
    assert_problem(post(client, "/exchanges", {**body, **change}), status, code)
    assert books() == before
    assert not post(client, "/exchanges", body).json["idempotent"]


# --- purchases ---


def purchase(price: object = 200, **more: object) -> dict[str, Any]:
    legs = [
        {"walletId": JOHN_GOLD, "type": "spend", "amount": price},
        {"walletId": JOHN_DIAMOND, "type": "topup", "amount": 5},
        {"walletId": JOHN_GOLD, "type": "bonus", "amount": 20},
    ]
    return {"walletId": JOHN_GOLD, "legs": legs, "referenceId": str(movement()["referenceId"]), **more}


def test_a_purchase_takes_the_price_and_gives_what_it_buys(client: FlaskClient) -> None:
    body = purchase(note="Weekend bundle")
    answer = post(client, "/purchases", body)
    assert answer.status_code == 200, answer.get_data()
    assert_headers(answer)
    assert_described("/purchases", answer)
    legs = answer.json["legs"]
    assert [(leg["type"], leg["walletId"], leg["amount"], leg["balanceAfter"], leg["balance"]) for leg in legs] == [
        ("SPEND", JOHN_GOLD, -200, 300, 320),
        ("TOPUP", JOHN_DIAMOND, 5, 15, 15),
        ("BONUS", JOHN_GOLD, 20, 320, 320),
    ]
    read = client.get(f"/transactions/{answer.json['transactionId']}").json
    assert (read["kind"], len(read["entries"]), sum(leg["amount"] for leg in read["legs"])) == ("PURCHASE", 3, 0)
    again = post(client, "/purchases", body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert balances(client)[:2] == [(320, 3), (15, 2)]
    batch = client.post("/batches", json={"mode": "atomic", "items": [{"type": "purchase", **body}]})
    assert_described("/batches", batch)
    assert batch.json["items"][0]["body"]["idempotent"]


@every(
    ("body", "status", "code"),
    [
        (purchase(501), 409, "insufficient_balance"),
        (purchase(walletId=DOE_GOLD), 422, "payer_without_leg"),
        (purchase(legs=[{"walletId": 3, "type": "spend", "amount": 1}, {"walletId": 5, "type": "bonus", "amount": 1}]),
         422, "user_mismatch"),
        (purchase(legs=[{"walletId": 3, "type": "spend", "amount": 1}, {"walletId": 1, "type": "bonus", "amount": 1}]),
         409, "system_wallet"),
        (purchase(legs=[{"walletId": 3, "type": "spend", "amount": 1}, {"walletId": 99, "type": "bonus", "amount": 1}]),
         404, "wallet_not_found"),
    ],
)  # fmt: skip
def test_a_purchase_that_is_refused_changes_nothing(
    client: FlaskClient, body: dict[str, Any], status: int, code: str
) -> None:
    before = books()
    assert_problem(post(client, "/purchases", body), status, code)
    assert books() == before


# --- as records ---


def test_an_exchange_may_stand_in_a_batch(client: FlaskClient) -> None:
    item = {"type": "exchange", **exchange()}
    answer = client.post("/batches", json={"mode": "each", "items": [item, item]})
    assert_described("/batches", answer)
    assert [one["body"]["idempotent"] for one in answer.json["items"]] == [False, True]
    assert {one["body"]["rate"] for one in answer.json["items"]} == {"0.1"}


def test_they_may_stand_in_batches_and_lines(client: FlaskClient) -> None:
    gift = {"type": "transfer", **transfer(30)}
    items = [{"type": "topup", "walletId": JOHN_GOLD, **movement(10)}, gift, {**gift, "to": JOHN_DIAMOND}]
    answer = client.post("/batches", json={"mode": "each", "items": items})
    assert_described("/batches", answer)
    assert [item["status"] for item in answer.json["items"]] == [200, 200, 422]
    assert answer.json["items"][1]["body"]["to"]["balance"] == 330
    assert answer.json["items"][2]["body"]["fields"] == ["to"]
    atomic = client.post("/batches", json={"mode": "atomic", "items": items[:2]})
    assert (atomic.json["done"], atomic.json["replayed"]) == (0, 2)
    refused = client.post(
        "/batches", json={"mode": "atomic", "items": [*items[:2], {"type": "transfer", **transfer(900)}]}
    )
    assert assert_problem(refused, 409, "insufficient_balance")["index"] == 2
    lines = "".join(json.dumps(item) + "\n" for item in items)
    streamed = client.post("/batches", data=lines, content_type="application/x-ndjson")
    told = [json.loads(line) for line in streamed.get_data().splitlines()]
    assert [line["status"] for line in told] == [200, 200, 422]
    assert told[1]["body"]["idempotent"]
    assert balances(client)[0] == (480, 3)


@pytest.mark.parametrize("name", ["rows.csv", "rows.ndjson"])
def test_they_may_stand_in_a_file(app: Flask, client: FlaskClient, tmp_path: Path, name: str) -> None:
    rows = [
        {"type": "transfer", "from": "3", "to": "5", "amount": "30", "referenceId": "gift-1", "walletId": ""},
        {"type": "transfer", "from": "5", "to": "3", "amount": "331", "referenceId": "gift-2", "walletId": ""},
        {"type": "spend", "walletId": "5", "amount": "330", "referenceId": "spend-1", "from": "", "to": ""},
    ]
    file = tmp_path / name
    if name.endswith(".csv"):
        header = list(rows[0])
        file.write_text(
            "".join(",".join(line) + "\n" for line in [header, *[[row[h] for h in header] for row in rows]])
        )
    else:
        file.write_text("".join(json.dumps({k: v for k, v in row.items() if v}) + "\n" for row in rows))
    for arguments, told in (
        (["--dry-run"], ["done", "refused", "done"]),
        ([], ["done", "refused", "done"]),
        (["--restart"], ["replayed", "refused", "replayed"]),
    ):
        before = books()
        done = app.test_cli_runner().invoke(args=["wallet", "import", str(file), *arguments])
        assert done.exit_code == 1, done.output
        kind = "dry-run" if "--dry-run" in arguments else "result"
        result = file.with_name(f"{file.name}.{kind}{file.suffix}").read_text()
        lines = result.splitlines()[1:] if name.endswith(".csv") else result.splitlines()
        words = [line.split(",")[1] if name.endswith(".csv") else json.loads(line)["status"] for line in lines]
        assert words == told
        assert (books() == before) == (told[0] == "replayed" or kind == "dry-run")
    assert balances(client) == [(470, 2), (10, 1), (0, 3), (0, 0)]
