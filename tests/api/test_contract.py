"""The original service's contract, to the letter: every endpoint, every outcome, every header."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.support import (
    DOE_DIAMOND,
    DOE_GOLD,
    JOHN_DIAMOND,
    JOHN_GOLD,
    MOVEMENTS,
    NO_WALLET,
    TREASURY_GOLD,
    assert_headers,
    assert_problem,
    books,
    is_instant,
    movement,
    new_reference,
)
from tests.keys import client_of
from wallet_app import service
from wallet_app.errors import OutcomeUnknownError, WalletBusyError
from wallet_app.money import AMOUNT_MAX

MOVEMENT_KEYS = {
    "ok",
    "idempotent",
    "walletId",
    "userId",
    "asset",
    "balance",
    "held",
    "version",
    "transactionId",
    "referenceId",
    "type",
    "amount",
    "balanceAfter",
    "seq",
    "createdAt",
}


def ok(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.get_data()
    assert answer.headers["Content-Type"] == "application/json"
    assert_headers(answer)
    body: dict[str, Any] = answer.get_json()
    assert body["ok"] is True
    return body


# --- movements ---


@pytest.mark.parametrize(("verb", "signed"), [("topup", 40), ("bonus", 40), ("spend", -40)])
def test_a_movement_answers_with_the_wallet_as_it_stands_and_the_transaction(
    client: FlaskClient, verb: str, signed: int
) -> None:
    reference = new_reference()
    answer = client.post(f"/wallets/{JOHN_GOLD}/{verb}", json=movement(40, reference, note="a note"))
    body = ok(answer)
    assert set(body) == MOVEMENT_KEYS
    assert body["idempotent"] is False
    assert body["walletId"] == JOHN_GOLD
    assert type(body["userId"]) is int
    assert body["asset"] == {"code": "GOLD", "name": "Gold Coins"}
    assert body["balance"] == body["balanceAfter"] == 500 + signed
    assert body["held"] == 0
    assert body["version"] == body["seq"] == 2
    assert body["referenceId"] == reference
    assert (body["type"], body["amount"]) == (verb.upper(), signed)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", body["transactionId"])
    assert is_instant(body["createdAt"])
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_a_retry_answers_the_first_transaction_and_the_current_balance(client: FlaskClient, verb: str) -> None:
    path, body = f"/wallets/{JOHN_GOLD}/{verb}", movement(40, note="once")
    first = ok(client.post(path, json=body))
    between = ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(7)))
    before = books()
    # A retry may word its note differently, and the original's clients send the amount as a string at times.
    again = client.post(path, json={**body, "amount": "40", "note": "in other words"})
    replay = ok(again)
    assert books() == before
    assert again.headers["Idempotent-Replayed"] == "true"
    assert replay["idempotent"] is True
    assert "unchanged" in replay["message"]
    assert set(replay) == MOVEMENT_KEYS | {"message"}
    for name in ("transactionId", "amount", "balanceAfter", "seq", "createdAt", "type", "referenceId"):
        assert replay[name] == first[name]
    assert (replay["balance"], replay["version"]) == (between["balance"], between["version"])


def test_amounts_may_be_strings_of_digits(shared: FlaskClient) -> None:
    assert ok(shared.post(f"/wallets/{JOHN_GOLD}/topup", json=movement("0012")))["amount"] == 12


def test_references_and_notes_are_trimmed(shared: FlaskClient) -> None:
    reference = new_reference()
    body = ok(
        shared.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, f" \t\u00a0{reference}\ufeff\r\n", note="  hi  "))
    )
    assert body["referenceId"] == reference
    assert ok(shared.get(f"/transactions/{body['transactionId']}"))["note"] == "hi"
    assert ok(shared.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, reference)))["idempotent"] is True


@pytest.mark.parametrize("note", [None, "", "   ", "x" * 500, " " * 50 + "x" * 500, "ÿ\u202e\U0001f995"])
def test_notes_that_are_accepted(shared: FlaskClient, note: str | None) -> None:
    body = ok(shared.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, note=note)))
    assert ok(shared.get(f"/transactions/{body['transactionId']}"))["note"] == ((note or "").strip() or None)


@pytest.mark.parametrize("reference", ["abc", "x" * 200, "a b", "ключ-1", "\U0001f995\U0001f995\U0001f995", "sys-1"])
def test_references_that_are_accepted(shared: FlaskClient, reference: str) -> None:
    assert ok(shared.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1, reference)))["referenceId"] == reference


@pytest.mark.parametrize(
    ("verb", "body", "fields"),
    [
        ("topup", {"amount": 11}, ["amount"]),
        ("bonus", {}, ["kind"]),
        ("spend", {"amount": 11}, ["kind", "amount"]),
    ],
)
def test_a_reference_that_stands_for_another_command_is_refused_with_the_fields_that_differ(
    shared: FlaskClient, verb: str, body: dict[str, int], fields: list[str]
) -> None:
    first = movement(10)
    ok(shared.post(f"/wallets/{JOHN_GOLD}/topup", json=first))
    before = books()
    answer = shared.post(f"/wallets/{JOHN_GOLD}/{verb}", json={**first, **body})
    problem = assert_problem(answer, 422, "reference_mismatch")
    assert problem["fields"] == fields
    assert problem["walletId"] == JOHN_GOLD
    assert books() == before


def test_references_count_per_wallet(client: FlaskClient) -> None:
    body = movement(10)
    assert ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=body))["idempotent"] is False
    assert ok(client.post(f"/wallets/{DOE_GOLD}/spend", json=body))["idempotent"] is False


def test_a_spend_above_the_balance_is_refused_with_what_was_seen_and_burns_nothing(client: FlaskClient) -> None:
    path, body = f"/wallets/{JOHN_GOLD}/spend", movement(501)
    before = books()
    problem = assert_problem(client.post(path, json=body), 409, "insufficient_balance")
    assert problem["error"] == "Insufficient balance"
    assert (problem["walletId"], problem["balance"], problem["required"], problem["version"]) == (
        JOHN_GOLD,
        500,
        501,
        1,
    )
    assert problem["detail"] == f"Wallet {JOHN_GOLD} has 500 GOLD, 501 needed."
    assert books() == before
    ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(1)))
    last_coin = ok(client.post(path, json=body))
    assert (last_coin["idempotent"], last_coin["balance"]) == (False, 0)


def test_an_empty_wallet_has_nothing_to_spend(shared: FlaskClient) -> None:
    problem = assert_problem(
        shared.post(f"/wallets/{DOE_DIAMOND}/spend", json=movement(1)), 409, "insufficient_balance"
    )
    assert (problem["balance"], problem["version"]) == (0, 0)


@pytest.mark.parametrize("verb", ["topup", "bonus"])
def test_a_balance_stops_at_the_largest_that_every_client_reads_exactly(client: FlaskClient, verb: str) -> None:
    path = f"/wallets/{JOHN_GOLD}/{verb}"
    before = books()
    problem = assert_problem(client.post(path, json=movement(AMOUNT_MAX - 499)), 409, "balance_above_bound")
    assert (problem["balance"], problem["bound"]) == (500, AMOUNT_MAX)
    assert books() == before
    assert ok(client.post(path, json=movement(AMOUNT_MAX - 500)))["balance"] == AMOUNT_MAX
    assert ok(client.get(f"/wallets/{JOHN_GOLD}/balance"))["balance"] == AMOUNT_MAX
    assert_problem(client.post(path, json=movement(1)), 409, "balance_above_bound")


@pytest.mark.parametrize("verb", MOVEMENTS)
@pytest.mark.parametrize("wallet", [NO_WALLET, 2**63 - 1, 2**63, 10**30])
def test_an_unknown_wallet_is_404_for_movements(shared: FlaskClient, verb: str, wallet: int) -> None:
    problem = assert_problem(shared.post(f"/wallets/{wallet}/{verb}", json=movement()), 404, "wallet_not_found")
    assert problem["error"] == "Wallet not found"


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_a_system_wallet_is_no_target(shared: FlaskClient, verb: str) -> None:
    before = books()
    assert_problem(shared.post(f"/wallets/{TREASURY_GOLD}/{verb}", json=movement()), 409, "system_wallet")
    assert books() == before


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_validation_names_every_wrong_field(shared: FlaskClient, verb: str) -> None:
    body = {"amount": -1, "referenceId": "x", "note": 7, "colour": "red"}
    problem = assert_problem(shared.post(f"/wallets/{JOHN_GOLD}/{verb}", json=body), 422, "validation_error")
    assert problem["error"] == "Validation error"
    assert {error["pointer"] for error in problem["errors"]} == {"/amount", "/referenceId", "/note", "/colour"}
    assert next(error for error in problem["errors"] if error["pointer"] == "/colour")["code"] == "unknown_field"


@pytest.mark.parametrize("verb", MOVEMENTS)
@pytest.mark.parametrize("missing", ["amount", "referenceId"])
def test_amount_and_reference_are_required(shared: FlaskClient, verb: str, missing: str) -> None:
    body = movement()
    del body[missing]
    problem = assert_problem(
        shared.post(f"/wallets/{JOHN_GOLD}/{verb}", json=body), 422, "validation_error", f"/{missing}"
    )
    assert problem["errors"][0]["code"] == "missing"


# --- Idempotency-Key ---


def keyed(client: FlaskClient, *keys: str, reference: str | None = None) -> Any:
    body: dict[str, object] = {"amount": 1}
    if reference is not None:
        body["referenceId"] = reference
    return client.post(f"/wallets/{JOHN_GOLD}/topup", json=body, headers=[("Idempotency-Key", key) for key in keys])


def test_the_header_raw_or_quoted_and_the_body_name_the_same_command(shared: FlaskClient) -> None:
    reference = new_reference()
    assert ok(keyed(shared, reference))["referenceId"] == reference
    assert ok(keyed(shared, f'"{reference}"'))["idempotent"] is True
    assert ok(keyed(shared, reference=reference))["idempotent"] is True
    assert ok(keyed(shared, reference, reference=reference))["idempotent"] is True
    assert ok(keyed(shared, f'"{reference}"', reference=f" {reference} "))["idempotent"] is True
    assert ok(keyed(shared, f'"{reference},2"'))["referenceId"] == f"{reference},2"


def test_a_header_that_differs_from_the_body_is_refused(shared: FlaskClient) -> None:
    before = books()
    problem = assert_problem(
        keyed(shared, new_reference(), reference=new_reference()), 422, "validation_error", "/referenceId"
    )
    assert problem["errors"][0]["code"] == "differs"
    assert books() == before


@pytest.mark.parametrize(
    "keys",
    [
        ("",),
        ('""',),
        ("  ",),
        ("ab",),
        ('"ab"',),
        ('"ab  "',),
        ("x" * 201,),
        ("x" * 10_000,),
        ('"abc',),
        ('abc"',),
        ('a"bc',),
        ("ab\\c",),
        ("schlüssel",),
        ("abc\x7f",),
        ("abc\tdef",),
        ("abc-1", "abc-1"),
        ("abc-1", "abc-2"),
        ('"abc-1"', '"abc-1"'),
        ("a,b-1",),
    ],
)
def test_a_malformed_or_repeated_header_is_400(shared: FlaskClient, keys: tuple[str, ...]) -> None:
    before = books()
    assert_problem(keyed(shared, *keys), 400, "bad_request")
    assert_problem(keyed(shared, *keys, reference="abc-1"), 400, "bad_request")
    assert books() == before


@pytest.mark.parametrize("reference", ["sys:1", "sys:expire:1", " sys:x"])
def test_references_of_the_service_are_not_for_callers(shared: FlaskClient, reference: str) -> None:
    for answer in (keyed(shared, reference=reference), keyed(shared, reference.strip())):
        problem = assert_problem(answer, 422, "validation_error", "/referenceId")
        assert problem["errors"][0]["code"] == "reserved"


# --- reads ---


NOTHING_EXPIRES = {"nextAt": None, "nextAmount": 0, "within7d": 0, "within30d": 0}


def test_a_wallet(client: FlaskClient) -> None:
    body = ok(client.get(f"/wallets/{JOHN_DIAMOND}"))
    assert is_instant(body.pop("createdAt"))
    assert is_instant(body.pop("updatedAt"))
    assert type(body.pop("userId")) is int
    assert body == {
        "ok": True,
        "walletId": JOHN_DIAMOND,
        "userName": "John",
        "userType": "USER",
        "asset": {"code": "DIAMOND", "name": "Diamonds"},
        "scale": 0,
        "status": "ACTIVE",
        "balance": 10,
        "held": 0,
        "available": 10,
        "bonus": 0,
        "paid": 10,
        "due": 0,
        "expiring": NOTHING_EXPIRES,
        "total": 10,
        "owed": 0,
        "version": 1,
    }


def test_a_balance(client: FlaskClient) -> None:
    body = ok(client.get(f"/wallets/{DOE_GOLD}/balance"))
    assert is_instant(body.pop("updatedAt"))
    assert type(body.pop("userId")) is int
    assert body == {
        "ok": True,
        "walletId": DOE_GOLD,
        "asset": {"code": "GOLD", "name": "Gold Coins"},
        "balance": 300,
        "held": 0,
        "available": 300,
        "bonus": 0,
        "paid": 300,
        "due": 0,
        "expiring": NOTHING_EXPIRES,
        "total": 300,
        "owed": 0,
        "version": 1,
    }


def test_the_seeded_wallets_are_the_originals(client: FlaskClient) -> None:
    seen = [ok(client.get(f"/wallets/{wallet}")) for wallet in range(1, 7)]
    assert [(wallet["userName"], wallet["asset"]["code"], wallet["balance"]) for wallet in seen] == [
        ("Treasury", "GOLD", -800),
        ("Treasury", "DIAMOND", -10),
        ("John", "GOLD", 500),
        ("John", "DIAMOND", 10),
        ("Doe", "GOLD", 300),
        ("Doe", "DIAMOND", 0),
    ]


def test_a_system_wallets_balance_is_the_other_side_of_all_movements(client: FlaskClient) -> None:
    ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(25)))
    body = ok(client.get(f"/wallets/{TREASURY_GOLD}/balance"))
    assert (body["balance"], body["total"], body["version"]) == (-825, -825, None)
    assert ok(client.get(f"/wallets/{TREASURY_GOLD}"))["userType"] == "SYSTEM"


def test_a_system_balance_beyond_what_every_client_reads_exactly_is_a_string(client: FlaskClient) -> None:
    for wallet in (JOHN_GOLD, DOE_GOLD):
        balance = ok(client.get(f"/wallets/{wallet}/balance"))["balance"]
        ok(client.post(f"/wallets/{wallet}/topup", json=movement(AMOUNT_MAX - balance)))
    assert ok(client.get(f"/wallets/{TREASURY_GOLD}/balance"))["balance"] == str(-2 * AMOUNT_MAX)


@pytest.mark.parametrize("path", ["", "/balance", "/entries"])
@pytest.mark.parametrize("wallet", [NO_WALLET, 2**63, 10**99])
def test_an_unknown_wallet_is_404_for_reads(shared: FlaskClient, path: str, wallet: int) -> None:
    problem = assert_problem(shared.get(f"/wallets/{wallet}{path}"), 404, "wallet_not_found")
    assert problem["error"] == "Wallet not found"


def test_a_transaction_with_its_entry_and_legs(client: FlaskClient) -> None:
    given = {"X-Request-Id": "caller:17"}
    posted = ok(client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(5, note="sword"), headers=given))
    body = ok(client.get(f"/transactions/{posted['transactionId'].upper()}"))
    assert body["transactionId"] == posted["transactionId"]
    assert (body["kind"], body["walletId"], body["referenceId"]) == ("SPEND", JOHN_GOLD, posted["referenceId"])
    assert (body["requestId"], body["note"], body["reverses"]) == ("caller:17", "sword", None)
    assert re.fullmatch(r"[0-9a-f]{64}", body["digest"])
    assert is_instant(body["occurredAt"])
    (entry,) = body["entries"]
    assert (entry["seq"], entry["amount"], entry["balanceAfter"]) == (2, -5, 495)
    assert re.fullmatch(r"[0-9a-f]{64}", entry["hash"])
    assert [(leg["walletId"], leg["asset"], leg["amount"]) for leg in body["legs"]] == [
        (JOHN_GOLD, "GOLD", -5),
        (entry["contraWalletId"], "GOLD", 5),
    ]
    contra = ok(client.get(f"/wallets/{entry['contraWalletId']}"))
    assert (contra["userName"], contra["balance"]) == ("Revenue", 5)


@pytest.mark.parametrize("given", ["00000000-0000-0000-0000-000000000000", "7", "not-a-uuid", "%00"])
def test_an_unknown_transaction_is_404(shared: FlaskClient, given: str) -> None:
    problem = assert_problem(shared.get(f"/transactions/{given}"), 404, "transaction_not_found")
    assert problem["error"] == "Transaction not found"


# --- entries ---


def walk(client: FlaskClient, wallet: int, limit: int, between: Any = None) -> list[dict[str, Any]]:
    """Read all pages of a wallet's entries, calling `between` before each next one."""
    entries: list[dict[str, Any]] = []
    query = f"limit={limit}"
    while True:
        page = ok(client.get(f"/wallets/{wallet}/entries?{query}"))
        assert len(page["entries"]) <= limit
        entries += page["entries"]
        assert len({entry["seq"] for entry in entries}) == len(entries)
        if "next" not in page:
            return entries
        assert len(page["entries"]) == limit
        query = f"limit={limit}&cursor={page['next']}"
        if between:
            between()


def test_entries_are_listed_newest_first_with_their_transactions(client: FlaskClient) -> None:
    posted = ok(client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(5, note="sword")))
    page = ok(client.get(f"/wallets/{JOHN_GOLD}/entries"))
    assert set(page) == {"ok", "walletId", "entries"}
    newest, oldest = page["entries"]
    assert newest["transactionId"] == posted["transactionId"]
    assert (newest["type"], newest["amount"], newest["seq"], newest["note"]) == ("SPEND", -5, 2, "sword")
    assert (oldest["type"], oldest["amount"], oldest["seq"], oldest["note"]) == ("SEED", 500, 1, None)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 100])
def test_pages_have_everything_once_while_entries_are_added(client: FlaskClient, limit: int) -> None:
    wallet, add = JOHN_GOLD, lambda: ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()))
    for _ in range(6):
        add()
    assert [entry["seq"] for entry in walk(client, wallet, limit, between=add)] == [7, 6, 5, 4, 3, 2, 1]
    whole = walk(client, wallet, 100)
    assert [entry["seq"] for entry in whole] == list(range(len(whole), 0, -1))
    assert [entry["balanceAfter"] for entry in whole] == list(range(499 + len(whole), 499, -1))


def test_pages_have_everything_once_while_others_post(client: FlaskClient) -> None:
    app, done = client.application, threading.Event()

    def post() -> None:
        other = client_of(app)
        while not done.is_set():
            ok(other.post(f"/wallets/{JOHN_GOLD}/bonus", json=movement()))

    for _ in range(20):
        ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()))
    writers = [threading.Thread(target=post) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        walks = [walk(client, JOHN_GOLD, 3) for _ in range(3)]
    finally:
        done.set()
        for writer in writers:
            writer.join()
    for entries in walks:
        assert [entry["seq"] for entry in entries] == list(range(entries[0]["seq"], 0, -1))


def test_a_wallet_without_entries_has_an_empty_page(client: FlaskClient) -> None:
    assert ok(client.get(f"/wallets/{DOE_DIAMOND}/entries")) == {"ok": True, "walletId": DOE_DIAMOND, "entries": []}


def test_the_default_page_has_fifty(client: FlaskClient) -> None:
    for _ in range(51):
        ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()))
    page = ok(client.get(f"/wallets/{JOHN_GOLD}/entries"))
    assert len(page["entries"]) == 50
    assert "next" in page


def test_a_cursor_belongs_to_its_wallet(client: FlaskClient) -> None:
    ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()))
    cursor = ok(client.get(f"/wallets/{JOHN_GOLD}/entries?limit=1"))["next"]
    assert_problem(client.get(f"/wallets/{DOE_GOLD}/entries?cursor={cursor}"), 400, "bad_cursor")
    assert ok(client.get(f"/wallets/{JOHN_GOLD}/entries?cursor={cursor}"))["entries"][0]["seq"] == 1


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: c + "=", lambda c: "B" + c[1:], lambda c: c[:-3] + "B=="]
)
def test_a_changed_cursor_is_400_or_another_page_never_an_error(client: FlaskClient, change: Any) -> None:
    ok(client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()))
    cursor = change(ok(client.get(f"/wallets/{JOHN_GOLD}/entries?limit=1"))["next"])
    answer = client.get(f"/wallets/{JOHN_GOLD}/entries?cursor={cursor}")
    if answer.status_code != 200:
        assert_problem(answer, 400, "bad_cursor")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.0", "1e1", "", "abc", "٣", "+5", " 5", "9" * 40, str(2**63)])
def test_a_limit_out_of_bounds_is_422(shared: FlaskClient, limit: str) -> None:
    answer = shared.get(f"/wallets/{JOHN_GOLD}/entries", query_string={"limit": limit})
    assert_problem(answer, 422, "validation_error", "/limit")


def test_a_system_wallets_entries_are_not_listed(shared: FlaskClient) -> None:
    assert_problem(shared.get(f"/wallets/{TREASURY_GOLD}/entries"), 409, "system_wallet_entries")


# --- the service as a whole ---


def test_health(shared: FlaskClient) -> None:
    body = ok(shared.get("/health"))
    assert is_instant(body.pop("time"))
    assert body == {"ok": True, "db_status": "connected"}


PATHS = [
    "/",
    "/nothing",
    "/wallet",
    "/wallets/",
    "/users/",
    "/users/2/",
    "/assets/GOLD",
    "/wallets/3/",
    "/wallets/3/refund",
    "/api/wallets/3",
    "/transaction",
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", [*PATHS, "/wallets//3", "/wallets/3//topup", "/health/", "/openapi.json/"])
def test_an_unknown_path_is_a_problem(shared: FlaskClient, method: str, path: str) -> None:
    assert_problem(shared.open(path, method=method), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(f"/wallets/3/{verb}", {"POST"}) for verb in MOVEMENTS]
    + [(path, {"GET", "HEAD", "POST"}) for path in ("/wallets", "/users")]
    + [
        (path, {"GET", "HEAD"})
        for path in (
            "/wallets/3",
            "/wallets/3/balance",
            "/wallets/3/entries",
            "/transactions/7",
            "/users/2",
            "/assets",
            "/health",
            "/docs",
        )
    ],
)
def test_an_unknown_method_is_a_problem_that_says_what_is_possible(
    shared: FlaskClient, path: str, allowed: set[str]
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - allowed:
        answer = shared.open(path, method=method)
        body = assert_problem(answer, 405, "method_not_allowed")
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed | {"OPTIONS"}
        assert method in body["detail"]


def test_options_answers_without_a_body(shared: FlaskClient) -> None:
    answer = shared.options("/wallets/3/topup")
    assert (answer.status_code, answer.get_data()) == (200, b"")
    assert_headers(answer)


def test_head_answers_like_get_without_its_body(shared: FlaskClient) -> None:
    answer = shared.head("/wallets/3")
    assert (answer.status_code, answer.get_data()) == (200, b"")
    assert_headers(answer)


@pytest.mark.parametrize("verb", MOVEMENTS)
@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_body_of_another_type_is_415(shared: FlaskClient, verb: str, content_type: str | None) -> None:
    answer = shared.post(f"/wallets/3/{verb}", data=b'{"amount": 1, "referenceId": "abc"}', content_type=content_type)
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_is_taken_under_each_of_its_names(client: FlaskClient, content_type: str) -> None:
    data = b'{"amount": 1, "referenceId": "abc"}'
    assert ok(client.post("/wallets/3/topup", data=data, content_type=content_type))


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_json_is_taken_where_it_is_said_not_to_be_packed(client: FlaskClient, coding: str) -> None:
    body = {"amount": 1, "referenceId": "abc"}
    assert ok(client.post("/wallets/3/topup", json=body, headers={"Content-Encoding": coding}))


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_a_body_above_64_kib_is_413_and_one_at_the_bound_is_read(client: FlaskClient, verb: str) -> None:
    data = b'{"amount": 1, "referenceId": "abc"}'
    path = f"/wallets/{JOHN_GOLD}/{verb}"
    assert_problem(
        client.post(path, data=data.ljust(64 * 1024 + 1), content_type="application/json"),
        413,
        "request_entity_too_large",
    )
    assert ok(client.post(path, data=data.ljust(64 * 1024), content_type="application/json"))


@pytest.mark.parametrize(
    "path",
    [
        "/wallets/3", "/wallets/3/balance", "/wallets/3/entries", "/transactions/7", "/wallets", "/users", "/users/2",
        "/assets",
    ],
)  # fmt: skip
def test_an_unknown_parameter_is_422(shared: FlaskClient, path: str) -> None:
    assert_problem(shared.get(f"{path}?colour=red"), 422, "validation_error", "/colour")


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_movements_take_no_parameters(shared: FlaskClient, verb: str) -> None:
    assert_problem(shared.post(f"/wallets/3/{verb}?amount=1", json=movement()), 422, "validation_error", "/amount")


@pytest.mark.parametrize("query", ["limit=1&limit=1", "limit=1&limit=2", "cursor=a&cursor=a"])
def test_a_parameter_that_comes_twice_is_422(shared: FlaskClient, query: str) -> None:
    pointer = "/" + query.split("=")[0]
    assert_problem(shared.get(f"/wallets/3/entries?{query}"), 422, "validation_error", pointer)


def test_the_callers_request_id_is_kept_where_it_is_well_formed(shared: FlaskClient) -> None:
    for path in ("/wallets/3", "/nothing"):
        assert shared.get(path, headers={"X-Request-Id": "a-1.B:2_c"}).headers["X-Request-Id"] == "a-1.B:2_c"
        for wrong in ("", "a b", "x" * 65, "é", '"', "a,b"):
            made = shared.get(path, headers={"X-Request-Id": wrong}).headers["X-Request-Id"]
            assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_a_fault_of_ours_is_a_500_that_tells_nothing_of_it(
    shared: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT secret FROM inside.py")

    names = (
        "get_wallet", "list_entries", "get_transaction", "execute", "list_wallets", "create_wallet", "get_user",
        "find_users", "create_user", "list_assets",
    )  # fmt: skip
    for name in names:
        monkeypatch.setattr(service, name, fail)
    answers = [
        shared.get("/wallets/3"),
        shared.get("/wallets/3/balance"),
        shared.get("/wallets/3/entries"),
        shared.get("/transactions/00000000-0000-0000-0000-000000000000"),
        *(shared.post(f"/wallets/3/{verb}", json=movement()) for verb in MOVEMENTS),
        *(shared.get(path) for path in ("/wallets", "/users?externalId=a", "/users/2", "/assets")),
        shared.post("/users", json={"name": "Ada", "externalId": "a"}),
        shared.post("/wallets", json={"userId": 2, "asset": "GOLD"}),
    ]
    assert len(answers) == len(names) - 1 + len(MOVEMENTS) + 1
    for answer in answers:
        body = assert_problem(answer, 500, "internal_error")
        assert "secret" not in answer.get_data().decode()
        assert body["requestId"] in body["detail"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(WalletBusyError("Busy."), "wallet_busy"), (OutcomeUnknownError("Who knows."), "outcome_unknown")],
)
def test_what_cannot_be_told_now_is_503_with_retry_after(
    shared: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(service, "execute", refuse)
    answer = shared.post("/wallets/3/topup", json=movement())
    assert_problem(answer, 503, code)
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", ["/wallets/3", "/wallets/999", "/wallets/x", "/nowhere", "/openapi.json"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_no_header_comes_twice(shared: FlaskClient, method: str, path: str) -> None:
    response = shared.open(path, method=method)
    names = [name.lower() for name, _ in response.headers]
    assert sorted(names) == sorted(set(names))
    assert response.content_length is not None
    assert response.content_length == len(response.data) or method == "HEAD"
