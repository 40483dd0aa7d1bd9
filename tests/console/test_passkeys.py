"""Passkeys: only what the right device signed just now, for us and in this browser, opens anything, and only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.console.authenticator import PRESENT, Authenticator, encode
from tests.console.conftest import Browser, Sql, audited, email_of, is_sent_to_sign_in, text_of
from tests.console.test_sign_in import grow_stale
from wallet_app import service
from wallet_app.service import By


def options(browser: Browser, path: str) -> dict[str, Any]:
    answer = browser.post(f"{path}/options")
    assert answer.status_code == 200, text_of(answer)
    found: dict[str, Any] = answer.get_json()
    return found


def enrol(browser: Browser, device: Authenticator, name: str = "Key") -> None:
    answer = device.create(options(browser, "/console/account/passkeys"))
    done = browser.post("/console/account/passkeys", {"name": name, "answer": answer})
    assert (done.status_code, done.location) == (303, "/console/account?note=passkey-added"), text_of(done)


def enter(browser: Browser, answer: str) -> int:
    return browser.post("/console/sign-in/passkey", {"answer": answer, "next": ""}).status_code


@pytest.fixture
def device(browsers: Callable[..., Browser]) -> Authenticator:
    """Support's."""
    made = Authenticator()
    enrol(browsers().sign_in("support"), made)
    return made


def test_a_passkey_signs_in_by_itself(browser: Browser, device: Authenticator, sql: Sql) -> None:
    asked = options(browser, "/console/sign-in/passkey")
    assert asked["rpId"] == "localhost"
    assert asked["userVerification"] == "required"
    assert not asked.get("allowCredentials"), "it must not tell who has which passkey"
    assert enter(browser, device.get(asked)) == 303
    assert "Hello, Olga support" in text_of(browser.get("/console"))
    assert browser.device is not None
    assert audited(sql)[-1][1:] == ("sign_in:passkey", "done")
    assert sql("SELECT sign_count FROM passkeys WHERE last_used_at IS NOT NULL") == [(1,)]


def test_a_passkey_stands_in_at_the_second_factor(browser: Browser, device: Authenticator, sql: Sql) -> None:
    browser.enter_password("support")
    assert enter(browser, device.get(options(browser, "/console/sign-in/passkey"))) == 303
    assert browser.is_signed_in()
    assert sql("SELECT count(*) FROM sessions WHERE stage = 'second_factor'") == [(0,)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://localhost.evil.example"},
        {"origin": "http://localhost:81"},
        {"rp_id": "evil.example"},
        {"flags": PRESENT},
        {"flags": 0},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"handle": b"another's"},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_what_was_signed_for_somebody_else_or_by_somebody_else_opens_nothing(
    browser: Browser, device: Authenticator, sql: Sql, wrong: dict[str, Any]
) -> None:
    assert enter(browser, device.get(options(browser, "/console/sign-in/passkey"), **wrong)) == 422
    assert is_sent_to_sign_in(browser.get("/console"))
    assert audited(sql)[-1][1:] == ("sign_in:passkey", "failed")


def test_an_answer_is_good_once(browsers: Callable[..., Browser], device: Authenticator, sql: Sql) -> None:
    browser = browsers()
    answer = device.get(options(browser, "/console/sign-in/passkey"))
    assert enter(browser, answer) == 303
    browser.post("/console/sign-out")
    sql("UPDATE passkeys SET sign_count = 0")
    assert enter(browser, answer) == 422


def test_an_answer_is_for_the_browser_that_asked(browsers: Callable[..., Browser], device: Authenticator) -> None:
    victim, thief = browsers(), browsers()
    thief.get("/console/sign-in")
    answer = device.get(options(victim, "/console/sign-in/passkey"))
    assert enter(thief, answer) == 422
    assert enter(victim, answer) == 303


def test_an_answer_is_for_what_was_asked(browser: Browser, device: Authenticator, sql: Sql) -> None:
    browser.sign_in("support")
    grow_stale(sql)
    for_confirming = device.get(options(browser, "/console/confirm/passkey"))
    assert enter(browser, for_confirming) == 422
    for_signing_in = device.get(options(browser, "/console/sign-in/passkey"))
    assert browser.post("/console/confirm/passkey", {"answer": for_signing_in, "next": ""}).status_code == 422
    assert browser.get("/console/account/password").status_code == 303


def test_a_question_lapses(browser: Browser, device: Authenticator, sql: Sql) -> None:
    answer = device.get(options(browser, "/console/sign-in/passkey"))
    sql("UPDATE passkey_challenges SET expires_at = now()")
    assert enter(browser, answer) == 422


def test_an_invented_question_is_no_question(browser: Browser, device: Authenticator) -> None:
    browser.get("/console/sign-in")
    assert enter(browser, device.get({"challenge": encode(b"x" * 32), "rpId": "localhost"})) == 422


def test_a_copied_device_shows(browser: Browser, device: Authenticator) -> None:
    assert enter(browser, device.get(options(browser, "/console/sign-in/passkey"))) == 303
    browser.post("/console/sign-out")
    device.count = 0
    assert enter(browser, device.get(options(browser, "/console/sign-in/passkey"))) == 422


@pytest.mark.parametrize(
    "answer", ["", "{}", "[]", "null", "nonsense", '{"id": 1}', "9" * 20_000, '{"id":"\\ud800"}', "[" * 16_000]
)
def test_what_is_no_answer_is_refused(browser: Browser, answer: str) -> None:
    browser.get("/console/sign-in")
    assert enter(browser, answer) == 422
    browser.sign_in("viewer")
    form = {"name": "x", "answer": answer}
    assert browser.post("/console/account/passkeys", form).status_code == 422


@pytest.mark.parametrize("act", ["disable", "reset", "remove"])
def test_a_passkey_ends_with_its_operator_or_by_them(
    browsers: Callable[..., Browser], device: Authenticator, sql: Sql, act: str
) -> None:
    browser = browsers()
    answer = device.get(options(browser, "/console/sign-in/passkey"))
    if act == "disable":
        service.disable_operator(email_of("support"), by=By(actor="test"))
    elif act == "reset":
        service.reset_operator(email_of("support"), by=By(actor="test"))
    else:
        owner = browsers()
        enter(owner, device.get(options(owner, "/console/sign-in/passkey")))
        ((passkey,),) = sql("SELECT id FROM passkeys")
        done = owner.post(f"/console/account/passkeys/{passkey}/remove")
        assert done.location == "/console/account?note=passkey-removed"
        assert audited(sql)[-1][1:] == ("passkey:remove", "done")
    assert enter(browser, answer) == 422


def test_nobody_removes_or_confirms_with_anothers_passkey(
    browsers: Callable[..., Browser], device: Authenticator, sql: Sql
) -> None:
    other = browsers().sign_in("admin")
    ((passkey,),) = sql("SELECT id FROM passkeys")
    other.post(f"/console/account/passkeys/{passkey}/remove")
    assert sql("SELECT id FROM passkeys") == [(passkey,)]
    grow_stale(sql)
    answer = device.get(options(other, "/console/confirm/passkey"))
    assert other.post("/console/confirm/passkey", {"answer": answer, "next": ""}).status_code == 422


def test_a_passkey_is_a_fresh_proof(browser: Browser, device: Authenticator, sql: Sql) -> None:
    browser.sign_in("support")
    grow_stale(sql)
    before = browser.cookie
    answer = device.get(options(browser, "/console/confirm/passkey"))
    form = {"answer": answer, "next": "/console/account/password"}
    assert browser.post("/console/confirm/passkey", form).location == "/console/account/password"
    assert browser.cookie != before
    assert browser.get("/console/account/password").status_code == 200


def test_enrolment_asks_for_a_passkey_that_is_verified_and_new(browser: Browser, device: Authenticator) -> None:
    browser.sign_in("support")
    asked = options(browser, "/console/account/passkeys")
    assert asked["authenticatorSelection"]["residentKey"] == "required"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert [each["id"] for each in asked["excludeCredentials"]] == [encode(device.credential_id)]
    again = browser.post("/console/account/passkeys", {"name": "x", "answer": device.create(asked)})
    assert again.status_code == 422
    assert "known already" in text_of(again)
    unverified = Authenticator(flags=PRESENT).create(options(browser, "/console/account/passkeys"))
    assert browser.post("/console/account/passkeys", {"name": "x", "answer": unverified}).status_code == 422
    for status in (303, 422):
        another = Authenticator().create(asked)
        assert browser.post("/console/account/passkeys", {"name": "x", "answer": another}).status_code == status


def test_a_name_is_cut_and_shown_as_text(browsers: Callable[..., Browser]) -> None:
    browser = browsers().sign_in("viewer")
    enrol(browser, Authenticator(), "<b>" + "x" * 100)
    assert f"<b>{'x' * 57}<" in text_of(browser.get("/console/account"))
    assert "<b>" not in browser.get("/console/account").get_data(as_text=True)
