"""Runs migrations as the owner of the tables, in one transaction, never waiting long for a lock."""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import create_engine, pool, text

from wallet_app import models  # noqa: F401 - fills the metadata
from wallet_app.db import Base

_LOCK = 7_402_016
"""Advisory lock: of two processes that migrate at once, the second waits and then finds nothing to do."""


def _run() -> None:
    settings = current_app.extensions["wallet_settings"]
    if settings.migration_url is None and settings.db_pooler != "none":
        raise SystemExit("A migration goes past the pooler: set DATABASE_MIGRATION_URL to the server itself.")
    # An engine of its own: the service's acts as the application role, which owns nothing.
    engine = create_engine(settings.migration_url or settings.database_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        # As the login, which owns the tables, even if its own settings let it act as the application.
        connection.execute(text("SET ROLE NONE"))
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
        connection.execute(text("SET lock_timeout = '2s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            **current_app.extensions["migrate"].configure_args,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations need a database: they read which roles exist.")
_run()
