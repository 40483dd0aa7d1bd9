"""Statements' parameters in the binary form in which they go over the wire: values, and columns of values as arrays.

A posting's parameters are arrays. psycopg looks for the type of each list's elements, then for a dumper, then asks that
one about each element; here the statement says what its parameters are, and each list is packed by one expression.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple

from psycopg import postgres

_HEAD = Struct(">iiiii")  # dimensions, may have nulls, type of the elements, length, first index
_LENGTH = Struct(">i")
_ELEMENT = Struct(">iq")
_NULL = _LENGTH.pack(-1)
_SIXTEEN = _LENGTH.pack(16)
_BLOCK = 256
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class Kind(NamedTuple):
    """A kind of parameter: its type's number, and what packs a value. Any element of an array may be None."""

    oid: int
    pack: Callable[[Any], bytes]


def _array_of(name: str, pack_elements: Callable[[Sequence[Any]], list[bytes]]) -> Kind:
    element = postgres.types[name].oid

    def pack(values: Sequence[Any]) -> bytes:
        length = len(values)
        # Often a column has one value: a kind, an instant, nothing at all.
        is_one = length > 1 and values[0] == values[-1] and values.count(values[0]) == length
        elements = pack_elements(values[:1]) * length if is_one else pack_elements(values)
        return _HEAD.pack(1, 1, element, length, 1) + b"".join(elements)

    return Kind(postgres.types[name].array_oid, pack)


def _whole_numbers(values: Sequence[int | None]) -> list[bytes]:
    if None not in values:
        return [_pack_block(values[at : at + _BLOCK]) for at in range(0, len(values), _BLOCK)]
    pack = _ELEMENT.pack
    return [_NULL if value is None else pack(8, value) for value in values]


def _pack_block(values: Sequence[int | None]) -> bytes:
    """Pack up to _BLOCK whole numbers at once, each with its length before it."""
    elements: list[int | None] = [8] * (2 * len(values))
    elements[1::2] = values
    return _elements(len(values)).pack(*elements)


# Kept for each count up to a block's: a column of a wallet's 10,000 lots would have one of 640 KB for itself.
@lru_cache(maxsize=_BLOCK)
def _elements(count: int) -> Struct:
    return Struct(">" + "iq" * count)


def _texts(values: Sequence[str | None]) -> list[bytes]:
    return _byte_strings([None if value is None else value.encode() for value in values])


def _byte_strings(values: Sequence[bytes | None]) -> list[bytes]:
    pack = _LENGTH.pack
    return [_NULL if value is None else pack(len(value)) + value for value in values]


def _uuids(values: Sequence[uuid.UUID | None]) -> list[bytes]:
    return [_NULL if value is None else _SIXTEEN + value.bytes for value in values]


def _instants(values: Sequence[dt.datetime | None]) -> list[bytes]:
    return _whole_numbers([None if value is None else (value - _EPOCH) // _MICROSECOND for value in values])


WHOLE_NUMBER = Kind(postgres.types["int8"].oid, Struct(">q").pack)
INSTANT = Kind(postgres.types["timestamptz"].oid, lambda instant: Struct(">q").pack((instant - _EPOCH) // _MICROSECOND))
UUID = Kind(postgres.types["uuid"].oid, attrgetter("bytes"))
WHOLE_NUMBERS = _array_of("int8", _whole_numbers)
TEXTS = _array_of("text", _texts)
BYTES = _array_of("bytea", _byte_strings)
UUIDS = _array_of("uuid", _uuids)
INSTANTS = _array_of("timestamptz", _instants)
