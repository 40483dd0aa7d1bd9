"""What a key may do beside its scopes, who is told what, and that a key leaves no trace of its secret."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL
from structlog.testing import CapturingLogger

from tests.api.support import DOE_DIAMOND, JOHN_DIAMOND, JOHN_GOLD, assert_problem, books, movement, new_reference
from tests.conftest import conninfo
from tests.keys import VAULT, client_of
from wallet_app import access, service
from wallet_app.service import SCOPES, By, KeySettings

BY = By(actor="operator:ann", reason="asked for", ticket="T-1")
MakeKey = Callable[..., service.MadeKey]


@pytest.fixture
def make(app: Flask) -> MakeKey:
    """Make a key of the client `shop` with every scope and these limits."""

    def make_key(client: str = "shop", **settings: Any) -> service.MadeKey:
        settings = {"scopes": tuple(SCOPES)} | settings
        return access.gate_of(app).create_key(client=client, settings=KeySettings(**settings), by=BY)

    return make_key


def rows(url: URL, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo(url)) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def ways(client: FlaskClient, wallet: int, body: dict[str, Any], kind: str = "topup") -> dict[str, Any]:
    """Ask for a movement alone and in every kind of batch; return each answer as status and body."""
    item = {"type": kind, "walletId": wallet, **body}
    alone = client.post(f"/wallets/{wallet}/{kind}", json=body)
    each = client.post("/batches", json={"mode": "each", "items": [item]}).json["items"][0]
    atomic = client.post("/batches", json={"mode": "atomic", "items": [item]})
    line = client.post("/batches", data=f"{json.dumps(item)}\n", content_type="application/x-ndjson").get_data()
    line = json.loads(line)
    found = {
        "alone": (alone.status_code, alone.json),
        "each": (each["status"], each["body"]),
        "line": (line["status"], line["body"]),
        "atomic": (atomic.status_code, atomic.json),
    }
    if atomic.status_code == 200:
        item = atomic.json["items"][0]
        found["atomic"] = (item["status"], item["body"])
    return {
        name: (status, {k: v for k, v in body.items() if k not in {"requestId", "index"}})
        for name, (status, body) in found.items()
    }


# --- limits ---


def test_the_largest_amount_holds_for_each_command(app: Flask, make: MakeKey) -> None:
    client = client_of(app, make(amount_max=100).text)
    before = books()
    for amount in (101, 9_007_199_254_740_991):
        found = ways(client, JOHN_GOLD, movement(amount))
        assert found["alone"] == found["each"] == found["line"] == found["atomic"]
        status, body = found["alone"]
        assert (status, body["code"], body["amountMax"], body["amount"]) == (403, "amount_not_allowed", 100, amount)
    assert books() == before
    assert {status for status, _ in ways(client, JOHN_GOLD, movement(100)).values()} == {200}


def test_an_atomic_batch_names_the_item_that_is_above_the_limit(app: Flask, make: MakeKey) -> None:
    client = client_of(app, make(amount_max=100).text)
    before = books()
    items = [{"type": "topup", "walletId": 3, **movement(amount)} for amount in (1, 100, 101, 200)]
    body = assert_problem(client.post("/batches", json={"mode": "atomic", "items": items}), 403, "amount_not_allowed")
    assert body["index"] == 2
    assert books() == before


def test_assets_hold_for_writes_and_reads(app: Flask, client: FlaskClient, make: MakeKey) -> None:
    diamonds = client_of(app, make(assets=["DIAMOND"]).text)
    gold = client.post("/wallets/3/topup", json=movement()).json["transactionId"]
    diamond = client.post("/wallets/4/topup", json=movement()).json["transactionId"]
    before = books()
    found = ways(diamonds, JOHN_GOLD, movement())
    assert found["alone"] == found["each"] == found["line"] == found["atomic"]
    assert (found["alone"][0], found["alone"][1]["code"], found["alone"][1]["asset"]) == (
        403,
        "asset_not_allowed",
        "GOLD",
    )
    for path in ("/wallets/3", "/wallets/3/balance", "/wallets/3/entries", "/wallets/1", f"/transactions/{gold}"):
        assert_problem(diamonds.get(path), 403, "asset_not_allowed")
    assert books() == before
    for path in ("/wallets/4", "/wallets/4/balance", "/wallets/4/entries", "/wallets/2", f"/transactions/{diamond}"):
        assert diamonds.get(path).status_code == 200
    assert diamonds.post("/wallets/4/spend", json=movement()).status_code == 200
    assert_problem(diamonds.post("/wallets/999999/topup", json=movement()), 404, "wallet_not_found")


def test_a_batch_posts_what_is_allowed_and_refuses_the_rest_in_order(app: Flask, make: MakeKey) -> None:
    key = make(scopes=["wallets:topup"], amount_max=10, assets=["DIAMOND"])
    asked = [("topup", 4, 1), ("spend", 4, 1), ("topup", 4, 11), ("topup", 3, 1), ("topup", 6, 10), ("nonsense", 4, 1)]
    items = [{"type": kind, "walletId": wallet, **movement(amount)} for kind, wallet, amount in asked]
    answer = client_of(app, key.text).post("/batches", json={"mode": "each", "items": items}).json
    assert [(one["status"], one["body"].get("code")) for one in answer["items"]] == [
        (200, None),
        (403, "forbidden"),
        (403, "amount_not_allowed"),
        (403, "asset_not_allowed"),
        (200, None),
        (422, "validation_error"),
    ]
    assert (service.get_wallet(JOHN_DIAMOND).balance, service.get_wallet(DOE_DIAMOND).balance) == (11, 10)


def test_what_is_forbidden_does_not_wait_for_a_wallet_that_is_held(app: Flask, database: URL, make: MakeKey) -> None:
    client = client_of(app, make(amount_max=1).text)
    with psycopg.connect(conninfo(database)) as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        assert {body["code"] for _, body in ways(client, JOHN_GOLD, movement(2)).values()} == {"amount_not_allowed"}


def test_a_limit_holds_for_a_replay_too(app: Flask, client: FlaskClient, make: MakeKey) -> None:
    """Whoever may not do it is not told that it was done either."""
    small = client_of(app, make("tests", amount_max=10).text)
    body = movement(50)
    assert client.post("/wallets/3/topup", json=body).status_code == 200
    assert_problem(small.post("/wallets/3/topup", json=body), 403, "amount_not_allowed")


def test_a_client_owns_its_references_whichever_key_it_uses(
    app: Flask, client: FlaskClient, database: URL, make: MakeKey
) -> None:
    first, second, other = make(), make(), make("arena")
    body = movement(5)
    posted = client_of(app, first.text).post("/wallets/3/topup", json=body).json
    assert client_of(app, second.text).post("/wallets/3/topup", json=body).json["idempotent"] is True
    refused = client_of(app, other.text).post("/wallets/3/topup", json=body)
    assert assert_problem(refused, 422, "reference_mismatch")["fields"] == ["client"]
    assert rows(
        database, f"SELECT client, actor FROM transactions WHERE transaction_id = '{posted['transactionId']}'"
    ) == [("shop", f"key:{first.key_id}")]
    shown = client.get(f"/transactions/{posted['transactionId']}").json
    assert (shown["client"], shown["actor"]) == ("shop", f"key:{first.key_id}")


# --- what is recorded ---


def audit(url: URL, action: str) -> list[tuple[Any, ...]]:
    return rows(
        url,
        "SELECT actor, subject, outcome, reason, ticket, request_id, address FROM audit_log"
        f" WHERE action = '{action}' ORDER BY id",
    )


def test_what_is_done_with_keys_is_recorded(app: Flask, database: URL, make: MakeKey) -> None:
    gate = access.gate_of(app)
    made = make(amount_max=7, assets=["GOLD"], networks=["10.0.0.0/8"], rate_limit="5 per minute")
    by_hand = ("operator:ann", f"key:{made.key_id}", "done", "asked for", "T-1", None, None)
    assert audit(database, "key:create")[-1] == by_hand
    after = rows(database, "SELECT after FROM audit_log ORDER BY id DESC LIMIT 1")[0][0]
    assert after == {
        "client": "shop",
        "scopes": list(SCOPES),
        "amount_max": 7,
        "assets": ["GOLD"],
        "networks": ["10.0.0.0/8"],
        "rate_limit": "5 per minute",
        "expires_at": None,
        "replaces": None,
    }
    successor = gate.rotate_key(made.key_id, by=BY)
    rotated = rows(database, "SELECT subject, after FROM audit_log ORDER BY id DESC LIMIT 1")[0]
    assert rotated == (f"key:{successor.key_id}", after | {"replaces": made.key_id})
    gate.revoke_key(made.key_id, by=BY)
    assert audit(database, "key:revoke") == [by_hand]
    gate.revoke_client("shop", by=BY)
    assert audit(database, "client:revoke") == [("operator:ann", "client:shop", *by_hand[2:])]
    assert service.verify(full=True).is_clean


def test_what_is_denied_is_recorded_but_not_each_time(app: Flask, database: URL, make: MakeKey) -> None:
    made = make(scopes=["wallets:read", "wallets:topup"], amount_max=10, assets=["DIAMOND"])
    client = client_of(app, made.text)
    for _ in range(5):
        client.post("/wallets/3/spend", json=movement(), headers={"X-Request-Id": "r-1"})
        client.post("/wallets/4/topup", json=movement(11))
        client.get("/wallets/3")
    items = [{"type": "bonus", "walletId": 4, **movement()} for _ in range(50)]
    client.post("/batches", json={"mode": "each", "items": items})
    found = [
        audit(database, action)
        for action in ("access:forbidden", "access:amount_not_allowed", "access:asset_not_allowed")
    ]
    assert [len(one) for one in found] == [2, 1, 1], "spend and bonus each once"
    actor, subject, outcome, reason, _, request_id, address = found[0][0]
    assert (actor, subject, outcome) == (f"key:{made.key_id}", "client:shop", "denied")
    assert "wallets:spend" in reason
    assert (request_id, address) == ("r-1", "127.0.0.1")


def test_a_key_that_may_not_be_used_from_there_is_recorded(app: Flask, database: URL, make: MakeKey) -> None:
    made = make(networks=["192.0.2.0/24"])
    assert_problem(client_of(app, made.text).get("/wallets/3"), 403, "network_not_allowed")
    assert [row[0] for row in audit(database, "access:network_not_allowed")] == [f"key:{made.key_id}"]


def test_a_movement_writes_no_record(app: Flask, client: FlaskClient, database: URL) -> None:
    count = "SELECT count(*) FROM audit_log"
    before = rows(database, count)
    assert client.post("/wallets/3/topup", json=movement()).status_code == 200
    assert_problem(client.post("/wallets/3/spend", json=movement(10**9)), 409, "insufficient_balance")
    assert rows(database, count) == before


# --- nothing leaks ---


def test_a_key_leaves_no_trace_of_its_secret(
    app: Flask, client: FlaskClient, database: URL, make: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = CapturingLogger()
    for name, module in list(sys.modules.items()):
        if name.startswith("wallet_app") and hasattr(module, "log"):
            monkeypatch.setattr(module, "log", logged)
    made = make(scopes=["wallets:read", "wallets:topup"])
    bad = VAULT.make_key().text
    own, stranger = client_of(app, made.text), client_of(app, bad)
    asked = [
        own.get("/wallets/3"),
        own.post("/wallets/3/topup", json=movement(1, note="lunch")),
        own.post("/wallets/3/spend", json=movement()),
        own.get("/wallets/x"),
        own.get("/nothing"),
        own.get(f"/wallets/3?key={made.key_id}"),
        own.post("/batches", json={"mode": "each", "items": [{"type": "spend", "walletId": 3, **movement()}]}),
        stranger.get("/wallets/3"),
        client_of(app, made.text[:-1]).get("/wallets/3"),
        client_of(app, made.text + " ").get("/wallets/3"),
    ]
    access.gate_of(app).write_uses()
    said = b"".join(answer.get_data() + str(answer.headers).encode() for answer in asked)
    said += client.get("/metrics").get_data() + client.get("/openapi.json").get_data()
    said += repr([access.gate_of(app), app.extensions["wallet_settings"], made.key_id]).encode()
    said += repr(logged.calls).encode()
    assert f"key:{made.key_id}".encode() in said
    assert b"key_refused" in said
    everything = b"".join(everything_in(database))
    assert made.key_id.encode() in everything
    for text in (made.text, bad, made.text[:-1]):
        secret = text.split("_")[3][:43]
        for trace in (text, secret, secret[:20], secret[20:40]):
            assert trace.encode() not in said
            assert trace.encode() not in everything
            assert trace.encode().hex().encode() not in everything


def everything_in(url: URL) -> Iterator[bytes]:
    """Yield all rows of all tables as text."""
    tables = rows(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in tables:
        for (row,) in rows(url, f"SELECT one::text FROM {table} AS one"):
            yield row.encode()


# --- no query for a request ---


def test_neither_good_nor_bad_keys_cost_a_query_each(
    app: Flask, monkeypatch: pytest.MonkeyPatch, make: MakeKey
) -> None:
    gate = access.gate_of(app)
    reads: list[int] = []
    read = gate._live_keys

    def counted() -> Sequence[Any]:
        reads.append(1)
        return read()

    monkeypatch.setattr(gate, "_live_keys", counted)
    made = make()
    own, stranger = client_of(app, made.text), client_of(app, None)
    keys = [VAULT.make_key().text for _ in range(300)]

    def storm() -> None:
        for key in keys:
            stranger.get("/wallets/3", headers={"Authorization": f"Bearer {key}"})

    begun = time.monotonic()
    threads = [threading.Thread(target=storm) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        own.get("/openapi.json")
        assert own.get("/wallets/3").status_code == 200
    for thread in threads:
        thread.join(60)
    seconds = time.monotonic() - begun
    assert gate._keys.read_at > 0
    assert 1 <= len(reads) <= 2 + 4 * seconds, "at most four a second, whoever asks"


def test_a_reference_of_another_client_stays_its_own(app: Flask, make: MakeKey) -> None:
    one, other = make(), make("arena")
    reference = new_reference()
    assert client_of(app, one.text).post("/wallets/3/topup", json=movement(1, reference)).status_code == 200
    assert client_of(app, other.text).post("/wallets/5/topup", json=movement(1, reference)).status_code == 200


def test_what_is_malformed_is_not_looked_at_for_who_may_not_ask(app: Flask, make: MakeKey) -> None:
    client = client_of(app, make(scopes=["wallets:topup"]).text)
    found = ways(client, JOHN_GOLD, {"amount": "x", "colour": 1}, kind="spend")
    assert found["alone"] == found["each"] == found["line"] == found["atomic"]
    assert (found["alone"][0], found["alone"][1]["code"]) == (403, "forbidden")
    assert {status for status, _ in ways(client, JOHN_GOLD, {"amount": "x"}, kind="topup").values()} == {422}
