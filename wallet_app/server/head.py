"""Reads the head of a request: strictly, because a head that two servers read in two ways smuggles a second request.

llhttp takes the fields apart. The request line is ours: llhttp knows only some methods, and what is well-formed is the
application's to refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    HTTPException,
    HTTPVersionNotSupported,
    RequestHeaderFieldsTooLarge,
    RequestURITooLarge,
)
from werkzeug.exceptions import NotImplemented as UnknownCoding  # The class of the status 501.

HEAD_BYTES_MAX = 32 * 1024

Environ = dict[str, Any]

_REQUEST_LINE = re.compile(rb"(?:\r\n)?([A-Z][A-Z-]{2,19}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_BEGINNING = re.compile(rb"(?:\r\n?)?(?:[A-Z]|\Z)")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_SCHEME_AND_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_LINE_FOR_LLHTTP = b"POST / HTTP/1.1\r\n"
_TRANSFER_CODINGS = {"chunked", "identity", "compress", "deflate", "gzip"}
_KEYS_MAX = 1024
_ONCE = {"HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes, and the number of fields; at most HEAD_BYTES_MAX in all."""

    line: int
    field: int
    fields: int


@dataclass(slots=True)
class Head:
    """A request's head as the application wants it, and what the connection must know of it."""

    environ: Environ
    length: int | None
    """The body's length in bytes; None if it comes in chunks."""
    is_kept_alive: bool
    is_old: bool
    """Sent by a client of HTTP/1.0."""
    expects_continue: bool


def check_beginning(received: bytes, limits: Limits) -> None:
    """Raise for the beginning of a head that it makes no sense to wait for the end of."""
    if len(received) > HEAD_BYTES_MAX:
        raise _head_too_large()
    if not _BEGINNING.match(received):  # TLS, most likely.
        raise _malformed()
    if _BARE_LINE_FEED.search(received):
        raise _malformed()
    if received.find(b"\r\n", 2) >= 0 or len(received) > limits.line:
        _request_line(received, limits)


def parse(head: bytes, base: Environ, limits: Limits) -> Head:
    """Return what the head says, added to a copy of `base`; raise an HTTPException for what is wrong with it."""
    line = _request_line(head, limits)
    _check_sizes(head, line.end(), limits)
    environ = base.copy()
    method, target, major, minor = (part.decode("ascii") for part in line.groups())
    _take_target(environ, method, target)
    is_old = minor == "0"
    environ["SERVER_PROTOCOL"] = f"HTTP/{major}.{minor}"
    _take_fields(environ, head[line.end() :])
    length = _length_of_body(environ, is_old=is_old)
    if not is_old and "HTTP_HOST" not in environ:
        raise BadRequest("A request must name its Host.")
    return Head(
        environ,
        length,
        _is_kept_alive(environ, is_old=is_old) and method != "CONNECT",
        is_old,
        _expects_continue(environ, is_old=is_old),
    )


def _request_line(head: bytes, limits: Limits) -> re.Match[bytes]:
    end = head.find(b"\r\n", 2)
    if not 0 <= end <= limits.line:
        raise RequestURITooLarge("The request line is longer than this service accepts.")
    line = _REQUEST_LINE.match(head)
    if line is None or line[1] == b"PRI":  # What a client begins with that takes HTTP/2 for granted.
        raise _malformed()
    if line[3] != b"1":
        raise HTTPVersionNotSupported("Use HTTP/1.1.")
    return line


def _check_sizes(head: bytes, at: int, limits: Limits) -> None:
    if len(head) > HEAD_BYTES_MAX or head.count(b"\r\n", at) - 1 > limits.fields:
        raise _head_too_large()
    if len(head) - at > limits.field and max(map(len, head[at:].split(b"\r\n"))) > limits.field:
        raise _head_too_large()


def _take_target(environ: Environ, method: str, target: str) -> None:
    environ["REQUEST_METHOD"] = method
    environ["RAW_URI"] = target
    if target[0] != "/":
        target = _path_of(target, method)
    path, _, query = target.partition("#")[0].partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    environ["QUERY_STRING"] = query


def _path_of(target: str, method: str) -> str:
    """Return the path and query of a target that does not begin with them."""
    if found := _SCHEME_AND_HOST.match(target):
        # As a proxy asks: the host is ours, whatever it is called.
        path = target[found.end() :]
        return path if path[:1] == "/" else f"/{path}"
    if target != "*" and method != "CONNECT":
        raise _malformed()
    return target


class _Fields:
    """Puts the fields that llhttp finds into the environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _KEYS.get(name)
        if key is None:
            key = _key_of(name)
        text = value.strip(b" \t").decode("latin-1")
        if key in self._environ:
            if key in _ONCE:
                raise _malformed()
            text = f"{self._environ[key]},{text}"
        self._environ[key] = text


_KEYS: dict[bytes, str] = {}
"""The environ's keys of the names that were seen; never more than _KEYS_MAX, because clients make them up."""


def _key_of(name: bytes) -> str:
    if b"_" in name:
        # It would be the same variable as the name with a hyphen, which a proxy may have checked. Nobody reads this.
        return "wallet.dropped"
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = f"HTTP_{key}"
    if len(_KEYS) < _KEYS_MAX:
        _KEYS[name] = key
    return key


def _take_fields(environ: Environ, fields: bytes) -> None:
    # A parser for each head, which is never fed with more: what follows may be a body that nobody wants.
    parser = httptools.HttpRequestParser(_Fields(environ))
    try:
        parser.feed_data(_LINE_FOR_LLHTTP + fields)
    except httptools.HttpParserUpgrade:
        pass  # We go on with HTTP/1.1, as a server may.
    except httptools.HttpParserError:
        _length_of_body(environ, is_old=False)  # Which may know better what is wrong.
        raise _malformed() from None


def _length_of_body(environ: Environ, *, is_old: bool) -> int | None:
    length = environ.get("CONTENT_LENGTH")
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is None:
        if length is None:
            return 0
        # Not isdigit(), which takes superscripts for digits.
        if not (length.isascii() and length.isdecimal() and len(length) < 19):
            raise _malformed()
        return int(length)
    if length is not None or is_old:
        raise _malformed()
    codings = [name.strip().lower() for name in coding.split(",")]
    if not _TRANSFER_CODINGS.issuperset(codings) or len(set(codings)) > 1:
        raise UnknownCoding("The only transfer coding of a body is chunked.")
    if codings != ["chunked"]:
        raise _malformed()
    return None


def _is_kept_alive(environ: Environ, *, is_old: bool) -> bool:
    connection = environ.get("HTTP_CONNECTION")
    if connection is None:
        return not is_old
    options = {option.strip() for option in connection.lower().split(",")}
    return "keep-alive" in options and "close" not in options if is_old else "close" not in options


def _expects_continue(environ: Environ, *, is_old: bool) -> bool:
    expected = environ.get("HTTP_EXPECT")
    if expected is None or is_old:
        return False
    if expected.lower() != "100-continue":
        raise ExpectationFailed("The only expectation that can be met is 100-continue.")
    return True


def _malformed() -> HTTPException:
    return BadRequest("This is not a well-formed HTTP request.")


def _head_too_large() -> HTTPException:
    return RequestHeaderFieldsTooLarge("The headers are larger than this service accepts.")
