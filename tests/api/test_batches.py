"""POST /batches with a JSON body: each item as if alone, or all or nothing; repeated without doubling."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from tests.api.support import (
    DOE_GOLD,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_headers,
    assert_problem,
    books,
    movement,
)
from tests.api.test_openapi import validator
from tests.conftest import run_sql, settings_for
from tests.every_case import every
from tests.keys import client_of
from wallet_app import create_app
from wallet_app.api.openapi import document
from wallet_app.db import close_connections
from wallet_app.service import BATCH_MAX, Bonus, bulk, rules

OF_THE_MOMENT = {"transactionId", "createdAt", "requestId"}


def record(kind: str = "topup", wallet: object = JOHN_GOLD, amount: object = 1, **more: Any) -> dict[str, Any]:
    reference = more.pop("reference", None)
    return {"type": kind, "walletId": wallet, **movement(amount, reference, **more)}


def post(client: FlaskClient, mode: str, items: list[Any]) -> Any:
    return client.post("/batches", json={"mode": mode, "items": items})


def statuses(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.get_data()
    assert all(item["body"].get("status", 200) == item["status"] for item in answer.json["items"])
    return [item["status"] for item in answer.json["items"]]


def counts(answer: Any) -> tuple[int, int, int]:
    return tuple(answer.json[name] for name in ("done", "replayed", "refused"))


# --- each ---


def test_each_item_is_answered_by_itself_in_order(client: FlaskClient) -> None:
    items = [
        record("spend", amount=501),
        record("topup", amount=1),
        record("spend", amount=501),
        record("bonus", wallet=NO_WALLET),
        record("topup", wallet=TREASURY_GOLD),
        record("topup", amount=0),
        "spend",
        record("bonus", wallet=str(DOE_GOLD), amount="5", note="Daily login"),
    ]
    answer = post(client, "each", items)
    assert statuses(answer) == [409, 200, 200, 404, 409, 422, 422, 200]
    assert counts(answer) == (3, 0, 5)
    assert answer.headers["Content-Type"] == "application/json"
    assert_headers(answer)
    bodies = [item["body"] for item in answer.json["items"]]
    assert [bodies[at]["code"] for at in (0, 3, 4, 5, 6)] == [
        *("insufficient_balance", "wallet_not_found", "system_wallet", "validation_error", "validation_error")
    ]
    assert bodies[5]["errors"][0]["pointer"] == "/amount", "pointers lead into the item"
    assert (bodies[2]["balance"], bodies[7]["balance"]) == (0, 305)
    schema = document()["paths"]["/batches"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert [error.message for error in validator(schema).iter_errors(answer.json)] == []


@pytest.fixture(scope="module")
def copies(server: URL, template: str) -> Iterator[list[Flask]]:
    """Two services whose books are the same, and stay so as long as they are asked the same."""
    urls = [server.set(database=f"wallet_test_{secrets.token_hex(6)}") for _ in range(2)]
    for url in urls:
        run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    apps = [create_app(settings_for(url)) for url in urls]
    yield apps
    for app, url in zip(apps, urls, strict=True):
        with app.app_context():
            close_connections()
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


records = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["topup", "bonus", "spend"]),
        "walletId": st.sampled_from([JOHN_GOLD, DOE_GOLD, str(DOE_GOLD), TREASURY_GOLD, NO_WALLET, 2**63]),
        "amount": st.integers(1, 400) | st.sampled_from(["7", 9_007_199_254_740_991]),
        "referenceId": st.sampled_from([f"few-{n}" for n in range(30)]),
    }
)
malformed = st.builds(
    lambda record, fault: {**record, **fault},
    records,
    st.sampled_from(
        [
            {"amount": 0},
            {"amount": 1.5},
            {"amount": True},
            {"referenceId": None},
            {"referenceId": " sys:mine"},
            {"note": "a\nb"},
            {"colour": "red"},
            {"walletId": "x"},
            {"walletId": -1},
        ]
    ),
)


def alone(client: FlaskClient, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    body = {name: value for name, value in asked.items() if name not in {"type", "walletId"}}
    answer = client.post(f"/wallets/{asked['walletId']}/{asked['type']}", json=body)
    return answer.status_code, lasting(answer.json)


def lasting(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in OF_THE_MOMENT}


@seed(20_261_122)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(items=st.lists(records | records | malformed, min_size=1, max_size=30))
def test_an_item_has_the_status_and_the_body_that_it_would_have_had_alone(
    copies: list[Flask], items: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK_MAX", 7)
    one, other = (client_of(app) for app in copies)
    batch = post(one, "each", items).json["items"]
    assert [(item["status"], lasting(item["body"])) for item in batch] == [alone(other, item) for item in items]


def test_a_fault_of_ours_is_one_items_answer(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.RULES, Bonus, lambda books, command: 1 / 0)
    answer = post(client, "each", [record(), record("bonus"), record()])
    assert statuses(answer) == [200, 500, 200]
    assert answer.json["items"][1]["body"]["code"] == "internal_error"
    assert_problem(post(client, "atomic", [record(), record("bonus")]), 500, "internal_error")


# --- atomic ---


def test_all_items_of_an_atomic_batch_are_posted(client: FlaskClient) -> None:
    answer = post(client, "atomic", [record("topup", amount=5), record("spend", amount=505), record(wallet=DOE_GOLD)])
    assert statuses(answer) == [200, 200, 200]
    assert counts(answer) == (3, 0, 0)
    assert [item["body"]["balance"] for item in answer.json["items"]] == [505, 0, 301]


def test_refused_at_the_last_of_a_thousand_nothing_has_happened(client: FlaskClient) -> None:
    items = [record(wallet=DOE_GOLD, note="note") for _ in range(BATCH_MAX - 1)]
    before = books()
    problem = assert_problem(post(client, "atomic", [*items, record("spend", amount=501)]), 409, "insufficient_balance")
    assert problem["index"] == BATCH_MAX - 1
    assert (problem["walletId"], problem["balance"], problem["required"]) == (JOHN_GOLD, 500, 501)
    assert books() == before
    assert counts(post(client, "atomic", [*items, record("spend", amount=500)])) == (BATCH_MAX, 0, 0)


@every(
    ("fault", "status", "code"),
    [
        (record("spend", amount=600), 409, "insufficient_balance"),
        (record(wallet=NO_WALLET), 404, "wallet_not_found"),
        (record(wallet=2**63), 404, "wallet_not_found"),
        (record(amount=-1), 422, "validation_error"),
        (record("seed"), 422, "validation_error"),
        (7, 422, "validation_error"),
        ({**record(), "referenceId": "taken-reference"}, 422, "reference_mismatch"),
    ],
)
def test_a_refused_batch_names_its_first_refused_item(client: FlaskClient, fault: Any, status: int, code: str) -> None:
    client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(7, "taken-reference"))
    before = books()
    late = record("spend", amount=100_000)
    problem = assert_problem(post(client, "atomic", [record(), fault, late]), status, code)
    assert problem["index"] == 1
    assert books() == before


def test_what_is_wrong_in_itself_is_found_before_the_books_are_asked(client: FlaskClient) -> None:
    problem = assert_problem(
        post(client, "atomic", [record("spend", amount=501), record(amount=0)]), 422, "validation_error", "/amount"
    )
    assert problem["index"] == 1


# --- again ---


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_batch_can_be_repeated(client: FlaskClient, mode: str) -> None:
    items = [record("spend", amount=200), record("topup", wallet=DOE_GOLD), record("bonus")]
    client.post(f"/wallets/{DOE_GOLD}/topup", json=movement(1, items[1]["referenceId"]))
    first = post(client, mode, items)
    before = books()
    second = post(client, mode, items)
    assert (counts(first), counts(second)) == ((2, 1, 0), (0, 3, 0))
    assert [item["body"]["idempotent"] for item in second.json["items"]] == [True] * 3
    assert [item["body"]["transactionId"] for item in first.json["items"]] == [
        item["body"]["transactionId"] for item in second.json["items"]
    ]
    assert books() == before


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_reference_twice_in_one_batch_is_one_command(client: FlaskClient, mode: str) -> None:
    item = record("spend", amount=5)
    answer = post(client, mode, [item, item, {**item, "note": "other words"}])
    assert counts(answer) == (1, 2, 0)
    assert len({item["body"]["transactionId"] for item in answer.json["items"]}) == 1


def test_a_reference_twice_for_different_commands_is_refused(client: FlaskClient) -> None:
    first, second = record("spend", amount=5), record("spend", amount=5)
    other = {**second, "amount": 6}
    answer = post(client, "each", [first, {**first, "amount": 6}])
    assert statuses(answer) == [200, 422]
    assert answer.json["items"][1]["body"]["fields"] == ["amount"]
    before = books()
    assert assert_problem(post(client, "atomic", [second, other]), 422, "reference_mismatch")["index"] == 1
    assert books() == before


# --- the body ---


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_batch_has_1_to_1000_items(client: FlaskClient, mode: str) -> None:
    before = books()
    for items in ([], [record() for _ in range(BATCH_MAX + 1)], {}, None, "x"):
        assert_problem(post(client, mode, items), 422, "validation_error", "/items")
    assert books() == before
    assert counts(post(client, mode, [record() for _ in range(BATCH_MAX)])) == (BATCH_MAX, 0, 0)


@every(
    ("body", "pointer"),
    [
        ({"items": [record()]}, "/mode"),
        ({"mode": "some", "items": [record()]}, "/mode"),
        ({"mode": ["each"], "items": [record()]}, "/mode"),
        ({"mode": "each"}, "/items"),
        ({"mode": "each", "items": [record()], "colour": "red"}, "/colour"),
        ({"mode": "atomic", "items": [record()], "dryRun": True}, "/dryRun"),
        ([record()], ""),
        (None, ""),
    ],
)
def test_a_body_that_is_no_batch_is_refused(client: FlaskClient, body: Any, pointer: str) -> None:
    before = books()
    answer = client.post("/batches", data=json.dumps(body), content_type="application/json")
    assert_problem(answer, 422, "validation_error", pointer)
    assert books() == before


def test_an_unreadable_body_is_refused_as_a_whole(client: FlaskClient) -> None:
    before = books()
    twice = json.dumps(record())[:-1] + ', "amount": 2}'
    deep = "[" * 20 + "]" * 20
    for item in (twice, "NaN", deep, "{", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        body = f'{{"mode": "each", "items": [{json.dumps(record())}, {item}]}}'
        answer = client.post("/batches", data=body.encode("latin-1"), content_type="application/json")
        assert_problem(answer, 400, "bad_request")
    assert books() == before


def test_a_batch_may_have_a_megabyte_and_no_more(client: FlaskClient) -> None:
    items = [record(note="n" * 500, reference="r" * 195 + f"{n:05}") for n in range(BATCH_MAX)]
    assert len(json.dumps(items)) > 700_000
    assert counts(post(client, "each", items)) == (BATCH_MAX, 0, 0)
    before = books()
    assert_problem(post(client, "each", [record(note=" " * 1024 * 1024)]), 413, "request_entity_too_large")
    single = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(note=" " * 70_000))
    assert_problem(single, 413, "request_entity_too_large")
    assert books() == before


@every("content_type", ["", "text/plain", "application/xml", "application/json; charset=latin-1"])
def test_other_media_types_are_refused(client: FlaskClient, content_type: str) -> None:
    answer = client.post("/batches", data=json.dumps({"mode": "each", "items": [record()]}), content_type=content_type)
    assert_problem(answer, 415, "unsupported_media_type")


def test_query_parameters_are_refused(client: FlaskClient) -> None:
    for content_type in ("application/json", "application/x-ndjson"):
        answer = client.post("/batches?mode=atomic", data=b"{}", content_type=content_type)
        assert_problem(answer, 422, "validation_error", "/mode")


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_when_too_many_are_posted_the_next_is_told_to_come_again(
    client: FlaskClient, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Taken:
        """Turns of which none comes within the time that a request waits."""

        def acquire(self, *, timeout: float) -> bool:
            assert 5 < timeout <= 10
            return False

    monkeypatch.setattr(bulk, "_turns", Taken())
    before = books()
    assert_problem(post(client, mode, [record()]), 503, "overloaded")
    assert books() == before


def test_the_examples_are_what_the_service_answers(client: FlaskClient) -> None:
    operation = document()["paths"]["/batches"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["examples"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]
    for mode in ("each", "atomic"):
        answer = client.post("/batches", json=asked[mode]["value"]).json
        expected = shown[mode]["value"]
        assert [item["status"] for item in answer["items"]] == [item["status"] for item in expected["items"]]
        for got, example in zip(answer["items"], expected["items"], strict=True):
            if not got["body"].get("idempotent"):
                assert lasting(got["body"]) == lasting(example["body"])
