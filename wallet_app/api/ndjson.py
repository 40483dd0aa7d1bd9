"""Lines of JSON from a request's body, as they come, however long it is: never more of it in memory than a piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import IO

import structlog

from wallet_app.web import Problem, problem

log = structlog.get_logger("wallet")

LINE_BYTES_MAX = 16 * 1024
_PIECE_BYTES = 64 * 1024

Line = tuple[int, bytes | Problem]
"""A line with its number, from 0; or instead of its bytes what keeps it, and the rest, from being read."""


def read_blocks(stream: IO[bytes], *, length: int | None, lines_max: int) -> Iterator[list[Line]]:
    """Yield the lines that have come, up to `lines_max` at a time; the next ones are read when they are asked for.

    So a client that waits for the answer to a line before it sends the next one has it, and of one that sends many,
    many come together. Blank lines are counted, but are not among them. A line that is too long, or a body that breaks
    off, is the last. `length` is what the body's was announced to be, if it was: a server may end a shorter one as if
    it were whole.
    """
    for lines in _read_lines(stream, length):
        for start in range(0, len(lines), lines_max):
            yield lines[start : start + lines_max]


def _read_lines(stream: IO[bytes], length: int | None) -> Iterator[list[Line]]:
    """Yield the lines that each piece of the body completes."""
    # What has come, without a wait for more, where the stream can tell.
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    number = received = 0
    rest = b""
    while True:
        try:
            piece = read(_PIECE_BYTES)
            received += len(piece)
            if not piece and length is not None and received < length:
                raise EOFError
        except Exception as fault:
            # Whatever a socket, a proxy or a broken chunk raises: the lines before it were answered; this is, too.
            log.warning("rest_unreadable", line=number, error=type(fault).__name__)
            yield [(number, _unreadable())]
            return
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\n")
        lines = list(takewhile(_fits, whole))
        yield _not_blank(enumerate(lines, number))
        number += len(lines)
        if len(lines) < len(whole) or not _fits(rest):
            yield [(number, _too_long())]
            return
    yield _not_blank([(number, rest)])


def _fits(line: bytes) -> bool:
    return len(line) <= LINE_BYTES_MAX


def _not_blank(lines: Iterable[tuple[int, bytes]]) -> list[Line]:
    return [(number, line) for number, line in lines if line.strip()]


def _too_long() -> Problem:
    return problem(
        413,
        code="line_too_long",
        title="Line too long",
        detail=f"This line is longer than {LINE_BYTES_MAX} bytes. It and all that follows it were not read.",
    )


def _unreadable() -> Problem:
    return problem(
        400,
        code="rest_unreadable",
        title="Rest unreadable",
        detail="The body broke off or did not come in time. This line and all that follows it were not read.",
    )
