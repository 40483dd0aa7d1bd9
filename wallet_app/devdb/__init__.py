"""The embedded PostgreSQL for a machine that has none: one server per data folder, never on TCP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from wallet_app.devdb.home import (
    DevDatabaseError,
    Log,
    find_home,
    find_known_home,
    find_server_user,
    lock,
    make_data_dir,
    unlock,
)
from wallet_app.devdb.programs import find_programs
from wallet_app.devdb.roles import ensure_roles_and_database, read_or_make_passwords, read_passwords
from wallet_app.devdb.server import Server
from wallet_app.secret_files import database_file

__all__ = ["DevDatabase", "DevDatabaseError", "Running", "running", "start"]


def start(data_dir: Path, *, bin_dir: Path | None = None, log: Log = print) -> DevDatabase:
    """Start the server of `data_dir`, made anew where there is none, and return once it answers.

    A server that a killed process left running on the folder is stopped first. `bin_dir` holds the programs
    of another PostgreSQL (15 or later) instead of the wheel's. Raises DevDatabaseError.
    """
    data_dir = _absolute(data_dir)
    with _errors_of(data_dir):
        return _start(data_dir, bin_dir, log)


def running(data_dir: Path) -> Running | None:
    """Return how to reach the server that another process runs for `data_dir` now, or None when none answers.

    A login tells, never a pid. Nothing is made or locked. Raises DevDatabaseError when the folder is not ours.
    """
    data_dir = _absolute(data_dir)
    with _errors_of(data_dir):
        if not database_file(data_dir).exists():
            return None
        server = Server(find_known_home(data_dir), Path(), None, read_passwords(data_dir))
        if not server.answers("wallet"):
            return None
        return Running(server.url("wallet_service", "wallet"), server.url("wallet_owner", "wallet"))


@dataclass(frozen=True)
class Running:
    """The URLs of a running server's database: the service's, and the one that may change tables."""

    service_url: str
    owner_url: str


class DevDatabase:
    """A running server: where it answers, whether it lives, and how to stop it. Also a context manager."""

    def __init__(self, server: Server, process: subprocess.Popen[bytes], locks: list[IO[str]]) -> None:
        self.process = process
        self.home = server.home
        self.log_file = server.log_file
        self.service_url = server.url("wallet_service", "wallet")
        self.owner_url = server.url("wallet_owner", "wallet")
        self.superuser_url = server.url("postgres", "wallet")
        self._server = server
        self._locks = locks
        self._started_by = os.getpid()

    def alive(self) -> bool:
        """Whether the server process lives; only the process that started it can tell."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Shut the server down fast, which loses nothing that was committed, and wait until it is gone.

        Does nothing in a forked child, which unwinds the same stack as its parent when it exits.
        """
        if os.getpid() == self._started_by:
            self._server.stop(self.process)
            unlock(self._locks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _absolute(data_dir: Path) -> Path:
    return Path(os.path.abspath(data_dir))  # noqa: PTH100 (resolve() would follow links, which users may re-point)


@contextmanager
def _errors_of(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DevDatabaseError(
            f"{problem.filename or data_dir} cannot be used for the data ({problem.strerror}): "
            "start as the user that it belongs to, or set WALLET_DATA_DIR."
        ) from problem


def _start(data_dir: Path, bin_dir: Path | None, log: Log) -> DevDatabase:
    make_data_dir(data_dir)
    locks = [lock(data_dir)]
    try:
        user = find_server_user(data_dir)
        home = find_home(data_dir, user, log)
        if home != data_dir:  # A copy of the data folder leads to the same home, so the home needs a lock too.
            locks.append(lock(home))
        programs = find_programs(home, bin_dir, user)
        server = Server(home, programs, user, read_or_make_passwords(data_dir))
        server.stop_what_was_left_running(log)
        server.make_cluster(log)
        return _serve(server, locks, log)
    except BaseException:
        unlock(locks)
        raise


def _serve(server: Server, locks: list[IO[str]], log: Log) -> DevDatabase:
    process = server.start(log)
    try:
        ensure_roles_and_database(server)
    except BaseException:
        server.stop(process)
        raise
    return DevDatabase(server, process, locks)
