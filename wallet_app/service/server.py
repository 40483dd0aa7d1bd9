"""What the database's server is, and which of its settings the service's connections have."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from wallet_app.db import reads


@dataclass(frozen=True, slots=True)
class ServerSetting:
    """A setting of the server as this service's connections have it; `source` is PostgreSQL's word for where from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ServerView:
    """The server, and as whom the service acts there: `login` signs in, `role` is what it acts as."""

    version: str
    login: str
    role: str
    migration: str
    settings: list[ServerSetting]


@reads
def get_server(connection: Connection) -> ServerView:
    """Return it."""
    row = connection.execute(_SERVER).one()
    settings = [ServerSetting(*one) for one in connection.execute(_SETTINGS)]
    return ServerView(row.version, row.login, row.role, row.migration, settings)


_SERVER = text("""
SELECT current_setting('server_version') AS version, session_user AS login, current_user AS role,
       (SELECT version_num FROM alembic_version) AS migration
""")

_SETTINGS = text("""
SELECT name, current_setting(name), source
  FROM pg_settings
 WHERE name IN ('lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'synchronous_commit',
                'synchronous_standby_names', 'fsync', 'full_page_writes', 'default_transaction_isolation',
                'deadlock_timeout', 'jit', 'max_connections', 'ssl', 'TimeZone', 'wal_level')
 ORDER BY name
""")
