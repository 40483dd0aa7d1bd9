"""Who may open which screen: the table in access.txt, made from the declarations that guard them, and tried out."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.conftest import PASSWORDS, Browser, Sql, audited, email_of
from wallet_app import service
from wallet_app.console import screens
from wallet_app.console.screens import ANYONE, AT_SECOND_FACTOR, AT_SET_UP, SCREENS, screen
from wallet_app.errors import PermissionDeniedError
from wallet_app.service import MOVES_MONEY, PERMISSIONS, ROLES, By, Visitor

TABLE = Path(__file__).with_name("access.txt")
NOBODY = ("nobody", "half way", "setting up", "signed out", "expired", "disabled")


def table() -> str:
    """The declarations as a table: a line for each screen, a column for everybody who may come."""
    head = f"{'screen':<70}{'permission':<24}{'proof':<8}" + " ".join(f"{who:<10}" for who in (*NOBODY, *ROLES))
    lines = [head.rstrip()]
    for each in sorted(SCREENS.values(), key=lambda each: (each.path, each.method)):
        marks = " ".join(f"{expected(each, who):<10}" for who in (*NOBODY, *ROLES))
        fresh = "fresh" if each.fresh else "-"
        lines.append(f"{each.method + ' ' + each.path:<70}{each.permission:<24}{fresh:<8}{marks}".rstrip())
    return "\n".join(lines) + "\n"


def expected(each: screens.Screen, who: str) -> str:
    """`yes`, or `sign-in` for being sent to where one signs in, or `denied`."""
    if each.permission == ANYONE:
        return "yes"
    if each.permission in {AT_SECOND_FACTOR, AT_SET_UP}:
        return "yes" if {AT_SECOND_FACTOR: "half way", AT_SET_UP: "setting up"}[each.permission] == who else "sign-in"
    if who in NOBODY:
        return "sign-in"
    return "yes" if each.permission in ROLES[who] else "denied"


def test_the_table_is_what_the_screens_declare() -> None:
    assert TABLE.read_text() == table(), "the declarations changed: look at each line, then write table() to access.txt"


@pytest.fixture
def visitors(browsers: Callable[..., Browser], sql: Sql) -> Callable[[str], Browser]:
    def come(who: str) -> Browser:
        browser = browsers()
        if who == "half way":
            browser.enter_password("admin")
        elif who == "setting up":
            email = f"new{browser.client}@wallet.example".replace(" ", "").replace("<", "").replace(">", "")
            code = service.create_operator(email=email, name="New", role="admin", by=By(actor="test"))
            browser.post("/console/set-up", {"email": email, "code": code, "password": "seven purple trains at dawn"})
        elif who in {"signed out", "expired", "disabled"}:
            browser.sign_in("admin")
            cookie = str(browser.cookie)
            if who == "signed out":
                browser.post("/console/sign-out")
            elif who == "expired":
                sql("UPDATE sessions SET began_at = now() - interval '8 hours'")
            else:
                service.disable_operator(email_of("admin"), by=By(actor="test"))
            browser.take_cookie(cookie)
        elif who != "nobody":
            browser.sign_in(who)
        return browser

    return come


@pytest.mark.wide
@pytest.mark.parametrize("who", [*NOBODY, *ROLES])
def test_every_screen_for_everybody(visitors: Callable[[str], Browser], who: str) -> None:
    """Each line of the table, as it stands in the repository: with nothing in the forms, so that nothing is done."""
    head, *lines = TABLE.read_text().splitlines()
    column = head.index(f" {who}") + 1
    assert len(lines) == len(SCREENS)
    browser = visitors(who)
    cookie = browser.cookie
    for line in lines:
        method, path = line.split()[:2]
        if path in {"/console/sign-out", "/console/account/sessions/end"}:
            continue  # Ends what the other lines need; test_sessions has them.
        path = sample(path)
        answer = browser.get(path) if method == "GET" else browser.post(path)
        assert outcome(answer) == line[column:].split()[0], (who, line)
        if cookie is not None:
            browser.take_cookie(cookie)


def sample(path: str) -> str:
    """An address of the route: ids of things that are there, or of none, and the first of several choices."""
    for kind, value in (("int:wallet_id", "3"), ("int:user_id", "2"), ("int", "1"), ("uuid", str(uuid.UUID(int=7)))):
        path = re.sub(f"<{kind}[^>]*>", value, path)
    return re.sub(r"<any\((\w+)[^>]*>", r"\1", path)


def outcome(answer: object) -> str:
    status, location = answer.status_code, answer.location or ""  # type: ignore[attr-defined]
    if status == 403:
        return "denied"
    if status == 303 and re.match(r"/console/(sign-in(/code)?|set-up/app)(\?next|\?note=set-up$|$)", location):
        return "sign-in"
    # What is not there would have been shown to who may see it.
    assert status in {200, 303, 404, 422}, (status, location)
    return "yes"


def test_a_route_without_a_permission_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match="permission"):
        screen("GET", "/undeclared")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="no permission 'wallets:reed'"):
        screen("GET", "/misspelt", permission="wallets:reed")
    blueprint = type(screens.blueprint)("another", __name__)
    for register in (blueprint.route("/undeclared"), blueprint.get("/undeclared")):
        with pytest.raises(TypeError, match="says nothing of who may open it"):
            register(lambda: "")


def test_no_role_both_asks_and_approves_or_moves_money_and_makes_operators() -> None:
    for role, granted in ROLES.items():
        assert granted <= set(PERMISSIONS), role
        assert not {"adjustments:request", "approvals:decide"} <= granted, role
        assert not {"bulk:draft", "approvals:decide"} <= granted, role
        if "operators:manage" in granted:
            assert not granted & MOVES_MONEY, role
    assert set().union(*ROLES.values()) == set(PERMISSIONS), "a permission that nobody has"
    assert not ROLES["admin"] & {"wallets:read", "wallets:freeze"}
    assert ROLES["viewer"] == {"wallets:read", "approvals:read", "switches:read", "account:own", "approvals:own"}


@pytest.mark.parametrize("role", ROLES)
def test_the_service_itself_denies_what_a_role_lacks_and_records_it(
    browsers: Callable[..., Browser], sql: Sql, role: str
) -> None:
    browser = browsers()
    browser.sign_in(role)
    session = service.find_session(str(browser.cookie))
    visitor = Visitor(address="192.0.2.1", request_id="r-1")
    for permission in PERMISSIONS:
        if permission in ROLES[role]:
            assert service.require_permission(session, permission, visitor=visitor) == session
            continue
        with pytest.raises(PermissionDeniedError, match=f"Your role, {role}, lacks the permission {permission}"):
            service.require_permission(session, permission, visitor=visitor)
        assert audited(sql)[-1] == (session.actor, permission, "denied")


def test_passwords_of_the_test_are_good_enough() -> None:
    from wallet_app.service import passwords

    for role, password in PASSWORDS.items():
        passwords.require_strength(password, about=(email_of(role),))
