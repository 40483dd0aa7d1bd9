"""Lots: which part of a wallet's credit was granted and until when it can be used, and what movements do to it; pure.

A lot is a grant that ends, or a wallet's standing lot, which has all its bonus without an end. What is in no lot is
paid credit without an end. No rule here: `lot_rules` decides what is taken from which lot, and `Books.apply` asks this
module what becomes of them.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wallet_app.service.faults import BookkeepingError
from wallet_app.service.instants import NO_END

BONUS, PAID = "bonus", "paid"

LotKey = tuple[int, int]
"""A lot within its wallet: seq of the entry that granted it, and the how manieth of that entry it is, from 1."""

STANDING: LotKey = (0, 0)
"""The lot of a wallet's bonus without an end."""


class Lot(NamedTuple):
    """A lot under its wallet's lock, in the smallest unit. Its parts make `amount`.

    A standing lot that was not loaded because its wallet's balance row tells what can be taken of it, stands here as if
    it had been granted just that; what is written are the differences.
    """

    wallet_id: int
    seq: int
    part: int
    lot_id: uuid.UUID
    kind: str
    amount: int
    available: int
    held: int
    consumed: int
    expired: int
    revoked: int
    expires_at: dt.datetime
    created_at: dt.datetime
    changed_at: dt.datetime

    @property
    def key(self) -> LotKey:
        """Return which lot of its wallet it is."""
        return self.seq, self.part

    @property
    def order(self) -> tuple[dt.datetime, str, int, int]:
        """Return its place in the order of taking: soonest end first, then bonus before paid, then as they came."""
        return self.expires_at, self.kind, self.seq, self.part

    @property
    def left(self) -> int:
        """How much of it the wallet still has, held or not."""
        return self.available + self.held

    @property
    def counts(self) -> bool:
        """Whether it is one of those that the wallet's balance row counts."""
        return (self.held if self.seq == 0 else self.left) > 0


class LotMovement(NamedTuple):
    """What an entry, or an extension, did to a lot, as the database has it; `expires_at` of grants and extensions."""

    wallet_id: int
    seq: int
    transaction_id: uuid.UUID
    place: int
    lot_seq: int
    lot_part: int
    kind: str
    amount: int
    expires_at: dt.datetime | None
    created_at: dt.datetime


class NewLot(NamedTuple):
    """The nature of a lot that a grant makes."""

    kind: str
    expires_at: dt.datetime


class LotMove(NamedTuple):
    """What a planned entry does to a lot. `new` makes the lot, whose key then begins with the entry's seq."""

    kind: str
    key: LotKey
    amount: int
    new: NewLot | None = None


class Extension(NamedTuple):
    """A lot that can be used until a later instant."""

    lot: Lot
    expires_at: dt.datetime


EFFECTS = {
    "grant": (1, 1, 0, 0, 0, 0),
    "consume": (0, -1, 0, 1, 0, 0),
    "hold": (0, -1, 1, 0, 0, 0),
    "release": (0, 1, -1, 0, 0, 0),
    "restore": (0, 1, 0, -1, 0, 0),
    "expire": (0, -1, 0, 0, 1, 0),
    "revoke": (0, -1, 0, 0, 0, 1),
    "extend": (0, 0, 0, 0, 0, 0),
}
"""What a unit of a movement adds to a lot's amount, available, held, consumed, expired and revoked, by its kind."""


def standing_lot(wallet_id: int, available: int, instant: dt.datetime) -> Lot:
    """Return the wallet's standing lot, of which no more is known than what is available; nothing of it is held."""
    return Lot(
        *(wallet_id, *STANDING, uuid.UUID(int=wallet_id), BONUS),
        *(available, available, 0, 0, 0, 0),
        *(NO_END, instant, instant),
    )


def moved(lot: Lot, kind: str, amount: int, instant: dt.datetime) -> Lot:
    """Return the lot after the movement. Raises BookkeepingError for more than there is."""
    if amount < 1:
        raise BookkeepingError(f"{kind} of {amount} of {lot}")
    total, available, held, consumed, expired, revoked = EFFECTS[kind]
    after = lot._replace(
        amount=lot.amount + total * amount,
        available=lot.available + available * amount,
        held=lot.held + held * amount,
        consumed=lot.consumed + consumed * amount,
        expired=lot.expired + expired * amount,
        revoked=lot.revoked + revoked * amount,
        changed_at=instant,
    )
    if min(after[6:11]) < 0:
        raise BookkeepingError(f"{kind} of {amount} of {lot}")
    return after


def new_lot(wallet_id: int, key: LotKey, new: NewLot, lot_id: uuid.UUID, instant: dt.datetime) -> Lot:
    """Return the lot before anything is granted into it."""
    return Lot(
        *(wallet_id, *key, lot_id, new.kind),
        *(0, 0, 0, 0, 0, 0),
        *(new.expires_at, instant, instant),
    )


def lot_id_of(transaction_id: uuid.UUID, number: int) -> uuid.UUID:
    """Return the id of the lot that is the `number`th one that the transaction makes, from 1."""
    return transaction_id if number == 1 else uuid.uuid5(transaction_id, str(number))


def fold(movements: Sequence[LotMovement]) -> Mapping[str, int]:
    """Return what a lot's movements make of its parts, by their names."""
    sums = [0] * 6
    for one in movements:
        sums = [total + effect * one.amount for total, effect in zip(sums, EFFECTS[one.kind], strict=True)]
    return dict(zip(("amount", "available", "held", "consumed", "expired", "revoked"), sums, strict=True))
