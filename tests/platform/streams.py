"""An application that tests of the server talk to: it reads and answers in every way that WSGI allows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
from flask import Flask, Response, request, stream_with_context

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
UNBOUNDED = 2**63
TURN_SECONDS = 0.001
_turns = itertools.count()


@app.before_request
def hold() -> None:
    """Hold on until a test has opened and closed the FIFO: this request alone, or all that the process does."""
    if fifo := request.args.get("request_held_by"):
        gevent.get_hub().threadpool.apply(Path(fifo).read_bytes)
    if fifo := request.args.get("process_held_by"):
        Path(fifo).read_bytes()


@app.post("/size")
def size() -> str:
    return str(len(request.get_data()))


@app.post("/size/unbounded")
def size_unbounded() -> str:
    request.max_content_length = UNBOUNDED
    return str(len(request.get_data()))


@app.post("/lines")
def lines() -> Response:
    """Answer each line as it comes, before the next one is read."""
    request.max_content_length = UNBOUNDED
    return Response(stream_with_context(request.stream), content_type="application/x-ndjson")


@app.get("/turn")
def turn() -> str:
    """Work, and wait for nothing; say how many turns there were before, whoever had them."""
    until = time.perf_counter() + TURN_SECONDS
    while time.perf_counter() < until:
        pass
    return str(next(_turns))


@app.post("/turns")
def turns() -> Response:
    """A turn for each line."""
    request.max_content_length = UNBOUNDED
    return Response(stream_with_context(f"{turn()}\n" for _ in request.stream), content_type="application/x-ndjson")


@app.post("/reads")
def reads() -> list[int]:
    """Say how many bytes each read of the body brought."""
    request.max_content_length = UNBOUNDED
    return [len(data) for data in iter(lambda: request.stream.read1(2**20), b"")]


@app.post("/ignored")
def ignored() -> str:
    return "not read"


@app.get("/pieces")
def pieces() -> Response:
    """Answer in two pieces; the second one when a test has opened and closed the FIFO, if there is one."""
    fifo = request.args.get("second_held_by")

    def two() -> Iterator[str]:
        yield "first\n"
        if fifo:
            gevent.get_hub().threadpool.apply(Path(fifo).read_bytes)
        yield ""
        yield "second\n"

    return Response(two())


@app.get("/long")
def long() -> bytes:
    return b"x" * 50_000_000


@app.get("/broken")
def broken() -> Response:
    def one() -> Iterator[str]:
        yield "first\n"
        raise RuntimeError("on purpose")

    return Response(one())


@app.get("/short")
def short() -> Response:
    return Response(iter([b"five!"]), headers={"Content-Length": "10"})


@app.get("/empty")
def empty() -> tuple[str, int]:
    return "", 204


@app.get("/outside")
def outside() -> str:
    raise RuntimeError("on purpose")


class _Raw:
    """Answers that Flask would not let pass."""

    def __init__(self, inner: Flask) -> None:
        self.inner = inner.wsgi_app

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/split":
            start_response("200 OK", [("X-Split", "a\r\nX-Injected: b"), ("Content-Length", "0")])
            return []
        if environ["PATH_INFO"] == "/raises":
            raise RuntimeError("on purpose")
        if environ["PATH_INFO"] == "/names":
            start_response("200 OK", [("Server", "flask"), ("Connection", "upgrade"), ("Content-Length", "2")])
            return [b"ok"]
        return self.inner(environ, start_response)


app.wsgi_app = _Raw(app)  # type: ignore[method-assign]
