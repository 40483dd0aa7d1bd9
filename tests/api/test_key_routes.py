"""Keys that are made, rotated and revoked over the API, by a key: never for more than it may do itself."""

from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL
from structlog.testing import CapturingLogger

from tests.api.conftest import MakeClient
from tests.api.support import assert_headers, assert_problem, is_instant, movement
from tests.api.test_keys import everything_in
from tests.conftest import conninfo, run_sql
from tests.every_case import every
from tests.keys import KEY, VAULT, client_of
from wallet_app import access, service
from wallet_app.db import close_connections
from wallet_app.service import SCOPES, By, KeySettings

BY = By(actor="operator:ann")
MINE = {"scopes": ["admin:keys", "wallets:read", "wallets:spend"]}
MakeGiver = Callable[..., FlaskClient]


@pytest.fixture
def giver(app: Flask) -> MakeGiver:
    """Make a client with a key that may make keys, and is limited like this."""

    def make(**settings: Any) -> FlaskClient:
        settings = MINE | settings
        made = access.gate_of(app).create_key(client="provisioning", settings=KeySettings(**settings), by=BY)
        client = client_of(app, made.text)
        client.environ_base["wallet.key_id"] = made.key_id
        return client

    return make


def own_id(client: FlaskClient) -> str:
    found: str = client.environ_base["wallet.key_id"]
    return found


def ask(client: FlaskClient, name: str = "shop", **settings: Any) -> Any:
    return client.post("/keys", json={"client": name, "scopes": ["wallets:read"], **settings})


def audited(url: URL, action: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo(url)) as connection:
        return connection.execute(
            "SELECT actor, subject, after, request_id, address, outcome FROM audit_log WHERE action = %s ORDER BY id",
            (action,),
        ).fetchall()


# --- what they do ---


def test_a_key_that_is_made_works_and_is_shown_once(app: Flask, client: FlaskClient, database: URL) -> None:
    limits = {"amountMax": 50, "assets": ["GOLD"], "networks": ["127.0.0.0/8"], "rateLimit": "9 per minute"}
    asked = {"scopes": ["wallets:spend", "wallets:read"], **limits, "expiresIn": 3600}
    answer = client.post(
        "/keys", json={"client": "shop", **asked}, headers={"X-Request-Id": "r-7"}, environ_base={"REMOTE_ADDR": "::1"}
    )
    made = answer.json
    assert answer.status_code == 201
    assert_headers(answer)
    assert answer.headers["Location"] == f"/keys/{made['keyId']}"
    assert VAULT.read_id(made["key"]) == made["keyId"]
    assert made | limits == made
    assert (made["client"], made["scopes"], made["live"]) == ("shop", ["wallets:read", "wallets:spend"], True)
    assert made["createdBy"] == f"key:{VAULT.read_id(KEY)}"
    assert is_instant(made["createdAt"])
    left = dt.datetime.fromisoformat(made["expiresAt"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=59) < left <= dt.timedelta(hours=1)

    shop = client_of(app, made["key"])
    assert shop.get("/wallets/3").headers["RateLimit-Limit"] == "9"
    assert shop.post("/wallets/3/spend", json=movement(50)).status_code == 200
    assert_problem(shop.post("/wallets/3/spend", json=movement(51)), 403, "amount_not_allowed")
    assert_problem(shop.get("/wallets/4"), 403, "asset_not_allowed")
    assert_problem(shop.get("/wallets/3", environ_base={"REMOTE_ADDR": "192.0.2.1"}), 403, "network_not_allowed")
    assert_problem(shop.get("/keys"), 403, "forbidden")

    del made["key"]
    seen = client.get(answer.headers["Location"])
    assert seen.json | {"lastUsedAt": None} == made
    ((actor, subject, after, request_id, address, outcome),) = [
        row for row in audited(database, "key:create") if row[1] == f"key:{made['keyId']}"
    ]
    assert (actor, subject, outcome) == (made["createdBy"], f"key:{made['keyId']}", "done")
    assert (request_id, address) == ("r-7", "::1")
    assert (after["client"], after["amount_max"], after["scopes"]) == ("shop", 50, made["scopes"])
    assert service.verify(full=True).is_clean


def test_a_key_is_rotated_and_the_old_one_revoked(app: Flask, client: FlaskClient, database: URL) -> None:
    old = ask(client, amountMax=7, networks=["127.0.0.0/8"]).json
    answer = client.post(f"/keys/{old['keyId']}/rotate", headers={"X-Request-Id": "r-8"})
    new = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/keys/{new['keyId']}"
    differing = {"key", "keyId", "createdAt"}
    assert {name: new[name] for name in new.keys() - differing} == {name: old[name] for name in old.keys() - differing}
    for each in (old, new):
        assert client_of(app, each["key"]).get("/wallets/3").status_code == 200
    for _ in range(2):
        gone = client.delete(f"/keys/{old['keyId']}", headers={"X-Request-Id": "r-9"})
        assert (gone.status_code, gone.get_data(), gone.headers.get("Content-Type")) == (204, b"", None)
        assert_headers(gone)
    assert_problem(client_of(app, old["key"]).get("/wallets/3"), 401, "unauthenticated")
    assert client_of(app, new["key"]).get("/wallets/3").status_code == 200
    seen = client.get(f"/keys/{old['keyId']}").json
    assert (seen["live"], is_instant(seen["revokedAt"])) == (False, True)
    assert_problem(client.post(f"/keys/{old['keyId']}/rotate"), 409, "key_revoked")
    assert audited(database, "key:create")[-1][2]["replaces"] == old["keyId"]
    revoked = audited(database, "key:revoke")
    assert [(row[1], row[3], row[4]) for row in revoked] == [(f"key:{old['keyId']}", "r-9", "127.0.0.1")], "once"


def test_a_new_key_works_in_every_process_when_its_answer_comes(client: FlaskClient, client_with: MakeClient) -> None:
    elsewhere = client_with().application
    made = ask(client)
    for _ in range(2):
        assert client_of(elsewhere).get("/wallets/3").status_code == 200, "the keys are read there by now"
        assert client_of(elsewhere, made.json["key"]).get("/wallets/3").status_code == 200
        made = client.post(f"/keys/{made.json['keyId']}/rotate")


def test_a_client_has_two_live_keys_at_most_also_when_many_ask_at_once(app: Flask, client: FlaskClient) -> None:
    first = ask(client).json
    answers: list[Any] = []
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        mine = client_of(app)
        ready.wait(10)
        path = "/keys" if number % 2 else f"/keys/{first['keyId']}/rotate"
        body = {"client": "shop", "scopes": ["wallets:read"]} if number % 2 else None
        answers.append(mine.post(path, json=body))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert len(assert_problem(refused, 409, "too_many_keys")["keyIds"]) == 2
    assert len(client.get("/keys?client=shop").json["keys"]) == 2


def test_a_revoked_client_gets_no_key(app: Flask, client: FlaskClient) -> None:
    made = ask(client).json
    access.gate_of(app).revoke_client("shop", by=BY)
    assert_problem(ask(client), 409, "client_revoked")
    assert_problem(client.post(f"/keys/{made['keyId']}/rotate"), 409, "client_revoked")


def test_the_list_has_every_key_once_page_by_page(client: FlaskClient) -> None:
    made = {ask(client, f"shop-{number}").json["keyId"] for number in range(7)}
    gone = made.pop()
    client.delete(f"/keys/{gone}")

    def listed(query: str = "") -> list[str]:
        found, path = [], f"/keys?limit=3{query}"
        while path:
            page = client.get(path).json
            assert len(page["keys"]) <= 3
            found += [key["keyId"] for key in page["keys"]]
            path = f"/keys?limit=3{query}&cursor={page['next']}" if "next" in page else ""
        assert len(found) == len(set(found))
        return found

    assert set(listed()) == made | {VAULT.read_id(KEY)}
    assert set(listed("&withRevoked=true")) == made | {VAULT.read_id(KEY), gone}
    first = client.get("/keys?limit=3").json
    assert_problem(client.get(f"/keys?withRevoked=true&cursor={first['next']}"), 400, "bad_cursor")
    assert [key["keyId"] for key in client.get("/keys?client=tests").json["keys"]] == [VAULT.read_id(KEY)]
    assert client.get("/keys?client=nobody").json == {"ok": True, "keys": []}


def test_no_answer_but_the_first_has_a_keys_text(client: FlaskClient) -> None:
    made = ask(client).json
    for path in ("/keys", f"/keys/{made['keyId']}", "/keys?withRevoked=true"):
        text = client.get(path).get_data(as_text=True)
        assert made["keyId"] in text
        assert "dino_" not in text
        assert '"key"' not in text


# --- what they never do ---


@pytest.fixture
def mine(giver: MakeGiver) -> FlaskClient:
    """A client with a key that may make keys."""
    return giver()


@every("scope", [scope for scope in SCOPES if scope not in MINE["scopes"]])
def test_no_key_hands_on_a_scope_that_it_lacks(mine: FlaskClient, scope: str) -> None:
    body = assert_problem(ask(mine, scopes=["wallets:read", scope]), 403, "forbidden")
    assert body["scope"] == scope


TOMORROW = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("limit", "own", "refused", "allowed"),
    [
        ("amount", {"amount_max": 100}, [{}, {"amountMax": 101}], [{"amountMax": 100}, {"amountMax": 1}]),
        (
            "assets",
            {"assets": ["GOLD"]},
            [{}, {"assets": ["DIAMOND"]}, {"assets": ["GOLD", "DIAMOND"]}],
            [{"assets": ["GOLD"]}],
        ),
        (
            "networks",
            {"networks": ["127.0.0.0/16", "2001:db8::/32"]},
            [
                {},
                {"networks": ["0.0.0.0/0"]},
                {"networks": ["127.0.0.0/15"]},
                {"networks": ["127.0.1.0/24", "10.0.0.0/8"]},
                {"networks": ["::/0"]},
                {"networks": ["::ffff:127.0.0.0/120"]},
            ],
            [{"networks": ["127.0.0.0/16"]}, {"networks": ["127.0.1.0/24", "2001:db8:7::/48"]}],
        ),
        ("expiry", {"expires_at": TOMORROW}, [{}, {"expiresIn": 90_000}], [{"expiresIn": 3600}, {"expiresIn": 1}]),
        (
            "rate",
            {"rate_limit": "100 per minute"},
            [{}, {"rateLimit": "101 per minute"}, {"rateLimit": "2 per second"}, {"rateLimit": "101 per hour"}],
            [{"rateLimit": "100 per minute"}, {"rateLimit": "1 per second"}, {"rateLimit": "100 per day"}],
        ),
    ],
    ids=["amount", "assets", "networks", "expiry", "rate"],
)
def test_every_limit_of_a_key_is_on_what_it_makes(
    giver: MakeGiver, client: FlaskClient, limit: str, own: Any, refused: Any, allowed: Any
) -> None:
    mine = giver(**own)
    for settings in refused:
        assert assert_problem(ask(mine, **settings), 403, "grants_too_much")["limit"] == limit, settings
    for number, settings in enumerate(allowed):
        assert ask(mine, f"shop-{number}", **settings).status_code == 201, settings
    wider = ask(client, "wider").json
    assert assert_problem(mine.post(f"/keys/{wider['keyId']}/rotate"), 403, "grants_too_much")["limit"] == limit
    assert mine.post(f"/keys/{own_id(mine)}/rotate").status_code == 201, "its own successor is as limited"


def test_a_key_without_a_rate_of_its_own_hands_on_at_most_the_one_of_all(client_with: MakeClient) -> None:
    mine = client_with(rate_limit_key="50 per minute")
    assert assert_problem(ask(mine, rateLimit="51 per minute"), 403, "grants_too_much")["limit"] == "rate"
    assert [ask(mine, rateLimit="50 per minute").status_code, ask(mine).status_code] == [201, 201]
    made = access.gate_of(mine.application).create_key(
        client="provisioning", settings=KeySettings(**MINE, rate_limit="100 per minute"), by=BY
    )
    own = client_of(mine.application, made.text)
    assert assert_problem(ask(own, "arena"), 403, "grants_too_much")["limit"] == "rate", "the one of all may change"
    unlimited = client_with(rate_limit_key="")
    assert ask(unlimited, "arena", rateLimit="999999 per second").status_code == 201


def test_a_user_token_makes_no_keys(app: Flask, client: FlaskClient) -> None:
    asked = {"scopes": ["wallets:read", "admin:keys"], "expiresIn": 60}
    assert_problem(client.post("/users/2/tokens", json=asked), 422, "validation_error", "/scopes")


def test_who_lacks_a_right_is_not_told_how_many_keys_there_are(giver: MakeGiver, client: FlaskClient) -> None:
    for _ in range(2):
        ask(client)
    assert_problem(ask(giver(amount_max=1)), 403, "grants_too_much")


def test_a_key_that_is_revoked_leaves_no_successor(app: Flask, giver: MakeGiver, client: FlaskClient) -> None:
    """Not even in the seconds in which another process still believes it."""
    mine = giver()
    other = access.gate_of(app)
    assert mine.get("/keys").status_code == 200
    service.keys.revoke_key(other.engine, own_id(mine), by=BY)  # type: ignore[attr-defined]
    assert mine.get("/wallets/3").status_code == 200, "this process does not know it yet"
    assert_problem(ask(mine), 401, "unauthenticated")
    assert_problem(mine.post(f"/keys/{VAULT.read_id(KEY)}/rotate"), 401, "unauthenticated")
    assert client.get("/keys?client=shop").json["keys"] == []


def test_a_key_that_is_revoked_while_it_makes_one_makes_none(
    app: Flask, giver: MakeGiver, client: FlaskClient, database: URL
) -> None:
    """It waits for the client of the new key, and meanwhile it ends."""
    ask(client)
    mine, answers = giver(), []
    path = f"/keys/{client.get('/keys?client=shop').json['keys'][0]['keyId']}/rotate"
    # They wait as long as this takes.
    patient = [
        f"ALTER DATABASE {database.database} SET {name} = '60s'" for name in ("lock_timeout", "statement_timeout")
    ]
    run_sql(database, *patient)
    close_connections()
    with psycopg.connect(conninfo(database)) as other:
        other.execute("SELECT FROM clients WHERE name = 'shop' FOR UPDATE")
        waiting = [
            threading.Thread(target=lambda: answers.append(ask(mine))),
            threading.Thread(target=lambda: answers.append(client_of(app, key_of(mine)).post(path))),
        ]
        for thread in waiting:
            thread.start()
        with psycopg.connect(conninfo(database), autocommit=True) as watching:
            deadline = time.monotonic() + 30
            while watching.execute(WAITING).fetchone() != (2,):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert client.delete(f"/keys/{own_id(mine)}").status_code == 204
    for thread in waiting:
        thread.join(30)
    for answer in answers:
        assert_problem(answer, 401, "unauthenticated")
    assert len(client.get("/keys?client=shop").json["keys"]) == 1


WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def key_of(client: FlaskClient) -> str:
    return str(client.environ_base["HTTP_AUTHORIZATION"]).removeprefix("Bearer ")


def test_what_is_denied_is_recorded_once_for_each_limit(giver: MakeGiver, database: URL) -> None:
    mine = giver(amount_max=10, assets=["GOLD"])
    for _ in range(3):
        ask(mine)
        ask(mine, amountMax=5)
    found = audited(database, "access:grants_too_much")
    assert [(row[0], row[1], row[5]) for row in found] == [(f"key:{own_id(mine)}", "client:provisioning", "denied")] * 2


def test_what_is_refused_makes_nothing(giver: MakeGiver, client: FlaskClient, database: URL) -> None:
    ask(giver(amount_max=1), "never")
    assert client.get("/keys?client=never&withRevoked=true").json["keys"] == []
    with psycopg.connect(conninfo(database)) as connection:
        assert connection.execute("SELECT count(*) FROM clients WHERE name = 'never'").fetchone() == (0,)


# --- nothing leaks ---


def test_a_made_keys_secret_is_nowhere_but_in_its_answer(
    client: FlaskClient, app: Flask, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = CapturingLogger()
    for name, module in list(sys.modules.items()):
        if name.startswith("wallet_app") and hasattr(module, "log"):
            monkeypatch.setattr(module, "log", logged)
    made = ask(client).json
    rotated = client.post(f"/keys/{made['keyId']}/rotate").json
    asked = [client_of(app, each["key"]).get("/wallets/3") for each in (made, rotated)]
    asked += [ask(client), client.get("/keys"), client.delete(f"/keys/{made['keyId']}"), client.get("/metrics")]
    asked += [client_of(app, made["key"]).get("/wallets/3"), client.get(f"/keys/{rotated['keyId']}")]
    access.gate_of(app).write_uses()
    said = b"".join(answer.get_data() + str(answer.headers).encode() for answer in asked)
    said += repr(logged.calls).encode() + repr(access.gate_of(app)).encode()
    stored = b"".join(everything_in(database))
    assert f"key:{made['keyId']}".encode() in stored
    assert made["keyId"].encode() in said
    for text in (made["key"], rotated["key"]):
        secret = text.split("_")[3][:43]
        for trace in (text, secret, secret[:20], secret[20:40]):
            assert trace.encode() not in said
            assert trace.encode() not in stored
            assert trace.encode().hex().encode() not in stored
