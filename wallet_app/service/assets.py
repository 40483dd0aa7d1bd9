"""Assets: made with all their SYSTEM wallets, renamed, and given another scale as long as nothing was ever posted.

The scale says where amounts have their point, so with a new one every amount of the past would read differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
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

_COUNTED = WALLETS_COUNTED_MAX + 1 + len(SYSTEM_USERS)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_NAME_MAX = 100
_WALLETS_LOCKED_MAX = 10_000


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


def create_asset(
    *, code: str, name: str, scale: int, by: By, session: Session | None = None
) -> tuple[AssetFacts, bool]:
    """Make an asset with its SYSTEM wallets; return it, and whether it was made now, and was not there as it is.

    `session` is the operator's who makes it, if one does; locks them. Raises AssetInvalidError, AssetExistsError for
    another one with this code, NotSignedInError, OutcomeUnknownError.
    """
    name = _checked(code, name, scale)
    is_new = repeatable(partial(_create, code=code, name=name, scale=scale, by=by, session=session))
    return get_asset(code), is_new


def change_asset(code: str, *, name: str, scale: int, by: By, session: Session | None = None) -> AssetFacts:
    """Give the asset another name, or another scale; return it.

    `session` is the operator's who does it, if one does. Locks them, then the asset, and for another scale its wallets.
    Raises AssetNotFoundError, AssetInvalidError, ScaleFixedError, NotSignedInError.
    """
    name = _checked(code, name, scale)
    with unit_of_work() as connection:
        if session is not None:
            sessions.require_current(connection, session)
        found = locks.lock_asset(connection, code)
        if found is None:
            raise AssetNotFoundError(code)
        asset_type_id, *was = found
        if was != [name, scale]:
            if was[1] != scale:
                _require_nothing_posted(connection, asset_type_id, code)
            changed = update(AssetType).where(AssetType.id == asset_type_id).values(name=name, scale=scale)
            connection.execute(changed)
            before = {"name": was[0], "scale": was[1]}
            after = {"name": name, "scale": scale}
            act = Act(by=by, action="asset:change", subject=f"asset:{code}", before=before, after=after)
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
    return AssetFacts(row.id, row.code, row.name, row.scale, counted, int(row.outstanding))


def _checked(code: str, name: str, scale: int) -> str:
    """Return the name without needless blanks."""
    if _CODE.fullmatch(code) is None:
        raise AssetInvalidError(
            "The code has 2 to 32 capital letters, digits and underscores, and begins with a letter, like GOLD.",
            about="code",
        )
    name = " ".join(name.split())
    if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
        raise AssetInvalidError(f"The name must have 1 to {_NAME_MAX} characters that can be printed.", about="name")
    if not 0 <= scale <= SCALE_MAX:
        raise AssetInvalidError(f"The scale must be a whole number from 0 to {SCALE_MAX}.", about="scale")
    return name


def _create(connection: Connection, *, code: str, name: str, scale: int, by: By, session: Session | None) -> bool:
    if session is not None:
        sessions.require_current(connection, session)
    values = {"code": code, "name": name, "scale": scale}
    made = connection.scalar(insert(AssetType).values(values).on_conflict_do_nothing().returning(AssetType.id))
    if made is None:
        same = [getattr(AssetType, column) == value for column, value in values.items()]
        if connection.scalar(select(AssetType.id).where(*same)) is None:
            raise AssetExistsError(code)
        return False
    wallets.ensure_system_wallets(connection, [made])
    audit.record(connection, Act(by=by, action="asset:create", subject=f"asset:{code}", after=values))
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
SELECT asset_types.id, asset_types.code, asset_types.name, asset_types.scale,
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
