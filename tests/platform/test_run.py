"""`python serve.py` in real processes: it starts, drains, survives kills and says what is wrong."""

from __future__ import annotations

import concurrent.futures
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from tests.keys import KEY
from tests.platform.conftest import REPOSITORY, Service, clean_environment, python
from wallet_app import devdb, run

pytestmark = pytest.mark.wide

Start = Callable[..., Service]


def owner(data_dir: Path) -> psycopg.Connection[tuple[object, ...]]:
    found = devdb.running(data_dir)
    assert found is not None
    return psycopg.connect(make_url(found.owner_url).set(drivername="postgresql").render_as_string(hide_password=False))


@contextmanager
def locked_wallet(data_dir: Path) -> Iterator[None]:
    with owner(data_dir) as connection:
        connection.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        yield


def wait_for_a_waiter(data_dir: Path) -> None:
    """Return when somebody waits for another's lock: a wallet is waited for two seconds, and the test needs one."""
    deadline = time.monotonic() + 30
    with owner(data_dir) as watching:
        watching.autocommit = True
        while watching.execute(_WAITING).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def flask(data_dir: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "flask", *command, WALLET_DATA_DIR=str(data_dir))


def run_to_its_end(**settings: str) -> tuple[int, list[str]]:
    done = python("serve.py", **settings)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.slow
def test_the_second_start_keeps_the_data_and_commands_find_the_database(data_dir: Path, start: Start) -> None:
    service = start()
    first = service.wait_until_ready()
    spent = {"amount": 65, "referenceId": "before-the-restart"}
    assert service.request("POST", "/wallets/3/spend", spent)[0] == 200
    for command in (("wallet", "verify"), ("seed",), ("db", "upgrade")):
        done = flask(data_dir, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert service.stop() == 0
    assert service.said().endswith(f"Stopped. The data stays in {data_dir}.\n")

    service = start()
    print(f"\nfirst start {first:.1f} s, second {service.wait_until_ready():.1f} s")
    status, answer = service.request("POST", "/wallets/3/spend", spent)
    assert (status, answer["idempotent"], answer["balance"]) == (200, True, 435)
    assert service.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_request_in_flight_finish(data_dir: Path, start: Start, sent: signal.Signals) -> None:
    service = start()
    service.wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor() as pool, socket.create_connection(("127.0.0.1", service.port)) as half:
        with locked_wallet(data_dir):
            body = {"amount": 1, "referenceId": "in-flight"}
            spend = pool.submit(service.request, "POST", "/wallets/3/spend", body)
            half.sendall(b"GET /wallets/3 HTTP/1.1\r\n")
            wait_for_a_waiter(data_dir)
            # Ctrl-C reaches every process of the terminal, and so does this.
            os.killpg(service.process.pid, sent)
            time.sleep(0.7)
            assert not spend.done()
            half.sendall(f"Host: wallet\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            assert half.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        status, answer = spend.result()
    assert (status, answer["balance"]) == (200, 499)
    assert service.process.wait(30) == 0
    assert "Traceback" not in service.said()
    assert devdb.running(data_dir) is None


@pytest.mark.slow
def test_the_end_of_its_postgresql_is_one_sentence(data_dir: Path, start: Start) -> None:
    """What is killed under load, and what is then there, is test_drill.py's."""
    service = start()
    service.wait_until_ready()
    os.kill(int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n")[0]), signal.SIGKILL)
    assert service.process.wait(30) == 1
    assert "Dino Wallet cannot run: PostgreSQL ended on its own (see " in service.said()
    assert "Traceback" not in service.said()


@pytest.mark.slow
def test_two_run_side_by_side_and_the_printed_curl_line_works(data_dir: Path, start: Start) -> None:
    one, other = start(), start(WALLET_DATA_DIR=str(data_dir.with_name("other")))
    one.wait_until_ready()
    other.wait_until_ready()
    line = re.search(r"curl .*", one.said())
    assert line is not None
    assert str(one.port) in line[0]
    done = subprocess.run(["bash", "-c", line[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert '"ok":true' in done.stdout
    assert one.request("GET", "/wallets/3/balance")[1]["balance"] == 600
    assert other.request("GET", "/wallets/3/balance")[1]["balance"] == 500
    assert shlex.split(line[0])[0] == "curl"


@pytest.mark.slow
def test_a_second_one_on_the_same_data_is_refused_in_one_sentence(data_dir: Path, start: Start) -> None:
    service = start()
    service.wait_until_ready()
    second = start()
    assert second.process.wait(30) == 1
    assert second.said() == (
        f"Dino Wallet cannot run: Another Dino Wallet runs on {data_dir} (process {service.process.pid}): "
        "stop it or set WALLET_DATA_DIR.\n"
    )


@pytest.mark.slow
def test_a_taken_port_is_one_sentence(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run_to_its_end(PORT=str(port), WALLET_DATA_DIR=str(data_dir)) == (
            1,
            [
                f"Dino Wallet cannot run: port {port} is taken by another program: "
                f"choose one, `PORT={port + 1} make run`."
            ],
        )
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/wallet"}, "correct DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://a:b@no-such-host.invalid/wallet"}, "correct DATABASE_URL"),
        ({"DATABASE_URL": "mysql://a:b@127.0.0.1/wallet"}, "must be a postgresql:// URL"),
        ({"DATABASE_URL": "nonsense"}, "is not a database URL"),
        ({"PORT": "eighty"}, "PORT must be a whole number"),
        ({"HOST": "192.0.2.1"}, "cannot be listened on"),
        ({"WALLET_DATA_DIR": "/dev/null/data"}, "cannot be used for the data"),
    ],
)
def test_each_wrong_setting_is_one_sentence(settings: dict[str, str], sentence: str) -> None:
    code, said = run_to_its_end(**{"PORT": free(), **settings})
    assert code == 1
    assert len(said) == 1
    assert said[0].startswith("Dino Wallet cannot run: ")
    assert sentence in said[0]


def free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_login_that_is_refused_is_one_sentence_without_the_password(server: URL) -> None:
    wrong = server.set(drivername="postgresql", username=f"nobody_{secrets.token_hex(3)}", password="s3cret")
    code, said = run_to_its_end(PORT=free(), DATABASE_URL=wrong.render_as_string(hide_password=False))
    assert (code, len(said)) == (1, 1)
    assert "does not let us in" in said[0]
    assert "s3cret" not in said[0]


def test_a_postgresql_that_is_too_old_is_one_sentence(server: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POSTGRES_VERSION_MIN", 99)
    with pytest.raises(run.CannotRunError, match=r"is PostgreSQL \d+: use 99 or later"):
        run._check_database(server.render_as_string(hide_password=False))


@pytest.mark.parametrize(
    "program",
    [["flask", "db", "current"], ["flask", "wallet", "verify"], ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]],
)
def test_without_a_database_every_program_says_the_same_sentence(data_dir: Path, program: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *program],
        cwd=REPOSITORY,
        env=clean_environment() | {"WALLET_DATA_DIR": str(data_dir), "PORT": free()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout + done.stderr == (
        f"Dino Wallet cannot start: no database runs for {data_dir}: start `make run`, or set DATABASE_URL.\n"
    )
    assert not data_dir.exists()
