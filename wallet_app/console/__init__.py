"""The HTML face, for people: each screen parses, makes one service call and shows. It works without JavaScript."""

from __future__ import annotations

from flask import Flask

from wallet_app.console import (
    account,
    adjust,
    approvals,
    assets,
    audit,
    bulk,
    bulk_acts,
    bulk_upload,
    confirm,
    decisions,
    errors,
    explain,
    explorer,
    home,
    imports,
    integrity,
    keys,
    operators,
    passkeys,
    patterns,
    reasons,
    release,
    reports,
    reverse,
    screens,
    search,
    set_up,
    settings,
    sign_in,
    states,
    switches,
    system_wallets,
    transactions,
    transfer,
    users,
    wallets,
    words,
)

__all__ = [
    "account",
    "adjust",
    "approvals",
    "assets",
    "bulk",
    "bulk_acts",
    "bulk_upload",
    "audit",
    "confirm",
    "decisions",
    "explain",
    "explorer",
    "home",
    "imports",
    "init_app",
    "integrity",
    "keys",
    "operators",
    "passkeys",
    "patterns",
    "reasons",
    "release",
    "reports",
    "reverse",
    "search",
    "set_up",
    "settings",
    "sign_in",
    "states",
    "transfer",
    "switches",
    "system_wallets",
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
