"""Limits over the API: what is left of them, and refusals that say when there is room."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from tests.api.conftest import client_of
from tests.api.support import assert_problem, new_reference
from tests.api.test_keys import MakeKey, make
from tests.api.test_openapi import validator
from wallet_app import service
from wallet_app.api.openapi import document

assert make
JOHN, TREASURY = 3, 1
BY = service.By(actor="tests")


def limit(**figures: int) -> None:
    service.set_limits(service.LimitTarget(asset_code="GOLD"), service.WalletLimits(**figures), by=BY)


def spend(client: FlaskClient, amount: int, reference: str) -> Any:
    return client.post(f"/wallets/{JOHN}/spend", json={"amount": amount, "referenceId": reference})


def test_a_wallet_tells_its_limits_and_what_is_used_of_them(client: FlaskClient) -> None:
    schema = document()["paths"]["/wallets/{walletId}/limits"]["get"]["responses"]["200"]["content"]
    path = f"/wallets/{JOHN}/limits"
    none = client.get(path).json
    assert none["limits"] == {"single": None, "balance": None, "day": None, "rolling": None}
    limit(single=100, balance=600, day=150, rolling=200)
    spent = spend(client, 70, "one")
    assert spent.status_code == 200
    found = client.get(path).json
    limits = found["limits"]
    assert (found["version"], found["timeZone"], found["raisedUntil"]) == (2, "UTC", None)
    assert limits["single"] == {"max": 100, "setFor": "asset"}
    assert limits["balance"] == {"max": 600, "setFor": "asset", "used": 430, "left": 170}
    assert {name: limits["day"][name] for name in ("max", "used", "left", "frees")} == {
        "max": 150, "used": 70, "left": 80, "frees": 70
    }  # fmt: skip
    # Of when it was spent: another hour may have begun since.
    spent_at, frees_at = (
        dt.datetime.fromisoformat(one) for one in (spent.json["createdAt"], limits["rolling"]["freesAt"])
    )
    assert dt.timedelta(hours=24) < frees_at - spent_at <= dt.timedelta(hours=25)
    for body in (none, found):
        assert [one.message for one in validator(schema["application/json"]["schema"]).iter_errors(body)] == []


def test_a_refusal_names_the_limit_what_is_used_and_when_there_is_room(client: FlaskClient) -> None:
    limit(day=150)
    spend(client, 100, "one")
    refused = spend(client, 51, "two")
    problem = assert_problem(refused, 409, "limit_exceeded")
    wanted = {"limit": "day", "bound": 150, "used": 100, "amount": 51, "walletId": JOHN, "balance": 400, "version": 2}
    assert {name: problem[name] for name in wanted} == wanted
    assert dt.datetime.fromisoformat(problem["freesAt"]).time() == dt.time()
    assert spend(client, 50, "two").status_code == 200
    batch = {"mode": "each", "items": [{"type": "spend", "walletId": JOHN, "amount": 1, "referenceId": "three"}]}
    assert client.post("/batches", json=batch).json["items"][0]["body"]["code"] == "limit_exceeded"
    dry = client.post(f"/wallets/{JOHN}/spend?dryRun=true", json={"amount": 1, "referenceId": "four"})
    assert_problem(dry, 409, "limit_exceeded")


def test_who_may_read_the_wallet_may_read_its_limits(app: Flask, client: FlaskClient, make: MakeKey) -> None:
    def make_client(*scopes: str, **limits: Any) -> FlaskClient:
        return client_of(app, make(client=f"shop-{new_reference()}", scopes=scopes, **limits).text)

    assert_problem(client.get("/wallets/999/limits"), 404, "wallet_not_found")
    assert_problem(client.get(f"/wallets/{TREASURY}/limits"), 409, "system_wallet")
    assert_problem(client.get(f"/wallets/{JOHN}/limits?at=1"), 422, "validation_error", "/at")
    assert_problem(make_client("wallets:spend").get(f"/wallets/{JOHN}/limits"), 403, "forbidden")
    diamonds = make_client("wallets:read", assets=["DIAMOND"])
    assert_problem(diamonds.get(f"/wallets/{JOHN}/limits"), 403, "asset_not_allowed")
