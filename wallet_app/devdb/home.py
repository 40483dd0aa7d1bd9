"""Where the embedded PostgreSQL lives and whose it is: its folder, the lock on it, and its system user."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

LOCK_SECONDS_MAX = 3.0
ROOT_HOMES = (Path("/var/lib/dino-wallet"), Path("/var/tmp/dino-wallet"))  # noqa: S108 (checked to be root's own)

Log = Callable[[str], None]


class DevDatabaseError(Exception):
    """The embedded PostgreSQL cannot serve; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class ServerUser:
    """The system user that the server runs as when we are root, which PostgreSQL refuses to be."""

    uid: int
    gid: int


def make_data_dir(data_dir: Path) -> None:
    """Make the folder, private to us; an existing one keeps its mode, because it may be anything."""
    # As root the server runs as another user, who has to pass through the folder, but not to list it.
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)


def lock(folder: Path) -> IO[str]:
    """Return the folder's lock file, locked until it is closed by us and by all that are forked from us.

    Raises DevDatabaseError, naming the holder, when it is not free within LOCK_SECONDS_MAX.
    """
    file = (folder / "lock").open("a+", encoding="utf-8")
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while not _try_lock(file):
        # The workers of a service that was killed need a moment to notice and end.
        if time.monotonic() > deadline:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise DevDatabaseError(
                f"Another Dino Wallet runs on {folder} (process {holder}): stop it or set WALLET_DATA_DIR."
            )
        time.sleep(0.1)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def unlock(locks: list[IO[str]]) -> None:
    """Give the locks up."""
    for file in locks:
        file.close()


def find_server_user(data_dir: Path) -> ServerUser | None:
    """Return None for ourselves; for root the cluster's owner, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return None
    cluster = data_dir / "postgres"
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return ServerUser(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(entry.pw_uid, entry.pw_gid)
    raise DevDatabaseError("PostgreSQL refuses to run as root and no user postgres exists: start as another user.")


def find_home(data_dir: Path, user: ServerUser | None, log: Log) -> Path:
    """Return the cluster's folder: the data folder, or where its link `postgres` leads.

    For root that folder may be closed to the server's user (root's home is); then a folder among the
    system's data is made, and the link is how the next start finds it.
    """
    known = find_known_home(data_dir)
    if known != data_dir and not known.is_dir():
        raise DevDatabaseError(
            f"{data_dir / 'postgres'} leads to {known}, which is gone: bring it back, or remove {data_dir}."
        )
    if known != data_dir or user is None or may_run(user, "test", "-x", data_dir):
        return known
    home = _make_root_home(user)
    log(f"PostgreSQL's user cannot reach {data_dir}, so its files are in {home}.")
    (data_dir / "postgres").symlink_to(home / "postgres")
    return home


def find_known_home(data_dir: Path) -> Path:
    """Return where the cluster is if there is one; nothing is made."""
    link = data_dir / "postgres"
    return link.readlink().parent if link.is_symlink() else data_dir


def as_user(user: ServerUser | None) -> dict[str, Any]:
    """Return the arguments that make `subprocess` run a program as `user`."""
    return {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}


def may_run(user: ServerUser | None, *command: str | Path) -> bool:
    """Whether `command` succeeds as `user`: only trying covers every kind of permission."""
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, check=False, **as_user(user))
    except OSError:
        return False
    return done.returncode == 0


def give(path: Path, user: ServerUser | None) -> None:
    """Make `user` the owner of `path`."""
    if user is not None:
        os.chown(path, user.uid, user.gid)


def remove(path: Path) -> None:
    """Remove a file or folder that may not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_root_home(user: ServerUser) -> Path:
    for parent in ROOT_HOMES:
        try:
            parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            if parent.is_symlink() or parent.stat().st_uid != 0:
                continue
            home = Path(tempfile.mkdtemp(dir=parent))
            home.chmod(0o711)
        except OSError:
            continue
        if may_run(user, "test", "-x", home):
            return home
        home.rmdir()
    raise DevDatabaseError(
        "PostgreSQL's user can reach neither the data folder nor /var/lib: "
        "set WALLET_DATA_DIR to a folder that every user may pass through."
    )
