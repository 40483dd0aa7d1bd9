"""What can be asked of the ledger: one frozen dataclass per command, with everything that its decision needs."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from wallet_app.service.instants import instant_text
from wallet_app.service.permits import Permit

Requested = Mapping[str, Any]
"""What a command asks for, as it is compared when its reference comes again: values that JSON gives back unchanged."""

SYSTEM_REFERENCE = "sys:"
"""References that begin so are the service's own; callers may not use them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks: the client whose references these are, the actor who speaks for it, and the request's id.

    `permit` is what its credential allows; None is the service itself, which needs none.
    """

    client: str
    actor: str
    request_id: str | None = None
    permit: Permit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A change to wallets, asked for under a reference.

    `wallet_id` is the anchor: the wallet that the command always locks and under which its reference counts.
    `occurred_at` is when it happened in the caller's world, if that is not now.
    """

    kind: ClassVar[str]
    scope: ClassVar[str | None] = None
    """What a permit must allow; with None, no permit is enough."""
    uses_rates: ClassVar[bool] = False
    """Whether the decision may need a configured exchange rate."""
    passes_freezes: ClassVar[bool] = False
    """Whether no freeze and no switch stops it: the system's own, and what was decided by people who may see it."""

    wallet_id: int
    reference: str
    origin: Origin
    note: str | None = None
    metadata: str | None = None
    """A JSON object as text: the text is hashed and kept to the byte."""
    occurred_at: dt.datetime | None = None
    if_versions: tuple[int, ...] | None = None
    """The anchor must have one of these versions, as it stood before anything due of it is settled; None: any."""

    def wallet_ids(self) -> tuple[int, ...]:
        """Return every wallet that the decision reads or changes, the anchor first; the posting locks them."""
        return (self.wallet_id,)

    def scopes(self) -> tuple[str | None, ...]:
        """Return all that a permit must allow."""
        return (self.scope,)

    def amount_asked(self) -> int:
        """Return the most that the command moves of one asset, as far as it tells by itself."""
        return 0

    def takes(self) -> tuple[tuple[int, int], ...]:
        """Return what it can take from wallets at most, by their ids: not from a hold or lot that it names.

        So many of a wallet's lots are loaded as make that amount.
        """
        return ()

    def requested(self) -> Requested:
        """Return what makes this command the same as another one under its reference, beside kind and client."""
        raise NotImplementedError

    def stored_request(self) -> Requested | None:
        """Return what to keep of it with the transaction; None where the entries say it all."""
        return self.requested()


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement(Command):
    """Moves `amount` (smallest unit, 1..AMOUNT_MAX) between one wallet and a contra wallet."""

    amount: int

    def amount_asked(self) -> int:
        return self.amount

    def requested(self) -> Requested:
        return {"amount": self.amount}

    def stored_request(self) -> Requested | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp(Movement):
    """Paid credit comes in."""

    kind = "TOPUP"
    scope = "wallets:topup"


class Unsaid(Enum):
    """What was left unsaid."""

    UNSAID = "unsaid"


UNSAID = Unsaid.UNSAID

Until = dt.datetime | dt.date
"""An end: an instant, or a day, which ends where the asset's time zone has it end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonus(Movement):
    """Granted credit comes in. It can be used before `expires_at`; with None for ever; unsaid, as the asset says."""

    kind = "BONUS"
    scope = "wallets:bonus"

    expires_at: Until | Unsaid | None = UNSAID

    def requested(self) -> Requested:
        if self.expires_at is UNSAID:
            return {"amount": self.amount}
        return {"amount": self.amount, "expiresAt": until_text(self.expires_at)}

    def stored_request(self) -> Requested | None:
        return None if self.expires_at is UNSAID else self.requested()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend(Movement):
    """Credit is used."""

    kind = "SPEND"
    scope = "wallets:spend"

    def takes(self) -> tuple[tuple[int, int], ...]:
        return ((self.wallet_id, self.amount),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed(Movement):
    """The balance that a wallet starts with."""

    kind = "SEED"


HOLD_SECONDS_MAX = 30 * 24 * 3600
"""The longest that anything can be held for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold(Command):
    """Sets `amount` aside for `expires_in` seconds. `seconds_max` is the most that is allowed now, where it is asked.

    The hold has the id of its transaction, so a retry tells the same hold.
    """

    kind = "HOLD"
    scope = "holds:write"

    amount: int
    expires_in: int
    seconds_max: int = HOLD_SECONDS_MAX

    def amount_asked(self) -> int:
        return self.amount

    def takes(self) -> tuple[tuple[int, int], ...]:
        return ((self.wallet_id, self.amount),)

    def requested(self) -> Requested:
        return {"amount": self.amount, "expiresIn": self.expires_in}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHold(Command):
    """Does something to a hold of the wallet. A hold never changes its wallet, so whoever asks can look that up."""

    scope: ClassVar[str | None] = "holds:write"

    hold_id: uuid.UUID

    def requested(self) -> Requested:
        return {"hold": str(self.hold_id)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHold(OnHold):
    """Spends `amount` of what is held, None for the whole rest; `is_final` gives back what is left then."""

    kind = "CAPTURE"

    amount: int | None = None
    is_final: bool = False

    def amount_asked(self) -> int:
        return self.amount or 0

    def requested(self) -> Requested:
        # Without an amount it is final, whatever else was said.
        return {
            "hold": str(self.hold_id),
            "amount": self.amount,
            "final": self.is_final or self.amount is None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold(OnHold):
    """Gives back what is still held."""

    kind = "RELEASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireHold(OnHold):
    """Gives back what is still held of a hold whose time is over. The service's own."""

    kind = "HOLD_EXPIRY"
    scope = None
    passes_freezes = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Command):
    """Moves `amount` (smallest unit, 1..AMOUNT_MAX) to another wallet of the same asset, whosever it is.

    With `is_up_to`, what there is of it, but at least 1.
    """

    kind = "TRANSFER"
    scope = "wallets:transfer"

    to_wallet_id: int
    amount: int
    is_up_to: bool = False

    def wallet_ids(self) -> tuple[int, ...]:
        return (self.wallet_id, self.to_wallet_id)

    def amount_asked(self) -> int:
        return self.amount

    def takes(self) -> tuple[tuple[int, int], ...]:
        return ((self.wallet_id, self.amount),)

    def requested(self) -> Requested:
        return {"to": self.to_wallet_id, "upTo" if self.is_up_to else "amount": self.amount}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Command):
    """Takes `amount` (smallest unit, 1..AMOUNT_MAX) and gives the same user's other wallet what it makes at the rate.

    `rate` is how much of the other's smallest unit one smallest unit makes; with None, the configured rate applies.
    """

    kind = "EXCHANGE"
    scope = "wallets:transfer"
    uses_rates = True

    to_wallet_id: int
    amount: int
    rate: Fraction | None = None

    def wallet_ids(self) -> tuple[int, ...]:
        return (self.wallet_id, self.to_wallet_id)

    def amount_asked(self) -> int:
        return self.amount

    def takes(self) -> tuple[tuple[int, int], ...]:
        return ((self.wallet_id, self.amount),)

    def requested(self) -> Requested:
        rate = None if self.rate is None else [self.rate.numerator, self.rate.denominator]
        return {"to": self.to_wallet_id, "amount": self.amount, "rate": rate}


class Leg(NamedTuple):
    """A part of a purchase: `amount` (smallest unit, 1..AMOUNT_MAX) in (TOPUP, BONUS) or out (SPEND)."""

    wallet_id: int
    kind: str
    amount: int


LEG_SCOPES = {command.kind: command.scope for command in (TopUp, Bonus, Spend)}
"""What a leg needs, by its kind: what it would need alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase(Command):
    """Several movements of one user's wallets, in order, all of them or none: a price, what it buys, what comes along.

    The anchor is the payer, who has a leg among them.
    """

    kind = "PURCHASE"

    legs: tuple[Leg, ...]

    def scopes(self) -> tuple[str | None, ...]:
        return tuple(dict.fromkeys([LEG_SCOPES.get(leg.kind) for leg in self.legs]))

    def wallet_ids(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys([self.wallet_id, *[leg.wallet_id for leg in self.legs]]))

    def amount_asked(self) -> int:
        sums: dict[tuple[int, bool], int] = {}
        for wallet_id, kind, amount in self.legs:
            side = wallet_id, kind == Spend.kind
            sums[side] = sums.get(side, 0) + amount
        return max(sums.values(), default=0)

    def takes(self) -> tuple[tuple[int, int], ...]:
        return tuple((leg.wallet_id, leg.amount) for leg in self.legs if leg.kind == Spend.kind)

    def requested(self) -> Requested:
        return {"legs": [list(leg) for leg in self.legs]}


ON_EXPIRED = ("expire", "regrant")
"""What becomes of credit that a reversal gives back to a lot that has expired: it expires at once, or is a new lot."""

GRACE_DAYS_MAX = 3650
"""For how many days after that of the reversal a new lot may be usable."""

SHORTFALLS = ("refuse", "partial", "debt")
"""What becomes of a reversal that takes back more than is there: nothing; as much as is there, at least 1; as much as
is there, and the rest is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseTransaction(Command):
    """Undoes a transaction by new entries: `amount` (smallest unit) of it, None for all that is left of it.

    The anchor is the transaction's own, `other_wallet_ids` are the others that it moved. They never change, so whoever
    asks can look them up.
    """

    kind = "REVERSAL"
    scope = "transactions:reverse"

    transaction_id: uuid.UUID
    other_wallet_ids: tuple[int, ...] = ()
    reason: str
    """Why, for as long as the books are kept: it counts as a part of what is asked for, as the note does not."""
    amount: int | None = None
    on_shortfall: str = "refuse"
    on_expired: str = "expire"
    grace_days: int | None = None
    """For so many days after today a new lot is usable; given if, and only if, that is what becomes of expired ones."""

    def wallet_ids(self) -> tuple[int, ...]:
        return (self.wallet_id, *self.other_wallet_ids)

    def amount_asked(self) -> int:
        return self.amount or 0

    def requested(self) -> Requested:
        asked = {
            "transaction": str(self.transaction_id),
            "amount": self.amount,
            "onShortfall": self.on_shortfall,
            "reason": self.reason,
        }
        # Only if it was said: so what was asked before there were lots is still the same.
        return asked if self.on_expired == "expire" else {**asked, "onExpired": "regrant", "graceDays": self.grace_days}


@dataclass(frozen=True, slots=True, kw_only=True)
class RepayDebt(Command):
    """Takes from a wallet what it owes of its entry number `seq`, which was reversed. The service's own."""

    kind = "REVERSAL"
    passes_freezes = True

    transaction_id: uuid.UUID
    seq: int

    def requested(self) -> Requested:
        return {"transaction": str(self.transaction_id), "repays": self.seq}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnLot(Command):
    """Does something to a lot of the wallet. A lot never changes its wallet, so whoever asks can look that up."""

    scope: ClassVar[str | None] = "lots:write"

    lot_id: uuid.UUID

    def requested(self) -> Requested:
        return {"lot": str(self.lot_id)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendLot(OnLot):
    """Lets what is left of a lot be used until a later end. Makes no entry."""

    kind = "EXTEND"

    expires_at: Until
    reason: str
    """Why, for as long as the books are kept."""

    def requested(self) -> Requested:
        return {"lot": str(self.lot_id), "expiresAt": until_text(self.expires_at), "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeLot(OnLot):
    """Takes back a grant that is a lot of its own: what of it is available, or (`debt`) as a reversal of it would.

    With `refuse`, only if all of the grant that has not expired is still there to be taken.
    """

    kind = "REVERSAL"

    reason: str
    on_shortfall: str = "refuse"

    def requested(self) -> Requested:
        return {"lot": str(self.lot_id), "onShortfall": self.on_shortfall, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireLot(OnLot):
    """Books that what was available of a lot has expired. The service's own."""

    kind = "EXPIRY"
    scope = None
    passes_freezes = True


def until_text(until: Until | Unsaid | None) -> str | None:
    """Return an end as it was said: an instant in UTC, or a day; None for none."""
    if until is None or isinstance(until, Unsaid):
        return None
    return instant_text(until) if isinstance(until, dt.datetime) else until.isoformat()


def require_permitted(command: Command) -> None:
    """Raise a ForbiddenError for what its origin's permit does not allow, as far as the command alone can tell."""
    permit = command.origin.permit
    if permit is not None:
        for scope in command.scopes():
            permit.require(scope)
        permit.require_amount(command.amount_asked())
