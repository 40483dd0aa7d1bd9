"""The canonical bytes behind digest and hash; pure.

They use only what SQL expresses too (int8send, uuid_send, timestamptz_send, length-prefixed UTF-8), so that `verify`
recomputes every hash inside the database, from the rows alone, by an implementation that shares no line with this one.
A new column that is to be covered later means a new format number. All is format 1, but for the digest of a transaction
that has a request or a result of its own: that is format 2, which covers them.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from struct import pack
from typing import Any

GENESIS = bytes(32)
"""The chain of a wallet without entries, and of an empty audit log."""

_FORMAT = b"\x01"
_FORMAT_WITH_JSON = b"\x02"
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def details_hash(*, salt: bytes, note: str | None, metadata: str | None) -> bytes:
    """Return the hash that stands for note and metadata (its JSON text), so that they can be erased later.

    The salt keeps a short note from being guessed from its hash.
    """
    return sha256(_FORMAT + salt + _text(note) + _text(metadata)).digest()


def transaction_digest(
    *,
    transaction_id: uuid.UUID,
    wallet_id: int,
    reference: str,
    kind: str,
    client: str,
    actor: str,
    request_id: str | None,
    occurred_at: dt.datetime,
    reverses: uuid.UUID | None,
    details: bytes | None,
    request: str | None = None,
    result: str | None = None,
) -> bytes:
    """Return the hash over who did what and why; it goes into the hash of each of the transaction's entries.

    `request` and `result` are as `json_text` has them.
    """
    has_json = request is not None or result is not None
    return sha256(
        b"".join(
            (
                _FORMAT_WITH_JSON if has_json else _FORMAT,
                transaction_id.bytes,
                pack(">q", wallet_id),
                _text(reference),
                _often(kind),
                _often(client),
                _often(actor),
                _text(request_id),
                pack(">q", _microseconds(occurred_at)),
                _bytes(reverses.bytes if reverses else None),
                _bytes(details),
                *((_text(request), _text(result)) if has_json else ()),
            )
        )
    ).digest()


def json_text(value: Mapping[str, Any]) -> str:
    """Return the text that PostgreSQL gives a jsonb of this value: so it is what SQL can hash, too.

    For objects, arrays, strings, integers, booleans and nulls. Raises TypeError for a float: its digits could differ.
    """
    return json.dumps(_in_order(value), ensure_ascii=False)


def _in_order(value: Any) -> Any:
    if isinstance(value, Mapping):
        # jsonb has its keys by length, then by bytes.
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _in_order(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_in_order(one) for one in value]
    if value is not None and not isinstance(value, str | int):
        raise TypeError(f"{type(value).__name__} is not kept with a transaction")
    return value


def entry_hash(
    *,
    previous: bytes,
    digest: bytes,
    wallet_id: int,
    seq: int,
    transaction_id: uuid.UUID,
    entry_type: str,
    amount: int,
    balance_after: int,
    contra_wallet_id: int,
    created_at: dt.datetime,
) -> bytes:
    """Return the wallet's next chain head: it covers the one before, the entry, and the transaction's digest."""
    return sha256(
        b"".join(
            (
                _FORMAT,
                previous,
                pack(">qq", wallet_id, seq),
                transaction_id.bytes,
                _often(entry_type),
                pack(">qqqq", amount, balance_after, contra_wallet_id, _microseconds(created_at)),
                digest,
            )
        )
    ).digest()


def audit_hash(
    *,
    previous: bytes,
    seq: int,
    horizon: int,
    ceiling: int,
    audit_id: int,
    xid: int,
    occurred_at: dt.datetime,
    texts: Iterable[str | None],
) -> bytes:
    """Return the audit log's next chain head: it covers the one before, the link and the record.

    `texts` are the record's other columns in the table's order; of before and after, PostgreSQL's own text.
    """
    return sha256(
        b"".join(
            (
                _FORMAT,
                previous,
                pack(">qqqqqq", seq, horizon, ceiling, audit_id, xid, _microseconds(occurred_at)),
                *map(_text, texts),
            )
        )
    ).digest()


def _text(value: str | None) -> bytes:
    return _bytes(None if value is None else value.encode())


# Kinds, clients and actors are few, and come again in every transaction.
_often = lru_cache(maxsize=4096)(_text)


def _bytes(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else pack(">i", len(value)) + value


def _microseconds(instant: dt.datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
