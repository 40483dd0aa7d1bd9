"""What reaches the service as bytes: broken requests get problems, slow clients hold nobody up."""

from __future__ import annotations

import concurrent.futures
import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests.conftest import run_sql
from tests.keys import KEY
from tests.platform.conftest import Service
from wallet_app import server as worker

KEYED = f"Authorization: Bearer {KEY}\r\n".encode()
GET = b"GET /health HTTP/1.1\r\nHost: wallet\r\n"
POST = b"POST /wallets/3/topup HTTP/1.1\r\nHost: wallet\r\nContent-Type: application/json\r\n" + KEYED
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SOON = 5
"""Seconds: less than the server waits for a client that it wrongly waits for, and enough for a busy machine."""
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "requestId", "ok", "error"}


@pytest.fixture(scope="module")
def service(server: URL, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    url = server.set(drivername="postgresql", database=f"wallet_test_{secrets.token_hex(6)}")
    # A wait for a wallet lasts as long as a test needs it to.
    patient = [f"ALTER DATABASE {url.database} SET {name} = '9s'" for name in ("lock_timeout", "statement_timeout")]
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}", *patient)
    service = Service(
        tmp_path_factory.mktemp("service"),
        DATABASE_URL=url.render_as_string(hide_password=False),
        WALLET_WORKERS="1",
    )
    try:
        service.wait_until_ready()
        yield service
        assert service.stop() == 0
        assert "Traceback" not in service.said()
    finally:
        service.stop()
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


class Answer:
    """One answer as it came over the wire, and whether the connection was closed after it."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.rest = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.body = self.rest[: int(self.headers["content-length"])]
        self.rest = self.rest[len(self.body) :]

    def json(self) -> Any:
        return json.loads(self.body)


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=15)


def ask(service: Service, *parts: bytes) -> Answer:
    """Send the parts, each in its own packet, and read until the service closes the connection."""
    with connect(service) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break  # It has refused what it has seen.
            time.sleep(0.01)
        raw = b""
        while data := client.recv(65536):
            raw += data
    return Answer(raw)


def top_up(amount: int = 1) -> bytes:
    return json.dumps({"amount": amount, "referenceId": f"raw-{secrets.token_hex(6)}"}).encode()


def balance(service: Service) -> int:
    return int(service.request("GET", "/wallets/3/balance")[1]["balance"])


BROKEN = {
    "garbage": (400, b"\x00\x01\x02\xff rubbish"),
    "TLS on the plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a line that is no request": (400, b"hello world\r\n"),
    "HTTP/0.9": (400, b"GET /health\r\n"),
    "HTTP/2": (505, b"GET /health HTTP/2.0\r\nHost: wallet\r\n\r\n"),
    "HTTP/2's preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "line feeds alone": (400, b"GET /health HTTP/1.1\nHost: wallet\n\n"),
    "a method in lower case": (400, b"get /health HTTP/1.1\r\nHost: wallet\r\n\r\n"),
    "NUL in the path": (400, b"GET /wallets/\0 HTTP/1.1\r\nHost: wallet\r\n\r\n"),
    "a path of 5 KB": (414, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: wallet\r\n\r\n"),
    "a header of 16 KiB": (431, GET + b"X-Long: " + b"a" * 16384 + b"\r\n\r\n"),
    "100 headers": (431, GET + b"".join(b"X-%d: a\r\n" % number for number in range(100)) + b"\r\n"),
    "a head without an end": (431, GET + b"X-Again: aaaa\r\n" * 4000),
    "a header without a colon": (400, GET + b"Nonsense\r\n\r\n"),
    "a folded header": (400, GET + b"X-Folded: a\r\n b\r\n\r\n"),
    "NUL in a header": (400, GET + b"X-Nul: a\0b\r\n\r\n"),
    "two hosts": (400, GET + b"Host: other\r\n\r\n"),
    "both lengths": (400, POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n"),
    "two Content-Lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    "a negative Content-Length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "an unknown transfer coding": (501, POST + b"Transfer-Encoding: rot13\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "a transfer coding without chunks": (400, POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    "an unknown expectation": (417, POST + b"Expect: the-unexpected\r\nContent-Length: 2\r\n\r\n{}"),
    "a chunk longer than it says": (400, POST + CHUNKED + b"3\r\n" + top_up() + b"\r\n0\r\n\r\n"),
    "a chunk's size that is no number": (400, POST + CHUNKED + b"zz\r\n"),
    "a chunk's size below zero": (400, POST + CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk's size with an underscore": (400, POST + CHUNKED + b"0_2\r\n{}\r\n0\r\n\r\n"),
    "a chunk's size that ends in a line feed": (400, POST + CHUNKED + b"2\n{}\r\n0\r\n\r\n"),
    "a trailer that is none": (400, POST + CHUNKED + b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n"),
    "chunks from HTTP/1.0": (400, POST.replace(b"1.1", b"1.0") + CHUNKED + b"0\r\n\r\n"),
    "a Content-Length of two": (400, POST + b"Content-Length: 2,2\r\n\r\n{}"),
    "a Content-Length with a sign": (400, POST + b"Content-Length: +2\r\n\r\n{}"),
    "a space before the colon": (400, GET + b"X-A : a\r\n\r\n"),
    "a header without a name": (400, GET + b": a\r\n\r\n"),
    "a carriage return in a header": (400, GET + b"X-A: a\rb\r\n\r\n"),
    "a line feed in a header": (400, GET + b"X-A: a\nX-B: b\r\n\r\n"),
    "no host": (400, b"GET /health HTTP/1.1\r\n\r\n"),
    "a path that does not begin at the root": (400, b"GET health HTTP/1.1\r\nHost: wallet\r\n\r\n"),
    "lying chunks that nobody reads": (400, GET + CHUNKED + b"zz\r\n"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_request_is_answered_with_a_problem_and_a_closed_connection(service: Service, case: str) -> None:
    status, sent = BROKEN[case]
    before = balance(service)
    begun = time.monotonic()
    answer = ask(service, sent)
    assert time.monotonic() - begun < SOON
    assert answer.status == status
    assert_is_problem(answer)
    assert answer.headers["connection"] == "close"
    assert answer.rest == b""
    assert balance(service) == before


def assert_is_problem(answer: Answer) -> None:
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) >= PROBLEM_MEMBERS
    assert (problem["status"], problem["ok"], problem["error"]) == (answer.status, False, problem["title"])
    assert problem["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in answer.headers
    assert "date" in answer.headers


@pytest.mark.parametrize(
    ("status", "request_line"),
    [(405, b"TRACE /health HTTP/1.1"), (405, b"BREW /health HTTP/1.1"), (422, b"GET /wallets/%00 HTTP/1.1")],
)
def test_what_is_well_formed_is_the_applications_to_refuse(service: Service, status: int, request_line: bytes) -> None:
    answer = ask(service, request_line + b"\r\nHost: wallet\r\nConnection: close\r\n" + KEYED + b"\r\n")
    assert answer.status == status
    assert_is_problem(answer)


def test_no_answer_names_its_server(service: Service) -> None:
    answer = ask(service, GET + b"Connection: close\r\n\r\n")
    assert (answer.status, "server" in answer.headers) == (200, False)


@pytest.mark.parametrize("size", [worker.WHOLE_BODY_BYTES_MAX + 1, 1_000_000])
def test_a_body_above_the_bound_is_413_and_ends_the_connection(service: Service, size: int) -> None:
    body = top_up() + b" " * size
    whole = ask(service, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    chunks = ask(service, POST + CHUNKED, *(b"4000\r\n" + body[at : at + 0x4000].ljust(0x4000) + b"\r\n"
                                            for at in range(0, len(body), 0x4000)))  # fmt: skip
    for answer in (whole, chunks):
        assert answer.status == 413
        assert_is_problem(answer)
        assert answer.headers["connection"] == "close"


def test_a_body_in_chunks_counts_like_any_other(service: Service) -> None:
    before = balance(service)
    body = top_up(5)
    chunks = [b"%x\r\n%c\r\n" % (1, byte) for byte in body]
    answer = ask(service, POST + b"Connection: close\r\n" + CHUNKED, *chunks[:20], b"".join(chunks[20:]), b"0\r\n\r\n")
    assert answer.status == 200
    assert answer.json()["balance"] == balance(service) == before + 5


def test_a_client_that_asks_first_is_told_to_continue(service: Service) -> None:
    body = top_up()
    with connect(service) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_header_with_an_underscore_is_not_the_one_with_a_hyphen(service: Service) -> None:
    body = top_up()
    lines = b"Content_Length: 999\r\nTransfer_Encoding: chunked\r\nX_Request_Id: theirs\r\nConnection: close\r\n"
    answer = ask(service, POST + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.status == 200
    assert answer.headers["x-request-id"] != "theirs"


@pytest.mark.parametrize("asked", [b"websocket", b"h2c"])
def test_an_upgrade_that_we_do_not_know_is_not_taken_for_the_bodys_end(service: Service, asked: bytes) -> None:
    hidden = GET + b"\r\n"
    answer = ask(
        service,
        POST + b"Upgrade: " + asked + b"\r\nConnection: upgrade\r\n"
        b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden + GET + b"Connection: close\r\n\r\n",
    )
    assert answer.status == 400
    assert Answer(answer.rest).status == 200
    assert Answer(answer.rest).rest == b""


def test_a_statement_that_waits_in_the_database_holds_nobody_else_up(service: Service) -> None:
    """There is one process here, so the others are greenlets beside the one that waits."""
    with (
        psycopg.connect(service.settings["DATABASE_URL"]) as other,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        held = pool.submit(service.request, "POST", "/wallets/3/topup", json.loads(top_up()))
        wait_for_a_waiter(service.settings["DATABASE_URL"])
        for _ in range(5):
            assert service.request("GET", "/wallets/4")[0] == 200
        assert service.request("POST", "/wallets/5/topup", json.loads(top_up()))[0] == 200
        assert not held.done()
        other.rollback()
        assert held.result()[0] == 200


def wait_for_a_waiter(url: str) -> None:
    """Return when somebody waits for another's lock in this database."""
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as watching:
        while watching.execute(_WAITING).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_requests_in_one_packet_are_answered_in_order(service: Service) -> None:
    body = top_up()
    first = ask(
        service,
        POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + GET[:20],
        GET[20:] + b"\r\n" + GET + b"Connection: close\r\n\r\n",
    )
    second = Answer(first.rest)
    third = Answer(second.rest)
    assert "transactionId" in first.json()
    assert second.json()["db_status"] == third.json()["db_status"] == "connected"
    assert third.rest == b""


def test_clients_that_send_half_a_request_hold_nobody_up(service: Service) -> None:
    halves = (b"", GET[:20], GET, POST + b"Content-Length: 99\r\n\r\n{", POST + CHUNKED + b"30\r\n{")
    with ExitStack() as stack:
        for half in halves * 40:
            stack.enter_context(closing(connect(service))).sendall(half)
        for _ in range(20):
            begun = time.monotonic()
            assert service.request("GET", "/wallets/3")[0] == 200
            assert time.monotonic() - begun < SOON


def test_clients_that_do_not_close_hold_nobody_up(service: Service) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(closing(connect(service))).sendall(GET + b"Connection: close\r\n\r\n")
        begun = time.monotonic()
        assert service.request("GET", "/wallets/3")[0] == 200
        assert time.monotonic() - begun < SOON


@pytest.mark.slow
def test_half_a_request_is_answered_408_when_its_time_is_over(service: Service) -> None:
    halves = (GET[:20], GET, POST + b"Content-Length: 99\r\n\r\n{", POST + CHUNKED + b"30\r\n{")
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(service)) for _ in halves]
        silent = stack.enter_context(connect(service))
        # Large enough that a thread reads it; it trickles, which must not prolong its time.
        trickling = stack.enter_context(connect(service))
        trickling.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 60000\r\n\r\n")
        for client, half in zip(clients, halves, strict=True):
            client.sendall(half)
        begun = time.monotonic()
        while time.monotonic() - begun < worker.REQUEST_SECONDS_MAX - 1:
            trickling.sendall(b"{")
            time.sleep(0.5)
        for client in clients:
            assert_is_late(Answer(client.recv(65536)))
        assert silent.recv(100) == b""
        raw = b""
        while data := trickling.recv(65536):
            raw += data
        assert Answer(raw.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")).status in {400, 408}
        assert time.monotonic() - begun < worker.REQUEST_SECONDS_MAX + 5


def assert_is_late(answer: Answer) -> None:
    assert answer.status == 408
    assert_is_problem(answer)


def test_the_bounds_stand_in_the_right_order() -> None:
    """A request must have come, and its answer gone, before gunicorn would end the worker's last wait."""
    settings = (Path(__file__).resolve().parents[2] / "gunicorn.conf.py").read_text()
    assert "graceful_timeout = 15" in settings
    assert worker.LINGER_SECONDS_MAX < worker.REQUEST_SECONDS_MAX < 15
