"""The application factory: which parts the service is made of, and nothing of what they do."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from wallet_app import (
    access,
    api,
    cli,
    cli_assets,
    cli_erase,
    cli_import,
    cli_keys,
    cli_operators,
    cli_rates,
    cli_report,
    cli_switches,
    cli_worker,
    config,
    console,
    db,
    extensions,
    service,
    web,
)
from wallet_app.application import Application
from wallet_app.config import Settings
from wallet_app.metrics import page

_ROOT = Path(__file__).resolve().parent.parent


def create_app(settings: Settings | None = None) -> Flask:
    """Return the service, ready to serve; raise `config.ConfigurationError` on a setting that is missing or wrong."""
    app = Application(__name__, static_folder=_ROOT / "static", template_folder=_ROOT / "templates")
    settings = settings or Settings.from_env()
    settings = config.init_app(app, settings)
    db.init_app(app)
    with app.app_context():
        service.use_group_commit(db.db.engine) if settings.group_commit else None
        access.make_gate(app, db.db.engine, settings)
    web.init_app(app)
    page.init_app(app)
    extensions.init_app(app)
    access.init_app(app)
    api.init_app(app)
    console.init_app(app)
    cli.init_app(app)
    cli_keys.init_app(app)
    cli_erase.init_app(app)
    cli_assets.init_app(app)
    cli_rates.init_app(app)
    cli_report.init_app(app)
    cli_switches.init_app(app)
    cli_import.init_app(app)
    cli_operators.init_app(app)
    cli_worker.init_app(app)
    access.require_declarations(app)
    return app
