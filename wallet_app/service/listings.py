"""Reads: the wallets of users, and assets, page by page; nothing here locks or writes.

`permit` is what who asks may do; None is the service itself. What the permit does not reach is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import AssetNotFoundError, UserNotFoundError
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.queries import PAGE_MAX, WALLET_VIEW, WalletView, wallet_view


@dataclass(frozen=True, slots=True)
class AssetView:
    """A kind of credit; `scale` is the number of decimal places for display.

    A day of it ends in `time_zone`. What is granted lives for so many days, if nobody says otherwise; None is for ever.
    """

    asset_type_id: int
    code: str
    name: str
    scale: int
    time_zone: str = "UTC"
    bonus_days: int | None = None
    paid_days: int | None = None


@reads
def list_wallets(
    connection: Connection,
    *,
    user_id: int | None,
    asset_code: str | None,
    after_id: int | None,
    limit: int,
    permit: Permit | None = None,
) -> Sequence[WalletView]:
    """Return up to `limit` + 1 user wallets in order of their ids, of this user and asset where they are given.

    The one too many tells that there is a next page. Raises AssetNotAllowedError, UserNotFoundError, also for a SYSTEM
    user, and AssetNotFoundError.
    """
    codes = _asset_codes(asset_code, permit)
    if permit is not None and permit.user_id is not None:
        if user_id is not None and not reaches(permit, user_id):
            raise UserNotFoundError(user_id)
        user_id = permit.user_id
    values = {"user_id": user_id, "asset_codes": codes, "after_id": after_id or 0}
    rows = connection.execute(
        _WALLETS[user_id is not None, codes is not None], {**values, "limit": min(limit, PAGE_MAX) + 1}
    ).all()
    if not rows:
        _require_owner_and_asset(connection, user_id, asset_code)
    return [wallet_view(row) for row in rows]


@reads
def asset_scales(connection: Connection) -> dict[str, int]:
    """Return the number of decimal places of each asset, by its code."""
    return {row.code: row.scale for row in connection.execute(text("SELECT code, scale FROM asset_types"))}


@reads
def list_assets(
    connection: Connection, *, after_id: int | None, limit: int, permit: Permit | None = None
) -> Sequence[AssetView]:
    """Return up to `limit` + 1 assets in the order in which they were made; the one too many tells of a next page."""
    values = {"after_id": after_id or 0, "asset_codes": _asset_codes(None, permit)}
    rows = connection.execute(_ASSETS, {**values, "limit": min(limit, PAGE_MAX) + 1})
    return [AssetView(*row) for row in rows]


def _asset_codes(asked: str | None, permit: Permit | None) -> list[str] | None:
    """Return the assets to look for, None for any; raise AssetNotAllowedError for one that is not allowed."""
    if asked is not None:
        if permit is not None:
            permit.require_asset(asked)
        return [asked]
    return None if permit is None or permit.assets is None else sorted(permit.assets)


def _require_owner_and_asset(connection: Connection, user_id: int | None, asset_code: str | None) -> None:
    has = connection.execute(_HAS, {"user_id": user_id, "asset_code": asset_code}).one()
    if user_id is not None and not has.user:
        raise UserNotFoundError(user_id)
    if asset_code is not None and not has.asset:
        raise AssetNotFoundError(asset_code)


def _page(source: str, condition: str = "true") -> str:
    return f"""(
       SELECT * FROM {source}
        WHERE {condition} AND id > :after_id
          AND user_id <> ALL (ARRAY(SELECT id FROM users WHERE user_type = 'SYSTEM'))
        ORDER BY id LIMIT :limit
       ) AS wallets"""  # noqa: S608 - constants


# By index, whatever the statistics say (OFFSET 0 keeps it so): a user has few wallets, and they have an order at once.
_OF_USER = "(SELECT * FROM wallets WHERE user_id = :user_id OFFSET 0) AS owned"
_ASKED = "code = ANY (CAST(:asset_codes AS text[]))"
# A page of each asset, and the first of these: several assets have no common order in the index.
_OF_ASSETS = f"""(
       SELECT wallets.* FROM asset_types CROSS JOIN LATERAL {_page("wallets", "asset_type_id = asset_types.id")}
        WHERE {_ASKED}
       ) AS found"""  # noqa: S608 - constants
_IN_ASSETS = f"asset_type_id IN (SELECT id FROM asset_types WHERE {_ASKED})"  # noqa: S608 - constants

# A statement for each choice of filters, because one for all of them has no plan that is good for each.
_WALLETS = {
    choice: text(WALLET_VIEW.format(wallets=page) + " ORDER BY wallets.id")
    for choice, page in {
        (False, False): _page("wallets"),
        (True, False): _page(_OF_USER),
        (False, True): _page(_OF_ASSETS),
        (True, True): _page(_OF_USER, _IN_ASSETS),
    }.items()
}
"""By whether a user is given, and assets."""

_HAS = text("""
SELECT EXISTS (SELECT FROM users WHERE id = CAST(:user_id AS bigint) AND user_type = 'USER') AS "user",
       EXISTS (SELECT FROM asset_types WHERE code = CAST(:asset_code AS text)) AS asset
""")

_ASSETS = text(f"""
SELECT id, code, name, scale, time_zone, bonus_days, paid_days FROM asset_types
 WHERE id > :after_id AND (CAST(:asset_codes AS text[]) IS NULL OR {_ASKED})
 ORDER BY id LIMIT :limit
""")  # noqa: S608 - constants
