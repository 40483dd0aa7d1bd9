"""Ends the wait for a database that does not answer any more, though nothing says that it is gone.

libpq waits for an answer for as long as the connection stands. The server's own timeouts end a statement that takes
too long; they end nothing while the server is stopped, or when an answer was lost on its way. Keepalives are answered
by the other side's kernel, whatever its processes do, and over a unix socket there are none.

So a connection notes since when it waits, which costs less than a microsecond; once a second the process looks for
waits that are overdue, and shuts their sockets down. Whoever waits there finds that the connection was lost, and that
has been met for as long as there are networks: a read is tried once more, a posting runs again under the locks.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TypeVar
from weakref import WeakSet

import psycopg
import structlog
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from wallet_app import metrics

log = structlog.get_logger("wallet")

T = TypeVar("T")

GRACE_SECONDS = 2.0
"""By how much longer than a statement may take on the server its answer is waited for."""


class PatientConnection(psycopg.Connection[TupleRow]):
    """Knows since when it waits for an answer, and how long it may."""

    patience: float | None = None
    """In seconds; None waits for as long as it takes."""
    patience_otherwise: float | None = None
    """What `patience` is again when the unit of work that was given more of it has ended."""
    waits_since: float | None = None
    """On the monotonic clock; None while nothing is waited for."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run the generator until it has its result."""
        self.waits_since = time.monotonic()
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.Error:
            if self.waits_since == _GIVEN_UP:
                # It may have been told by the socket and not by libpq, which then does not know yet.
                self.close()
            raise
        finally:
            self.waits_since = None


_GIVEN_UP = -1.0

_watched: WeakSet[PatientConnection] = WeakSet()
_watched_guard = threading.Lock()


def watch(connection: PatientConnection, *, statement_seconds: float) -> None:
    """Have the connection's waits looked at; a statement may take so long on the server, 0 for as long as it takes."""
    patience = statement_seconds + GRACE_SECONDS if statement_seconds else None
    connection.patience = connection.patience_otherwise = patience
    with _watched_guard:
        _watched.add(connection)


def end_overdue_waits() -> Iterator[metrics.Sight]:
    """Shut down the connections whose answer is overdue. It has no figures of the moment to tell."""
    now = time.monotonic()
    with _watched_guard:
        connections = list(_watched)
    for connection in connections:
        since, patience = connection.waits_since, connection.patience
        if since is not None and patience is not None and 0 <= since < now - patience:
            _shut_down(connection, since)
    yield from ()


def _shut_down(connection: PatientConnection, since: float) -> None:
    try:
        number = os.dup(connection.pgconn.socket)
    except (psycopg.Error, OSError):
        return
    with socket.socket(fileno=number) as wire:
        # In the same wait as before it was copied, so the number was the connection's own all the time, and not
        # given to another file meanwhile.
        if connection.waits_since != since:
            return
        connection.waits_since = _GIVEN_UP
        try:
            wire.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
    metrics.SILENT.add()
    log.warning("database_silent", seconds=round(time.monotonic() - since, 1))


metrics.every_second(end_overdue_waits)
