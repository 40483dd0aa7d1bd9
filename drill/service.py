"""The service as `make run` starts it, its processes, and how it comes back after whatever ended it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from drill.asking import BROKEN_OFF, OK, connect, get
from drill.keys import KEY, SETTING
from wallet_app.devdb.home import find_known_home

REPOSITORY = Path(__file__).resolve().parent.parent
WORKERS = 2
UP_SECONDS_MAX = 180.0
"""How long anything may take to be as it should: machines can be slow, and the drill is about money, not about time."""


class DrillError(Exception):
    """The drill cannot go on, which is a failure too."""


class Process(NamedTuple):
    """A process of this machine."""

    pid: int
    parent: int
    command: str


class Service:
    """The service on a data folder. It keeps its port when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = _free_port()
        self._folder = folder
        self._starts = 0
        self._is_starting = True
        self.process = self._spawn()

    def wait_until_up(self) -> None:
        """Return once it answers and has all its workers; DrillError if it has ended by itself.

        A start may come too early, while what was killed still holds the port or the data folder; then it is repeated.
        """
        deadline = time.monotonic() + UP_SECONDS_MAX
        while not (self._is_healthy() and len(self.workers()) == WORKERS):
            if time.monotonic() > deadline:
                raise DrillError(f"The service does not come up: {self._last_words()}")
            if self.process.poll() is not None:
                if not self._is_starting:
                    raise DrillError(f"The service ended by itself: {self._last_words()}")
                self.process = self._spawn()
            time.sleep(0.05)
        self._is_starting = False

    def wait_until_ended(self) -> int:
        """Return its exit code once it has ended on its own."""
        try:
            return self.process.wait(UP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise DrillError(f"The service does not end: {self._last_words()}") from None

    def start_again(self) -> None:
        """Start it, and do not wait."""
        self.process = self._spawn()

    def stop(self) -> None:
        """End what is left of it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self._kill_the_rest()
        # A killed service leaves its PostgreSQL behind, which the next start would have stopped.
        for pid in [one.pid for one in _processes() if self._is_postmaster(one)]:
            os.kill(pid, signal.SIGINT)
            wait_until(lambda pid=pid: not is_alive(pid), "PostgreSQL ends")  # type: ignore[misc]

    def flask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands on its data."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *command],
            cwd=REPOSITORY,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def workers(self) -> list[int]:
        """Its worker processes."""
        return [one.pid for one in children_of(self.process.pid) if "serve.py" in one.command]

    def postmaster(self) -> int:
        """The parent of PostgreSQL's processes."""
        return next(one.pid for one in children_of(self.process.pid) if self._is_postmaster(one))

    def backends(self) -> list[Process]:
        """PostgreSQL's processes that serve the service's connections."""
        return [one for one in children_of(self.postmaster()) if "wallet_service" in one.command]

    def errors_logged(self) -> dict[str, int]:
        """Count its log's lines of level error by their event, and its tracebacks, over all its starts."""
        counts: dict[str, int] = {}
        for file in self._folder.glob("service-*.log"):
            with file.open(errors="replace") as lines:
                for line in lines:
                    if '"level":"error"' in line or line.startswith("Traceback"):
                        event = line.partition('"event":"')[2].partition('"')[0] or "traceback"
                        counts[event] = counts.get(event, 0) + 1
        return counts

    def _is_postmaster(self, one: Process) -> bool:
        return f"-D {find_known_home(self.data_dir) / 'postgres'}" in one.command

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._starts += 1
        self._is_starting = True
        with (self._folder / f"service-{self._starts:04}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "serve.py"],
                cwd=REPOSITORY,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C ends the drill, which ends the service in its own way.
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        ours = ("DATABASE_URL", "DATABASE_MIGRATION_URL", "HOST", "PORT", "FLASK_APP")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ours and not name.startswith(("WALLET_", "PG"))
        }
        return kept | {
            "PORT": str(self.port),
            "WALLET_DATA_DIR": str(self.data_dir),
            "WALLET_RATE_LIMIT": "",
            "WALLET_RATE_LIMIT_KEY": "",
            SETTING: KEY,
            "WALLET_WORKERS": str(WORKERS),
        }

    def _is_healthy(self) -> bool:
        connection = connect(self.port)
        try:
            return get(connection, "/health")[0] == OK
        except BROKEN_OFF:
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        return (self._folder / f"service-{self._starts:04}.log").read_text(errors="replace")[-1000:]

    def _kill_the_rest(self) -> None:
        for pid in (*self.workers(), self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def children_of(pid: int) -> list[Process]:
    """Return the living children of a process."""
    return [one for one in _processes() if one.parent == pid]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected does not."""
    return any(one.pid == pid for one in _processes())


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; DrillError if it never does."""
    deadline = time.monotonic() + UP_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise DrillError(f"Waited in vain until {what}.")
        time.sleep(0.05)


def _processes() -> list[Process]:
    said = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    ).stdout
    split = (line.split(None, 3) for line in said.splitlines())
    return [Process(int(pid), int(ppid), command) for pid, ppid, state, command in split if not state.startswith("Z")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
