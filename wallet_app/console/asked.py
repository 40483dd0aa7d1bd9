"""What an address asks for after its question mark: read field by field, with a sentence at each that is wrong.

So a page with a filter that makes no sense is still that page, with the filter as it was typed and what to do about it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from flask import request

from wallet_app import text
from wallet_app.money import read_entered

T = TypeVar("T")

_VALUE_MAX = 300
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_PLACES = re.compile(r"[0-9a-f]{1,32}(?:-[0-9a-f]{1,32}){0,3}")


class Asked:
    """The named parameters of this request's address; `errors` are sentences by name, of those that were read."""

    def __init__(self, *names: str) -> None:
        self.values = {name: request.args.get(name, "").strip()[:_VALUE_MAX] for name in names}
        self.errors: dict[str, str] = {}

    @property
    def has_any(self) -> bool:
        """Whether anything is asked for."""
        return any(self.values.values())

    def read(self, name: str, reader: Callable[[str], T]) -> T | None:
        """Return what the reader makes of it; None where it is empty, or wrong, which `errors` then tells."""
        if not (value := self.values[name]):
            return None
        try:
            return reader(value)
        except ValueError as error:
            self.errors[name] = str(error)
            return None

    def choice(self, name: str, known: Sequence[str]) -> str | None:
        """Return one of those that are known."""
        return self.read(name, lambda value: _one_of(value, known))

    def begin(self, name: str) -> dt.datetime | None:
        """Return the instant, or the beginning of the day."""
        return self.read(name, lambda value: _instant(value, days=0))

    def end(self, name: str) -> dt.datetime | None:
        """Return the instant, or the end of the day, which is the beginning of the next."""
        return self.read(name, lambda value: _instant(value, days=1))

    def amount(self, name: str, scale: int) -> int | None:
        """Return an amount in the smallest unit of an asset with so many decimal places."""
        return self.read(name, lambda value: _amount(value, scale))

    def period(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        """Return `from` and `to`; if it lies before `from`, that is wrong with `to`."""
        since, until = self.begin("from"), self.end("to")
        if since is not None and until is not None and since > until:
            self.errors["to"] = "The time ends before it begins: enter a day that is not before the first one."
            return since, None
        return since, until

    def amounts(self, scale: int) -> tuple[int | None, int | None]:
        """Return `least` and `most`; if it is below `least`, that is wrong with `most`."""
        least, most = self.amount("least", scale), self.amount("most", scale)
        if least is not None and most is not None and least > most:
            self.errors["most"] = "The amounts end before they begin: enter one that is not below the least."
        return least, most

    def line(self, name: str, *, low: int = 1, high: int = 200) -> str | None:
        """Return a text of one line with so many characters."""
        return self.read(name, lambda value: _line(value, low, high))

    def url(self, path: str, **more: str) -> str:
        """Return the path with what is asked for, and with more."""
        query = {name: value for name, value in {**self.values, **more}.items() if value}
        return f"{path}?{urlencode(query)}" if query else path


_YEAR_MIN = 1970


def _amount(value: str, scale: int) -> int:
    try:
        return read_entered(value, scale, low=0)
    except ValueError as wrong:
        raise ValueError(f"{wrong}.") from None


def read_places(name: str, count: int) -> tuple[int, ...] | None:
    """Return where a page of a list begins, as `places_text` said it; None, which is the newest, for anything else."""
    value = request.args.get(name, "")
    if not _PLACES.fullmatch(value):
        return None
    places = tuple(int(part, 16) for part in value.split("-"))
    return places if len(places) == count else None


def places_text(places: Sequence[int]) -> str:
    """Return the positions as they stand in an address."""
    return "-".join(f"{place:x}" for place in places)


def _one_of(value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError("Choose one of the list.")
    return value


def _line(value: str, low: int, high: int) -> str:
    try:
        return text.clean(value, low=low, high=high)
    except ValueError:
        raise ValueError(f"Enter {low} to {high} characters.") from None


def _instant(value: str, *, days: int) -> dt.datetime:
    """Return the instant in UTC, which it is in unless it says otherwise; of a date, `days` after its beginning."""
    found = None
    try:
        if _DATE.fullmatch(value):
            found = dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC) + dt.timedelta(days=days)
        elif _INSTANT.fullmatch(value):
            found = dt.datetime.fromisoformat(value.upper().replace(" ", "T").replace("Z", "+00:00"))
            found = (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass
    # Nothing was earlier, and at the calendar's first instant there is no month before.
    if found is not None and found.year >= _YEAR_MIN:
        return found
    raise ValueError("Enter a day like 2026-01-31, or an instant like 2026-01-31T12:00:00Z.")
