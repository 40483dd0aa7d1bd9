"""The secrets of a development machine: one file each, in the data folder's `secrets`, for nobody but us to read.

In production secrets are settings, and nothing here is used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

_FOLDER = "secrets"
_DATABASE = "database"


def folder_of(data_dir: Path) -> Path:
    """Return the folder, made with mode 0700 if it is new. Raises OSError.

    Where the database's passwords still are a file of that name, as they were at first, they move into it.
    """
    folder, moving = data_dir / _FOLDER, data_dir / f"{_FOLDER}.moving"
    if folder.is_file():
        folder.rename(moving)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if moving.exists():
        moving.rename(folder / _DATABASE)
    return folder


def database_file(data_dir: Path) -> Path:
    """Return where the database's passwords are, or would be; nothing is made or moved."""
    folder = data_dir / _FOLDER
    return folder if folder.is_file() else folder / _DATABASE


def read(data_dir: Path, name: str) -> str | None:
    """Return the secret, or None when there is none. Raises OSError."""
    try:
        return (data_dir / _FOLDER / name).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_or_make(data_dir: Path, name: str, make: Callable[[], str]) -> str:
    """Return the secret; if it is new, what `make` returns. Of two that make it at once one wins. Raises OSError."""
    folder = folder_of(data_dir)
    unfinished = folder / f".{name}.{secrets.token_hex(8)}"
    if (found := read(data_dir, name)) is not None:
        return found
    _write_private(unfinished, make())
    try:
        os.link(unfinished, folder / name)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    return (folder / name).read_text().strip()


def replace(data_dir: Path, name: str, value: str) -> None:
    """Keep another secret under the name; whoever reads sees the old one or the new one whole. Raises OSError."""
    folder = folder_of(data_dir)
    unfinished = folder / f".{name}.{secrets.token_hex(8)}"
    _write_private(unfinished, value)
    unfinished.rename(folder / name)


def _write_private(file: Path, value: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(value)
        out.flush()
        os.fsync(out.fileno())
