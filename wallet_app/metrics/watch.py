"""Looks, once a second, at what is not counted as it happens: what waits, and what is in use."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import structlog

from wallet_app.metrics.families import GAUGES, Family, Kind

log = structlog.get_logger("wallet")

Sight = tuple[Family, tuple[str, ...], float]
Look = Callable[[], Iterable[Sight]]

_SECONDS = 1.0
_looks: list[Look] = []
_start = threading.Lock()
_watched_by = 0


def every_second(look: Look) -> None:
    """Let each process that is watched take the look, which returns gauges and what to add to them."""
    _looks.append(look)


def start() -> None:
    """Watch this process. Call it after the server's fork; calling it again does nothing."""
    global _watched_by
    with _start:
        if _watched_by == os.getpid():
            return
        _watched_by = os.getpid()
        threading.Thread(target=_watch, name="watch", daemon=True).start()


def _watch() -> None:
    # A greenlet is copied by a fork, and ends there.
    while _watched_by == os.getpid():
        _look_around()
        time.sleep(_SECONDS)


def _look_around() -> None:
    found: defaultdict[tuple[Family, tuple[str, ...]], float] = defaultdict(float)
    for look in list(_looks):
        try:
            for family, values, number in look():
                key = family, values
                found[key] = max(found[key], number) if family.kind is Kind.LARGEST else found[key] + number
        except Exception as fault:
            log.error("watch_failed", exc_info=fault)
    for gauge in GAUGES:
        for values in gauge.places:
            gauge.put(*values, number=found[gauge, values])
