"""User tokens: one user's wallets and nothing else, for a short while; what is another's is as if it did not exist."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy.engine import URL

from tests.api.conftest import ROOT, MakeClient
from tests.api.support import (
    DOE_DIAMOND,
    DOE_GOLD,
    JOHN_DIAMOND,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_headers,
    assert_problem,
    books,
    is_instant,
    movement,
    new_reference,
)
from tests.conftest import conninfo
from tests.every_case import every
from tests.keys import ENVIRONMENT, KEY, TOKEN_KEYS, client_of
from wallet_app import access, service
from wallet_app.service import TOKEN_SCOPES, Signer, UserToken, actors

TREASURY, JOHN, DOE = 1, 2, 3
NOBODY = 999_999_999
ALL = sorted(TOKEN_SCOPES)
BY = service.By(actor="tests")


def token_for(client: FlaskClient, user: int = JOHN, scopes: list[str] = ALL, **more: object) -> str:
    answer = client.post(f"/users/{user}/tokens", json={"scopes": scopes, **more})
    assert answer.status_code == 200, answer.get_data()
    return str(answer.json["token"])


def player(app: Flask, user: int = JOHN, scopes: list[str] = ALL) -> FlaskClient:
    """Return a client that sends a token of the user's."""
    return client_of(app, token_for(client_of(app), user, scopes))


@pytest.fixture
def john(app: Flask) -> FlaskClient:
    return player(app)


def key_with(app: Flask, client: str = "game", **settings: Any) -> tuple[str, FlaskClient]:
    """Return the id of a new key and a client that sends it."""
    asked = service.KeySettings(**({"scopes": [*ALL, "users:tokens"]} | settings))
    made = access.gate_of(app).create_key(client=client, settings=asked, by=BY)
    return made.key_id, client_of(app, made.text)


# --- how one is made ---


def test_a_token_says_what_it_is_good_for(client: FlaskClient) -> None:
    answer = client.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:spend", "wallets:read"], "expiresIn": 60})
    body = answer.json
    assert answer.status_code == 200
    assert_headers(answer)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", body.pop("token"))
    assert is_instant(body.pop("expiresAt"))
    assert body == {
        "ok": True,
        "tokenType": "Bearer",
        "userId": JOHN,
        "scopes": ["wallets:read", "wallets:spend"],
        "expiresIn": 60,
    }


def test_it_lives_for_a_quarter_of_an_hour_if_nothing_is_said(client: FlaskClient) -> None:
    assert client.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:read"]}).json["expiresIn"] == 900


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/scopes"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": None}, "/scopes"),
        ({"scopes": "wallets:read"}, "/scopes"),
        ({"scopes": ["wallets:read", 1]}, "/scopes"),
        ({"scopes": [["wallets:read"]]}, "/scopes"),
        ({"scopes": ["wallets:read", "wallets:read"]}, "/scopes"),
        ({"scopes": ["wallets:topup"]}, "/scopes"),
        ({"scopes": ["users:tokens"]}, "/scopes"),
        ({"scopes": ["admin:keys"]}, "/scopes"),
        ({"scopes": ["*"]}, "/scopes"),
        ({"scopes": ["wallets:read"] * 1000}, "/scopes"),
        *(
            ({"scopes": ["wallets:read"], "expiresIn": seconds}, "/expiresIn")
            for seconds in (0, -1, 3601, 2**63, 1.0, 1.5, "60", True, None, [60])
        ),
        ({"scopes": ["wallets:read"], "userId": 3}, "/userId"),
    ],
)
def test_what_no_token_can_be_is_refused(shared: FlaskClient, body: dict[str, object], pointer: str) -> None:
    assert_problem(shared.post(f"/users/{JOHN}/tokens", json=body), 422, "validation_error", pointer)


@pytest.mark.parametrize("user", [NOBODY, TREASURY, 2**63, 10**30])
def test_there_is_none_for_a_user_who_is_not_there(shared: FlaskClient, user: int) -> None:
    answer = shared.post(f"/users/{user}/tokens", json={"scopes": ["wallets:read"]})
    assert_problem(answer, 404, "user_not_found")


def test_a_key_gives_no_scope_that_it_has_not(app: Flask) -> None:
    _, game = key_with(app, scopes=["users:tokens", "wallets:read"])
    answer = game.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:read", "wallets:spend"]})
    assert assert_problem(answer, 403, "forbidden")["scope"] == "wallets:spend"
    assert token_for(game, scopes=["wallets:read"])


def test_a_key_without_the_scope_makes_none_and_neither_does_a_token(app: Flask, john: FlaskClient) -> None:
    _, reader = key_with(app, scopes=ALL)
    for client in (reader, john):
        answer = client.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:read"]})
        assert assert_problem(answer, 403, "forbidden")["scope"] == "users:tokens"


def test_it_does_not_outlive_its_key(app: Flask) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=120)
    _, game = key_with(app, expires_at=ends)
    answer = game.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:read"], "expiresIn": 3600})
    assert answer.json["expiresIn"] in range(60, 121)


# --- what one can do ---


def test_a_player_reads_and_spends_what_is_theirs(john: FlaskClient) -> None:
    assert john.get(f"/wallets/{JOHN_GOLD}").json["balance"] == 500
    assert john.get(f"/wallets/{JOHN_DIAMOND}/balance").json["balance"] == 10
    spent = john.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(30, note="sword")).json
    assert spent["balance"] == 470
    posted = john.get(f"/transactions/{spent['transactionId']}").json
    assert (posted["client"], posted["actor"]) == ("tests", f"user:{JOHN}")
    assert john.get(f"/wallets/{JOHN_GOLD}/entries").json["entries"][0]["actor"] == f"user:{JOHN}"
    assert john.get(f"/users/{JOHN}").json["name"] == "John"
    assert [user["userId"] for user in john.get("/users?externalId=demo:John").json["users"]] == [JOHN]
    for query in ("", f"?userId={JOHN}", "?limit=5"):
        listed = john.get(f"/wallets{query}").json["wallets"]
        assert [wallet["walletId"] for wallet in listed] == [JOHN_GOLD, JOHN_DIAMOND]
    assert [wallet["walletId"] for wallet in john.get("/wallets?asset=GOLD").json["wallets"]] == [JOHN_GOLD]
    assert john.get("/assets").status_code == 200


def test_a_reference_of_the_game_is_the_same_command_with_its_players_token(
    john: FlaskClient, client: FlaskClient
) -> None:
    body = movement(30)
    assert client.post(f"/wallets/{JOHN_GOLD}/spend", json=body).json["idempotent"] is False
    assert john.post(f"/wallets/{JOHN_GOLD}/spend", json=body).json["idempotent"] is True


@pytest.mark.parametrize("scope", ALL)
def test_a_token_has_no_scope_but_those_that_it_was_given(shared_app: Flask, scope: str) -> None:
    client = player(shared_app, scopes=[scope])
    for needed, answer in asked_of_everything(client).items():
        if needed != scope:
            assert assert_problem(answer, 403, "forbidden")["scope"] == needed


def asked_of_everything(client: FlaskClient) -> dict[str, Any]:
    """Return the answers to a request for each scope that a route needs, as far as there are routes."""
    return {
        "wallets:read": client.get(f"/wallets/{JOHN_GOLD}"),
        "wallets:spend": client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement()),
        "transactions:read": client.get("/transactions/01a202ea-16a9-7b16-a647-a13ad9a0d7db"),
        "users:read": client.get(f"/users/{JOHN}"),
        "assets:read": client.get("/assets"),
        "wallets:topup": client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement()),
        "wallets:bonus": client.post(f"/wallets/{JOHN_GOLD}/bonus", json=movement()),
        "wallets:write": client.post("/wallets", json={"userId": JOHN, "asset": "GOLD"}),
        "users:write": client.post("/users", json={"name": "Ada", "externalId": "ada"}),
        "users:tokens": client.post(f"/users/{JOHN}/tokens", json={"scopes": ["wallets:read"]}),
        "metrics:read": client.get("/metrics"),
    }


def test_a_players_limits_are_the_keys_but_for_its_networks(app: Flask) -> None:
    key, game = key_with(app, amount_max=50, assets=["GOLD"], networks=["127.0.0.0/8"])
    token = token_for(game)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    client.environ_base["REMOTE_ADDR"] = "203.0.113.7"
    assert client.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    assert_problem(client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(51)), 403, "amount_not_allowed")
    assert_problem(client.get(f"/wallets/{JOHN_DIAMOND}"), 403, "asset_not_allowed")
    # Another's wallet is not there, whatever it is of.
    assert_problem(client.get(f"/wallets/{DOE_DIAMOND}"), 404, "wallet_not_found")
    listed = client.get("/wallets").json["wallets"]
    assert [wallet["walletId"] for wallet in listed] == [JOHN_GOLD]
    assert [asset["code"] for asset in client.get("/assets").json["assets"]] == ["GOLD"]
    assert key


# --- what is another's ---


def alike(client: FlaskClient, ask: Any, foreign: object, absent: object) -> Any:
    """Check that both get the same answer, but for the request's id and the id that was asked for; return it."""
    answers, seen = [], []
    for asked in (foreign, absent):
        answers.append(answer := ask(client, asked))
        answer.get_data()  # Before the next one is asked: lines are answered while they are read.
        headers = sorted((name, value) for name, value in answer.headers if name not in {"X-Request-Id"})
        text = answer.get_data(as_text=True).replace(answer.headers["X-Request-Id"], "<request>")
        text = re.sub(rf'(\b(wallet|user|transaction)( |Id":"?)){asked}\b', r"\1<id>", text)
        seen.append((answer.status_code, [pair for pair in headers if pair[0] != "Content-Length"], text))
    assert seen[0] == seen[1]
    return answers[0]


WALLET_ROUTES = {
    "wallet": lambda client, wallet: client.get(f"/wallets/{wallet}"),
    "balance": lambda client, wallet: client.get(f"/wallets/{wallet}/balance"),
    "entries": lambda client, wallet: client.get(f"/wallets/{wallet}/entries"),
    "spend": lambda client, wallet: client.post(f"/wallets/{wallet}/spend", json=movement()),
    "spend of too much": lambda client, wallet: client.post(f"/wallets/{wallet}/spend", json=movement(2**50)),
}
BATCHES = {
    "each": lambda client, wallet: client.post("/batches", json={"mode": "each", "items": items(wallet)}),
    "atomic": lambda client, wallet: client.post("/batches", json={"mode": "atomic", "items": items(wallet)[:1]}),
    "lines": lambda client, wallet: client.post(
        "/batches",
        data="".join(json.dumps(item) + "\n" for item in items(wallet)),
        content_type="application/x-ndjson",
    ),
}


def items(wallet: int) -> list[dict[str, object]]:
    spend = {"type": "spend", "amount": 1, "referenceId": "abc"}
    return [{**spend, "walletId": wallet}, {**spend, "type": "topup", "walletId": wallet}]


@every("foreign", [DOE_GOLD, DOE_DIAMOND, TREASURY_GOLD])
@every("route", WALLET_ROUTES)
def test_anothers_wallet_is_as_if_there_were_none(
    john: FlaskClient, client: FlaskClient, route: str, foreign: int
) -> None:
    before = books()
    assert_problem(alike(john, WALLET_ROUTES[route], foreign, NO_WALLET), 404, "wallet_not_found")
    assert books() == before


@every("foreign", [DOE_GOLD, TREASURY_GOLD])
@every("batch", BATCHES)
def test_anothers_wallet_is_as_if_there_were_none_in_batches(john: FlaskClient, batch: str, foreign: int) -> None:
    before = books()
    answer = alike(john, BATCHES[batch], foreign, NO_WALLET)
    assert b"wallet_not_found" in answer.get_data()
    assert books() == before


def test_a_batch_may_have_both_and_each_is_answered_on_its_own(john: FlaskClient) -> None:
    spend = {"type": "spend", "amount": 1}
    batch = [
        {**spend, "walletId": wallet, "referenceId": f"abc-{wallet}"} for wallet in (JOHN_GOLD, DOE_GOLD, JOHN_DIAMOND)
    ]
    answer = john.post("/batches", json={"mode": "each", "items": batch}).json
    assert [item["status"] for item in answer["items"]] == [200, 404, 200]
    atomic = john.post("/batches", json={"mode": "atomic", "items": batch})
    assert assert_problem(atomic, 404, "wallet_not_found")["index"] == 1


def test_a_replay_of_anothers_command_tells_nothing(john: FlaskClient, client: FlaskClient) -> None:
    reference = new_reference()
    assert client.post(f"/wallets/{DOE_GOLD}/spend", json=movement(1, reference)).status_code == 200
    route = lambda one, wallet: one.post(f"/wallets/{wallet}/spend", json=movement(1, reference))  # noqa: E731
    assert_problem(alike(john, route, DOE_GOLD, NO_WALLET), 404, "wallet_not_found")


@pytest.mark.parametrize("verb", ["freeze", "close"])
def test_anothers_frozen_wallet_is_as_if_there_were_none(client: FlaskClient, john: FlaskClient, verb: str) -> None:
    client.post(f"/wallets/{DOE_GOLD}/spend", json=movement(300))
    side = {"side": "both"} if verb == "freeze" else {}
    body = {"reason": "A test", "referenceId": new_reference(), **side}
    assert client.post(f"/wallets/{DOE_GOLD}/{verb}", json=body).status_code == 200
    for route in WALLET_ROUTES.values():
        assert_problem(alike(john, route, DOE_GOLD, NO_WALLET), 404, "wallet_not_found")


@pytest.mark.parametrize("group_commit", [True, False])
def test_anothers_wallet_that_somebody_holds_is_as_if_there_were_none(
    database: URL, client_with: MakeClient, group_commit: bool
) -> None:
    client = client_with(group_commit=group_commit)
    john = player(client.application)
    with psycopg.connect(conninfo(database)) as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (DOE_GOLD,))
        alike(john, WALLET_ROUTES["spend"], DOE_GOLD, NO_WALLET)
        for batch in BATCHES.values():
            alike(john, batch, DOE_GOLD, NO_WALLET)


def test_ones_own_wallet_that_somebody_holds_is_busy(database: URL, john: FlaskClient) -> None:
    with psycopg.connect(conninfo(database)) as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN_GOLD,))
        assert_problem(john.post(f"/wallets/{JOHN_GOLD}/spend", json=movement()), 503, "wallet_busy")


def test_anothers_wallet_without_a_balance_row_is_as_if_there_were_none(database: URL, john: FlaskClient) -> None:
    with psycopg.connect(conninfo(database), autocommit=True) as owner:
        owner.execute("DELETE FROM wallet_balances WHERE wallet_id = %s", (DOE_GOLD,))
    for route in (*WALLET_ROUTES.values(), *BATCHES.values()):
        alike(john, route, DOE_GOLD, NO_WALLET)


def test_anothers_transaction_is_as_if_there_were_none(john: FlaskClient, client: FlaskClient) -> None:
    theirs = client.post(f"/wallets/{DOE_GOLD}/spend", json=movement()).json["transactionId"]
    read = lambda one, transaction: one.get(f"/transactions/{transaction}")  # noqa: E731
    answer = alike(john, read, theirs, "01a202ea-16a9-7b16-a647-a13ad9a0d7db")
    assert_problem(answer, 404, "transaction_not_found")


@pytest.mark.parametrize("foreign", [DOE, TREASURY])
def test_another_user_is_as_if_there_were_none(john: FlaskClient, foreign: int) -> None:
    for read in (
        lambda one, user: one.get(f"/users/{user}"),
        lambda one, user: one.get(f"/wallets?userId={user}"),
        lambda one, user: one.get(f"/wallets?userId={user}&asset=GOLD"),
    ):
        assert_problem(alike(john, read, foreign, NOBODY), 404, "user_not_found")


def test_another_user_is_not_found_by_external_id(john: FlaskClient) -> None:
    find = lambda one, external_id: one.get(f"/users?externalId={external_id}")  # noqa: E731
    assert alike(john, find, "demo:Doe", "demo:Nobody").json == {"ok": True, "users": []}


def test_the_decision_needs_no_query_of_its_own(john: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The books say whose a wallet is; the look-up is for wallets that are held, and for batches."""
    assert john.post(f"/wallets/{JOHN_GOLD}/spend", json=movement()).status_code == 200

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("wallet_app.service.ownership._owners", fail)
    assert john.post(f"/wallets/{JOHN_GOLD}/spend", json=movement()).status_code == 200
    assert_problem(john.post(f"/wallets/{DOE_GOLD}/spend", json=movement()), 404, "wallet_not_found")


# --- which are no good ---


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    asked = {
        "iss": "dino-wallet",
        "aud": "dino-wallet:development",
        "sub": str(JOHN),
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "jti": "0" * 32,
        "scope": "wallets:read",
    }
    return {name: value for name, value in (asked | changes).items() if value is not None}


def forged(
    key_id: str, header: dict[str, object] | None = None, secret: bytes = TOKEN_KEYS["new"], **said: object
) -> str:
    """Return a token that is right but for what is said."""
    head = {"alg": "HS256", "typ": "dino-user+jwt", "kid": "new"} | (header or {})
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(
        head,
        claims(**({"key": key_id} | said)),
        OctKey.import_key(secret),
        algorithms=["HS256", "HS512"],
        default_type=None,
    )


def unsigned(header: dict[str, object], key_id: str) -> str:
    parts = [json.dumps(header), json.dumps(claims(key=key_id))]
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."


@pytest.fixture
def key_id(app: Flask) -> str:
    return key_with(app)[0]


def ask_with(app: Flask, token: str) -> Any:
    return client_of(app, token).get(f"/wallets/{JOHN_GOLD}")


def test_the_forger_of_these_tests_can_make_a_good_one(app: Flask, key_id: str) -> None:
    """Otherwise it would prove nothing that its tokens are refused."""
    assert ask_with(app, forged(key_id)).status_code == 200
    assert ask_with(app, forged(key_id, {"kid": "old"}, TOKEN_KEYS["old"])).status_code == 200


NOW = int(time.time())
HEADERS: dict[str, dict[str, object]] = {
    "another kid's secret": {"kid": "old"},
    "an unknown kid": {"kid": "other"},
    "no kid": {"kid": None},
    "another type": {"typ": "JWT"},
    "no type": {"typ": None},
    "another algorithm": {"alg": "HS512"},
}
CLAIMS: dict[str, dict[str, object]] = {
    "expired": {"exp": NOW - 1},
    "expired long ago": {"exp": NOW - 10_000, "nbf": NOW - 20_000, "iat": NOW - 20_000},
    "not yet valid": {"nbf": NOW + 3600},
    "made in the future": {"iat": NOW + 3600},
    "without an end": {"exp": None},
    "without a beginning": {"nbf": None},
    "an end that is no number": {"exp": "9999999999"},
    "another environment's": {"aud": "dino-wallet:production"},
    "for nobody": {"aud": None},
    "another issuer's": {"iss": "dino-wallet-2"},
    "without an issuer": {"iss": None},
    "without a user": {"sub": None},
    "a user that is no number": {"sub": "john"},
    "a user as a number": {"sub": JOHN},
    "without scopes": {"scope": None},
    "of an unknown key": {"key": "aaaaaaaaaaaa"},
    "of no key": {"key": None},
}


@every("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_not_ours_is_401(app: Flask, key_id: str, header: dict[str, object]) -> None:
    assert_problem(ask_with(app, forged(key_id, header)), 401, "unauthenticated")


@every("said", CLAIMS.values(), ids=CLAIMS)
def test_claims_that_are_not_good_are_401(app: Flask, key_id: str, said: dict[str, object]) -> None:
    assert_problem(ask_with(app, forged(key_id, **said)), 401, "unauthenticated")


@every(
    "header",
    [
        {"alg": "none", "typ": "dino-user+jwt", "kid": "new"},
        {"alg": "None", "typ": "dino-user+jwt", "kid": "new"},
        {"alg": "HS256", "typ": "dino-user+jwt", "kid": "new"},
        {"typ": "dino-user+jwt", "kid": "new"},
        {"alg": "HS256", "crit": 1, "kid": "new"},
        {"alg": ["HS256"], "kid": {"a": 1}},
        {},
    ],
)
def test_an_unsigned_one_is_401(app: Flask, key_id: str, header: dict[str, object]) -> None:
    good = forged(key_id)
    for token in (unsigned(header, key_id), unsigned(header, key_id) + good.rpartition(".")[2]):
        assert_problem(ask_with(app, token), 401, "unauthenticated")


def test_a_tampered_one_is_401(app: Flask, key_id: str) -> None:
    good = forged(key_id)
    header, body, signature = good.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**said, "sub": str(DOE)}).encode()).rstrip(b"=").decode()
    tampered = [
        f"{header}.{other}.{signature}",
        f"{header}.{body}.{signature[:-4]}AAAA",
        good + "A",
        good[1:],
        f"{good}.x",
    ]
    tampered += [good.swapcase(), f"{header}..{signature}", "a.b.c", "..", "." * 100, "x" * 7_000 + ".a.b", "é.é.é"]
    for token in tampered:
        assert_problem(ask_with(app, token), 401, "unauthenticated")
    assert ask_with(app, good).status_code == 200


def test_one_that_another_secret_signed_is_401(app: Flask, key_id: str) -> None:
    assert_problem(ask_with(app, forged(key_id, secret=b"x" * 32)), 401, "unauthenticated")


def test_whoever_is_refused_is_told_the_same_whatever_is_wrong(app: Flask, key_id: str) -> None:
    tokens = [forged(key_id, exp=NOW - 1), forged(key_id, secret=b"x" * 32), forged("aaaaaaaaaaaa"), "a.b.c"]
    answers = [ask_with(app, token) for token in tokens]
    assert len({answer.json["detail"] for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {
        'Bearer realm="dino-wallet", error="invalid_token"'
    }


def test_one_ends_at_its_second_also_while_it_is_remembered(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(app)
    token = token_for(client, expiresIn=60)
    player_client = client_of(app, token)
    assert player_client.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    now = time.time()
    monkeypatch.setattr(actors.time, "time", lambda: now + 61)
    assert_problem(player_client.get(f"/wallets/{JOHN_GOLD}"), 401, "unauthenticated")


# --- when its key ends ---


@pytest.mark.parametrize("what", ["key", "client"])
def test_revoking_its_key_or_client_ends_it(app: Flask, what: str) -> None:
    key_id, game = key_with(app)
    john = client_of(app, token_for(game))
    assert john.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    gate = access.gate_of(app)
    gate.revoke_key(key_id, by=BY) if what == "key" else gate.revoke_client("game", by=BY)
    assert_problem(john.get(f"/wallets/{JOHN_GOLD}"), 401, "unauthenticated")


def test_it_ends_in_other_processes_within_five_seconds(app: Flask, client_with: MakeClient) -> None:
    """Another application stands for another process: it has a memory of its own."""
    key_id, game = key_with(app)
    token = token_for(game)
    elsewhere = client_of(client_with().application, token)
    assert elsewhere.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    access.gate_of(app).revoke_key(key_id, by=BY)
    revoked_at = time.monotonic()
    asked_at = revoked_at
    while elsewhere.get(f"/wallets/{JOHN_GOLD}").status_code == 200:
        assert asked_at - revoked_at < 5
        time.sleep(0.05)
        asked_at = time.monotonic()
    assert_problem(elsewhere.get(f"/wallets/{JOHN_GOLD}"), 401, "unauthenticated")


def test_one_of_a_key_that_was_made_just_now_elsewhere_is_good(app: Flask, client_with: MakeClient) -> None:
    elsewhere = client_with().application
    assert client_of(elsewhere).get("/assets").status_code == 200
    time.sleep(0.3)  # A process asks for unknown keys that often at most.
    _, game = key_with(app)
    assert client_of(elsewhere, token_for(game)).get(f"/wallets/{JOHN_GOLD}").status_code == 200


# --- keys of signing ---


def said_by(signer: Signer) -> str:
    now = int(time.time())
    token = UserToken(user_id=JOHN, key_id="a" * 12, scopes=frozenset(ALL), made_at=now, expires_at=now + 60)
    text = signer.sign(token)
    assert signer.read(text) == token
    return text


def test_the_first_key_signs_and_all_are_believed() -> None:
    old, new = b"o" * 32, b"n" * 32
    before = Signer("development", {"1": old})
    announced = Signer("development", {"1": old, "2": new})
    turned = Signer("development", {"2": new, "1": old})
    after = Signer("development", {"2": new})
    assert announced.read(said_by(before))
    assert announced.read(said_by(turned))
    assert turned.read(said_by(announced))
    assert after.read(said_by(turned))
    for text in (said_by(before), said_by(announced)):
        with pytest.raises(ValueError, match="is not a user token"):
            after.read(text)


def test_one_that_names_no_key_is_none_even_where_there_is_but_one() -> None:
    secret = b"o" * 32
    signer = Signer("development", {"new": secret})
    assert signer.read(forged("a" * 12, secret=secret))
    with pytest.raises(ValueError, match="is not a user token"):
        signer.read(forged("a" * 12, {"kid": None}, secret))


def test_one_of_another_environment_is_none_even_with_the_same_secret() -> None:
    text = said_by(Signer("production", {"1": b"o" * 32}))
    with pytest.raises(ValueError, match="is not a user token"):
        Signer("staging", {"1": b"o" * 32}).read(text)


# --- remembered, and nowhere kept ---


def test_a_token_is_proved_once_while_the_keys_are_believed(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    john = player(app)
    proved = []
    read = Signer.read
    monkeypatch.setattr(Signer, "read", lambda self, text: proved.append(text) or read(self, text))
    monkeypatch.setattr(actors, "KEYS_SECONDS", 60.0)
    for _ in range(10):
        assert john.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    assert len(proved) == 1


def test_the_memory_of_tokens_is_bounded(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "TOKENS_MAX", 5)
    monkeypatch.setattr(actors, "KEYS_SECONDS", 60.0)
    client = client_of(app)
    for _ in range(12):
        assert ask_with(app, token_for(client)).status_code == 200
        assert len(access.gate_of(app)._keys.users) <= 5


def test_a_storm_of_bad_tokens_asks_the_database_nothing(
    app: Flask, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask_with(app, forged(key_id)).status_code == 200
    monkeypatch.setattr(actors, "KEYS_SECONDS", 60.0)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(access.gate_of(app).engine.__class__, "connect", fail)
    for _ in range(200):
        assert_problem(ask_with(app, forged(key_id, secret=b"x" * 32)), 401, "unauthenticated")


@pytest.fixture
def limited(client_with: MakeClient) -> Flask:
    return client_with(rate_limit="5 per minute").application


def test_a_player_has_a_budget_that_is_no_other_players(limited: Flask) -> None:
    john, doe = player(limited, JOHN), player(limited, DOE)
    for _ in range(5):
        assert john.get(f"/wallets/{JOHN_GOLD}").status_code == 200
    assert_problem(john.get(f"/wallets/{JOHN_GOLD}"), 429, "too_many_requests")
    assert_problem(player(limited, JOHN).get(f"/wallets/{JOHN_GOLD}"), 429, "too_many_requests")
    assert doe.get(f"/wallets/{DOE_GOLD}").status_code == 200
    assert client_of(limited).get(f"/wallets/{JOHN_GOLD}").status_code == 200


_USE = """
import pathlib, sys
from tests.keys import client_of
from wallet_app import create_app
app = create_app()
token = client_of(app).post("/users/2/tokens", json={"scopes": ["wallets:read", "wallets:spend"]}).json["token"]
pathlib.Path(sys.argv[1]).write_text(token)
john, wrong = client_of(app, token), client_of(app, token[:-2] + "AA")
for player in (john, wrong):
    for path in ("/wallets/3", "/wallets/5", "/wallets", "/users/2", "/metrics", "/assets", "/nothing"):
        answer = player.get(path)
        print(answer.status_code, answer.headers, answer.get_data(as_text=True))
    answer = player.post("/wallets/3/spend", json={"amount": 1, "referenceId": "abc-1", "note": "sword"})
    print(answer.status_code, answer.headers, answer.get_data(as_text=True))
print(client_of(app).get("/metrics").get_data(as_text=True))
print(app.extensions["wallet_gate"], app.extensions["wallet_settings"])
"""


def test_a_used_token_is_found_nowhere(database: URL, tmp_path: Path) -> None:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {**os.environ, **ENVIRONMENT, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _USE.replace("client_of(app)", f"client_of(app, {KEY!r})"), str(tmp_path / "token")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    token = (tmp_path / "token").read_text()
    told = [done.stdout, done.stderr]
    with psycopg.connect(conninfo(database)) as owner:
        tables = [row[0] for row in owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        told += [str(owner.execute(f"SELECT t::text FROM {table} AS t").fetchall()) for table in tables]
    assert f'"actor":"user:{JOHN}"' in done.stdout
    assert any(f"user:{JOHN}" in text for text in told[2:])
    secret_parts = [token, token.split(".")[2][:20], *(secret.decode() for secret in TOKEN_KEYS.values())]
    assert not [text for text in told for part in secret_parts if part in text]
