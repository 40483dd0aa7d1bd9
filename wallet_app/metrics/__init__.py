"""What the service tells about itself: counted in families.py, in rows.py's memory, and shown by page.py."""

from __future__ import annotations

from wallet_app.metrics.families import (
    BATCH_COMMANDS,
    CONNECTIONS_IN_USE,
    CONNECTIONS_MAX,
    DEFERRED,
    FAILURES,
    OLDEST_SECONDS,
    POSTING_SECONDS,
    QUEUE_SECONDS,
    QUEUED,
    REFUSED,
    SILENT,
    UNAUTHENTICATED,
    WITHDRAWN,
)
from wallet_app.metrics.watch import Sight, every_second, start

__all__ = [
    "BATCH_COMMANDS",
    "CONNECTIONS_IN_USE",
    "CONNECTIONS_MAX",
    "DEFERRED",
    "FAILURES",
    "OLDEST_SECONDS",
    "POSTING_SECONDS",
    "QUEUE_SECONDS",
    "QUEUED",
    "REFUSED",
    "SILENT",
    "Sight",
    "UNAUTHENTICATED",
    "WITHDRAWN",
    "every_second",
    "start",
]
