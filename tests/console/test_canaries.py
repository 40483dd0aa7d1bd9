"""Secrets that were used once are afterwards nowhere but where they belong."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from urllib.parse import quote

import psycopg
import pyotp
import pytest
import structlog
from sqlalchemy.engine import URL
from werkzeug.test import TestResponse

from tests.conftest import conninfo
from tests.console.conftest import Browser, text_of, totp_secret
from tests.console.test_sign_in import set_up
from wallet_app import service
from wallet_app.service import By

EMAIL = "canary@wallet.example"
PASSWORD = "Zq7 canary&password sings+once"
WRONG = "Zq8 canary that%is wrong"


@pytest.fixture
def written(app: object, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """All that the service logs."""
    out = io.BytesIO()
    logger = structlog.wrap_logger(structlog.BytesLogger(out))
    for name, module in list(sys.modules.items()):
        if name.startswith("wallet_app") and hasattr(module, "log"):
            monkeypatch.setattr(module, "log", logger)
    return out


def forms_of(secret: str) -> set[bytes]:
    raw = secret.encode()
    return {
        raw,
        quote(secret).encode(),
        quote(secret, safe="").replace("%20", "+").encode(),
        raw.hex().encode(),
        base64.b64encode(raw).rstrip(b"=")[:-1],
    }


def test_no_secret_is_found_anywhere(
    browsers: Callable[..., Browser], database: URL, written: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[str, TestResponse]] = []
    browser, other = browsers(), browsers()
    for each in (browser, other):
        record(each, answers, monkeypatch)
    code = service.create_operator(email=EMAIL, name="Canary", role="admin", by=By(actor="test"))
    recovery = set_up(browser, EMAIL, code, PASSWORD)
    secret = totp_secret(EMAIL)
    cookies = [browser.cookie, browser.device]
    shown = len(answers)
    browser.get("/console/account")
    browser.post("/console/sign-out")
    other.enter_password("", WRONG, email=EMAIL)
    other.enter_password("", PASSWORD, email=EMAIL)
    cookies.append(other.cookie)
    other.post("/console/sign-in/recovery", {"code": "WRONG" + recovery[1], "next": ""})
    other.post("/console/sign-in/recovery", {"code": recovery[0], "next": ""})
    cookies += [other.cookie, other.device]
    totp = pyotp.TOTP(secret).now()
    other.post("/console/confirm", {"password": PASSWORD, "code": totp, "next": ""})
    other.get("/console/account")
    answers.append(("/metrics", other.get("/metrics")))

    secrets = {"password": PASSWORD, "wrong password": WRONG, "totp secret": secret, "set-up code": code}
    secrets |= {f"recovery code {number}": each for number, each in enumerate(recovery)}
    secrets |= {f"cookie {number}": str(each) for number, each in enumerate(cookies)}
    log = written.getvalue()
    stored = contents(database)
    assert b'"route":"/console/set-up"' in log
    assert EMAIL.encode() in stored
    for what, value in secrets.items():
        raw = {base64.b32decode(value).hex().encode()} if what == "totp secret" else set()
        for form in forms_of(value) | raw:
            assert form not in log, f"{what} in the log"
            assert form not in stored, f"{what} in the database"
            for number, (path, answer) in enumerate(answers):
                if number < shown and (what.startswith("recovery") or what == "totp secret"):
                    continue  # Shown once, to whom it belongs.
                assert form not in answer.get_data(), f"{what} in {path}"
    assert totp.encode() not in log


def record(browser: Browser, answers: list[tuple[str, TestResponse]], monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in ("get", "post"):
        real = getattr(browser, verb)

        def remembering(path: str, *args: object, real: Callable[..., TestResponse] = real, **options: object):
            answer = real(path, *args, **options)
            answers.append((path, answer))
            return answer

        monkeypatch.setattr(browser, verb, remembering)


def contents(database: URL) -> bytes:
    """Every row of every table as text, with bytes in hexadecimal."""
    with psycopg.connect(conninfo(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = [row for name in tables for (row,) in connection.execute(f"SELECT t::text FROM {name} t")]  # type: ignore[arg-type]
    return "\n".join(rows).encode()


def test_the_secrets_are_looked_for_in_a_way_that_finds_them(browser: Browser, database: URL) -> None:
    """The control: what is found if it were there."""
    browser.get("/console/sign-in")
    assert any(form in text_of(browser.get("/console/sign-in")).encode() for form in forms_of(browser.token()))
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        connection.execute("UPDATE operators SET set_up_hash = NULL, totp_secret = %s", (PASSWORD.encode(),))
    assert any(form in contents(database) for form in forms_of(PASSWORD))


def test_what_an_administrator_makes_is_found_on_its_page_alone(
    browsers: Callable[..., Browser], database: URL, written: io.BytesIO
) -> None:
    from tests.console.test_administration import CODE, KEY, carried

    admin = browsers().sign_in("admin")
    key_form = carried(admin.post("/console/keys/check", {"client": "shop", "scope.wallets:read": "on", "days": "30"}))
    pages = [text_of(admin.post("/console/keys", key_form)) for _ in range(2)]
    new = {"email": EMAIL, "name": "Canary", "role": "viewer"}
    code_form = carried(admin.post("/console/operators/check", new))
    pages += [text_of(admin.post("/console/operators", code_form)) for _ in range(2)]
    secrets = [key_form["form_key"], code_form["form_key"]]
    for pattern in (KEY, CODE):
        found = {secret for page in pages for secret in pattern.findall(page)}
        assert len(found) == 1, "twice the same"
        secrets += found
    others = [text_of(admin.get(path)) for path in ("/console/keys", "/console/operators", "/console/settings")]
    log, stored = written.getvalue(), contents(database)
    assert b'"route":"/console/keys"' in log
    assert EMAIL.encode() in stored
    for secret in secrets:
        for form in forms_of(secret):
            assert form not in log
            assert form not in stored
        assert not [page for page in others if secret in page]
