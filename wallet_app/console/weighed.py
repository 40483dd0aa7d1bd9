"""How what was weighed is said: the wallets before and after, and what else is to be minded; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wallet_app.console import words
from wallet_app.service import Effect, Operation, Weighed

Changes = tuple[Mapping[str, str], Mapping[str, str]]
"""What changes, by what it is about: now, and afterwards."""


def balances(_: object, __: Operation, found: Weighed) -> Changes:
    """Return the balances that the operation would leave."""
    return changes_of(found.effects)


def changes_of(effects: Sequence[Effect]) -> Changes:
    """Return the wallets' balances before and after; what they hold and owe where there is anything of it."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for one in effects:
        who = f", {words.isolated(one.user_name)}" if one.user_name else ""
        whose = f"Wallet {one.wallet_id}{who}: " if len(effects) > 1 else ""
        lines = (
            ("balance", one.balance_before, one.balance_after),
            ("held", one.held_before, one.held_after),
            ("owed", one.owed_before, one.owed_after),
        )
        for name, now, then in lines:
            if name == "balance" or now or then:
                told = whose + name if whose else name.capitalize()
                before[told], after[told] = _money(now, one), _money(then, one)
    return before, after


def _money(amount: int, effect: Effect) -> str:
    return f"{words.amount(amount, effect.asset_scale)} {effect.asset_code}"
