"""API keys as text, and what is stored of them; pure.

`dino_live_<id>_<secret><checksum>`: a prefix by which scanners find it, the environment it is for, an id of 12 letters
to look it up by, 256 bits of secret and a CRC-32, so that a typo is refused without a look-up. Stored is an HMAC of the
whole text: a fast one, because 256 bits are not to be guessed, with a pepper that is not in the database.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

KEY_WORDS = {"development": "dev", "staging": "test", "production": "live"}
"""How a key names the environment that it is for."""

KEY_PREFIX = "dino_"

_KEY = re.compile(r"dino_(dev|test|live)_([a-z2-7]{12})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 12
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32


def place_of(key_id: str) -> int:
    """Return the id as a number below 2^60, for whoever keeps a place in a list of keys."""
    number = 0
    for letter in key_id:
        number = number * len(_ID_LETTERS) + _ID_LETTERS.index(letter)
    return number


def key_id_at(place: int) -> str:
    """Return the id that has this place; raise ValueError for none."""
    if not 0 <= place < len(_ID_LETTERS) ** _ID_LENGTH:
        raise ValueError("is the place of no key")
    letters = []
    for _ in range(_ID_LENGTH):
        place, letter = divmod(place, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[letter])
    return "".join(reversed(letters))


class MadeKey(NamedTuple):
    """A key that was just made: the only moment at which its text is known."""

    key_id: str
    text: str


class Digest(NamedTuple):
    """What is stored of a key's text: its HMAC, and which pepper went into it."""

    pepper_version: int
    hmac: bytes


@dataclass(frozen=True, slots=True)
class Vault:
    """What keys are made and checked with: the environment they are for, and the peppers by their versions."""

    environment: str
    peppers: Mapping[int, bytes] = field(repr=False)

    def make_key(self, material: bytes | None = None) -> MadeKey:
        """Return a new key; the same for the same `material`, at least 32 bytes that nobody can guess."""
        material = material or secrets.token_bytes(_SECRET_BYTES)
        place, secret = (hmac.digest(material, label, "sha256") for label in (b"id", b"secret"))
        key_id = key_id_at(int.from_bytes(place, "big") % len(_ID_LETTERS) ** _ID_LENGTH)
        body = f"dino_{KEY_WORDS[self.environment]}_{key_id}_{_base62(int.from_bytes(secret, 'big'), 43)}"
        return MadeKey(key_id, body + _checksum(body))

    def read_id(self, text: str) -> str:
        """Return the id in a key's text; ValueError, which repeats nothing of it, for what cannot be a key of ours."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError("is not an API key: dino_<environment>_<id>_<secret>")
        if not hmac.compare_digest(_checksum(text[:-6]), match[3]):
            raise ValueError("is not an API key: its checksum is wrong, so it was not copied whole or has a typo")
        if match[1] != KEY_WORDS[self.environment]:
            raise ValueError(f"is a key for another environment: {match[1]}, and this is {self.environment}")
        return match[2]

    def digest(self, text: str) -> Digest:
        """Return what to store of the key: with the newest pepper."""
        version = max(self.peppers)
        return Digest(version, self._hmac(version, text))

    def is_right(self, text: str, stored: Digest | None) -> bool:
        """Tell whether the text is that of the stored key; for none, the same work is done in vain."""
        if stored is None or stored.pepper_version not in self.peppers:
            hmac.compare_digest(self._hmac(max(self.peppers), text), bytes(32))
            return False
        return hmac.compare_digest(self._hmac(stored.pepper_version, text), stored.hmac)

    def _hmac(self, version: int, text: str) -> bytes:
        return hmac.digest(self.peppers[version], text.encode(), "sha256")


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
