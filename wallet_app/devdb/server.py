"""One PostgreSQL cluster: made, started, recognised after a crash and stopped; where it lives is not its business."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psycopg

from wallet_app.devdb.home import DevDatabaseError, Log, ServerUser, as_user, give, remove
from wallet_app.devdb.memory import shared_buffers
from wallet_app.devdb.programs import environment
from wallet_app.devdb.roles import write_private

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
LOG_BYTES_MAX = 10 * 1024 * 1024
PORT = 5432  # A part of the socket's name: the server does not listen on TCP.
# A unix socket's path has at most 103 bytes on a Mac and 107 on Linux; PostgreSQL adds "/.s.PGSQL.5432.lock".
SOCKET_FOLDER_BYTES_MAX = 80

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # After each checkpoint the first change of a page writes it to the log whole: with 1 GB, a large ledger under load
    # would have a checkpoint every half minute, and would write whole pages all the time.
    "max_wal_size": "4GB",
    "max_connections": "100",
    "autovacuum": "on",
    "password_encryption": "scram-sha-256",
    "log_lock_waits": "on",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Server:
    """The cluster in `home`, with the programs, the system user and the passwords that go with it."""

    home: Path
    programs: Path
    user: ServerUser | None
    passwords: Mapping[str, str]

    @property
    def cluster(self) -> Path:
        """The data directory; it bears this name only once it is complete."""
        return self.home / "postgres"

    @property
    def log_file(self) -> Path:
        """What the server and its programs say."""
        return self.home / "postgres.log"

    @property
    def socket_folder(self) -> Path | None:
        """Where a server on the cluster says that it listens, whether it lives or not."""
        try:
            return Path((self.cluster / "postmaster.pid").read_text().split("\n")[4])
        except (OSError, IndexError):
            return None

    def stop_what_was_left_running(self, log: Log) -> None:
        """Stop the server that a killed process left behind, once a real connection has shown it to be ours.

        Its pid would prove nothing: it may be another process by now. Raises DevDatabaseError.
        """
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while _somebody_listens(self.socket_folder):
            served = self._served_cluster()
            if served == self.cluster.resolve():
                log("Stopping the PostgreSQL that the last run left behind.")
                self._run("pg_ctl", "stop", f"--pgdata={self.cluster}", "--mode=fast", "--wait", "--timeout=60")
                return
            if served is not None:  # A copied data folder brings the note about the first one's server along.
                return
            if time.monotonic() > deadline:
                raise DevDatabaseError(f"A PostgreSQL that lets nobody in runs on {self.cluster}: stop it first.")
            time.sleep(0.1)

    def make_cluster(self, log: Log) -> None:
        """Make the cluster where there is none; what a killed attempt left behind is thrown away."""
        unfinished, password_file = self.home / "postgres.new", self.home / "postgres.new.password"
        remove(unfinished)
        remove(password_file)
        if self.cluster.exists():
            return
        log(f"Making a new PostgreSQL in {self.home}.")
        self._make_folder(unfinished)
        write_private(password_file, self.passwords["postgres"])
        give(password_file, self.user)
        self._run("initdb", f"--pgdata={unfinished}", f"--pwfile={password_file}", *self._initdb_options())
        remove(password_file)
        unfinished.rename(self.cluster)
        _sync(self.home)

    def start(self, log: Log) -> subprocess.Popen[bytes]:
        """Return the server's process once a real connection answers; recovering may take its time.

        Raises DevDatabaseError.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        folder = self._make_socket_folder()
        while True:
            log_start = _begin_log(self.log_file)
            process = self._spawn(folder)
            try:
                if self._comes_up(process, deadline, log):
                    return process
            except BaseException:
                self.stop(process)
                raise
            said = self.log_file.read_bytes()[log_start:].decode(errors="replace")
            if not _says_locked_out(said) or time.monotonic() > deadline:
                raise DevDatabaseError(f"PostgreSQL did not start ({_last_fatal(said)}): see {self.log_file}.")
            self._disown_the_pid_of_a_stranger()
            time.sleep(0.2)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Shut down fast; a server that takes over STOP_SECONDS_MAX at once, to recover at its next start."""
        folder = self.socket_folder
        for sent in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(sent)
            try:
                process.wait(STOP_SECONDS_MAX)
                break
            except subprocess.TimeoutExpired:
                continue
        if folder is not None and folder != self.home / "socket":
            remove(folder)

    def connect(self, dbname: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a superuser's connection that commits each statement. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host=str(self.socket_folder),
            port=PORT,
            user="postgres",
            password=self.passwords["postgres"],
            dbname=dbname,
            connect_timeout=5,
            autocommit=True,
        )

    def answers(self, dbname: str) -> bool:
        """Whether a real login reaches a server, and reaches the one that serves this very cluster."""
        return _somebody_listens(self.socket_folder) and self._served_cluster(dbname) == self.cluster.resolve()

    def url(self, role: str, dbname: str) -> str:
        """Return the SQLAlchemy URL by which `role` reaches the running server."""
        folder = quote(str(self.socket_folder), safe="")
        return f"postgresql+psycopg://{role}:{self.passwords[role]}@/{dbname}?host={folder}&port={PORT}"

    def _served_cluster(self, dbname: str = "postgres") -> Path | None:
        """Return the data directory of the server that answers, or None when it does not let us in (yet)."""
        try:
            with self.connect(dbname) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.Error:
            return None
        return Path(row[0]).resolve() if row else None

    def _comes_up(self, process: subprocess.Popen[bytes], deadline: float, log: Log) -> bool:
        """Return True once the server answers, False when it has ended; DevDatabaseError at the deadline."""
        patience = time.monotonic() + 5
        while process.poll() is None:
            if self.answers("postgres"):
                return True
            if time.monotonic() > deadline:
                raise DevDatabaseError(f"PostgreSQL does not answer: see {self.log_file}.")
            if time.monotonic() > patience:
                log("PostgreSQL is still starting; it may be recovering from a crash.")
                patience = deadline
            time.sleep(0.02)
        return False

    def _disown_the_pid_of_a_stranger(self) -> None:
        """Make a stale postmaster.pid harmless when its number now belongs to another of our user's programs.

        PostgreSQL would refuse to start for as long as that program runs, but takes its own parent's number
        for stale, so that is what we write. The rest of the file must stay: it names the shared memory that
        tells PostgreSQL whether children of the dead server are still at work.
        """
        note = self.cluster / "postmaster.pid"
        try:
            pid, rest = note.read_text().split("\n", 1)
            command = _command_line(int(pid))
        except (OSError, ValueError):
            return
        if command is not None and str(self.cluster) not in command:
            with note.open("r+") as file:
                file.truncate()
                file.write(f"{os.getpid()}\n{rest}")

    def _make_socket_folder(self) -> Path:
        folder = self.home / "socket"
        # What a killed server left there names a pid too, and nobody listens any more.
        remove(folder)
        # libpq takes a comma for the end of a host's name.
        if len(os.fsencode(folder)) > SOCKET_FOLDER_BYTES_MAX or "," in str(folder):
            folder = Path(tempfile.mkdtemp(prefix="dino-wallet-", dir="/tmp"))
        self._make_folder(folder)
        return folder

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        give(folder, self.user)

    def _spawn(self, socket_folder: Path) -> subprocess.Popen[bytes]:
        quoted = '"' + str(socket_folder).replace('"', '""') + '"'
        settings = SETTINGS | {"unix_socket_directories": quoted, "shared_buffers": shared_buffers()}
        with _open_log(self.log_file) as log_file:
            return subprocess.Popen(
                [
                    self.programs / "postgres",
                    "-D",
                    self.cluster,
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(),
                # Ctrl-C at the terminal is for the service, which needs the database to finish its requests.
                start_new_session=True,
                **as_user(self.user),
            )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=environment(),
            check=False,
            **as_user(self.user),
        )
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-500:]
            raise DevDatabaseError(f"PostgreSQL's {program} failed in {self.home}: {said}")

    def _initdb_options(self) -> list[str]:
        version = subprocess.run([self.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        # The built-in collation is the same on every machine, but PostgreSQL 17 is the first to have it.
        builtin = int(re.findall(r"\d+", version.stdout)[0]) >= 17
        return [
            "--username=postgres",
            "--auth=scram-sha-256",
            "--data-checksums",
            "--encoding=UTF8",
            *(
                ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
                if builtin
                else ("--locale=C.UTF-8",)
            ),
        ]


def _somebody_listens(folder: Path | None) -> bool:
    if folder is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / f".s.PGSQL.{PORT}"))
        except OSError:
            return False
    return True


def _command_line(pid: int) -> str | None:
    """Return the command of a process, or None when there is no way to know it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        pass
    try:
        done = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def _open_log(file: Path) -> IO[bytes]:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")


def _begin_log(file: Path) -> int:
    """Return the byte at which the next start's lines begin; an overlong log is put aside first."""
    with _open_log(file) as log:
        size = log.seek(0, os.SEEK_END)
    if size <= LOG_BYTES_MAX:
        return size
    file.rename(file.with_suffix(".log.old"))
    return 0


def _says_locked_out(said: str) -> bool:
    """Whether a former server is to blame, one that is ending or of which only the pid file is left."""
    return "postmaster.pid" in said or "shared memory block" in said


def _last_fatal(said: str) -> str:
    lines = [line for line in said.splitlines() if "FATAL" in line or "PANIC" in line or "error" in line]
    return lines[-1].strip() if lines else "it said nothing"


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
