"""A wire between the service and PostgreSQL that can be cut at any message.

It listens on a unix socket of its own and passes the protocol's messages on, one by one. A fault waits for a moment
(a posting's COMMIT, or its first statement) and then does its harm, once, to the connection that reached that moment.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

from tests.conftest import conninfo

# One that carries out what it was sent waits for no client yet, and an idle one for no more of a pipeline.
_TERMINATE_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'active' AND wait_event = 'ClientRead'
"""

Moment = Callable[["Session", bytes], bool]


class CutError(Exception):
    """The connection ends here."""


def commit(session: Session, message: bytes) -> bool:
    """The COMMIT of a posting, which comes in one pipeline with what it commits."""
    return _asks_for(message, b"commit")


def lock(session: Session, message: bytes) -> bool:
    """A posting's first statement; with it comes what is read under the locks."""
    return _asks_for(message, b"lock_wallets") or _asks_for(message, b"lock_free_wallets")


def write(session: Session, message: bytes) -> bool:
    """The first rows of a posting on their way."""
    return _asks_for(message, b"insert_transactions")


def _asks_for(message: bytes, statement: bytes) -> bool:
    """Whether the message binds values to the prepared statement: the unnamed portal, then the statement's name."""
    return message[:1] == b"B" and message[5:].startswith(b"\x00" + statement + b"\x00")


def end_of(moment: Moment) -> Moment:
    """The end of the pipeline, or of the single statement, that reaches the moment."""
    reached: set[Session] = set()

    def is_end(session: Session, message: bytes) -> bool:
        if moment(session, message):
            reached.add(session)
        return session in reached and message[:1] == b"S"

    return is_end


class Fault:
    """What happens to a message: it is lost, or its answer is, or it arrives when nobody waits for it any more."""

    def __init__(self, moment: Moment, *, times: int = 1, blackout: bool = False) -> None:
        self.moment = moment
        self.times = times
        self.blackout = blackout
        self.over = threading.Event()

    def strike(self, session: Session, message: bytes) -> None:
        """Do the harm, and let the database stay away if that is asked for."""
        self.harm(session, message)
        if self.blackout:
            session.wire.down()
        self.over.set()
        raise CutError

    def harm(self, session: Session, message: bytes) -> None:
        raise NotImplementedError


class BeforeSent(Fault):
    """The wire is cut before the message is sent."""

    def harm(self, session: Session, message: bytes) -> None:
        pass


class AnswerLost(Fault):
    """The message arrives and is carried out; the wire is cut before the answer comes back."""

    def harm(self, session: Session, message: bytes) -> None:
        session.swallow()
        session.ask(message + session.rest_after(message))


class InFlight(Fault):
    """The client's side is cut at once; the message reaches the server `seconds` later, and after what is meanwhile."""

    def __init__(self, moment: Moment, *, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(moment)
        self.seconds = seconds
        self.meanwhile = meanwhile

    def harm(self, session: Session, message: bytes) -> None:
        session.swallow()
        pipeline = message + session.rest_after(message)
        close(session.client)
        time.sleep(self.seconds)
        self.meanwhile()
        session.ask(pipeline)


class Terminated(Fault):
    """An administrator ends the backend before the message arrives; it answers what came before, says so and closes."""

    def harm(self, session: Session, message: bytes) -> None:
        with psycopg.connect(conninfo(session.wire.server_url), autocommit=True) as administrator:
            while not administrator.execute(_TERMINATE_WAITING).fetchone():
                time.sleep(0.01)
        assert session.answered.wait(30)


class Silence(Fault):
    """The message and the rest of its pipeline are lost, and the connection stays open: nobody tells the client."""

    def strike(self, session: Session, message: bytes) -> None:
        session.rest_after(message)
        self.over.set()


class Session:
    """One connection through the wire, and a thread for each of its directions."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self.wire = wire
        self.client = client
        self.server = server
        self.answered = threading.Event()
        self._swallows = False
        for work in (self._to_server, self._to_client):
            threading.Thread(target=work, daemon=True).start()

    def swallow(self) -> None:
        """Pass no answer on any more; `answered` tells when one has come."""
        self._swallows = True

    def rest_after(self, message: bytes) -> bytes:
        """Take from the client what belongs to the message: all until the end of its pipeline."""
        rest = b""
        while message[:1] not in (b"Q", b"S"):
            message = _read_message(self.client)
            rest += message
        return rest

    def ask(self, messages: bytes) -> None:
        """Send the messages and wait until the server has answered."""
        self.server.sendall(messages)
        assert self.answered.wait(30)

    def close(self) -> None:
        close(self.client)
        close(self.server)

    def _to_server(self) -> None:
        try:
            self.server.sendall(_read_message(self.client, is_typed=False))
            while True:
                message = _read_message(self.client)
                if fault := self.wire.fault_for(self, message):
                    fault.strike(self, message)
                    continue
                self.server.sendall(message)
        except (CutError, OSError):
            self.close()

    def _to_client(self) -> None:
        try:
            while part := self.server.recv(65_536):
                if self._swallows:
                    self.answered.set()
                else:
                    self.client.sendall(part)
        except OSError:
            pass
        self.answered.set()
        self.close()


class Wire:
    """Stands between a service and its database; `url` is the database's URL by way of it. A context manager."""

    def __init__(self, url: URL) -> None:
        self.server_url = url
        self._server = _address(url)
        self._folder = Path(tempfile.mkdtemp(prefix="wire-", dir="/tmp"))
        self._sessions: list[Session] = []
        self._faults: list[Fault] = []
        self._guard = threading.Lock()
        self._listener: socket.socket | None = None
        self.url = url.set(host=None, port=None).update_query_dict({"host": str(self._folder), "port": "5432"})

    def __enter__(self) -> Wire:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        shutil.rmtree(self._folder)

    def up(self) -> None:
        """Take connections (again)."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """CutError all connections and take no new ones."""
        if self._listener is not None:
            close(self._listener)
            (self._folder / ".s.PGSQL.5432").unlink()
            self._listener = None
        for session in self._sessions:
            session.close()

    def arm(self, fault: Fault) -> Fault:
        """Let the fault strike at its moment."""
        with self._guard:
            self._faults.append(fault)
        return fault

    def fault_for(self, session: Session, message: bytes) -> Fault | None:
        with self._guard:
            for fault in self._faults:
                if fault.times and fault.moment(session, message):
                    fault.times -= 1
                    return fault
        return None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
            server.connect(self._server)
            self._sessions.append(Session(self, client, server))


def _address(url: URL) -> str | tuple[str, int]:
    folder = url.query.get("host", url.host or "/var/run/postgresql")
    port = int(str(url.query.get("port", url.port or 5432)))
    return f"{folder}/.s.PGSQL.{port}" if str(folder).startswith("/") else (str(folder), port)


def _read_message(source: socket.socket, *, is_typed: bool = True) -> bytes:
    """Return the next message: a type (but for the first one of all), a length that counts itself, and the rest."""
    head = _read(source, 5 if is_typed else 4)
    return head + _read(source, struct.unpack(">i", head[-4:])[0] - 4)


def _read(source: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = source.recv(length - len(parts))
        if not part:
            raise CutError
        parts += part
    return parts


def close(end: socket.socket) -> None:
    """Shut the socket down for both sides; a thread that waits on it wakes."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
