"""The canonical bytes behind digest and hash, format 1; pure.

They use only what SQL expresses too (int8send, uuid_send, timestamptz_send, length-prefixed UTF-8), so that `verify`
recomputes every hash inside the database, from the rows alone, by an implementation that shares no line with this one.
A new column that is to be covered later means a new format number.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from struct import pack

GENESIS = bytes(32)
"""The chain of a wallet without entries, and of an empty audit log."""

_FORMAT = b"\x01"
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
) -> bytes:
    """Return the hash over who did what and why; it goes into the hash of each of the transaction's entries."""
    return sha256(
        b"".join(
            (
                _FORMAT,
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
            )
        )
    ).digest()


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
