"""Lots: which part of a wallet's credit was granted and until when it can be used, and what movements do to it; pure.

A lot is a grant that ends, or a wallet's standing lot, which has all its bonus without an end. What is in no lot is
paid credit without an end. No rule here: `lot_rules` decides what is taken from which lot, and `Books.apply` asks this
module what becomes of them.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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


LOTS_MAX = 10_000
"""How many lots that end a wallet may have something left of: all that are due are settled before its next command."""


@dataclass(slots=True)
class LotChanges:
    """What a transaction's entries do to lots, one entry after the other. `known` are the lots before it, by wallet."""

    known: Mapping[int, Mapping[LotKey, Lot]]
    transaction_id: uuid.UUID
    created_at: dt.datetime
    lots: dict[tuple[int, LotKey], Lot] = field(default_factory=dict)
    """Those that were changed, as they are then."""
    movements: list[LotMovement] = field(default_factory=list)
    _made: int = 0

    def move(
        self, *, wallet_id: int, seq: int, amount: int, kinds: Collection[str], moves: Sequence[LotMove]
    ) -> tuple[int, int]:
        """Do what an entry of `amount` (signed) does, by movements of these kinds; the rest of it is paid credit.

        Returns by how much the wallet's `bonus` and `lots` change. Raises BookkeepingError.
        """
        total = bonus = count = 0
        for place, one in enumerate(moves, start=1):
            before = self._lot(wallet_id, seq, one)
            after = moved(before, one.kind, one.amount, self.created_at)
            if one.kind not in kinds or (one.kind == "expire" and before.expires_at > self.created_at):
                raise BookkeepingError(f"{one} by entry {seq} of {amount} on wallet {wallet_id}")
            change = after.available - before.available
            total += change
            bonus += change if after.kind == BONUS else 0
            count += after.counts - before.counts
            self.lots[wallet_id, one.key] = after
            end = None if one.new is None else after.expires_at
            self.movements.append(
                LotMovement(
                    *(wallet_id, seq, self.transaction_id, place, *one.key),
                    *(one.kind, one.amount, end, self.created_at),
                )
            )
        if not (0 <= total <= amount or amount <= total <= 0):
            raise BookkeepingError(f"an entry of {amount} that moves lots by {total}: {moves}")
        return bonus, count

    def extend(self, wallet_id: int, version: int, extension: Extension) -> None:
        """Give a lot its new end. Raises BookkeepingError for one that is not later."""
        lot, expires_at = extension
        if self._known(wallet_id, lot.key) != lot or not (lot.left and lot.seq and lot.expires_at < expires_at):
            raise BookkeepingError(f"{lot} cannot be extended until {expires_at}")
        self.lots[wallet_id, lot.key] = lot._replace(expires_at=expires_at, changed_at=self.created_at)
        self.movements.append(
            LotMovement(
                *(wallet_id, version, self.transaction_id, 1, *lot.key),
                *("extend", lot.left, expires_at, self.created_at),
            )
        )

    def _lot(self, wallet_id: int, seq: int, one: LotMove) -> Lot:
        """Return the lot before it is moved."""
        known = self._known(wallet_id, one.key)
        if (one.new is not None) != (one.kind == "grant"):
            raise BookkeepingError(f"a grant tells what it makes, and nothing else does: {one}")
        if one.new is None or (known is not None and one.key == STANDING):
            if known is None:
                raise BookkeepingError(f"{one} of a lot of wallet {wallet_id} that is not there")
            return known
        if one.key == STANDING:
            return standing_lot(wallet_id, 0, self.created_at)
        is_standing = one.new.expires_at == NO_END
        if known is not None or is_standing or one.key[0] != seq or one.key[1] < 1:
            raise BookkeepingError(f"{one} by entry {seq} of wallet {wallet_id}")
        self._made += 1
        return new_lot(wallet_id, one.key, one.new, lot_id_of(self.transaction_id, self._made), self.created_at)

    def _known(self, wallet_id: int, key: LotKey) -> Lot | None:
        return self.lots.get((wallet_id, key)) or self.known.get(wallet_id, {}).get(key)
