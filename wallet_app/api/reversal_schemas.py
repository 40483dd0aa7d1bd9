"""More of `schemas`: reversals and debts."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from wallet_app.api.schema_parts import Identifier, Instant, Integer53
from wallet_app.api.schemas import AssetAnswer, PostedAnswer
from wallet_app.fields import Outside, ReferenceIfGiven
from wallet_app.lot_fields import REGRANT_WITH_DAYS
from wallet_app.records import Reversal
from wallet_app.service import DEBTS_MAX, REVERSIBLE


class ReversalRequest(Reversal):
    """A reversal."""

    model_config = ConfigDict(json_schema_extra={"required": ["reason", "referenceId"], **REGRANT_WITH_DAYS})

    reference_id: ReferenceIfGiven = None


class ReversedMovementAnswer(Outside):
    """A movement that was reversed: the wallet as it stands now, and what the reversal did to it."""

    wallet_id: int
    user_id: int
    asset: AssetAnswer
    balance: Integer53 = Field(description="What can be spent now.")
    held: Integer53
    version: int = Field(description="The number of the wallet's last entry; belongs to `balance`.")
    amount: int = Field(description="Signed: what the balance changed by. 0 where nothing was there to be taken back.")
    balance_after: Integer53 | None = Field(
        description="The balance right after this transaction's entry; null where it has none."
    )
    seq: int | None = Field(
        description="The number of this transaction's entry; belongs to `balanceAfter`. Null where it has none."
    )
    reversed_seq: int = Field(description="The number of the wallet's entry that was reversed.")
    owed: Integer53 = Field(description="How much was not there to be taken back, and is owed since then.")
    remaining: Integer53 = Field(
        description="How much of the reversed entry can still be reversed: what is neither reversed nor owed, and has "
        "not expired. The same as in `reversible` of its transaction."
    )


class ReversalAnswer(PostedAnswer):
    type: Literal["REVERSAL"]
    wallet_id: int = Field(description="The wallet under which the reference counts: the reversed transaction's.")
    reverses: Identifier
    reason: str
    movements: list[ReversedMovementAnswer] = Field(
        description="In the order in which they were made: what gives comes first."
    )


class DebtAnswer(Outside):
    transaction_id: Identifier = Field(description="The transaction that was reversed.")
    kind: Literal[REVERSIBLE]  # type: ignore[valid-type]
    reference_id: str
    seq: int = Field(description="The number of its entry.")
    amount: Integer53 = Field(description="How much that entry had brought.")
    reversed: Integer53 = Field(description="How much of it was taken back, repayments included.")
    owed: Integer53 = Field(description="How much of it is still to be repaid.")
    since: Instant


class DebtsAnswer(Outside):
    ok: Literal[True]
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    owed: Integer53 = Field(description="All debts together.")
    debts: list[DebtAnswer] = Field(description=f"The oldest first, {DEBTS_MAX} at most.")
