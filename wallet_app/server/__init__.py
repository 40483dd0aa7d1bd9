"""How the service takes requests from clients that may be slow, broken or hostile: a worker class for gunicorn.

Gunicorn keeps the processes, their signals and their restarts. In a worker each connection is a greenlet, so that a
slow client costs only that; llhttp reads the heads; what the server itself refuses is answered by the application, like
every other error. The package serves, and knows nothing of wallets.
"""

from __future__ import annotations

from wallet_app.server.body import READ_SECONDS_MAX, WHOLE_BODY_BYTES_MAX
from wallet_app.server.connection import LINGER_SECONDS_MAX, REQUEST_SECONDS_MAX
from wallet_app.server.head import HEAD_BYTES_MAX
from wallet_app.server.wire import SEND_SECONDS_MAX
from wallet_app.server.worker import Worker

__all__ = [
    "HEAD_BYTES_MAX",
    "LINGER_SECONDS_MAX",
    "READ_SECONDS_MAX",
    "REQUEST_SECONDS_MAX",
    "SEND_SECONDS_MAX",
    "WHOLE_BODY_BYTES_MAX",
    "Worker",
]
