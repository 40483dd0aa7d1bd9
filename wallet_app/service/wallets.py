"""Assets, users and wallets: made once, found again; a wallet is born with its balance row."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, func, insert, select

from wallet_app.models import AssetType, User, Wallet
from wallet_app.service import posting


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
    found = connection.scalar(select(User.id).where(same, User.user_type == user_type).order_by(User.id).limit(1))
    return (
        found
        or connection.execute(
            insert(User).values(name=name, user_type=user_type, external_id=external_id).returning(User.id)
        ).scalar_one()
    )


def ensure_wallet(
    connection: Connection, *, user_id: int, asset_type_id: int, created_at: dt.datetime | None = None
) -> int:
    """Return the id of the user's wallet of the asset, made with an empty balance if it is new.

    `created_at` is for invented history: no entry of a wallet is dated before the wallet.
    """
    same = (Wallet.user_id == user_id, Wallet.asset_type_id == asset_type_id)
    found = connection.scalar(select(Wallet.id).where(*same))
    if found is not None:
        return found
    made = connection.execute(
        insert(Wallet)
        .values(user_id=user_id, asset_type_id=asset_type_id, created_at=created_at or func.now())
        .returning(Wallet.id)
    ).scalar_one()
    posting.heal(connection, [made])
    return made
