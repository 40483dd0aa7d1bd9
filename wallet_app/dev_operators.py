"""The operators of a development machine: one for each role, whose passwords lie in the data folder's secrets."""

from __future__ import annotations

import secrets
from pathlib import Path

from wallet_app import secret_files, service

SECRET = "operators"  # noqa: S105 - the name of the file
_DOMAIN = "localhost"


def address(role: str) -> str:
    """Return the role's operator's e-mail address."""
    return f"{role}@{_DOMAIN}"


def ensure(data_dir: Path) -> None:
    """Make the operators that are missing. Needs an application context; raises OSError."""
    known = passwords(data_dir)
    for role in service.ROLES:
        service.ensure_development_operator(
            email=address(role), name=f"{role.capitalize()} of this machine", role=role, password=known[address(role)]
        )


def passwords(data_dir: Path) -> dict[str, str]:
    """Return each operator's password, made at the first time. Raises OSError."""
    text = secret_files.read_or_make(data_dir, SECRET, _make)
    return dict(line.split() for line in text.splitlines() if line.strip())


def _make() -> str:
    return "".join(f"{address(role)} {secrets.token_urlsafe(15)}\n" for role in service.ROLES)
