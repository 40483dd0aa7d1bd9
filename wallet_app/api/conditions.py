"""If-Match: the version that a wallet must have for a command to be done, as RFC 9110 has it."""

from __future__ import annotations

import re
from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS_PATTERN = rf"^(?:\*|{_TAG}(?:(?:[ \t]*,)+[ \t]*{_TAG})*)$"
_TAGS = re.compile(_TAGS_PATTERN.removeprefix("^").removesuffix("$"))
# Compared as text: "07" is no version of ours. A weak tag is none either, because it never matches strongly.
_VERSION = re.compile(r'(?<!W/)"(0|[1-9][0-9]{0,18})"')

IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Only if the wallet under which the reference counts still has this version: the `ETag` of what "
    "was read, or one of several. Else 412 `version_mismatch`, and nothing is done. A repetition of what was accepted "
    "is answered as ever.",
    "example": '"7"',
    "schema": {"type": "string", "pattern": _TAGS_PATTERN},
}


def if_match() -> tuple[int, ...] | None:
    """Return the versions of which the caller wants the wallet to have one; None for any. Raises BadRequest."""
    value = request.environ.get("HTTP_IF_MATCH")
    if value is None:
        return None
    value = value.strip(" \t")
    if not _TAGS.fullmatch(value):
        raise BadRequest('If-Match must be a version as ETag tells it, like "7", several of them with commas, or *.')
    # With *, there must be something: without the wallet, the answer is 404 anyway.
    return None if value == "*" else tuple(int(one) for one in _VERSION.findall(value))
