"""Cursors: where the next page begins, bound to the list and filters that they were made with; opaque to callers."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from wallet_app.errors import BadCursorError


def make(position: int, *filters: object) -> str:
    """Return the cursor for a position in the list that the filters describe."""
    return urlsafe_b64encode(position.to_bytes(8, "big") + _binding(filters)).decode()


def read(cursor: str, *filters: object) -> int:
    """Return the position; raise BadCursorError for one that was not made here, or for another list."""
    try:
        data = urlsafe_b64decode(cursor.encode("ascii"))
    except (ValueError, binascii.Error):
        data = b""
    if len(data) != 16 or data[8:] != _binding(filters) or urlsafe_b64encode(data).decode() != cursor:
        raise BadCursorError("The cursor was not made by this list with these filters; start again without it.")
    return int.from_bytes(data[:8], "big", signed=True)


def _binding(filters: tuple[object, ...]) -> bytes:
    return sha256(repr(filters).encode()).digest()[:8]
