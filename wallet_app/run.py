"""`make run`: one process that claims the port, starts PostgreSQL if none is given, migrates, seeds, serves.

It starts by way of serve.py, because Python must be patched for greenlets before this package is imported.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import flask_migrate
import psycopg
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from wallet_app import access, create_app, dev_operators, devdb, secret_files, service
from wallet_app.config import ConfigurationError, Settings, environment_with
from wallet_app.db import close_connections
from wallet_app.service import By, Gate

GUNICORN_SETTINGS = Path(__file__).resolve().parent.parent / "gunicorn.conf.py"
POSTGRES_VERSION_MIN = 15
PORT_SECONDS_MAX = 3.0
READY_SECONDS_MAX = 30.0
WORKER_PAUSE_SECONDS = 2.0
WORKER_STOP_SECONDS_MAX = 25.0

_KEY_FILE = "api-key"
_DEVELOPMENT_CLIENT = "development"


class CannotRunError(Exception):
    """Something outside the service is wrong; the message is one sentence that says what to do."""


def main() -> int:
    """Serve until a signal says stop; return 0 after a clean end and 1 when something is wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(Settings.from_env())
    except (ConfigurationError, devdb.DevDatabaseError, CannotRunError) as problem:
        print(f"Dino Wallet cannot run: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _run(settings: Settings) -> None:
    with _claimed_port(settings.host, settings.port) as listener, _database(settings) as (settings, embedded):
        app = create_app(settings)
        key = _prepare(app, settings)
        _serve(app, settings, listener, embedded, key)


@contextmanager
def _claimed_port(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a listening socket; raise CannotRunError when the port is not to be had.

    It listens from the start, so that nobody can take the port while the database starts.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + PORT_SECONDS_MAX
        while not _try_to_listen(listener, host, port):
            # The workers of a service that was killed need a moment to notice and end.
            if time.monotonic() > deadline:
                raise CannotRunError(
                    f"port {port} is taken by another program: choose one, `PORT={port + 1} make run`."
                )
            time.sleep(0.1)
        yield listener


def _try_to_listen(listener: socket.socket, host: str, port: int) -> bool:
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return False
        raise CannotRunError(
            f"{host}:{port} cannot be listened on ({problem.strerror}): choose another PORT or HOST."
        ) from None
    return True


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[Settings, devdb.DevDatabase | None]]:
    """Yield the settings with a database that answers: the one they name, else the embedded one."""
    if settings.database_url is not None:
        for url in {settings.database_url, settings.migration_url or settings.database_url}:
            _check_database(url)
        yield settings, None
        return
    with devdb.start(settings.data_dir, log=_say) as embedded:
        yield replace(settings, database_url=embedded.service_url, migration_url=embedded.owner_url), embedded


def _check_database(url: str) -> None:
    parsed = make_url(url)
    where = f"the database {parsed.database} at {parsed.host or parsed.query.get('host') or 'the local socket'}"
    try:
        with psycopg.connect(
            parsed.set(drivername="postgresql").render_as_string(hide_password=False), connect_timeout=5
        ) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.Error as problem:
        raise CannotRunError(
            f"{where} does not let us in ({' '.join(str(problem).split())}): correct DATABASE_URL, "
            "or leave it out to have an embedded PostgreSQL started."
        ) from None
    if version < POSTGRES_VERSION_MIN:
        raise CannotRunError(f"{where} is PostgreSQL {version}: use {POSTGRES_VERSION_MIN} or later.")


def _prepare(app: Flask, settings: Settings) -> str | None:
    """Bring the schema and the seed up to date, and leave no connection that the workers would inherit.

    Return the API key that may be shown: on a development machine.
    """
    with app.app_context():
        try:
            flask_migrate.upgrade()
            service.seed(demo=settings.environment != "production")
            if settings.environment != "development":
                return None
            dev_operators.ensure(settings.data_dir)
            return _development_key(app, settings)
        except (SQLAlchemyError, SystemExit) as problem:
            raise CannotRunError(f"the database's tables cannot be brought up to date: {problem}") from problem
        except OSError as problem:
            raise CannotRunError(f"{problem.filename} cannot be used for secrets ({problem.strerror}).") from problem
        finally:
            close_connections()


def _development_key(app: Flask, settings: Settings) -> str:
    """Return the key that was given from outside, else the one in the data folder, which is made at the first start."""
    gate, by = access.gate_of(app), By(actor="make run")
    if settings.bootstrap_key is not None:
        if not gate.ensure_key(settings.bootstrap_key, client=service.BOOTSTRAP_CLIENT, by=by):
            raise CannotRunError(
                "WALLET_BOOTSTRAP_API_KEY was revoked, or stored with another WALLET_KEY_PEPPER: "
                "set another key, or leave it out."
            )
        return settings.bootstrap_key
    try:
        kept = secret_files.read(settings.data_dir, _KEY_FILE)
        if kept is None or not _is_live(gate, kept, by):
            kept = gate.vault.make_key().text
            gate.ensure_key(kept, client=_DEVELOPMENT_CLIENT, by=by)
            secret_files.replace(settings.data_dir, _KEY_FILE, kept)
    except OSError as problem:
        raise CannotRunError(
            f"{problem.filename} cannot be used for the development key ({problem.strerror}): "
            "set WALLET_DATA_DIR to a folder that is ours."
        ) from None
    return kept


def _is_live(gate: Gate, kept: str, by: By) -> bool:
    try:
        return gate.ensure_key(kept, client=_DEVELOPMENT_CLIENT, by=by)
    except ValueError:
        return False


def _serve(
    app: Flask, settings: Settings, listener: socket.socket, embedded: devdb.DevDatabase | None, key: str | None
) -> None:
    """Serve until a signal says stop. Raises CannotRunError when the database ended on its own."""
    master = os.getpid()
    worker = _BackgroundWorker(settings)
    gunicorn = _Gunicorn(app, settings, listener, embedded, key, worker)
    try:
        gunicorn.run()
    except SystemExit as end:
        if os.getpid() != master:  # A worker's end passes through here too, since it was forked below us.
            raise
        worker.stop()
        if gunicorn.database_ended and embedded is not None:
            raise CannotRunError(
                f"PostgreSQL ended on its own (see {embedded.log_file}); nothing that was answered is lost: "
                "start again, and it recovers."
            ) from None
        if end.code:
            raise CannotRunError("the server ended on its own: see the lines above.") from None
        _say(f"Stopped. The data stays in {_whereabouts(settings, embedded)}." if embedded else "Stopped.")


class _BackgroundWorker:
    """`flask wallet worker`, a process of its own beside the service: started anew when it ends, and ended with it.

    It does without gevent: its few threads wait for one database.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def ensure(self) -> None:
        """Start it unless it runs; after an end not at once, so that one that cannot work does not keep us busy."""
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() - self._started_at < WORKER_PAUSE_SECONDS:
            return
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            # By its number: we may have ended before it looks whose child it is.
            [sys.executable, "-m", "flask", "--app", "wsgi:app", "wallet", "worker", f"--parent={os.getpid()}"],
            cwd=GUNICORN_SETTINGS.parent,
            env=environment_with(self._environment()),
            # Ctrl-C is for the service, which stops it in its turn.
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        found = {"WALLET_DATA_DIR": str(self._settings.data_dir.absolute())}
        return found | ({} if self._settings.database_url is None else {"DATABASE_URL": self._settings.database_url})

    def stop(self) -> None:
        """Let it finish what it does, and end it for certain after WORKER_STOP_SECONDS_MAX."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(WORKER_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """Gunicorn inside this process, with gunicorn.conf.py's settings and our socket."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        listener: socket.socket,
        embedded: devdb.DevDatabase | None,
        key: str | None,
        worker: _BackgroundWorker,
    ) -> None:
        self.worker = worker
        self.app = app
        self.settings = settings
        self.listener = listener
        self.embedded = embedded
        self.key = key
        self.database_ended = False
        super().__init__()

    def load_config(self) -> None:
        for name, value in runpy.run_path(str(GUNICORN_SETTINGS)).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        self.cfg.set("bind", f"fd://{os.dup(self.listener.fileno())}")
        self.listener.close()
        in_worker = self.cfg.post_worker_init

        def announce_too(worker: Any) -> None:
            in_worker(worker)
            if worker.age == 1:
                # In the worker, because a master with threads must not fork.
                threading.Thread(target=_announce, args=(self.settings, self.embedded, self.key), daemon=True).start()

        self.cfg.set("post_worker_init", announce_too)

    def load(self) -> Flask:
        return self.app

    def run(self) -> NoReturn:
        _Arbiter(self).run()
        raise SystemExit(1)


class _Arbiter(Arbiter):  # type: ignore[misc]
    """Gunicorn's master, which lets requests finish at any signal and notices its database's end."""

    # By default Ctrl-C cuts requests off, a closed terminal reloads and USR2 starts a second master.
    handle_int = Arbiter.handle_term
    handle_quit = Arbiter.handle_term
    handle_hup = Arbiter.handle_term

    def handle_usr2(self) -> None:
        """Nothing: a second master would not have the database."""

    def init_signals(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().init_signals()
        if ignored:  # Started by nohup, which asks to outlive the terminal.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def manage_workers(self) -> None:
        embedded = self.app.embedded
        if embedded is not None and not embedded.alive():
            self.app.database_ended = True
            raise StopIteration  # The arbiter's own way to say: drain and end.
        self.app.worker.ensure()
        super().manage_workers()


def _announce(settings: Settings, embedded: devdb.DevDatabase | None, key: str | None) -> None:
    """Print where everything is, once the service really answers."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not _is_healthy(settings):
        if time.monotonic() > deadline:
            print("Dino Wallet runs, but /health does not answer 200: see the lines above.", file=sys.stderr)
            return
        time.sleep(0.05)
    url = f"http://localhost:{settings.port}"
    data = _whereabouts(settings, embedded) if embedded else "in the database that DATABASE_URL names"
    _say(
        f"""
Dino Wallet is ready.

  API      {url}
  Docs     {url}/docs
  Console  {_console(settings, url)}
  Data     {data}
{_first_steps(url, key)}
Ctrl-C stops it; nothing is lost.
"""
    )


def _console(settings: Settings, url: str) -> str:
    """Return where the console is, and in development how to sign in."""
    where = f"{settings.console_origin or url}/console"
    if settings.environment != "development":
        return where
    file = secret_files.folder_of(settings.data_dir).absolute() / dev_operators.SECRET
    email = dev_operators.address("support")
    return (
        f"{where}\n"
        f"           Sign in as {email} (or viewer@, approver@, finance@, admin@); passwords: {file}\n"
        f"           code: {_flask(settings)} wallet operators code {email}"
    )


def _flask(settings: Settings) -> str:
    """Return how to call `flask` in this folder so that it finds this service's data."""
    program = Path(sys.executable).with_name("flask")
    shown = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    data_dir = settings.data_dir
    return f"{shown}" if data_dir == Settings.data_dir else f"WALLET_DATA_DIR={data_dir} {shown}"


def _first_steps(url: str, key: str | None) -> str:
    if key is None:
        return "\n  An API key for a service: flask wallet keys create SERVICE --scope wallets:read\n"
    # The same line at each start: sent again, it is answered with what it did the first time.
    body = f'{{"amount": 100, "referenceId": "try-{hashlib.sha256(key.encode()).hexdigest()[:8]}"}}'
    return f"""  Key      {key}

  Top up John's Gold Coins:
  curl -sS {url}/wallets/3/topup -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'
"""


def _whereabouts(settings: Settings, embedded: devdb.DevDatabase) -> str:
    """Return the data folder, and what it leads to: who copies the one needs the other."""
    folder = settings.data_dir.absolute()
    return f"{folder}" if embedded.home.resolve() == folder.resolve() else f"{folder} and {embedded.home}"


def _is_healthy(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(text: str) -> None:
    print(text, flush=True)
