"""What people enter into the fields of the console's forms: each reader returns what it says, or raises ValueError.

The ValueError is a sentence without its full stop, which says what to enter.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection

from wallet_app import text
from wallet_app.fields import ID_MAX
from wallet_app.money import read_entered

_WHEN = re.compile(r"(2[0-9]{3}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(?::[0-9]{2})? ?(?:Z|UTC)?")


def amount(scale: int) -> Callable[[str], int]:
    """Return the reader of an amount of an asset with so many decimal places."""
    return lambda value: read_entered(value, scale)


def amount_if_given(scale: int) -> Callable[[str], int | None]:
    """Return the reader of an amount that may be left out: None then."""
    return lambda value: read_entered(value, scale) if value.strip() else None


def choice(options: Collection[str], asked: str) -> Callable[[str], str]:
    """Return the reader of one of the options; `asked` says what to choose."""

    def read(value: str) -> str:
        if value not in options:
            raise ValueError(asked)
        return value

    return read


def required_text(what: str, high: int = 500) -> Callable[[str], str]:
    """Return the reader of a text that must be there; `what` is like `a reason`."""

    def read(value: str) -> str:
        if not value.strip():
            raise ValueError(f"Enter {what}")
        return _clean(value, high)

    return read


def text_if_given(high: int = 500) -> Callable[[str], str | None]:
    """Return the reader of a text that may be left out: None then."""
    return lambda value: _clean(value, high) or None


def reason_code(value: str) -> str:
    """Return the reason code that was chosen; whether there is such a one, the service knows."""
    if not value:
        raise ValueError("Choose a reason")
    return value[:40]


def instant(value: str) -> dt.datetime:
    """Return an instant that was entered in UTC."""
    found = _WHEN.fullmatch(value.strip())
    try:
        if found is None:
            raise ValueError
        return dt.datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
    except ValueError:
        raise ValueError("Enter a day that there is and a time in UTC, like 2026-12-31 23:59") from None


def instant_if_given(value: str) -> dt.datetime | None:
    """Return an instant that was entered in UTC, None for none."""
    if not value.strip():
        return None
    try:
        return instant(value)
    except ValueError as wrong:
        raise ValueError(f"{wrong}, or nothing") from None


def wallet_id(value: str) -> int:
    """Return the number of a wallet."""
    found = re.fullmatch(r"[0-9]{1,19}", value.strip())
    if found is None or not 1 <= int(found[0]) <= ID_MAX:
        raise ValueError("Enter the number of a wallet, like 42")
    return int(found[0])


def _clean(value: str, high: int) -> str:
    # A text field of several lines sends line ends, which are refused everywhere else.
    joined = " ".join(value.split("\n")).replace("\r", "")
    try:
        return text.clean(joined, low=0, high=high)
    except ValueError as problem:
        raise ValueError(f"What you enter {problem}") from None


def example(scale: int) -> str:
    """Return an amount as it may be entered."""
    return "1,000" if scale == 0 else f"1,000.{5:0<{scale}}"
