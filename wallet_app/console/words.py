"""How things are said on the pages: template filters; pure."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

from wallet_app.console.cards import labelled
from wallet_app.money import format_amount

MINUS = "\u2212"
"""The true minus sign: as wide as a plus, and read out as one."""

_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of what comes after them, until another one ends that."""
_RIGHT_TO_LEFT = {"R", "AL", "AN"}

_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")
_KINDS = {
    "TOPUP": "Top-up",
    "SEED": "Seeded balance",
    "HOLD_EXPIRY": "Hold ended",
    "PURCHASE": "Purchase",
    "LIMIT_RAISE": "Limits raised",
    "LIMIT_RAISE_END": "Raised limits ended",
}
_LOT_EVENTS = {
    "grant": "Granted",
    "consume": "Spent",
    "hold": "Held",
    "release": "Given back by a hold",
    "restore": "Given back by a reversal",
    "expire": "Expired",
    "revoke": "Taken back",
    "extend": "Extended",
}
_UNITS = (("year", 365 * 86_400), ("month", 30 * 86_400), ("day", 86_400), ("hour", 3_600), ("minute", 60))


def amount(value: int, scale: int = 0, *, signed: bool = False) -> str:
    """Return the amount as people read it: 123456 with two places is "1,234.56"; signed, a credit has its plus."""
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    return sign + format_amount(abs(value), scale)


def plain_amount(value: int, scale: int) -> Decimal:
    """Return the amount as a spreadsheet reads it: -123456 with two places is -1234.56."""
    return Decimal(value).scaleb(-scale) if scale else Decimal(value)


def absolute(value: dt.datetime, *, precise: bool = False) -> str:
    """Return the instant with its zone; to the second, where order matters."""
    return value.astimezone(dt.UTC).strftime("%-d %b %Y, %H:%M:%S UTC" if precise else "%-d %b %Y, %H:%M UTC")


def relative(value: dt.datetime, now: dt.datetime | None = None) -> str:
    """Return how long ago it was, or how long it takes, in the largest unit that fits."""
    seconds = ((now or dt.datetime.now(dt.UTC)) - value).total_seconds()
    for unit, size in _UNITS:
        if abs(seconds) >= size:
            count = int(abs(seconds) // size)
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now" if seconds >= 0 else "in a moment"


def visible(value: object) -> str:
    """Return the text with a mark where a character would turn the direction of all that comes after it."""
    return _TURNING.sub("\ufffd", str(value))


def isolated(text: str) -> str:
    """Return a text that somebody outside has made so that it can stand in a sentence and turn nothing beside it.

    Most are as they were: only what is written from the right to the left is set apart, by characters that nobody sees.
    """
    shown = visible(text)
    is_turned = any(unicodedata.bidirectional(one) in _RIGHT_TO_LEFT for one in shown)
    return f"\u2068{shown}\u2069" if is_turned else shown


def kind(value: str) -> str:
    """Return an entry's type, or a transaction's kind, as a word."""
    return _KINDS.get(value) or value.replace("_", " ").capitalize()


def lot_event(kind: str) -> str:
    """Return what a movement did to a lot."""
    return _LOT_EVENTS[kind]


def browser(user_agent: str) -> str:
    """Return a browser's long name of itself in two words, as far as it is one that most people have."""
    for token, name in _BROWSERS:
        found = re.search(rf"{token}[A-Za-z]*/([0-9]+)", user_agent)
        if found is not None:
            system = next((each for each in _SYSTEMS if each in user_agent), None)
            return f"{name} {found[1]}" + (f" on {system.removesuffix(' X')}" if system else "")
    return user_agent[:40] or "unknown"


def side(value: str, *, capital: bool = False) -> str:
    """Return what a switch or a freeze stops, in words."""
    words = "debits and credits" if value == "both" else value
    return words.capitalize() if capital else words


FILTERS: dict[str, Callable[..., str]] = {
    "amount": amount,
    "absolute": absolute,
    "relative": relative,
    "kind": kind,
    "side": side,
    "browser": browser,
    "lot_event": lot_event,
    "visible": visible,
    "labelled": labelled,
}
"""By the name that they have in templates."""
