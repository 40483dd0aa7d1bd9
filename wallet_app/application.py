"""Flask without what it does for applications of another kind: a tenth of what a spend costs before it is posted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, request_tearing_down
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter


class _NoSessions(SessionInterface):
    """Keeps nothing in a cookie of Flask's: a console's session is a row, and programs have none."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002
        """Return the one that is nobody's."""
        return _NOBODYS


_NOBODYS = NullSession()


class Application(Flask):
    """A Flask whose views are plain functions, whose routes are the same for every host, and without sessions."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none is a coroutine. Flask would look each time, four times a request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the request's route, by its path alone."""
        if request is None:
            return None
        environ = request.environ
        path = environ["PATH_INFO"]
        return MapAdapter(
            self.url_map,
            server_name=environ.get("HTTP_HOST", ""),
            script_name=environ.get("SCRIPT_NAME", ""),
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            path_info=path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace"),
            default_method=environ["REQUEST_METHOD"],
            query_args=environ.get("QUERY_STRING", ""),
        )

    def do_teardown_request(self, *exc: BaseException | None) -> None:
        """End what was begun for the request, where anybody wants to know: usually that is nobody."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*exc)
