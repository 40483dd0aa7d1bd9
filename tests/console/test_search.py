"""The search: what is known of a thing finds it, nothing else does, and nobody finds what they may not read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from sqlalchemy import event

from tests.console.conftest import Browser, Sql, text_of
from tests.kernel.test_expiry import never, wait_for
from wallet_app import service
from wallet_app.db import READS, db, unit_of_work
from wallet_app.service import names, references, settled, wallets
from wallet_app.service.audit import Act, By, record_alone
from wallet_app.text import folded

ORIGIN = service.Origin(client="shop", actor="key:shopkeyshop2", request_id="req-0001-top")
JOHN_GOLD, DOE_GOLD = 3, 5
PEOPLE = {
    "Ada Lovelace": "ada-1",
    "Ada Byron": "ada-2",
    "José Muñoz": "jose@example.com",
    "Łukasz Żółć": "lukasz",
    "Straße Æther": "strasse",
    "Жанна Ильина": "zhanna",
    "山田太郎": "yamada",
    "Percy 100% Off_One": "percent",
    "İnci Şahin": "inci",
}


def shown(answer: Any) -> dict[str, list[str]]:
    """What the page lists: the first link of each row of a table, by the table's caption."""
    found = {}
    for caption, rows in re.findall(r"<caption[^>]*>([^<]*)</caption>(.*?)</table>", text_of(answer), re.S):
        found[caption] = re.findall(r'<th scope="row">(?:<a href="([^"]*)">|([^<]*))', rows)
    return {caption: [link or words for link, words in rows] for caption, rows in found.items()}


@contextmanager
def statements() -> Iterator[list[str]]:
    asked: list[str] = []

    def collect(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    engines = [db.engine, db.engines[READS]]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    try:
        yield asked
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", collect)


@pytest.fixture
def people(app: Flask) -> dict[str, int]:
    made = {name: service.create_user(name=name, external_id=other)[0].user_id for name, other in PEOPLE.items()}
    with unit_of_work() as connection:
        for number in range(30):
            name = f"Player {chr(97 + number // 5)}{chr(110 + number % 5)}"
            wallets.ensure_user(connection, name=name, external_id=f"player-{number}")
    return made


def test_one_hit_is_gone_to_and_several_are_told_apart(
    app: Flask, browsers: Callable[..., Browser], people: dict[str, int], sql: Sql
) -> None:
    viewer, finance, admin = (browsers().sign_in(role) for role in ("viewer", "finance", "admin"))

    def look(who: Browser, asked: str) -> Any:
        return who.get(f"/console/search?q={quote(asked)}")

    def goes_to(who: Browser, asked: str) -> str:
        answer = look(who, asked)
        assert answer.status_code == 303, (asked, shown(answer))
        return str(answer.location)

    # Names: any part, in any case and without accents; every script; what a pattern is made of is a letter here.
    for asked, name in {
        "lovelace": "Ada Lovelace",
        "LOVE ada": "Ada Lovelace",
        "jose munoz": "José Muñoz",
        "JOSÉ": "José Muñoz",
        "lukasz zolc": "Łukasz Żółć",
        "strasse": "Straße Æther",
        "AETHER": "Straße Æther",
        "жанна": "Жанна Ильина",
        "山田": "山田太郎",
        "郎": "山田太郎",
        "100%": "Percy 100% Off_One",
        "off_": "Percy 100% Off_One",
        "inci sahin": "İnci Şahin",
        "ada-1": "Ada Lovelace",
        "jose@example.com": "José Muñoz",
        f"user {people['Ada Byron']}": "Ada Byron",
        "by": "Ada Byron",
    }.items():
        assert goes_to(viewer, asked) == f"/console/users/{people[name]}", asked
    both = shown(look(viewer, "ada"))
    assert both == {"Users": [f"/console/users/{people[name]}" for name in ("Ada Byron", "Ada Lovelace")]}
    assert len(shown(look(viewer, "player"))["Users"]) == 20
    assert "more than 20" in text_of(look(viewer, "player"))
    for nothing in (
        "%",
        "_",
        "\\",
        "_da",
        "%ada%",
        "a\\",
        "zz",
        "lace love lace x",
        "'; DROP TABLE users; --",
        "x" * 200,
    ):
        answer = look(viewer, nothing)
        assert (answer.status_code, shown(answer)) == (200, {}), nothing
        assert "Nothing was found" in text_of(answer)
    for wrong in ("x" * 201, "a\x07b", "a\x00"):
        answer = look(viewer, wrong)
        assert answer.status_code == 422
        assert "Search for 1 to 200 characters" in text_of(answer)
    for empty in ("/console/search", "/console/search?q=%20"):
        assert "a user by name" in text_of(viewer.get(empty)).lower()

    # A number may be a user and a wallet.
    assert shown(look(viewer, str(JOHN_GOLD))) == {"Users": ["/console/users/3"], "Wallets": ["/console/wallets/3"]}
    assert goes_to(viewer, "6") == goes_to(viewer, "Wallet #6") == "/console/wallets/6"
    assert goes_to(viewer, "wallet 3") == "/console/wallets/3"
    assert look(viewer, "9" * 19).status_code == look(viewer, "9" * 30).status_code == 200

    # Transactions, by all that is known of them; as the worker finds them, and without it.
    held = service.execute(
        service.PlaceHold(wallet_id=JOHN_GOLD, reference="booking-7", origin=ORIGIN, amount=5, expires_in=600)
    )
    gift = partial(service.Bonus, reference="campaign", origin=ORIGIN, amount=1)
    service.execute_batch([gift(wallet_id=JOHN_GOLD), gift(wallet_id=DOE_GOLD)])
    assert held.hold is not None
    for _ in range(2):
        hold_url = f"/console/transactions/{held.hold.hold_id}"
        assert goes_to(viewer, "booking-7") == goes_to(viewer, str(held.hold.hold_id)) == hold_url
        assert goes_to(viewer, str(held.hold.hold_id).upper()) == goes_to(viewer, held.hold.hold_id.hex) == hold_url
        assert len(shown(look(viewer, "campaign"))["Transactions"]) == 2
        requested = shown(look(viewer, "req-0001-top"))
        assert len(requested["Transactions"]) == 3
        assert set(requested) == {"Transactions"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settled, "SLACK", dt.timedelta(0))
            wait_for(lambda: references.extend_index(never) == 0 and not settled._has_more(references.NAME))

    # What operators did and asked for under a ticket.
    support = service.find_session(str(browsers().sign_in("support").cookie))
    assert support is not None
    for amount in (50, 1_001):
        operation = service.AdjustOperation(
            wallet_id=DOE_GOLD, direction="credit", amount=amount, reason_code="CORRECTION", ticket="T-77", note="why"
        )
        service.carry_out(
            support,
            operation,
            form_key=service.new_form_key(),
            visitor=service.Visitor(address="192.0.2.1", request_id="r"),
        )
    of_ticket = shown(look(viewer, "T-77"))
    assert (set(of_ticket), of_ticket["Asked for"]) == ({"Transactions", "Asked for"}, ["/console/approvals/1"])
    assert len(of_ticket["Transactions"]) == 1
    assert set(shown(look(finance, "T-77"))) == {"Transactions", "Asked for", "Audit log"}
    assert set(shown(look(admin, "T-77"))) == {"Audit log"}

    # What was done, by ticket and request: for who may read the audit log. Keys: for who manages them.
    for ticket in ("HELP-1", "HELP-2", "HELP-2"):
        record_alone(Act(by=By(actor="operator:1", ticket=ticket, request_id="req-9"), action="wallet:adjust"))
    assert shown(look(viewer, "HELP-1")) == shown(look(viewer, "HELP-2")) == {}
    assert goes_to(finance, "HELP-1").startswith("/console/audit/")
    assert len(shown(look(finance, "HELP-2"))["Audit log"]) == 2
    assert len(shown(look(finance, "req-9"))["Audit log"]) == 3
    ((key_id,),) = sql("SELECT key_id FROM api_keys LIMIT 1")
    assert goes_to(admin, f"key:{key_id}") == goes_to(admin, key_id) == f"/console/keys/{key_id}"
    assert shown(look(finance, key_id)) == {}
    for asked in ("ada", "3", "booking-7", str(held.hold.hold_id)):
        assert (look(admin, asked).status_code, shown(look(admin, asked))) == (200, {}), "no wallets for administrators"

    # As many statements, whatever is asked for.
    counts = set()
    for asked in ("ada", "player", "campaign", "nothing at all", str(held.hold.hold_id), "3", "HELP-2"):
        with statements() as made:
            look(finance, asked)
        counts.add(len(made))
    assert len(counts) == 1, counts
    assert max(counts) <= 12


def test_names_of_before_are_filled_in_by_the_worker(app: Flask, sql: Sql, people: dict[str, int]) -> None:
    expected = sql("SELECT id, name_folded FROM users ORDER BY id")
    assert all(folded_ is not None for _, folded_ in expected)
    sql("UPDATE users SET name_folded = NULL")
    assert names.fold_names(lambda: False) == len(expected)
    assert sql("SELECT id, name_folded FROM users ORDER BY id") == expected
    assert names.fold_names(lambda: False) == 0


def test_folding_leaves_what_makes_the_difference() -> None:
    for name, plain in {
        "  Ada   LOVELACE ": "ada lovelace",
        "Ǆemal Đorđe": "dzemal dorde",
        "Ω ωμέγα": "ω ωμεγα",
        "\uff26ull \uff57idth": "full width",
        "ปิยะ": "ปิยะ",
        "éé e\u0301": "ee e",
        "": "",
    }.items():
        assert folded(name) == folded(folded(name)) == plain
