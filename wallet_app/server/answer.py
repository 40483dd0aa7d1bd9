"""Writes an answer of the application to its client, with as few packets as it has pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from types import TracebackType
from typing import Any

import gevent

from wallet_app.server.body import Stream
from wallet_app.server.wire import Wire

TURN_SECONDS_MAX = 0.005
PAUSE_SECONDS = 0.0005
"""How long who has more to do at once leaves the loop to the others. Not 0, by which the clock is not looked at."""

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_OURS = {"connection", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade"}
"""What a server says of itself and of the connection; the application's word on it is dropped."""
_SEEN = _OURS | {"content-length", "date"}


class BadHeadError(Exception):
    """The application's headers would not be read as it meant them."""


class Answer:
    """One answer on its way: `start_response` and the pieces of the body, as WSGI has them."""

    __slots__ = (
        "_headers",
        "_is_bodiless",
        "_is_chunked",
        "_is_head",
        "_is_old",
        "_left",
        "_status",
        "_stream",
        "_wire",
        "closes",
        "is_begun",
    )

    def __init__(self, wire: Wire, *, is_head: bool, is_old: bool, closes: bool, stream: Stream | None) -> None:
        self._wire = wire
        self._is_head = is_head
        self._is_old = is_old
        self._stream = stream
        self._status = ""
        self._headers: Headers = []
        self._is_chunked = False
        self._is_bodiless = False
        self._left: int | None = None
        self.closes = closes
        """Whether the connection is over with this answer."""
        self.is_begun = False

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        if exc_info is not None and exc_info[1] is not None and self.is_begun:
            raise exc_info[1]
        if self._status and exc_info is None:
            raise AssertionError("start_response was called twice.")
        self._status, self._headers = status, headers
        return self.write

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send the pieces, each at once: who yields them one by one means them to be read so."""
        began = time.monotonic()
        for piece in pieces:
            self.write(piece)
            if time.monotonic() > began + TURN_SECONDS_MAX:
                # A run whose lines need no database waits for nothing: everybody else would wait for it.
                gevent.sleep(PAUSE_SECONDS)
                began = time.monotonic()
        self._finish()

    def write(self, piece: bytes) -> None:
        if not piece:
            return
        head = b"" if self.is_begun else self._begin(is_empty=False)
        if out := head + self._frame(piece):
            self._wire.send(out)

    def _finish(self) -> None:
        if not self.is_begun:
            self._wire.send(self._begin(is_empty=True))
        if self._is_chunked:
            self._wire.send(b"0\r\n\r\n")
        elif self._left and not self._is_bodiless:
            self.closes = True  # It promised more; only the end tells the client.
        if self._stream is not None and not self._stream.is_over:
            self.closes = True

    def _frame(self, piece: bytes) -> bytes:
        if self._is_bodiless:
            return b""
        if self._is_chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        if self._left is not None:
            piece = piece if len(piece) <= self._left else piece[: self._left]
            self._left -= len(piece)
        return piece

    def _begin(self, *, is_empty: bool) -> bytes:
        """Return the head as it goes over the wire, and settle how the body goes."""
        lines = [f"HTTP/1.1 {self._status}"]
        code = int(self._status[:3])
        has_no_length = code < 200 or code == 204
        has_date = False
        for name, value in self._headers:
            lower = name.lower()
            if lower in _SEEN:
                if lower in _OURS or (lower == "content-length" and has_no_length):
                    continue
                if lower == "date":
                    has_date = True
                else:
                    self._left = int(value)
            lines.append(f"{name}: {value}")
        if not has_date:
            lines.append(_date_line())
        self._is_bodiless = self._is_head or has_no_length or code == 304
        if self._left is None and not self._is_bodiless:
            self._settle_length(lines, is_empty=is_empty)
        if not self._is_chunked and self._stream is not None and not self._stream.is_over:
            self.closes = True
        if self.closes:
            lines.append("Connection: close")
        elif self._is_old:
            lines.append("Connection: keep-alive")
        encoded = _encode(lines)
        self.is_begun = True
        return encoded

    def _settle_length(self, lines: list[str], *, is_empty: bool) -> None:
        if is_empty:
            self._left = 0
            lines.append("Content-Length: 0")
        elif self._is_old:
            self.closes = True
        else:
            self._is_chunked = True
            lines.append("Transfer-Encoding: chunked")


def _encode(lines: list[str]) -> bytes:
    text = "\r\n".join(lines) + "\r\n\r\n"
    if not text.count("\n") == text.count("\r") == len(lines) + 1 or "\0" in text:
        raise BadHeadError("A header holds a control character.")
    return text.encode("latin-1")


_date = (0, "")


def _date_line() -> str:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}")
    return _date[1]


def ask(application: Any, environ: dict[str, Any], answer: Answer) -> None:
    """Let the application answer, as WSGI has it."""
    pieces = application(environ, answer.start_response)
    try:
        answer.send(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
