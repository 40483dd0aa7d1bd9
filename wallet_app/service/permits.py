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
    "holds:write": "Place, capture and release holds.",
    "transactions:read": "Read transactions.",
    "transactions:reverse": "Reverse transactions.",
    "assets:read": "List assets.",
    "users:read": "Read users.",
    "users:write": "Make users.",
    "users:tokens": "Make tokens that speak for a user.",
    "metrics:read": "Read the service's figures.",
    "admin:keys": "Make and revoke keys.",
}
"""Every scope, `resource:action`, and what it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What a credential allows. `amount_max` is in the smallest unit, of each command; `assets` are codes.

    None is no limit.
    """

    scopes: frozenset[str]
    amount_max: int | None = None
    assets: frozenset[str] | None = None

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


NOTHING = Permit(scopes=frozenset())
"""Allows nothing."""
