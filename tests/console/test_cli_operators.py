"""`flask wallet operators ...`: by it the first operators come to be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from tests.console.conftest import Browser, Sql, audited, text_of
from tests.console.test_sign_in import set_up
from wallet_app import dev_operators, service
from wallet_app.config import ConfigurationError, Settings
from wallet_app.errors import OperatorInvalidError
from wallet_app.service import passwords

CODE = re.compile(r"Set-up code {2}((?:[A-Z2-9]{5}-){4}[A-Z2-9]{5})")


def run(app: Flask, *command: str) -> tuple[int, str]:
    done = app.test_cli_runner().invoke(args=["wallet", "operators", *command])
    return done.exit_code, done.output


def create(app: Flask, email: str = "Ada@Example.com", role: str = "admin", *more: str) -> tuple[int, str]:
    return run(app, "create", email, "--name", "Ada  Lovelace", "--role", role, *more)


def test_create_prints_a_code_with_which_they_set_up(app: Flask, sql: Sql) -> None:
    status, said = create(app, "Ada@Example.com", "admin", "--reason", "founder")
    assert status == 0
    assert said.startswith("ada@example.com is an admin.")
    found = CODE.search(said)
    assert found is not None
    assert "http://localhost:8000/console/set-up" in said
    assert sql("SELECT reason FROM audit_log WHERE action = 'operator:create'") == [("founder",)]
    browser = Browser(app)
    set_up(browser, "ada@example.com", found[1])
    assert "Hello, Ada Lovelace" in text_of(browser.get("/console"))


def test_what_cannot_be_is_said_in_a_sentence(app: Flask) -> None:
    create(app)
    assert create(app) == (1, "There is an operator ada@example.com already.\n")
    assert create(app, "nonsense") == (1, "'nonsense' is not an e-mail address.\n")
    assert run(app, "disable", "who@example.com") == (1, "There is no operator who@example.com.\n")
    assert run(app, "reset", "who@example.com")[0] == 1
    assert run(app, "code", "who@example.com")[0] == 1
    status, said = create(app, "x@example.com", "root")
    assert status == 2
    assert "'root' is not one of" in said


def test_list_disable_and_reset(app: Flask, sql: Sql) -> None:
    assert "There are no operators" in run(app, "list")[1]
    browser = Browser(app)
    first = CODE.search(create(app)[1])
    assert first is not None
    assert re.search(r"ada@example\.com +admin +waiting", run(app, "list")[1])
    set_up(browser, "ada@example.com", first[1])
    assert re.search(r"ada@example\.com +admin +active +0 passkeys +Ada Lovelace", run(app, "list")[1])
    assert run(app, "disable", "ADA@example.com")[0] == 0
    assert not browser.is_signed_in()
    assert re.search(r"ada@example\.com +admin +disabled", run(app, "list")[1])
    again = CODE.search(run(app, "reset", "ada@example.com")[1])
    assert again is not None
    set_up(browser, "ada@example.com", again[1], "eight purple trains at dusk")
    assert browser.is_signed_in()
    assert all(actor.startswith("cli:") for actor, action, _ in audited(sql) if action in {"operator:disable"})


def test_a_new_role_ends_sessions_and_is_recorded_with_the_old_one(app: Flask, browser: Browser, sql: Sql) -> None:
    browser.sign_in("support")
    assert "Adjust a balance" in text_of(browser.get("/console"))
    status, said = run(app, "role", "SUPPORT@wallet.example", "approver", "--reason", "moved", "--ticket", "T-9")
    assert (status, said) == (0, "SUPPORT@wallet.example is an approver now, and signed out everywhere.\n")
    assert not browser.is_signed_in()
    browser.sign_in("support")
    home = text_of(browser.get("/console"))
    assert "Adjust a balance" not in home
    assert "Approve or reject" in home
    ((operator_id,),) = sql("SELECT id FROM operators WHERE email = 'support@wallet.example'")
    assert sql(
        "SELECT subject, before, after, reason, ticket, outcome FROM audit_log WHERE action = 'operator:role'"
    ) == [(f"operator:{operator_id}", {"role": "support"}, {"role": "approver"}, "moved", "T-9", "done")]


def test_a_role_that_cannot_be_changes_nothing(app: Flask, browser: Browser, sql: Sql) -> None:
    browser.sign_in("viewer")
    assert run(app, "role", "viewer@wallet.example", "root")[0] == 2
    assert run(app, "role", "who@example.com", "admin") == (1, "There is no operator who@example.com.\n")
    same = run(app, "role", "viewer@wallet.example", "viewer")
    assert same == (1, "viewer@wallet.example has the role viewer already.\n")
    with pytest.raises(OperatorInvalidError, match="There is no role 'root'"):
        service.change_role("viewer@wallet.example", "root", by=service.By(actor="test"))
    assert browser.is_signed_in()
    assert not [action for _, action, _ in audited(sql) if action == "operator:role"]


def test_a_disabled_operator_stays_out_with_a_new_role(app: Flask, browser: Browser) -> None:
    run(app, "disable", "viewer@wallet.example")
    assert run(app, "role", "viewer@wallet.example", "finance")[0] == 0
    assert browser.enter_password("viewer").status_code == 422
    assert re.search(r"viewer@wallet\.example +finance +disabled", run(app, "list")[1])


def test_codes_are_printed_in_development_alone(app: Flask, operators: None) -> None:
    status, said = run(app, "code", "viewer@wallet.example")
    assert status == 0
    assert re.fullmatch(r"[0-9]{6}\n", said)
    for environment in ("staging", "production"):
        app.extensions["wallet_settings"] = replace(app.extensions["wallet_settings"], environment=environment)
        status, said = run(app, "code", "viewer@wallet.example")
        assert status == 1
        assert said.startswith("This is possible with WALLET_ENV=development alone")


def test_no_code_is_printed_that_lets_nobody_in(app: Flask, operators: None) -> None:
    run(app, "disable", "viewer@wallet.example")
    run(app, "create", "new@wallet.example", "--name", "New", "--role", "viewer")
    for email, told in (("viewer", "is disabled"), ("new", "has no authenticator app yet"), ("nobody", "")):
        status, said = run(app, "code", f"{email}@wallet.example")
        assert status == 1
        assert said.startswith(f"{email}@wallet.example {told}: " if told else "There is no operator"), said


def test_a_development_machine_has_one_operator_per_role(app: Flask, tmp_path: Path, sql: Sql) -> None:
    dev_operators.ensure(tmp_path)
    kept = dev_operators.passwords(tmp_path)
    assert set(kept) == {f"{role}@localhost" for role in service.ROLES}
    assert (tmp_path / "secrets" / dev_operators.SECRET).stat().st_mode & 0o777 == 0o600
    before = sql("SELECT * FROM operators ORDER BY id")
    dev_operators.ensure(tmp_path)
    assert sql("SELECT * FROM operators ORDER BY id") == before, "the second start changes nothing"
    browser = Browser(app)
    for email, password in kept.items():
        assert browser.enter_password("", password, email=email).status_code == 303
        code = service.development_code(email)
        assert browser.post("/console/sign-in/code", {"code": code, "next": ""}).location == "/console"
        browser.post("/console/sign-out")


def test_secrets_that_were_sealed_with_a_lost_key_are_made_anew(app: Flask, tmp_path: Path) -> None:
    dev_operators.ensure(tmp_path / "one")
    app.extensions["wallet_settings"] = replace(app.extensions["wallet_settings"], totp_key=bytes(32))
    with pytest.raises(ConfigurationError, match="is not the key"):
        service.development_code("admin@localhost")
    dev_operators.ensure(tmp_path / "other")
    browser = Browser(app)
    password = dev_operators.passwords(tmp_path / "other")["admin@localhost"]
    assert browser.enter_password("", password, email="admin@localhost").status_code == 303


# --- settings ---

PEPPER = {"WALLET_KEY_PEPPER": "0123456789abcdef" * 4, "WALLET_TOKEN_KEYS": "0123456789abcdef" * 4}
ORIGIN = {"WALLET_CONSOLE_ORIGIN": "https://wallet.example.com"}


@pytest.mark.parametrize("key", ["00" * 32, "AAAA" * 10 + "AAA=", "__-_" * 10 + "__8="])
def test_a_key_may_be_hexadecimal_or_base64(key: str) -> None:
    settings = Settings.from_env({"WALLET_ENV": "production", "WALLET_TOTP_KEY": key, **PEPPER, **ORIGIN})
    assert settings.totp_key is not None
    assert len(settings.totp_key) == 32
    assert key not in repr(settings)
    assert repr(settings.totp_key) not in repr(settings)


@pytest.mark.parametrize("key", ["short", "00" * 31, "00" * 33, "é" * 32, "AAAA" * 9])
def test_a_key_of_another_length_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigurationError, match="WALLET_TOTP_KEY must be 32 random bytes") as refused:
        Settings.from_env({"WALLET_TOTP_KEY": key})
    assert key not in str(refused.value)


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize("missing", ["WALLET_TOTP_KEY", "WALLET_CONSOLE_ORIGIN"])
def test_outside_of_development_both_are_required(environment: str, missing: str) -> None:
    env = {"WALLET_ENV": environment, "WALLET_TOTP_KEY": "00" * 32, **PEPPER, **ORIGIN}
    assert Settings.from_env(env).console_origin == "https://wallet.example.com"
    del env[missing]
    with pytest.raises(ConfigurationError, match=f"{missing} is missing, and {environment} has no default"):
        Settings.from_env(env)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://Wallet.Example.com/", "https://wallet.example.com"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://wallet.example.com", None),
        ("https://wallet.example.com/console", None),
        ("https://user@wallet.example.com", None),
        ("wallet.example.com", None),
        ("https://", None),
    ],
)
def test_the_consoles_address_is_an_origin(given: str, read: str | None) -> None:
    env = {"WALLET_CONSOLE_ORIGIN": given}
    if read is None:
        with pytest.raises(ConfigurationError, match="WALLET_CONSOLE_ORIGIN must look like"):
            Settings.from_env(env)
    else:
        assert Settings.from_env(env).console_origin == read


def test_a_password_may_be_typed_in_any_form() -> None:
    composed, decomposed = "caf\u00e9 au lait tous les jours", "cafe\u0301 au lait tous les jours"
    assert passwords.matches(decomposed, passwords.make_hash(composed))
