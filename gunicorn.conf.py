"""How gunicorn serves: in a container (`gunicorn -c gunicorn.conf.py wsgi:app`) and under `make run`."""

from __future__ import annotations

import os
import signal
from typing import Any

from gevent import monkey

# Before anything that waits is imported: what is imported earlier keeps its threads' locks, and psycopg its own waits.
# Processes, their signals and their ends stay Python's: gevent would reap the master's children before gunicorn does.
monkey.patch_all(os=False, signal=False, subprocess=False)

from wallet_app import db, metrics  # noqa: E402
from wallet_app.config import ConfigurationError, Settings  # noqa: E402

try:
    _settings = Settings.from_env()
    db.require_ready_login(_settings)
except ConfigurationError as problem:
    raise SystemExit(f"Dino Wallet cannot start: {problem}") from None

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
# Of each worker; further ones wait in the kernel until one of these ends.
worker_connections = _settings.connections_max
worker_class = "wallet_app.server.Worker"
preload_app = True

# The outermost of the time limits: a request has ended or given up long before its worker is killed.
timeout = 20
graceful_timeout = 15
keepalive = 5

limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190
# Which proxies to trust is the application's setting; gunicorn itself believes none of them.
forwarded_allow_ips = ""

loglevel = "warning"
control_socket_disable = True
# The workers' sign of life is a file that they touch, which must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108


def post_worker_init(worker: Any) -> None:  # noqa: ARG001
    """Leave the terminal's signals to the master, which lets the workers finish their requests; and be watched."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    metrics.start()
