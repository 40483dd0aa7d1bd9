"""Who may use which route: the table in docs/access.md, held against every route, with every kind of credential."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api import access_table
from tests.api.access_table import Row
from tests.api.every_command import RECORDS, record_of
from tests.api.support import assert_problem, books, new_reference
from tests.every_case import every
from tests.keys import KEY, TOKEN_KEYS, VAULT, client_of
from wallet_app import access, create_app, service
from wallet_app.api import examples
from wallet_app.api.operations import OPERATIONS
from wallet_app.service import SCOPES, By, KeySettings, Signer, UserToken, Vault

TABLE = access_table.read()
GUARDED = [row for row in TABLE if row.scope not in {access.PUBLIC, access.GUARDS_ITSELF}]
BY = By(actor="tests")
JOHN = 2
NOBODY = {
    "asset_code": "SILVER",
    "wallet_id": "999999999",
    "user_id": "999999999",
    "transaction_id": str(uuid.UUID(int=7)),
    "key_id": "a" * 12,
    "hold_id": str(uuid.UUID(int=7)),
    "lot_id": str(uuid.UUID(int=7)),
    "switch_id": "999999999",
}
QUERIES = {"DELETE /switches/{switch_id}": {"reason": "A test"}}
"""What a route must be told in its query, by method and path."""
HANDS_ON = {"POST /users/{user_id}/tokens", "POST /keys", "POST /keys/{key_id}/rotate"}
"""Routes that hand on what the caller has: with their own scope alone it is let in, and has nothing to hand on."""
_clients = itertools.count()


def ids(row: Row) -> str:
    return f"{row.method} {row.path}"


@dataclass(frozen=True)
class Keys:
    """A key with each scope alone, and keys that are good for nothing."""

    by_scope: dict[str, str]
    bad: dict[str, str]
    elsewhere: str
    of_everything: str
    """The id of a key with every scope."""
    expired_at: float


@pytest.fixture(scope="module")
def keys(shared_app: Flask) -> Keys:
    gate = access.gate_of(shared_app)

    def make(*scopes: str, **limits: Any) -> service.MadeKey:
        settings = KeySettings(scopes=scopes, **limits)
        return gate.create_key(client=f"matrix-{next(_clients)}", settings=settings, by=BY)

    everything = tuple(SCOPES)
    # Far enough for the key to be made before on any machine; other tests pass the time.
    expired_at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
    expired, revoked, of_revoked = make(*everything, expires_at=expired_at), make(*everything), make(*everything)
    gate.revoke_key(revoked.key_id, by=BY)
    client = next(key.client for key in service.list_keys() if key.key_id == of_revoked.key_id)
    gate.revoke_client(client, by=BY)
    good, everything_key = KEY, make(*everything)
    EXISTING["key_id"] = make(*everything, networks=["192.0.2.0/24"]).key_id
    settings = service.SwitchSettings(target="user", user_id=3, side="credits", reason="A test")
    EXISTING["switch_id"] = str(service.set_switch(settings, by=BY)[0].switch_id)
    return Keys(
        by_scope={scope: make(scope).text for scope in SCOPES},
        bad={
            "expired": expired.text,
            "revoked": revoked.text,
            "of a revoked client": of_revoked.text,
            "unknown": VAULT.make_key().text,
            "wrong checksum": good[:-1] + ("a" if good[-1] != "a" else "b"),
            "wrong secret": with_another_secret(good),
            "for another environment": Vault("production", VAULT.peppers).make_key().text,
            "malformed": "dino",
            "empty": "",
            "cut": good[:-1],
            "too long": good + "a",
            "of other letters": good.replace("dino", "d\xeeno"),
            "enormous": "a" * 8_000,
            "a token of a revoked key": token(SIGNER, revoked.key_id),
            "a token that has ended": token(SIGNER, everything_key.key_id, seconds=-1),
            "a token for another environment": token(Signer("production", TOKEN_KEYS), everything_key.key_id),
            "a token that another signed": token(Signer("development", {"new": b"x" * 32}), everything_key.key_id),
            "an unsigned token": token(SIGNER, everything_key.key_id).rpartition(".")[0] + ".",
            "a tampered token": tampered(token(SIGNER, everything_key.key_id)),
        },
        of_everything=everything_key.key_id,
        elsewhere=make(*everything, networks=["192.0.2.0/24"]).text,
        expired_at=expired_at.timestamp(),
    )


@pytest.fixture(autouse=True)
def nothing_stays_stopped(shared_app: Flask, keys: Keys) -> None:
    """What one test may freeze or stop, the next one may move."""
    for view in service.list_switches():
        service.lift_switch(view.switch_id, reason="the next test", by=BY)
    if service.get_wallet(3).status == "FROZEN":
        origin = service.Origin(client="tests", actor="tests")
        service.execute(service.Unfreeze(wallet_id=3, reference=new_reference(), origin=origin, reason="x"))


SIGNER = Signer("development", TOKEN_KEYS)


def token(signer: Signer, key_id: str, *scopes: str, user: int = JOHN, seconds: int = 3_000) -> str:
    """Return a user token that this signer makes by leave of the key."""
    now = int(time.time())
    asked = frozenset(scopes or service.TOKEN_SCOPES)
    return signer.sign(UserToken(user_id=user, key_id=key_id, scopes=asked, made_at=now - 10, expires_at=now + seconds))


def tampered(token: str) -> str:
    """Return the token with another signature, whatever it ended with."""
    return token[:-3] + ("AAA" if token[-3:] != "AAA" else "BBB")


def with_another_secret(key: str) -> str:
    """Return a key with this one's id and a right checksum, and another secret."""
    other = VAULT.make_key().text
    head, secret = key.split("_")[:3], other.split("_")[3][:43]
    body = "_".join((*head, secret))
    return body + service.credentials._checksum(body)  # type: ignore[attr-defined]


def ask(client: FlaskClient, row: Row, *, objects: dict[str, str] | None = None, **more: Any) -> Any:
    """Ask for the route, for objects that exist or those given, with the body that the documentation shows."""
    path = re.sub(r"\{(\w+)\}", lambda match: (objects or EXISTING)[match[1]], row.path)
    return client.open(path, method=row.method, json=body_of(row), query_string=QUERIES.get(ids(row)), **more)


LEGS = {"wallets:spend", "wallets:topup", "wallets:bonus"}
EXISTING = {**NOBODY, "asset_code": "GOLD", "wallet_id": "3", "user_id": "2", "filename": "docs/docs.js"}
"""And, once the keys are made, the `key_id` of one that nobody uses, and a `switch_id`: these tests revoke and lift."""


def body_of(row: Row) -> Any:
    """Return the documentation's first example, under a reference of its own."""
    camel = re.sub(r"\{(\w+)\}", lambda m: "{" + re.sub(r"_(\w)", lambda n: n[1].upper(), m[1]) + "}", row.path)
    found = [one for one in OPERATIONS if (one.method, one.path) == (row.method, camel)]
    shown = examples.REQUESTS.get(found[0].operation_id) if found else None
    if shown is None:
        return None
    body = dict(next(iter(shown.values())))
    return body | ({"referenceId": new_reference()} if "referenceId" in body else {})


def test_the_table_is_what_the_routes_declare(shared_app: Flask) -> None:
    assert access_table.FILE.read_text() == access_table.written(shared_app), (
        "write it anew: python -m tests.api.access_table > docs/access.md"
    )
    assert len(TABLE) == len({row[:2] for row in TABLE}) > 10


@pytest.mark.parametrize("row", GUARDED, ids=ids)
@every("scope", SCOPES)
def test_a_scope_opens_what_the_table_says_and_nothing_else(
    shared_app: Flask, keys: Keys, row: Row, scope: str
) -> None:
    before = books()
    answer = ask(client_of(shared_app, keys.by_scope[scope]), row)
    if row.scope == scope and ids(row) in HANDS_ON:
        assert assert_problem(answer, 403, "forbidden")["scope"] == "wallets:read"
        return
    if row.scope == access.EACH_LEG:
        # Of the three that the example needs, none is enough.
        assert assert_problem(answer, 403, "forbidden")["scope"] in LEGS - {scope}
        assert books() == before
        return
    if row.scope in {scope, access.EACH_ITEM}:
        assert answer.status_code not in {401, 403, 405, 500}, answer.text
        return
    body = assert_problem(answer, 403, "forbidden")
    assert body["scope"] == row.scope
    assert f"scope {row.scope}" in body["detail"]
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="dino-wallet", error="insufficient_scope", scope="{row.scope}"'
    )
    assert books() == before


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", ["topup", "bonus", "spend"])
@pytest.mark.parametrize("mode", ["each", "atomic", "lines"])
def test_an_item_of_a_batch_needs_what_its_route_needs(
    shared_app: Flask, keys: Keys, scope: str, kind: str, mode: str
) -> None:
    client = client_of(shared_app, keys.by_scope[scope])
    item = {"type": kind, "walletId": 3, "amount": 1, "referenceId": new_reference()}
    if mode == "lines":
        sent = f"{json.dumps(item)}\n".encode()
        found = json.loads(client.post("/batches", data=sent, content_type="application/x-ndjson").get_data())
    else:
        answer = client.post("/batches", json={"mode": mode, "items": [item]})
        found = answer.json["items"][0] if answer.status_code == 200 else {"status": 403, "body": answer.json}
    alone = client.post(f"/wallets/3/{kind}", json={"amount": 1, "referenceId": item["referenceId"]})
    allowed = scope == f"wallets:{kind}"
    assert found["status"] == alone.status_code == (200 if allowed else 403)
    if not allowed:
        varying = {"requestId", "index"}
        assert {k: v for k, v in found["body"].items() if k not in varying} == {
            k: v for k, v in alone.json.items() if k not in varying
        }


ROUTE_OF = {
    "topup": "topUp",
    "bonus": "grantBonus",
    "hold": "placeHold",
    "capture": "captureHold",
    "release": "releaseHold",
    "reversal": "reverseTransaction",
    **{kind: f"{kind}Wallet" for kind in ("freeze", "unfreeze", "close")},
    **{kind: f"{kind}Lot" for kind in ("extend", "revoke")},
}
"""The operation that each type of record stands for, where it is not called the same."""


def test_every_type_of_item_needs_the_scope_of_its_route(shared_app: Flask, keys: Keys) -> None:
    """Each type with each scope, of a key and of a user's token; what a scope opens is not refused for want of one."""
    declared = {one.operation_id: one.scope for one in OPERATIONS}
    items = [record_of(client_of(shared_app), kind) for kind in RECORDS]
    for scope, of_token in itertools.product(SCOPES, (False, True)):
        credential = token(SIGNER, keys.of_everything, scope) if of_token else keys.by_scope[scope]
        answer = client_of(shared_app, credential).post("/batches", json={"mode": "each", "items": items})
        for item, outcome in zip(items, answer.json["items"], strict=True):
            needed = declared[ROUTE_OF.get(item["type"], item["type"])]
            opens = scope == needed and (not of_token or scope in service.TOKEN_SCOPES)
            case = item["type"], scope, of_token, outcome
            assert (outcome["status"] == 403) != opens, case
            if not opens:
                told = outcome["body"]["scope"]
                assert told in LEGS - {scope} if needed == access.EACH_LEG else told == needed, case


@pytest.mark.parametrize("row", GUARDED, ids=ids)
@every("scope", SCOPES)
def test_a_users_token_opens_what_the_table_says_if_a_token_may_have_the_scope(
    shared_app: Flask, keys: Keys, row: Row, scope: str
) -> None:
    """Also one that was signed with a scope that none is given, by whatever fault."""
    before = books()
    answer = ask(client_of(shared_app, token(SIGNER, keys.of_everything, scope)), row)
    if row.scope == access.EACH_LEG:
        assert assert_problem(answer, 403, "forbidden")["scope"] in LEGS - {scope}
        assert books() == before
        return
    if row.scope == access.EACH_ITEM or row.scope == scope in service.TOKEN_SCOPES:
        assert answer.status_code not in {401, 403, 405, 500}, answer.text
        return
    assert assert_problem(answer, 403, "forbidden")["scope"] == row.scope
    assert books() == before


@pytest.mark.parametrize("row", [row for row in GUARDED if "{" in row.path], ids=ids)
def test_what_is_anothers_is_to_a_user_what_does_not_exist(
    shared_app: Flask, keys: Keys, row: Row, doe: dict[str, str]
) -> None:
    for scope in SCOPES:
        client = client_of(shared_app, token(SIGNER, keys.of_everything, scope))
        before = books()
        answers = [ask(client, row, objects=objects) for objects in (doe, NOBODY)]
        assert books() == before
        foreign, absent = (told(answer, objects) for answer, objects in zip(answers, (doe, NOBODY), strict=True))
        assert foreign == absent
        assert foreign[0] == (404 if row.scope == scope in service.TOKEN_SCOPES else 403)


@pytest.fixture
def doe(shared_app: Flask) -> dict[str, str]:
    """What is another user's, by the names of path parameters."""
    posted = client_of(shared_app).post("/wallets/5/topup", json={"amount": 1, "referenceId": new_reference()})
    asked = {"walletId": 5, "amount": 1, "expiresIn": 60, "referenceId": new_reference()}
    hold = client_of(shared_app).post("/holds", json=asked).json["hold"]["holdId"]
    granted = {"amount": 1, "expiresAt": "2100-01-01", "referenceId": new_reference()}
    lot = client_of(shared_app).post("/wallets/5/bonus", json=granted).json["lotId"]
    others = {"wallet_id": "5", "user_id": "3", "transaction_id": posted.json["transactionId"], "hold_id": hold}
    others["lot_id"] = lot
    return others | {name: EXISTING[name] for name in ("key_id", "switch_id", "asset_code")}


def told(answer: Any, objects: dict[str, str]) -> tuple[object, ...]:
    """Return all of an answer but the request's id and the id that was asked for."""
    text = answer.get_data(as_text=True).replace(answer.headers["X-Request-Id"], "")
    for asked in objects.values():
        text = re.sub(rf'(\b(wallet|user|transaction|hold|lot)( |Id":"?)){asked}\b', r"\1", text)
    headers = {name: value for name, value in answer.headers if name not in {"X-Request-Id", "Content-Length"}}
    return answer.status_code, headers, text


@pytest.mark.parametrize("row", GUARDED, ids=ids)
def test_without_a_credential_nothing_opens(shared_app: Flask, row: Row) -> None:
    for method in {row.method, *({"HEAD"} if row.method == "GET" else ())}:
        answer = ask(client_of(shared_app, None), row._replace(method=method))
        if method != "HEAD":
            assert_problem(answer, 401, "unauthenticated")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dino-wallet"'


@pytest.mark.parametrize("row", GUARDED, ids=ids)
def test_a_credential_that_is_not_good_opens_nothing(shared_app: Flask, keys: Keys, row: Row) -> None:
    while time.time() <= keys.expired_at:
        time.sleep(0.05)
    before = books()
    for name, text in keys.bad.items():
        answer = ask(client_of(shared_app, text), row)
        assert answer.status_code == 401, name
        body = assert_problem(answer, 401, "unauthenticated")
        assert not text or text not in str(body) or len(text) < 5, name
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dino-wallet", error="invalid_token"', name
    assert books() == before


@pytest.mark.parametrize(
    "header",
    ["Basic eDp4", KEY, f"Bearer{KEY}", f"Token {KEY}", f"Bearer {KEY}, Bearer x"],
    ids=["basic", "bare", "without a blank", "another scheme", "two"],
)
def test_only_a_bearer_header_is_looked_at(shared_app: Flask, header: str) -> None:
    client = client_of(shared_app, None)
    assert_problem(client.get("/wallets/3", headers={"Authorization": header}), 401, "unauthenticated")


def test_a_key_elsewhere_in_the_request_is_none(shared_app: Flask) -> None:
    client = client_of(shared_app, None)
    client.set_cookie("Authorization", f"Bearer {KEY}")
    assert_problem(client.get("/wallets/3", headers={"X-Api-Key": KEY}), 401, "unauthenticated")
    assert_problem(client.get(f"/wallets/3?access_token={KEY}"), 401, "unauthenticated")
    assert client.get("/wallets/3", headers={"Authorization": f"bearer   {KEY} "}).status_code == 200


@pytest.mark.parametrize("row", GUARDED, ids=ids)
def test_a_key_works_from_its_networks_only(shared_app: Flask, keys: Keys, row: Row) -> None:
    client = client_of(shared_app, keys.elsewhere)
    for address in ("198.51.100.7", "::1", "2001:db8::7", "::ffff:198.51.100.7", ""):
        assert_problem(ask(client, row, environ_overrides={"REMOTE_ADDR": address}), 403, "network_not_allowed")
    for address in ("192.0.2.1", "::ffff:192.0.2.1"):
        answer = ask(client, row, environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code not in {401, 403}, answer.text


@pytest.mark.parametrize("row", [row for row in GUARDED if "{" in row.path], ids=ids)
def test_what_does_not_exist_is_told_only_to_who_may_ask(shared_app: Flask, keys: Keys, row: Row) -> None:
    for scope in SCOPES:
        client = client_of(shared_app, keys.by_scope[scope])
        absent, present = ask(client, row, objects=NOBODY), ask(client, row)
        # Whether there is a key to rotate is told to who may make keys; a token is refused for its scopes first.
        assert absent.status_code == (404 if scope == row.scope != "users:tokens" else 403)
        if scope != row.scope:
            assert {**absent.json, "requestId": ""} == {**present.json, "requestId": ""}


@pytest.mark.parametrize("row", [row for row in TABLE if row.scope == access.PUBLIC], ids=ids)
def test_what_is_public_needs_no_key_and_looks_at_none(shared_app: Flask, row: Row) -> None:
    assert ask(client_of(shared_app, None), row).status_code == 200
    assert ask(client_of(shared_app, "nonsense"), row).status_code == 200


def test_a_path_that_does_not_exist_says_so_to_everybody(shared_app: Flask) -> None:
    client = client_of(shared_app, None)
    assert_problem(client.get("/nothing"), 404, "not_found")
    assert_problem(client.delete("/wallets/3"), 405, "method_not_allowed")
    assert client.options("/wallets/3").status_code == 200


def test_a_route_that_declares_nothing_keeps_the_service_from_starting(shared_app: Flask) -> None:
    app = create_app(shared_app.extensions["wallet_settings"])
    app.add_url_rule("/secret", "secret", lambda: "x")
    with pytest.raises(RuntimeError, match=r"/secret \(secret\) does not declare who may use it"):
        access.require_declarations(app)
    with pytest.raises(ValueError, match="a scope that does not exist: wallets:steal"):
        access.declare("secret", "wallets:steal")
