"""The key that the tests use: every scope, the client `tests`, in all databases of this run.

A module of its own, because pytest imports a conftest.py under another name than the tests do.
"""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient

from wallet_app import service

PEPPERS = {1: b"the_pepper_of_the_tests_is_no_secret"}
TOKEN_KEYS = {"new": b"the_tokens_of_the_tests_are_no_secret", "old": b"nor_are_the_ones_that_were_made_before"}
VAULT = service.Vault("development", PEPPERS)
KEY = VAULT.make_key().text
"""A key of the client `tests` with every scope, in all databases of this run."""


ENVIRONMENT = {
    "WALLET_KEY_PEPPER": PEPPERS[1].decode(),
    "WALLET_TOKEN_KEYS": ",".join(f"{name}:{secret.decode()}" for name, secret in TOKEN_KEYS.items()),
}
"""What a service in a process of its own needs to know the key, on a copy of the template's database."""

BOOTSTRAP = {**ENVIRONMENT, "WALLET_BOOTSTRAP_API_KEY": KEY}
"""The same on any other database."""


def client_of(app: Flask, key: str | None = KEY) -> FlaskClient:
    """Return a client that sends the key with every request."""
    client = app.test_client()
    if key is not None:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client
