"""The functional core: the locked state of wallets in memory, and the one function that changes it; no SQL here.

A rule looks at `Books` and returns a `Plan`; `apply` turns the plan into entries. What comes out is written to the
database as it stands, so everything that must hold of an entry is settled here. States, entries and receipts are named
tuples: as unchangeable as frozen dataclasses, and made in less than half the time.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from wallet_app.errors import (
    HoldNotFoundError,
    LotNotFoundError,
    ReferenceMismatchError,
    SystemWalletError,
    TransactionNotFoundError,
    WalletNotFoundError,
)
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import chain
from wallet_app.service.commands import Command, Requested
from wallet_app.service.faults import BookkeepingError as BookkeepingError
from wallet_app.service.in_place import InPlace, place_of, taken_for
from wallet_app.service.instants import NO_END
from wallet_app.service.limits import NO_LIMITS, SPENDING, LimitsOf, WalletLimits, hour_of
from wallet_app.service.lots import Extension, Lot, LotChanges, LotKey, LotMove, LotMovement


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset, with the id of each of its SYSTEM wallets by their owner's name (Treasury, Revenue, ...)."""

    id: int
    code: str
    name: str
    scale: int
    contra: Mapping[str, int]
    time_zone: str = "UTC"
    """Where its days end."""
    bonus_days: int | None = None
    paid_days: int | None = None
    """For how many days after that of the credit a bonus, or what is topped up, can be used; None: for ever."""


class Frozen(NamedTuple):
    """Until when a wallet's debits and credits are frozen; None where they are not. What has passed freezes nothing."""

    debits: dt.datetime | None = None
    credits: dt.datetime | None = None

    def at(self, instant: dt.datetime) -> Frozen:
        """Return what is frozen at the instant."""
        return Frozen(*[until if until is not None and until > instant else None for until in self])


NOT_FROZEN = Frozen()


class Stop(NamedTuple):
    """A switch that is set and concerns a wallet: its target is `user`, `asset` or `everything`."""

    target: str
    side: str

    def covers(self, side: str) -> bool:
        """Tell whether it stops this side."""
        return self.side in (side, "both")


class WalletState(NamedTuple):
    """A user wallet as it stands under its lock. Amounts in the asset's smallest unit. An entry makes a new state.

    `status` is ACTIVE or CLOSED; `state_transaction_id` is that of the last command that froze, unfroze or closed it.
    """

    wallet_id: int
    user_id: int
    asset: Asset
    status: str
    balance: int
    held: int
    version: int
    chain: bytes
    updated_at: dt.datetime
    owed: int = 0
    """What could not be taken back of its entries that were reversed; later credits repay it."""
    frozen: Frozen = NOT_FROZEN
    state_transaction_id: uuid.UUID | None = None
    bonus: int = 0
    """What is available of its bonus lots; the rest of the balance is paid."""
    lots: int = 0
    """How many of its lots count (`Lot.counts`). With 0, `bonus` is what its standing lot has, and no other has any."""

    @property
    def has_lots(self) -> bool:
        """Whether anything of its balance is of a lot."""
        return self.bonus > 0 or self.lots > 0


STATE_KINDS = ("FREEZE", "UNFREEZE", "CLOSE")
"""The kinds of transactions that change how a wallet stands, and make no entry."""

OPEN_STATES = ("open", "partially_captured")
"""The states of a hold that holds something."""


class Hold(NamedTuple):
    """A hold under its wallet's lock. Its parts make `amount` together when it is finished, and less before.

    `seq` is that of its HOLD entry; `changes` are those of the RELEASE entries that gave parts of it back.
    """

    wallet_id: int
    seq: int
    hold_id: uuid.UUID
    amount: int
    captured: int
    released: int
    expired: int
    state: str
    expires_at: dt.datetime
    created_at: dt.datetime
    ended_at: dt.datetime | None
    changes: tuple[int, ...]
    lots: tuple[tuple[LotKey, int], ...] = ()
    """What of it that is still held is of lots; the rest is paid."""

    @property
    def remaining(self) -> int:
        """How much is still held."""
        return self.amount - self.captured - self.released - self.expired

    @property
    def is_open(self) -> bool:
        """Whether anything is still held."""
        return self.ended_at is None


class HoldPart(NamedTuple):
    """What becomes of a part of a hold, in the smallest unit: the plan's entries give it back, and spend `captured`."""

    hold: Hold
    captured: int = 0
    released: int = 0
    expired: int = 0


class ReversedEntry(NamedTuple):
    """What became of an entry that was reversed, under its wallet's lock; `amount` is the entry's, without its sign.

    `owed` is what was not there to be taken back, `owed_since` when that began; both go when it is repaid.
    """

    wallet_id: int
    seq: int
    transaction_id: uuid.UUID
    contra_wallet_id: int
    amount: int
    reversed: int
    owed: int
    owed_since: dt.datetime | None

    @property
    def remaining(self) -> int:
        """How much of it can still be reversed."""
        return self.amount - self.reversed - self.owed


class ReversedPart(NamedTuple):
    """What a plan does to an entry: `moved` (signed) by an entry of its own, unless it is 0; it owes `owed` more."""

    entry: ReversedEntry
    moved: int
    owed: int = 0


class PlannedEntry(NamedTuple):
    """A movement of `amount` (signed, never 0) between a user wallet and the contra wallet of a SYSTEM user."""

    wallet_id: int
    entry_type: str
    amount: int
    contra: str
    lots: tuple[LotMove, ...] = ()
    """What it does to lots of the wallet, in the order in which they are taken or come; the rest is paid credit."""


class NewState(NamedTuple):
    """How the anchor stands from now on."""

    status: str
    frozen: Frozen


class NewLimits(NamedTuple):
    """To what the anchor's limits are raised, until an instant; one that has come ends what was raised before."""

    figures: WalletLimits
    until: dt.datetime


class Plan(NamedTuple):
    """What a rule decided; the entries are made in this order."""

    entries: tuple[PlannedEntry, ...]
    reverses: uuid.UUID | None = None
    holds_for: dt.timedelta | None = None
    """The one entry is a new hold that expires then."""
    part: HoldPart | None = None
    reversed: tuple[ReversedPart, ...] = ()
    """What it undoes of the transaction that it reverses, in the order of the entries."""
    result: Requested | None = None
    """What is to be kept of the decision, where the entries do not say it: a replay tells the same."""
    state: NewState | None = None
    limits: NewLimits | None = None
    extension: Extension | None = None


class Entry(NamedTuple):
    """An entry as the ledger has it."""

    wallet_id: int
    seq: int
    entry_type: str
    amount: int
    balance_after: int
    contra_wallet_id: int
    created_at: dt.datetime
    hash: bytes


class Details(NamedTuple):
    """What is kept of a transaction in the erasable table."""

    salt: bytes
    note: str | None
    metadata: str | None


class PostedTransaction(NamedTuple):
    """An accepted command with its entries."""

    transaction_id: uuid.UUID
    wallet_id: int
    reference: str
    kind: str
    client: str
    actor: str
    request_id: str | None
    requested: Requested
    stored_request: Requested | None
    result: Requested | None
    reverses: uuid.UUID | None
    details: Details | None
    details_hash: bytes | None
    digest: bytes
    occurred_at: dt.datetime
    created_at: dt.datetime
    entries: tuple[Entry, ...]


class Receipt(NamedTuple):
    """The answer to an accepted command: its transaction, and each wallet it touched as it stands now.

    The anchor's comes first. `is_replay` tells that the reference had been accepted before and nothing was changed
    this time.
    """

    transaction: PostedTransaction
    is_replay: bool
    wallets: tuple[WalletState, ...]
    hold: Hold | None = None
    """The hold that the transaction placed or changed, as it stands now."""
    reversed: tuple[ReversedEntry, ...] = ()
    """The entries that the transaction reversed, as they stand now, in the order of its result's parts."""
    reversible: tuple[int, ...] = ()
    """How much of each of these can still be reversed."""
    as_of: dt.datetime | None = None
    """For which instant the wallets stand so; only where what is frozen is to be told, which ends by itself."""


@dataclass(slots=True)
class Books:
    """All that a batch of commands may look at, and what it has changed so far.

    `clock` gives the instant of the next transaction; `new_id` and `new_salt` are its other sources of the outside.
    """

    wallets: dict[int, WalletState]
    system_wallets: frozenset[int]
    transactions: dict[tuple[int, str], PostedTransaction]
    clock: Callable[[], dt.datetime]
    new_id: Callable[[dt.datetime], uuid.UUID]
    new_salt: Callable[[], bytes]
    instant: dt.datetime | None = None
    """That of the command which is being decided."""
    holds: dict[int, dict[int, Hold]] = field(default_factory=dict)
    """By wallet and seq: those that are due, and those that a command names; no others."""
    open_holds: Counter[int] = field(default_factory=Counter)
    """How many open holds a wallet has, where a command places one."""
    posted: list[PostedTransaction] = field(default_factory=list)
    contra_deltas: dict[int, int] = field(default_factory=dict)
    changed_holds: dict[tuple[int, int], Hold] = field(default_factory=dict)
    originals: dict[uuid.UUID, PostedTransaction] = field(default_factory=dict)
    """The transactions that commands want to reverse."""
    reversed: dict[tuple[int, int], ReversedEntry] = field(default_factory=dict)
    """By wallet and seq: those of the originals that were reversed before, and all that wallets owe for."""
    changed_reversed: dict[tuple[int, int], ReversedEntry] = field(default_factory=dict)
    rates: Mapping[tuple[int, int], Fraction] = field(default_factory=dict)
    """The configured exchange rates by the ids of both assets, from and to; only for commands that use them."""
    stops: Mapping[int, tuple[Stop, ...]] = field(default_factory=dict)
    """By wallet, the switches that stop something there now."""
    changed_states: set[int] = field(default_factory=set)
    """The wallets that were frozen, unfrozen or closed."""
    limits: dict[int, LimitsOf] = field(default_factory=dict)
    """Of the wallets that have any."""
    new_limits: list[tuple[PostedTransaction, NewLimits]] = field(default_factory=list)
    spent: dict[int, dict[dt.datetime, int]] = field(default_factory=dict)
    """By the hour, what the wallets have spent lately for which that is limited."""
    changed_hours: set[tuple[int, dt.datetime]] = field(default_factory=set)
    lots: dict[int, dict[LotKey, Lot]] = field(default_factory=dict)
    """By wallet: the lots that are due, those that commands concern, and of the others in the order of taking as many
    as the commands can take from. A standing lot that is not here has nothing."""
    movements: dict[tuple[int, int], tuple[LotMovement, ...]] = field(default_factory=dict)
    """What the entries of the originals did to lots, by wallet and seq."""
    changed_lots: dict[tuple[int, LotKey], Lot | None] = field(default_factory=dict)
    """The lots that were changed, as they were before; None for new ones."""
    lot_movements: list[LotMovement] = field(default_factory=list)
    in_place: dict[tuple[int, int], InPlace] = field(default_factory=dict)
    """What was taken in place of lots that may come back, by wallet and seq of the entry that made them."""
    unsettled: set[int] = field(default_factory=set)
    """The wallets of which more lots are due than were loaded: these are settled, and no more can be decided."""
    _next_ends: dict[int, dt.datetime] = field(default_factory=dict)
    """By wallet, an instant before which none of its lots ends that have something available."""

    def wallet(self, wallet_id: int) -> WalletState:
        """Return the wallet; raise WalletNotFoundError, or SystemWalletError for one that no command may target."""
        if wallet_id in self.system_wallets:
            raise SystemWalletError(wallet_id)
        try:
            return self.wallets[wallet_id]
        except KeyError:
            raise WalletNotFoundError(wallet_id) from None

    def hold(self, wallet_id: int, hold_id: uuid.UUID) -> Hold:
        """Return the wallet's hold, which a command has named; raise HoldNotFoundError."""
        for hold in self.holds.get(wallet_id, {}).values():
            if hold.hold_id == hold_id:
                return hold
        raise HoldNotFoundError(str(hold_id))

    def due_holds(self, wallet_id: int) -> list[Hold]:
        """Return the wallet's open holds whose time is over, in the order in which that came."""
        open_ones = [hold for hold in self.holds.get(wallet_id, {}).values() if hold.is_open]
        if not open_ones:
            return []
        # As with the entries: along a wallet the time never falls, so nothing comes back to life when a clock is set.
        now = max(self._time(), self.wallets[wallet_id].updated_at)
        return sorted([hold for hold in open_ones if hold.expires_at <= now], key=lambda due: (due.expires_at, due.seq))

    def lot(self, wallet_id: int, lot_id: uuid.UUID) -> Lot:
        """Return the wallet's lot, which a command has named; raise LotNotFoundError."""
        for lot in self.lots.get(wallet_id, {}).values():
            if lot.lot_id == lot_id:
                return lot
        raise LotNotFoundError(str(lot_id))

    def due_lots(self, wallet_id: int) -> list[Lot]:
        """Return the wallet's lots that have something available and whose time is over, in the order of that."""
        now = self.now(wallet_id)
        if self._next_ends.get(wallet_id, now) > now:
            return []
        usable = [lot for lot in self.lots.get(wallet_id, {}).values() if lot.available]
        due = [lot for lot in usable if lot.expires_at <= now]
        if not due:
            self._next_ends[wallet_id] = min([lot.expires_at for lot in usable], default=NO_END)
        return sorted(due, key=lambda lot: lot.order)

    def original(self, wallet_id: int, transaction_id: uuid.UUID) -> PostedTransaction:
        """Return the anchor's transaction, which a command has named; raise TransactionNotFoundError."""
        found = self.originals.get(transaction_id)
        if found is None or found.wallet_id != wallet_id:
            raise TransactionNotFoundError(str(transaction_id))
        return found

    def reversed_entry(self, entry: Entry, transaction_id: uuid.UUID) -> ReversedEntry:
        """Return what became of the entry of that transaction, which a command wants to reverse."""
        return self.reversed.get((entry.wallet_id, entry.seq)) or ReversedEntry(
            entry.wallet_id, entry.seq, transaction_id, entry.contra_wallet_id, abs(entry.amount), 0, 0, None
        )

    def reversible(self, bound: ReversedEntry) -> int:
        """Return how much of the entry can be reversed: what has expired of the lots that it made is gone already.

        To be asked where these were loaded, as they are for a command that reverses the entry.
        """
        lots = self.lots.get(bound.wallet_id, {})
        return max(0, bound.remaining - sum([lot.expired for lot in lots.values() if lot.seq == bound.seq]))

    def debts(self, wallet_id: int) -> list[ReversedEntry]:
        """Return what the wallet owes for, the oldest first."""
        owing = [
            (one.owed_since, one.seq, one)
            for one in self.reversed.values()
            if one.wallet_id == wallet_id and one.owed_since is not None
        ]
        return [one for *_, one in sorted(owing)]

    def replay(self, command: Command) -> Receipt | None:
        """Return the receipt of the transaction that already carries the command's reference, or None.

        Raises ReferenceMismatchError if it was another command: never the other one's result.
        """
        transaction = self.transactions.get((command.wallet_id, command.reference))
        if transaction is None:
            return None
        if fields := differing_fields(transaction, command):
            raise ReferenceMismatchError(wallet_id=command.wallet_id, reference=command.reference, fields=fields)
        return self.receipt(transaction, is_replay=True)

    def receipt(self, transaction: PostedTransaction, *, is_replay: bool) -> Receipt:
        """Return the answer to the transaction's command as all that it touched stands now."""
        wallets = self._now(_touched(transaction))
        as_of = self.now(transaction.wallet_id) if transaction.kind in STATE_KINDS else None
        hold, reversed_ = self._hold_of(transaction), self._reversed_by(transaction)
        reversible = tuple([self.reversible(one) for one in reversed_])
        return Receipt(transaction, is_replay, wallets, hold, reversed_, reversible, as_of)

    def apply(self, command: Command, plan: Plan) -> Receipt:
        """Post the plan: the only place where books change. Raises BookkeepingError, with nothing changed."""
        transaction, after, lots = self._posted(command, plan)
        hold = _hold_after(plan, transaction)
        if plan.reversed:
            self._reverse(plan, transaction, after)
        if self.in_place:
            self._give_in_place(plan)
        self.wallets.update(after)
        for entry in transaction.entries:
            self.contra_deltas[entry.contra_wallet_id] = (
                self.contra_deltas.get(entry.contra_wallet_id, 0) - entry.amount
            )
        self.transactions[command.wallet_id, command.reference] = transaction
        self.posted.append(transaction)
        if hold is not None:
            self._keep(hold)
        if lots is not None:
            self._keep_lots(lots)
        if plan.state is not None:
            self._set_state(transaction, plan.state)
        if plan.limits is not None:
            figures = plan.limits.figures if plan.limits.until > transaction.created_at else NO_LIMITS
            self.limits[command.wallet_id] = self.limits[command.wallet_id].raised_to(figures)
            self.new_limits.append((transaction, plan.limits))
        if self.spent:
            self._count(plan, transaction)
        as_of = None if plan.state is None else transaction.created_at
        reversed_ = self._reversed_by(transaction)
        reversible = tuple([self.reversible(one) for one in reversed_])
        return Receipt(transaction, False, self._now(_touched(transaction)), hold, reversed_, reversible, as_of)

    def _set_state(self, transaction: PostedTransaction, state: NewState) -> None:
        self.wallets[transaction.wallet_id] = self.wallets[transaction.wallet_id]._replace(
            status=state.status, frozen=state.frozen, state_transaction_id=transaction.transaction_id
        )
        self.changed_states.add(transaction.wallet_id)

    def _count(self, plan: Plan, transaction: PostedTransaction) -> None:
        """Count what the transaction spends, and no more what it gives back: in the hour in which that was spent.

        What is held is spent when it is set aside, so its capture spends nothing more. Every entry marks its hour, so
        that what is kept tells up to which entry all is counted.
        """
        for entry in transaction.entries:
            spends = entry.amount < 0 and (
                entry.entry_type == "HOLD" or (entry.entry_type in SPENDING and transaction.kind != "CAPTURE")
            )
            self._add_spent(entry.wallet_id, entry.created_at, -entry.amount if spends else 0)
        if plan.part is not None:
            hold, back = plan.part.hold, plan.part.released + plan.part.expired
            self._take_spent(hold.wallet_id, hold.created_at, back)
        original = None if plan.reverses is None else self.originals.get(plan.reverses)
        for part in plan.reversed:
            if part.moved > 0 and original is not None and (spent_at := _spent_at(original, part.entry)) is not None:
                self._take_spent(part.entry.wallet_id, spent_at, part.moved)

    def _add_spent(self, wallet_id: int, instant: dt.datetime, amount: int) -> None:
        if (hours := self.spent.get(wallet_id)) is not None:
            hour = hour_of(instant, self.wallets[wallet_id].asset.time_zone)
            hours[hour] = hours.get(hour, 0) + amount
            self.changed_hours.add((wallet_id, hour))

    def _take_spent(self, wallet_id: int, instant: dt.datetime, amount: int) -> None:
        hour = hour_of(instant, self.wallets[wallet_id].asset.time_zone)
        # What was spent too long ago to count is not among them.
        if amount and hour in (hours := self.spent.get(wallet_id, {})):
            hours[hour] = max(0, hours[hour] - amount)
            self.changed_hours.add((wallet_id, hour))

    def _keep(self, hold: Hold) -> None:
        kept = self.holds.setdefault(hold.wallet_id, {})
        self.open_holds[hold.wallet_id] += hold.is_open - (hold.seq in kept)
        kept[hold.seq] = self.changed_holds[hold.wallet_id, hold.seq] = hold

    def _keep_lots(self, changes: LotChanges) -> None:
        for (wallet_id, key), lot in changes.lots.items():
            kept = self.lots.setdefault(wallet_id, {})
            self.changed_lots.setdefault((wallet_id, key), kept.get(key))
            kept[key] = lot
            if lot.expires_at < self._next_ends.get(wallet_id, lot.expires_at):
                self._next_ends[wallet_id] = lot.expires_at
        self.lot_movements += changes.movements

    def _hold_of(self, transaction: PostedTransaction) -> Hold | None:
        """Return the hold that the transaction placed or changed; None for one that has nothing to do with holds."""
        kept = self.holds.get(transaction.wallet_id)
        if kept is None:
            return None
        if transaction.kind == "HOLD":
            return kept[transaction.entries[0].seq]
        hold_id = transaction.requested.get("hold")
        return next((hold for hold in kept.values() if str(hold.hold_id) == hold_id), None)

    def begin(self, wallet_ids: Iterable[int]) -> None:
        """Ask the clock, once for a command on these wallets and what is settled before it: history has one for each.

        It is one time for all its wallets, none of which falls back: what is over for one is over for the others.
        """
        instant = self.clock()
        for wallet_id in wallet_ids:
            if (wallet := self.wallets.get(wallet_id)) is not None and wallet.updated_at > instant:
                instant = wallet.updated_at
        self.instant = instant

    def _time(self) -> dt.datetime:
        return self.instant or self.clock()

    def now(self, wallet_id: int) -> dt.datetime:
        """Return the wallet's time: the clock's, but never below its last entry's."""
        return max(self._time(), self.wallets[wallet_id].updated_at)

    def _reverse(self, plan: Plan, transaction: PostedTransaction, after: dict[int, WalletState]) -> None:
        """Keep what the plan does to the entries that it reverses, and what their wallets owe then."""
        changed = _reversed_after(plan, transaction)
        for part, one in zip(plan.reversed, changed, strict=True):
            wallet = after.get(one.wallet_id) or self.wallets[one.wallet_id]
            if wallet.owed + part.owed < 0:
                raise BookkeepingError(f"wallet {one.wallet_id} would owe {wallet.owed + part.owed}")
            after[one.wallet_id] = wallet._replace(owed=wallet.owed + part.owed)
        self._take_in_place(plan)
        self.reversed.update({(one.wallet_id, one.seq): one for one in changed})
        self.changed_reversed.update({(one.wallet_id, one.seq): one for one in changed})

    def _take_in_place(self, plan: Plan) -> None:
        """Keep what the plan takes in place of lots that an entry made. Of one that nobody asks about nothing is."""
        planned = iter(plan.entries)
        for part in plan.reversed:
            moves = next(planned).lots if part.moved else ()
            key = part.entry.wallet_id, part.entry.seq
            if part.moved > 0 or not (key in self.in_place or key in self.movements):
                continue
            kept = self.in_place.get(key) or place_of(part.entry.amount, self.movements[key])
            kept.take(*taken_for(part.entry.seq, -part.moved, moves))
            self.in_place[key] = kept

    def _give_in_place(self, plan: Plan) -> None:
        """Forget what the plan gives back that had been taken in place of what it takes at once."""
        for planned in plan.entries:
            for one in planned.lots if planned.amount > 0 else ():
                if one.kind == "revoke":
                    self.in_place[planned.wallet_id, one.key[0]].give(one.amount)

    def _reversed_by(self, transaction: PostedTransaction) -> tuple[ReversedEntry, ...]:
        if transaction.reverses is None:
            return ()
        return tuple([self.reversed[part[0], part[1]] for part in reversed_parts(transaction)])

    def changed_wallets(self) -> list[WalletState]:
        """Return each wallet that got an entry, or owes more or less, in order of id."""
        touched = {entry.wallet_id for transaction in self.posted for entry in transaction.entries}
        touched.update([wallet_id for wallet_id, _ in self.changed_reversed])
        return [self.wallets[wallet_id] for wallet_id in sorted(touched)]

    def _posted(
        self, command: Command, plan: Plan
    ) -> tuple[PostedTransaction, dict[int, WalletState], LotChanges | None]:
        """Return the transaction that the plan makes, and what it makes of wallets and lots."""
        if plan.state is not None:
            _require_state_fits(self.wallets[command.wallet_id], plan)
        if plan.limits is not None and (plan.entries or command.wallet_id not in self.limits):
            raise BookkeepingError(f"{plan.limits} for wallet {command.wallet_id} with {plan.entries}")
        created_at = self.now(command.wallet_id)
        stamp = _Stamp(self.new_id(created_at), created_at, command.occurred_at or created_at)
        details, hashed = _details(command, self.new_salt)
        stored_request = command.stored_request()
        digest = _digest(command, plan, stamp, hashed, stored_request)
        after: dict[int, WalletState] = {}
        entries = []
        lots: LotChanges | None = None
        for planned in plan.entries:
            before = after.get(planned.wallet_id) or self.wallets[planned.wallet_id]
            entry = _next_entry(before, planned, stamp, digest)
            bonus, count = before.bonus, before.lots
            if planned.lots:
                lots = lots or LotChanges(self.lots, stamp.transaction_id, created_at)
                self._require_usable(planned, plan)
                more = lots.move(
                    wallet_id=entry.wallet_id,
                    seq=entry.seq,
                    amount=entry.amount,
                    kinds=_kinds_of(planned),
                    moves=planned.lots,
                )
                bonus, count = bonus + more[0], count + more[1]
            after[planned.wallet_id] = _with_entry(
                before, entry, is_hold=planned.contra == "Holds", bonus=bonus, lots=count
            )
            entries.append(entry)
        if plan.extension is not None:
            lots = LotChanges(self.lots, stamp.transaction_id, created_at)
            lots.extend(command.wallet_id, self.wallets[command.wallet_id].version, plan.extension)
        transaction = PostedTransaction(
            transaction_id=stamp.transaction_id,
            wallet_id=command.wallet_id,
            reference=command.reference,
            kind=command.kind,
            client=command.origin.client,
            actor=command.origin.actor,
            request_id=command.origin.request_id,
            requested=command.requested(),
            stored_request=stored_request,
            result=plan.result,
            reverses=plan.reverses,
            details=details,
            details_hash=hashed,
            digest=digest,
            occurred_at=stamp.occurred_at,
            created_at=created_at,
            entries=tuple(entries),
        )
        return transaction, after, lots

    def _require_usable(self, planned: PlannedEntry, plan: Plan) -> None:
        """Raise BookkeepingError for a use of what has expired; what was held may be captured whenever it ended."""
        if planned.amount > 0 or plan.part is not None or planned.contra == "Breakage" or plan.reversed:
            return
        now, lots = self.now(planned.wallet_id), self.lots.get(planned.wallet_id, {})
        for one in planned.lots:
            if one.key in lots and lots[one.key].expires_at <= now:
                raise BookkeepingError(f"{one} of {lots[one.key]} at {now}")

    def _now(self, wallet_ids: Iterable[int]) -> tuple[WalletState, ...]:
        return tuple([self.wallets[wallet_id] for wallet_id in wallet_ids])


def differing_fields(transaction: PostedTransaction, command: Command) -> list[str]:
    """Return the names of what the command asks for differently than the transaction's command did.

    Note, metadata, `occurred_at` and preconditions do not count: a caller may word a retry differently, and date it
    anew.
    """
    asked = command.requested()
    before = transaction.requested
    names = [name for name in asked if asked[name] != before.get(name)]
    # Sorted, because the database gives them back in an order of its own.
    names += sorted(name for name in before if name not in asked)
    if transaction.client != command.origin.client:
        names.insert(0, "client")
    if transaction.kind != command.kind:
        names.insert(0, "kind")
    return names


def _touched(transaction: PostedTransaction) -> list[int]:
    """Return the wallets to report: the anchor first, then the others in order of their entries."""
    touched = [transaction.wallet_id, *[entry.wallet_id for entry in transaction.entries]]
    if transaction.reverses is not None:
        touched += [part[0] for part in reversed_parts(transaction)]
    return list(dict.fromkeys(touched))


def reversed_parts(transaction: PostedTransaction) -> Sequence[Sequence[int]]:
    """Return what a transaction undid, none if it reverses nothing.

    Of each entry its wallet id and seq, what was moved (signed) and what it owes more, or less, since then.
    """
    return () if transaction.reverses is None or transaction.result is None else transaction.result.get("parts", ())


def _reversed_after(plan: Plan, transaction: PostedTransaction) -> list[ReversedEntry]:
    """Return the entries that the plan reverses as they are then. Raises BookkeepingError."""
    moved = [(part.entry.wallet_id, part.moved, part.entry.contra_wallet_id) for part in plan.reversed if part.moved]
    if moved != [(entry.wallet_id, entry.amount, entry.contra_wallet_id) for entry in transaction.entries]:
        raise BookkeepingError(f"entries of {transaction.kind} that are not what it moves: {moved}")
    return [_with_reversed(part, transaction) for part in plan.reversed]


def _with_reversed(part: ReversedPart, transaction: PostedTransaction) -> ReversedEntry:
    before, moved, owed = part
    after = before._replace(reversed=before.reversed + abs(moved), owed=before.owed + owed)
    if transaction.reverses != before.transaction_id or not (moved or owed) or after.owed < 0 or after.remaining < 0:
        raise BookkeepingError(f"{moved} moved and {owed} owed of {before} for {transaction.reverses}")
    return after._replace(owed_since=(before.owed_since or transaction.created_at) if after.owed else None)


def _spent_at(original: PostedTransaction, reversed_: ReversedEntry) -> dt.datetime | None:
    """Return when the entry of the transaction was spent, as limits count it; None if it is no spending."""
    spending = [
        (entry.wallet_id, entry.seq) for entry in original.entries if entry.amount < 0 and entry.entry_type in SPENDING
    ]
    if (reversed_.wallet_id, reversed_.seq) not in spending:
        return None
    if original.kind != "CAPTURE":
        return original.created_at
    # A hold's id tells when it was placed, to the millisecond; and each hour begins with one.
    milliseconds = uuid.UUID(original.requested["hold"]).int >> 80
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=milliseconds)


def _hold_after(plan: Plan, transaction: PostedTransaction) -> Hold | None:
    """Return the hold that the plan makes or changes, if it does. Raises BookkeepingError."""
    if plan.holds_for is not None:
        if [(planned.contra, planned.amount < 0) for planned in plan.entries] != [("Holds", True)]:
            raise BookkeepingError(f"a hold that is not one entry of {transaction.kind} against Holds")
        return _new_hold(plan.holds_for, transaction, plan.entries[0].lots)
    if plan.part is None:
        return None
    before, captured, released, expired = plan.part
    back = [
        entry for entry, planned in zip(transaction.entries, plan.entries, strict=True) if planned.contra == "Holds"
    ]
    spent = sum(entry.amount for entry in transaction.entries if entry not in back)
    parts = captured, released, expired
    lots = _lots_held(before, plan)
    if len(back) != 1 or back[0].amount != sum(parts) or spent != -captured or min(parts) < 0:
        raise BookkeepingError(f"entries of {transaction.kind} that are not the parts {parts} of {before.hold_id}")
    if not before.is_open or sum(parts) > before.remaining:
        raise BookkeepingError(f"{sum(parts)} of {before.hold_id}, which is {before.state} and has {before.remaining}")
    return _with_part(plan.part, back[0], lots)


def _lots_held(before: Hold, plan: Plan) -> tuple[tuple[LotKey, int], ...]:
    """Return what of the hold is of lots after the plan. Raises BookkeepingError for what is not of the hold."""
    lots = dict(before.lots)
    for planned in plan.entries:
        for one in planned.lots if planned.contra == "Holds" else ():
            if one.kind != "release":
                continue
            lots[one.key] = lots.get(one.key, 0) - one.amount
    if min(lots.values(), default=0) < 0:
        raise BookkeepingError(f"{plan.entries} gives back what hold {before.hold_id} does not have: {before.lots}")
    return tuple([(key, amount) for key, amount in lots.items() if amount])


def _with_part(part: HoldPart, back: Entry, lots: tuple[tuple[LotKey, int], ...]) -> Hold:
    before, captured, released, expired = part
    after = before._replace(
        captured=before.captured + captured,
        released=before.released + released,
        expired=before.expired + expired,
        state="partially_captured",
        changes=(*before.changes, back.seq),
        lots=lots,
    )
    if sum([amount for _, amount in lots]) > after.remaining:
        raise BookkeepingError(f"{after.hold_id} holds {after.remaining} and {lots} of lots")
    if after.remaining:
        return after
    # A hold is over when its time is, whenever that is settled: so it reads the same before and after.
    state = "expired" if expired else "captured" if captured else "released"
    return after._replace(state=state, ended_at=before.expires_at if expired else back.created_at)


def _new_hold(holds_for: dt.timedelta, transaction: PostedTransaction, lots: Sequence[LotMove]) -> Hold:
    (entry,) = transaction.entries
    return Hold(
        wallet_id=entry.wallet_id,
        seq=entry.seq,
        hold_id=transaction.transaction_id,
        amount=-entry.amount,
        captured=0,
        released=0,
        expired=0,
        state="open",
        expires_at=transaction.created_at + holds_for,
        created_at=transaction.created_at,
        ended_at=None,
        changes=(),
        lots=tuple([(one.key, one.amount) for one in lots]),
    )


def _kinds_of(planned: PlannedEntry) -> tuple[str, ...]:
    """Return what the entry may do to lots."""
    if planned.contra == "Holds":
        return ("release", "revoke", "restore") if planned.amount > 0 else ("hold",)
    if planned.amount > 0:
        return ("grant", "restore", "revoke") if planned.entry_type == "REVERSAL" else ("grant",)
    if planned.contra == "Breakage":
        return ("expire",)
    return ("revoke", "consume") if planned.entry_type == "REVERSAL" else ("consume",)


def _require_state_fits(wallet: WalletState, plan: Plan) -> None:
    is_empty = wallet.balance == wallet.held == wallet.owed == 0
    if plan.entries or wallet.status == "CLOSED" or (plan.state and plan.state.status == "CLOSED" and not is_empty):
        raise BookkeepingError(
            f"{plan.state} for {wallet.status} wallet {wallet.wallet_id} with {wallet.balance}, {wallet.held} held"
        )


class _Stamp(NamedTuple):
    """What identifies and dates a transaction."""

    transaction_id: uuid.UUID
    created_at: dt.datetime
    occurred_at: dt.datetime


def _details(command: Command, new_salt: Callable[[], bytes]) -> tuple[Details | None, bytes | None]:
    if command.note is None and command.metadata is None:
        return None, None
    details = Details(new_salt(), command.note, command.metadata)
    return details, chain.details_hash(salt=details.salt, note=details.note, metadata=details.metadata)


def _digest(
    command: Command, plan: Plan, stamp: _Stamp, details_hash: bytes | None, stored_request: Requested | None
) -> bytes:
    return chain.transaction_digest(
        transaction_id=stamp.transaction_id,
        wallet_id=command.wallet_id,
        reference=command.reference,
        kind=command.kind,
        client=command.origin.client,
        actor=command.origin.actor,
        request_id=command.origin.request_id,
        occurred_at=stamp.occurred_at,
        reverses=plan.reverses,
        details=details_hash,
        request=None if stored_request is None else chain.json_text(stored_request),
        result=None if plan.result is None else chain.json_text(plan.result),
    )


def _next_entry(before: WalletState, planned: PlannedEntry, stamp: _Stamp, digest: bytes) -> Entry:
    seq = before.version + 1
    balance_after = before.balance + planned.amount
    is_early = stamp.created_at < before.updated_at
    if planned.amount == 0 or not 0 <= balance_after <= AMOUNT_MAX or before.status == "CLOSED" or is_early:
        raise BookkeepingError(
            f"{planned.entry_type} of {planned.amount} on {before.status} wallet {before.wallet_id} "
            f"with {before.balance}, at {stamp.created_at} after {before.updated_at}"
        )
    contra_wallet_id = before.asset.contra[planned.contra]
    return Entry(
        wallet_id=before.wallet_id,
        seq=seq,
        entry_type=planned.entry_type,
        amount=planned.amount,
        balance_after=balance_after,
        contra_wallet_id=contra_wallet_id,
        created_at=stamp.created_at,
        hash=chain.entry_hash(
            previous=before.chain,
            digest=digest,
            wallet_id=before.wallet_id,
            seq=seq,
            transaction_id=stamp.transaction_id,
            entry_type=planned.entry_type,
            amount=planned.amount,
            balance_after=balance_after,
            contra_wallet_id=contra_wallet_id,
            created_at=stamp.created_at,
        ),
    )


def _with_entry(before: WalletState, entry: Entry, *, is_hold: bool, bonus: int, lots: int) -> WalletState:
    held = before.held - entry.amount if is_hold else before.held
    if held < 0:
        raise BookkeepingError(f"wallet {before.wallet_id} would hold {held}")
    if not 0 <= bonus <= entry.balance_after or lots < 0:
        raise BookkeepingError(
            f"wallet {before.wallet_id} would have {bonus} of bonus and {lots} lots with {entry.balance_after}"
        )
    return WalletState(
        wallet_id=before.wallet_id,
        user_id=before.user_id,
        asset=before.asset,
        status=before.status,
        balance=entry.balance_after,
        held=held,
        version=entry.seq,
        chain=entry.hash,
        updated_at=entry.created_at,
        owed=before.owed,
        frozen=before.frozen,
        state_transaction_id=before.state_transaction_id,
        bonus=bonus,
        lots=lots,
    )
