"""The worker process: it accepts connections, ends waits that are over, and drains before it goes."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import gevent
from flask import Flask
from gevent import monkey
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers import base

from wallet_app.server.connection import Connection, Host, prepare
from wallet_app.server.head import Environ, Limits
from wallet_app.server.wire import Wire

_SWEEP_SECONDS = 0.5
_FIRST_REQUEST_SECONDS_MAX = 1.0
"""How long a connection that has had no request yet may keep a worker that is to end."""


class Worker(base.Worker):  # type: ignore[misc]
    """A worker of gunicorn that serves each connection in a greenlet."""

    def init_process(self) -> None:
        if not monkey.is_module_patched("threading"):
            raise SystemExit("Dino Wallet cannot serve: gevent must patch Python first, as gunicorn.conf.py does.")
        gevent.reinit()
        self._to_end = Event()
        super().init_process()

    def load_wsgi(self) -> None:
        application: Flask = self.app.wsgi()
        prepare(application)
        self.wsgi = application
        self._host = Host(
            application,
            Limits(self.cfg.limit_request_line, self.cfg.limit_request_field_size, self.cfg.limit_request_fields),
            self.cfg.keepalive,
        )
        self._connections: set[Connection] = set()
        # What was loaded stays: to look through it for garbage takes as long as some thousand requests' own.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002
        self.alive = False
        self._to_end.set()

    def handle_quit(self, sig: int, frame: Any) -> None:
        # It sleeps, which a signal's handler must not.
        gevent.spawn(super().handle_quit, sig, frame)

    def run(self) -> None:
        sweeper = gevent.get_hub().loop.timer(_SWEEP_SECONDS, _SWEEP_SECONDS)
        sweeper.start(self._end_late_waits)
        pool = Pool(self.cfg.worker_connections)
        servers = [self._listen(gunicorn_socket, pool) for gunicorn_socket in self.sockets]
        while self.alive:
            self.notify()
            self._to_end.wait(1.0)
            # Without a master, end as at a signal.
            self.alive = self.alive and self.ppid == os.getppid() and self._host.requests < self.max_requests
        self._drain(servers, pool)

    def _listen(self, gunicorn_socket: Any, pool: Pool) -> StreamServer:
        listener = gevent.socket.socket(
            gunicorn_socket.FAMILY, gevent.socket.SOCK_STREAM, fileno=gunicorn_socket.sock.detach()
        )
        listener.setblocking(False)
        environ = self._base_environ(listener.getsockname())
        server = StreamServer(listener, lambda client, address: self._serve(client, address, environ), spawn=pool)
        if self.cfg.workers > 1:
            server.max_accept = 1  # So that a burst is shared among the workers.
        server.start()
        return server

    def _base_environ(self, address: Any) -> Environ:
        name, port = address[:2] if isinstance(address, tuple) else (str(address), "")
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "wsgi.errors": base.sys.stderr,
            "wsgi.input_terminated": True,
            "wsgi.multiprocess": self.cfg.workers > 1,
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
        }

    def _serve(self, client: Any, address: Any, environ: Environ) -> None:
        is_inet = isinstance(address, tuple) and len(address) > 1
        here, port = (address[0], str(address[1])) if is_inet else ("", "")
        connection = Connection(self._host, Wire(client), {**environ, "REMOTE_ADDR": here, "REMOTE_PORT": port})
        self._connections.add(connection)
        try:
            connection.serve()
        finally:
            self._connections.discard(connection)

    def _end_late_waits(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.end_late_waits(now)

    def _drain(self, servers: list[StreamServer], pool: Pool) -> None:
        """Answer what was accepted; what hangs on beyond the graceful timeout is cut off by the process's end."""
        for server in servers:
            server.close()
        self._host.is_ending = True
        now = time.monotonic()
        deadline = now + self.cfg.graceful_timeout
        for connection in self._connections:
            connection.end_if_idle(now + _FIRST_REQUEST_SECONDS_MAX)
        while not pool.join(timeout=1.0) and time.monotonic() < deadline:
            self.notify()
