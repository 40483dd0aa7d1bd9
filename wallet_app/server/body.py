"""The bodies of requests, whatever way they come: short ones whole, long ones as the application reads them.

A long body is never held here: what the application does not ask for stays in the kernel's buffers, and then with the
client.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from typing import IO

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, RequestTimeout
from werkzeug.utils import cached_property

from wallet_app.server.wire import ClientGoneError, TimeIsUpError, Wire

WHOLE_BODY_BYTES_MAX = 64 * 1024
"""A body up to this size is there before the application begins; a longer one the application reads as it comes."""
READ_SECONDS_MAX = 10.0
"""How long the application waits for the next bytes of a long body."""
_CHUNK_LINE_BYTES_MAX = 1024
_TRAILER_BYTES_MAX = 8 * 1024
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

_CHUNK_THAT_CAME = re.compile(rb"(?:\r\n)?0*[1-9a-fA-F][0-9a-fA-F]*[^\r\n]*\r\n[\s\S]")
"""The beginning of a chunk, after the end of the one before it."""

Pieces = Iterator[bytes]


def pieces_of(wire: Wire, length: int | None) -> Pieces:
    """Yield the body that comes next, taken out of its chunks if it has no length.

    Raises an HTTPException for a body that is malformed, late or not all there.
    """
    try:
        yield from _in_chunks(wire) if length is None else _of_length(wire, length)
    except TimeIsUpError:
        raise late() from None
    except ClientGoneError:
        raise ended_early() from None


def gather(pieces: Pieces) -> tuple[bytes, bool]:
    """Return what there is of a body up to the first piece beyond WHOLE_BODY_BYTES_MAX, and whether that is all."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size > WHOLE_BODY_BYTES_MAX:
            return b"".join(gathered), False
    return b"".join(gathered), True


def late() -> HTTPException:
    """Return the refusal of a request that took too long to come."""
    return RequestTimeout("The request did not arrive in time.")


def ended_early() -> HTTPException:
    """Return the refusal of a request whose client closed before its end."""
    return BadRequest("The request ended too early.")


def _of_length(wire: Wire, length: int) -> Pieces:
    while length:
        piece = wire.take(length)
        length -= len(piece)
        yield piece


def _in_chunks(wire: Wire) -> Pieces:
    while size := _size_of_chunk(wire):
        yield from _of_length(wire, size)
        if wire.take_line(2) != b"":
            raise _malformed()
    _skip_trailers(wire)


def _size_of_chunk(wire: Wire) -> int:
    line = wire.take_line(_CHUNK_LINE_BYTES_MAX)
    found = _CHUNK_SIZE.fullmatch(line) if line is not None else None
    if found is None:
        raise _malformed()
    return int(found[1], 16)


def _skip_trailers(wire: Wire) -> None:
    """Read to the end of the body. What trailers say is not passed on, so that they can contradict no header."""
    left = _TRAILER_BYTES_MAX
    while (line := wire.take_line(left)) != b"":
        if line is None or not _TRAILER.fullmatch(line):
            raise _malformed()
        left -= len(line)


def _malformed() -> HTTPException:
    return BadRequest("The body's chunks are not well-formed.")


class Stream(io.RawIOBase):
    """A long body: reads wait for the client, each for READ_SECONDS_MAX at most. Wrap it for lines.

    `before` is called before the first wait.
    """

    def __init__(self, wire: Wire, gathered: bytes, pieces: Pieces, before: Callable[[], None]) -> None:
        self._wire = wire
        self._left = memoryview(gathered)
        self._pieces = pieces
        self._before: Callable[[], None] | None = before
        self._fault: Exception | None = None
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Take what is there, and wait only if that is nothing: a client may want an answer before it goes on."""
        if not self._left:
            self._left = memoryview(self._next())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _next(self) -> bytes:
        if self._before is not None:
            self._before()
            self._before = None
        if self._fault is not None:
            raise self._fault
        self._wire.expect_by = time.monotonic() + READ_SECONDS_MAX
        pieces = [self._take()]
        size = len(pieces[0])
        # Who sends a line in a chunk of its own may have sent many; those that have come are taken together.
        while size < WHOLE_BODY_BYTES_MAX and self._wire.begins_with(_CHUNK_THAT_CAME):
            try:
                pieces.append(self._take())
            except Exception:
                break  # It is raised when the next piece is asked for.
            size += len(pieces[-1])
        return b"".join(pieces)

    def _take(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except Exception as fault:
            self._fault = fault  # A generator that raised would seem to have ended.
            raise
        self.is_over = not piece
        return piece


class _Bounded(io.RawIOBase):
    """A stream whose reader is refused what lies beyond a number of bytes."""

    def __init__(self, stream: IO[bytes], size_max: int) -> None:
        self._stream = stream
        self._left = size_max

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        piece = self._stream.read1(len(buffer))  # type: ignore[attr-defined]
        self._left -= len(piece)
        if self._left < 0:
            raise RequestEntityTooLarge
        buffer[: len(piece)] = piece
        return len(piece)


class BoundedRequest(Request):
    """A request of Flask's whose body's bound holds without a Content-Length too.

    Left to itself Flask would take the part of a body in chunks that is within the bound for the whole.
    """

    @cached_property
    def stream(self) -> IO[bytes]:
        source: IO[bytes] = self.environ["wsgi.input"]
        bound = self.max_content_length
        if bound is None:
            return source
        if self.content_length is not None:
            if self.content_length > bound:
                raise RequestEntityTooLarge
            return source
        return io.BufferedReader(_Bounded(source, bound))
