"""A walk at random over the console, by each role: what a page shows can be opened, what moves money leaves its record.

The seed is in the test's name: a walk that found something is walked again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_acts import ADJUST, LITTLE, MUCH, open_form, send
from tests.console.test_roles import sample
from wallet_app import service
from wallet_app.console.screens import ANYONE, SCREENS
from wallet_app.service import ROLES

STEPS = 60
ENDS_THE_WALK = ("/console/sign-out", "/console/sign-in", "/console/set-up", "/console/account")
ENTERED = {
    "amount": ("1", "10", "50", "90", "1,000", "x"),
    "to_wallet_id": ("4", "5", "3", "y"),
    "until": ("", "2999-01-01T00:00"),
    "comment": ("because",),
    "reason": ("because",),
    "note": ("a note",),
    "ticket": ("T-1",),
}
"""What is typed into a field, by its name."""
BEGIN = {
    "/console": "account:own",
    "/console/wallets/3": "wallets:read",
    "/console/approvals": "approvals:read",
    "/console/wallets/3/adjust": "adjustments:request",
    "/console/wallets/5/adjust": "adjustments:request",
    "/console/wallets/5/freeze": "wallets:freeze",
}
"""Where walks begin again now and then, and what that needs."""


class Seen(HTMLParser):
    """The links and the forms of a page: of each form an address, its fields with what can be entered, its buttons."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[tuple[str, dict[str, list[str]], list[tuple[str, str]]]] = []
        self._select = ""
        # What the page is about: the menu leads away from it, and is only now and then gone by.
        self.feed(answer.get_data(as_text=True).partition("<main")[2].partition("<footer")[0])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attributes}
        name = said.get("name", "")
        if tag == "a" and said.get("href", "").startswith("/console"):
            self.links.append(said["href"])
        elif tag == "form":
            self.forms.append((said.get("action", ""), {}, [])) if said.get("method") == "post" else None
        elif self.forms and name and name != "form_token":
            fields, buttons = self.forms[-1][1:]
            if tag == "button":
                buttons.append((name, said.get("value", "")))
            elif tag in {"input", "textarea"} and said.get("type") not in {"checkbox", "search"}:
                fields.setdefault(name, []).append(said.get("value", ""))
            elif tag == "select":
                self._select = name
                fields.setdefault(name, [])
        if tag == "option" and self.forms and self._select in self.forms[-1][1]:
            self.forms[-1][1][self._select].append(said.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""


@pytest.mark.wide
@pytest.mark.parametrize("seed", [1])
def test_a_random_walk_by_each_role(browsers: Callable[..., Browser], sql: Sql, seed: int) -> None:
    dice = random.Random(seed)
    walkers = {role: browsers().sign_in(role) for role in ROLES}
    opened: dict[str, set[str]] = {role: set() for role in ROLES}
    for entered in (LITTLE, MUCH):
        assert (
            send(walkers["support"], ADJUST, "do", open_form(walkers["support"], ADJUST), **entered).status_code == 303
        )
    # By turns, so that what one asks for, another finds.
    for _ in range(3):
        for role, browser in walkers.items():
            walk(browser, role, dice, opened[role])
    assert any("/approvals/" in path for path in opened["approver"]), "nobody found a request: walk further"
    moved = sql("SELECT transaction_id::text, actor FROM transactions WHERE client = 'console' ORDER BY 1")
    recorded = sql(
        "SELECT after->>'transactionId' FROM audit_log WHERE after ? 'transactionId' AND outcome = 'done' ORDER BY 1"
    )
    assert [one for one, _ in moved] == [one for (one,) in recorded]
    assert moved
    actors = {actor for _, actor in moved}
    idle = [role for role, granted in ROLES.items() if not granted & {"adjustments:request", "wallets:freeze"}]
    for role in idle:
        (actor,) = sql("SELECT 'operator:' || id FROM operators WHERE role = %s", role)[0]
        assert actor not in actors, f"{role} moved something"
    assert service.verify(full=True).is_clean


def walk(browser: Browser, role: str, dice: random.Random, opened: set[str]) -> None:
    """Follow links and send forms of what is shown, and now and then type an address that is not."""
    begin = [path for path, permission in BEGIN.items() if permission in ROLES[role]]
    answer = browser.get("/console")
    for _ in range(STEPS):
        if dice.random() < 0.07:
            answer = browser.get(dice.choice(begin), follow_redirects=True)
        if dice.random() < 0.1:
            type_an_address(browser, role, dice)
            continue
        seen = Seen(answer)
        forms = [form for form in seen.forms if is_walked(form[0]) and role != "admin"]
        links = [link for link in seen.links if is_walked(link)]
        if forms and dice.random() < 0.85:
            address, fields, buttons = dice.choice(forms)
            entered = {name: dice.choice(ENTERED.get(name, tuple(values or [""]))) for name, values in fields.items()}
            # Mostly what is filled in already; and the one-time key always.
            kept = {
                name: values[0]
                for name, values in fields.items()
                if len(values) == 1 and values[0] and (name in {"form", "seen"} or dice.random() < 0.9)
            }
            button = dict([dice.choice(buttons)]) if buttons else {}
            answer = browser.post(address, {**entered, **kept, **button})
            assert answer.status_code != 403, (role, address, text_of(answer))
        elif links:
            address = dice.choice(links)
            answer = browser.get(address)
            assert answer.status_code != 403, (role, address, "is shown, and may not be opened")
        else:
            address = dice.choice(begin)
            answer = browser.get(address)
        opened.add(address)
        for _ in range(3):
            if answer.status_code == 303:
                assert answer.location is not None
                answer = browser.get(answer.location)
        assert answer.status_code in {200, 303, 404, 409, 412, 422}, (role, answer.status_code, text_of(answer))


def type_an_address(browser: Browser, role: str, dice: random.Random) -> None:
    """Open or send something of any screen, with nothing in it: denied to who may not, and nothing done by it."""
    each = dice.choice([one for one in SCREENS.values() if is_walked(one.path)])
    path = sample(each.path)
    answer = browser.get(path) if each.method == "GET" else browser.post(path)
    is_denied = each.permission in service.PERMISSIONS and each.permission not in ROLES[role]
    # What is asked for one's own is denied of another's, too, to whoever may not see all.
    is_own = each.permission == "approvals:own"
    assert (answer.status_code == 403) is is_denied or is_own, (role, each, answer.status_code)
    assert each.permission == ANYONE or answer.status_code < 500


def is_walked(path: str) -> bool:
    return not path.startswith(ENDS_THE_WALK) and not re.search(r"\.(csv|json)", path) and "end=" not in path
