"""The WSGI entry point: `gunicorn -c gunicorn.conf.py wsgi:app`, and what the `flask` command finds."""

from __future__ import annotations

from wallet_app import create_app

app = create_app()
