"""Which rule decides which command; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wallet_app.errors import WalletNotActiveError
from wallet_app.service import movements
from wallet_app.service.books import Books, Plan, Receipt
from wallet_app.service.commands import Bonus, Command, Seed, Spend, TopUp, require_permitted
from wallet_app.service.permits import Permit

RULES: dict[type[Command], Callable[[Books, Any], Plan]] = {
    TopUp: movements.top_up,
    Bonus: movements.bonus,
    Spend: movements.spend,
    Seed: movements.seed,
}


def decide(books: Books, command: Command) -> Receipt:
    """Answer the command from the books: replay it, or post what its rule plans.

    Raises a NotFoundError, ForbiddenError, RefusedError or InvalidError if it declines; then the books are as before,
    and its reference is still free.
    """
    # Before the books, whoever has looked already: nothing is told of a wallet to who may not do this to any.
    require_permitted(command)
    anchor = books.wallet(command.wallet_id)
    permit = command.origin.permit
    if permit is not None and permit.assets is not None:
        _require_assets(books, command, permit)
    if replayed := books.replay(command):
        return replayed
    if anchor.status != "ACTIVE":
        raise WalletNotActiveError(wallet_id=anchor.wallet_id, wallet_status=anchor.status)
    return books.apply(command, RULES[type(command)](books, command))


def _require_assets(books: Books, command: Command, permit: Permit) -> None:
    for wallet_id in command.wallet_ids():
        permit.require_asset(books.wallet(wallet_id).asset.code)
