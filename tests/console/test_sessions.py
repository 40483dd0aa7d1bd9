"""A session ends when it should, is never worth more than its cookie was given for, and is stored by its hash alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from hashlib import sha256

import pytest
from flask import Flask

from tests.console.authenticator import Authenticator
from tests.console.conftest import (
    COOKIE,
    ORIGIN,
    PASSWORDS,
    Browser,
    Sql,
    audited,
    email_of,
    is_sent_to_sign_in,
    text_of,
)
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import NotSignedInError
from wallet_app.service import By, sessions
from wallet_app.service.sessions import Visitor


def test_each_step_has_a_new_id_and_the_one_before_is_worth_nothing(browser: Browser, sql: Sql) -> None:
    seen = []
    browser.get("/console/sign-in")
    seen.append(browser.cookie)
    browser.enter_password("admin")
    seen.append(browser.cookie)
    browser.enter_code("admin")
    seen.append(browser.cookie)
    browser.post("/console/confirm", {"password": PASSWORDS["admin"], "code": browser.code("admin"), "next": ""})
    assert browser.is_signed_in()
    seen.append(browser.cookie)
    assert len(set(seen)) == 4
    assert sql("SELECT id_hash FROM sessions") == [(sha256(str(seen[-1]).encode()).digest(),)]
    for old in seen[:-1]:
        browser.take_cookie(str(old))
        assert is_sent_to_sign_in(browser.get("/console"))


def test_a_cookie_that_somebody_planted_is_never_signed_in(browsers: Callable[..., Browser]) -> None:
    attacker, victim = browsers(), browsers()
    attacker.get("/console/sign-in")
    planted = str(attacker.cookie)
    victim.take_cookie(planted)
    victim.sign_in("admin")
    assert victim.cookie != planted
    assert not attacker.is_signed_in()
    assert attacker.cookie == planted


def test_a_session_that_is_half_way_is_not_followed_by_another_browser(browsers: Callable[..., Browser]) -> None:
    attacker, victim = browsers(), browsers()
    victim.enter_password("admin")
    attacker.take_cookie(str(victim.cookie))
    victim.enter_code("admin")
    assert victim.is_signed_in()
    assert is_sent_to_sign_in(attacker.get("/console/sign-in/code"))


def test_after_sign_out_the_cookie_opens_nothing(browsers: Callable[..., Browser], sql: Sql) -> None:
    browser, thief = browsers(), browsers()
    browser.sign_in("viewer")
    thief.take_cookie(str(browser.cookie))
    assert thief.is_signed_in()
    answer = browser.post("/console/sign-out")
    assert (answer.status_code, answer.location) == (303, "/console/sign-in?note=signed-out")
    (line,) = (line for line in answer.headers.getlist("Set-Cookie") if line.startswith(f"{COOKIE}="))
    assert "Max-Age=0" in line
    assert not thief.is_signed_in()
    assert "You are signed out." in text_of(browser.get(answer.location))
    assert audited(sql)[-1][1:] == ("sign_in:end", "done")


@pytest.mark.parametrize("act", ["disable", "reset", "role", "end all", "new password"])
def test_what_ends_all_sessions_ends_them_at_once(browsers: Callable[..., Browser], sql: Sql, act: str) -> None:
    here, there, half, other = browsers(), browsers(), browsers(), browsers()
    here.sign_in("support")
    there.sign_in("support")
    half.enter_password("support")
    other.sign_in("viewer")
    if act == "disable":
        service.disable_operator(email_of("support"), by=By(actor="test"))
    elif act == "reset":
        service.reset_operator(email_of("support"), by=By(actor="test"))
    elif act == "role":
        service.change_role(email_of("support"), "viewer", by=By(actor="test"))
    elif act == "end all":
        assert here.post("/console/account/sessions/end").location == "/console/sign-in?note=ended"
    else:
        form = {"password": "seven purple trains at dawn"}
        assert here.post("/console/account/password", form).location == "/console/sign-in?note=password"
    for browser in (here, there, half):
        assert is_sent_to_sign_in(browser.get("/console"))
        assert is_sent_to_sign_in(browser.get("/console/account"))
        assert browser.get("/console/sign-in/code").location.startswith("/console/sign-in?")
    assert other.is_signed_in()
    assert sql("SELECT count(*) FROM sessions") == [(1,)]
    in_again = browsers().enter_password("support").status_code == 303
    assert in_again == (act in {"role", "end all"})


def test_a_session_that_is_being_made_ends_too(operators: None, sql: Sql) -> None:
    """As when all sessions are ended between the check of a password and the session that follows it."""
    ((operator_id, epoch),) = sql("SELECT id, epoch FROM operators WHERE email = %s", email_of("admin"))
    with unit_of_work() as connection:
        sessions.end_all_of(connection, operator_id)
    assert service.find_session(begin(operator_id, epoch)) is None
    assert service.find_session(begin(operator_id, epoch + 1)) is not None


def test_a_disabled_operator_has_no_session_whatever_its_epoch(operators: None, sql: Sql) -> None:
    service.disable_operator(email_of("admin"), by=By(actor="test"))
    ((operator_id, epoch),) = sql("SELECT id, epoch FROM operators WHERE email = %s", email_of("admin"))
    assert service.find_session(begin(operator_id, epoch)) is None


@pytest.mark.parametrize("ends", ["reset", "disable", "role"])
def test_what_voids_credentials_is_not_overtaken_by_a_new_one(operators: None, sql: Sql, ends: str) -> None:
    """As when a form that was admitted a moment before is still on its way to the database."""
    ((operator_id, epoch),) = sql("SELECT id, epoch FROM operators WHERE email = %s", email_of("approver"))
    session = service.find_session(begin(operator_id, epoch))
    assert session is not None
    by = By(actor="test")
    if ends == "reset":
        service.reset_operator(email_of("approver"), by=by)
    elif ends == "disable":
        service.disable_operator(email_of("approver"), by=by)
    else:
        service.change_role(email_of("approver"), "viewer", by=by)
    before = sql("SELECT password_hash, totp_secret FROM operators WHERE id = %s", operator_id)
    device, cookie, visitor = Authenticator(), "a cookie", Visitor(address="192.0.2.1")
    asked = json.loads(service.ask_to_enrol(session, cookie=cookie, origin=ORIGIN))
    with pytest.raises(NotSignedInError):
        service.enrol_passkey(session, device.create(asked), name="x", cookie=cookie, origin=ORIGIN, visitor=visitor)
    with pytest.raises(NotSignedInError):
        service.change_password(session, "four words that nobody combines", visitor=visitor)
    with pytest.raises(NotSignedInError):
        service.new_recovery_codes(session, visitor=visitor)
    assert sql("SELECT password_hash, totp_secret FROM operators WHERE id = %s", operator_id) == before
    assert sql("SELECT (SELECT count(*) FROM passkeys), (SELECT count(*) FROM recovery_codes)") == [(0, 0)]


def test_of_new_recovery_codes_that_are_made_at_once_the_last_ones_alone_are_good(
    app: Flask, browser: Browser, sql: Sql
) -> None:
    browser.sign_in("support")
    session = service.find_session(browser.cookie or "")
    assert session is not None
    ready = threading.Barrier(4)

    def make() -> None:
        with app.app_context():
            ready.wait(10)
            service.new_recovery_codes(session, visitor=Visitor(address="192.0.2.1"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sql("SELECT count(*) FROM recovery_codes") == [(service.RECOVERY_CODES,)]


def begin(operator_id: int, epoch: int) -> str:
    visitor = Visitor(address="192.0.2.1")
    with unit_of_work() as connection:
        return sessions.begin(connection, operator_id=operator_id, epoch=epoch, stage="signed_in", visitor=visitor)


def test_of_two_that_use_the_same_half_way_session_one_gets_in(browsers: Callable[..., Browser]) -> None:
    one, other = browsers(), browsers()
    one.enter_password("viewer")
    other.take_cookie(str(one.cookie))
    session = service.find_session(str(one.cookie))
    assert session is not None
    done = service.finish_with_code(session, one.code("viewer"), visitor=Visitor(address="192.0.2.1"))
    assert service.find_session(done.cookie) is not None
    with pytest.raises(NotSignedInError):
        service.finish_with_code(session, one.code("viewer"), visitor=Visitor(address="192.0.2.1"))


@pytest.mark.parametrize(
    ("column", "seconds"), [("last_seen_at", 15 * 60), ("began_at", 8 * 60 * 60)], ids=["idle", "absolute"]
)
def test_a_session_ends_by_itself(browser: Browser, sql: Sql, column: str, seconds: int) -> None:
    browser.sign_in("viewer")
    sql(f"UPDATE sessions SET {column} = now() - interval '{seconds - 60} seconds'")
    assert browser.is_signed_in()
    sql(f"UPDATE sessions SET {column} = now() - interval '{seconds} seconds'")
    assert is_sent_to_sign_in(browser.get("/console"))
    assert is_sent_to_sign_in(browser.post("/console/account/sessions/end"))


def test_use_keeps_a_session_from_being_idle(browser: Browser, sql: Sql) -> None:
    browser.sign_in("viewer")
    for _ in range(3):
        sql("UPDATE sessions SET last_seen_at = last_seen_at - interval '14 minutes'")
        assert browser.is_signed_in()
    ((age,),) = sql("SELECT extract(epoch FROM now() - last_seen_at)::float8 FROM sessions")
    assert age < 60


def test_half_way_a_session_waits_ten_minutes(browser: Browser, sql: Sql) -> None:
    browser.enter_password("viewer")
    sql("UPDATE sessions SET began_at = now() - interval '600 seconds'")
    assert browser.get("/console/sign-in/code").location == "/console/sign-in?next=/console/sign-in/code"


def test_the_cookies_are_for_this_host_over_tls_and_out_of_reach_of_scripts(browser: Browser) -> None:
    browser.enter_password("viewer")
    answer = browser.enter_code("viewer")
    cookies = {line.split("=", 1)[0]: line for line in answer.headers.getlist("Set-Cookie")}
    (earlier,) = set(cookies) - {COOKIE, "__Host-wallet_browser"}
    assert earlier.startswith("__Host-wallet_form_"), "for a form that is older than the session, see test_forms.py"
    assert "Max-Age=3600" in cookies[earlier]
    for line in cookies.values():
        attributes = {part.strip() for part in line.split(";")[1:]}
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= attributes
        assert not any(part.startswith("Domain") for part in attributes)
    assert "Max-Age" not in cookies[COOKIE]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", str(browser.cookie))


def test_an_operator_sees_where_they_are_signed_in(browsers: Callable[..., Browser]) -> None:
    here, there = browsers(), browsers(address="198.51.100.7")
    here.sign_in("viewer")
    there.sign_in("viewer")
    browsers().sign_in("support")
    page = text_of(here.get("/console/account"))
    assert page.count("this one") == 1
    assert "192.0.2.1" in page
    assert "198.51.100.7" in page
    assert page.count("<td>192.0.2.1</td>") == 1


def test_a_page_that_does_not_exist_leaves_the_session_alone(browser: Browser) -> None:
    browser.sign_in("viewer")
    cookie = browser.cookie
    answer = browser.get("/console/nothing/here")
    assert answer.status_code == 404
    assert "Sign out" in text_of(answer)
    assert browser.post("/console/account").status_code == 405
    assert browser.cookie == cookie
    assert browser.is_signed_in()


def test_what_is_over_is_removed_with_the_next_sign_in(browsers: Callable[..., Browser], sql: Sql) -> None:
    browsers().enter_password("viewer")
    browsers(address="198.51.100.9").enter_password("viewer", "wrong")
    sql("UPDATE sessions SET began_at = began_at - interval '9 hours'")
    sql("UPDATE sign_in_attempts SET last_at = last_at - interval '25 hours'")
    browsers(address="203.0.113.5").sign_in("support")
    assert sql("SELECT count(*) FROM sessions") == [(1,)]
    assert sql("SELECT count(*) FROM sign_in_attempts WHERE last_at < now() - interval '1 day'") == [(0,)]
