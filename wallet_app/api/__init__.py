"""The JSON face: each resource parses, makes one service call and presents."""

from __future__ import annotations

from flask import Blueprint, Flask

blueprint = Blueprint("api", __name__)


def init_app(app: Flask) -> None:
    """Register the API's resources."""
    app.register_blueprint(blueprint)
