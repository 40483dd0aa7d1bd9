"""Freezes, closings and switches over the API: what is sent, what comes back, and how soon it stops everybody."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api import clock
from tests.api.conftest import Live, MakeClient
from tests.api.support import (
    DOE_GOLD,
    JOHN_DIAMOND,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_problem,
    movement,
    new_reference,
)
from tests.keys import KEY
from wallet_app.api.openapi import document

UNTIL = "2999-03-01T00:00:00Z"


def command(client: FlaskClient, verb: str, wallet: int = JOHN_GOLD, **body: Any) -> Any:
    return client.post(f"/wallets/{wallet}/{verb}", json={"reason": "A test", "referenceId": new_reference(), **body})


def freeze(client: FlaskClient, wallet: int = JOHN_GOLD, side: str = "both", **body: Any) -> Any:
    return command(client, "freeze", wallet, side=side, **body)


def told(client: FlaskClient, wallet: int = JOHN_GOLD) -> tuple[str, Any]:
    body = client.get(f"/wallets/{wallet}").json
    return body["status"], body.get("frozen")


def set_switch(client: FlaskClient, **body: Any) -> int:
    answer = client.post("/switches", json={"target": "everything", "side": "both", "reason": "A test", **body})
    assert answer.status_code == 201, answer.text
    number: int = answer.json["switchId"]
    return number


# --- a wallet ---


def test_a_freeze_is_answered_read_and_lifted(client: FlaskClient) -> None:
    answer = freeze(client, side="debits", referenceId="case-17", reason=" Spends nobody knows of ")
    body = answer.json
    assert answer.status_code == 200
    assert (body["type"], body["status"], body["frozen"]) == ("FREEZE", "FROZEN", {"debits": {"until": None}})
    assert (body["balance"], body["version"], body["idempotent"]) == (500, 1, False)
    transaction = client.get(f"/transactions/{body['transactionId']}").json
    assert (transaction["kind"], transaction["reason"], transaction["note"]) == ("FREEZE", body["reason"], None)
    assert body["reason"] == "Spends nobody knows of"
    assert (transaction["entries"], transaction["legs"]) == ([], [])

    problem = assert_problem(client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)), 409, "wallet_not_active")
    assert (problem["walletId"], problem["walletStatus"], problem["side"]) == (JOHN_GOLD, "FROZEN", "debits")
    assert client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1)).status_code == 200
    assert told(client) == ("FROZEN", {"debits": {"until": None}})
    listed = {one["walletId"]: one for one in client.get("/wallets?userId=2").json["wallets"]}
    assert (listed[JOHN_GOLD]["status"], listed[JOHN_DIAMOND]["status"]) == ("FROZEN", "ACTIVE")
    assert "frozen" not in listed[JOHN_DIAMOND]

    lifted = command(client, "unfreeze").json
    assert (lifted["type"], lifted["status"]) == ("UNFREEZE", "ACTIVE")
    assert "frozen" not in lifted
    again = freeze(client, side="debits", referenceId="case-17", reason="Spends nobody knows of", note="Again")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (again.json["transactionId"], again.json["status"]) == (body["transactionId"], "ACTIVE"), "as it stands now"
    mismatch = assert_problem(freeze(client, side="both", referenceId="case-17"), 422, "reference_mismatch")
    assert mismatch["fields"] == ["side", "reason"]
    assert client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)).status_code == 200


@pytest.mark.parametrize(
    "until", [UNTIL, "2999-03-01T02:30:00+02:30", "2999-02-28T22:00:00.000000-02:00", "2999-03-01T00:00:00.0Z"]
)
def test_an_end_is_told_in_utc(client: FlaskClient, until: str) -> None:
    frozen = freeze(client, side="credits", until=until).json["frozen"]
    assert frozen == {"credits": {"until": "2999-03-01T00:00:00.000000Z"}}
    assert told(client) == ("FROZEN", frozen)


def test_a_freeze_ends_by_itself(client: FlaskClient) -> None:
    clock.make_movable()
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + clock.STEP_SECONDS))
    freeze(client, until=until)
    assert told(client)[0] == "FROZEN"
    clock.move(1)
    assert told(client) == ("ACTIVE", None)
    assert client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)).status_code == 200
    problem = assert_problem(freeze(client, until=until), 422, "end_passed")
    assert problem["until"].startswith(until.rstrip("Z"))


def test_a_wallet_is_closed_when_it_is_empty(client: FlaskClient) -> None:
    problem = assert_problem(command(client, "close"), 409, "wallet_not_empty")
    assert (problem["balance"], problem["held"], problem["version"]) == (500, 0, 1)
    client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(500))
    closed = command(client, "close", referenceId="end").json
    assert (closed["type"], closed["status"], closed["balance"]) == ("CLOSE", "CLOSED", 0)
    for answer in (
        client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1)),
        freeze(client),
        command(client, "unfreeze"),
        command(client, "close"),
    ):
        assert assert_problem(answer, 409, "wallet_closed")["walletStatus"] == "CLOSED"
    assert command(client, "close", referenceId="end").json["idempotent"]
    again = client.post("/wallets", json={"userId": 2, "asset": "GOLD"})
    assert (again.status_code, again.json["status"]) == (200, "CLOSED")


def test_wallets_that_cannot_be_frozen(client: FlaskClient) -> None:
    for verb, body in (("freeze", {"side": "both"}), ("unfreeze", {}), ("close", {})):
        assert_problem(command(client, verb, TREASURY_GOLD, **body), 409, "system_wallet")
        assert_problem(command(client, verb, NO_WALLET, **body), 404, "wallet_not_found")
    assert_problem(command(client, "unfreeze"), 409, "wallet_not_frozen")


def test_the_reference_may_come_as_a_header(client: FlaskClient) -> None:
    body = {"side": "both", "reason": "x"}
    for status in (False, True):
        answer = client.post(f"/wallets/{JOHN_GOLD}/freeze", json=body, headers={"Idempotency-Key": "by-header"})
        assert answer.json["idempotent"] is status
    assert_problem(client.post(f"/wallets/{JOHN_GOLD}/freeze", json=body), 422, "validation_error", "/referenceId")


def items() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"type": "freeze", "walletId": JOHN_GOLD, "side": "debits", "reason": "x", "until": UNTIL},
        {"type": "topup", "walletId": JOHN_GOLD, "amount": 1},
        {"type": "unfreeze", "walletId": JOHN_GOLD, "reason": "x"},
        {"type": "spend", "walletId": JOHN_GOLD, "amount": 501},
        {"type": "close", "walletId": JOHN_GOLD, "reason": "x"},
    ]
    return [{**item, "referenceId": new_reference()} for item in made]


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_batch_freezes_and_closes(client: FlaskClient, mode: str) -> None:
    wanted = items()
    answer = client.post("/batches", json={"mode": mode, "items": wanted}).json
    assert [item["status"] for item in answer["items"]] == [200] * 5
    assert [item["body"]["type"] for item in answer["items"]] == ["FREEZE", "TOPUP", "UNFREEZE", "SPEND", "CLOSE"]
    again = client.post("/batches", json={"mode": mode, "items": wanted}).json
    assert (again["done"], again["replayed"], again["refused"]) == (0, 5, 0)
    late = [{"type": "spend", "walletId": JOHN_GOLD, "amount": 1, "referenceId": new_reference()}]
    refused = client.post("/batches", json={"mode": "each", "items": late}).json
    assert refused["items"][0]["body"]["code"] == "wallet_closed"


def test_lines_freeze_and_a_refused_one_stops_nothing(client: FlaskClient) -> None:
    wanted = items()[:1] + items()[3:]
    data = "\n".join(json.dumps(item) for item in wanted)
    answer = client.post("/batches", data=data, content_type="application/x-ndjson")
    lines = [json.loads(line) for line in answer.get_data().splitlines()]
    assert [line["body"].get("code") for line in lines] == [None, "insufficient_balance", "wallet_not_empty"]
    assert told(client) == ("FROZEN", {"debits": {"until": "2999-03-01T00:00:00.000000Z"}})


def test_wrong_items_name_their_fields(client: FlaskClient) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"type": "freeze", "side": "some"}, "/side"),
        ({"type": "freeze", "side": "both", "until": "tomorrow"}, "/until"),
        ({"type": "unfreeze", "until": UNTIL}, "/until"),
        ({"type": "close", "side": "both"}, "/side"),
        ({"type": "close", "reason": None}, "/reason"),
    ]
    for body, pointer in wrong:
        item = {"walletId": JOHN_GOLD, "reason": "x", "referenceId": new_reference(), **body}
        answer = client.post("/batches", json={"mode": "atomic", "items": [item]})
        assert_problem(answer, 422, "validation_error", pointer)


@pytest.mark.parametrize("verb", ["freeze", "unfreeze", "close"])
def test_the_examples_of_commands_are_what_the_service_answers(client: FlaskClient, verb: str) -> None:
    if verb == "unfreeze":
        freeze(client)
    if verb == "close":
        client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(500))
    operation = document()["paths"][f"/wallets/{{walletId}}/{verb}"]["post"]
    request = operation["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]
    varying = {"transactionId", "createdAt", "version"}
    for name in ("new", "replayed"):
        answer = client.post(f"/wallets/{JOHN_GOLD}/{verb}", json=request).json
        assert answer.keys() == shown[name]["value"].keys()
        assert {key: answer[key] for key in answer.keys() - varying} == {
            key: value for key, value in shown[name]["value"].items() if key not in varying
        }


# --- switches ---


def test_a_switch_is_set_read_listed_and_lifted(client: FlaskClient) -> None:
    body = {"target": "user", "userId": 2, "side": "debits", "reason": " Stolen? ", "until": UNTIL}
    answer = client.post("/switches", json=body)
    made = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/switches/{made['switchId']}"
    assert (made["target"], made["userId"], made["asset"], made["side"]) == ("user", 2, None, "debits")
    assert (made["reason"], made["until"], made["set"]) == ("Stolen?", "2999-03-01T00:00:00.000000Z", True)
    assert made["setBy"].startswith("key:")
    assert client.get(answer.headers["Location"]).json == made
    again = client.post("/switches", json=body)
    assert (again.status_code, again.json) == (200, made)

    problem = assert_problem(client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)), 409, "stopped")
    assert (problem["walletId"], problem["side"], problem["target"]) == (JOHN_GOLD, "debits", "user")
    assert "Stolen" not in json.dumps(problem), "why it is stopped is for who may see switches"
    assert client.post(f"/wallets/{DOE_GOLD}/spend", json=movement(1)).status_code == 200
    assert told(client) == ("ACTIVE", None)

    path = answer.headers["Location"]
    assert_problem(client.delete(path), 422, "validation_error", "/reason")
    for reason in ("Found", "Found again"):
        assert client.delete(path, query_string={"reason": reason}).status_code == 204
    lifted = client.get(path).json
    assert (lifted["set"], lifted["liftReason"], lifted["liftedBy"]) == (False, "Found", made["setBy"])
    assert client.get("/switches").json["switches"] == []
    assert client.get("/switches?withLifted=true").json["switches"] == [
        {name: value for name, value in lifted.items() if name != "ok"}
    ]
    assert client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)).status_code == 200


def test_each_target_names_what_it_needs_and_nothing_else(client: FlaskClient) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "/target"),
        ({"target": "wallet"}, "/target"),
        ({"target": "user"}, "/userId"),
        ({"target": "asset"}, "/asset"),
        ({"target": "asset", "asset": "GOLD", "userId": 2}, "/userId"),
        ({"target": "everything", "asset": "GOLD"}, "/asset"),
    ]
    for body, pointer in wrong:
        answer = client.post("/switches", json={"side": "both", "reason": "x", **body})
        assert_problem(answer, 422, "validation_error", pointer)
    for body, code in (({"target": "user", "userId": 99}, "user_not_found"),
                       ({"target": "asset", "asset": "SILVER"}, "asset_not_found")):  # fmt: skip
        assert_problem(client.post("/switches", json={"side": "both", "reason": "x", **body}), 404, code)
    passed = {"target": "everything", "side": "both", "reason": "x", "until": "2001-01-01T00:00:00Z"}
    assert_problem(client.post("/switches", json=passed), 422, "end_passed")
    assert client.get("/switches?withLifted=true").json["switches"] == []


def test_switches_are_listed_page_by_page(client: FlaskClient) -> None:
    made = [set_switch(client, reason=f"number {number}") for number in range(5)]
    client.delete(f"/switches/{made[2]}?reason=over")

    def listed(query: str) -> list[int]:
        page = client.get(f"/switches?limit=2{query}").json
        found = [one["switchId"] for one in page["switches"]]
        while "next" in page:
            page = client.get(f"/switches?limit=2{query}&cursor={page['next']}").json
            found += [one["switchId"] for one in page["switches"]]
        return found

    assert listed("") == [*made[:2], *made[3:]]
    assert listed("&withLifted=true") == made
    cursor = client.get("/switches?limit=1").json["next"]
    assert_problem(client.get(f"/switches?withLifted=true&cursor={cursor}"), 400, "bad_cursor")
    for switch in made:
        client.delete(f"/switches/{switch}?reason=over")


@pytest.mark.parametrize("group_commit", [True, False])
def test_a_switch_stops_another_application_from_its_answer_on(
    client: FlaskClient, client_with: MakeClient, group_commit: bool
) -> None:
    other = client_with(group_commit=group_commit)
    assert other.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)).status_code == 200
    for _ in range(5):
        switch = set_switch(client, target="asset", asset="GOLD", side="debits")
        assert_problem(other.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)), 409, "stopped")
        client.delete(f"/switches/{switch}?reason=over")
        assert other.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(1)).status_code == 200


def test_a_switch_stops_every_process_within_a_second(live: Live) -> None:
    """Two processes serve; each request comes on a connection of its own, so both are asked."""
    assert post(live, f"/wallets/{DOE_GOLD}/topup", movement(100))[0] == 200
    status, made = post(live, "/switches", {"target": "user", "userId": 3, "side": "both", "reason": "A test"})
    try:
        assert status == 201
        spends = [post(live, f"/wallets/{DOE_GOLD}/spend", movement(1)) for _ in range(30)]
        assert {(status, body["code"]) for status, body in spends} == {(409, "stopped")}
    finally:
        lifted = send(live, "DELETE", f"/switches/{made['switchId']}?reason=over", None)[0]
    assert lifted == 204
    spends = [post(live, f"/wallets/{DOE_GOLD}/spend", movement(1)) for _ in range(30)]
    assert {status for status, _ in spends} == {200}


def post(live: Live, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return send(live, "POST", path, json.dumps(body))


def send(live: Live, method: str, path: str, body: str | None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(live.host, live.port, timeout=20)
    headers = {"Authorization": f"Bearer {KEY}", **({"Content-Type": "application/json"} if body else {})}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


def test_the_examples_of_switches_are_what_the_service_answers(client: FlaskClient) -> None:
    operation = document()["paths"]["/switches"]["post"]
    sent = operation["requestBody"]["content"]["application/json"]["examples"]
    shown = operation["responses"]["201"]["content"]["application/json"]["examples"]["switch"]["value"]
    varying = {"switchId", "setAt", "setBy"}
    made = {name: client.post("/switches", json=example["value"]) for name, example in sent.items()}
    assert {answer.status_code for answer in made.values()} == {201}
    answer = made["asset"].json
    assert answer.keys() == shown.keys()
    assert {name: answer[name] for name in answer.keys() - varying} == {
        name: value for name, value in shown.items() if name not in varying
    }
    for one in made.values():
        client.delete(f"/switches/{one.json['switchId']}?reason=over")
