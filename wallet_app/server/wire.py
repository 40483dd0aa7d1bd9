"""A client's socket: reads and writes that hold up no other client, each bounded by a time.

A wait has no timer of its own, which would cost more than the wait: it has a deadline, and the worker looks through
all of them twice a second.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import gevent
from gevent import monkey

SEND_SECONDS_MAX = 10.0
"""How long a client may take none of its answer."""
_READ_BYTES = 64 * 1024
# The C socket itself: it never waits, so gevent's, which would, has nothing to add to it.
_Socket = monkey.get_original("socket", "socket")


class TimeIsUpError(Exception):
    """A wait's deadline has passed."""


class ClientGoneError(Exception):
    """The client closed its side before it had sent what it began, or takes no more of its answer."""


class Wire:
    """A connected client: what it sent, a piece at a time, and what it is sent."""

    __slots__ = ("_at", "_data", "_reading", "_socket", "_writing")

    def __init__(self, client: Any) -> None:
        self._socket = _Socket(client.family, client.type, client.proto, fileno=client.detach())
        self._socket.setblocking(False)
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reading = _Wait(self._socket.fileno(), 1)
        self._writing = _Wait(self._socket.fileno(), 2)
        self._data = b""
        self._at = 0

    # --- reading ---

    @property
    def expect_by(self) -> float:
        """When a wait for the client's next bytes ends, on the monotonic clock."""
        return self._reading.deadline

    @expect_by.setter
    def expect_by(self, deadline: float) -> None:
        self._reading.deadline = deadline

    def pending(self) -> bytes:
        """Return what has come and was not taken yet."""
        if self._at:
            self._data, self._at = self._data[self._at :], 0
        return self._data

    def begins_with(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether what has come, and was not taken yet, begins so."""
        return pattern.match(self._data, self._at) is not None

    def skip(self, size: int) -> None:
        """Take so many of the pending bytes."""
        self._at += size

    def has_more(self) -> bool:
        """Whether bytes have come after all that nobody waited for any longer; they join the pending ones."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            return False
        self._data = self.pending() + data
        return bool(data)

    def wait_for_more(self) -> bool:
        """Wait for bytes to join the pending ones; False when none will come. Raises TimeIsUpError."""
        data = self._receive()
        self._data = self.pending() + data if self._data else data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Return the next bytes, at least one and at most `size`. Raises ClientGoneError, TimeIsUpError."""
        if self._at >= len(self._data):
            self._data, self._at = self._receive(), 0
            if not self._data:
                raise ClientGoneError
        piece = self._data[self._at : self._at + size] if self._at or size < len(self._data) else self._data
        self._at += len(piece)
        return piece

    def take_line(self, size_max: int) -> bytes | None:
        """Return the bytes up to the next CRLF, without it; None if that is farther than `size_max`.

        Raises ClientGoneError, TimeIsUpError.
        """
        while (end := self._data.find(b"\r\n", self._at, self._at + size_max)) < 0:
            if len(self._data) - self._at >= size_max:
                return None
            if not self.wait_for_more():
                raise ClientGoneError
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def _receive(self) -> bytes:
        # Without a try before the wait: a client that is always ready would keep everybody else from their turn.
        self._reading.wait()
        try:
            return bytes(self._socket.recv(_READ_BYTES))
        except BlockingIOError:
            return self._receive()
        except OSError:
            return b""

    # --- writing ---

    def send(self, data: bytes) -> None:
        """Send all of it. Raises ClientGoneError, also for a client that takes nothing for SEND_SECONDS_MAX."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise ClientGoneError from None
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            self._writing.deadline = time.monotonic() + SEND_SECONDS_MAX
            try:
                self._writing.wait()
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except (OSError, TimeIsUpError):
                raise ClientGoneError from None

    # --- the end ---

    def end_late_waits(self, now: float) -> None:
        """Raise TimeIsUpError in whoever waits beyond its deadline. To be called by the loop and by no greenlet."""
        for wait in (self._reading, self._writing):
            if wait.deadline <= now:
                wait.end()

    def linger(self, seconds: float) -> None:
        """Say that the answer is over, and let the client read it before the connection goes.

        Closing with unread data would make the kernel throw away what the client has not read yet.
        """
        self._data, self._at = b"", 0
        self.expect_by = time.monotonic() + seconds
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < self.expect_by and self._receive():
                pass
        except (OSError, TimeIsUpError):
            return

    def break_off(self) -> None:
        """Let the client see that its answer is not whole, where the answer's end alone would not tell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def close(self) -> None:
        self._reading.close()
        self._writing.close()
        self._socket.close()


class _Wait:
    """One greenlet's wait until a socket is ready."""

    __slots__ = ("_greenlet", "_hub", "_watcher", "deadline")

    def __init__(self, handle: int, events: int) -> None:
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(handle, events)
        self._greenlet: Any = None
        self.deadline = 0.0

    def wait(self) -> None:
        self._greenlet = gevent.getcurrent()
        try:
            self._hub.wait(self._watcher)
        finally:
            self._greenlet = None

    def end(self) -> None:
        # From the loop, which runs while everybody waits: what is thrown cannot hit the greenlet anywhere else.
        if self._greenlet is not None:
            self._greenlet.throw(TimeIsUpError)

    def close(self) -> None:
        self._watcher.close()
