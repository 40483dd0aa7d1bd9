"""Note, metadata and occurredAt: taken by every command, kept with its transaction, told again, and never compared."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api import every_command
from tests.api.every_command import OF_ANOTHER, OF_NO_ENTRY, RECORDS, REQUESTS, record_of, request_of
from tests.api.support import JOHN_GOLD, assert_problem, movement
from wallet_app import service
from wallet_app.details import METADATA_BYTES_MAX, METADATA_KEYS_MAX, METADATA_TEXT_MAX
from wallet_app.money import AMOUNT_MAX

pytestmark = pytest.mark.wide

DETAILS = {
    "note": "Sword",
    "metadata": {
        "order": "A-1",
        "level": 7,
        "ratio": 0.25,
        "paid": True,
        "coupon": None,
        "ключ": "значение \U0001f995",
    },
    "occurredAt": "2026-01-31T14:00:00.25+02:00",
}
TOLD = {**DETAILS, "occurredAt": "2026-01-31T12:00:00.250000Z"}

test_every_route_that_is_a_command_is_here = every_command.test_every_route_that_is_a_command_is_here
test_every_type_of_record_is_here = every_command.test_every_type_of_record_is_here


def told(client: FlaskClient, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of the details of an accepted command's transaction."""
    read = client.get(f"/transactions/{answer['transactionId']}").json
    return {name: read[name] for name in TOLD}


@pytest.mark.parametrize("operation", REQUESTS)
def test_every_command_takes_them_and_its_transaction_tells_them(client: FlaskClient, operation: str) -> None:
    path, body = request_of(client, operation)
    answer = client.post(path, json=body | DETAILS)
    assert answer.status_code in {200, 201}, answer.json
    assert told(client, answer.json) == TOLD
    if operation not in OF_NO_ENTRY | OF_ANOTHER:
        entry = client.get(f"/wallets/{JOHN_GOLD}/entries?limit=1").json["entries"][0]
        assert {name: entry[name] for name in TOLD} == TOLD
        assert entry["createdAt"] > entry["occurredAt"]
    assert service.verify().is_clean


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_retry_may_word_them_differently(client: FlaskClient, operation: str) -> None:
    path, body = request_of(client, operation)
    first = client.post(path, json=body | DETAILS).json
    others = ({}, {"metadata": {"order": "B-2"}, "occurredAt": "2025-12-31T23:59:59Z", "note": "in other words"})
    for other in others:
        again = client.post(path, json=body | other)
        assert (again.status_code, again.json["idempotent"]) == (200, True)
        assert again.json["transactionId"] == first["transactionId"]
    assert told(client, first) == TOLD


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("form", ["each", "atomic", "lines"])
def test_every_record_takes_them(client: FlaskClient, kind: str, form: str) -> None:
    item = record_of(client, kind) | DETAILS
    if form == "lines":
        answer = client.post("/batches", data=json.dumps(item), content_type="application/x-ndjson")
        done = json.loads(answer.get_data())
    else:
        (done,) = client.post("/batches", json={"mode": form, "items": [item]}).json["items"]
    assert done["status"] in {200, 201}, done
    assert told(client, done["body"]) == TOLD


def test_a_hold_is_listed_with_the_metadata_of_its_placing(client: FlaskClient) -> None:
    path, body = request_of(client, "placeHold")
    hold = client.post(path, json=body | DETAILS).json["hold"]["holdId"]
    assert client.get(f"/holds/{hold}").json["metadata"] == DETAILS["metadata"]
    (listed,) = client.get(f"/wallets/{JOHN_GOLD}/holds").json["holds"]
    assert listed["metadata"] == DETAILS["metadata"]


def test_without_them_the_transaction_happened_when_it_was_made(client: FlaskClient) -> None:
    for nothing in ({}, {"note": None, "metadata": None, "occurredAt": None}, {"metadata": {}}):
        made = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, **nothing)).json
        assert told(client, made) == {"note": None, "metadata": None, "occurredAt": made["createdAt"]}


def filled(size: int) -> dict[str, str]:
    """Return metadata that is `size` bytes as JSON without blanks."""
    metadata = {f"key{number}": "x" * 400 for number in range(4)} | {"rest": ""}
    kept = len(json.dumps(metadata, separators=(",", ":")))
    return metadata | {"rest": "y" * (size - kept)}


ACCEPTED = {
    "as many bytes as there may be": filled(METADATA_BYTES_MAX),
    "as many keys as there may be": {f"k{number}": number for number in range(METADATA_KEYS_MAX)},
    "the longest key": {"k" * 64: 1},
    "the longest text": {"k": "\U0001f995" * METADATA_TEXT_MAX},
    "the largest numbers": {"a": AMOUNT_MAX, "b": -AMOUNT_MAX, "c": float(AMOUNT_MAX)},
    "small numbers": {"a": 0, "b": 1e-300, "c": 0.1, "d": 5.0},
    "blanks inside and around texts": {"a b": "  c  "},
    "keys like ours": {"amount": 1, "note": "x", "__proto__": "y", "a/b~c": ""},
    "quotes": {"'\"\\": "'; DROP TABLE wallets; --"},
}


@pytest.mark.parametrize("metadata", ACCEPTED.values(), ids=ACCEPTED)
def test_metadata_that_is_accepted_comes_back_as_it_was_sent(client: FlaskClient, metadata: dict[str, object]) -> None:
    made = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, metadata=metadata))
    assert made.status_code == 200, made.json
    assert told(client, made.json)["metadata"] == metadata
    assert service.verify().is_clean


def test_a_byte_too_many_is_too_large(client: FlaskClient) -> None:
    metadata = filled(METADATA_BYTES_MAX + 1)
    answer = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, metadata=metadata))
    problem = assert_problem(answer, 422, "validation_error", "/metadata")
    assert problem["errors"][0]["code"] == "too_large"


@pytest.mark.parametrize(
    ("ahead", "is_accepted"),
    [(dt.timedelta(minutes=-1), True), (dt.timedelta(minutes=4), True), (dt.timedelta(minutes=6), False)],
)
def test_a_caller_s_clock_may_be_ahead_a_little(client: FlaskClient, ahead: dt.timedelta, is_accepted: bool) -> None:
    said = (dt.datetime.now(dt.UTC) + ahead).isoformat(timespec="microseconds")
    answer = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, occurredAt=said))
    if is_accepted:
        assert told(client, answer.json)["occurredAt"] == said.replace("+00:00", "Z")
    else:
        problem = assert_problem(answer, 422, "validation_error", "/occurredAt")
        assert problem["errors"][0]["code"] == "out_of_range"


@pytest.mark.parametrize(
    ("said", "instant"),
    [
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00.000000Z"),
        ("2024-02-29T23:59:59.999999-00:00", "2024-02-29T23:59:59.999999Z"),
        ("2026-01-01T05:30:00+05:30", "2026-01-01T00:00:00.000000Z"),
        ("2025-12-31T23:59:59.1-23:59", "2026-01-01T23:58:59.100000Z"),
    ],
)
def test_instants_that_are_accepted(client: FlaskClient, said: str, instant: str) -> None:
    made = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, occurredAt=said))
    assert told(client, made.json)["occurredAt"] == instant
