"""Holds over the API: what is sent, what comes back, and how it reads when the time is over."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.conftest import MakeClient
from tests.api.support import JOHN_DIAMOND, JOHN_GOLD, TREASURY_GOLD, assert_problem, is_instant, new_reference

from wallet_app.api.openapi import document  # isort: skip


def place(client: FlaskClient, amount: int = 100, expires_in: int = 900, **more: Any) -> Any:
    body = {"walletId": JOHN_GOLD, "amount": amount, "expiresIn": expires_in, "referenceId": new_reference()}
    return client.post("/holds", json=body | more)


def placed(client: FlaskClient, amount: int = 100, expires_in: int = 900, **more: Any) -> str:
    answer = place(client, amount, expires_in, **more)
    assert answer.status_code == 201, answer.json
    hold: str = answer.json["hold"]["holdId"]
    return hold


def capture(client: FlaskClient, hold: str, **body: Any) -> Any:
    return client.post(f"/holds/{hold}/capture", json={"referenceId": new_reference()} | body)


def release(client: FlaskClient, hold: str, **body: Any) -> Any:
    return client.post(f"/holds/{hold}/release", json={"referenceId": new_reference()} | body)


def balance(client: FlaskClient, wallet: int = JOHN_GOLD) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/wallets/{wallet}/balance").json
    return {name: body[name] for name in ("balance", "held", "available", "total")}


def test_a_hold_is_made_read_and_found_again(client: FlaskClient) -> None:
    answer = place(client, 100, note=" Auction 17 ", referenceId="hold-1")
    body = answer.json
    hold = body["hold"]
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/holds/{hold['holdId']}"
    assert (body["type"], body["amount"], body["balance"], body["held"]) == ("HOLD", -100, 400, 100)
    assert body["transactionId"] == hold["holdId"]
    assert (hold["state"], hold["remaining"], hold["endedAt"]) == ("open", 100, None)
    assert is_instant(hold["expiresAt"])
    read = client.get(answer.headers["Location"]).json
    assert read == {
        "ok": True,
        **hold,
        "walletId": JOHN_GOLD,
        "userId": 2,
        "asset": {"code": "GOLD", "name": "Gold Coins"},
        "referenceId": "hold-1",
        "note": "Auction 17",
        "metadata": None,
    }
    again = place(client, 100, referenceId="hold-1")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert "Location" not in again.headers
    assert again.json["hold"] == hold
    assert balance(client) == {"balance": 400, "held": 100, "available": 400, "total": 500}


def test_the_reference_may_come_as_a_header(client: FlaskClient) -> None:
    body = {"walletId": JOHN_GOLD, "amount": 5, "expiresIn": "60"}
    first, again = (client.post("/holds", json=body, headers={"Idempotency-Key": '"by-header"'}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert_problem(client.post("/holds", json=body), 422, "validation_error", "/referenceId")


def test_parts_are_captured_until_one_is_final(client: FlaskClient) -> None:
    hold = placed(client, 100)
    first = capture(client, hold, amount=30).json
    assert (first["type"], first["amount"], first["hold"]["state"]) == ("CAPTURE", 0, "partially_captured")
    last = capture(client, hold, amount="20", final=True).json
    assert (last["amount"], last["balance"], last["held"]) == (50, 450, 0)
    assert last["balanceAfter"] == last["balance"]
    assert last["seq"] == last["version"]
    assert (last["hold"]["state"], last["hold"]["captured"], last["hold"]["released"]) == ("captured", 50, 50)
    transaction = client.get(f"/transactions/{last['transactionId']}").json
    assert [(entry["type"], entry["amount"]) for entry in transaction["entries"]] == [("RELEASE", 70), ("SPEND", -20)]


@pytest.mark.parametrize("end", ["capture", "release"])
def test_a_finished_hold_refuses_with_its_state_and_still_answers_a_retry(client: FlaskClient, end: str) -> None:
    hold = placed(client, 100)
    finish = capture if end == "capture" else release
    done = finish(client, hold, referenceId="the-end")
    assert done.status_code == 200
    for verb in (capture, release):
        problem = assert_problem(verb(client, hold), 409, "hold_finished")
        assert (problem["state"], problem["holdId"]) == (f"{end}d", hold)
    again = finish(client, hold, referenceId="the-end")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json["transactionId"] == done.json["transactionId"]
    assert again.json["hold"] == done.json["hold"]


def test_more_than_is_held_is_refused_with_what_is_left(client: FlaskClient) -> None:
    hold = placed(client, 100)
    problem = assert_problem(capture(client, hold, amount=101), 409, "over_capture")
    assert (problem["remaining"], problem["amount"]) == (100, 101)
    assert_problem(place(client, 401), 409, "insufficient_balance")


def test_the_same_reference_for_something_else_is_a_mismatch(client: FlaskClient) -> None:
    hold, other = placed(client, 100), placed(client, 100)
    capture(client, hold, amount=10, referenceId="same")
    for answer, fields in (
        (capture(client, hold, amount=11, referenceId="same"), ["amount"]),
        (capture(client, hold, amount=10, final=True, referenceId="same"), ["final"]),
        (capture(client, other, amount=10, referenceId="same"), ["hold"]),
        (release(client, hold, referenceId="same"), ["kind", "amount", "final"]),
    ):
        assert sorted(assert_problem(answer, 422, "reference_mismatch")["fields"]) == sorted(fields)


def test_wallets_that_cannot_hold(client: FlaskClient) -> None:
    assert_problem(place(client, walletId=TREASURY_GOLD), 409, "system_wallet")
    assert_problem(place(client, walletId=99), 404, "wallet_not_found")
    assert_problem(client.get(f"/wallets/{TREASURY_GOLD}/holds"), 409, "system_wallet_entries")
    assert_problem(client.get("/wallets/99/holds"), 404, "wallet_not_found")


def test_a_service_can_allow_less_time(client_with: MakeClient, client: FlaskClient) -> None:
    strict = client_with(hold_seconds_max=60)
    long = place(client, 1, 61, referenceId="long")
    assert assert_problem(place(strict, 1, 61), 422, "hold_too_long")["secondsMax"] == 60
    assert place(strict, 1, 60).status_code == 201
    again = place(strict, 1, 61, referenceId="long")
    assert (again.status_code, again.json["hold"]) == (200, long.json["hold"])


def test_holds_are_listed_newest_first_page_by_page_and_by_state(client: FlaskClient) -> None:
    holds = [placed(client, 10) for _ in range(5)]
    capture(client, holds[1])
    capture(client, holds[2], amount=4)
    release(client, holds[3])
    placed(client, 1, walletId=JOHN_DIAMOND)

    def listed(query: str = "") -> list[str]:
        found: list[str] = []
        page = client.get(f"/wallets/{JOHN_GOLD}/holds?limit=2{query}").json
        found += [hold["holdId"] for hold in page["holds"]]
        while "next" in page:
            page = client.get(f"/wallets/{JOHN_GOLD}/holds?limit=2{query}&cursor={page['next']}").json
            found += [hold["holdId"] for hold in page["holds"]]
        return found

    assert listed() == holds[::-1]
    assert listed("&state=open") == [holds[4], holds[0]]
    assert listed("&state=captured") == [holds[1]]
    assert listed("&state=partially_captured") == [holds[2]]
    assert listed("&state=released") == [holds[3]]
    assert listed("&state=expired") == []
    page = client.get(f"/wallets/{JOHN_GOLD}/holds?limit=1").json
    assert_problem(
        client.get(f"/wallets/{JOHN_GOLD}/holds?limit=1&state=open&cursor={page['next']}"), 400, "bad_cursor"
    )


def test_reads_never_count_what_is_due(client: FlaskClient) -> None:
    """What was not settled yet reads as it will when it is; the balance belongs to its version all the time."""
    kept, due = placed(client, 100), placed(client, 50, 1)
    wait_until_expired(client, due)
    version = client.get(f"/wallets/{JOHN_GOLD}").json["version"]
    assert balance(client) == {"balance": 350, "held": 100, "available": 400, "total": 500}
    read = client.get(f"/holds/{due}").json
    assert (read["state"], read["expired"], read["remaining"]) == ("expired", 50, 0)
    assert read["endedAt"] == read["expiresAt"]
    assert [hold["holdId"] for hold in holds_in(client, "expired")] == [due]
    assert [hold["holdId"] for hold in holds_in(client, "open")] == [kept]
    assert client.get(f"/wallets/{JOHN_GOLD}").json["version"] == version, "a read changes nothing"
    before = {name: read[name] for name in read.keys() - {"ok"}}

    problem = assert_problem(capture(client, due), 409, "hold_finished")
    assert problem["state"] == "expired"
    assert balance(client) == {"balance": 400, "held": 100, "available": 400, "total": 500}
    after = client.get(f"/holds/{due}").json
    assert {name: after[name] for name in before} == before, "it reads the same when it is settled"
    assert [hold["holdId"] for hold in holds_in(client, "expired")] == [due]
    wallets = client.get("/wallets?userId=2").json["wallets"]
    assert (wallets[0]["held"], wallets[0]["available"]) == (100, 400)


def holds_in(client: FlaskClient, state: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/wallets/{JOHN_GOLD}/holds?state={state}").json["holds"]
    return found


def wait_until_expired(client: FlaskClient, hold: str) -> None:
    deadline = time.monotonic() + 20
    while client.get(f"/holds/{hold}").json["state"] != "expired":
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- batches ---


def items(client: FlaskClient) -> tuple[list[dict[str, Any]], str]:
    hold = placed(client, 100)
    made: list[dict[str, Any]] = [
        {"type": "hold", "walletId": JOHN_GOLD, "amount": 10, "expiresIn": 60},
        {"type": "capture", "holdId": hold, "amount": 40, "note": "Sold"},
        {"type": "release", "holdId": hold},
        {"type": "topup", "walletId": JOHN_GOLD, "amount": 1},
    ]
    return [{**item, "referenceId": new_reference()} for item in made], hold


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_batch_has_holds_and_retries_them(client: FlaskClient, mode: str) -> None:
    wanted, _ = items(client)
    answer = client.post("/batches", json={"mode": mode, "items": wanted}).json
    assert [item["status"] for item in answer["items"]] == [201, 200, 200, 200]
    assert [item["body"]["type"] for item in answer["items"]] == ["HOLD", "CAPTURE", "RELEASE", "TOPUP"]
    assert answer["items"][2]["body"]["hold"]["state"] == "released"
    assert (answer["done"], answer["replayed"], answer["refused"]) == (4, 0, 0)
    again = client.post("/batches", json={"mode": mode, "items": wanted}).json
    assert (again["done"], again["replayed"], again["refused"]) == (0, 4, 0)
    assert again["items"][1]["body"]["hold"]["state"] == "released"


def test_items_on_holds_that_are_not_are_refused_alone(client: FlaskClient) -> None:
    wanted, hold = items(client)
    wanted[1]["holdId"] = "01a202ea-16a9-7b16-a647-a13ad9a0d7db"
    wanted[2] |= {"type": "capture", "final": False}
    answer = client.post("/batches", json={"mode": "each", "items": wanted}).json
    assert [(item["status"], item["body"].get("code")) for item in answer["items"]] == [
        (201, None),
        (404, "hold_not_found"),
        (422, "validation_error"),
        (200, None),
    ]
    assert client.get(f"/holds/{hold}").json["state"] == "open"
    problem = client.post("/batches", json={"mode": "atomic", "items": wanted})
    assert assert_problem(problem, 404, "hold_not_found")["index"] == 1


def test_lines_have_holds(client: FlaskClient) -> None:
    wanted, _ = items(client)
    data = "\n".join(json.dumps(item) for item in [*wanted[:2], *wanted[2:]]) + "\nnonsense\n"
    answer = client.post("/batches", data=data, content_type="application/x-ndjson")
    lines = [json.loads(line) for line in answer.get_data().splitlines()]
    assert [line["status"] for line in lines] == [201, 200, 200, 200, 400]


def test_the_examples_are_what_the_service_answers(client: FlaskClient, app: Flask) -> None:
    assert app
    varying = {"transactionId", "createdAt", "hold"}
    operation = document()["paths"]["/holds"]["post"]
    sent = operation["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
    shown = operation["responses"]["201"]["content"]["application/json"]["examples"]["new"]["value"]
    answer = client.post("/holds", json=sent).json
    assert {name: answer[name] for name in answer.keys() - varying} == {
        name: value for name, value in shown.items() if name not in varying
    }
    assert answer["hold"].keys() == shown["hold"].keys()
    operation = document()["paths"]["/holds/{holdId}/capture"]["post"]
    part = operation["requestBody"]["content"]["application/json"]["examples"]["part"]["value"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]["new"]["value"]
    answer = client.post(f"/holds/{answer['hold']['holdId']}/capture", json=part).json
    assert {name: answer[name] for name in answer.keys() - varying} == {
        name: value for name, value in shown.items() if name not in varying
    }
