"""The command line: `flask seed` and `flask wallet ...`."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    """Register the commands."""
