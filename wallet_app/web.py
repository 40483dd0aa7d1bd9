"""What both faces share: request ids, headers, the log line, errors turned into answers, and /health."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import structlog
from flask import Flask, Response, current_app, g, request
from structlog.tracebacks import ExceptionDictTransformer
from uuid_utils import uuid4
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, TooManyRequests
from werkzeug.middleware.proxy_fix import ProxyFix

from wallet_app import access, db
from wallet_app.config import Settings
from wallet_app.errors import (
    BadCursorError,
    ConditionError,
    DatabaseUnavailableError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    OutcomeUnknownError,
    RefusedError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
    WalletServiceError,
)
from wallet_app.service import Actor, By, Origin, Permit, instant_text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger("wallet")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_STATUS: tuple[tuple[type[WalletServiceError], int], ...] = (
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (BadCursorError, 400),
    (RefusedError, 409),
    (ConditionError, 412),
    (InvalidError, 422),
    (ThrottledError, 429),
    (UnavailableError, 503),
)
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)
"""What every answer has, unless it says otherwise itself."""
_NAMES = frozenset([name for name, _ in _HEADERS])


def init_app(app: Flask) -> None:
    """Register everything that happens around a request, whichever face serves it."""
    settings: Settings = app.extensions["wallet_settings"]
    _configure_logging()
    app.wsgi_app = _WithHeaders(app.wsgi_app)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        # Each proxy adds to X-Forwarded-For; scheme and host are what the outermost one said, usually once.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=1, x_host=1)  # type: ignore[method-assign]
    # A doubled slash is another path, not a reason to redirect: the redirect would be an HTML page. (At a path's
    # beginning Werkzeug takes any number of them for one.)
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(Exception, _error_response)
    app.add_url_rule("/health", view_func=health)
    access.declare("health", access.PUBLIC)


def request_id() -> str:
    """Return the id of this request: the caller's X-Request-Id where it is well-formed, else one of ours."""
    return str(g.request_id)


def origin() -> Origin:
    """Return who asks, for commands."""
    context = g._get_current_object()
    caller: Actor = context.caller
    return Origin(client=caller.client, actor=caller.id, request_id=context.request_id, permit=caller.permit)


def caller() -> Actor:
    """Return who asks."""
    found: Actor = g.caller
    return found


def by() -> By:
    """Return who asks, for the audit log."""
    return By(actor=caller().id, request_id=request_id(), address=request.remote_addr or "unknown")


def permit() -> Permit:
    """Return what who asks may do, for reads."""
    return caller().permit


def json_response(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the body as JSON; keys are already as the outside knows them."""
    return _Json(orjson.dumps(body), status, headers or {}, "application/json")


def empty_response() -> Response:
    """Return the answer that something is done, and that there is nothing to say about it."""
    response = Response(status=HTTPStatus.NO_CONTENT)
    response.headers.remove("Content-Type")
    return response


class _Json(Response):
    """A whole body, and headers that are to go out as they are: Werkzeug would copy and look through them."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str], content_type: str) -> None:
        # All that Werkzeug's would do, but for looking through whatever else it could have been given.
        self.headers = Headers()
        for name, value in headers.items():
            self.headers.add(name, value)
        self.headers.add("Content-Type", content_type)
        self.headers.add("Content-Length", str(len(body)))
        self.status_code = status
        self.response = [body]
        self.direct_passthrough = False
        self._on_close = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.response  # type: ignore[return-value]


class Problem(NamedTuple):
    """An error as the outside sees it: an RFC 9457 problem with its status and headers."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


def problem(
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Problem:
    """Make a problem, with the original service's `ok` and `error` beside its members."""
    body = {
        "type": f"urn:dino-wallet:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": request_id(),
        "ok": False,
        "error": title,
        **members,
    }
    return Problem(status, body, headers or {})


def problem_response(found: Problem) -> Response:
    """Return the problem as an answer of its own."""
    return _Json(orjson.dumps(found.body), found.status, found.headers, "application/problem+json")


def camel_case(name: str) -> str:
    """Return a snake_case name as the JSON outside has it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def health() -> Response:
    """Tell whether the service can reach its database right now."""
    connected = db.ping()
    body = {
        "ok": connected,
        "db_status": "connected" if connected else "disconnected",
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return json_response(body, 200 if connected else 503, {} if connected else {"Retry-After": "1"})


class _WithHeaders:
    """Adds the headers that all answers have to the finished list, where it costs less than through Flask's."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            given = _NAMES.intersection([name for name, _ in headers])
            more = [pair for pair in _HEADERS if pair[0] not in given] if given else _HEADERS
            return start_response(status, [*headers, *more], exc_info)

        return self._application(environ, start)


def _begin() -> None:
    context = g._get_current_object()
    context.started = time.perf_counter()
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    context.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _finish(response: Response) -> Response:
    context, environ = g._get_current_object(), request.environ
    if environ["REQUEST_METHOD"] == "OPTIONS" and response.status_code == HTTPStatus.OK:
        # Flask answers it with an empty page of HTML.
        response.headers.remove("Content-Type")
    if environ["wsgi.url_scheme"] == "https":
        response.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    response.headers.add("X-Request-Id", context.request_id)
    rule = request.url_rule
    log.info(
        "request",
        request_id=context.request_id,
        actor=context.get("actor", "anonymous"),
        method=environ["REQUEST_METHOD"],
        route=rule.rule if rule else None,
        status=response.status_code,
        ms=round((time.perf_counter() - context.started) * 1000, 1),
    )
    return response


def _error_response(error: Exception) -> Response:
    page_of = current_app.extensions.get("wallet_error_page")
    page: Response | None = None if page_of is None else page_of(error)
    return problem_response(problem_of(error)) if page is None else page


def problem_of(error: Exception) -> Problem:
    """Return how the outside sees the error; one that is a fault of ours is logged."""
    if isinstance(error, WalletServiceError):
        return _service_problem(error)
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, db.CommitNotReplicatedError):
        log.error("commit_not_replicated", request_id=request_id())
        return _service_problem(OutcomeUnknownError(error.sentence))
    if db.in_doubt(error):
        log.error("commit_in_doubt", request_id=request_id())
        return _service_problem(OutcomeUnknownError(db.LOST_SENTENCE))
    return _database_away(error) if db.is_away(error) else _unexpected(error)


def _service_problem(error: WalletServiceError) -> Problem:
    status = next(status for family, status in _STATUS if isinstance(error, family))
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, UnavailableError | ThrottledError) else {}
    if isinstance(error, (UnauthenticatedError, ForbiddenError)):
        headers = access.challenge(error)
    if isinstance(error, ForbiddenError):
        access.note_denial(error)
    members = {camel_case(name): value for name, value in error.details.items()}
    return problem(status, code=error.code, title=error.title, detail=error.detail, headers=headers, **members)


def _http_problem(error: HTTPException) -> Problem:
    status = error.code or 500
    title, code = error.name, error.name.lower().replace(" ", "_").replace("'", "")
    headers = {
        name: value for name, value in error.get_headers() if name.lower() in {"allow", "retry-after", "location"}
    }
    if isinstance(error, TooManyRequests):
        detail = f"The limit of {error.description} is used up; repeat after the time in Retry-After."
    elif isinstance(error, NotFound):
        detail = "There is nothing at this path."
    elif isinstance(error, MethodNotAllowed):
        detail = f"{request.method[:20]} is not possible here; {headers.get('Allow', 'nothing')} is."
    elif isinstance(error, RequestEntityTooLarge):
        detail = "The body is larger than this resource accepts."
    else:
        detail = error.description or title
    return problem(status, code=code, title=title, detail=detail, headers=headers)


def _database_away(error: Exception) -> Problem:
    log.warning("database_unavailable", request_id=request_id(), error=type(error).__name__)
    return _service_problem(
        DatabaseUnavailableError("The database cannot be reached at the moment. Repeat the request in a second.")
    )


def _unexpected(error: Exception) -> Problem:
    db.log_fault("unexpected", error, request_id=request_id())
    return problem(
        500,
        code="internal_error",
        title="Internal error",
        detail="Something went wrong on our side. Try again, a movement of credit with the same reference; "
        f"if it persists, report request {request_id()}.",
    )


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            # Without local variables: they hold what must not be in a log.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )


def _line(logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:  # noqa: ARG001
    # In one step and by orjson alone, because every request has a line: with the time as it writes it.
    event["timestamp"] = dt.datetime.now(dt.UTC)
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    except TypeError:
        # A lone surrogate, or a number beyond 64 bits: what a fault has in its text must not hide the fault.
        return json.dumps({**event, "timestamp": instant_text(event["timestamp"])}, default=repr).encode()
