"""The service as its users run it: gunicorn with gunicorn.conf.py, in processes and with a port of its own."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.database import Database
from bench.keys import HEADERS
from bench.machine import REPOSITORY
from bench.usage import Tree

START_SECONDS_MAX = 60
_METRIC = re.compile(r"^(wallet_group_commit_\w+?)(\{[^}]*\})? ([-+0-9.eE]+)", re.MULTILINE)


GUNICORN = ("gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")


class Service:
    """A running service. Its log goes to a file, as it would in earnest; the file is emptied between cells.

    `module` is what serves, with its arguments, in which PORT stands for the port.
    """

    def __init__(self, database: Database, folder: Path, *, module: Sequence[str] = GUNICORN, **settings: str) -> None:
        self.port = _free_port()
        self.log = folder / f"service-{self.port}.log"
        self._errors = folder / f"service-{self.port}.errors"
        environment = os.environ | database.environment() | settings
        environment |= {"HOST": "127.0.0.1", "PORT": str(self.port)}
        with self.log.open("ab") as log, self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *(part.replace("PORT", str(self.port)) for part in module)],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
            )
        self.tree = Tree(self._process.pid)

    def wait_until_ready(self) -> None:
        """Return once /health says so."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.get("/health")[0] != http.HTTPStatus.OK:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The service does not start: {self._errors.read_text()}{self.log.read_text()}")
            time.sleep(0.1)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET; status 0 when there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=HEADERS)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def group_commit_figures(self) -> dict[str, float]:
        """Return the lanes' figures from /metrics, each summed over its labels; nothing where there are none."""
        status, body = self.get("/metrics")
        figures: dict[str, float] = {}
        if status == http.HTTPStatus.OK:
            for name, labels, value in _METRIC.findall(body.decode()):
                if "le=" not in labels:
                    figures[name] = figures.get(name, 0.0) + float(value)
        return figures

    def empty_log(self) -> None:
        """Empty the log file, which is written by appending."""
        os.truncate(self.log, 0)

    def stop(self) -> None:
        """Ask it to end and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def serve(database: Database, folder: Path, *, module: Sequence[str] = GUNICORN, **settings: str) -> Iterator[Service]:
    """Yield the service on the database, ready; it is stopped afterwards."""
    service = Service(database, folder, module=module, **settings)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
