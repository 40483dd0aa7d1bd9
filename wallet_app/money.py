"""Amounts: their bounds, how they are parsed and how they are shown; pure, no state."""

from __future__ import annotations

import re
from fractions import Fraction

AMOUNT_MAX = 9_007_199_254_740_991
"""The largest amount and the largest user balance: a JavaScript client must read it exactly (2^53 - 1)."""


def _at_most(bound: int) -> str:
    """Return a regular expression for the decimal integers 1..bound, without leading zeros.

    The OpenAPI document and the parser share it, so that the document says exactly what is accepted.
    """
    digits = str(bound)
    shorter = f"[1-9][0-9]{{0,{len(digits) - 2}}}"
    smaller_at = [
        f"{digits[:index]}[{'1' if index == 0 else '0'}-{int(digit) - 1}][0-9]{{{len(digits) - index - 1}}}"
        for index, digit in enumerate(digits)
        if int(digit) > (1 if index == 0 else 0)
    ]
    return "|".join([shorter, *smaller_at, digits])


def digits_pattern(largest: int) -> str:
    """Return the pattern of strings of digits that are 1 to `largest`."""
    return f"^0{{0,8}}(?:{_at_most(largest)})$"


AMOUNT_PATTERN = digits_pattern(AMOUNT_MAX)
"""Strings of ASCII digits are amounts too: the original service coerced them."""

_AMOUNT = re.compile(AMOUNT_PATTERN.removeprefix("^").removesuffix("$"))


def parse_amount(value: object) -> int:
    """Return an amount of 1..AMOUNT_MAX in the asset's smallest unit, or raise ValueError.

    `True`, floats, signs, blanks, underscores and other scripts' digits are refused: `int()` takes them all.
    """
    if type(value) is int and 1 <= value <= AMOUNT_MAX:
        return value
    if type(value) is str and _AMOUNT.fullmatch(value):
        return int(value)
    raise ValueError(f"must be a whole number from 1 to {AMOUNT_MAX}")


_ENTERED = re.compile(r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})(?:\.(?P<part>[0-9]{1,18}))?")


def read_entered(text: str, scale: int, *, low: int = 1) -> int:
    """Return what a person entered, from `low` on, in the asset's smallest unit, or raise ValueError with what to mend.

    Commas may stand between thousands, and nowhere else; a point begins the places that the asset has. So 1,000 and 1.5
    mean the same to whoever reads them, and what would have to be rounded or guessed at is refused.
    """
    found = _ENTERED.fullmatch(text.strip())
    if found is None:
        example = "1,000" if scale == 0 else f"1,000.{5:0<{scale}}"
        raise ValueError(f"Enter an amount in digits, like {example}, without a sign")
    part = found["part"] or ""
    if len(part) > scale:
        places = "no places behind the point" if scale == 0 else f"at most {scale} places behind the point"
        raise ValueError(f"Enter an amount with {places}; thousands are parted by a comma")
    amount = int(found["whole"].replace(",", "") + part.ljust(scale, "0"))
    if not low <= amount <= AMOUNT_MAX:
        raise ValueError(f"Enter an amount from {format_amount(low, scale)} to {format_amount(AMOUNT_MAX, scale)}")
    return amount


RATE_PATTERN = (
    r"^(?:(?=[0-9.]*[1-9])[0-9]{1,9}(?:\.[0-9]{1,9})?|[1-9][0-9]{0,17}/[1-9][0-9]{0,17})$"  # above zero, either way
)
"""An exact rate: a decimal like 0.125, or a fraction like 1/3."""

_RATE = re.compile(RATE_PATTERN.removeprefix("^").removesuffix("$"))
_RATE_PLACES = 10**9


def parse_rate(value: object) -> Fraction:
    """Return an exact rate above zero, or raise ValueError. A JSON number is refused: it may have been rounded."""
    if not isinstance(value, str) or not _RATE.fullmatch(value):
        raise ValueError('must be a text with a decimal like "0.125" or a fraction like "1/3", above zero')
    return Fraction(value)


def format_rate(rate: Fraction) -> str:
    """Return the one text that `parse_rate` reads as this rate, of those that there are: a decimal if it is one."""
    whole, rest = divmod(rate * _RATE_PLACES, _RATE_PLACES)
    if rest.denominator == 1 and whole < _RATE_PLACES:
        return str(whole) + (f".{rest.numerator:09d}".rstrip("0") if rest else "")
    return f"{rate.numerator}/{rate.denominator}"


def converted(amount: int, rate: Fraction) -> int:
    """Return what the amount makes at the rate, rounded down."""
    return amount * rate.numerator // rate.denominator


def json_integer(value: int) -> int | str:
    """Return the integer itself where every JSON client reads it exactly, else its decimal string."""
    return value if -AMOUNT_MAX <= value <= AMOUNT_MAX else str(value)


def format_amount(amount: int, scale: int) -> str:
    """Return the amount with the asset's decimal places and thousands separators: 123456, 2 -> "1,234.56"."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**scale)
    return f"{sign}{whole:,}" + (f".{fraction:0{scale}d}" if scale else "")
