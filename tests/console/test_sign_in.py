"""Signing in and out by password and code, as a browser without JavaScript does it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.conftest import (
    PASSWORDS,
    Browser,
    Sql,
    audited,
    email_of,
    is_sent_to_sign_in,
    text_of,
    totp_secret,
)
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.service import By, second_factor, sessions, throttle

NEW = "seven purple trains at dawn"
WRONG = "The e-mail address or the password is wrong."


def test_password_and_code_lead_to_the_home_page(browser: Browser, sql: Sql) -> None:
    assert is_sent_to_sign_in(browser.get("/console"))
    answer = browser.enter_password("support")
    assert (answer.status_code, answer.location) == (303, "/console/sign-in/code")
    assert not browser.is_signed_in()
    assert browser.enter_code("support").location == "/console"
    page = text_of(browser.get("/console"))
    assert "Hello, Olga support" in page
    assert service.PERMISSIONS["adjustments:post"] in page
    assert service.PERMISSIONS["approvals:decide"] not in page
    (who,) = {actor for actor, *_ in audited(sql)[-2:]}
    assert audited(sql)[-2:] == [(who, "sign_in:password", "done"), (who, "sign_in:code", "done")]


def test_the_page_that_was_asked_for_is_where_it_ends(browser: Browser) -> None:
    answer = browser.get("/console/account?note=confirmed")
    assert answer.location == "/console/sign-in?next=/console/account%3Fnote%3Dconfirmed"
    page = text_of(browser.get(answer.location))
    assert 'name="next" value="/console/account?note=confirmed"' in page
    form = {"email": email_of("viewer"), "password": PASSWORDS["viewer"], "next": "/console/account?note=confirmed"}
    assert browser.post("/console/sign-in", form).location.endswith("next=/console/account%3Fnote%3Dconfirmed")
    form = {"code": browser.code("viewer"), "next": "/console/account?note=confirmed"}
    assert browser.post("/console/sign-in/code", form).location == "/console/account?note=confirmed"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/console//evil.example",
        "/console/../wallets/3",
        "/wallets/3",
        "/consoleevil",
        "/console\r\nX: y",
        "javascript:alert(1)",
        "/console/%0d%0aX",
    ],
)
def test_a_sign_in_leads_nowhere_else(browser: Browser, elsewhere: str) -> None:
    browser.enter_password("viewer")
    answer = browser.post("/console/sign-in/code", {"code": browser.code("viewer"), "next": elsewhere})
    assert (answer.status_code, answer.location) == (303, "/console")


@pytest.mark.parametrize("case", ["wrong password", "nobody", "waiting", "disabled", "empty"])
def test_who_may_not_in_is_told_the_same(browser: Browser, sql: Sql, case: str) -> None:
    email, password = email_of("viewer"), PASSWORDS["viewer"]
    if case == "wrong password":
        password = "horse battery viewer staple 48"
    elif case == "nobody":
        email = "nobody@wallet.example"
    elif case == "waiting":
        email = "new@wallet.example"
        service.create_operator(email=email, name="New", role="viewer", by=By(actor="test"))
    elif case == "disabled":
        service.disable_operator(email, by=By(actor="test"))
    elif case == "empty":
        password = ""
    answer = browser.post("/console/sign-in", {"email": email, "password": password, "next": ""})
    assert answer.status_code == 422
    assert WRONG in text_of(answer)
    assert f'value="{email}"' in text_of(answer)
    assert is_sent_to_sign_in(browser.get("/console/sign-in/code"))
    assert sql("SELECT count(*) FROM sessions") == [(0,)]
    assert audited(sql)[-1][1:] == ("sign_in:password", "failed")


def test_an_error_has_the_focus_and_the_title(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its field if it is about one, which names it, else at the summary: that one has to wait is about none."""
    summary = '<div class="error-summary" role="alert" tabindex="-1" autofocus>'
    page = text_of(browser.enter_password("viewer", "wrong"))
    assert "<title>Error: Sign in" in page
    assert (summary in page, page.count(" autofocus")) == (True, 1)
    browser.enter_password("viewer")
    monkeypatch.setattr(throttle, "delay", lambda *_: 600)
    for at_field in (True, False):
        page = text_of(browser.post("/console/sign-in/code", {"code": "000000", "next": ""}))
        assert "<title>Error: Enter your code" in page
        field = page[page.index('<input id="code"') :].partition(">")[0]
        assert ("autofocus" in field, "code-error" in field, summary in page) == (at_field, at_field, not at_field)


def test_an_address_counts_in_any_case_and_with_blanks(browser: Browser) -> None:
    assert browser.enter_password("viewer", email=f" {email_of('viewer').upper()} ").status_code == 303


def test_a_code_is_good_once(browsers: Callable[..., Browser]) -> None:
    first, second = browsers(), browsers()
    code = first.code("viewer")
    for browser in (first, second):
        assert browser.enter_password("viewer").status_code == 303
    assert first.post("/console/sign-in/code", {"code": code, "next": ""}).status_code == 303
    answer = second.post("/console/sign-in/code", {"code": code, "next": ""})
    assert answer.status_code == 422
    assert not second.is_signed_in()


def test_a_second_click_on_the_code_leads_to_where_the_first_one_did(browser: Browser) -> None:
    """Whichever cookie it brings: the one before, or the one that came of the first."""
    form = {"email": email_of("viewer"), "password": PASSWORDS["viewer"], "next": ""}
    token = browser.token()
    assert [browser.post("/console/sign-in", form, token=token).status_code for _ in range(2)] == [303, 303]
    half, token = str(browser.cookie), browser.token()
    form = {"code": browser.code("viewer"), "next": "/console/account"}
    assert browser.post("/console/sign-in/code", form, token=token).location == "/console/account"
    signed_in = str(browser.cookie)
    for answer in (
        browser.post("/console/sign-in/code", form, token=token),
        browser.get("/console/sign-in/code?next=/console/account"),
    ):
        assert browser.get(str(answer.location)).location == "/console/account", "and no circle"
    assert browser.post("/console/account/sessions/end", token=token).status_code == 403, "good for signing in alone"
    browser.take_cookie(half)
    assert is_sent_to_sign_in(browser.post("/console/sign-in/code", form, token=token))
    browser.take_cookie(signed_in)
    assert browser.is_signed_in()


@pytest.mark.wide
@pytest.mark.parametrize("path", ["code", "recovery"])
def test_two_clicks_at_once_are_no_wrong_code(
    browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The second was let in before the first one's session took the place of theirs."""
    browser.enter_password("viewer")
    ((operator_id,),) = sql("SELECT id FROM operators WHERE email = %s", email_of("viewer"))
    with unit_of_work() as connection:
        (recovery, *_) = second_factor.make_recovery_codes(connection, operator_id)
    form = {"code": browser.code("viewer") if path == "code" else recovery, "next": "/console/account"}
    token, found = browser.token(), sessions.find_session(str(browser.cookie))
    assert browser.post(f"/console/sign-in/{path}", form, token=token).status_code == 303
    monkeypatch.setattr(service, "find_session", lambda _: found)
    answer = browser.post(f"/console/sign-in/{path}", form, token=token)
    assert (answer.status_code, answer.location) == (303, "/console/sign-in?next=/console/account&note=sent-twice")
    monkeypatch.undo()
    assert browser.get(answer.location).location == "/console/account"
    assert [outcome for _, action, outcome in audited(sql) if action == f"sign_in:{path}"] == ["done"]


def test_a_code_from_before_the_last_one_is_not_good(app: object, browser: Browser) -> None:
    browser.enter_password("viewer")
    older = browser.code("viewer")
    newer = browser.code("viewer")
    assert browser.post("/console/sign-in/code", {"code": newer, "next": ""}).status_code == 303
    browser.post("/console/sign-out")
    browser.enter_password("viewer")
    assert browser.post("/console/sign-in/code", {"code": older, "next": ""}).status_code == 422


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "abcdef", "\uff11\uff12\uff13\uff14\uff15\uff16", "000000 1", "-12345"]
)
def test_what_is_no_code_is_refused(browser: Browser, code: str) -> None:
    browser.enter_password("viewer")
    assert browser.post("/console/sign-in/code", {"code": code, "next": ""}).status_code == 422


def test_codes_may_have_a_blank_in_the_middle(browser: Browser) -> None:
    browser.enter_password("viewer")
    code = browser.code("viewer")
    assert browser.post("/console/sign-in/code", {"code": f" {code[:3]} {code[3:]} ", "next": ""}).status_code == 303


def test_another_operators_code_is_not_good(browser: Browser) -> None:
    browser.enter_password("viewer")
    assert browser.post("/console/sign-in/code", {"code": browser.code("admin"), "next": ""}).status_code == 422


def test_the_second_factor_cannot_be_passed_by(browser: Browser) -> None:
    browser.enter_password("admin")
    for path in ("/console", "/console/account", "/console/confirm", "/console/account/password"):
        answer = browser.get(path)
        assert answer.status_code == 303
        assert answer.location.startswith("/console/sign-in/code")
    answer = browser.post("/console/account/sessions/end")
    assert answer.status_code == 303
    assert answer.location.startswith("/console/sign-in/code")


# --- set-up ---


def set_up(browser: Browser, email: str, code: str, password: str = NEW) -> list[str]:
    """Set the operator up; return their recovery codes."""
    answer = browser.post("/console/set-up", {"email": email, "code": code, "password": password})
    assert (answer.status_code, answer.location) == (303, "/console/set-up/app"), text_of(answer)
    page = text_of(browser.get("/console/set-up/app"))
    secret = totp_secret(email)
    assert " ".join(secret[at : at + 4] for at in range(0, len(secret), 4)) in page
    assert "<svg" in page
    assert " style=" not in page
    answer = browser.post("/console/set-up/app", {"code": second_factor.totp_code(secret)})
    assert answer.status_code == 200
    return [
        line[line.index("<code>") + 6 : line.index("</code>")]
        for line in text_of(answer).splitlines()
        if "<li><code>" in line
    ]


def test_an_operator_sets_up_with_the_code_and_it_is_good_once(browsers: Callable[..., Browser], sql: Sql) -> None:
    browser = browsers()
    code = service.create_operator(email="new@wallet.example", name="New One", role="support", by=By(actor="test"))
    assert len(set_up(browser, "new@wallet.example", code)) == 10
    assert "Hello, New One" in text_of(browser.get("/console"))
    again = {"email": "new@wallet.example", "code": code, "password": "seven purple trains at dusk"}
    assert browsers().post("/console/set-up", again).status_code == 422
    assert [action for _, action, _ in audited(sql)][-4:] == [
        "operator:create",
        "operator:begin_set_up",
        "operator:set_up",
        "operator:set_up",
    ]


@pytest.mark.parametrize("case", ["wrong code", "nobody", "too old", "disabled", "ready"])
def test_a_set_up_needs_the_right_code_in_time(browser: Browser, sql: Sql, case: str) -> None:
    email = "new@wallet.example"
    code = service.create_operator(email=email, name="New", role="support", by=By(actor="test"))
    if case == "wrong code":
        code = second_factor.make_code()
    elif case == "nobody":
        email = "nobody@wallet.example"
    elif case == "too old":
        sql("UPDATE operators SET set_up_expires_at = now() WHERE email = %s", email)
    elif case == "disabled":
        service.disable_operator(email, by=By(actor="test"))
    elif case == "ready":
        email = email_of("viewer")
    answer = browser.post("/console/set-up", {"email": email, "code": code, "password": "seven purple trains"})
    assert answer.status_code == 422
    assert "set-up code is wrong" in text_of(answer)


@pytest.mark.parametrize(
    "password", ["short", "password1234", "aaaaaaaaaaaaaaaa", "dinowallet2026", "new@wallet.example", "x" * 129]
)
def test_a_weak_password_is_refused_and_no_attempt(browser: Browser, password: str) -> None:
    code = service.create_operator(email="new@wallet.example", name="New", role="support", by=By(actor="test"))
    for _ in range(7):
        form = {"email": "new@wallet.example", "code": code, "password": password}
        answer = browser.post("/console/set-up", form)
        assert answer.status_code == 422
        assert "The password" in text_of(answer)
    set_up(browser, "new@wallet.example", code)


def test_of_two_that_set_up_the_same_operator_the_later_one_goes_on(browsers: Callable[..., Browser]) -> None:
    email, first, second = "new@wallet.example", browsers(), browsers()
    code = service.create_operator(email=email, name="New", role="support", by=By(actor="test"))
    first.post("/console/set-up", {"email": email, "code": code, "password": "seven purple trains at dawn"})
    set_up(second, email, code)
    assert first.get("/console/set-up/app").status_code == 303
    assert second.is_signed_in()


def test_a_half_set_up_operator_cannot_sign_in(browsers: Callable[..., Browser]) -> None:
    email = "new@wallet.example"
    code = service.create_operator(email=email, name="New", role="support", by=By(actor="test"))
    form = {"email": email, "code": code, "password": "seven purple trains at dawn"}
    assert browsers().post("/console/set-up", form).status_code == 303
    answer = browsers().enter_password("", form["password"], email=email)
    assert answer.status_code == 422
    assert WRONG in text_of(answer)


# --- recovery codes ---


def test_a_recovery_code_stands_in_once(browsers: Callable[..., Browser]) -> None:
    email = "new@wallet.example"
    code = service.create_operator(email=email, name="New", role="support", by=By(actor="test"))
    codes = set_up(browsers(), email, code)
    for typed, status in ((codes[0].lower().replace("-", " "), 303), (codes[0], 422), (codes[1], 303)):
        browser = browsers()
        browser.enter_password("", "seven purple trains at dawn", email=email)
        assert browser.post("/console/sign-in/recovery", {"code": typed, "next": ""}).status_code == status
        assert browser.is_signed_in() == (status == 303)
    assert "8 left" in text_of(browser.get("/console/account"))


def test_new_recovery_codes_void_the_old_ones(browsers: Callable[..., Browser]) -> None:
    email = "new@wallet.example"
    code = service.create_operator(email=email, name="New", role="support", by=By(actor="test"))
    browser = browsers()
    old = set_up(browser, email, code)
    page = text_of(browser.post("/console/account/recovery-codes"))
    assert not any(each in page for each in old)
    other = browsers()
    other.enter_password("", "seven purple trains at dawn", email=email)
    assert other.post("/console/sign-in/recovery", {"code": old[0], "next": ""}).status_code == 422


def test_another_operators_recovery_code_is_not_good(browsers: Callable[..., Browser]) -> None:
    code = service.create_operator(email="new@wallet.example", name="New", role="support", by=By(actor="test"))
    codes = set_up(browsers(), "new@wallet.example", code)
    browser = browsers()
    browser.enter_password("viewer")
    assert browser.post("/console/sign-in/recovery", {"code": codes[0], "next": ""}).status_code == 422


# --- a fresh proof ---


def grow_stale(sql: Sql) -> None:
    sql("UPDATE sessions SET authenticated_at = authenticated_at - interval '301 seconds'")


def test_what_needs_a_fresh_proof_asks_for_one_and_goes_on(browser: Browser, sql: Sql) -> None:
    browser.sign_in("viewer")
    assert browser.get("/console/account/password").status_code == 200
    grow_stale(sql)
    answer = browser.get("/console/account/password")
    assert (answer.status_code, answer.location) == (303, "/console/confirm?next=/console/account/password")
    before = browser.cookie
    form = {"password": PASSWORDS["viewer"], "code": browser.code("viewer"), "next": "/console/account/password"}
    answer = browser.post("/console/confirm", form)
    assert (answer.status_code, answer.location) == (303, "/console/account/password")
    assert browser.cookie != before
    assert browser.get("/console/account/password").status_code == 200


def test_a_form_that_needs_a_fresh_proof_does_nothing_without(browser: Browser, sql: Sql) -> None:
    browser.sign_in("viewer")
    grow_stale(sql)
    answer = browser.post(
        "/console/account/password",
        {"password": "seven purple trains"},
        Referer="http://localhost/console/account/password",
    )
    assert (answer.status_code, answer.location) == (303, "/console/confirm?next=/console/account/password")
    answer = browser.post("/console/account/recovery-codes", Referer="https://evil.example/console/account")
    assert (answer.status_code, answer.location) == (303, "/console/confirm")
    assert sql("SELECT count(*) FROM recovery_codes") == [(0,)]
    assert Browser(browser.client.application, address="192.0.2.9").enter_password("viewer").status_code == 303


@pytest.mark.parametrize(("password", "code"), [("wrong", None), (None, "000000"), (None, "")])
def test_a_proof_needs_both(browser: Browser, sql: Sql, password: str | None, code: str | None) -> None:
    browser.sign_in("viewer")
    grow_stale(sql)
    form = {"password": password or PASSWORDS["viewer"], "code": browser.code("viewer") if code is None else code}
    assert browser.post("/console/confirm", form | {"next": ""}).status_code == 422
    assert browser.get("/console/account/password").status_code == 303
    assert audited(sql)[-1][1:] == ("sign_in:confirm", "failed")


def test_two_clicks_at_once_on_a_proof_are_no_wrong_code(
    browser: Browser, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second was let in before the first one's session took the place of theirs."""
    browser.sign_in("viewer")
    earlier, token = str(browser.cookie), browser.token()
    found = sessions.find_session(earlier)
    form = {"password": PASSWORDS["viewer"], "code": browser.code("viewer"), "next": "/console/account/password"}
    assert browser.post("/console/confirm", form, token=token).location == "/console/account/password"
    confirmed = str(browser.cookie)
    with monkeypatch.context() as patch:
        patch.setattr(service, "find_session", lambda _: found)
        browser.take_cookie(earlier)
        answer = browser.post("/console/confirm", form, token=token)
    assert answer.status_code == 303, text_of(answer)
    browser.take_cookie(confirmed)
    assert browser.get(str(answer.location)).location == "/console/account/password"
    assert browser.get("/console/account/password").status_code == 200
    assert [outcome for _, action, outcome in audited(sql) if action == "sign_in:confirm"] == ["done"]


def test_a_proof_makes_a_session_no_longer(browser: Browser, sql: Sql) -> None:
    browser.sign_in("viewer")
    began = sql("UPDATE sessions SET began_at = began_at - interval '7 hours' RETURNING began_at")
    browser.post("/console/confirm", {"password": PASSWORDS["viewer"], "code": browser.code("viewer"), "next": ""})
    assert sql("SELECT began_at FROM sessions") == began


def test_who_clicks_twice_at_the_end_of_the_set_up_is_told_about_recovery_codes(browser: Browser) -> None:
    """The second click finds no session that is being set up any more, and its answer is the one that is seen."""
    browser.get("/console/sign-in")
    answer = browser.post("/console/set-up/app", {"code": "123456"})
    assert (answer.status_code, answer.location) == (303, "/console/sign-in?note=set-up")
    assert "make new ones in your account" in text_of(browser.get(answer.location))
