"""How a worker of gunicorn takes requests from clients that may be slow, broken or hostile.

A thread sees a request only once it is all there: until then it waits with the worker's poller, where waiting costs
nothing, and for a bounded time. What gunicorn itself refuses is answered by the application, like every other error.
"""

from __future__ import annotations

import errno
import io
import re
import selectors
import socket
import time
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask, request
from gunicorn import http, util
from gunicorn.http import errors, wsgi
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug import Response
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    HTTPException,
    HTTPVersionNotSupported,
    InternalServerError,
    NotImplemented,  # noqa: A004 (the class of the status 501)
    RequestEntityTooLarge,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    RequestURITooLarge,
)
from werkzeug.test import EnvironBuilder

REQUEST_SECONDS_MAX = 10.0
"""How long a client may take to send a request, from the first wait to the body's last byte."""
SEND_SECONDS_MAX = 10.0
LINGER_SECONDS_MAX = 2.0
HEAD_BYTES_MAX = 32 * 1024
WHOLE_BODY_BYTES_MAX = 64 * 1024
"""A longer body is read by a thread, piece by piece, if the application wants it at all; in chunks it is refused."""

_REFUSAL = "wallet.refusal"
_REFUSALS: tuple[tuple[type[Exception], type[HTTPException], str], ...] = (
    (errors.LimitRequestLine, RequestURITooLarge, "The request line is longer than this service accepts."),
    (errors.LimitRequestHeaders, RequestHeaderFieldsTooLarge, "The headers are larger than this service accepts."),
    (errors.UnsupportedTransferCoding, NotImplemented, "The only transfer coding of a body is chunked."),
    (errors.ExpectationFailed, ExpectationFailed, "The only expectation that can be met is 100-continue."),
    (errors.InvalidHTTPVersion, HTTPVersionNotSupported, "Use HTTP/1.1."),
    (errors.ParseException, BadRequest, "This is not a well-formed HTTP request."),
    (TimeoutError, RequestTimeout, "The request did not arrive in time."),
    (OSError, BadRequest, "The request ended too early."),
)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Gunicorn's threaded worker with whole requests, bounded waits and the application's own errors."""

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.application: Flask = self.app.wsgi()
        self.application.before_request(_refuse)
        self.wsgi = partial(_with_known_length, self.application)

    def init_process(self) -> None:
        # There is no setting for what gunicorn writes above the application's headers.
        wsgi.Response = _Answer
        super().init_process()

    def is_parent_alive(self) -> bool:
        """Tell whether the master lives; without one, end as at a signal: a kept-alive client must not hold us back."""
        self.alive: bool = bool(super().is_parent_alive()) and self.alive
        return self.alive

    def accept(self, listener: Any) -> None:
        try:
            sock, address = listener.accept()
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self._gather(_Connection(self.cfg, sock, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: _Connection, client: Any) -> None:
        """Begin the next request of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._gather(conn)

    def on_pending_socket_readable(self, conn: _Connection, client: Any) -> None:
        """Take what has come; hand the connection to a thread when that is a request, or the end of one."""
        try:
            data = client.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data and conn.lingers:
            return
        conn.received += data
        if conn.lingers or not conn.received:
            self._forget(conn)
        elif not data or conn.is_ready():
            self._stop_waiting(conn)
            self._hand_over(conn)

    def murder_pending(self) -> None:
        """End the waits that are over: late requests are answered, silent connections closed."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            if conn.received and not conn.lingers:
                conn.refusal = TimeoutError()
                self._stop_waiting(conn)
                self._hand_over(conn)
            else:
                self._forget(conn)

    def finish_request(self, conn: _Connection, future: Any) -> None:
        """Wait for the connection's next request, or close it without losing the answer's last bytes.

        Closing with unread data makes the kernel discard what the client has not read yet; gunicorn's own cure
        blocks the loop that all connections share.
        """
        if future.cancelled() or future.exception() or not future.result():
            self._linger(conn)
        elif pipelined := conn.parser.unreader.take_buffered():
            self._gather(conn, pipelined)
        else:
            super().finish_request(conn, future)

    def handle(self, conn: _Connection) -> Any:
        if conn.refusal is None:
            return super().handle(conn)
        self.handle_error(None, conn.sock, conn.client, conn.refusal)
        return False

    def handle_request(self, req: Any, conn: _Connection) -> Any:
        conn.sock.settimeout(SEND_SECONDS_MAX)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Answer what never became a request of the application as the application would, then close."""
        refusal = _refusal_of(exc)
        if isinstance(refusal, InternalServerError):
            self.log.error("Error handling a request", exc_info=exc)
        try:
            answer = _ask(self.application, refusal, addr)
            client.settimeout(SEND_SECONDS_MAX)
            client.sendall(answer)
        except OSError:
            return  # The client has gone.
        except Exception:
            self.log.exception("Error answering an error")

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _gather(self, conn: _Connection, received: bytes = b"") -> None:
        conn.begin(received)
        if conn.is_ready():
            self._hand_over(conn)
        else:
            self._wait(conn, REQUEST_SECONDS_MAX)

    def _linger(self, conn: _Connection) -> None:
        conn.lingers = True
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            self._wait(conn, LINGER_SECONDS_MAX)
        except (OSError, ValueError):
            self.nr_conns -= 1
            conn.close()

    def _wait(self, conn: _Connection, seconds: float) -> None:
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
        conn.timeout = time.monotonic() + seconds
        self.pending_conns.append(conn)

    def _stop_waiting(self, conn: _Connection) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def _forget(self, conn: _Connection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        conn.close()

    def _hand_over(self, conn: _Connection) -> None:
        conn.hand_over()
        self.enqueue_req(conn)


class _Connection(TConn):  # type: ignore[misc]
    """A client's connection and what has come of its next request."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.parser = http.get_parser(self.cfg, self.sock, self.client)
        self.parser.unreader = _PunctualUnreader(self.sock)
        self.initialized = True
        self.lingers = False
        self.begin()

    def begin(self, received: bytes = b"") -> None:
        """Expect a request, of which `received` has come already."""
        self.received = bytearray(received)
        self.refusal: Exception | None = None
        self.parser.unreader.deadline = time.monotonic() + REQUEST_SECONDS_MAX

    def is_ready(self) -> bool:
        """Whether a thread can go to work: the request is there, or enough of it to refuse it."""
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            self.refusal = _fault_of_head(self.received)
            return self.refusal is not None or _is_malformed(self.received)
        head, body = bytes(self.received[:end]).lower(), self.received[end + 4 :]
        if b"\nexpect:" in head or len(body) > WHOLE_BODY_BYTES_MAX:
            return True
        if _CHUNKED.search(head):
            return _is_last_chunk_there(body)
        length = _LENGTH.search(head)
        return length is None or not len(body) < int(length[1]) <= WHOLE_BODY_BYTES_MAX

    def hand_over(self) -> None:
        """Give what has come to the parser, which reads on from the socket where it needs more."""
        self.parser.unreader.unread(bytes(self.received))
        self.received.clear()


class _PunctualUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads from the socket for as long as the request may take; then it raises TimeoutError."""

    deadline = 0.0

    def chunk(self, size_hint: int | None = None) -> Any:
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        try:
            return super().chunk(size_hint)
        finally:
            self.sock.settimeout(SEND_SECONDS_MAX)


class _Answer(wsgi.Response):  # type: ignore[misc]
    """An answer that does not tell which server wrote it, and says that it closes where it will."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]

    def should_close(self) -> bool:
        refused = self.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return bool(refused or self.req.body.failed or super().should_close())


_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?:\r|$)")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r|$)")
_REQUEST_LINE = re.compile(rb"(?:\r\n)?[A-Z]+ [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


def _fault_of_head(received: bytearray) -> errors.ParseException | None:
    """Return what is wrong with the beginning of a head that gunicorn would wait for the end of."""
    if len(received) > HEAD_BYTES_MAX:
        return errors.LimitRequestHeaders("head")
    if not re.match(rb"[A-Za-z\r]|$", received):  # TLS, most likely.
        return errors.InvalidRequestLine("not a method")
    return None


def _is_malformed(received: bytearray) -> bool:
    """Whether gunicorn's parser refuses this beginning without waiting for more."""
    if _BARE_LINE_FEED.search(received):
        return True
    return b"\r\n" in received[2:] and not _REQUEST_LINE.match(received)


def _is_last_chunk_there(body: bytearray) -> bool:
    """Whether the chunks are all there, or so malformed that there is nothing to wait for."""
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        try:
            size = int(body[at:end].split(b";")[0], 16)
        except ValueError:
            return True
        if size <= 0:
            return body.find(b"\r\n\r\n", at) >= 0
        at = end + 2 + size
        if len(body) >= at + 2 and body[at : at + 2] != b"\r\n":
            return True
        at += 2
    return False


def _refuse() -> None:
    """Raise what the server has found wrong, inside the application."""
    if _REFUSAL in request.environ:
        raise request.environ[_REFUSAL]


def _with_known_length(application: Flask, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Serve a body that came in chunks as if its length had been announced.

    Left to itself the application would take the part of it that is within its bound for the whole.
    """
    if environ.pop("HTTP_TRANSFER_ENCODING", None):
        try:
            body = environ["wsgi.input"].read(WHOLE_BODY_BYTES_MAX + 1)
        except (errors.ParseException, OSError) as fault:
            environ[_REFUSAL] = _refusal_of(fault)
        else:
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
            if len(body) > WHOLE_BODY_BYTES_MAX:
                environ[_REFUSAL] = RequestEntityTooLarge()
    return application(environ, start_response)


def _refusal_of(fault: Exception) -> HTTPException:
    if not isinstance(fault, (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)):
        for kind, refusal, detail in _REFUSALS:
            if isinstance(fault, kind):
                return refusal(detail)
    return InternalServerError()


def _ask(application: Flask, refusal: HTTPException, address: Any) -> bytes:
    """Return the application's answer to a request that is nothing but a refusal, as it goes over the wire."""
    client = address[0] if isinstance(address, tuple) and address else ""
    environ = EnvironBuilder(path="/", environ_overrides={"REMOTE_ADDR": client, _REFUSAL: refusal}).get_environ()
    answer = Response.from_app(application, environ, buffered=True)
    answer.headers["Date"] = util.http_date()
    answer.headers["Connection"] = "close"
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    return f"HTTP/1.1 {answer.status}\r\n{head}\r\n".encode("latin-1") + answer.get_data()
