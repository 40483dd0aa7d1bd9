"""The declaration of each operation of the API: its route and its place in the OpenAPI document, said once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response
from pydantic import BaseModel

from wallet_app import access
from wallet_app.api.conditions import IF_MATCH
from wallet_app.api.parameters import DRY_RUN
from wallet_app.web import camel_case, json_response

blueprint = Blueprint("api", __name__)

View = Callable[..., Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a caller may know of an operation. `path` names parameters as OpenAPI does: /wallets/{walletId}."""

    method: str
    path: str
    operation_id: str
    summary: str
    description: str
    tag: str
    scope: str
    """The scope that it needs, or access.PUBLIC."""
    answer: type[BaseModel] | None
    """None if it is answered 204, with nothing."""
    request: type[BaseModel] | None
    line: type[BaseModel] | None
    """A line of the answer, where a run of lines (NDJSON) may be sent instead of one body."""
    creates: bool
    """Whether it is answered 201 when what it asks for is new, and 200 when it was there."""
    always_new: bool
    """Whether each request makes another one: then it is answered 201 and never 200."""
    dry_run: bool
    """Whether it can be asked what it would do."""
    tells_version: bool
    """Whether it is answered with a wallet's version as ETag."""
    parameters: tuple[dict[str, Any], ...]
    problems: tuple[int, ...]

    @property
    def is_command(self) -> bool:
        """Whether it moves something, under a reference."""
        return _is_command(self.request)


def _is_command(request: type[BaseModel] | None) -> bool:
    return request is not None and "reference_id" in request.model_fields


OPERATIONS: list[Operation] = []


def operation(
    method: str,
    path: str,
    *,
    tag: str,
    scope: str,
    answer: type[BaseModel] | None,
    request: type[BaseModel] | None = None,
    line: type[BaseModel] | None = None,
    creates: bool = False,
    always_new: bool = False,
    dry_run: bool = False,
    tells_version: bool = False,
    parameters: tuple[dict[str, Any], ...] = (),
    problems: tuple[int, ...] = (),
) -> Callable[[View], View]:
    """Register the view under the path, for who has the scope; ValueError for a scope that does not exist.

    Its docstring is the documentation: first line the summary, then the rest. What every command has besides, a dry
    run, and If-Match with its 412, is added here.
    """
    everywhere = () if scope == access.PUBLIC else (401, 403)
    is_command = _is_command(request)
    has_dry_run = dry_run or is_command
    more = [*([DRY_RUN] if has_dry_run else []), *([IF_MATCH] if is_command else [])]

    def register(view: View) -> View:
        access.declare(f"{blueprint.name}.{view.__name__}", scope)
        summary, _, description = (view.__doc__ or "").strip().partition("\n")
        OPERATIONS.append(
            Operation(
                method=method,
                path=path,
                operation_id=camel_case(view.__name__),
                summary=summary.rstrip("."),
                description=_paragraphs(description),
                tag=tag,
                scope=scope,
                answer=answer,
                request=request,
                line=line,
                creates=creates,
                always_new=always_new,
                dry_run=has_dry_run,
                tells_version=tells_version or is_command,
                parameters=(*parameters, *more),
                problems=tuple(sorted({*problems, *((412,) if is_command else ()), *everywhere})),
            )
        )
        blueprint.add_url_rule(re.sub(r"\{(\w+)\}", _flask_parameter, path), view_func=view, methods=[method])
        return view

    return register


def created(path: str, body: Mapping[str, Any], *, is_new: bool, dry_run: bool) -> Response:
    """Answer an operation that `creates`: with the resource, which is at `path`, unless it only would be."""
    if dry_run:
        return json_response({"ok": True, **body, "dryRun": True}, 201 if is_new else 200)
    status, headers = (201, {"Location": path}) if is_new else (200, {})
    return json_response({"ok": True, **body}, status, headers)


def _paragraphs(docstring: str) -> str:
    return "\n\n".join(re.sub(r"\s+", " ", paragraph).strip() for paragraph in docstring.strip().split("\n\n"))


def _flask_parameter(match: re.Match[str]) -> str:
    return f"<{_snake_case(match[1])}>"


def _snake_case(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", name)
