"""/openapi.json: valid, complete, and true of the service; /docs shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.api.support import movement, new_reference
from tests.keys import KEY, VAULT
from wallet_app.api.openapi import document

NOT_DESCRIBED = {"/openapi.json", "/docs"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


OPERATIONS = [pytest.param(operation, id=operation["operationId"]) for _, _, operation in operations()]


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each media type of the operation's request and answers."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document()["components"]}, format_checker=FormatChecker())


def test_it_is_served_and_valid(shared: FlaskClient) -> None:
    answer = shared.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == document()
    OpenAPIV31SpecValidator(answer.json).validate()


def test_every_route_is_described_and_every_description_is_a_route(shared_app: Flask) -> None:
    routes = set()
    for rule in shared_app.url_map.iter_rules():
        is_api = rule.endpoint == "health" or rule.endpoint.startswith("api.")
        if is_api and rule.rule not in NOT_DESCRIBED:
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: "{" + match[1] + "}", rule.rule)
            routes |= {(method, path) for method in rule.methods - {"HEAD", "OPTIONS"}}
    snake = {
        (method, re.sub(r"(?<=[a-z])[A-Z]", lambda m: "_" + m[0].lower(), path)) for method, path, _ in operations()
    }
    assert routes == snake


def test_operations_have_names_of_their_own_tags_and_words() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in names)
    tags = {tag["name"] for tag in document()["tags"]}
    for _, _, operation in operations():
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert all(parameter["description"] for parameter in operation.get("parameters", []))
        assert all(answer["description"] for answer in operation["responses"].values())
    assert document()["servers"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_requests_and_answers_have_examples_that_their_schemas_accept(operation: dict[str, Any]) -> None:
    for content in contents(operation):
        assert content["examples"]
        for name, example in content["examples"].items():
            errors = [error.message for error in validator(content["schema"]).iter_errors(example["value"])]
            assert errors == [], f"{operation['operationId']}, {name}"


@pytest.mark.parametrize("verb", ["topup", "bonus", "spend"])
def test_the_example_of_a_movement_is_what_the_service_answers(client: FlaskClient, verb: str) -> None:
    operation = document()["paths"][f"/wallets/{{walletId}}/{verb}"]["post"]
    request = operation["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]
    varying = {"transactionId", "createdAt"}
    answer = client.post("/wallets/3/" + verb, json=request).json
    assert answer.keys() == shown["new"]["value"].keys()
    assert {name: answer[name] for name in answer.keys() - varying} == {
        name: value for name, value in shown["new"]["value"].items() if name not in varying
    }
    client.post("/wallets/3/topup", json=movement(50))
    again = client.post("/wallets/3/" + verb, json=request).json
    assert {name: again[name] for name in again.keys() - varying} == {
        name: value for name, value in shown["replayed"]["value"].items() if name not in varying
    }


def test_answers_have_no_field_that_the_document_does_not_name(client: FlaskClient) -> None:
    posted = client.post("/wallets/3/topup", json=movement()).json
    asked = {"walletId": 3, "amount": 1, "expiresIn": 60, "referenceId": new_reference()}
    hold = client.post("/holds", json=asked).json["hold"]
    paths = {
        "/users": "/users?externalId=demo:John",
        "/users/{userId}": "/users/2",
        "/assets": "/assets?limit=1",
        "/wallets": "/wallets?limit=1",
        "/wallets/{walletId}": "/wallets/3",
        "/wallets/{walletId}/balance": "/wallets/1/balance",
        "/wallets/{walletId}/entries": "/wallets/3/entries?limit=1",
        "/wallets/{walletId}/holds": "/wallets/3/holds",
        "/holds/{holdId}": f"/holds/{hold['holdId']}",
        "/transactions/{transactionId}": f"/transactions/{posted['transactionId']}",
        "/keys": "/keys?limit=1",
        "/keys/{keyId}": f"/keys/{VAULT.read_id(KEY)}",
        "/health": "/health",
    }
    for path, called in paths.items():
        schema = document()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert [error.message for error in validator(schema).iter_errors(client.get(called).json)] == []


def test_the_page_shows_it_without_anything_from_elsewhere(shared: FlaskClient) -> None:
    answer = shared.get("/docs")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    for address in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", page):
        assert shared.get(address).status_code == 200, address


@pytest.mark.parametrize("operation", OPERATIONS)
def test_examples_of_problems_stand_under_their_status(operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        for example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).values():
            assert str(example["value"]["status"]) == status


@pytest.mark.parametrize("path", ["/users", "/wallets"])
def test_the_example_of_a_creation_is_what_the_service_answers(client: FlaskClient, path: str) -> None:
    for created in ("/users", "/wallets"):
        operation = document()["paths"][created]["post"]
        request = operation["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
        answer = client.post(created, json=request)
        assert answer.status_code == 201
        if created == path:
            break
    for status in ("201", "200"):
        (shown,) = operation["responses"][status]["content"]["application/json"]["examples"].values()
        assert {**answer.json, "createdAt": 0, "updatedAt": 0} == {**shown["value"], "createdAt": 0, "updatedAt": 0}
    assert answer.headers["Location"] == f"{path}/{answer.json[{'/users': 'userId', '/wallets': 'walletId'}[path]]}"
