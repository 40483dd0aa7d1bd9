"""The embedded server's roles: who owns the wallet's tables, who the service is, and their passwords."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import Connection, sql

from wallet_app import secret_files
from wallet_app.devdb.home import DevDatabaseError, remove

if TYPE_CHECKING:
    from wallet_app.devdb.server import Server

LOGIN_ROLES = ("postgres", "wallet_owner", "wallet_service")


def read_or_make_passwords(data_dir: Path) -> Mapping[str, str]:
    """Return each login role's password, from a file that only we may read; made for a new data folder."""
    secret_files.folder_of(data_dir)
    file = secret_files.database_file(data_dir)
    if not file.exists():
        if (data_dir / "postgres").exists():
            raise DevDatabaseError(f"{file} with the passwords is gone: bring it back, or remove {data_dir}.")
        secret_files.replace(data_dir, file.name, json.dumps({role: secrets.token_hex(24) for role in LOGIN_ROLES}))
    return read_passwords(data_dir)


def read_passwords(data_dir: Path) -> Mapping[str, str]:
    """Return each login role's password; DevDatabaseError when the file that holds them is damaged."""
    file = secret_files.database_file(data_dir)
    try:
        passwords: dict[str, str] = json.loads(file.read_text())
        return {role: passwords[role] for role in LOGIN_ROLES}
    except (ValueError, KeyError, TypeError):
        raise DevDatabaseError(f"{file} is damaged: bring it back, or remove {data_dir}.") from None


def write_private(file: Path, text: str) -> None:
    """Write `text` to a new file that only its owner may read, through to the disk."""
    remove(file)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def ensure_roles_and_database(server: Server) -> None:
    """Create what is missing of the roles and the database; an earlier start may have been killed midway."""
    with server.connect("postgres") as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'wallet_service'").rowcount:
            with connection.transaction():
                _create_roles(connection, server.passwords)
        if not connection.execute("SELECT FROM pg_database WHERE datname = 'wallet'").rowcount:
            connection.execute("CREATE DATABASE wallet OWNER wallet_owner")
    with server.connect("wallet") as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute("GRANT ALL ON SCHEMA public TO wallet_owner")
        connection.execute("GRANT USAGE ON SCHEMA public TO wallet_app")


def _create_roles(connection: Connection[tuple[Any, ...]], passwords: Mapping[str, str]) -> None:
    words = {role: sql.Literal(password) for role, password in passwords.items()}
    for statement in (
        "CREATE ROLE wallet_app NOLOGIN",
        "CREATE ROLE wallet_owner LOGIN CREATEDB PASSWORD {wallet_owner}",
        "CREATE ROLE wallet_service LOGIN PASSWORD {wallet_service} IN ROLE wallet_app",
        # On the role rather than on the service's connections, because these survive a pooler.
        "ALTER ROLE wallet_service SET role = 'wallet_app'",
        "ALTER ROLE wallet_service SET lock_timeout = '2s'",
        "ALTER ROLE wallet_service SET statement_timeout = '4s'",
        "ALTER ROLE wallet_service SET idle_in_transaction_session_timeout = '5s'",
        "ALTER ROLE wallet_service SET jit = 'off'",
    ):
        connection.execute(sql.SQL(statement).format(**words))
