"""Lines of JSON from a request's body, in blocks, however long it is: never more of it in memory than one block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import structlog

from wallet_app.web import Problem, problem

log = structlog.get_logger("wallet")

LINE_BYTES_MAX = 16 * 1024
_BLOCK_BYTES_MAX = 1024 * 1024
_PIECE_BYTES = 16 * 1024

Line = tuple[int, bytes | Problem]
"""A line with its number, from 0; or instead of its bytes what keeps it, and the rest, from being read."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_blocks(stream: Stream, *, length: int | None, lines_max: int) -> Iterator[list[Line]]:
    """Yield up to `lines_max` lines at a time; the next ones are read when they are asked for.

    Blank lines are counted, but are not among them. A line that is too long, or a body that breaks off, is the last.
    `length` is what the body's was announced to be, if it was: a server ends a shorter one as if it were whole.
    """
    block: list[Line] = []
    size = 0
    for line in _read_lines(stream, length):
        block.append(line)
        size += LINE_BYTES_MAX if isinstance(line[1], Problem) else len(line[1])
        if len(block) == lines_max or size > _BLOCK_BYTES_MAX:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read_lines(stream: Stream, length: int | None) -> Iterator[Line]:
    number = received = 0
    rest = b""
    try:
        while piece := stream.read(_PIECE_BYTES):
            received += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if len(line) > LINE_BYTES_MAX:
                    yield number, _too_long()
                    return
                if line.strip():
                    yield number, line
                number += 1
            if len(rest) > LINE_BYTES_MAX:
                yield number, _too_long()
                return
        if length is not None and received < length:
            raise EOFError
    except Exception as fault:
        # Whatever a socket, a proxy or a broken chunk raises: what came before it is answered, and the caller is told.
        log.warning("rest_unreadable", line=number, error=type(fault).__name__)
        yield number, _unreadable()
        return
    if rest.strip():
        yield number, rest


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
