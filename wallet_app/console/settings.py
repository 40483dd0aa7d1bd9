"""The settings of the process that answers, and of its connections: to be read, and of a secret only whether it is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from flask import Response

from wallet_app import service, settings_table
from wallet_app.config import current_settings
from wallet_app.console import pages
from wallet_app.console.screens import screen

_PACKAGES = ("flask", "SQLAlchemy", "psycopg", "gevent")


@screen("GET", "/settings", permission="settings:read")
def settings() -> Response:
    """Show them."""
    return pages.page(
        "settings.html",
        settings=settings_table.described(current_settings()),
        server=service.get_server(),
        versions={"Python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
