"""The Flask extensions that the service uses, made here and bound to the application in one place."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_migrate import Migrate

from wallet_app.config import Settings
from wallet_app.db import db

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

migrate = Migrate()  # type: ignore[no-untyped-call]
limiter = Limiter(key_func=get_remote_address)


def init_app(app: Flask) -> None:
    """Bind the extensions to the application."""
    settings: Settings = app.extensions["wallet_settings"]
    migrate.init_app(app, db, directory=str(MIGRATIONS))  # type: ignore[no-untyped-call]
    _limit_requests(app, settings)
    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            allow_headers=["Content-Type", "Authorization", "Idempotency-Key", "If-Match"],
            expose_headers=["X-Request-Id", "Idempotent-Replayed", "Retry-After"],
            max_age=600,
        )


def _limit_requests(app: Flask, settings: Settings) -> None:
    app.config["RATELIMIT_ENABLED"] = bool(settings.rate_limit)
    app.config["RATELIMIT_STORAGE_URI"] = settings.rate_limit_storage
    app.config["RATELIMIT_HEADERS_ENABLED"] = True
    app.config["RATELIMIT_STRATEGY"] = "fixed-window"
    # One budget for the whole API, not one per route.
    app.config["RATELIMIT_APPLICATION"] = settings.rate_limit or None
    limiter.init_app(app)
