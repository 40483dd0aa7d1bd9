"""What a credential allows: scopes, and limits on amounts and assets; pure. What is not allowed is forbidden."""

from __future__ import annotations

from dataclasses import dataclass

from wallet_app.errors import AmountNotAllowedError, AssetNotAllowedError, MissingScopeError

SCOPES = {
    "wallets:read": "Read wallets, balances and entries.",
    "wallets:write": "Open wallets.",
    "wallets:topup": "Top up wallets with paid credit.",
    "wallets:bonus": "Grant bonuses.",
    "wallets:spend": "Spend from wallets.",
    "wallets:transfer": "Move credit between wallets.",
    "wallets:freeze": "Freeze wallets, and unfreeze them.",
    "wallets:close": "Close wallets.",
    "holds:write": "Place, capture and release holds.",
    "lots:write": "Extend lots, and revoke single grants.",
    "transactions:read": "Read transactions.",
    "transactions:reverse": "Reverse transactions.",
    "assets:read": "List assets.",
    "reports:read": "Read what all users have of an asset, and how it came about.",
    "users:read": "Read users.",
    "users:write": "Make users.",
    "users:tokens": "Make tokens that speak for a user.",
    "metrics:read": "Read the service's figures.",
    "admin:keys": "Make and revoke keys.",
    "admin:switches": "Stop users, assets or everything, and let them go again.",
}
"""Every scope, `resource:action`, and what it is for."""


TOKEN_SCOPES = frozenset({"assets:read", "transactions:read", "users:read", "wallets:read", "wallets:spend"})
"""What a user's token may be given: to look at what is the user's, and to spend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What a credential allows. `amount_max` is in the smallest unit, of each command; `assets` are codes.

    With a `user_id` it reaches that user and nobody else: what others have does not exist for it. None is no limit.
    """

    scopes: frozenset[str]
    amount_max: int | None = None
    assets: frozenset[str] | None = None
    user_id: int | None = None

    def require(self, scope: str | None) -> None:
        """Raise MissingScopeError unless the scope is among those given; None is a scope that nobody has."""
        if scope not in self.scopes:
            raise MissingScopeError(scope)

    def require_amount(self, amount: int) -> None:
        """Raise AmountNotAllowedError for more than the limit."""
        if self.amount_max is not None and amount > self.amount_max:
            raise AmountNotAllowedError(amount=amount, amount_max=self.amount_max)

    def require_asset(self, code: str) -> None:
        """Raise AssetNotAllowedError for an asset that is not among those given, if any are."""
        if self.assets is not None and code not in self.assets:
            raise AssetNotAllowedError(code)


def reaches(permit: Permit | None, user_id: int) -> bool:
    """Tell whether what this user has exists for the permit; for None, which is the service itself, everything does."""
    return permit is None or permit.user_id is None or permit.user_id == user_id


NOTHING = Permit(scopes=frozenset())
"""Allows nothing."""
