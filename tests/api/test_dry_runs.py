"""?dryRun=true on every write: the answer that it would have had, the same refusals, and not a trace of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.engine import URL

from tests.api.every_command import OF_ANOTHER, RECORDS, REQUESTS, is_command, record_of, request_of
from tests.api.support import DOE_GOLD, JOHN_GOLD, NO_WALLET, assert_headers, assert_problem, movement, new_reference
from tests.conftest import run_sql
from tests.keys import client_of
from wallet_app.api.operations import OPERATIONS
from wallet_app.db import db
from wallet_app.service import By, Gate, KeySettings, dry_run

pytestmark = pytest.mark.wide

WRITES = [operation for operation in OPERATIONS if operation.method != "GET"]
WITHOUT = {"createKey", "rotateKey", "revokeKey", "createToken", "liftSwitch"}
"""They hand out secrets, where what would be answered is the secret itself, or are answered with nothing."""

Make = Callable[[FlaskClient], tuple[str, dict[str, Any] | None]]


def _batch(mode: str) -> Make:
    return lambda client: (
        "/batches",
        {"mode": mode, "items": [record_of(client, kind) for kind in RECORDS]},
    )


OTHERS: dict[str, Make] = {
    "createUser": lambda _: ("/users", {"name": "Ada", "externalId": new_reference()}),
    "createWallet": lambda client: ("/wallets", {"userId": _new_user(client), "asset": "GOLD"}),
    "postBatch": _batch("each"),
    "createKey": lambda _: ("/keys", {"client": "shop", "scopes": ["wallets:read"]}),
    "rotateKey": lambda _: ("/keys/k3f6m2q7zt5a/rotate", None),
    "revokeKey": lambda _: ("/keys/k3f6m2q7zt5a", None),
    "createToken": lambda _: ("/users/2/tokens", {"scopes": ["wallets:read"]}),
    "setSwitch": lambda _: ("/switches", {"target": "everything", "side": "both", "reason": new_reference()}),
    "liftSwitch": lambda _: ("/switches/7?reason=over", None),
}
ANSWERED = [*REQUESTS, "createUser", "createWallet", "postBatch", "setSwitch"]


def _new_user(client: FlaskClient) -> int:
    user: int = client.post("/users", json={"name": "Ada", "externalId": new_reference()}).json["userId"]
    return user


def request_for(client: FlaskClient, operation: str) -> tuple[str, dict[str, Any] | None]:
    return request_of(client, operation) if operation in REQUESTS else OTHERS[operation](client)


def everything() -> list[object]:
    """Return all that the database holds, to the place and the version of each row, and where its sequences stand."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    with db.engine.connect() as connection:
        names = [name for (name,) in connection.execute(text(tables)) if name not in {"heartbeats", "api_key_uses"}]
        found: list[object] = [
            connection.execute(text(f'SELECT ctid, xmin, xmax, "{name}"::text FROM "{name}" ORDER BY 1')).all()
            for name in names
            if not name.startswith("api_keys")
        ]
        return [*found, connection.execute(text("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")).all()]


def compared(value: Any) -> Any:
    """Return an answer without what only a posting gives, or the clock: ids and instants."""
    if isinstance(value, dict):
        varying = {
            "transactionId",
            "holdId",
            "createdAt",
            "expiresAt",
            "endedAt",
            "updatedAt",
            "dryRun",
            "requestId",
            "setAt",
        }
        return {name: compared(one) for name, one in value.items() if name not in varying}
    return [compared(one) for one in value] if isinstance(value, list) else value


def test_every_write_has_a_dry_run_or_says_that_it_has_none() -> None:
    assert {one.operation_id for one in WRITES} == {*REQUESTS, *OTHERS}
    assert {one.operation_id for one in WRITES if not one.dry_run} == WITHOUT
    assert {one.operation_id for one in OPERATIONS if one.dry_run} == set(ANSWERED)
    assert all(one.dry_run for one in OPERATIONS if is_command(one))


@pytest.mark.parametrize("operation", ANSWERED)
def test_it_answers_what_the_request_then_answers_and_changes_nothing(client: FlaskClient, operation: str) -> None:
    path, body = request_for(client, operation)
    before = everything()
    dry = client.post(f"{path}?dryRun=true", json=body)
    again = client.post(f"{path}?dryRun=true", json=body)
    assert everything() == before
    assert dry.json["dryRun"] is True
    assert compared(again.json) == compared(dry.json), "no reference is burnt"
    assert not {"ETag", "Location", "Idempotent-Replayed"} & set(dry.headers.keys())
    assert_headers(dry)
    done = client.post(f"{path}?dryRun=false", json=body)
    answer = done.json
    assert "dryRun" not in answer
    if operation in {"createUser", "createWallet", "setSwitch"}:
        (made,) = {name for name, value in dry.json.items() if value is None and answer[name] is not None}
        assert type(answer[made]) is int
        answer[made] = None
    assert (dry.status_code, compared(dry.json)) == (done.status_code, compared(answer))


@pytest.mark.parametrize("operation", REQUESTS)
def test_what_would_be_made_has_no_id_yet_and_a_replay_has_its_own(client: FlaskClient, operation: str) -> None:
    path, body = request_for(client, operation)
    dry = client.post(f"{path}?dryRun=true", json=body).json
    assert dry["transactionId"] is None
    assert dry["idempotent"] is False
    if operation == "placeHold":
        assert dry["hold"]["holdId"] is None
    done = client.post(path, json=body).json
    before = everything()
    replay = client.post(f"{path}?dryRun=true", json=body)
    assert (replay.status_code, replay.json["idempotent"], replay.json["dryRun"]) == (200, True, True)
    assert replay.json["transactionId"] == done["transactionId"]
    assert everything() == before


@pytest.mark.parametrize("operation", REQUESTS)
def test_it_refuses_what_the_request_refuses_in_the_same_words(client: FlaskClient, operation: str) -> None:
    path, body = request_for(client, operation)
    first = ("/wallets/3/bonus", movement(3))
    if operation in OF_ANOTHER:
        first = (path.replace("/close", "/freeze"), {"side": "both", "reason": "x", "referenceId": new_reference()})
    used = {**body, "referenceId": client.post(first[0], json=first[1]).json["referenceId"]}
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        (used, {}),
        ({**body, "colour": "red"}, {}),
        (body, {"If-Match": '"99"'}),
        (body, {"If-Match": "99"}),
        (body, {"Authorization": "Bearer nonsense"}),
    ]
    if "amount" in body and operation != "captureHold":
        cases.append(({**body, "amount": 2**53 - 1}, {}))
    for case, headers in cases:
        before = everything()
        dry = client.post(f"{path}?dryRun=true", json=case, headers=headers)
        assert everything() == before
        real = client.post(path, json=case, headers=headers)
        assert real.status_code >= 400
        assert dry.status_code == real.status_code
        assert {**dry.json, "requestId": 0} == {**real.json, "requestId": 0}
        assert_problem(dry, real.status_code, real.json["code"])


def test_a_condition_that_is_met_is_met_in_a_dry_run(client: FlaskClient) -> None:
    tag = client.get(f"/wallets/{JOHN_GOLD}").headers["ETag"]
    dry = client.post(f"/wallets/{JOHN_GOLD}/spend?dryRun=true", json=movement(), headers={"If-Match": tag})
    assert (dry.status_code, dry.json["version"]) == (200, 2)


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_items_of_a_batch_count_for_those_after_them(client: FlaskClient, mode: str) -> None:
    once = {"type": "spend", "walletId": JOHN_GOLD, "amount": 300, "referenceId": new_reference()}
    items = [once, once, {**once, "referenceId": new_reference()}]
    before = everything()
    dry = client.post("/batches?dryRun=true", json={"mode": mode, "items": items})
    assert everything() == before
    if mode == "atomic":
        assert assert_problem(dry, 409, "insufficient_balance")["index"] == 2
    else:
        assert (dry.json["done"], dry.json["replayed"], dry.json["refused"], dry.json["dryRun"]) == (1, 1, 1, True)
        assert [item["body"].get("dryRun") for item in dry.json["items"]] == [True, True, None]
        assert dry.json["items"][2]["body"]["balance"] == 200
    real = client.post("/batches", json={"mode": mode, "items": items})
    assert (dry.status_code, compared(dry.json)) == (real.status_code, compared(real.json))


@pytest.mark.parametrize("mode", ["each", "atomic"])
def test_a_batch_of_a_thousand(client: FlaskClient, mode: str) -> None:
    items = [
        {"type": "topup", "walletId": DOE_GOLD, "amount": 1, "referenceId": f"dry-{number}"} for number in range(1_000)
    ]
    answer = client.post("/batches?dryRun=true", json={"mode": mode, "items": items}).json
    assert (answer["done"], answer["items"][-1]["body"]["balance"]) == (1_000, 1_300)
    assert client.get(f"/wallets/{DOE_GOLD}").json["balance"] == 300


@pytest.mark.parametrize("operation", sorted(WITHOUT))
def test_what_hands_out_secrets_says_that_it_has_none(client: FlaskClient, operation: str) -> None:
    path, body = request_for(client, operation)
    method = next(one.method for one in WRITES if one.operation_id == operation)
    before = everything()
    for given in ("true", "false"):
        query = f"{'&' if '?' in path else '?'}dryRun={given}"
        answer = client.open(f"{path}{query}", method=method, **({} if body is None else {"json": body}))
        problem = assert_problem(answer, 422, "validation_error", "/dryRun")
        assert problem["errors"][0]["code"] == "unknown_parameter"
    assert everything() == before


def test_lines_have_none(client: FlaskClient) -> None:
    line = b'{"type": "topup", "walletId": 3, "amount": 1, "referenceId": "line-1"}'
    dry = client.post("/batches?dryRun=true", data=line, content_type="application/x-ndjson")
    problem = assert_problem(dry, 422, "validation_error", "/dryRun")
    assert "import --dry-run" in problem["detail"]
    assert client.get(f"/wallets/{JOHN_GOLD}").json["balance"] == 500
    done = client.post("/batches?dryRun=false", data=line, content_type="application/x-ndjson")
    assert done.status_code == 200
    assert client.get(f"/wallets/{JOHN_GOLD}").json["balance"] == 501


@pytest.mark.parametrize("operation", ANSWERED)
@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("dryRun=", "/dryRun"),
        ("dryRun=1", "/dryRun"),
        ("dryRun=True", "/dryRun"),
        ("dryRun=yes", "/dryRun"),
        ("dryRun=true%20", "/dryRun"),
        ("dryRun=true&dryRun=true", "/dryRun"),
        ("dryrun=true", "/dryrun"),
        ("dry_run=true", "/dry_run"),
        ("dryRun=true&colour=red", "/colour"),
    ],
)
def test_what_is_neither_true_nor_false_is_refused(
    client: FlaskClient, operation: str, query: str, pointer: str
) -> None:
    path, body = request_for(client, operation)
    before = everything()
    assert_problem(client.post(f"{path}?{query}", json=body), 422, "validation_error", pointer)
    assert everything() == before


def test_reads_have_none(client: FlaskClient) -> None:
    for operation in OPERATIONS:
        if operation.method == "GET":
            path = re.sub(r"\{\w+\}", "3", operation.path)
            assert_problem(client.get(f"{path}?dryRun=true"), 422, "validation_error", "/dryRun")


def test_it_needs_the_rights_that_the_request_needs(client: FlaskClient, app: Flask) -> None:
    gate: Gate = app.extensions["wallet_gate"]
    settings = KeySettings(scopes=["wallets:topup"], amount_max=10, assets=["GOLD"])
    made = gate.create_key(client="small", settings=settings, by=By(actor="tests"))
    headers = {"Authorization": f"Bearer {made.text}"}

    def dry(path: str, amount: int) -> Any:
        return client.post(f"{path}?dryRun=true", json=movement(amount), headers=headers)

    assert dry("/wallets/3/topup", 10).status_code == 200
    assert_problem(dry("/wallets/3/topup", 11), 403, "amount_not_allowed")
    assert_problem(dry("/wallets/4/topup", 1), 403, "asset_not_allowed")
    assert_problem(dry("/wallets/3/spend", 1), 403, "forbidden")
    # What is forbidden is told before the books are asked about any item.
    items = [record_of(client, "topup") | more for more in ({"amount": 1, "walletId": NO_WALLET}, {"amount": 11})]
    batch = {"mode": "atomic", "items": items}
    refused = [client.post(f"/batches{query}", json=batch, headers=headers) for query in ("", "?dryRun=true")]
    assert [(answer.status_code, answer.json["index"]) for answer in refused] == [(403, 1)] * 2


def test_a_wallet_that_others_hold_keeps_no_dry_run_waiting(client: FlaskClient) -> None:
    with db.engine.connect() as holder:
        holder.execute(text("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE"))
        assert client.post("/wallets/3/spend?dryRun=true", json=movement(500)).status_code == 200


def test_only_a_few_go_on_at_once(client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "REQUEST_SECONDS_MAX", 0.05)
    for _ in range(dry_run.RUNS_MAX):
        dry_run._turns.acquire()
    try:
        assert_problem(client.post("/wallets/3/spend?dryRun=true", json=movement()), 503, "overloaded")
        assert client.post("/wallets/3/spend", json=movement()).status_code == 200
    finally:
        dry_run._turns.release(dry_run.RUNS_MAX)
    running, most = [0], [0]
    original = dry_run._ask

    def ask(commands: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return original(commands)
        finally:
            running[0] -= 1

    monkeypatch.setattr(dry_run, "REQUEST_SECONDS_MAX", 10)
    monkeypatch.setattr(dry_run, "_ask", ask)
    statuses: list[int] = []

    def run() -> None:
        statuses.append(client_of(app).post("/wallets/3/spend?dryRun=true", json=movement(499)).status_code)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 16
    assert most[0] <= dry_run.RUNS_MAX


def test_a_dead_connection_is_replaced(client: FlaskClient, database: URL) -> None:
    assert client.post("/wallets/3/spend?dryRun=true", json=movement()).status_code == 200
    run_sql(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    assert client.post("/wallets/3/spend?dryRun=true", json=movement()).status_code == 200


def test_an_unknown_wallet_and_an_unknown_user(client: FlaskClient) -> None:
    assert_problem(client.post(f"/wallets/{NO_WALLET}/spend?dryRun=true", json=movement()), 404, "wallet_not_found")
    unknown = {"userId": 999_999, "asset": "GOLD"}
    assert_problem(client.post("/wallets?dryRun=true", json=unknown), 404, "user_not_found")
    unknown = {"userId": 2, "asset": "SILVER"}
    assert_problem(client.post("/wallets?dryRun=true", json=unknown), 404, "asset_not_found")


def test_users_and_wallets_that_are_there_are_answered_as_such(client: FlaskClient) -> None:
    user = client.post("/users?dryRun=true", json={"name": "John", "externalId": "demo:John"})
    assert (user.status_code, user.json["userId"], user.json["dryRun"]) == (200, 2, True)
    other = client.post("/users?dryRun=true", json={"name": "Jim", "externalId": "demo:John"})
    assert_problem(other, 409, "external_id_taken")
    wallet = client.post("/wallets?dryRun=true", json={"userId": 2, "asset": "GOLD"})
    assert (wallet.status_code, wallet.json["walletId"], wallet.json["dryRun"]) == (200, JOHN_GOLD, True)
