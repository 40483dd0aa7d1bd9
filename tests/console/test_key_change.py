"""WALLET_TOTP_KEY changes while operators go on signing in; the old key can go once nothing is sealed with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from tests.console.authenticator import Authenticator
from tests.console.conftest import Browser, Sql, email_of, totp_secret
from tests.console.test_cli_operators import ORIGIN, PEPPER, run
from tests.console.test_passkeys import enrol, enter, options
from wallet_app.config import ConfigurationError, Settings
from wallet_app.service import devices, sealing, second_factor

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
"""The old one is that of the tests' settings, under which the operators were made."""


def use(app: Flask, version: int, key: bytes, **before: bytes) -> None:
    """Let the service have the key, and those before it, as v1, v2, ..."""
    app.extensions["wallet_settings"] = replace(
        app.extensions["wallet_settings"],
        totp_key=key,
        totp_key_version=version,
        totp_keys_before={int(name[1:]): value for name, value in before.items()},
    )


def versions(sql: Sql) -> dict[str, int]:
    return {
        email.partition("@")[0]: sealing.version_of(sealed)
        for email, sealed in sql("SELECT email, totp_secret FROM operators")
    }


def seal_as_before_there_were_versions(sql: Sql, role: str) -> bytes:
    """Put the operator's secret back as it was sealed when there was one key; return what is stored."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    ((operator_id,),) = sql("SELECT id FROM operators WHERE email = %s", email_of(role))
    nonce, secret = bytes(12), totp_secret(email_of(role)).encode()
    sealed = b"\x01" + nonce + AESGCM(sealing._key(1, "sealing")).encrypt(nonce, secret, f"totp {operator_id}".encode())
    sql("UPDATE operators SET totp_secret = %s WHERE id = %s", sealed, operator_id)
    return sealed


def test_a_secret_is_sealed_anew_at_the_next_sign_in(app: Flask, browsers: Callable[..., Browser], sql: Sql) -> None:
    seal_as_before_there_were_versions(sql, "viewer")
    secret = totp_secret(email_of("viewer"))
    use(app, 2, NEW, v1=OLD)
    assert set(versions(sql).values()) == {1}
    browsers().sign_in("viewer")
    assert versions(sql) == {"viewer": 2, "support": 1, "approver": 1, "finance": 1, "admin": 1}
    assert totp_secret(email_of("viewer")) == secret, "the same secret, so the app still works"
    use(app, 2, NEW)
    assert browsers().sign_in("viewer").is_signed_in()
    assert browsers().enter_password("admin").status_code == 303
    with pytest.raises(ConfigurationError, match="no version 1, which an operator's secret was sealed with"):
        totp_secret(email_of("admin"))


def test_a_passkey_seals_it_anew_too(app: Flask, browsers: Callable[..., Browser], sql: Sql) -> None:
    device, browser = Authenticator(), browsers()
    browser.sign_in("admin")
    enrol(browser, device)
    use(app, 2, NEW, v1=OLD)
    again = browsers()
    assert enter(again, device.get(options(again, "/console/sign-in/passkey"))) == 303
    assert versions(sql)["admin"] == 2


def test_a_passkey_opens_also_when_the_authenticators_key_is_lost(
    app: Flask, browsers: Callable[..., Browser], sql: Sql
) -> None:
    device, browser = Authenticator(), browsers()
    browser.sign_in("admin")
    enrol(browser, device)
    use(app, 2, NEW)
    again = browsers()
    assert enter(again, device.get(options(again, "/console/sign-in/passkey"))) == 303
    assert versions(sql)["admin"] == 1


def test_nothing_is_written_where_nothing_changed(browser: Browser, sql: Sql) -> None:
    before = sql("SELECT totp_secret FROM operators WHERE email = %s", email_of("viewer"))
    browser.sign_in("viewer")
    assert sql("SELECT totp_secret FROM operators WHERE email = %s", email_of("viewer")) == before


def test_a_known_browser_stays_known_and_gets_a_new_signature(
    app: Flask, browsers: Callable[..., Browser], sql: Sql
) -> None:
    browser = browsers()
    browser.sign_in("viewer")
    ((operator_id,),) = sql("SELECT id FROM operators WHERE email = %s", email_of("viewer"))
    before = str(browser.device)
    use(app, 2, NEW, v1=OLD)
    assert devices.known_browser(before, operator_id) == before.rpartition(".")[0]
    browser.post("/console/sign-out")
    browser.sign_in("viewer")
    after = str(browser.device)
    assert after.rpartition(".")[0] == before.rpartition(".")[0], "the same browser"
    use(app, 2, NEW)
    assert devices.known_browser(after, operator_id) is not None
    assert devices.known_browser(before, operator_id) is None


def test_the_list_tells_how_many_still_need_the_old_key(app: Flask, browsers: Callable[..., Browser], sql: Sql) -> None:
    said = run(app, "list")[1]
    assert "old version" not in said
    assert "(old seal)" not in said
    use(app, 2, NEW, v1=OLD)
    browsers().sign_in("viewer")
    said = run(app, "list")[1]
    assert "4 of 5 authenticator secrets are sealed with an old version of WALLET_TOTP_KEY." in said
    lines = {line.split("@")[0]: line for line in said.splitlines()}
    assert lines["admin"].endswith("(old seal)")
    assert not lines["viewer"].endswith("(old seal)")


def test_what_is_sealed_is_bound_to_its_operator_and_its_key(app: Flask, operators: None) -> None:
    use(app, 7, NEW, v1=OLD)
    sealed = sealing.seal(b"secret", about="totp 1")
    assert (sealed[0], sealing.version_of(sealed)) == (2, 7)
    assert sealing.unseal(sealed, about="totp 1") == b"secret"
    for forged, about in ((sealed, "totp 2"), (sealed[:1] + b"\x00\x01" + sealed[3:], "totp 1")):
        with pytest.raises(ConfigurationError, match="is not the key"):
            sealing.unseal(forged, about=about)
    assert second_factor.has_old_seal(sealed) is False
    assert second_factor.has_old_seal(None) is False


# --- the setting ---


def test_the_highest_version_is_the_newest() -> None:
    keys = f"1:{OLD.hex()}, 12:{NEW.hex()}"
    settings = Settings.from_env({"WALLET_ENV": "production", "WALLET_TOTP_KEY": keys, **PEPPER, **ORIGIN})
    assert (settings.totp_key, settings.totp_key_version, settings.totp_keys_before) == (NEW, 12, {1: OLD})
    for key in (OLD, NEW):
        assert key.hex() not in repr(settings)
        assert repr(key) not in repr(settings)


def test_a_single_key_is_version_1() -> None:
    settings = Settings.from_env({"WALLET_TOTP_KEY": OLD.hex()})
    assert (settings.totp_key, settings.totp_key_version, settings.totp_keys_before) == (OLD, 1, {})


@pytest.mark.parametrize(
    "keys",
    [
        f"{OLD.hex()},{NEW.hex()}",
        f"1:{OLD.hex()},1:{NEW.hex()}",
        f"0:{OLD.hex()}",
        f"new:{OLD.hex()}",
        f"10000:{OLD.hex()}",
        f"2:{OLD.hex()},",
        f"2:{OLD.hex()},1:short",
        "2:,1:",
    ],
)
def test_what_are_no_keys_is_refused_and_not_repeated(keys: str) -> None:
    with pytest.raises(ConfigurationError, match=r"WALLET_TOTP_KEY must (be 32 random bytes|look like KEY)") as refused:
        Settings.from_env({"WALLET_ENV": "production", "WALLET_TOTP_KEY": keys, **PEPPER, **ORIGIN})
    assert OLD.hex() not in str(refused.value)
