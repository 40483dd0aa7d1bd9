"""No other site can send our forms, no GET does anything, and every answer has the headers that keep it so."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo
from tests.console.conftest import COOKIE, ORIGIN, Browser, Sql, email_of, text_of
from tests.console.test_roles import sample
from tests.keys import KEY, VAULT
from wallet_app.console.browser import origin
from wallet_app.console.screens import SCREENS, Screen
from wallet_app.service import actors

POSTS = [screen for screen in SCREENS.values() if screen.method == "POST"]
READS = [screen for screen in SCREENS.values() if screen.method == "GET"]


def path_of(screen: Screen) -> str:
    return sample(screen.path)


def name_of(screen: Screen) -> str:
    return f"{screen.method} {screen.path}"


def contents(database: URL) -> dict[str, list[str]]:
    """Everything in the database, but when sessions were last used, which is what a GET may write."""
    with psycopg.connect(conninfo(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert {"operators", "sessions", "audit_log", "ledger_entries"} <= set(tables)
        return {
            name: sorted(
                str(row)
                for (row,) in connection.execute(f"SELECT to_jsonb(t) - 'last_seen_at' FROM {name} t")  # type: ignore[arg-type]
            )
            for name in tables
        }


FOREIGN = {
    "from another site": {"Sec_Fetch_Site": "cross-site"},
    "from a sibling host": {"Sec_Fetch_Site": "same-site"},
    "typed in": {"Sec_Fetch_Site": "none"},
    "with another origin": {"Origin": "https://evil.example"},
    "with our origin as a prefix": {"Origin": f"{ORIGIN}.evil.example"},
    "with another port": {"Origin": f"{ORIGIN}:8080"},
    "with a null origin": {"Origin": "null"},
    "without an origin": {"Origin": None},
    "without an origin, from an old browser": {"Origin": None, "Sec_Fetch_Site": None},
    "with a wrong token": {"token": "0" * 64},
    "without a token": {"token": ""},
    "with another's token": {"token": "another's"},
}


def test_a_form_from_elsewhere_changes_nothing(browsers: Callable[..., Browser], database: URL) -> None:
    """Of every screen that takes one."""
    browser, stranger = browsers(), browsers()
    browser.sign_in("admin")
    own, others = browser.token(), stranger.token()
    before = contents(database)
    for screen in POSTS:
        for how, given in FOREIGN.items():
            token = others if given.get("token") == "another's" else given.get("token", own)
            headers = {name: value for name, value in given.items() if name != "token"}
            answer = browser.post(path_of(screen), {}, token=token, **headers)
            assert answer.status_code == 403, (name_of(screen), how)
            assert "Nothing was done" in text_of(answer)
    assert contents(database) == before
    assert browser.is_signed_in()


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/json"])
def test_a_form_is_sent_as_a_form(browser: Browser, content_type: str) -> None:
    answer = browser.ask(
        "POST",
        "/console/sign-in",
        data=b"--x--",
        content_type=content_type,
        headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "X-Form-Token": browser.token()},
    )
    assert answer.status_code == 415


def test_an_old_browser_without_sec_fetch_site_may(browser: Browser) -> None:
    form = {"email": email_of("viewer"), "password": "wrong", "next": ""}
    assert browser.post("/console/sign-in", form, Sec_Fetch_Site=None).status_code == 422


def test_two_tabs_that_were_opened_at_once_can_both_sign_in(browsers: Callable[..., Browser]) -> None:
    """Each answer made a cookie, and the browser has the later one; what signs nobody in it is not good for."""
    browser, other_tab = browsers(), browsers()
    first, second = browser.token(), other_tab.token()
    for cookie in other_tab.client._cookies.values():
        browser.client.set_cookie(cookie.key, cookie.value, domain="localhost", path="/")
    form = {"email": email_of("viewer"), "password": "wrong", "next": ""}
    for token, status in ((first, 422), (second, 422), (browsers().token(), 403)):
        assert browser.post("/console/sign-in", form, token=token).status_code == status
    browser.sign_in("viewer")
    assert browser.post("/console/account/sessions/end", token=first).status_code == 403
    assert browser.is_signed_in()
    for _ in range(9):
        browser.client.delete_cookie(COOKIE, domain="localhost", path="/")
        browser.token()
        assert len(browser.client._cookies) <= 8, "of cookies that were there before few are kept"


def test_without_the_setting_this_machine_is_believed_by_its_own_name(app: Flask) -> None:
    """Whoever lets their name lead to this machine would otherwise have pages of theirs for pages of ours."""
    for asked, believed in (
        ("http://localhost:8123", "http://localhost:8123"),
        ("https://localhost", "https://localhost"),
        ("http://evil.example:8000", "http://localhost:8000"),
        ("http://localhost.evil.example", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://localhost:8000"),
    ):
        with app.test_request_context("/console/sign-in", base_url=asked):
            assert origin() == believed


def test_the_configured_origin_is_the_one_that_counts(app: Flask, browser: Browser) -> None:
    from dataclasses import replace

    app.extensions["wallet_settings"] = replace(
        app.extensions["wallet_settings"], console_origin="https://wallet.example.com"
    )
    form = {"email": email_of("viewer"), "password": "wrong", "next": ""}
    assert browser.post("/console/sign-in", form).status_code == 403
    assert browser.post("/console/sign-in", form, Origin="https://wallet.example.com").status_code == 422


def test_fields_that_a_form_does_not_have_are_refused(browser: Browser) -> None:
    answer = browser.post("/console/sign-in", {"email": "a@b", "password": "x", "next": "", "role": "admin"})
    assert answer.status_code == 422
    assert "role: is not a field of this form" in text_of(answer)


@pytest.mark.wide
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_no_get_changes_anything(
    browsers: Callable[..., Browser], database: URL, app: Flask, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which keys were used is written once a minute, by nobody's request.
    monkeypatch.setattr(actors, "_USES_SECONDS", 3_600.0)
    nobody, half, signed_in = browsers(), browsers(), browsers()
    half.enter_password("support")
    signed_in.sign_in("admin")
    before = contents(database)
    asked = set()
    for rule in app.url_map.iter_rules():
        if method not in (rule.methods or set()):
            continue
        path = sample(rule.rule).replace("<path:filename>", "x").replace("<wallet_id>", "3")
        path = path.replace("<transaction_id>", "1").replace("<user_id>", "2").replace("<key_id>", VAULT.read_id(KEY))
        key = {"headers": {"Authorization": f"Bearer {KEY}"}}
        for browser, more in ((nobody, {}), (nobody, key), (half, {}), (signed_in, {})):
            answer = browser.ask(method, path, **more)
            assert answer.status_code < 500, path
        asked.add(path)
    assert {
        "/console",
        "/console/account",
        "/console/sign-in",
        "/console/set-up",
        "/wallets/3",
        "/keys",
        "/users/2",
    } <= asked
    after = contents(database)
    # What the operator may not see is denied, which is recorded: that is all there is more.
    assert [row for row in after["audit_log"] if "'outcome': 'denied'" not in row] == before["audit_log"]
    assert {**after, "audit_log": before["audit_log"]} == before


@pytest.mark.wide
@pytest.mark.parametrize("screen", READS, ids=name_of)
def test_pages_are_not_kept_and_load_only_what_is_ours(browser: Browser, screen: Screen) -> None:
    browser.sign_in("admin")
    require_headers(browser.get(path_of(screen)))


def require_headers(answer: object) -> None:
    headers = answer.headers  # type: ignore[attr-defined]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) <= {"'none'", "'self'"}
    text = answer.get_data(as_text=True)  # type: ignore[attr-defined]
    for inline in ("<style", " style=", "<script>", " onclick", "javascript:"):
        assert inline not in text
    assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


@pytest.mark.parametrize(
    ("path", "status"), [("/console/nothing", 404), ("/console/sign-in/", 404), ("/console/account/password/x", 404)]
)
def test_errors_are_pages(browser: Browser, path: str, status: int) -> None:
    answer = browser.get(path)
    assert answer.status_code == status
    assert answer.content_type == "text/html; charset=utf-8"
    assert "<h1>Not Found</h1>" in text_of(answer)
    assert answer.headers["X-Request-Id"] in text_of(answer)
    require_headers(answer)


@pytest.mark.parametrize("path", ["/console/sign-in", "/console/set-up"])
def test_what_nobody_can_type_is_refused(browser: Browser, path: str) -> None:
    fields = {"email": "a\0@b", "password": "x"} | ({"code": "x"} if path.endswith("set-up") else {"next": ""})
    assert browser.post(path, fields).status_code == 422


def test_a_fault_of_ours_is_a_page_without_its_detail(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a detail")

    browser.sign_in("viewer")
    monkeypatch.setattr("wallet_app.service.list_sessions", fail)
    answer = browser.get("/console/account")
    assert answer.status_code == 500
    assert "<h1>Internal error</h1>" in text_of(answer)
    assert "a detail" not in text_of(answer)
    assert "Try again" in text_of(answer)
    require_headers(answer)


@pytest.mark.parametrize("path", ["/consoles", "/wallets/999999", "/nothing"])
def test_the_apis_errors_stay_json(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.content_type == "application/problem+json"


def test_behind_tls_browsers_are_told_to_stay_there(app: Flask, operators: None) -> None:
    answer = Browser(app).get("/console/sign-in", base_url="https://localhost")
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")


def test_a_name_from_outside_is_text(browsers: Callable[..., Browser], sql: Sql) -> None:
    sql("UPDATE operators SET name = %s WHERE email = %s", '<script>alert("x")</script>', email_of("viewer"))
    answer = browsers().sign_in("viewer").get("/console")
    assert "<script>alert" not in answer.get_data(as_text=True)
    assert '<script>alert("x")</script>' in text_of(answer)
