"""Lists as PostgreSQL arrays, in binary and packed at once.

A posting's parameters are arrays. psycopg looks for the type of each list's elements, then for a dumper, then asks that
one about each element: a twentieth of what a batch of sixteen cost. Here a flat list of whole numbers, texts or bytes
is packed by one expression; any other list is left to psycopg.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

from psycopg import postgres
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper

_HEAD = Struct(">iiiii")  # dimensions, has no nulls, type of the elements, length, first index
_WHOLE_NUMBER = Struct(">iq")
_LENGTH = Struct(">i")
_INT8_MAX = 2**63 - 1


class ListDumper(ListBinaryDumper):
    """Chooses how a list goes to the database."""

    def get_key(self, obj: Any, format: PyFormat) -> Any:  # noqa: A002 (psycopg's name)
        kind = _kind_of(obj)
        return super().get_key(obj, format) if kind is None else (self.cls, kind)

    def upgrade(self, obj: Any, format: PyFormat) -> Any:  # noqa: A002
        kind = _kind_of(obj)
        return super().upgrade(obj, format) if kind is None else _FLAT[kind](list)


def _kind_of(values: Sequence[Any]) -> type | None:
    """Return the type that all values have, if a list of it can be packed at once."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is int and not (min(values) >= -_INT8_MAX and max(values) <= _INT8_MAX):
        return None
    return kind if kind in _FLAT else None


class _WholeNumbers(Dumper):
    format = Format.BINARY
    oid = postgres.types["int8"].array_oid

    def dump(self, obj: Any) -> bytes:
        pack = _WHOLE_NUMBER.pack
        return _packed("int8", [pack(8, value) for value in obj])


class _Texts(Dumper):
    format = Format.BINARY
    oid = postgres.types["text"].array_oid

    def dump(self, obj: Any) -> bytes:
        return _packed("text", _with_lengths([value.encode() for value in obj]))


class _Bytes(Dumper):
    format = Format.BINARY
    oid = postgres.types["bytea"].array_oid

    def dump(self, obj: Any) -> bytes:
        return _packed("bytea", _with_lengths(obj))


def _with_lengths(values: Sequence[bytes]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(value)) + value for value in values]


def _packed(kind: str, elements: Sequence[bytes]) -> bytes:
    return _HEAD.pack(1, 0, postgres.types[kind].oid, len(elements), 1) + b"".join(elements)


_FLAT: dict[type, type[Dumper]] = {int: _WholeNumbers, str: _Texts, bytes: _Bytes}
