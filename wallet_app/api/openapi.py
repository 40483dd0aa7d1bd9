"""/openapi.json, generated from the operations and models that serve, and /docs, which lets people try it."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Response, make_response, render_template
from pydantic import BaseModel

from wallet_app.api.operations import OPERATIONS, Operation, blueprint
from wallet_app.api.schemas import HealthAnswer, Problem, json_schemas
from wallet_app.web import json_response

_PROBLEM_TEXTS = {
    400: "Unreadable: not JSON, a key twice, too deep, or a cursor of another list",
    404: "Unknown",
    409: "The books refuse; the reference is still free",
    413: "The body is too large",
    415: "Not application/json",
    422: "Wrong in itself, or the reference stands for another command (`reference_mismatch`)",
    429: "Too many requests; see Retry-After",
    503: "Busy, or the outcome is unknown: repeat with the same reference after Retry-After",
}
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The API as OpenAPI 3.1."""
    return json_response(document())


@blueprint.get("/docs")
def docs() -> Response:
    """The API as a page to read and try."""
    response = make_response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = _DOCS_POLICY
    return response


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    models: list[type[BaseModel]] = [HealthAnswer, Problem]
    for operation in OPERATIONS:
        models += [model for model in (operation.request, operation.answer) if model is not None]
    paths: dict[str, Any] = {"/health": {"get": _health()}}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dino Wallet API",
            "version": "1",
            "description": "Moves virtual assets between wallets. Amounts are whole numbers in the asset's smallest "
            "unit. Every write carries a `referenceId` and is safe to repeat with it.",
        },
        "paths": paths,
        "components": {"schemas": json_schemas(list(dict.fromkeys(models)))},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": list(operation.parameters),
        "responses": {
            "200": _answer("Done", operation.answer.__name__),
            **{str(status): _answer(_PROBLEM_TEXTS[status], "Problem") for status in operation.problems},
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.request.__name__, "application/json"),
        }
    return described


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Tell whether the service reaches its database",
        "tags": ["Service"],
        "responses": {
            "200": _answer("It does", "HealthAnswer"),
            "503": _answer("It does not", "HealthAnswer"),
        },
    }


def _answer(description: str, model: str) -> dict[str, Any]:
    media = "application/problem+json" if model == "Problem" else "application/json"
    return {"description": description, "content": _content(model, media)}


def _content(model: str, media: str) -> dict[str, Any]:
    return {media: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
