"""Bad input to reversals: the corpus of test_bad_input on every field of theirs."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient

from tests.api.support import JOHN_GOLD, TREASURY_GOLD, assert_problem
from tests.api.test_bad_input import (
    AMOUNTS,
    NO_OBJECTS,
    NOTES,
    REFERENCES,
    TEXTS,
    TRANSACTION_IDS,
    UNKNOWN_FIELDS,
    UNREADABLE,
    WALLET_IDS,
    every,
    in_tests_of_one_case_too,
)

__all__ = ["in_tests_of_one_case_too"]

NEVER = "01a202ea-16a9-7b16-a647-a13ad9a0d7db"
PATH = f"/transactions/{NEVER}/reversal"
BODY = {"reason": "a test", "referenceId": "abc"}
REASONS = NOTES | TEXTS | {"null": "null", "empty": '""', "blank": '"  \u2003\ufeff "'}
SHORTFALLS = TEXTS | {"null": "null", "empty": '""', "capitals": '"DEBT"', "blank": '"debt "'}


def post(client: FlaskClient, path: str = PATH, /, **fields: str) -> Any:
    """Post a reversal's body; `fields` replace its own, as they stand in a JSON document."""
    body = {name: json.dumps(value) for name, value in BODY.items()} | fields
    data = "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
    return client.post(path, data=data.encode("utf-8", "surrogatepass"), content_type="application/json")


@every("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts(shared: FlaskClient, amount: str) -> None:
    assert_problem(post(shared, amount=amount), 422, "validation_error", "/amount")


@every("reason", REASONS.values(), ids=REASONS)
def test_reasons(shared: FlaskClient, reason: str) -> None:
    assert_problem(post(shared, reason=reason), 422, "validation_error", "/reason")


@every("value", SHORTFALLS.values(), ids=SHORTFALLS)
def test_what_to_do_on_shortfall(shared: FlaskClient, value: str) -> None:
    assert_problem(post(shared, onShortfall=value), 422, "validation_error", "/onShortfall")


@every("reference", REFERENCES.values(), ids=REFERENCES)
def test_references(shared: FlaskClient, reference: str) -> None:
    assert_problem(post(shared, referenceId=reference), 422, "validation_error", "/referenceId")


@every("note", NOTES.values(), ids=NOTES)
def test_notes(shared: FlaskClient, note: str) -> None:
    assert_problem(post(shared, note=note), 422, "validation_error", "/note")


@every("missing", ["reason", "referenceId"])
def test_what_is_required(shared: FlaskClient, missing: str) -> None:
    body = {name: value for name, value in BODY.items() if name != missing}
    assert_problem(shared.post(PATH, json=body), 422, "validation_error", f"/{missing}")


@every(("field", "pointer"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_unknown_fields(shared: FlaskClient, field: str, pointer: str) -> None:
    name, _, value = field.partition(": ")
    answer = post(shared, **{name[1:-1]: value})
    assert assert_problem(answer, 422, "validation_error", pointer)["errors"][0]["code"] == "unknown_field"


@every("data", [*UNREADABLE.values(), *NO_OBJECTS.values()], ids=[*UNREADABLE, *NO_OBJECTS])
def test_bodies(shared: FlaskClient, data: bytes) -> None:
    answer = shared.post(PATH, data=data, content_type="application/json")
    if data in NO_OBJECTS.values():
        assert_problem(answer, 422, "validation_error", "")
    else:
        assert_problem(answer, 400, "bad_request")


def test_large_bodies_other_types_and_parameters(shared: FlaskClient) -> None:
    large = shared.post(PATH, data=b" " * (64 * 1024 + 1), content_type="application/json")
    assert_problem(large, 413, "request_entity_too_large")
    assert_problem(shared.post(PATH, data=b"{}", content_type="text/plain"), 415, "unsupported_media_type")
    assert_problem(shared.post(f"{PATH}?a=1", json=BODY), 422, "validation_error", "/a")


@every("transaction", [*TRANSACTION_IDS, NEVER])
def test_transactions(shared: FlaskClient, transaction: str) -> None:
    answer = shared.post(f"/transactions/{transaction}/reversal", json=BODY)
    assert_problem(answer, 404, "transaction_not_found")


@every("value", [*TEXTS.values(), "null", '""', *(json.dumps(f"{NEVER}{end}") for end in "\n 0")])
def test_transactions_of_records(shared: FlaskClient, value: str) -> None:
    record = f'{{"type": "reversal", "transactionId": {value}, "reason": "a test", "referenceId": "abc"}}'
    data = f'{{"mode": "each", "items": [{record}]}}'.encode("utf-8", "surrogatepass")
    (item,) = shared.post("/batches", data=data, content_type="application/json").json["items"]
    assert (item["status"], item["body"]["errors"][0]["pointer"]) == (422, "/transactionId")


@every("wallet", WALLET_IDS)
def test_wallets_of_debts(shared: FlaskClient, wallet: str) -> None:
    answer = shared.get(f"/wallets/{wallet}/debts")
    if answer.status_code == 404:  # A slash in it makes it another path.
        assert_problem(answer, 404, "not_found")
    else:
        assert_problem(answer, 422, "validation_error", "/walletId")


def test_parameters_and_wallets_that_have_no_debts(shared: FlaskClient) -> None:
    assert_problem(shared.get(f"/wallets/{JOHN_GOLD}/debts?limit=1"), 422, "validation_error", "/limit")
    assert_problem(shared.get("/wallets/999999999/debts"), 404, "wallet_not_found")
    assert_problem(shared.get(f"/wallets/{TREASURY_GOLD}/debts"), 409, "system_wallet_entries")
