"""With a Redis, or a Valkey, the counts of requests are those of all processes together."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import MakeClient, free_port

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    if SERVER is None:
        message = "there is neither redis-server nor valkey-server, so shared limits were not tried"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    port = free_port()
    process = subprocess.Popen(
        [str(SERVER), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_all_processes_count_together(client_with: MakeClient, redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    storage, process = redis
    one, other = (client_with(rate_limit_storage=storage, rate_limit_key="4 per minute") for _ in range(2))
    answers = [client.get("/wallets/3") for client in (one, other, one, other, one, other)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["3", "2", "1", "0", "0", "0"]
    process.kill()
    process.wait()
    assert one.get("/wallets/3").status_code == 200, "a counter that is away refuses nobody"


def test_a_storage_of_its_own_counts_alone(client_with: MakeClient) -> None:
    one, other = (client_with(rate_limit_key="2 per minute") for _ in range(2))
    assert [client.get("/wallets/3").status_code for client in (one, one, other, other, one)] == [
        200,
        200,
        200,
        200,
        429,
    ]
