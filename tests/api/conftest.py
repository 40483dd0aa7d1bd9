"""Applications for the API's tests: with other settings, without a database, and one that many tests share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL

from tests.conftest import run_sql, settings_for
from wallet_app import create_app
from wallet_app.db import db

MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def client_with(database: URL) -> Iterator[MakeClient]:
    """Make a client of the service with other settings, on this test's database."""
    made: list[Flask] = []

    def make(**changes: object) -> FlaskClient:
        made.append(create_app(replace(settings_for(database), **changes)))
        return made[-1].test_client()

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="module")
def shared_app(server: URL, template: str) -> Iterator[Flask]:
    """The service on a database that the tests of one module share; for tests that make wallets or references."""
    url = server.set(database=f"wallet_test_{secrets.token_hex(6)}")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    app = create_app(settings_for(url))
    try:
        with app.app_context():
            yield app
            db.engine.dispose()
    finally:
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")


@pytest.fixture
def shared(shared_app: Flask) -> FlaskClient:
    """A client for requests that must change nothing, or that touch nobody else's references."""
    return shared_app.test_client()
