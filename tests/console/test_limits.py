"""Who asks too often is told so in a page; an office behind one address is many people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy.engine import URL
from werkzeug.test import TestResponse

from tests.conftest import settings_for
from tests.console.conftest import Browser, text_of
from tests.console.test_roles import sample
from tests.keys import client_of
from wallet_app import create_app
from wallet_app.console.screens import SCREENS
from wallet_app.db import close_connections

FOR_A_SIGN_IN = 4
"""Requests of one: two forms, and a page for each from which its token is taken."""

Open = Callable[..., Browser]


@pytest.fixture
def open_browser(operators: None, database: URL) -> Iterator[Open]:
    """Open browsers of a service with limits, at the same address unless another is said."""
    made: list[Flask] = []

    def make(*, address: str = "192.0.2.1", **limits: str) -> Browser:
        if limits:
            made.append(create_app(replace(settings_for(database), **limits)))  # type: ignore[arg-type]
        return Browser(made[-1], address=address)

    yield make
    for app in made:
        with app.app_context():
            close_connections()


def assert_limited(answer: TestResponse, limit: str) -> None:
    assert answer.status_code == 429
    assert answer.content_type == "text/html; charset=utf-8"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert f"The limit is {limit}. Try again in {answer.headers['Retry-After']} seconds." in text_of(answer)


def test_operators_behind_one_address_have_a_budget_each(open_browser: Open) -> None:
    viewer = open_browser(rate_limit=f"{2 * FOR_A_SIGN_IN} per minute", rate_limit_operator="3 per minute")
    admin, stranger = open_browser(), open_browser()
    viewer.sign_in("viewer")
    admin.sign_in("admin")
    assert_limited(stranger.get("/console/sign-in"), f"{2 * FOR_A_SIGN_IN} requests per minute")
    assert [viewer.get("/console").status_code for _ in range(3)] == [200] * 3
    refused = viewer.get("/console")
    assert_limited(refused, "3 requests per minute")
    assert "Olga viewer" in text_of(refused), "with the operator's menu"
    assert refused.headers["RateLimit-Limit"] == "3"
    assert admin.get("/console").status_code == 200, "another operator, from the same address"
    assert open_browser(address="192.0.2.2").get("/console/sign-in").status_code == 200


def test_an_operators_budget_is_one_for_all_their_browsers_and_addresses(open_browser: Open) -> None:
    first = open_browser(rate_limit_operator="4 per minute").sign_in("viewer")
    second = open_browser(address="192.0.2.2").sign_in("viewer")
    assert [each.get("/console/account").status_code for each in (first, second) * 2] == [200] * 4
    assert {each.get("/console").status_code for each in (first, second)} == {429}


@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-in/passkey/options", "/console/set-up"])
def test_who_is_not_signed_in_is_counted_by_address(open_browser: Open, path: str) -> None:
    browser = open_browser(rate_limit="3 per minute")
    token = browser.token()
    found = [browser.post(path, {"email": "x@y.example"}, token=token).status_code for _ in range(3)]
    assert found[0] in {200, 422}
    assert found == [found[0]] * 2 + [429]
    assert open_browser().get("/console").status_code == 429, "whatever they ask for"
    assert client_of(browser.client.application, None).get("/nothing").status_code == 404, "who is elsewhere"


def test_a_cookie_that_stands_for_nobody_is_no_way_around(open_browser: Open) -> None:
    browser = open_browser(rate_limit="3 per minute")
    found = []
    for letter in "abcde":
        browser.take_cookie(letter * 43)
        found.append(browser.get("/console").status_code)
    assert found == [303] * 3 + [429] * 2


def test_a_half_finished_sign_in_is_counted_by_address(open_browser: Open) -> None:
    browser = open_browser(rate_limit=f"{FOR_A_SIGN_IN} per minute")
    browser.enter_password("viewer")
    found = [browser.get("/console/sign-in/code").status_code for _ in range(FOR_A_SIGN_IN)]
    assert found == [200] * 2 + [429] * 2


@pytest.mark.parametrize("wrong", ["Origin", "Sec-Fetch-Site", "token"])
def test_a_form_from_elsewhere_counts_too(open_browser: Open, wrong: str) -> None:
    """For the address, because it is refused before it is looked at whose session it would be."""
    browser = open_browser(rate_limit=f"{FOR_A_SIGN_IN + 3} per minute")
    browser.sign_in("viewer")
    token = browser.token()
    more = {"token": "" if wrong == "token" else token}
    if wrong != "token":
        more[wrong.replace("-", "_")] = "cross-site"
    found = [browser.post("/console/account/sessions/end", **more).status_code for _ in range(4)]
    assert found == [403] * 3 + [429]
    assert browser.is_signed_in()


def test_every_screen_counts(open_browser: Open) -> None:
    browser = open_browser(rate_limit="1 per minute")
    token = browser.token()
    for each in SCREENS.values():
        path = sample(each.path)
        answer = browser.get(path) if each.method == "GET" else browser.post(path, token=token)
        assert_limited(answer, "1 requests per minute")


def test_a_pages_files_use_nothing_up(open_browser: Open) -> None:
    browser = open_browser(rate_limit="1 per minute")
    for _ in range(3):
        for name in ("base.css", "icon.svg", "passkeys.js"):
            answer = browser.get(f"/static/console/{name}")
            assert answer.status_code == 200
            assert "RateLimit-Limit" not in answer.headers
    assert browser.get("/console/sign-in").status_code == 200
    assert browser.get("/console/sign-in").status_code == 429


def test_an_empty_limit_is_off_for_operators_too(open_browser: Open) -> None:
    browser = open_browser(rate_limit_operator="").sign_in("viewer")
    answer = browser.get("/console")
    assert (answer.status_code, "RateLimit-Limit" in answer.headers) == (200, False)


def test_who_guesses_is_told_the_longer_wait(open_browser: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both limits answer 429; what is told is when the next guess is looked at, not when the minute is over."""
    monkeypatch.setattr("wallet_app.service.throttle.delay", lambda failures, free: 600 if failures >= free else 0)
    browser = open_browser(rate_limit="100 per minute")
    found = [browser.enter_password("viewer", "wrong") for _ in range(6)]
    assert [answer.status_code for answer in found] == [422] * 5 + [429]
    assert 500 < int(found[-1].headers["Retry-After"]) <= 600
