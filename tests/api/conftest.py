"""Applications for the API's tests: with other settings, one that many tests share, and one in a process of its own."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL

from tests.api import clock
from tests.conftest import run_sql, settings_for
from tests.keys import ENVIRONMENT, client_of
from wallet_app import create_app
from wallet_app.db import close_connections

ROOT = Path(__file__).parents[2]
MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def client_with(database: URL) -> Iterator[MakeClient]:
    """Make a client of the service with other settings, on this test's database."""
    made: list[Flask] = []

    def make(**changes: object) -> FlaskClient:
        made.append(create_app(replace(settings_for(database), **changes)))
        return client_of(made[-1])

    yield make
    for app in made:
        with app.app_context():
            close_connections()


@pytest.fixture(scope="module")
def shared_app(server: URL, template: str) -> Iterator[Flask]:
    """The service on a database that the tests of one module share; for tests that make wallets or references."""
    url = server.set(database=f"wallet_test_{secrets.token_hex(6)}")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    app = create_app(settings_for(url))
    try:
        with app.app_context():
            yield app
            close_connections()
    finally:
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


@pytest.fixture(scope="module")
def app_with_clock(shared_app: Flask) -> Flask:
    """The shared service, on a database whose clock can be moved on."""
    clock.make_movable()
    return shared_app


@pytest.fixture
def shared(shared_app: Flask) -> FlaskClient:
    """A client for requests that must change nothing, or that touch nobody else's references."""
    return client_of(shared_app)


@dataclass(frozen=True)
class Live:
    """A service as `make run` serves it, in a process of its own."""

    url: str
    host: str
    port: int
    pid: int


@pytest.fixture(scope="session")
def live(server: URL, template: str) -> Iterator[Live]:
    """The service under its production server, on a database of its own, without a rate limit."""
    url = server.set(database=f"wallet_test_{secrets.token_hex(6)}", drivername="postgresql")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WALLET_", "DATABASE_"))},
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WALLET_RATE_LIMIT": "",
        "WALLET_RATE_LIMIT_KEY": "",
        **ENVIRONMENT,
    }
    log = Path(tempfile.mkdtemp(prefix="wallet-live-"), "log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "serve.py"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(process, port, log)
        yield Live(f"http://127.0.0.1:{port}", "127.0.0.1", port, process.pid)
    finally:
        process.terminate()
        process.wait(30)
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")
        shutil.rmtree(log.parent)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    pytest.fail(f"the service did not start:\n{log.read_text()[-3000:]}")
