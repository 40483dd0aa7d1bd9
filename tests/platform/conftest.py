"""What the platform's tests share: data folders that the server's own system user can reach, and real services."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.keys import BOOTSTRAP, KEY

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "DATABASE_MIGRATION_URL", "HOST", "PORT", "FLASK_APP")


def clean_environment() -> dict[str, str]:
    """The environment without what steers the service, so that a test alone says how it runs."""
    return {
        name: value for name, value in os.environ.items() if name not in OURS and not name.startswith(("WALLET_", "PG"))
    }


def python(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with these settings alone, to its end: a minute at most, ten for a module."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=clean_environment() | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=600 if arguments[0] == "-m" else 60,
    )


class Service:
    """A `python serve.py` of its own on a free port; its words are in `said()`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = int(settings.get("PORT") or free_port())
        self.settings = {
            "PORT": str(self.port),
            "WALLET_RATE_LIMIT": "",
            "WALLET_RATE_LIMIT_KEY": "",
            **BOOTSTRAP,
            **settings,
        }
        self.log = folder / f"service-{time.monotonic_ns()}.log"
        self.begun = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "serve.py"],
                cwd=REPOSITORY,
                env=clean_environment() | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self) -> float:
        """Return the seconds from the start until it said that it is ready."""
        deadline = time.monotonic() + 60
        while "Ctrl-C stops it" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return time.monotonic() - self.begun

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str = KEY
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Authorization": f"Bearer {key}"} | ({"Content-Type": "application/json"} if body else {})
        try:
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """The pids of the server's workers: the children that are still this program."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout.splitlines()
        return [int(line.split()[0]) for line in found if "serve.py" in line]

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sent)
        return self.process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: pytest closes its parents to everybody else, and as root the server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="dino-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Service]]:
    """Start services, on `data_dir` where nothing else is said; whatever still runs is stopped at the end."""
    started: list[Service] = []

    def start_one(**settings: str) -> Service:
        where = {} if "DATABASE_URL" in settings else {"WALLET_DATA_DIR": str(data_dir)}
        service = Service(data_dir.parent, **where | settings)
        started.append(service)
        return service

    yield start_one
    for service in started:
        service.stop()
