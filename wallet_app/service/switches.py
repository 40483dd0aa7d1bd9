"""Stop switches: debits, credits or both of a user, of an asset or of everything are stopped, until that is lifted.

Each posting reads them with its wallets, under their locks: so one that is set stops, in every process, all that is
locked after it was committed. Several that concern the same wallet stop it until each of them is lifted, or has ended.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from sqlalchemy import Connection, select, text, update
from sqlalchemy.dialects.postgresql import insert

from wallet_app.db import reads
from wallet_app.errors import AssetNotFoundError, EndPassedError, SwitchNotFoundError, UserNotFoundError
from wallet_app.models import AssetType, StopSwitch, User
from wallet_app.service import audit, sessions
from wallet_app.service.audit import Act, By
from wallet_app.service.dry_run import NO_ID
from wallet_app.service.instants import instant_text
from wallet_app.service.queries import PAGE_MAX
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session, Visitor
from wallet_app.service.states import Side

Target = Literal["user", "asset", "everything"]

PERMISSION_OF = MappingProxyType({"user": "switches:user", "asset": "switches:manage", "everything": "switches:manage"})
"""What an operator needs to set and to lift a switch of each target."""

STOPS_MAX = 5


@dataclass(frozen=True, slots=True)
class SwitchView:
    """A switch. It stops something while `is_set`: it was not lifted, and has not ended; `until` None is no end."""

    switch_id: int
    target: str
    user_id: int | None
    asset_code: str | None
    side: str
    reason: str
    until: dt.datetime | None
    is_set: bool
    set_by: str
    set_at: dt.datetime
    lifted_by: str | None
    lifted_at: dt.datetime | None
    lift_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchSettings:
    """What is to be stopped, and why. Of `user_id` and `asset_code` there is what the target asks for."""

    target: Target
    side: Side
    reason: str
    user_id: int | None = None
    asset_code: str | None = None
    until: dt.datetime | None = None


def set_switch(settings: SwitchSettings, *, by: By, session: Session | None = None) -> tuple[SwitchView, bool]:
    """Stop it from now on, and return the switch and whether it was set now; False where the same one was set before.

    `session` is the operator's who does it, if one does: their role must have PERMISSION_OF the target. Locks them.
    Raises UserNotFoundError, also for a SYSTEM user; AssetNotFoundError; EndPassedError; OutcomeUnknownError; with
    `session` PermissionDeniedError, which is recorded, and NotSignedInError.
    """
    require_may(session, settings.target, by=by)
    switch_id, is_new = repeatable(partial(_set, settings=settings, by=by, session=session))
    return get_switch(switch_id), is_new


@reads
def preview_switch(connection: Connection, settings: SwitchSettings, *, by: By) -> tuple[SwitchView, bool]:
    """Return the switch that `set_switch` would, and whether it would be set now, then without an id; raises so."""
    values = _values(connection, settings)
    if (same := _same(connection, values)) is not None:
        return SwitchView(*connection.execute(_SWITCH, {"switch_id": same}).one()), False
    view = SwitchView(
        NO_ID,
        settings.target,
        settings.user_id,
        settings.asset_code,
        settings.side,
        settings.reason,
        settings.until,
        is_set=True,
        set_by=by.actor,
        set_at=connection.execute(text("SELECT clock_timestamp()")).scalar_one(),
        lifted_by=None,
        lifted_at=None,
        lift_reason=None,
    )
    return view, True


def lift_switch(switch_id: int, *, reason: str, by: By, session: Session | None = None) -> SwitchView:
    """Let it go again; one that was lifted before stays as it was.

    `session` as for `set_switch`. Raises SwitchNotFoundError, OutcomeUnknownError, PermissionDeniedError,
    NotSignedInError.
    """
    if session is not None:
        require_may(session, get_switch(switch_id).target, by=by)
    repeatable(partial(_lift, switch_id=switch_id, reason=reason, by=by, session=session))
    return get_switch(switch_id)


def require_may(session: Session | None, target: str, *, by: By) -> None:
    """Raise PermissionDeniedError, and record it, for an operator who may not switch this target."""
    if session is not None:
        visitor = Visitor(address=by.address or "unknown", request_id=by.request_id)
        sessions.require(session, PERMISSION_OF[target], visitor=visitor)


@reads
def get_switch(connection: Connection, switch_id: int) -> SwitchView:
    """Return the switch; raise SwitchNotFoundError."""
    row = connection.execute(_SWITCH, {"switch_id": switch_id}).first()
    if row is None:
        raise SwitchNotFoundError(switch_id)
    return SwitchView(*row)


@reads
def list_switches(
    connection: Connection, *, with_lifted: bool = False, after_id: int | None = None, limit: int = PAGE_MAX
) -> Sequence[SwitchView]:
    """Return up to `limit` + 1 switches in the order in which they were set; those that stop nothing only if asked for.

    The one too many tells that there is a next page.
    """
    values = {"with_lifted": with_lifted, "after_id": after_id or 0, "limit": min(limit, PAGE_MAX) + 1}
    return [SwitchView(*row) for row in connection.execute(_SWITCHES, values)]


@reads
def list_past_switches(connection: Connection, *, before_id: int | None, limit: int) -> Sequence[SwitchView]:
    """Return up to `limit` + 1 switches that were lifted or have ended, the last that was set first."""
    values = {"before_id": before_id, "limit": min(limit, PAGE_MAX) + 1}
    return [SwitchView(*row) for row in connection.execute(_PAST, values)]


@reads
def list_stops(connection: Connection) -> Sequence[SwitchView]:
    """Return what stops everything, and then what stops an asset, STOPS_MAX at most: what every operator is to know."""
    return [SwitchView(*row) for row in connection.execute(_STOPS, {"limit": STOPS_MAX})]


@reads
def list_stops_of(connection: Connection, *, user_id: int, asset_code: str | None = None) -> Sequence[SwitchView]:
    """Return the switches that stop something now of the user's wallet of this asset, or of all that are theirs.

    In the order in which they were set.
    """
    values = {"user_id": user_id, "asset_code": asset_code}
    return [SwitchView(*row) for row in connection.execute(_STOPS_OF, values)]


def _set(
    connection: Connection, *, settings: SwitchSettings, by: By, session: Session | None = None
) -> tuple[int, bool]:
    if session is not None:
        sessions.require_current(connection, session)
    values = _values(connection, settings)
    made = connection.scalar(
        insert(StopSwitch).values(**values, set_by=by.actor).on_conflict_do_nothing().returning(StopSwitch.id)
    )
    if made is None:
        # None, if it was lifted in this moment: then this is tried again.
        same = _same(connection, values)
        return _set(connection, settings=settings, by=by, session=session) if same is None else (same, False)
    act = Act(
        by=replace(by, reason=settings.reason), action="switch:set", subject=f"switch:{made}", after=_told(settings)
    )
    audit.record(connection, act)
    return made, True


def _same(connection: Connection, values: dict[str, Any]) -> int | None:
    same = [getattr(StopSwitch, name).is_not_distinct_from(value) for name, value in values.items()]
    return connection.scalar(select(StopSwitch.id).where(StopSwitch.lifted_at.is_(None), *same))


def _values(connection: Connection, settings: SwitchSettings) -> dict[str, Any]:
    now: dt.datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    if settings.until is not None and settings.until <= now:
        raise EndPassedError(instant_text(settings.until))
    user_id = asset_type_id = None
    if settings.user_id is not None:
        is_theirs = select(User.id).where(User.id == settings.user_id, User.user_type == "USER")
        if (user_id := connection.scalar(is_theirs)) is None:
            raise UserNotFoundError(settings.user_id)
    if settings.asset_code is not None:
        asset_type_id = connection.scalar(select(AssetType.id).where(AssetType.code == settings.asset_code))
        if asset_type_id is None:
            raise AssetNotFoundError(settings.asset_code)
    return {
        "target": settings.target,
        "user_id": user_id,
        "asset_type_id": asset_type_id,
        "side": settings.side,
        "reason": settings.reason,
        "until": settings.until,
    }


def _told(settings: SwitchSettings) -> dict[str, Any]:
    return {
        "target": settings.target,
        "userId": settings.user_id,
        "asset": settings.asset_code,
        "side": settings.side,
        "until": None if settings.until is None else instant_text(settings.until),
    }


def _lift(connection: Connection, *, switch_id: int, reason: str, by: By, session: Session | None) -> None:
    if session is not None:
        sessions.require_current(connection, session)
    lifted = connection.scalar(
        update(StopSwitch)
        .where(StopSwitch.id == switch_id, StopSwitch.lifted_at.is_(None))
        .values(lifted_by=by.actor, lifted_at=text("clock_timestamp()"), lift_reason=reason)
        .returning(StopSwitch.id)
    )
    if lifted is not None:
        act = Act(by=replace(by, reason=reason), action="switch:lift", subject=f"switch:{switch_id}")
        audit.record(connection, act)


_VIEW = """
SELECT switches.id, switches.target, switches.user_id, asset_types.code, switches.side, switches.reason, switches.until,
       switches.lifted_at IS NULL AND (switches.until IS NULL OR switches.until > clock_timestamp()) AS is_set,
       switches.set_by, switches.set_at, switches.lifted_by, switches.lifted_at, switches.lift_reason
  FROM stop_switches AS switches
  LEFT JOIN asset_types ON asset_types.id = switches.asset_type_id
"""

_SWITCH = text(f"{_VIEW} WHERE switches.id = :switch_id")

_IS_SET = "(switches.lifted_at IS NULL AND (switches.until IS NULL OR switches.until > clock_timestamp()))"

_SWITCHES = text(f"""
{_VIEW}
 WHERE switches.id > :after_id AND (:with_lifted OR {_IS_SET})
 ORDER BY switches.id LIMIT :limit
""")

_PAST = text(f"""
{_VIEW}
 WHERE (CAST(:before_id AS bigint) IS NULL OR switches.id < :before_id) AND NOT {_IS_SET}
 ORDER BY switches.id DESC LIMIT :limit
""")

_STOPS = text(f"""
{_VIEW}
 WHERE switches.target IN ('everything', 'asset') AND {_IS_SET}
 ORDER BY switches.target DESC, switches.id LIMIT :limit
""")

_STOPS_OF = text(f"""
{_VIEW}
 WHERE switches.lifted_at IS NULL AND (switches.until IS NULL OR switches.until > clock_timestamp())
   AND (switches.target = 'everything' OR switches.user_id = :user_id OR asset_types.code = :asset_code)
 ORDER BY switches.id
""")
