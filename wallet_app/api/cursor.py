"""Cursors: where the next page begins, bound to the list and filters that they were made with; opaque to callers."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256

from wallet_app.errors import BadCursorError


def make(position: int, *filters: object) -> str:
    """Return the cursor for a position in the list that the filters describe."""
    return urlsafe_b64encode(position.to_bytes(8, "big") + _binding(filters)).decode()


def read(cursor: str, *filters: object) -> int:
    """Return the position; raise BadCursorError for one that was not made here, or for another list."""
    data = _decoded(cursor)
    if len(data) != 16 or data[8:] != _binding(filters) or _encoded(data) != cursor:
        raise _bad()
    return int.from_bytes(data[:8], "big", signed=True)


def make_at(places: Sequence[int], *filters: object) -> str:
    """Return the cursor for several positions, each from 0 and below 2^128."""
    data = b"".join(place.to_bytes(16, "big") for place in places)
    return urlsafe_b64encode(data + _binding((len(places), *filters))).decode()


def read_at(cursor: str, count: int, *filters: object) -> tuple[int, ...]:
    """Return the `count` positions; raise BadCursorError as `read` does."""
    data = _decoded(cursor)
    if len(data) != 16 * count + 8 or data[-8:] != _binding((count, *filters)) or _encoded(data) != cursor:
        raise _bad()
    return tuple(int.from_bytes(data[16 * n : 16 * n + 16], "big") for n in range(count))


def _decoded(cursor: str) -> bytes:
    try:
        return urlsafe_b64decode(cursor.encode("ascii"))
    except (ValueError, binascii.Error):
        return b""


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


def _bad() -> BadCursorError:
    return BadCursorError("The cursor was not made by this list with these filters; start again without it.")


def _binding(filters: tuple[object, ...]) -> bytes:
    return sha256(repr(filters).encode()).digest()[:8]
