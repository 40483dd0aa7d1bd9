"""What a list of entries or transactions is narrowed to, and the SQL of each condition; no query of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from wallet_app.errors import BadFilterError
from wallet_app.service.callers import OPERATOR
from wallet_app.service.permits import Permit

RANGE_DAYS_MAX = 31
"""How long a range of time may be in which all transactions are looked at one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is asked for; None is anything. Instants are UTC, `created_from` included and `created_to` not.

    `kind` is an entry's type, or a transaction's kind. Amounts are in the smallest unit and without a sign.
    """

    kind: str | None = None
    created_from: dt.datetime | None = None
    created_to: dt.datetime | None = None
    amount_min: int | None = None
    amount_max: int | None = None
    reference: str | None = None
    actor: str | None = None
    metadata_key: str | None = None
    metadata_value: str | None = None

    def __post_init__(self) -> None:
        """Raise BadFilterError for a metadata value without its key, and for a range that ends before it begins."""
        if self.created_from is not None and self.created_to is not None and self.created_from > self.created_to:
            raise BadFilterError("The range of time ends before it begins: from must not be later than to.")
        if self.metadata_value is not None and self.metadata_key is None:
            raise BadFilterError("A value in the metadata is looked for under a key: say which.")

    @property
    def has_any(self) -> bool:
        """Whether anything is left out at all."""
        return any(getattr(self, one.name) is not None for one in fields(self))

    @property
    def is_of_time_alone(self) -> bool:
        """Whether all is asked for that lies in the range of time, so that no page has to look for it."""
        others = (one.name for one in fields(self) if not one.name.startswith("created_"))
        return all(getattr(self, name) is None for name in others)

    @property
    def has_amounts(self) -> bool:
        """Whether the amount matters."""
        return self.amount_min is not None or self.amount_max is not None

    @property
    def has_texts(self) -> bool:
        """Whether it matters what the one who posted it said: those who see their own side alone are not told that."""
        return self.reference is not None or self.actor is not None or self.metadata_key is not None

    def require_range(self, now: dt.datetime) -> None:
        """Raise BadFilterError where all transactions would have to be looked at for a rare one, without an end.

        For a reference that is so only as long as the index by reference is too far behind.
        """
        if not self.has_texts:
            return
        until = self.created_to or now
        if self.created_from is None or until - self.created_from > dt.timedelta(days=RANGE_DAYS_MAX):
            what = "actor and metadata are"
            if self.reference is not None:
                what = "a reference is, until the worker (`flask wallet worker`) has put what is there into its index,"
            raise BadFilterError(
                f"Over all wallets, {what} looked for in at most {RANGE_DAYS_MAX} days: "
                "say from when, and until when, or of which wallet.",
                days_max=RANGE_DAYS_MAX,
            )

    def values(self) -> dict[str, Any]:
        """Return the parameters of the conditions."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def of_transaction(self) -> Iterator[str]:
        """Yield the conditions on `transactions` and on its row of `details`, but for the amount's and the kind's."""
        if self.reference is not None:
            yield "transactions.reference_id = :reference"
        if self.actor is not None:
            yield "transactions.actor = :actor"
        if self.metadata_value is not None:
            yield "details.metadata ->> CAST(:metadata_key AS text) = :metadata_value"
        elif self.metadata_key is not None:
            yield "details.metadata -> CAST(:metadata_key AS text) IS NOT NULL"

    def of_amount(self, amount: str) -> Iterator[str]:
        """Yield the conditions on the amount."""
        if self.amount_min is not None:
            yield f"abs({amount}) >= :amount_min"
        if self.amount_max is not None:
            yield f"abs({amount}) <= :amount_max"

    def of_time(self, created_at: str) -> Iterator[str]:
        """Yield the conditions on the time."""
        if self.created_from is not None:
            yield f"{created_at} >= :created_from"
        if self.created_to is not None:
            yield f"{created_at} < :created_to"


def is_limited(permit: Permit | None) -> bool:
    """Tell whether there are wallets that the permit does not reach."""
    return permit is not None and (permit.user_id is not None or permit.assets is not None)


def reached(wallet_id: str, permit: Permit | None) -> Iterator[str]:
    """Yield the condition that the permit reaches the wallet; nothing if it reaches all.

    A look-up by the primary key: an EXISTS might become a join with all wallets of the asset.
    """
    if not is_limited(permit):
        return
    yield f"""(
       SELECT true FROM wallets AS owned JOIN asset_types ON asset_types.id = owned.asset_type_id
        WHERE owned.id = {wallet_id}
          AND (CAST(:permit_user AS bigint) IS NULL OR owned.user_id = :permit_user)
          AND (CAST(:permit_assets AS text[]) IS NULL OR asset_types.code = ANY (CAST(:permit_assets AS text[]))))"""  # noqa: S608 - constants


DECISIONS = ("FREEZE", "UNFREEZE", "CLOSE", "REVERSAL", "ADJUSTMENT", "LIMIT_RAISE", "LIMIT_RAISE_END")
"""The kinds whose reason, note and metadata no user is told, because they may be about the user."""


def tells(kind: str, actor: str, permit: Permit | None) -> bool:
    """Tell whether the permit is told what was said about the actor's transaction, where it reaches its anchor.

    What operators say of anything they do, a transfer too, is for those who look after users.
    """
    if permit is None or permit.user_id is None:
        return True
    return kind not in DECISIONS and not actor.startswith(OPERATOR)


def told(filters: Filters, permit: Permit | None) -> Iterator[str]:
    """Yield the conditions that the permit is told what the filters ask for: nobody looks for what is hidden."""
    if not filters.has_texts:
        return
    yield from reached("transactions.wallet_id", permit)
    if filters.metadata_key is not None and permit is not None and permit.user_id is not None:
        yield f"transactions.kind NOT IN ({', '.join(repr(kind) for kind in DECISIONS)})"
        yield f"transactions.actor NOT LIKE '{OPERATOR}%'"


def permit_values(permit: Permit | None) -> dict[str, Any]:
    """Return the parameters of `reached`."""
    if permit is None:
        return {"permit_user": None, "permit_assets": None}
    return {"permit_user": permit.user_id, "permit_assets": None if permit.assets is None else sorted(permit.assets)}


def all_of(conditions: Iterator[str] | list[str]) -> str:
    """Return the conditions as one."""
    return " AND ".join(conditions) or "true"
