"""Text from outside: what is trimmed and which characters are refused; pure.

The patterns are JSON Schema and stand in the OpenAPI document, so that it says exactly what is accepted.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_BLANK = r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
TRIMMED = rf"[\x09-\x0d{_BLANK}]*"
"""A pattern of the blanks that are taken off both ends."""

_ANY = rf"[^{_CONTROL}]"
_EDGE = rf"[^{_CONTROL}{_BLANK}]"

REFERENCE_PATTERN = rf"^{TRIMMED}{_EDGE}{_ANY}{{1,198}}{_EDGE}{TRIMMED}$"
"""Trimmed, 3 to 200 characters, no control characters."""

NOTE_PATTERN = rf"^{TRIMMED}(?:{_EDGE}(?:{_ANY}{{0,498}}{_EDGE})?)?{TRIMMED}$"
"""Trimmed, at most 500 characters, no control characters."""

REASON_PATTERN = rf"^{TRIMMED}{_EDGE}(?:{_ANY}{{0,498}}{_EDGE})?{TRIMMED}$"
"""Trimmed, 1 to 500 characters, no control characters."""

UUID_PATTERN = "^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"

NAME_PATTERN = rf"^{TRIMMED}{_EDGE}(?:{_ANY}{{0,198}}{_EDGE})?{TRIMMED}$"
"""Trimmed, 1 to 200 characters, no control characters."""

KEY_PATTERN = rf"^{_EDGE}(?:{_ANY}{{0,62}}{_EDGE})?$"
"""A key of metadata: 1 to 64 characters, no blanks around it, no control characters."""

VALUE_PATTERN = rf"^{_ANY}*$"
"""A text of metadata: no control characters."""

_BLANKS = "".join(re.findall(TRIMMED.removesuffix("*"), "".join(map(chr, range(0x10000)))))
_REFUSED = re.compile(rf"[{_CONTROL}\ud800-\udfff]")


def clean(value: object, *, low: int, high: int) -> str:
    """Return the text without blanks around it; raise ValueError with what is wrong with it.

    `low` and `high` bound its length in characters. Blanks are those that JavaScript's `trim()` takes, because the
    original service trimmed with it.
    """
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 - pydantic turns a ValueError into the answer
    # Not by a pattern: one that is anchored at the end only takes quadratic time over a long run of blanks.
    text = value.strip(_BLANKS)
    if _REFUSED.search(text):
        raise ValueError("must not contain control characters or lone surrogates")
    if not low <= len(text) <= high:
        raise ValueError(f"must have {low} to {high} characters" if low else f"must have at most {high} characters")
    return text


def is_refused(value: str) -> bool:
    """Tell whether there are characters in it that are refused everywhere: control characters, lone surrogates."""
    return _REFUSED.search(value) is not None


def name(value: object) -> str:
    """Return a name or an external id, the same however its accents were typed (NFC); raise ValueError.

    Its length counts as it was sent: the normal form may be longer or shorter.
    """
    return unicodedata.normalize("NFC", clean(value, low=1, high=200))


_UNFOLDED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i"})


def folded(value: str) -> str:
    """Return the text as it is searched for: without case, accents, and more than one blank in a row."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", value).casefold())
    plain = "".join(one for one in plain if not unicodedata.combining(one))
    return " ".join(plain.translate(_UNFOLDED).split())
