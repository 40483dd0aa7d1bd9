"""The JSON face: each resource parses, makes one service call and presents."""

from __future__ import annotations

from flask import Flask

from wallet_app.api import (
    assets,
    batches,
    exchanges,
    holds,
    keys,
    lots,
    movements,
    openapi,
    purchases,
    rates,
    reports,
    reversals,
    states,
    switches,
    transactions,
    transfers,
    users,
    wallets,
)
from wallet_app.api.operations import blueprint

__all__ = [
    "assets",
    "batches",
    "exchanges",
    "holds",
    "init_app",
    "keys",
    "lots",
    "movements",
    "openapi",
    "purchases",
    "rates",
    "reports",
    "reversals",
    "states",
    "switches",
    "transactions",
    "transfers",
    "users",
    "wallets",
]


def init_app(app: Flask) -> None:
    """Register the API's resources."""
    app.register_blueprint(blueprint)
