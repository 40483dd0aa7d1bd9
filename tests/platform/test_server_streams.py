"""Long bodies and long answers: read and sent as they come, never held, and never the other clients' affair."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.platform.conftest import REPOSITORY, clean_environment, free_port
from wallet_app import server

pytestmark = pytest.mark.wide

MIB = 1024 * 1024
LINES = b"POST /lines HTTP/1.1\r\nHost: w\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """gunicorn with this repository's settings and an application that only reads and answers; no database."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        environment = clean_environment() | {"PORT": str(self.port), "WALLET_WORKERS": "1"} | settings
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *options, "tests.platform.streams:app"],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        while not self._listens():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            return self.ask("GET", "/empty").status == 204
        except OSError:
            return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def http(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        connection = self.http()
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def worker_bytes(self) -> int:
        """The resident memory of the worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(Path(f"/proc/{children[0]}/statm").read_text().split()[1]) * 4096

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sent)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("streams"))
    yield server
    assert server.stop() == 0


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = client.recv(65536)
        assert data, received[-200:]
        received += data
    return received


def read_to_the_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(MIB), b""))


class Fifo:
    """Holds a request of the test's application, or all that its process does, until the `with` is over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def hold(self, head: bytes) -> bytes:
        return self._with_query(head, b"request_held_by")

    def hold_process(self, head: bytes) -> bytes:
        return self._with_query(head, b"process_held_by")

    def hold_second(self, head: bytes) -> bytes:
        """Hold the second piece of an answer."""
        return self._with_query(head, b"second_held_by")

    def _with_query(self, head: bytes, name: bytes) -> bytes:
        return head.replace(b" HTTP/1.1", b"?%b=%b HTTP/1.1" % (name, bytes(self.path)), 1)

    def __enter__(self) -> None:
        # Returns when the request has come and reads at the other end.
        self._end = self.path.open("wb")

    def __exit__(self, *_: object) -> None:
        self._end.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Fifo:
    return Fifo(tmp_path / "fifo")


def test_a_line_is_answered_before_the_next_one_is_sent(serving: Server) -> None:
    with serving.connect() as client:
        client.sendall(LINES)
        for number in range(5):
            line = b'{"number": %d}\n' % number
            client.sendall(chunk(line))
            assert read_until(client, chunk(line)).endswith(chunk(line))
        client.sendall(chunk(b""))
        assert read_until(client, b"0\r\n\r\n") == b"0\r\n\r\n"
        client.sendall(b"GET /empty HTTP/1.1\r\nHost: w\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 204 ")


def test_lines_flow_both_ways_at_once_and_all_come_back(serving: Server) -> None:
    """Far more than the kernel's buffers hold, so each side waits for the other again and again."""
    block = b"".join(b'{"number": %d, "text": "%b"}\n' % (n, b"x" * 100) for n in range(5000))
    count = 40
    with serving.connect() as client:

        def write() -> None:
            client.sendall(LINES)
            for _ in range(count):
                client.sendall(chunk(block))
            client.sendall(chunk(b""))

        writer = threading.Thread(target=write)
        writer.start()
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.getheader("Transfer-Encoding") == "chunked"
        received = answer.read()
        writer.join(20)
    assert received == block * count


def test_a_client_that_does_not_read_its_answers_is_not_read_from_and_costs_no_memory(serving: Server) -> None:
    before = serving.worker_bytes()
    block = chunk(b"x" * 65535 + b"\n")
    with serving.connect() as client:
        client.sendall(LINES)
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall(block * 800)  # 50 MiB: far more than the kernel holds for both sides.
        assert serving.ask("GET", "/empty").status == 204
        assert serving.worker_bytes() - before < 10 * MIB


@pytest.mark.parametrize("size", [0, 1, server.WHOLE_BODY_BYTES_MAX, server.WHOLE_BODY_BYTES_MAX + 1, 3 * MIB])
def test_a_body_counts_the_same_with_a_length_and_in_chunks(serving: Server, size: int) -> None:
    body = os.urandom(size)
    for path in ("/size", "/size/unbounded"):
        is_refused = path == "/size" and size > server.WHOLE_BODY_BYTES_MAX
        connection = serving.http()
        for sent, is_chunked in ((body, False), (iter([body[:1000], body[1000:]]), True)):
            try:
                connection.request("POST", path, sent, encode_chunked=is_chunked)
            except OSError:
                assert is_refused
            answer = connection.getresponse()
            received = answer.read()
            assert (answer.status, answer.getheader("Connection")) == ((413, "close") if is_refused else (200, None))
            assert is_refused or int(received) == size
        connection.close()


def test_a_long_body_that_nobody_reads_ends_the_connection_after_the_whole_answer(serving: Server) -> None:
    body = b"x" * (2 * MIB)
    with serving.connect() as client:
        client.sendall(b"POST /ignored HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.sendall(body + b"GET /empty HTTP/1.1\r\nHost: w\r\n\r\n")
        received = read_to_the_end(client)
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in received
    assert received.endswith(b"\r\n\r\nnot read")


def test_a_client_that_asks_before_a_long_body_is_refused_without_it(serving: Server) -> None:
    with serving.connect() as client:
        client.sendall(b"POST /size HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_before_a_long_body_that_is_wanted_is_told_to_continue(serving: Server) -> None:
    head = b"POST /size/unbounded HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    with serving.connect() as client:
        client.sendall(head)
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"x" * 1_000_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_long_body_that_breaks_off_is_no_whole_body(serving: Server) -> None:
    for head in (b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nf4240\r\n"):
        with serving.connect() as client:
            client.sendall(b"POST /size/unbounded HTTP/1.1\r\nHost: w\r\n" + head + b"x" * 500_000)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_each_piece_of_an_answer_is_sent_at_once(serving: Server, fifo: Fifo) -> None:
    with serving.connect() as client:
        client.sendall(fifo.hold_second(b"GET /pieces HTTP/1.1\r\nHost: w\r\n\r\n"))
        assert read_until(client, b"first\n\r\n").endswith(b"\r\n\r\n6\r\nfirst\n\r\n")
        with fifo:
            pass
        assert read_until(client, b"0\r\n\r\n") == b"7\r\nsecond\n\r\n0\r\n\r\n"


def test_http_1_0_gets_no_chunks_but_the_end_of_the_connection(serving: Server) -> None:
    with serving.connect() as client:
        client.sendall(b"GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        received = read_to_the_end(client)
    assert received.endswith(b"Connection: close\r\n\r\nfirst\nsecond\n")
    assert b"Transfer-Encoding" not in received


@pytest.mark.parametrize("path", ["/broken", "/short"])
def test_an_answer_that_breaks_off_is_not_taken_for_whole(serving: Server, path: str) -> None:
    connection = serving.http()
    connection.request("GET", path)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()


def test_an_answer_that_breaks_off_resets_a_client_of_http_1_0(serving: Server) -> None:
    with serving.connect() as client:
        client.sendall(b"GET /broken HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


@pytest.mark.parametrize("path", ["/raises", "/split"])
def test_what_the_application_cannot_answer_is_a_500_of_its_own(serving: Server, path: str) -> None:
    answer = serving.ask("GET", path)
    assert (answer.status, answer.getheader("X-Injected")) == (500, None)


def test_the_server_has_the_last_word_on_its_name_and_the_connection(serving: Server) -> None:
    answer = serving.ask("GET", "/names")
    assert (answer.status, answer.getheader("Server"), answer.getheader("Connection")) == (200, None, None)


def test_answers_without_a_body_leave_the_connection_in_order(serving: Server) -> None:
    connection = serving.http()
    for method, path in (("HEAD", "/pieces"), ("HEAD", "/size"), ("GET", "/empty"), ("GET", "/pieces")) * 2:
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.read() == (b"first\nsecond\n" if (method, path) == ("GET", "/pieces") else b"")
    connection.close()


TURN = b"GET /turn HTTP/1.1\r\nHost: w\r\n\r\n"
HOG_TURNS = 1500


def hog_turns_before_others(serving: Server, fifo: Fifo, sent: bytes) -> int:
    """How many turns a hog has from its first one until another client has one.

    What the hog sends asks for HOG_TURNS, and holds the process until the other has asked too.
    """
    with serving.connect() as other, serving.connect() as hog:
        before = turn_of(other)
        hog.sendall(sent)
        with fifo:
            other.sendall(TURN)
        return number_of(other) - before - 1


def turn_of(client: socket.socket) -> int:
    client.sendall(TURN)
    return number_of(client)


def number_of(client: socket.socket) -> int:
    return int(client.recv(65536).partition(b"\r\n\r\n")[2])


def test_who_sends_many_requests_at_once_takes_turns_with_others(serving: Server, fifo: Fifo) -> None:
    sent = fifo.hold_process(TURN) + TURN * (HOG_TURNS - 1)
    assert hog_turns_before_others(serving, fifo, sent) <= 3


def test_who_sends_many_lines_at_once_takes_turns_with_others(serving: Server, fifo: Fifo) -> None:
    sent = fifo.hold_process(LINES.replace(b"/lines", b"/turns")) + chunk(b"1\n" * HOG_TURNS)
    assert hog_turns_before_others(serving, fifo, sent) < 20


def test_who_sends_many_lines_with_their_length_takes_turns_with_others(serving: Server, fifo: Fifo) -> None:
    """A short run is gathered before it is answered, and answered line by line all the same."""
    lines = b"1\n" * HOG_TURNS
    head = LINES.replace(b"/lines", b"/turns").replace(
        b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(lines)
    )
    assert hog_turns_before_others(serving, fifo, fifo.hold_process(head) + lines) < 20


def test_lines_that_came_in_chunks_of_their_own_are_read_together(serving: Server, fifo: Fifo) -> None:
    with serving.connect() as client:
        client.sendall(fifo.hold_process(LINES.replace(b"/lines", b"/reads")))
        with fifo:
            client.sendall(chunk(b"12345\n") * 1000 + chunk(b""))
        reads = json.loads(read_until(client, b"]\n").partition(b"\r\n\r\n")[2])
    assert sum(reads) == 6000
    assert len(reads) == 1


def test_a_client_that_leaves_amid_its_answer_leaves_nothing_behind(serving: Server) -> None:
    for _ in range(3):
        with serving.connect() as client:
            client.sendall(b"GET /long HTTP/1.1\r\nHost: w\r\n\r\n")
            client.recv(1000)
    assert serving.ask("GET", "/empty").status == 204


def test_clients_above_the_bound_wait_until_another_leaves(tmp_path: Path) -> None:
    server = Server(tmp_path, WALLET_CONNECTIONS="4")
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(closing(server.connect())) for _ in range(4)]
        time.sleep(0.2)
        late = stack.enter_context(closing(server.connect()))
        late.sendall(b"GET /empty HTTP/1.1\r\nHost: w\r\n\r\n")
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(100)
        first.close()
        late.settimeout(30)
        assert late.recv(100).startswith(b"HTTP/1.1 204 ")
    assert server.stop() == 0


def test_at_the_end_idle_connections_close_at_once_and_what_goes_on_is_finished(tmp_path: Path) -> None:
    # By itself an idle connection would end after a minute, and what goes on would be cut off after 15 seconds.
    server = Server(tmp_path, "--keep-alive=60")
    with ExitStack() as stack:
        idle, streaming = (stack.enter_context(closing(server.connect())) for _ in range(2))
        idle.sendall(b"GET /empty HTTP/1.1\r\nHost: w\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 204 ")
        streaming.sendall(LINES + chunk(b"1\n"))
        read_until(streaming, chunk(b"1\n"))
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert idle.recv(100) == b""
        assert time.monotonic() - begun < 10
        for line in (b"2\n", b"3\n"):
            streaming.sendall(chunk(line))
            read_until(streaming, chunk(line))
        streaming.sendall(chunk(b""))
        assert read_until(streaming, b"0\r\n\r\n")
        assert streaming.recv(100) == b""
        assert time.monotonic() - begun < 12
    assert server.process.wait(30) == 0


def test_at_the_end_an_answer_that_was_not_begun_says_that_it_is_the_last(tmp_path: Path, fifo: Fifo) -> None:
    server = Server(tmp_path, "--keep-alive=60")
    with server.connect() as idle, server.connect() as waiting:
        idle.sendall(b"GET /empty HTTP/1.1\r\nHost: w\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 204 ")
        waiting.sendall(fifo.hold(TURN))
        with fifo:
            server.process.send_signal(signal.SIGTERM)
            assert idle.recv(100) == b""  # So the end has begun.
        received = read_to_the_end(waiting)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in received
    assert server.process.wait(30) == 0


@pytest.mark.slow
def test_waits_for_a_client_amid_its_body_or_answer_are_bounded(serving: Server) -> None:
    with serving.connect() as silent, serving.connect() as deaf, serving.connect() as between:
        silent.sendall(b"POST /size/unbounded HTTP/1.1\r\nHost: w\r\nContent-Length: 1000000\r\n\r\n{")
        deaf.sendall(b"GET /long HTTP/1.1\r\nHost: w\r\n\r\n")
        between.sendall(LINES + chunk(b"1\n"))
        begun = time.monotonic()
        assert silent.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert server.READ_SECONDS_MAX - 1 < time.monotonic() - begun < server.READ_SECONDS_MAX + 5
        read_until(between, chunk(b"1\n"))
        with pytest.raises(ConnectionResetError):
            read_to_the_end(between)
        time.sleep(5)
        with suppress(ConnectionResetError):
            assert len(read_to_the_end(deaf)) < 50_000_000
