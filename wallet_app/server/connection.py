"""One client's connection: its requests, one after the other, until it or we close."""

from __future__ import annotations

import io
import logging
import time
from dataclasses import dataclass

import gevent
from flask import Flask, request
from werkzeug.exceptions import HTTPException, InternalServerError

from wallet_app.server import body, head
from wallet_app.server.answer import PAUSE_SECONDS, Answer, ask
from wallet_app.server.body import WHOLE_BODY_BYTES_MAX, Stream
from wallet_app.server.head import Environ, Head, Limits
from wallet_app.server.wire import ClientGoneError, TimeIsUpError, Wire

REQUEST_SECONDS_MAX = 10.0
"""How long a client may take to send a request, from the first wait to the last byte that is gathered."""
LINGER_SECONDS_MAX = 2.0
_BUFFER_BYTES = 64 * 1024
_REFUSAL = "wallet.refusal"
_LINES = ("application/x-ndjson", "application/jsonl")

log = logging.getLogger("gunicorn.error")


@dataclass(slots=True)
class Host:
    """What all connections of a worker share."""

    application: Flask
    limits: Limits
    keep_alive_seconds: float
    is_ending: bool = False
    """The worker is to end: no connection is kept."""
    requests: int = 0


def prepare(application: Flask) -> None:
    """Let the application answer what the server refuses, and hold its bounds on bodies without a length."""
    application.request_class = body.BoundedRequest
    application.before_request(_refuse)


def _refuse() -> None:
    """Raise what the server has found wrong, inside the application."""
    if _REFUSAL in request.environ:
        raise request.environ[_REFUSAL]


class Connection:
    """A client's connection. `base` is the part of the environ that is the same for all its requests."""

    def __init__(self, host: Host, wire: Wire, base: Environ) -> None:
        self._host = host
        self._wire = wire
        self._base = base
        self._is_new = True
        self._is_idle = True
        self._answered: Answer | None = None
        """The answer that is on its way."""

    def serve(self) -> None:
        """Answer the client's requests until the connection is over, and close it."""
        try:
            while self._serve_next():
                self._is_new = False
                self._answered = None
                if self._wire.pending():
                    # One that sends requests in advance waits for nothing: everybody else would wait for it.
                    gevent.sleep(PAUSE_SECONDS)
        except ClientGoneError:
            pass
        except Exception:
            log.exception("Error handling a request")
            self._wire.break_off()
        finally:
            self._wire.close()

    def end_late_waits(self, now: float) -> None:
        """See `Wire.end_late_waits`."""
        self._wire.end_late_waits(now)

    def end_if_idle(self, by: float) -> None:
        """Wait for no further request; one on a connection that has had none may be on its way, and has until `by`."""
        if self._answered is not None and not self._answered.is_begun:
            self._answered.closes = True  # So that the client knows, and sends no request into a closing connection.
        if self._is_idle:
            self._wire.expect_by = min(self._wire.expect_by, by) if self._is_new else 0.0

    def _serve_next(self) -> bool:
        """Answer one request; return whether there may be another."""
        try:
            found = self._next_head()
            if found is None:
                return False
            stream = self._take_body(found)
        except HTTPException as refusal:
            return self._answer_refusal(refusal)
        environ = found.environ
        answer = Answer(
            self._wire,
            is_head=environ["REQUEST_METHOD"] == "HEAD",
            is_old=found.is_old,
            closes=not found.is_kept_alive or self._host.is_ending,
            stream=stream,
        )
        self._host.requests += 1
        self._answered = answer
        return self._answer(environ, answer)

    # --- the request ---

    def _next_head(self) -> Head | None:
        """Return the next request's head, or None if there is none. Raises HTTPException."""
        wire, limits = self._wire, self._host.limits
        received = wire.pending()
        patience = REQUEST_SECONDS_MAX if received or self._is_new else self._host.keep_alive_seconds
        wire.expect_by = time.monotonic() + patience
        while (end := received.find(b"\r\n\r\n", 2)) < 0:
            if received:
                head.check_beginning(received, limits)
            if not self._has_more(is_idle=not received):
                if received:
                    raise body.ended_early()
                return None
            if not received:
                wire.expect_by = time.monotonic() + REQUEST_SECONDS_MAX
            received = wire.pending()
        wire.skip(end + 4)
        return head.parse(received[: end + 4], self._base, limits)

    def _has_more(self, *, is_idle: bool) -> bool:
        self._is_idle = is_idle
        try:
            return self._wire.wait_for_more()
        except TimeIsUpError:
            if not is_idle:
                raise body.late() from None
            return self._wire.has_more()
        finally:
            self._is_idle = False

    def _take_body(self, found: Head) -> Stream | None:
        """Give the environ its wsgi.input; return it if the application has to read it from the client.

        A body in chunks that is gathered becomes one with a length. One of lines is not gathered: its client may want
        an answer to a line before it sends the next one. Raises HTTPException.
        """
        environ, length = found.environ, found.length
        if length == 0:
            environ["wsgi.input"] = io.BytesIO()
            return None
        pieces = body.pieces_of(self._wire, length)
        gathered, is_whole = b"", False
        is_long = length is not None and length > WHOLE_BODY_BYTES_MAX
        is_lines = environ.get("CONTENT_TYPE", "").lower().startswith(_LINES)
        is_gathered = not is_long and (length is not None or not is_lines)
        if is_gathered:
            self._say_continue(found)
            gathered, is_whole = body.gather(pieces)
        if is_whole:
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(len(gathered))
            environ["wsgi.input"] = io.BytesIO(gathered)
            return None
        stream = Stream(self._wire, gathered, pieces, lambda: self._say_continue(found))
        environ["wsgi.input"] = io.BufferedReader(stream, _BUFFER_BYTES)
        return stream

    def _say_continue(self, found: Head) -> None:
        if found.expects_continue and not self._wire.pending():
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        found.expects_continue = False

    # --- the answer ---

    def _answer_refusal(self, refusal: HTTPException) -> bool:
        """Answer what never became a request of the application as the application would, then close."""
        environ: Environ = {
            **self._base,
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": io.BytesIO(),
            _REFUSAL: refusal,
        }
        return self._answer(environ, Answer(self._wire, is_head=False, is_old=False, closes=True, stream=None))

    def _answer(self, environ: Environ, answer: Answer) -> bool:
        """Let the application answer; return whether the connection can take another request."""
        try:
            ask(self._host.application, environ, answer)
        except ClientGoneError:
            raise
        except Exception:
            if answer.is_begun or _REFUSAL in environ:
                raise
            log.exception("Error handling a request")
            return self._answer_refusal(InternalServerError())
        # An answer that began before the worker's end did not say that it is the last one.
        if closes := answer.closes or (self._host.is_ending and not self._wire.pending()):
            self._wire.linger(LINGER_SECONDS_MAX)
        return not closes
