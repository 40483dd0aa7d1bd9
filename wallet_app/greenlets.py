"""A database connection that waits as a greenlet, for a process in which gevent has patched Python.

psycopg's own wait works there too, by gevent's imitation of `select.poll`, which makes a poll object, a watcher and a
timer for each wait. A posting waits a dozen times: this was a twentieth of what a request cost.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import gevent
import psycopg
from gevent import monkey

from wallet_app.patience import PatientConnection

T = TypeVar("T")

# psycopg's words for what it waits for, and for what came, are the loop's: 1 to read, 2 to write, 3 for either.


def is_patched() -> bool:
    """Whether the threads of this process are greenlets."""
    return bool(monkey.is_module_patched("select"))


class GreenletConnection(PatientConnection):
    """Lets other greenlets run while it waits for the database."""

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run the generator until it has its result; one that is timed is left to psycopg."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        self.waits_since = time.monotonic()
        try:
            events = int(next(gen))
            while True:
                try:
                    ready = self._wait_for(events)
                except psycopg.Error as lost:
                    # Said to the generator: one that is dropped halfway ends with a traceback on stderr.
                    events = int(gen.throw(lost))
                else:
                    events = int(gen.send(ready))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            self.waits_since = None

    def _wait_for(self, events: int) -> int:
        """Return what the socket is ready for. A broken one is ready, and fails when it is used."""
        hub = gevent.get_hub()
        # In front of the clients' sockets that are ready as well: somebody may wait for what is locked meanwhile.
        watcher = hub.loop.io(self.pgconn.socket, events, priority=hub.loop.MAXPRI)
        try:
            hub.wait(watcher)
        finally:
            watcher.close()
        return events
