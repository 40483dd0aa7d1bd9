"""The functional core: the locked state of wallets in memory, and the one function that changes it; no SQL here.

A rule looks at `Books` and returns a `Plan`; `apply` turns the plan into entries. What comes out is written to the
database as it stands, so everything that must hold of an entry is settled here. States, entries and receipts are named
tuples: as unchangeable as frozen dataclasses, and made in less than half the time.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from wallet_app.errors import HoldNotFoundError, ReferenceMismatchError, SystemWalletError, WalletNotFoundError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import chain
from wallet_app.service.commands import Command, Requested


class BookkeepingError(Exception):
    """A plan would break the books: a fault in a rule, never the caller's. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset, with the id of each of its SYSTEM wallets by their owner's name (Treasury, Revenue, ...)."""

    id: int
    code: str
    name: str
    scale: int
    contra: Mapping[str, int]


class WalletState(NamedTuple):
    """A user wallet as it stands under its lock. Amounts in the asset's smallest unit. An entry makes a new state."""

    wallet_id: int
    user_id: int
    asset: Asset
    status: str
    balance: int
    held: int
    version: int
    chain: bytes
    updated_at: dt.datetime


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


class PlannedEntry(NamedTuple):
    """A movement of `amount` (signed, never 0) between a user wallet and the contra wallet of a SYSTEM user."""

    wallet_id: int
    entry_type: str
    amount: int
    contra: str


class Plan(NamedTuple):
    """What a rule decided; the entries are made in this order."""

    entries: tuple[PlannedEntry, ...]
    reverses: uuid.UUID | None = None
    holds_for: dt.timedelta | None = None
    """The one entry is a new hold that expires then."""
    part: HoldPart | None = None
    result: Requested | None = None
    """What is to be kept of the decision, where the entries do not say it: a replay tells the same."""


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
    holds: dict[int, dict[int, Hold]] = field(default_factory=dict)
    """By wallet and seq: those that are due, and those that a command names; no others."""
    open_holds: Counter[int] = field(default_factory=Counter)
    """How many open holds a wallet has, where a command places one."""
    posted: list[PostedTransaction] = field(default_factory=list)
    contra_deltas: dict[int, int] = field(default_factory=dict)
    changed_holds: dict[tuple[int, int], Hold] = field(default_factory=dict)
    rates: Mapping[tuple[int, int], Fraction] = field(default_factory=dict)
    """The configured exchange rates by the ids of both assets, from and to; only for commands that use them."""

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
        now = max(self.clock(), self.wallets[wallet_id].updated_at)
        return sorted([hold for hold in open_ones if hold.expires_at <= now], key=lambda due: (due.expires_at, due.seq))

    def replay(self, command: Command) -> Receipt | None:
        """Return the receipt of the transaction that already carries the command's reference, or None.

        Raises ReferenceMismatchError if it was another command: never the other one's result.
        """
        transaction = self.transactions.get((command.wallet_id, command.reference))
        if transaction is None:
            return None
        if fields := differing_fields(transaction, command):
            raise ReferenceMismatchError(wallet_id=command.wallet_id, reference=command.reference, fields=fields)
        return Receipt(transaction, True, self._now(_touched(transaction)), self._hold_of(transaction))

    def apply(self, command: Command, plan: Plan) -> Receipt:
        """Post the plan: the only place where books change. Raises BookkeepingError, with nothing changed."""
        transaction, after = self._posted(command, plan)
        hold = _hold_after(plan, transaction)
        self.wallets.update(after)
        for entry in transaction.entries:
            self.contra_deltas[entry.contra_wallet_id] = (
                self.contra_deltas.get(entry.contra_wallet_id, 0) - entry.amount
            )
        self.transactions[command.wallet_id, command.reference] = transaction
        self.posted.append(transaction)
        if hold is not None:
            self._keep(hold)
        return Receipt(transaction, False, self._now(_touched(transaction)), hold)

    def _keep(self, hold: Hold) -> None:
        kept = self.holds.setdefault(hold.wallet_id, {})
        self.open_holds[hold.wallet_id] += hold.is_open - (hold.seq in kept)
        kept[hold.seq] = self.changed_holds[hold.wallet_id, hold.seq] = hold

    def _hold_of(self, transaction: PostedTransaction) -> Hold | None:
        """Return the hold that the transaction placed or changed; None for one that has nothing to do with holds."""
        kept = self.holds.get(transaction.wallet_id)
        if kept is None:
            return None
        if transaction.kind == "HOLD":
            return kept[transaction.entries[0].seq]
        hold_id = transaction.requested.get("hold")
        return next((hold for hold in kept.values() if str(hold.hold_id) == hold_id), None)

    def changed_wallets(self) -> list[WalletState]:
        """Return each wallet that got an entry, in order of id."""
        touched = {entry.wallet_id for transaction in self.posted for entry in transaction.entries}
        return [self.wallets[wallet_id] for wallet_id in sorted(touched)]

    def _created_at(self, entries: tuple[PlannedEntry, ...]) -> dt.datetime:
        # A clock can be set back; along a wallet's seq the time never falls.
        return max([self.clock(), *[self.wallets[entry.wallet_id].updated_at for entry in entries]])

    def _posted(self, command: Command, plan: Plan) -> tuple[PostedTransaction, dict[int, WalletState]]:
        """Return the transaction that the plan makes, and the wallets as they are after it."""
        created_at = self._created_at(plan.entries)
        stamp = _Stamp(self.new_id(created_at), created_at, command.occurred_at or created_at)
        details, hashed = _details(command, self.new_salt)
        stored_request = command.stored_request()
        digest = _digest(command, plan, stamp, hashed, stored_request)
        after: dict[int, WalletState] = {}
        entries = []
        for planned in plan.entries:
            before = after.get(planned.wallet_id) or self.wallets[planned.wallet_id]
            entry = _next_entry(before, planned, stamp, digest)
            after[planned.wallet_id] = _with_entry(before, entry, is_hold=planned.contra == "Holds")
            entries.append(entry)
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
        return transaction, after

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
    return list(dict.fromkeys([transaction.wallet_id, *[entry.wallet_id for entry in transaction.entries]]))


def _hold_after(plan: Plan, transaction: PostedTransaction) -> Hold | None:
    """Return the hold that the plan makes or changes, if it does. Raises BookkeepingError."""
    if plan.holds_for is not None:
        if [(planned.contra, planned.amount < 0) for planned in plan.entries] != [("Holds", True)]:
            raise BookkeepingError(f"a hold that is not one entry of {transaction.kind} against Holds")
        return _new_hold(plan.holds_for, transaction)
    if plan.part is None:
        return None
    before, captured, released, expired = plan.part
    back = [
        entry for entry, planned in zip(transaction.entries, plan.entries, strict=True) if planned.contra == "Holds"
    ]
    spent = sum(entry.amount for entry in transaction.entries if entry not in back)
    parts = captured, released, expired
    if len(back) != 1 or back[0].amount != sum(parts) or spent != -captured or min(parts) < 0:
        raise BookkeepingError(f"entries of {transaction.kind} that are not the parts {parts} of {before.hold_id}")
    if not before.is_open or sum(parts) > before.remaining:
        raise BookkeepingError(f"{sum(parts)} of {before.hold_id}, which is {before.state} and has {before.remaining}")
    return _with_part(plan.part, back[0])


def _with_part(part: HoldPart, back: Entry) -> Hold:
    before, captured, released, expired = part
    after = before._replace(
        captured=before.captured + captured,
        released=before.released + released,
        expired=before.expired + expired,
        state="partially_captured",
        changes=(*before.changes, back.seq),
    )
    if after.remaining:
        return after
    # A hold is over when its time is, whenever that is settled: so it reads the same before and after.
    state = "expired" if expired else "captured" if captured else "released"
    return after._replace(state=state, ended_at=before.expires_at if expired else back.created_at)


def _new_hold(holds_for: dt.timedelta, transaction: PostedTransaction) -> Hold:
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
    if planned.amount == 0 or not 0 <= balance_after <= AMOUNT_MAX:
        raise BookkeepingError(
            f"{planned.entry_type} of {planned.amount} on wallet {before.wallet_id} with {before.balance}"
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


def _with_entry(before: WalletState, entry: Entry, *, is_hold: bool) -> WalletState:
    held = before.held - entry.amount if is_hold else before.held
    if held < 0:
        raise BookkeepingError(f"wallet {before.wallet_id} would hold {held}")
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
    )
