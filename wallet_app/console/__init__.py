"""The HTML face, for people: each screen parses, makes one service call and shows. It works without JavaScript."""

from __future__ import annotations

from flask import Flask

from wallet_app.console import account, confirm, errors, home, passkeys, screens, set_up, sign_in, words

__all__ = ["account", "confirm", "home", "init_app", "passkeys", "set_up", "sign_in"]


def init_app(app: Flask) -> None:
    """Register the console's screens, and its own look for errors."""
    app.register_blueprint(screens.blueprint)
    app.add_template_filter(words.browser)
    app.extensions["wallet_error_page"] = errors.page_of
