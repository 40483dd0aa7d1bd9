"""Reads what a caller sends, strictly: what is not understood to the last field is refused, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import BytesIO
from typing import TypeVar
from urllib.parse import unquote, unquote_to_bytes

from flask import request
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from wallet_app import fields, strict_json
from wallet_app.fields import invalid, printable, refusal

Model = TypeVar("Model", bound=BaseModel)

_SHORT_DIGITS = 4
"""Of a length that is below every bound on bodies."""

_JSON_TYPE = re.compile(r'application/json(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
# A raw key has no comma, because two headers reach us as one with a comma between them.
_KEY = re.compile(
    r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,255})"'
    r"|([\x21\x23-\x2b\x2d-\x5b\x5d-\x7e][\x20\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{0,254})"
)


def read_body(
    model: type[Model], *, tag: str | None = None, takes_condition: bool = False, parameters: Iterable[str] = ()
) -> Model:
    """Return the request's JSON body as the model, or raise: 415, 413, 400 (unreadable), 422 (wrong in itself).

    `tag` names the field that tells what the body is, if the model is a union. Unless it `takes_condition`, a request
    that makes one is refused: it must not be done without. `parameters` are those that the query may have.
    """
    if not _JSON_TYPE.fullmatch(request.environ.get("CONTENT_TYPE", "")):
        raise UnsupportedMediaType("The body must be sent as Content-Type: application/json.")
    refuse_coding()
    refuse_unknown_parameters(parameters)
    if not takes_condition:
        refuse_condition()
    try:
        value = strict_json.parse(_data())
    except ValueError as exc:
        raise BadRequest(f"The body {exc}.") from None
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise refusal(exc, tag=tag) from None


def read_reference(from_body: str | None) -> str:
    """Return the reference: the body's `referenceId`, or the `Idempotency-Key` header; if both, they must be equal."""
    from_header = _idempotency_key()
    if from_body is None and from_header is None:
        raise invalid("/referenceId", "missing", "is required, here or as the Idempotency-Key header")
    if from_body is not None and from_header is not None and from_body != from_header:
        raise invalid("/referenceId", "differs", "differs from the Idempotency-Key header")
    return from_body or from_header or ""


def refuse_condition() -> None:
    """Raise for an If-Match where there is no version that it could be compared with."""
    if "HTTP_IF_MATCH" in request.environ:
        raise invalid("/If-Match", "unsupported", "is for a command alone: items of a batch have ifVersion")


def refuse_coding() -> None:
    """Raise for a body that is said to be packed (415): nobody unpacks it, and it would be read as if it were not."""
    if (request.environ.get("HTTP_CONTENT_ENCODING") or "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must be sent as it is, without a Content-Encoding.")


def refuse_body() -> None:
    """Raise for a body where none belongs: nothing is ignored silently. 413 for one that is too large to look at."""
    if _data():
        raise invalid("", "invalid", "must be empty: this takes no body")


def _data() -> bytes:
    """Return the request's body; 413 for one that is too large.

    A short one that the server has in memory is there as it was said to be: Werkzeug need not watch over it.
    """
    environ = request.environ
    source, length = environ["wsgi.input"], environ.get("CONTENT_LENGTH", "")
    if type(source) is BytesIO and len(length) <= _SHORT_DIGITS and length.isdecimal():
        return source.read(int(length))
    return request.get_data(cache=False)


def refuse_unknown_parameters(known: Iterable[str]) -> None:
    """Raise for a query parameter that the resource does not know, that comes twice, or that is not UTF-8.

    Nothing is ignored silently, nor taken for something else.
    """
    query = request.environ.get("QUERY_STRING")
    if not query:
        return
    for name, values in request.args.lists():
        if name not in known:
            raise invalid(f"/{printable(name)}", "unknown_parameter", "is not a parameter of this resource")
        if len(values) > 1:
            raise invalid(f"/{name}", "repeated", "may be given once")
    if "%" in query:
        _require_utf8(query)


def _require_utf8(query: str) -> None:
    # Werkzeug would take %FF for the three characters that it is written with, and %25FF as well.
    for name, _, value in [pair.partition("=") for pair in query.split("&")]:
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            # A cursor is a bad cursor then, for who reads it.
            if name != "cursor":
                raise invalid(f"/{printable(unquote(name))}", "invalid", "is not UTF-8") from None


def _idempotency_key() -> str | None:
    # Several headers of this name arrive as one, with commas between them.
    value = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if value is None:
        return None
    match = _KEY.fullmatch(value)
    if match is None:
        raise BadRequest(
            "Idempotency-Key must be given once, as 3 to 200 printable ASCII characters, quoted if there is a comma."
        )
    try:
        return fields.read_reference(match[1] or match[2])
    except PydanticCustomError as exc:
        raise invalid("/referenceId", exc.type, exc.message()) from None
    except ValueError as exc:
        raise BadRequest(f"Idempotency-Key {exc}.") from None
