"""An application that tests of the server talk to: it reads and answers in every way that WSGI allows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
UNBOUNDED = 2**63


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


@app.post("/ignored")
def ignored() -> str:
    return "not read"


@app.get("/pieces")
def pieces() -> Response:
    def two() -> Iterator[str]:
        yield "first\n"
        time.sleep(0.2)
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
