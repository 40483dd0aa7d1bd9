"""If-Match and ifVersion: a command is done on the version that its caller read, or not at all."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.every_command import OF_ANOTHER, OF_NO_ENTRY, RECORDS, REQUESTS, record_of, request_of
from tests.api.support import (
    DOE_GOLD,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_problem,
    books,
    movement,
    new_reference,
)
from tests.keys import client_of
from wallet_app import service
from wallet_app.service import Origin

pytestmark = pytest.mark.wide

ORIGIN = Origin(client="tests", actor="tests")


def tag_of(client: FlaskClient, wallet: int = JOHN_GOLD) -> str:
    tag: str = client.get(f"/wallets/{wallet}").headers["ETag"]
    return tag


def spend(client: FlaskClient, if_match: str | bytes, **more: Any) -> Any:
    return client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(**more), headers={"If-Match": if_match})


def test_reads_and_commands_tell_the_version_as_a_tag(client: FlaskClient) -> None:
    for path in (f"/wallets/{JOHN_GOLD}", f"/wallets/{JOHN_GOLD}/balance"):
        assert client.get(path).headers["ETag"] == '"1"'
    body = movement()
    first = client.post(f"/wallets/{JOHN_GOLD}/topup", json=body)
    assert first.headers["ETag"] == '"2"' == tag_of(client)
    client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement())
    replayed = client.post(f"/wallets/{JOHN_GOLD}/topup", json=body)
    assert replayed.headers["ETag"] == '"3"', "it is the wallet's as it stands now, and so is the balance"
    for path in (f"/wallets/{TREASURY_GOLD}", f"/wallets/{TREASURY_GOLD}/balance", "/wallets"):
        assert "ETag" not in client.get(path).headers


@pytest.mark.parametrize("operation", sorted(REQUESTS.keys() - OF_ANOTHER))
def test_every_command_is_done_on_the_version_that_was_read_and_on_no_other(
    client: FlaskClient, operation: str
) -> None:
    path, body = request_of(client, operation)
    tag = tag_of(client)
    client.post(f"/wallets/{JOHN_GOLD}/bonus", json=movement())
    before, now = books(), tag_of(client)
    refused = assert_problem(client.post(path, json=body, headers={"If-Match": tag}), 412, "version_mismatch")
    read = client.get(f"/wallets/{JOHN_GOLD}").json
    assert (refused["walletId"], refused["version"], refused["balance"]) == (
        JOHN_GOLD,
        read["version"],
        read["balance"],
    )
    assert books() == before
    done = client.post(path, json=body, headers={"If-Match": now})
    assert done.status_code in {200, 201}, done.json
    assert done.headers["ETag"] == tag_of(client)
    assert (done.headers["ETag"] == now) == (operation in OF_NO_ENTRY), "what moves nothing leaves the version"


def test_a_wallet_is_closed_on_the_version_that_was_read_and_on_no_other(client: FlaskClient) -> None:
    path, body = request_of(client, "closeWallet")
    refused = assert_problem(client.post(path, json=body, headers={"If-Match": '"1"'}), 412, "version_mismatch")
    assert refused["version"] == 0
    for idempotent in (False, True):
        done = client.post(path, json=body, headers={"If-Match": '"0"'})
        assert (done.status_code, done.json["idempotent"], done.headers["ETag"]) == (200, idempotent, '"0"')
    assert_problem(client.post(path, json=body | {"referenceId": "x-1"}, headers={"If-Match": '"1"'}), 412,
                   "version_mismatch")  # fmt: skip


@pytest.mark.parametrize("operation", sorted(REQUESTS.keys() - OF_ANOTHER))
def test_a_retry_is_answered_whatever_version_it_names(client: FlaskClient, operation: str) -> None:
    path, body = request_of(client, operation)
    headers = {"If-Match": tag_of(client)}
    first = client.post(path, json=body, headers=headers)
    again = client.post(path, json=body, headers=headers)
    assert (again.status_code, again.json["idempotent"]) == (200, True)
    assert again.json["transactionId"] == first.json["transactionId"]
    assert again.headers["ETag"] == tag_of(client)


def test_another_command_under_the_reference_is_told_so_first(client: FlaskClient) -> None:
    reference = new_reference()
    spend(client, '"1"', reference=reference)
    assert_problem(spend(client, '"1"', reference=reference, amount=2), 422, "reference_mismatch")


@pytest.mark.parametrize("kind", sorted(RECORDS.keys() - OF_ANOTHER))
@pytest.mark.parametrize("form", ["each", "atomic", "lines"])
def test_every_record_is_done_on_its_version_and_on_no_other(client: FlaskClient, kind: str, form: str) -> None:
    record = record_of(client, kind)
    version = client.get(f"/wallets/{JOHN_GOLD}").json["version"]
    before = books()
    status, body = post_one(client, form, {**record, "ifVersion": version - 1})
    assert (status, body["code"]) == (412, "version_mismatch")
    assert books() == before
    status, body = post_one(client, form, {**record, "ifVersion": str(version)})
    assert status in {200, 201}, body
    status, body = post_one(client, form, {**record, "ifVersion": version})
    assert (status, body["idempotent"]) == (200, True)


def post_one(client: FlaskClient, form: str, record: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return what the record is answered with, as a batch of one or as a line."""
    if form == "lines":
        answer = client.post("/batches", data=json.dumps(record), content_type="application/x-ndjson")
        line = json.loads(answer.get_data())
        return line["status"], line["body"]
    answer = client.post("/batches", json={"mode": form, "items": [record]})
    if answer.status_code == 200:
        (item,) = answer.json["items"]
        return item["status"], item["body"]
    return answer.status_code, answer.json


def test_items_of_a_batch_see_the_versions_that_earlier_ones_made(client: FlaskClient) -> None:
    items = [
        {"type": "spend", "walletId": JOHN_GOLD, "amount": 1, "referenceId": new_reference(), "ifVersion": version}
        for version in (1, 1, 2, 3)
    ]
    answer = client.post("/batches", json={"mode": "each", "items": items}).json
    assert [item["status"] for item in answer["items"]] == [200, 412, 200, 200]
    before = books()
    again = [{**item, "referenceId": new_reference(), "ifVersion": 4} for item in items[:2]]
    refused = client.post("/batches", json={"mode": "atomic", "items": again})
    assert assert_problem(refused, 412, "version_mismatch")["index"] == 1
    assert books() == before


@pytest.mark.parametrize("given", ['"1"', ' "1" ', '"0", "1"', '"0" ,\t"1"', 'W/"9","1"', '"x","1",,"y"', "*"])
def test_it_is_met_by_the_version_by_a_list_with_it_and_by_a_star(client: FlaskClient, given: str) -> None:
    assert spend(client, given).status_code == 200


@pytest.mark.parametrize(
    "given", ['"0"', '"2"', 'W/"1"', '"01"', '"+1"', '"1.0"', '""', '"abc"', '"1,"', '"0","2"', f'"{"9" * 40}"']
)
def test_it_is_not_met_by_anything_else(client: FlaskClient, given: str) -> None:
    before = books()
    assert_problem(spend(client, given), 412, "version_mismatch")
    assert books() == before


MALFORMED = [
    "",
    "1",
    '"1',
    '1"',
    '"1" "2"',
    '"1";"2"',
    '* , "1"',
    "**",
    '"1", *',
    'w/"1"',
    '"\xff"',
    "W/1",
    ",",
    '"a b"',
]


@pytest.mark.parametrize("given", MALFORMED)
@pytest.mark.parametrize("operation", ["spend", "transfer", "placeHold"])
def test_what_is_no_tag_is_refused(client: FlaskClient, operation: str, given: str) -> None:
    path, body = request_of(client, operation)
    before = books()
    assert_problem(client.post(path, json=body, headers={"If-Match": given}), 400, "bad_request")
    assert books() == before


@pytest.mark.parametrize(
    "given", ["null", "true", "-1", "1.0", '"one"', '""', '"-1"', "[1]", str(2**53), '" 1"', '"1e0"']
)
def test_what_is_no_version_is_refused(client: FlaskClient, given: str) -> None:
    record = {"type": "spend", "walletId": JOHN_GOLD, "amount": 1, "referenceId": new_reference()}
    data = f'{{"mode": "each", "items": [{json.dumps(record)[:-1]}, "ifVersion": {given}}}]}}'
    (item,) = client.post("/batches", data=data, content_type="application/json").json["items"]
    assert (item["status"], item["body"]["errors"][0]["pointer"]) == (422, "/ifVersion")


def test_a_star_needs_a_wallet(client: FlaskClient) -> None:
    answer = client.post(f"/wallets/{NO_WALLET}/topup", json=movement(), headers={"If-Match": "*"})
    assert_problem(answer, 404, "wallet_not_found")


def test_a_condition_is_never_ignored(client: FlaskClient) -> None:
    headers = {"If-Match": '"1"'}
    for path, body in (
        ("/batches", {"mode": "each", "items": [{"type": "topup", "walletId": JOHN_GOLD, **movement()}]}),
        ("/users", {"name": "Ada", "externalId": "ada"}),
        ("/wallets", {"userId": 2, "asset": "GOLD"}),
    ):
        assert_problem(client.post(path, json=body, headers=headers), 422, "validation_error", "/If-Match")
    lines = client.post("/batches", data=b"{}", content_type="application/x-ndjson", headers=headers)
    assert_problem(lines, 422, "validation_error", "/If-Match")


def test_what_was_read_while_a_hold_is_due_can_be_acted_on(client: FlaskClient) -> None:
    """A read counts what is due without settling it: so the version that it tells is the one before the settlement."""
    held = client.post("/holds", json={"walletId": JOHN_GOLD, "amount": 400, "expiresIn": 1, "referenceId": "due"}).json
    while client.get(f"/holds/{held['hold']['holdId']}").json["state"] != "expired":
        time.sleep(0.05)
    read = client.get(f"/wallets/{JOHN_GOLD}")
    assert (read.json["balance"], read.json["available"], read.headers["ETag"]) == (100, 500, '"2"')
    before = books()
    assert_problem(spend(client, '"1"', amount=500), 412, "version_mismatch")
    assert books() == before, "it is compared before anything is settled"
    done = spend(client, read.headers["ETag"], amount=500)
    assert (done.status_code, done.json["balance"], done.headers["ETag"]) == (200, 0, '"4"')
    assert_problem(spend(client, '"2"'), 412, "version_mismatch")


@pytest.mark.parametrize("pair", [0, 1])
def test_of_two_writers_with_the_same_version_exactly_one_wins(app: Flask, pair: int) -> None:
    """100 times, one of them over HTTP on the wallet that gives, the other one on the same or by way of a batch."""
    barrier = threading.Barrier(2)
    version = [0]
    found = [[0, 0] for _ in range(100)]

    def write(side: int) -> None:
        client = client_of(app)
        for turn in range(100):
            barrier.wait()
            if side == 0:
                version[0] = client.get(f"/wallets/{DOE_GOLD}").json["version"]
            barrier.wait()
            if side == 0 or pair == 0:
                answer = client.post(
                    f"/wallets/{DOE_GOLD}/spend", json=movement(), headers={"If-Match": f'"{version[0]}"'}
                )
                found[turn][side] = answer.status_code
            else:
                record = {"type": "transfer", "from": DOE_GOLD, "to": JOHN_GOLD, "amount": 1}
                found[turn][side] = post_one(
                    client, "each", {**record, "referenceId": new_reference(), "ifVersion": version[0]}
                )[0]

    threads = [threading.Thread(target=write, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [tuple(sorted(both)) for both in found]
    assert outcomes == [(200, 412)] * 100
    with app.app_context():
        assert service.get_wallet(DOE_GOLD).balance == 200
