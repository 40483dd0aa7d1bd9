"""More of `present`: lots, and what extends and revokes them."""

from __future__ import annotations

from typing import Any

from wallet_app.api import present
from wallet_app.service import NO_END, Lot, LotView


def lot(one: Lot) -> dict[str, Any]:
    """Present a lot."""
    return {
        "lotId": str(one.lot_id),
        "kind": one.kind,
        "amount": one.amount,
        "available": one.available,
        "held": one.held,
        "consumed": one.consumed,
        "expired": one.expired,
        "revoked": one.revoked,
        "expiresAt": None if one.expires_at == NO_END else present.instant(one.expires_at),
        "createdAt": present.instant(one.created_at),
        "changedAt": present.instant(one.changed_at),
    }


def listed_lot(view: LotView) -> dict[str, Any]:
    """Present a lot with what the entry that granted it tells."""
    return {
        **lot(view.lot),
        "walletId": view.lot.wallet_id,
        "userId": view.user_id,
        "asset": {"code": view.asset_code, "name": view.asset_name},
        "seq": view.lot.seq or None,
        "type": view.entry_type,
        "transactionId": None if view.transaction_id is None else str(view.transaction_id),
    }
