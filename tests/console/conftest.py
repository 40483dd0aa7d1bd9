"""Imitated browsers: they keep cookies, bring forms' tokens back and say where they came from, as real ones do."""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import psycopg
import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.engine import URL
from werkzeug.test import TestResponse

from tests.conftest import conninfo, lend, new_database, settings_for
from tests.copies import Copies
from wallet_app import create_app, service
from wallet_app.db import close_connections
from wallet_app.service.second_factor import unseal_totp_secret

ORIGIN = "http://localhost"
PASSWORDS = {role: f"horse battery {role} staple 47" for role in service.ROLES}
COOKIE = "__Host-wallet_session"
DEVICE = "__Host-wallet_browser"
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')

Sql = Callable[..., list[tuple[Any, ...]]]


def email_of(role: str) -> str:
    return f"{role}@wallet.example"


class Browser:
    """A browser at one address."""

    def __init__(self, app: Flask, *, address: str = "192.0.2.1") -> None:
        self.client: FlaskClient = app.test_client()
        self.address = address
        self.steps: dict[str, int] = app.extensions.setdefault("test_steps", {})

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.ask("GET", path, **options)

    def post(self, path: str, form: dict[str, str] | None = None, *, token: str | None = None, **headers: str | None):
        """Send a form as a page of ours would; a header that is None is left out, a token that is "" as well."""
        given = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = {"form_token": self.token() if token is None else token, **(form or {})}
        return self.ask(
            "POST",
            path,
            data={name: value for name, value in data.items() if name != "form_token" or value},
            headers={name: value for name, value in given.items() if value is not None},
        )

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        """As a server would: outside of the test's application context, with which requests would share their `g`."""
        base = {"REMOTE_ADDR": self.address}
        # To its end, so that what is streamed ends in the context in which it began.
        answer: TestResponse = contextvars.Context().run(
            self.client.open, path, method=method, environ_base=base, buffered=True, **options
        )
        return answer

    def token(self) -> str:
        """The token that every page has, here one that is no page of a screen."""
        found = _TOKEN.search(self.get("/console/set-up").get_data(as_text=True))
        assert found is not None
        return found[1]

    @property
    def cookie(self) -> str | None:
        return self._cookie(COOKIE)

    @property
    def device(self) -> str | None:
        return self._cookie(DEVICE)

    def take_cookie(self, value: str) -> None:
        self.client.set_cookie(COOKIE, value, domain="localhost", path="/")

    def enter_password(self, role: str, password: str | None = None, *, email: str | None = None) -> TestResponse:
        return self.post(
            "/console/sign-in", {"email": email or email_of(role), "password": password or PASSWORDS[role], "next": ""}
        )

    def enter_code(self, role: str) -> TestResponse:
        return self.post("/console/sign-in/code", {"code": self.code(role), "next": ""})

    def sign_in(self, role: str) -> Browser:
        assert self.enter_password(role).status_code == 303
        answer = self.enter_code(role)
        assert (answer.status_code, answer.location) == (303, "/console"), text_of(answer)
        return self

    def code(self, role: str) -> str:
        """A code of the operator's app that was not used before: this half minute's, then the next one's."""
        now = int(time.time()) // 30
        step = max(now, self.steps.get(role, 0) + 1)
        assert step <= now + 1, "no more than two codes can be used at once"
        self.steps[role] = step
        return pyotp.TOTP(totp_secret(email_of(role))).generate_otp(step)

    def is_signed_in(self) -> bool:
        return self.get("/console").status_code == 200

    def _cookie(self, name: str) -> str | None:
        found = self.client.get_cookie(name, domain="localhost")
        return None if found is None else found.value


def totp_secret(email: str) -> str:
    from sqlalchemy import text

    from wallet_app.db import db

    with db.engine.connect() as connection:
        row = connection.execute(text("SELECT id, totp_secret FROM operators WHERE email = :email"), {"email": email})
        operator_id, sealed = row.one()
    return unseal_totp_secret(sealed, operator_id)


def text_of(answer: TestResponse) -> str:
    return unescape(answer.get_data(as_text=True))


def is_sent_to_sign_in(answer: TestResponse) -> bool:
    return answer.status_code == 303 and (answer.location or "").startswith("/console/sign-in")


@pytest.fixture(scope="session")
def template_with_operators(server: URL, template: str) -> Iterator[str]:
    """A copy of the template with one operator of each role: made once, because hashing passwords takes its time."""
    for url in new_database(server, template=template):
        app = create_app(settings_for(url))
        with app.app_context():
            for role, password in PASSWORDS.items():
                name = f"Olga {role}"
                service.ensure_development_operator(email=email_of(role), name=name, role=role, password=password)
            close_connections()
        assert url.database is not None
        yield url.database


@pytest.fixture
def database(database_copies: Copies, template: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    """The URL of a database with the seeded books; with operators, where the test asks for them."""
    asks = "operators" in request.fixturenames
    yield from lend(database_copies, request.getfixturevalue("template_with_operators") if asks else template, request)


@pytest.fixture
def operators(app: Flask) -> None:
    """One operator of each role, whose password is known."""


@pytest.fixture
def browser(app: Flask, operators: None) -> Browser:
    return Browser(app)


@pytest.fixture
def browsers(app: Flask, operators: None) -> Callable[..., Browser]:
    """Make browsers; the same address unless another is said."""
    return lambda **options: Browser(app, **options)


@pytest.fixture
def sql(database: URL) -> Iterator[Sql]:
    """Run SQL as the tables' owner: to look at what is stored, or to let time pass for it."""
    with psycopg.connect(conninfo(database), autocommit=True) as connection:

        def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

        yield run


def audited(sql: Sql) -> list[tuple[str, str, str]]:
    """The audit log: who, what, outcome."""
    return sql("SELECT actor, action, outcome FROM audit_log ORDER BY id")  # type: ignore[return-value]
