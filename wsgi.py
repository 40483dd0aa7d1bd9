"""The WSGI entry point: `gunicorn -c gunicorn.conf.py wsgi:app`, and what the `flask` command finds."""

from __future__ import annotations

from dataclasses import replace

from flask import Flask

from wallet_app import create_app, devdb
from wallet_app.config import ConfigurationError, Settings


def make_app() -> Flask:
    """Return the service on DATABASE_URL's database, else on that of the `make run` that runs on the data folder."""
    settings = Settings.from_env()
    if settings.database_url is None:
        found = devdb.running(settings.data_dir)
        if found is None:
            raise ConfigurationError(
                f"no database runs for {settings.data_dir.absolute()}: start `make run`, or set DATABASE_URL."
            )
        settings = replace(settings, database_url=found.service_url, migration_url=found.owner_url)
    return create_app(settings)


try:
    app = make_app()
except (ConfigurationError, devdb.DevDatabaseError) as problem:
    # One sentence, whether it is gunicorn that imports us or the `flask` command.
    raise SystemExit(f"Dino Wallet cannot start: {problem}") from None
