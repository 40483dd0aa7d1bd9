"""The rules of lots: when a grant ends, which lots are taken from, what becomes of those whose time is over; pure.

What is taken is taken from the lot that ends soonest, then from the standing lot, then from paid credit without an end.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import ChainMap, Counter
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from wallet_app.errors import (
    LotEndNotLaterError,
    LotEndPassedError,
    LotFinishedError,
    LotNotDueError,
    LotWithoutEndError,
    TooManyLotsError,
    WalletSettlingError,
)
from wallet_app.money import converted
from wallet_app.service.books import Asset, Books, Plan, PlannedEntry, WalletState
from wallet_app.service.commands import SYSTEM_REFERENCE, ExpireLot, ExtendLot, Origin, Unsaid, Until, until_text
from wallet_app.service.faults import BookkeepingError
from wallet_app.service.instants import NO_END, day_of, end_of_day, instant_text
from wallet_app.service.lots import (
    BONUS,
    LOTS_MAX,
    PAID,
    STANDING,
    Extension,
    Lot,
    LotKey,
    LotMove,
    NewLot,
    moved,
    new_lot,
)

Nature = NewLot | None
"""What credit is: of a lot of this kind and end; None for paid credit without an end."""

FOR_EVER = NewLot(BONUS, NO_END)
"""The nature of what is in a standing lot."""

_ORIGIN = Origin(client="system", actor="credit expiry")


def bonus_end(asset: Asset, said: Until | Unsaid | None, now: dt.datetime) -> dt.datetime:
    """Return when a bonus ends that is granted now; NO_END for never. Raises LotEndPassedError.

    Unsaid, it can be used for the asset's number of days after today, each of them to its end there.
    """
    if isinstance(said, Unsaid):
        return days_on(asset, asset.bonus_days, now)
    return NO_END if said is None else require_ahead(asset, said, now, or_none=True)


def days_on(asset: Asset, days: int | None, now: dt.datetime) -> dt.datetime:
    """Return the end of the day that is so many days after today, where the asset is; for None, NO_END."""
    if days is None:
        return NO_END
    return end_of_day(day_of(now, asset.time_zone) + dt.timedelta(days=days), asset.time_zone)


def require_ahead(asset: Asset, until: Until, now: dt.datetime, *, or_none: bool = False) -> dt.datetime:
    """Return the instant at which something ends; a day does where it ends in the asset's time zone.

    `or_none`: it could be for ever as well, and whoever is refused is told so.

    Raises LotEndPassedError for one that has come, and for one that is as good as none.
    """
    end = until if isinstance(until, dt.datetime) else end_of_day(until, asset.time_zone)
    if not now < end < NO_END:
        raise LotEndPassedError(str(until_text(until)), time_zone=zone_of(asset, until), or_none=or_none)
    return end.astimezone(dt.UTC)


def zone_of(asset: Asset, until: Until) -> str:
    """Return the time zone in which the end is said: a day is the asset's."""
    return "UTC" if isinstance(until, dt.datetime) else asset.time_zone


def paid_nature(asset: Asset, now: dt.datetime) -> Nature:
    """Return what is topped up now: credit without an end, unless the asset says that it ends."""
    return None if asset.paid_days is None else _nature(PAID, days_on(asset, asset.paid_days, now))


def bonus_nature(asset: Asset, said: Until | Unsaid | None, now: dt.datetime) -> NewLot:
    """Return what a bonus is that is granted now. Raises LotEndPassedError."""
    return NewLot(BONUS, bonus_end(asset, said, now))


def _nature(kind: str, end: dt.datetime) -> Nature:
    return None if kind == PAID and end == NO_END else NewLot(kind, end)


@dataclass(slots=True)
class _Sheet:
    """A wallet as a plan's entries so far leave it."""

    wallet: WalletState
    lots: MutableMapping[LotKey, Lot]
    balance: int
    entries: int = 0
    made: int = 0
    returned: Counter[int] = field(default_factory=Counter)
    """How much came back that had been taken in place of lots, by the seq of the entry that made these."""

    @property
    def seq(self) -> int:
        """The number of the wallet's next entry."""
        return self.wallet.version + self.entries + 1

    @property
    def paid(self) -> int:
        """How much of it is in no lot; only where all lots are loaded."""
        return self.balance - sum([lot.available for lot in self.lots.values()])


@dataclass(slots=True)
class Draft:
    """Makes a plan's entries one after the other, each with what it does to lots as the ones before leave them."""

    books: Books
    _sheets: dict[int, _Sheet] = field(default_factory=dict)

    def sheet(self, wallet_id: int) -> _Sheet:
        """Return the wallet as the entries so far leave it."""
        found = self._sheets.get(wallet_id)
        if found is None:
            wallet = self.books.wallet(wallet_id)
            # Not a copy: a wallet may have thousands, and an entry changes a few.
            lots = ChainMap[LotKey, Lot]({}, self.books.lots.get(wallet_id, {}))
            found = self._sheets[wallet_id] = _Sheet(wallet, lots, wallet.balance)
        return found

    def debit(
        self,
        wallet_id: int,
        entry_type: str,
        amount: int,
        contra: str,
        *,
        kind: str = "consume",
        first: Iterable[tuple[LotKey | None, int]] = (),
    ) -> PlannedEntry:
        """Take the amount: `first` from these lots (None: paid credit) as far as it is there, then in the order.

        From those that come first, it is revoked: as much as is named of them. What else is taken of them is other
        credit, that may come back.
        """
        sheet = self.sheet(wallet_id)
        if not (sheet.wallet.has_lots or sheet.lots):
            return self._entry(sheet, entry_type, -amount, contra, ())
        own: Counter[LotKey | None] = Counter()
        left = amount
        for key, wanted in first:
            there = (sheet.paid if key is None else sheet.lots[key].available) - own[key]
            part = min(wanted, there, left)
            own[key] += part
            left -= part
        moves = [LotMove("revoke", key, part) for key, part in own.items() if key is not None and part]
        for lot in sorted([lot for lot in sheet.lots.values() if lot.available], key=lambda lot: lot.order):
            if not left:
                break
            if part := min(lot.available - own[lot.key], left):
                moves.append(LotMove(kind, lot.key, part))
                left -= part
        if left:
            self._require_whole(wallet_id)
        return self._entry(sheet, entry_type, -amount, contra, tuple(moves))

    def credit(self, wallet_id: int, entry_type: str, contra: str, parts: Sequence[tuple[Nature, int]]) -> PlannedEntry:
        """Bring credit of these natures, in the order of taking. Raises TooManyLotsError."""
        sheet = self.sheet(wallet_id)
        moves = self._grants(sheet, [(nature, amount) for nature, amount in parts if nature is not None])
        return self._entry(sheet, entry_type, sum([amount for _, amount in parts]), contra, moves)

    def give_back(
        self,
        wallet_id: int,
        entry_type: str,
        amount: int,
        contra: str,
        *,
        kind: str,
        parts: Iterable[tuple[LotKey | None, int]],
        regrants_until: dt.datetime | None = None,
        passing: Iterable[tuple[LotKey, int]] = (),
    ) -> PlannedEntry:
        """Give back to these lots (None: paid credit); instead of those that have expired, to new ones with that end.

        `passing` comes back too, but only to be spent by the same transaction. Raises TooManyLotsError for new lots.
        """
        sheet = self.sheet(wallet_id)
        back: list[LotMove] = []
        anew: list[tuple[NewLot, int]] = []
        for key, part in parts:
            if key is not None:
                self._return(sheet, kind, key, part, regrants_until, back, anew)
        moves = [*[LotMove(kind, key, part) for key, part in passing], *back]
        return self._entry(sheet, entry_type, amount, contra, (*moves, *self._grants(sheet, anew)))

    def _return(
        self,
        sheet: _Sheet,
        kind: str,
        key: LotKey,
        amount: int,
        regrants_until: dt.datetime | None,
        back: list[LotMove],
        anew: list[tuple[NewLot, int]],
    ) -> None:
        """Add to `back` and `anew` what becomes of an amount that comes back to a lot.

        Where the grant was taken back already, out of other credit, the amount is taken now, and that credit returns.
        """
        # By a list, and not by itself: any number of grants may have been taken, each in place of the one before.
        coming = [(kind, key, amount)]
        while coming:
            kind, key, amount = coming.pop()
            lot = sheet.lots.get(key)
            if lot is None:
                raise BookkeepingError(
                    f"{kind} of {amount} to the lot {key} of wallet {sheet.wallet.wallet_id}, which is not loaded"
                )
            in_place = self.books.in_place.get((sheet.wallet.wallet_id, lot.seq))
            others = [] if in_place is None else in_place.last(amount, behind=sheet.returned[lot.seq])
            late = sum([part for _, part in others])
            sheet.returned[lot.seq] += late
            if regrants_until is not None and lot.expires_at <= self.books.now(lot.wallet_id):
                anew += [(NewLot(lot.kind, regrants_until), amount - late)] if late < amount else []
                amount = late
            back += [LotMove(kind, key, amount)] if amount else []
            back += [LotMove("revoke", key, late)] if late else []
            coming += [("restore", other, part) for other, part in reversed(others) if other is not None]

    def natures(self, entry: PlannedEntry) -> list[tuple[Nature, int]]:
        """Return what a debit took, in the order in which it did; each nature once."""
        lots = self.sheet(entry.wallet_id).lots
        sums: Counter[Nature] = Counter()
        for one in entry.lots:
            lot = lots[one.key]
            sums[NewLot(lot.kind, lot.expires_at)] += one.amount
        if paid := -entry.amount - sums.total():
            sums[None] += paid
        return list(sums.items())

    def _grants(self, sheet: _Sheet, parts: Sequence[tuple[NewLot, int]]) -> tuple[LotMove, ...]:
        moves = []
        for new, amount in parts:
            if new == FOR_EVER:
                moves.append(LotMove("grant", STANDING, amount, new))
                continue
            sheet.made += 1
            if sheet.wallet.lots + sheet.made > LOTS_MAX:
                raise TooManyLotsError(wallet_id=sheet.wallet.wallet_id, lots_max=LOTS_MAX)
            number = sum([move.key != STANDING for move in moves]) + 1
            moves.append(LotMove("grant", (sheet.seq, number), amount, new))
        return tuple(moves)

    def _entry(
        self, sheet: _Sheet, entry_type: str, amount: int, contra: str, moves: tuple[LotMove, ...]
    ) -> PlannedEntry:
        wallet_id = sheet.wallet.wallet_id
        for one in moves:
            lot = sheet.lots.get(one.key)
            if lot is None and one.new is not None:
                # A draft's own: what is posted is made by the books.
                lot = new_lot(wallet_id, one.key, one.new, _NO_ID, sheet.wallet.updated_at)
            if lot is None:
                raise BookkeepingError(f"{one} of wallet {wallet_id}, which is not loaded")
            sheet.lots[one.key] = moved(lot, one.kind, one.amount, lot.changed_at)
        sheet.balance += amount
        sheet.entries += 1
        return PlannedEntry(wallet_id, entry_type, amount, contra, moves)

    def _require_whole(self, wallet_id: int) -> None:
        """Raise BookkeepingError if there is bonus that was not loaded: paid credit is taken after all of it."""
        loaded = sum([lot.available for lot in self.books.lots.get(wallet_id, {}).values() if lot.kind == BONUS])
        if loaded != self.books.wallet(wallet_id).bonus:
            raise BookkeepingError(
                f"of wallet {wallet_id}, {loaded} of bonus is loaded: {self.books.wallet(wallet_id)}"
            )


_NO_ID = uuid.UUID(int=0)


def converted_natures(parts: Sequence[tuple[Nature, int]], rate: Fraction) -> list[tuple[Nature, int]]:
    """Return what the parts make at the rate, together rounded down, in the order of taking.

    Paid credit is rounded down, and so is, of each kind, what lasts longer: so rounding makes no bonus paid, and
    lengthens no life.
    """
    lasting = sorted(parts, key=lambda part: (_is_paid(part[0]), _end(part[0])), reverse=True)
    so_far = given = 0
    made = []
    for nature, amount in lasting:
        so_far += amount
        share = converted(so_far, rate) - given
        given += share
        if share:
            made.append((nature, share))
    return sorted(made, key=lambda part: (_end(part[0]), _is_paid(part[0])))


def _is_paid(nature: Nature) -> bool:
    return nature is None or nature.kind == PAID


def _end(nature: Nature) -> dt.datetime:
    return NO_END if nature is None else nature.expires_at


def settle(books: Books, wallet_ids: Iterable[int]) -> None:
    """Book that what is due of the wallets' lots has expired, each lot by a transaction of its own.

    So expiry is exact whoever comes first, the worker or a command; and it stays whatever becomes of the command.
    Raises WalletSettlingError if there is more of it than is done at once.
    """
    for wallet_id in wallet_ids:
        if wallet_id not in books.lots:
            continue
        for lot in books.due_lots(wallet_id):
            # What came back to a lot that had expired, expires again: its entry's number makes that reference its own.
            again = f":{books.wallets[wallet_id].version + 1}" if lot.expired else ""
            command = expiry_of(wallet_id, lot.lot_id, lot.expires_at, again)
            moves = (LotMove("expire", lot.key, lot.available),)
            books.apply(command, Plan((PlannedEntry(wallet_id, "EXPIRY", -lot.available, "Breakage", moves),)))
        if wallet_id in books.unsettled:
            raise WalletSettlingError(wallet_id)


def expiry_of(wallet_id: int, lot_id: uuid.UUID, expires_at: dt.datetime, again: str = "") -> ExpireLot:
    """Return the command that books what has expired of the lot."""
    return ExpireLot(
        wallet_id=wallet_id,
        reference=f"{SYSTEM_REFERENCE}expire:{lot_id}{again}",
        origin=_ORIGIN,
        lot_id=lot_id,
        occurred_at=expires_at,
    )


def expire(books: Books, command: ExpireLot) -> Plan:
    """Refuse: what is due was settled before this was asked. Raises LotFinishedError or LotNotDueError."""
    lot = books.lot(command.wallet_id, command.lot_id)
    if not lot.left:
        raise finished(lot)
    raise LotNotDueError(str(lot.lot_id))


def extend(books: Books, command: ExtendLot) -> Plan:
    """Give the lot a later end.

    Raises LotNotFoundError, LotWithoutEndError, LotFinishedError, LotEndPassedError or LotEndNotLaterError.
    """
    lot = books.lot(command.wallet_id, command.lot_id)
    if lot.key == STANDING:
        raise LotWithoutEndError(str(lot.lot_id))
    if not lot.left:
        raise finished(lot)
    wallet = books.wallet(command.wallet_id)
    end = require_ahead(wallet.asset, command.expires_at, books.now(wallet.wallet_id))
    before, after = instant_text(lot.expires_at), instant_text(end)
    if end <= lot.expires_at:
        raise LotEndNotLaterError(
            lot_id=str(lot.lot_id),
            expires_at=before,
            until=str(until_text(command.expires_at)),
            time_zone=zone_of(wallet.asset, command.expires_at),
        )
    result = {"lot": str(lot.lot_id), "left": lot.left, "before": before, "expiresAt": after}
    return Plan((), result=result, extension=Extension(lot, end))


def finished(lot: Lot) -> LotFinishedError:
    """Return what to raise for a lot of which nothing is left."""
    return LotFinishedError(lot_id=str(lot.lot_id), consumed=lot.consumed, expired=lot.expired, revoked=lot.revoked)
