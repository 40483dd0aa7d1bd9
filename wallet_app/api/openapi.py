"""/openapi.json, generated from the operations and models that serve, and /docs, which lets people try it."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Response, make_response, render_template
from pydantic import BaseModel

from wallet_app import access
from wallet_app.api import (
    examples,
    examples_reading,
    lot_examples,
    report_examples,
    reversal_examples,  # noqa: F401 - to import it is to add to examples
    state_examples,
)
from wallet_app.api.operations import OPERATIONS, Operation, blueprint
from wallet_app.api.schemas import HealthAnswer, Problem, json_schemas
from wallet_app.service import SCOPES, TOKEN_SCOPES
from wallet_app.web import json_response

_PROBLEM_TEXTS = {
    400: "Unreadable: not JSON, a key twice, too deep, or a cursor of another list",
    401: "No API key, or not a good one",
    403: "The key may not do this: it lacks the scope, or a limit of it is exceeded",
    404: "Unknown",
    409: "The books refuse; the reference is still free",
    412: "The wallet has not the version that If-Match names",
    413: "The body is too large",
    415: "Not application/json",
    422: "Wrong in itself, or the reference stands for another command (`reference_mismatch`)",
    429: "Too many requests; see Retry-After",
    503: "Busy, or the outcome is unknown: repeat with the same reference after Retry-After",
}
_DESCRIPTION = """Moves virtual assets between wallets.

Amounts are whole numbers in the asset's smallest unit.

Every write carries a reference of the caller's choice, as `referenceId` in the body or as the `Idempotency-Key` header
(raw or quoted; equal if both are sent). It names that command of that wallet for ever: the same command under the same
reference is answered with the first transaction and moves nothing, another command under it is refused. So after a
timeout or a 503, repeat. A refusal leaves the reference free.

To act on what was read and on nothing else, send its `ETag`, the wallet's version, as `If-Match` with the command: it
is refused with 412 if the wallet has moved on. In records it is `ifVersion`.

With `?dryRun=true`, commands, batches, and what makes users, wallets and switches tell what they would answer, and do
nothing: no reference is used up. What hands out secrets (keys, tokens) has no dry run, because the secret is the
answer; nor has what revokes them, or lifts a switch.

Send an API key with every request: `Authorization: Bearer dino_...`. Its scopes say what it may do, each operation says
which it needs; a key may also be limited to amounts, assets and networks.

Errors are problem JSON (RFC 9457): decide by `code`, show people `detail`, quote `requestId`. Requests are limited per
key; `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` tell what is left, and for how many seconds."""
_TAGS = {
    "Service": "Whether it works",
    "Movements": "Credit comes in and goes out, once per reference",
    "Holds": "Credit is set aside, then spent or given back",
    "Lots": "What was granted, how much of it is left, and until when",
    "Between wallets": "Credit goes from wallet to wallet, all of it or nothing",
    "Stop switches": "What must not move any more: of a wallet, a user, an asset, or at all",
    "Keys": "Which services may do what",
    "Batches": "Many commands in one request, and runs of any length",
    "Users": "Who has wallets",
    "Assets": "What wallets are of",
    "Wallets": "What a wallet has, and how it came to it",
    "Transactions": "What was accepted under a reference",
    "Reports": "What users have of an asset, how it came about, and whether that ties to the books",
}
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The caller's own X-Request-Id where it is well-formed, else one of ours; it stands in our log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    },
    "Idempotent-Replayed": {
        "description": "Only on a replay",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "ETag": {
        "description": "The version of the wallet: of a command's, that under which its reference counts. Whatever is "
        "answered, a hold too, this is what If-Match takes. A SYSTEM wallet has none.",
        "schema": {"type": "string", "pattern": '^"(?:0|[1-9][0-9]*)"$'},
    },
    "Location": {
        "description": "Where what was made is to be read; absent in a dry run",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "WWW-Authenticate": {
        "description": "What is missing, as RFC 6750 has it",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer realm="},
    },
    "Retry-After": {
        "description": "Seconds to wait before repeating",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "dino_<environment>_<id>_<secret>, or a user token",
    "description": "An API key, or a token that was made with one and speaks for one user: "
    "`POST /users/{userId}/tokens`. The scopes, with those that a token can have marked by a star:\n\n"
    + "\n".join(f"- `{name}`{' ★' if name in TOKEN_SCOPES else ''}: {says}" for name, says in SCOPES.items()),
}
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


state_examples.add()
lot_examples.add()
examples_reading.add()
report_examples.add()
access.declare("api.openapi", access.PUBLIC)
access.declare("api.docs", access.PUBLIC)


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
        models += [model for model in (operation.request, operation.answer, operation.line) if model is not None]
    paths: dict[str, Any] = {"/health": {"get": _health()}}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dino Wallet API",
            "version": "1",
            "description": _DESCRIPTION,
        },
        "servers": [{"url": "/", "description": "The service that served this document"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": json_schemas(list(dict.fromkeys(models))),
            "headers": _HEADERS,
            "securitySchemes": {"apiKey": _SECURITY},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    name = operation.operation_id
    described: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": list(operation.parameters),
        "responses": {
            **_answers(operation),
            **{str(status): _problem(status, examples.PROBLEMS[name][status]) for status in operation.problems},
        },
    }
    if operation.scope != access.PUBLIC:
        # Of schemes other than OAuth, 3.1 lets the list name roles "for other purposes": here, the scope.
        described["security"] = [{"apiKey": [] if operation.scope in access.ASKED_LATER else [operation.scope]}]
    if operation.description or operation.scope in SCOPES:
        scope = f"Needs the scope `{operation.scope}`." if operation.scope in SCOPES else ""
        described["description"] = "\n\n".join(filter(None, [operation.description, scope]))
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.request.__name__, "application/json", examples.REQUESTS[name]),
        }
    if operation.line is not None:
        described["requestBody"]["content"] |= _lines("One record a line", examples.LINES[name])
        described["responses"]["200"]["content"] |= _lines(
            f"One {operation.line.__name__} a line", examples.ANSWER_LINES[name]
        )
    return described


def _answers(operation: Operation) -> dict[str, Any]:
    """Describe what is answered if nothing is wrong."""
    headers = ["X-Request-Id"] + (["Idempotent-Replayed"] if operation.is_command else [])
    headers += ["ETag"] if operation.tells_version else []
    if operation.answer is None:
        return {"204": {"description": "Done", "headers": _refer(headers)}}
    model, shown = operation.answer.__name__, examples.ANSWERS[operation.operation_id]
    if operation.always_new:
        return {"201": _answer("Made", model, shown, [*headers, "Location"])}
    if operation.creates:
        versioned = ["ETag"] if operation.tells_version else []
        return {
            "201": _answer("Made", model, shown, ["X-Request-Id", "Location", *versioned]),
            "200": _answer("It was there", model, examples.ANSWERS_AGAIN.get(operation.operation_id, shown), headers),
        }
    return {"200": _answer("Done", model, shown, headers)}


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Tell whether the service reaches its database",
        "description": "For probes: it is not limited, and asks the database each time.",
        "tags": ["Service"],
        "responses": {
            "200": _answer("It does", "HealthAnswer", examples.HEALTHY, ["X-Request-Id"]),
            "503": _answer("It does not", "HealthAnswer", examples.SICK, ["X-Request-Id", "Retry-After"]),
        },
    }


def _problem(status: int, shown: dict[str, Any]) -> dict[str, Any]:
    headers = ["X-Request-Id"] + (["Retry-After"] if status in {429, 503} else [])
    headers += ["WWW-Authenticate"] if status in {401, 403} else []
    return _answer(_PROBLEM_TEXTS[status], "Problem", shown, headers)


def _answer(description: str, model: str, shown: dict[str, Any], headers: list[str]) -> dict[str, Any]:
    media = "application/problem+json" if model == "Problem" else "application/json"
    return {
        "description": description,
        "headers": _refer(headers),
        "content": _content(model, media, shown),
    }


def _refer(headers: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _lines(description: str, shown: dict[str, Any]) -> dict[str, Any]:
    return {
        "application/x-ndjson": {
            "schema": {"type": "string", "contentMediaType": "application/x-ndjson", "description": description},
            "examples": {name: {"value": value} for name, value in shown.items()},
        }
    }


def _content(model: str, media: str, shown: dict[str, Any]) -> dict[str, Any]:
    return {
        media: {
            "schema": {"$ref": f"#/components/schemas/{model}"},
            "examples": {name: {"value": value} for name, value in shown.items()},
        }
    }
