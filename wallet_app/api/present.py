"""From the service's names to the JSON outside: the one place that translates."""

from __future__ import annotations

import datetime as dt
import uuid
from fractions import Fraction
from typing import Any

from wallet_app.money import format_rate, json_integer
from wallet_app.service import (
    NO_END,
    NO_ID,
    NO_TRANSACTION,
    AppliedRate,
    AssetView,
    DebtsView,
    Entry,
    EntryView,
    Expiring,
    Frozen,
    Hold,
    HoldView,
    KeyView,
    MadeToken,
    NewKey,
    PostedTransaction,
    Receipt,
    SwitchView,
    TransactionView,
    UserView,
    WalletState,
    WalletView,
    instant_text,
    reversed_parts,
)

REPLAYED = "This referenceId was processed before; the balance is unchanged."


def status(accepted: Receipt) -> int:
    """Return the status that the receipt of a command is answered with."""
    return 201 if accepted.transaction.kind == "HOLD" and not accepted.is_replay else 200


def tag(version: int) -> str:
    """Return a wallet's version as an entity tag."""
    return f'"{version}"'


def movement(receipt: Receipt) -> dict[str, Any]:
    """Present the receipt of a command that moves one wallet by one entry."""
    wallet, transaction = receipt.wallets[0], receipt.transaction
    entry = transaction.entries[0]
    return {
        "ok": True,
        "idempotent": receipt.is_replay,
        **({"message": REPLAYED} if receipt.is_replay else {}),
        "walletId": wallet.wallet_id,
        "userId": wallet.user_id,
        "asset": {"code": wallet.asset.code, "name": wallet.asset.name},
        "balance": wallet.balance,
        "held": wallet.held,
        "version": wallet.version,
        "transactionId": _if_made(transaction.transaction_id),
        "referenceId": transaction.reference,
        "type": entry.entry_type,
        "amount": entry.amount,
        "balanceAfter": entry.balance_after,
        "seq": entry.seq,
        "createdAt": instant(transaction.created_at),
        **_end(transaction),
    }


def _end(transaction: PostedTransaction) -> dict[str, Any]:
    """Return which lot the transaction made, and until when it could be spent then; nothing for credit without end."""
    if not transaction.result or "expiresAt" not in transaction.result:
        return {}
    return {"lotId": _if_made(transaction.transaction_id), "expiresAt": transaction.result["expiresAt"]}


def on_hold(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of what placed, captured or released a hold: by its last entry, with the sum of all."""
    wallet, transaction = posted.wallets[0], posted.transaction
    last = transaction.entries[-1]
    return {
        **_posted(posted),
        "walletId": wallet.wallet_id,
        "userId": wallet.user_id,
        "asset": {"code": wallet.asset.code, "name": wallet.asset.name},
        "balance": wallet.balance,
        "held": wallet.held,
        "version": wallet.version,
        "type": transaction.kind,
        "amount": sum(entry.amount for entry in transaction.entries),
        "balanceAfter": last.balance_after,
        "seq": last.seq,
        "hold": None if posted.hold is None else hold(posted.hold),
    }


def hold(held: Hold) -> dict[str, Any]:
    """Present a hold."""
    return {
        "holdId": _if_made(held.hold_id),
        "state": held.state,
        "amount": held.amount,
        "captured": held.captured,
        "released": held.released,
        "expired": held.expired,
        "remaining": held.remaining,
        "expiresAt": instant(held.expires_at),
        "createdAt": instant(held.created_at),
        "endedAt": None if held.ended_at is None else instant(held.ended_at),
    }


def listed_hold(view: HoldView) -> dict[str, Any]:
    """Present a hold with what its transaction tells about it."""
    return {
        **hold(view.hold),
        "walletId": view.hold.wallet_id,
        "userId": view.user_id,
        "asset": {"code": view.asset_code, "name": view.asset_name},
        "referenceId": view.reference,
        "note": view.note,
        "metadata": view.metadata,
    }


def receipt(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of any command that callers may ask for."""
    return _BY_KIND.get(posted.transaction.kind, movement)(posted)


def transfer(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of a transfer."""
    source, target = posted.transaction.entries
    return {
        **_posted(posted),
        "type": posted.transaction.kind,
        "amount": target.amount,
        "from": _side(posted, source),
        "to": _side(posted, target),
    }


def exchange(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of an exchange."""
    source, target = posted.transaction.entries
    result = posted.transaction.result or {}
    return {
        **_posted(posted),
        "type": posted.transaction.kind,
        "rate": format_rate(Fraction(*result["rate"])),
        "from": _side(posted, source),
        "to": _side(posted, target),
    }


def purchase(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of a purchase."""
    return {
        **_posted(posted),
        "type": posted.transaction.kind,
        "walletId": posted.transaction.wallet_id,
        "legs": [{"type": one.entry_type, **_side(posted, one)} for one in posted.transaction.entries],
    }


def state(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of what froze, unfroze or closed a wallet."""
    wallet = posted.wallets[0]
    now = wallet.frozen if posted.as_of is None else wallet.frozen.at(posted.as_of)
    return {
        **_posted(posted),
        "type": posted.transaction.kind,
        "reason": posted.transaction.requested["reason"],
        "walletId": wallet.wallet_id,
        "userId": wallet.user_id,
        "balance": wallet.balance,
        "held": wallet.held,
        "version": wallet.version,
        "status": "FROZEN" if wallet.status == "ACTIVE" and any(now) else wallet.status,
        **_frozen(now),
    }


def _frozen(now: Frozen) -> dict[str, Any]:
    sides = now._asdict().items()
    shown = {side: {"until": None if until == NO_END else instant(until)} for side, until in sides if until}
    return {"frozen": shown} if shown else {}


def reversal(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of a reversal: of each entry that it reversed, what came of it."""
    transaction = posted.transaction
    # An entry for each part that moved something, in the same order.
    entries = iter(transaction.entries)
    movements = []
    parts = zip(reversed_parts(transaction), posted.reversed, posted.reversible, strict=True)
    for (_, _, moved, owed), became, left in parts:
        made = next(entries) if moved else None
        wallet = next(state for state in posted.wallets if state.wallet_id == became.wallet_id)
        movements.append(
            {
                **_standing(wallet),
                "amount": moved,
                "balanceAfter": None if made is None else made.balance_after,
                "seq": None if made is None else made.seq,
                "reversedSeq": became.seq,
                "owed": owed,
                "remaining": left,
            }
        )
    return {
        **_posted(posted),
        "type": transaction.kind,
        "walletId": transaction.wallet_id,
        "reverses": str(transaction.reverses),
        "reason": transaction.requested["reason"],
        **({"lotId": transaction.requested["lot"]} if "lot" in transaction.requested else {}),
        "movements": movements,
    }


def extension(posted: Receipt) -> dict[str, Any]:
    """Present the receipt of what let a lot live longer."""
    wallet, transaction = posted.wallets[0], posted.transaction
    result = transaction.result or {}
    return {
        **_posted(posted),
        "type": transaction.kind,
        "reason": transaction.requested["reason"],
        **_standing(wallet),
        "lotId": result["lot"],
        "expiresAt": result["expiresAt"],
    }


def debts(view: DebtsView) -> dict[str, Any]:
    """Present what a wallet owes."""
    return {
        "ok": True,
        "walletId": view.wallet_id,
        "userId": view.user_id,
        "asset": {"code": view.asset_code, "name": view.asset_name},
        "owed": view.owed,
        "debts": [
            {
                "transactionId": str(one.entry.transaction_id),
                "kind": one.kind,
                "referenceId": one.reference,
                "seq": one.entry.seq,
                "amount": one.entry.amount,
                "reversed": one.entry.reversed,
                "owed": one.entry.owed,
                "since": _instant_if(one.entry.owed_since),
            }
            for one in view.debts
        ],
    }


_BY_KIND = {
    "TRANSFER": transfer,
    "EXCHANGE": exchange,
    "PURCHASE": purchase,
    "HOLD": on_hold,
    "CAPTURE": on_hold,
    "RELEASE": on_hold,
    "HOLD_EXPIRY": on_hold,
    "REVERSAL": reversal,
    "EXTEND": extension,
    "FREEZE": state,
    "UNFREEZE": state,
    "CLOSE": state,
}


def replay_headers(posted: Receipt) -> dict[str, str]:
    """Return the header that tells a replay."""
    return {"Idempotent-Replayed": "true"} if posted.is_replay else {}


def _posted(posted: Receipt) -> dict[str, Any]:
    return {
        "ok": True,
        "idempotent": posted.is_replay,
        **({"message": REPLAYED} if posted.is_replay else {}),
        "transactionId": _if_made(posted.transaction.transaction_id),
        "referenceId": posted.transaction.reference,
        "createdAt": instant(posted.transaction.created_at),
    }


def _if_made(transaction_id: uuid.UUID) -> str | None:
    return None if transaction_id == NO_TRANSACTION else str(transaction_id)


def _side(posted: Receipt, moved: Entry) -> dict[str, Any]:
    wallet = next(state for state in posted.wallets if state.wallet_id == moved.wallet_id)
    return {
        **_standing(wallet),
        "amount": moved.amount,
        "balanceAfter": moved.balance_after,
        "seq": moved.seq,
    }


def _standing(wallet: WalletState) -> dict[str, Any]:
    return {
        "walletId": wallet.wallet_id,
        "userId": wallet.user_id,
        "asset": {"code": wallet.asset.code, "name": wallet.asset.name},
        "balance": wallet.balance,
        "held": wallet.held,
        "version": wallet.version,
    }


def switch(view: SwitchView) -> dict[str, Any]:
    """Present a switch."""
    return {
        "switchId": None if view.switch_id == NO_ID else view.switch_id,
        "target": view.target,
        "userId": view.user_id,
        "asset": view.asset_code,
        "side": view.side,
        "reason": view.reason,
        "until": _instant_if(view.until),
        "set": view.is_set,
        "setBy": view.set_by,
        "setAt": instant(view.set_at),
        "liftedBy": view.lifted_by,
        "liftedAt": _instant_if(view.lifted_at),
        "liftReason": view.lift_reason,
    }


def user(view: UserView) -> dict[str, Any]:
    """Present a user."""
    return {
        "userId": None if view.user_id == NO_ID else view.user_id,
        "name": view.name,
        "externalId": view.external_id,
        "createdAt": instant(view.created_at),
    }


def token(made: MadeToken) -> dict[str, Any]:
    """Present a token that was just made: the only time that its text is seen."""
    said = made.token
    expires_at = dt.datetime.fromtimestamp(said.expires_at, dt.UTC)
    return {
        "ok": True,
        "token": made.text,
        "tokenType": "Bearer",
        "userId": said.user_id,
        "scopes": sorted(said.scopes),
        "expiresIn": said.seconds,
        "expiresAt": instant(expires_at),
    }


def key(view: KeyView) -> dict[str, Any]:
    """Present a key, of which nobody can see the text any more."""
    settings = view.settings
    return {
        "keyId": view.key_id,
        "client": view.client,
        "scopes": list(settings.scopes),
        "amountMax": settings.amount_max,
        "assets": settings.assets,
        "networks": settings.networks,
        "rateLimit": settings.rate_limit,
        "expiresAt": _instant_if(settings.expires_at),
        "live": view.is_live,
        "createdAt": instant(view.created_at),
        "createdBy": view.created_by,
        "revokedAt": _instant_if(view.revoked_at),
        "lastUsedAt": _instant_if(view.last_used_at),
    }


def new_key(made: NewKey) -> dict[str, Any]:
    """Present a key that was just made: the only time that its text is seen."""
    return {"ok": True, "key": made.text, **key(made.view)}


def asset(view: AssetView) -> dict[str, Any]:
    """Present an asset."""
    return {
        "code": view.code,
        "name": view.name,
        "scale": view.scale,
        "timeZone": view.time_zone,
        "bonusDays": view.bonus_days,
        "paidDays": view.paid_days,
    }


def balance(view: WalletView) -> dict[str, Any]:
    """Present a wallet's balance."""
    return {
        "walletId": view.wallet_id,
        "userId": view.user_id,
        "asset": {"code": view.asset_code, "name": view.asset_name},
        "balance": json_integer(view.balance),
        "held": view.held_now,
        "available": json_integer(view.available),
        "bonus": view.bonus,
        "paid": json_integer(view.paid),
        "due": view.expiring.over,
        "total": json_integer(view.available + view.held_now),
        "owed": view.owed_now,
        "expiring": _expiring(view.expiring),
        "version": view.version if view.user_type == "USER" else None,
        "updatedAt": instant(view.updated_at),
    }


def _expiring(ends: Expiring) -> dict[str, Any]:
    return {
        "nextAt": _instant_if(ends.next_at),
        "nextAmount": ends.next_amount,
        "within7d": ends.within_7_days,
        "within30d": ends.within_30_days,
    }


def balance_at(view: WalletView, moment: dt.datetime) -> dict[str, Any]:
    """Present a wallet's balance as it was at the instant."""
    return {**balance(view), "bonus": None, "paid": None, "expiring": None, "at": instant(moment)}


def rate(applied: AppliedRate) -> dict[str, Any]:
    """Present an exchange rate."""
    return {
        "from": applied.source,
        "to": applied.target,
        "rate": format_rate(applied.rate),
        "validFrom": instant(applied.valid_from),
        "validTo": _instant_if(applied.valid_to),
    }


def wallet(view: WalletView) -> dict[str, Any]:
    """Present a wallet."""
    return {
        **balance(view),
        "walletId": None if view.wallet_id == NO_ID else view.wallet_id,
        "userName": view.user_name,
        "userType": view.user_type,
        "scale": view.asset_scale,
        "status": view.status,
        **_frozen(view.frozen),
        "createdAt": instant(view.created_at),
    }


def entry(posted: Entry) -> dict[str, Any]:
    """Present an entry as the ledger has it."""
    return {
        "walletId": posted.wallet_id,
        "seq": posted.seq,
        "type": posted.entry_type,
        "amount": posted.amount,
        "balanceAfter": posted.balance_after,
        "contraWalletId": posted.contra_wallet_id,
        "createdAt": instant(posted.created_at),
        "hash": posted.hash.hex(),
    }


def listed_entry(view: EntryView) -> dict[str, Any]:
    """Present an entry with what its transaction tells about it."""
    return {
        **entry(view.entry),
        "transactionId": str(view.transaction_id),
        "referenceId": view.reference,
        "kind": view.kind,
        "actor": view.actor,
        "note": view.note,
        "metadata": view.metadata,
        "occurredAt": instant(view.occurred_at),
    }


def transaction(view: TransactionView) -> dict[str, Any]:
    """Present a transaction with its entries, and with each entry's two legs."""
    legs = [leg for one in view.transaction.entries for leg in _legs(one, view.asset_codes[one.wallet_id])]
    return {"ok": True, **listed_transaction(view), "legs": legs}


def listed_transaction(view: TransactionView) -> dict[str, Any]:
    """Present a transaction with its entries."""
    posted = view.transaction
    return {
        "transactionId": str(posted.transaction_id),
        "kind": posted.kind,
        "walletId": posted.wallet_id if view.is_own else None,
        "referenceId": posted.reference if view.is_own else None,
        "client": posted.client if view.is_own else None,
        "actor": posted.actor if view.is_own else None,
        "requestId": posted.request_id if view.is_own else None,
        "reverses": None if posted.reverses is None else str(posted.reverses),
        "reason": view.reason,
        "note": view.note,
        "metadata": view.metadata,
        "occurredAt": instant(posted.occurred_at),
        "createdAt": instant(posted.created_at),
        "digest": posted.digest.hex(),
        "entries": [entry(one) for one in posted.entries],
        "reversible": [
            {
                "walletId": one.wallet_id,
                "seq": one.seq,
                "amount": one.amount,
                "reversed": one.reversed,
                "owed": one.owed,
                "expired": one.expired,
                "remaining": one.remaining,
            }
            for one in view.reversible
        ],
    }


def _legs(posted: Entry, asset: str) -> list[dict[str, Any]]:
    return [
        {"walletId": posted.wallet_id, "asset": asset, "amount": posted.amount},
        {"walletId": posted.contra_wallet_id, "asset": asset, "amount": -posted.amount},
    ]


instant = instant_text
"""Returns the instant in RFC 3339, UTC, to the microsecond: 2026-01-31T12:00:00.000000Z."""


def _instant_if(moment: dt.datetime | None) -> str | None:
    return None if moment is None else instant(moment)
