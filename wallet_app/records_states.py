"""The records of what freezes, unfreezes and closes a wallet; `records.py` reads them."""

from __future__ import annotations

from typing import Literal

from wallet_app import service
from wallet_app.fields import Outside, Reference, WalletId
from wallet_app.fields_states import Reason, SideField, Until
from wallet_app.service import Command, Origin


class FreezeRecord(Outside):
    type: Literal["freeze"]
    wallet_id: WalletId
    side: SideField
    until: Until = None
    reason: Reason
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return service.Freeze(
            wallet_id=self.wallet_id,
            reference=self.reference_id,
            origin=origin,
            side=self.side,
            until=self.until,
            note=self.reason,
        )


class UnfreezeRecord(Outside):
    type: Literal["unfreeze"]
    wallet_id: WalletId
    side: SideField = "both"
    reason: Reason
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return service.Unfreeze(
            wallet_id=self.wallet_id, reference=self.reference_id, origin=origin, side=self.side, note=self.reason
        )


class CloseRecord(Outside):
    type: Literal["close"]
    wallet_id: WalletId
    reason: Reason
    reference_id: Reference

    def command(self, origin: Origin) -> Command:
        return service.Close(wallet_id=self.wallet_id, reference=self.reference_id, origin=origin, note=self.reason)
