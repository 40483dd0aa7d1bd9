"""Reason codes and the day's bounds: what the administration allows operators to move, and from where on two must look.

What is changed holds from the next posting on, in every process: nothing of it is remembered. Each change stands in the
audit log, with what was before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from wallet_app import text as texts
from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    AssetNotFoundError,
    ReasonExistsError,
    ReasonInvalidError,
    ReasonNotFoundError,
    ReasonRefusedError,
)
from wallet_app.models import AssetType
from wallet_app.models_approvals import DIRECTIONS, DayBound, ReasonCode, ReasonLimit
from wallet_app.money import AMOUNT_MAX, format_amount
from wallet_app.service import audit, sessions
from wallet_app.service.audit import Act, By
from wallet_app.service.operations import AdjustOperation, MoneyOperation
from wallet_app.service.sessions import Session

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one adjustment may move at most, approved or not, and above what it needs approval; in the smallest unit."""

    amount_max: int
    approval_above: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonSettings:
    """What a reason code allows. `limits` are those of all assets; `of_assets` those of an asset, by its code."""

    name: str
    directions: str
    limits: Limits
    of_assets: Mapping[str, Limits] = field(default_factory=dict)
    ticket_required: bool = False
    note_required: bool = False
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class ReasonView:
    """A reason code, and what it allows."""

    code: str
    settings: ReasonSettings


@dataclass(frozen=True, slots=True)
class DayBoundView:
    """What one operator may move alone within 24 hours, and all operators together on one wallet.

    Of an asset, in its smallest unit; with None, of every asset without a bound of its own.
    """

    asset_code: str | None
    operator_day_max: int
    wallet_day_max: int


class Terms(NamedTuple):
    """What holds of an asset for an operation: its reason's limits, and the day's bounds."""

    amount_max: int
    approval_above: int
    operator_day_max: int
    wallet_day_max: int


def create_reason(code: str, settings: ReasonSettings, *, by: By, session: Session | None = None) -> None:
    """Make a reason code. `session` is the operator's who does it, if one does; locks them.

    Raises ReasonInvalidError, ReasonExistsError, AssetNotFoundError or NotSignedInError.
    """
    if not _CODE.fullmatch(code):
        raise ReasonInvalidError("code", "A code has 2 to 32 capital letters, digits and underscores.")
    settings = _cleaned(settings)
    with unit_of_work() as connection:
        _require_current(connection, session)
        made = connection.scalar(
            insert(ReasonCode)
            .values(code=code, **_columns(settings))
            .on_conflict_do_nothing()
            .returning(ReasonCode.code)
        )
        if made is None:
            raise ReasonExistsError(code)
        _set_limits(connection, code, settings)
        audit.record(connection, Act(by=by, action="reason:create", subject=f"reason:{code}", after=_told(settings)))


def change_reason(code: str, settings: ReasonSettings, *, by: By, session: Session | None = None) -> None:
    """Let the reason code allow this instead of what it did. Of two that change it at once, the later one stays.

    `session` as for `create_reason`. Raises ReasonInvalidError, ReasonNotFoundError, AssetNotFoundError or
    NotSignedInError.
    """
    settings = _cleaned(settings)
    with unit_of_work() as connection:
        _require_current(connection, session)
        # The update locks the row, so what is read after it is what this change replaces.
        before = _read(connection, code)
        connection.execute(update(ReasonCode).where(ReasonCode.code == code).values(**_columns(settings)))
        _set_limits(connection, code, settings)
        act = Act(by=by, action="reason:change", subject=f"reason:{code}", before=_told(before), after=_told(settings))
        audit.record(connection, act)


@reads
def get_reason(connection: Connection, code: str) -> ReasonView:
    """Return the reason code; raise ReasonNotFoundError."""
    found = [one for one in _views(connection) if one.code == code]
    if not found:
        raise ReasonNotFoundError(code)
    return found[0]


@reads
def list_reasons(connection: Connection, *, direction: str | None = None) -> Sequence[ReasonView]:
    """Return all reason codes, by code; with a direction, those that can be used for it now."""
    return [
        one
        for one in _views(connection)
        if direction is None or (one.settings.is_active and one.settings.directions in (direction, "both"))
    ]


def settings_by_code(connection: Connection) -> dict[str, ReasonSettings]:
    """Return what each reason code allows now, as the connection sees it."""
    return {one.code: one.settings for one in _views(connection)}


@reads
def list_day_bounds(connection: Connection) -> Sequence[DayBoundView]:
    """Return the bound of all assets first, and then those of single ones, by code."""
    return [DayBoundView(*row) for row in connection.execute(_BOUNDS)]


def set_day_bound(bound: DayBoundView, *, by: By, session: Session | None = None) -> None:
    """Let this bound hold from now on. `session` as for `create_reason`.

    Raises ReasonInvalidError, AssetNotFoundError or NotSignedInError.
    """
    for name in ("operator_day_max", "wallet_day_max"):
        _require_amount(name, getattr(bound, name), low=0)
    after = {"operatorDayMax": bound.operator_day_max, "walletDayMax": bound.wallet_day_max}
    values = {"operator_day_max": bound.operator_day_max, "wallet_day_max": bound.wallet_day_max}
    with unit_of_work() as connection:
        _require_current(connection, session)
        asset_type_id = None if bound.asset_code is None else _asset_ids(connection, [bound.asset_code])[0]
        found = connection.execute(
            select(DayBound.operator_day_max, DayBound.wallet_day_max).where(
                DayBound.asset_type_id.is_not_distinct_from(asset_type_id)
            )
        ).first()
        connection.execute(
            insert(DayBound)
            .values(asset_type_id=asset_type_id, **values)
            .on_conflict_do_update(constraint="uq_day_bounds_asset_type_id", set_=values)
        )
        before = None if found is None else {"operatorDayMax": found[0], "walletDayMax": found[1]}
        subject = f"bound:{bound.asset_code or 'every asset'}"
        audit.record(connection, Act(by=by, action="bound:set", subject=subject, before=before, after=after))


def terms_of(connection: Connection, reason_code: str, asset_ids: Sequence[int]) -> dict[int, Terms]:
    """Return what holds now of each of the assets, by id."""
    rows = connection.execute(_TERMS, {"reason_code": reason_code, "asset_ids": list(asset_ids)})
    return {row.asset_type_id: Terms(*row[1:]) for row in rows}


def require_allowed(connection: Connection, operation: MoneyOperation, *, asset_id: int, asset_scale: int) -> None:
    """Raise ReasonNotFoundError or ReasonRefusedError for what the reason code does not allow, whoever approves it.

    Direction and largest amount are those of adjustments: what is reversed, released or transferred was the user's
    already, and its amount is bounded by what was there.
    """
    found = connection.execute(select(ReasonCode).where(ReasonCode.code == operation.reason_code)).first()
    if found is None:
        raise ReasonNotFoundError(operation.reason_code)
    if not found.is_active:
        raise ReasonRefusedError("reason_code", f"{found.code} is not in use any more: choose another reason.")
    if found.ticket_required and operation.ticket is None:
        raise ReasonRefusedError("ticket", f"{found.code} needs a ticket.")
    if found.note_required and operation.note is None:
        raise ReasonRefusedError("note", f"{found.code} needs a note that says what happened.")
    if not isinstance(operation, AdjustOperation):
        return
    if found.directions not in (operation.direction, "both"):
        raise ReasonRefusedError("direction", f"{found.code} is for {found.directions}s alone.")
    amount_max = terms_of(connection, found.code, [asset_id])[asset_id].amount_max
    if operation.amount > amount_max:
        most = format_amount(amount_max, asset_scale)
        raise ReasonRefusedError(
            "amount",
            f"{found.code} is for at most {most} at once, approved or not; not {operation.amount:,}."
            if not asset_scale
            else f"{found.code} is for at most {most} at once, approved or not.",
        )


# --- within a unit of work ---


def _require_current(connection: Connection, session: Session | None) -> None:
    if session is not None:
        sessions.require_current(connection, session)


def _views(connection: Connection) -> list[ReasonView]:
    rows = connection.execute(_REASONS).all()
    return [ReasonView(row.code, _settings(row)) for row in rows]


def _settings(row: Any) -> ReasonSettings:
    return ReasonSettings(
        name=row.name,
        directions=row.directions,
        limits=Limits(amount_max=row.amount_max, approval_above=row.approval_above),
        of_assets={code: Limits(amount_max=most, approval_above=above) for code, most, above in row.of_assets},
        ticket_required=row.ticket_required,
        note_required=row.note_required,
        is_active=row.is_active,
    )


def _read(connection: Connection, code: str) -> ReasonSettings:
    """Return what the code allows, and keep everybody else from changing it until the unit of work's end."""
    locked = connection.execute(update(ReasonCode).where(ReasonCode.code == code).values(code=code)).rowcount
    found = [one.settings for one in _views(connection) if one.code == code]
    if not locked or not found:
        raise ReasonNotFoundError(code)
    return found[0]


def _columns(settings: ReasonSettings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "directions": settings.directions,
        "amount_max": settings.limits.amount_max,
        "approval_above": settings.limits.approval_above,
        "ticket_required": settings.ticket_required,
        "note_required": settings.note_required,
        "is_active": settings.is_active,
    }


def _set_limits(connection: Connection, code: str, settings: ReasonSettings) -> None:
    asset_ids = _asset_ids(connection, list(settings.of_assets))
    connection.execute(delete(ReasonLimit).where(ReasonLimit.reason_code == code))
    rows = [
        {
            "reason_code": code,
            "asset_type_id": asset_id,
            "amount_max": limits.amount_max,
            "approval_above": limits.approval_above,
        }
        for asset_id, limits in zip(asset_ids, settings.of_assets.values(), strict=True)
    ]
    if rows:
        connection.execute(insert(ReasonLimit), rows)


def _asset_ids(connection: Connection, codes: Sequence[str]) -> list[int]:
    """Return the ids of the assets, in order of the codes; raise AssetNotFoundError."""
    known = {row.code: row.id for row in connection.execute(select(AssetType.code, AssetType.id))}
    if unknown := [code for code in codes if code not in known]:
        raise AssetNotFoundError(unknown[0])
    return [known[code] for code in codes]


def _cleaned(settings: ReasonSettings) -> ReasonSettings:
    try:
        name = texts.clean(settings.name, low=1, high=100)
    except ValueError as wrong:
        raise ReasonInvalidError("name", f"The name {wrong}.") from None
    if settings.directions not in DIRECTIONS:
        raise ReasonInvalidError("directions", "Choose what it is for: credit, debit or both.")
    for limits in (settings.limits, *settings.of_assets.values()):
        _require_amount("amount_max", limits.amount_max, low=1)
        _require_amount("approval_above", limits.approval_above, low=0)
    return ReasonSettings(**{**{one: getattr(settings, one) for one in settings.__slots__}, "name": name})


def _require_amount(name: str, amount: int, *, low: int) -> None:
    if type(amount) is not int or not low <= amount <= AMOUNT_MAX:
        raise ReasonInvalidError(name, f"The amount must be a whole number from {low} to {AMOUNT_MAX}.")


def _told(settings: ReasonSettings) -> dict[str, Any]:
    def limits(one: Limits) -> dict[str, int]:
        return {"amountMax": one.amount_max, "approvalAbove": one.approval_above}

    return {
        "name": settings.name,
        "directions": settings.directions,
        **limits(settings.limits),
        "ofAssets": {code: limits(one) for code, one in settings.of_assets.items()},
        "ticketRequired": settings.ticket_required,
        "noteRequired": settings.note_required,
        "isActive": settings.is_active,
    }


_REASONS = text("""
SELECT reason_codes.*,
       ARRAY (SELECT jsonb_build_array(asset_types.code, limits.amount_max, limits.approval_above)
                FROM reason_limits AS limits
                JOIN asset_types ON asset_types.id = limits.asset_type_id
               WHERE limits.reason_code = reason_codes.code
               ORDER BY asset_types.code) AS of_assets
  FROM reason_codes
 ORDER BY reason_codes.code
""")

_BOUNDS = text("""
SELECT asset_types.code, day_bounds.operator_day_max, day_bounds.wallet_day_max
  FROM day_bounds
  LEFT JOIN asset_types ON asset_types.id = day_bounds.asset_type_id
 ORDER BY asset_types.code NULLS FIRST
""")

# Without any bound at all nothing is done alone.
_TERMS = text("""
SELECT asset_types.id AS asset_type_id,
       coalesce(limits.amount_max, reason_codes.amount_max) AS amount_max,
       coalesce(limits.approval_above, reason_codes.approval_above) AS approval_above,
       coalesce(own.operator_day_max, every.operator_day_max, 0) AS operator_day_max,
       coalesce(own.wallet_day_max, every.wallet_day_max, 0) AS wallet_day_max
  FROM reason_codes
 CROSS JOIN asset_types
  LEFT JOIN reason_limits AS limits ON limits.reason_code = reason_codes.code
                                   AND limits.asset_type_id = asset_types.id
  LEFT JOIN day_bounds AS own ON own.asset_type_id = asset_types.id
  LEFT JOIN day_bounds AS every ON every.asset_type_id IS NULL
 WHERE reason_codes.code = :reason_code AND asset_types.id = ANY (CAST(:asset_ids AS bigint[]))
""")
