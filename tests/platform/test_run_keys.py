"""Keys in real processes: one that is revoked ends in all of them, and `make run` makes its own."""

from __future__ import annotations

import re
import secrets
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.conftest import run_sql
from tests.keys import ENVIRONMENT
from tests.platform.conftest import Service, python

SECONDS_MAX = 5.0
Start = Callable[..., Service]


@pytest.fixture
def database_url(server: URL, template: str) -> Iterator[str]:
    url = server.set(drivername="postgresql", database=f"wallet_test_{secrets.token_hex(6)}")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    yield url.render_as_string(hide_password=False)
    run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


def keys(*command: str, **settings: str) -> str:
    """Run a command on the keys in a process of its own, and return what it printed."""
    done = python("-m", "flask", "wallet", "keys", *command, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def statuses(service: Service, key: str, count: int = 30) -> set[int]:
    """Ask so often, each time on a connection of its own, that every worker is asked."""
    return {service.request("GET", "/wallets/3", key=key)[0] for _ in range(count)}


@pytest.mark.slow
def test_a_revoked_key_ends_in_every_process_within_five_seconds(database_url: str, start: Start) -> None:
    settings = {"DATABASE_URL": database_url, **ENVIRONMENT}
    service = start(WALLET_WORKERS="2", **settings)
    service.wait_until_ready()
    key = keys("create", "shop", "--scope", "wallets:read", **settings)
    begun = asked = time.monotonic()
    while statuses(service, key) != {200}:
        assert asked < begun + SECONDS_MAX, "a new key works soon"
        asked = time.monotonic()
    keys("revoke", key.split("_")[2], **settings)
    # Whichever process is asked, and however seldom the other one was.
    time.sleep(SECONDS_MAX)
    for _ in range(5):
        assert statuses(service, key) == {401}


@pytest.mark.slow
def test_the_first_start_makes_a_key_and_the_second_prints_the_same_line(data_dir: Path, start: Start) -> None:
    own = {"WALLET_BOOTSTRAP_API_KEY": "", "WALLET_KEY_PEPPER": "", "WALLET_TOKEN_KEYS": ""}
    lines = []
    for _ in range(2):
        service = start(**own)
        service.wait_until_ready()
        line = re.search(r"^  (curl .*)$", service.said().replace(str(service.port), "PORT"), re.MULTILINE)
        assert line is not None
        lines.append(line[1])
        done = subprocess.run(
            ["bash", "-c", line[1].replace("PORT", str(service.port))], capture_output=True, text=True, check=False
        )
        assert '"balance":600' in done.stdout
        assert service.stop() == 0
    assert lines[0] == lines[1]
    folder = data_dir / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = ("api-key", "database", "key-pepper", "operators", "token-key", "totp-key")
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == dict.fromkeys(names, 0o600)
    key = (folder / "api-key").read_text()
    assert f"Bearer {key}" in lines[0]

    service = start(**own)
    service.wait_until_ready()
    keys("revoke", key.split("_")[2], WALLET_DATA_DIR=str(data_dir))
    assert service.stop() == 0
    service = start(**own)
    service.wait_until_ready()
    assert key not in service.said(), "a revoked one is replaced"
    assert service.request("GET", "/wallets/3", key=(folder / "api-key").read_text())[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["production", "staging"])
def test_outside_of_development_the_pepper_is_required(database_url: str, environment: str) -> None:
    done = python("serve.py", DATABASE_URL=database_url, WALLET_ENV=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("Dino Wallet cannot run: WALLET_KEY_PEPPER is missing, and ")
    assert done.stderr.count("\n") == 1
