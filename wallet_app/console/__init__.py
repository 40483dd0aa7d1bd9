"""The HTML face, for people: each screen parses, makes one service call and shows. It works without JavaScript."""

from __future__ import annotations

from flask import Flask

from wallet_app.console import (
    account,
    assets,
    audit,
    confirm,
    errors,
    explain,
    home,
    integrity,
    keys,
    operators,
    passkeys,
    patterns,
    screens,
    set_up,
    settings,
    sign_in,
    switches,
    transactions,
    users,
    wallets,
    words,
)

__all__ = [
    "account",
    "assets",
    "audit",
    "confirm",
    "explain",
    "home",
    "init_app",
    "integrity",
    "keys",
    "operators",
    "passkeys",
    "patterns",
    "set_up",
    "settings",
    "sign_in",
    "switches",
    "transactions",
    "users",
    "wallets",
]


def init_app(app: Flask) -> None:
    """Register the console's screens, and its own look for errors."""
    app.register_blueprint(screens.blueprint)
    for name, said in words.FILTERS.items():
        app.add_template_filter(said, name)
    app.extensions["wallet_error_page"] = errors.page_of
