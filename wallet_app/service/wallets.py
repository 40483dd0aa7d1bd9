"""Assets, users and wallets: made once, found again; a wallet is born with its balance row.

Of two that make the same at once, one waits for the other's COMMIT and then finds what it made.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from functools import partial

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from wallet_app.models import SYSTEM_USERS, AssetType, User, Wallet
from wallet_app.service import listings, posting
from wallet_app.service.permits import Permit
from wallet_app.service.queries import WalletView
from wallet_app.service.repeatable import repeatable
from wallet_app.text import folded


def create_wallet(*, user_id: int, asset_code: str, permit: Permit | None = None) -> tuple[WalletView, bool]:
    """Return the user's wallet of the asset, and whether it was made now, with an empty balance.

    Raises AssetNotAllowedError, UserNotFoundError, also for a SYSTEM user, or AssetNotFoundError.
    """
    find = partial(listings.list_wallets, user_id=user_id, asset_code=asset_code, after_id=None, limit=1, permit=permit)
    is_new = False
    if not (found := find()):
        is_new = repeatable(partial(_add, user_id=user_id, asset_code=asset_code))
        found = find()
    return found[0], is_new


def _add(connection: Connection, *, user_id: int, asset_code: str) -> bool:
    asset_type_id = connection.scalars(select(AssetType.id).where(AssetType.code == asset_code)).one()
    return _add_wallet(connection, user_id, asset_type_id, None) is not None


def ensure_asset(connection: Connection, *, code: str, name: str, scale: int = 0) -> int:
    """Return the id of the asset with this code, made if it is new."""
    found = connection.scalar(select(AssetType.id).where(AssetType.code == code))
    return (
        found
        or connection.execute(
            insert(AssetType).values(code=code, name=name, scale=scale).returning(AssetType.id)
        ).scalar_one()
    )


def ensure_user(connection: Connection, *, name: str, user_type: str = "USER", external_id: str | None = None) -> int:
    """Return the id of the SYSTEM user with this name, or the USER with this external id (its name, if it has none)."""
    same = (User.name == name) if external_id is None else (User.external_id == external_id)
    find = select(User.id).where(same, User.user_type == user_type).order_by(User.id).limit(1)
    return (
        connection.scalar(find)
        or add_user(connection, name=name, user_type=user_type, external_id=external_id)
        or connection.scalars(find).one()
    )


def ensure_system_wallets(
    connection: Connection, asset_type_ids: Collection[int], *, owners: Sequence[str] = SYSTEM_USERS
) -> None:
    """See to it that these SYSTEM users are there, with a wallet of each of the assets."""
    for name in owners:
        user_id = ensure_user(connection, name=name, user_type="SYSTEM")
        for asset_type_id in asset_type_ids:
            ensure_wallet(connection, user_id=user_id, asset_type_id=asset_type_id)


def add_user(connection: Connection, *, name: str, user_type: str, external_id: str | None) -> int | None:
    """Make a user and return its id; None if there is one of this external id (SYSTEM: of this name)."""
    return connection.scalar(
        insert(User)
        .values(name=name, user_type=user_type, external_id=external_id, name_folded=folded(name))
        .on_conflict_do_nothing()
        .returning(User.id)
    )


def ensure_wallet(
    connection: Connection, *, user_id: int, asset_type_id: int, created_at: dt.datetime | None = None
) -> int:
    """Return the id of the user's wallet of the asset, made with an empty balance if it is new.

    `created_at` is for invented history: no entry of a wallet is dated before the wallet.
    """
    find = select(Wallet.id).where(Wallet.user_id == user_id, Wallet.asset_type_id == asset_type_id)
    return (
        connection.scalar(find)
        or _add_wallet(connection, user_id, asset_type_id, created_at)
        or connection.scalars(find).one()
    )


def _add_wallet(connection: Connection, user_id: int, asset_type_id: int, created_at: dt.datetime | None) -> int | None:
    """Make the wallet with its balance row and return its id; None if there is one."""
    at: ColumnElement[dt.datetime] | dt.datetime = created_at or func.now()
    made = connection.scalar(
        insert(Wallet)
        .values(user_id=user_id, asset_type_id=asset_type_id, created_at=at)
        .on_conflict_do_nothing()
        .returning(Wallet.id)
    )
    if made is not None:
        # Nobody else sees the wallet yet, so nobody else makes its row.
        posting.heal(connection, [made])
    return made
