"""Assets: made with all their SYSTEM wallets, renamed, and given another scale as long as nothing was ever posted.

The scale says where amounts have their point, so with a new one every amount of the past would read differently. How
long credit lives, and in which zone a day ends, counts for what is granted from then on: a lot keeps its end.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select, text, update
from sqlalchemy.dialects.postgresql import insert

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import AssetExistsError, AssetInvalidError, AssetNotFoundError, ScaleFixedError
from wallet_app.models import SYSTEM_USERS, AssetType
from wallet_app.service import audit, locks, sessions, wallets
from wallet_app.service.audit import Act, By
from wallet_app.service.queries import PAGE_MAX
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session

SCALE_MAX = 12
WALLETS_COUNTED_MAX = 100_000
"""An asset's wallets are counted this far: nobody waits for a page that counts millions."""

LIFE_DAYS_MAX = 3_650
"""The longest default life of a credit, in days; what shall live longer does not end."""

_COUNTED = WALLETS_COUNTED_MAX + 1 + len(SYSTEM_USERS)
_LIFE = ("time_zone", "bonus_days", "paid_days")
_CHANGEABLE = ("name", "scale", *_LIFE)
_ALWAYS_TOLD = ("name", "scale")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_NAME_MAX = 100
_WALLETS_LOCKED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class CreditLife:
    """How long an asset's credit lives if nobody says so: days until the end of a day in `time_zone`; None is for ever.

    `time_zone` is a name of the IANA's, like Europe/Berlin.
    """

    time_zone: str = "UTC"
    bonus_days: int | None = None
    paid_days: int | None = None


@dataclass(frozen=True, slots=True)
class AssetFacts:
    """An asset as its administrators see it.

    `wallets` are those of users, WALLETS_COUNTED_MAX + 1 for more than that; `outstanding` is what these have together,
    held or not, in the smallest unit.
    """

    asset_type_id: int
    code: str
    name: str
    scale: int
    wallets: int
    outstanding: int
    life: CreditLife


def create_asset(
    *, code: str, name: str, scale: int, by: By, session: Session | None = None, life: CreditLife | None = None
) -> tuple[AssetFacts, bool]:
    """Make an asset with its SYSTEM wallets; return it, and whether it was made now, and was not there as it is.

    `session` is the operator's who makes it, if one does; locks them. Raises AssetInvalidError, AssetExistsError for
    another one with this code, NotSignedInError, OutcomeUnknownError.
    """
    values = {"code": code, "name": _checked(code, name, scale), "scale": scale, **_checked_life(life or CreditLife())}
    is_new = repeatable(partial(_create, values=values, by=by, session=session))
    return get_asset(code), is_new


def change_asset(
    code: str,
    *,
    name: str | None = None,
    scale: int | None = None,
    life: CreditLife | None = None,
    by: By,
    session: Session | None = None,
) -> AssetFacts:
    """Give the asset another name, another scale, or its credit another life; return it. None leaves it as it is.

    `session` is the operator's who does it, if one does. Locks them, then the asset, and for another scale its wallets.
    Raises AssetNotFoundError, AssetInvalidError, ScaleFixedError, NotSignedInError.
    """
    name = None if name is None else _checked_name(name)
    _require_scale(scale or 0)
    wanted = {"name": name, "scale": scale, **({} if life is None else _checked_life(life))}
    with unit_of_work() as connection:
        if session is not None:
            sessions.require_current(connection, session)
        found = locks.lock_asset(connection, code)
        if found is None:
            raise AssetNotFoundError(code)
        before = {column: getattr(found, column) for column in _CHANGEABLE}
        after = before | {column: value for column, value in wanted.items() if value is not None or column in _LIFE}
        if after != before:
            if after["scale"] != before["scale"]:
                _require_nothing_posted(connection, found.id, code)
            connection.execute(update(AssetType).where(AssetType.id == found.id).values(after))
            told = {column for column in _CHANGEABLE if column in _ALWAYS_TOLD or after[column] != before[column]}
            act = Act(
                by=by,
                action="asset:change",
                subject=f"asset:{code}",
                before=_only(told, before),
                after=_only(told, after),
            )
            audit.record(connection, act)
    return get_asset(code)


@reads
def get_asset(connection: Connection, code: str) -> AssetFacts:
    """Return the asset; raise AssetNotFoundError."""
    row = connection.execute(_ONE, {"code": code, "counted": _COUNTED}).first()
    if row is None:
        raise AssetNotFoundError(code)
    return _facts(row)


@reads
def list_asset_facts(connection: Connection, *, after_id: int | None, limit: int) -> Sequence[AssetFacts]:
    """Return up to `limit` + 1 assets in the order in which they were made; the one too many tells of a next page."""
    values = {"after_id": after_id or 0, "limit": min(limit, PAGE_MAX) + 1, "counted": _COUNTED}
    return [_facts(row) for row in connection.execute(_PAGE, values)]


def _facts(row: Row[Any]) -> AssetFacts:
    # A sum of bigint is a numeric.
    counted: int = row.wallets
    life = CreditLife(row.time_zone, row.bonus_days, row.paid_days)
    return AssetFacts(row.id, row.code, row.name, row.scale, counted, int(row.outstanding), life)


def _checked(code: str, name: str, scale: int) -> str:
    """Return the name without needless blanks."""
    if _CODE.fullmatch(code) is None:
        raise AssetInvalidError(
            "The code has 2 to 32 capital letters, digits and underscores, and begins with a letter, like GOLD.",
            about="code",
        )
    _require_scale(scale)
    return _checked_name(name)


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
        raise AssetInvalidError(f"The name must have 1 to {_NAME_MAX} characters that can be printed.", about="name")
    return name


def _require_scale(scale: int) -> None:
    if not 0 <= scale <= SCALE_MAX:
        raise AssetInvalidError(f"The scale must be a whole number from 0 to {SCALE_MAX}.", about="scale")


_NO_PLACES = {"Factory", "localtime", "posixrules"}
"""Names that each machine may understand otherwise."""


def _checked_life(life: CreditLife) -> dict[str, Any]:
    """Return it by column."""
    # The lists of zones have names that are no zones, too, like that of the file which has all of them.
    if life.time_zone not in zoneinfo.available_timezones() - _NO_PLACES:
        raise AssetInvalidError(
            "The time zone must be one of the IANA's, by its name, like Europe/Berlin or UTC.", about="time_zone"
        )
    for about, what, days in (("bonus_days", "Bonuses", life.bonus_days), ("paid_days", "Paid credit", life.paid_days)):
        if days is not None and not 1 <= days <= LIFE_DAYS_MAX:
            raise AssetInvalidError(f"{what} must live for 1 to {LIFE_DAYS_MAX:,} days, or without end.", about=about)
    return asdict(life)


def _only(columns: set[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {column: values[column] for column in _CHANGEABLE if column in columns}


def _create(connection: Connection, *, values: Mapping[str, Any], by: By, session: Session | None) -> bool:
    if session is not None:
        sessions.require_current(connection, session)
    code = values["code"]
    made = connection.scalar(insert(AssetType).values(values).on_conflict_do_nothing().returning(AssetType.id))
    if made is None:
        same = [getattr(AssetType, column).is_not_distinct_from(value) for column, value in values.items()]
        if connection.scalar(select(AssetType.id).where(*same)) is None:
            raise AssetExistsError(code)
        return False
    wallets.ensure_system_wallets(connection, [made])
    usual = asdict(CreditLife())
    told = {column: value for column, value in values.items() if column not in usual or value != usual[column]}
    audit.record(connection, Act(by=by, action="asset:create", subject=f"asset:{code}", after=told))
    return True


def _require_nothing_posted(connection: Connection, asset_type_id: int, code: str) -> None:
    """Raise ScaleFixedError if there is an entry of the asset, or one may be on its way.

    The asset is locked, so it gets no wallet; and then all that it has, so that nothing is posted until the end of the
    unit of work. Those that are busy are not waited for, because the asset's lock is held already.
    """
    ids = connection.execute(_WALLET_IDS, {"asset_type_id": asset_type_id, "limit": _WALLETS_LOCKED_MAX + 1})
    wallet_ids = list(ids.scalars())
    if len(wallet_ids) > _WALLETS_LOCKED_MAX:
        raise ScaleFixedError(code, f"more than {_WALLETS_LOCKED_MAX:,} wallets have it")
    balances = locks.lock_wallets(connection, wallet_ids, waits_for=()).balances if wallet_ids else []
    if any(version > 0 for _, _, _, version, *_ in balances):
        raise ScaleFixedError(code, "there are entries, and what they say would read differently")
    if len(balances) < len(wallet_ids):
        raise ScaleFixedError(code, "something is being posted to it at this moment")


_FACTS = """
SELECT asset_types.id, asset_types.code, asset_types.name, asset_types.scale, asset_types.time_zone,
       asset_types.bonus_days, asset_types.paid_days,
       (SELECT count(*) FROM (SELECT FROM wallets WHERE asset_type_id = asset_types.id LIMIT :counted) AS counted)
       - count(DISTINCT system_wallets.id) AS wallets,
       -- What users have, someone of the system has given: all of an asset together is zero.
       coalesce(-sum(system_balances.balance), 0) AS outstanding
  FROM asset_types
  LEFT JOIN users ON users.user_type = 'SYSTEM'
  LEFT JOIN wallets AS system_wallets
    ON system_wallets.user_id = users.id AND system_wallets.asset_type_id = asset_types.id
  LEFT JOIN system_balances ON system_balances.wallet_id = system_wallets.id AND users.name <> 'Holds'
"""

_ONE = text(f"{_FACTS} WHERE asset_types.code = :code GROUP BY asset_types.id")

_PAGE = text(f"""
{_FACTS}
 WHERE asset_types.id IN (SELECT id FROM asset_types WHERE id > :after_id ORDER BY id LIMIT :limit)
 GROUP BY asset_types.id
 ORDER BY asset_types.id
""")  # noqa: S608 - constants

_WALLET_IDS = text("""
SELECT wallets.id FROM wallets JOIN users ON users.id = wallets.user_id
 WHERE wallets.asset_type_id = :asset_type_id AND users.user_type = 'USER'
 ORDER BY wallets.id LIMIT :limit
""")
