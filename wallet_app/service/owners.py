"""Whose a user wallet is, and of which asset: what every list of what a wallet has asks first."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.errors import SystemEntriesError, WalletNotFoundError
from wallet_app.service.permits import Permit, reaches


class Owner(NamedTuple):
    """The user that a wallet belongs to, and its asset."""

    user_id: int
    user_type: str
    asset_code: str
    asset_name: str


def require_user_wallet(connection: Connection, wallet_id: int, permit: Permit | None) -> Owner:
    """Return whose the wallet is, if it has entries of its own and the permit reaches it; None reaches all.

    Raises WalletNotFoundError, AssetNotAllowedError or SystemEntriesError.
    """
    row = connection.execute(_OWNER, {"wallet_id": wallet_id}).first()
    if row is None or not reaches(permit, row.user_id):
        raise WalletNotFoundError(wallet_id)
    if permit is not None:
        permit.require_asset(row.asset_code)
    if row.user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return Owner._make(row)


_OWNER = text("""
SELECT wallets.user_id, users.user_type, asset_types.code AS asset_code, asset_types.name AS asset_name
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE wallets.id = :wallet_id
""")
