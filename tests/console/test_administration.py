"""The administration's pages: keys, operators, switches, assets and settings, as an administrator walks them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, audited, email_of, text_of
from tests.console.test_acts import Form as PageForm
from tests.console.test_sign_in import set_up
from wallet_app import service, settings_table
from wallet_app.config import Settings
from wallet_app.db import db, unit_of_work
from wallet_app.errors import (
    BadKeySettingsError,
    FormUsedError,
    NotSignedInError,
    OwnOperatorError,
    PermissionDeniedError,
    ScaleFixedError,
)
from wallet_app.service import Bonus, By, CreditLife, Form, Origin, SwitchSettings, TopUp, locks

KEY = re.compile(r"dino_dev_[a-z2-7]{12}_[0-9A-Za-z]{49}")
CODE = re.compile(r"(?:[A-Z2-9]{5}-){4}[A-Z2-9]{5}")
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


def carried(answer: TestResponse) -> dict[str, str]:
    """What a check page's form sends along: the hidden fields of its last form, but for the page's token."""
    last = answer.get_data(as_text=True).split("<form")[-1]
    return {unescape(name): unescape(value) for name, value in HIDDEN.findall(last) if name != "form_token"}


def heading(answer: TestResponse) -> str:
    found = re.search(r"<h1>(.*?)</h1>", text_of(answer), re.S)
    assert found is not None
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def wrong_field(answer: TestResponse) -> str:
    """The field that a refused form's summary leads to, which is marked and has its sentence."""
    said = text_of(answer)
    assert answer.status_code == 422, said
    found = re.search(r'<a href="#([^"]+)">', said.split('class="error-summary"')[1])
    assert found is not None
    assert f'id="{found[1]}-error"' in said, found[1]
    assert re.search(rf'aria-describedby="[^"]*{found[1]}-error', said), found[1]
    assert f'id="{found[1]}"' in said, found[1]
    return found[1]


@pytest.fixture
def admin(browser: Browser) -> Browser:
    return browser.sign_in("admin")


def test_a_key_is_made_once_shown_once_replaced_and_revoked(admin: Browser, client: FlaskClient, sql: Sql) -> None:
    form = {"client": "shop", "scope.wallets:read": "on", "amount_max": "5000", "assets": "gold", "days": "90"}
    form |= {"reason": "The shop opens", "ticket": "OPS-1"}
    checked = admin.post("/console/keys/check", form)
    assert heading(checked) == "Check the key for shop"
    assert "Only GOLD" in text_of(checked)
    sent = carried(checked)
    made = admin.post("/console/keys", sent)
    assert heading(made) == "Keep the key of shop"
    assert made.headers["Cache-Control"] == "no-store"
    key = KEY.search(text_of(made))
    assert key is not None
    assert client.get("/wallets/3", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 200
    assert client.get("/wallets/4", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 403

    # A second click, or a reload: the same key, and no other.
    again = admin.post("/console/keys", sent)
    assert KEY.findall(text_of(again)) == KEY.findall(text_of(made))
    assert [row[1] for row in audited(sql) if row[1].startswith("key:")][-2:] == ["key:create", "key:show"]
    shop = "JOIN clients ON clients.id = client_id WHERE name = 'shop'"
    assert sql(f"SELECT count(*) FROM api_keys {shop}") == [(1,)]
    sql("UPDATE api_keys SET created_at = created_at - interval '16 minutes' WHERE amount_max = 5000")
    late = admin.post("/console/keys", sent)
    assert late.status_code == 422
    assert "kept nowhere" in text_of(late)
    assert KEY.search(text_of(late)) is None

    key_id = key[0].split("_")[2]
    page = text_of(admin.get(f"/console/keys/{key_id}"))
    assert "At most 5,000" in page
    assert f"operator:{operator_id(sql, 'admin')}" in page
    rotate = admin.get(f"/console/keys/{key_id}/rotate")
    second = admin.post(f"/console/keys/{key_id}/rotate", carried(rotate))
    other = KEY.search(text_of(second))
    assert other is not None
    assert other[0] != key[0]
    full = admin.post("/console/keys/check", form)
    assert "may have 2: revoke one first" in text_of(full)
    assert wrong_field(admin.post(f"/console/keys/{key_id}/revoke", {})) == "reason"
    for _ in range(2):
        gone = admin.post(f"/console/keys/{key_id}/revoke", {"reason": "Replaced"})
        assert gone.location == f"/console/keys/{key_id}?note=key-revoked"
    assert client.get("/wallets/3", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 401
    listed = text_of(admin.get("/console/keys?client=shop"))
    assert "up to 5,000; GOLD" in listed
    assert other[0].split("_")[2] in listed
    assert key_id not in listed
    assert key_id in text_of(admin.get("/console/keys?client=shop&revoked=on"))
    who, act = sql("SELECT actor, (reason, ticket, address) FROM audit_log WHERE reason = 'The shop opens' LIMIT 1")[0]
    assert (who, act) == (f"operator:{operator_id(sql, 'admin')}", ("The shop opens", "OPS-1", "192.0.2.1"))
    assert key[0] not in str(sql("SELECT audit_log::text FROM audit_log"))


def test_what_a_key_cannot_be_is_said_at_its_field(admin: Browser, sql: Sql) -> None:
    good = {"client": "shop", "scope.wallets:read": "on", "days": "90"}
    wrong = {
        "client": {"client": "console"},
        "scopes": {"scope.wallets:read": ""},
        "amount_max": {"amount_max": "1e3"},
        "assets": {"assets": "GOLD SILVER"},
        "networks": {"networks": "10.0.0.1/8"},
        "rate_limit": {"rate_limit": "often"},
        "days": {"days": "7000"},
        "ticket": {"ticket": "x" * 101},
    }
    for field, change in wrong.items():
        answer = admin.post("/console/keys/check", good | change)
        assert wrong_field(answer) == field
        assert 'value="shop"' in text_of(answer) or field == "client"
    for name in ("Operator", "worker"):
        assert wrong_field(admin.post("/console/keys/check", good | {"client": name})) == "client"
    # No form of ours has such a field, and the service would not give it either.
    assert admin.post("/console/keys/check", good | {"scope.admin:keys": "on"}).status_code == 422
    assert "out of date" in text_of(admin.post("/console/keys", good | {"form_key": "x"}))
    session = service.find_session(str(admin.cookie))
    assert session is not None
    gate = admin.client.application.extensions["wallet_gate"]
    with pytest.raises(BadKeySettingsError, match="The console makes no key with the scope admin:keys"):
        gate.create_key(
            client="shop",
            settings=service.KeySettings(scopes=["admin:keys"]),
            by=By(actor=session.actor),
            form=Form(session, service.make_secret_form_key()),
        )
    assert sql("SELECT count(*) FROM clients WHERE name = 'shop'") == [(0,)]


def operator_id(sql: Sql, role: str) -> int:
    return int(sql("SELECT id FROM operators WHERE email = %s", email_of(role))[0][0])


def test_an_operator_comes_changes_and_goes(
    admin: Browser, browsers: Callable[..., Browser], sql: Sql, app: Flask
) -> None:
    form = {"email": " Nora@Wallet.Example ", "name": "Nora  New", "role": "support", "ticket": "OPS-2"}
    checked = admin.post("/console/operators/check", form)
    assert "Adjust a balance below the threshold" in text_of(checked)
    sent = carried(checked)
    made, again = admin.post("/console/operators", sent), admin.post("/console/operators", sent)
    assert heading(made) == "Hand over the set-up code"
    code = CODE.search(text_of(made))
    assert code is not None
    assert code[0] in text_of(again)
    assert [row[1] for row in audited(sql)][-2:] == ["operator:create", "operator:show_code"]
    nora = browsers(address="192.0.2.9")
    set_up(nora, "nora@wallet.example", code[0])
    assert nora.is_signed_in()
    # The code is used up: the same form tells nobody anything any more.
    used = admin.post("/console/operators", sent)
    assert "There is an operator nora@wallet.example already" in text_of(used)
    assert CODE.search(text_of(used)) is None
    assert wrong_field(admin.post("/console/operators/check", form | {"email": "nora", "role": "support"})) == "email"
    assert wrong_field(admin.post("/console/operators/check", form | {"email": "x@y.z", "role": "root"})) == "role"

    path = f"/console/operators/{sql('SELECT max(id) FROM operators')[0][0]}"
    listed = text_of(admin.get("/console/operators"))
    assert "Nora New" in listed
    assert 'title="just now"' in listed
    assert wrong_field(admin.post(f"{path}/role/check", {"role": "support", "reason": "x"})) == "role"
    role = admin.post(f"{path}/role/check", {"role": "approver", "reason": "She leads now"})
    assert "Approve or reject what others asked for" in text_of(role).split("They will not")[0]
    assert "Adjust a balance below the threshold" in text_of(role).split("They will not")[1]
    for _ in range(2):
        assert admin.post(f"{path}/role", carried(role)).location == f"{path}?note=operator-role"
    assert not nora.is_signed_in()
    assert sql("SELECT before, after, reason FROM audit_log WHERE action = 'operator:role'") == [
        ({"role": "support"}, {"role": "approver"}, "She leads now")
    ]

    reset_form = carried(admin.get(f"{path}/reset")) | {"reason": "Lost her phone"}
    assert wrong_field(admin.post(f"{path}/reset", reset_form | {"reason": " "})) == "reason"
    reset, twice = admin.post(f"{path}/reset", reset_form), admin.post(f"{path}/reset", reset_form)
    new_code = CODE.search(text_of(reset))
    assert new_code is not None
    assert new_code[0] in text_of(twice)
    other = browsers(address="192.0.2.10")
    set_up(other, "nora@wallet.example", new_code[0])
    # A reload after she has set up must not void it again.
    stale = admin.post(f"{path}/reset", reset_form)
    assert "was changed, or signed out, since you opened the form" in text_of(stale)
    assert other.is_signed_in()

    for wrong in ("", " \r\n ", "x" * 501, "\x07"):
        assert wrong_field(admin.post(f"{path}/disable", {"reason": wrong})) == "reason"
    gone = admin.post(f"{path}/disable", {"reason": " She\r\nleft "})
    assert sql("SELECT reason FROM audit_log WHERE action = 'operator:disable'") == [("She left",)]
    assert gone.location == f"{path}?note=operator-disabled"
    assert not other.is_signed_in()
    assert "Disabled" in text_of(admin.get(path))
    roles = text_of(admin.get("/console/operators/roles"))
    for permission, about in service.PERMISSIONS.items():
        assert about in roles, permission
    assert code[0] not in str(sql("SELECT operators::text FROM operators"))


def test_nobody_does_it_to_themselves_and_of_two_who_do_it_to_each_other_one_is_left(
    admin: Browser, app: Flask, sql: Sql
) -> None:
    own = operator_id(sql, "admin")
    for what in ("role", "disable", "reset"):
        sent = carried(admin.get(f"/console/operators/{own}/{what}")) | {"reason": "x"}
        answer = admin.post(f"/console/operators/{own}/{what}", sent | ({"role": "viewer"} if what == "role" else {}))
        assert (answer.status_code, heading(answer)) == (403, "Your own sign-in"), what
    assert admin.is_signed_in()
    session = service.find_session(str(admin.cookie))
    assert session is not None
    with pytest.raises(OwnOperatorError):
        service.disable_operator(email_of("admin"), by=By(actor="test"), session=session)

    # Another administrator, and both disable each other at the same moment: who comes second is nobody any more.
    second = email_of("finance")
    service.change_role(second, "admin", by=By(actor="test"))
    other = replace(session, operator_id=operator_id(sql, "finance"), epoch=epoch(sql, "finance"))
    outcomes: list[object] = []

    def disable(email: str, who: service.Session) -> None:
        with app.app_context():
            try:
                outcomes.append(service.disable_operator(email, by=By(actor=who.actor), session=who))
            except (NotSignedInError, DBAPIError) as error:
                outcomes.append(type(error))

    threads = [
        threading.Thread(target=disable, args=(second, session)),
        threading.Thread(target=disable, args=(email_of("admin"), other)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, outcomes)) == sorted(map(str, (None, NotSignedInError)))
    assert sql("SELECT count(*) FROM operators WHERE role = 'admin' AND disabled_at IS NULL") == [(1,)]


def epoch(sql: Sql, role: str) -> int:
    return int(sql("SELECT epoch FROM operators WHERE email = %s", email_of(role))[0][0])


def test_whoever_was_kept_out_while_their_form_was_on_its_way_changes_nothing(admin: Browser, sql: Sql) -> None:
    session = service.find_session(str(admin.cookie))
    assert session is not None
    service.change_role(email_of("admin"), "viewer", by=By(actor="test"))
    by, form = By(actor=session.actor), Form(session, service.make_secret_form_key())
    gate = admin.client.application.extensions["wallet_gate"]
    settings = service.KeySettings(scopes=["wallets:read"])
    goodwill = service.get_reason("GOODWILL").settings
    before = audited(sql)
    for attempt in (
        lambda: gate.create_key(client="shop", settings=settings, by=by, form=form),
        lambda: gate.rotate_key(service.list_keys()[0].key_id, by=by, form=form),
        lambda: gate.revoke_key(service.list_keys()[0].key_id, by=by, session=session),
        lambda: service.create_operator(email="x@y.zz", name="X", role="admin", by=by, form=form),
        lambda: service.change_role(email_of("viewer"), "admin", by=by, session=session),
        lambda: service.disable_operator(email_of("viewer"), by=by, session=session),
        lambda: service.reset_operator(email_of("viewer"), by=by, form=form, seen=1),
        lambda: service.create_asset(code="SILVER", name="Silver", scale=0, by=by, session=session),
        lambda: service.change_asset("GOLD", name="Golden", scale=0, by=by, session=session),
        lambda: service.set_switch(STOP_GOLD, by=by, session=session),
        lambda: service.change_reason("GOODWILL", goodwill, by=by, session=session),
        lambda: service.create_reason("MORE", goodwill, by=by, session=session),
        lambda: service.set_day_bound(service.list_day_bounds()[0], by=by, session=session),
    ):
        with pytest.raises(NotSignedInError):
            attempt()
    assert audited(sql) == before


STOP_GOLD = SwitchSettings(target="asset", asset_code="GOLD", side="debits", reason="Prices are wrong")


def test_the_same_form_at_once_makes_one_key(admin: Browser, app: Flask, sql: Sql) -> None:
    session = service.find_session(str(admin.cookie))
    assert session is not None
    form, gate, texts = Form(session, service.make_secret_form_key()), app.extensions["wallet_gate"], []

    def make() -> None:
        with app.app_context():
            settings = service.KeySettings(scopes=["wallets:read"])
            texts.append(gate.create_key(client="shop", settings=settings, by=By(actor=session.actor), form=form).text)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(texts) == 8
    assert len(set(texts)) == 1
    # Another operator's form with the same key is another form.
    support = replace(session, operator_id=operator_id(sql, "support"), epoch=epoch(sql, "support"))
    assert Form(support, form.key).material("api key") != form.material("api key")
    sql("UPDATE api_keys SET revoked_at = now()")
    with pytest.raises(FormUsedError):
        make()


def test_a_user_an_asset_and_everything_are_stopped_and_let_go(
    browsers: Callable[..., Browser], client: FlaskClient, sql: Sql
) -> None:
    support, approver, viewer = (browsers().sign_in(role) for role in ("support", "approver", "viewer"))
    form = {"target": "user", "user": "2", "side": "debits", "reason": "Account taken over", "ticket": "T-7"}
    begun = re.search(r'href="(/console/switches/new[^"]+)">Stop this user', support.get("/console/users/2").text)
    assert begun is not None
    assert 'name="user" type="text" value="2"' in support.get(unescape(begun[1])).text
    checked = support.post("/console/switches/check", form)
    assert "Stop debits of user 2" in text_of(checked)
    assert "John" in text_of(checked)
    for _ in range(2):
        assert support.post("/console/switches", carried(checked)).location == "/console/switches?note=switch-set"
    assert sql("SELECT count(*), max(set_by) FROM stop_switches") == [(1, f"operator:{operator_id(sql, 'support')}")]
    assert client.post("/wallets/3/spend", json={"amount": 1, "referenceId": "a-1"}).status_code == 409
    assert "Account taken over" in text_of(viewer.get("/console/switches"))
    assert "stops" not in viewer.get("/console").get_data(as_text=True).split("<main")[0], "a user is no banner"

    # An asset and everything are for others, whatever page the form comes from.
    for target in ({"target": "asset", "asset": "GOLD"}, {"target": "everything", "word": "everything"}):
        denied = support.post("/console/switches", form | target)
        assert denied.status_code == 403
        assert audited(sql)[-1] == (f"operator:{operator_id(sql, 'support')}", "switches:manage", "denied")
    with pytest.raises(PermissionDeniedError):
        service.set_switch(STOP_GOLD, by=By(actor="x"), session=service.find_session(str(support.cookie)))

    everything = {"target": "everything", "side": "both", "reason": "Something is very wrong"}
    asked = approver.post("/console/switches/check", everything)
    assert wrong_field(approver.post("/console/switches", carried(asked) | {"word": "yes"})) == "word"
    assert sql("SELECT count(*) FROM stop_switches") == [(1,)]
    approver.post("/console/switches", carried(asked) | {"word": " Everything "})
    for path in ("/console", "/console/account", "/console/switches", "/console/nothing"):
        said = text_of(viewer.get(path)).split("<main")[0]
        assert ("Everything: debits and credits are stopped" in said) is (path != "/console/nothing"), path
    assert "stopped" not in text_of(browsers().get("/console/sign-in"))

    switch_id = sql("SELECT id FROM stop_switches WHERE target = 'everything'")[0][0]
    path = f"/console/switches/{switch_id}/lift"
    assert support.post(path, {"reason": "It is fine"}).status_code == 403
    assert wrong_field(approver.post(path, {"reason": ""})) == "reason"
    assert approver.post(path, {"reason": "It was a test"}).location == "/console/switches?note=switch-lifted"
    listed = text_of(viewer.get("/console/switches"))
    assert "It was a test" in listed
    assert "Lift" not in listed.split("Stopped now")[2].split("Before")[0], "who may not is not asked to"
    finance = browsers().sign_in("finance")
    taken = finance.get("/console/switches.csv").get_data(as_text=True).splitlines()
    assert taken[0].startswith("switch_id,target,user_id,asset_code,side,reason,until")
    assert len(taken) == 3
    assert "Account taken over" in taken[1]
    wrong = {
        "target": {"target": "planet"},
        "user": {"user": "99"},
        "side": {"side": "all"},
        "until_date": {"until_date": "2001-01-01"},
        "reason": {"reason": ""},
    }
    for field, change in wrong.items():
        assert wrong_field(approver.post("/console/switches/check", form | change)) == field
    asset = {"target": "asset", "asset": "SILVER", "side": "both", "reason": "x"}
    assert wrong_field(approver.post("/console/switches/check", asset)) == "asset"
    ends = approver.post("/console/switches/check", asset | {"asset": "gold", "until_date": "2999-12-31"})
    assert "31 Dec 2999, 00:00 UTC" in text_of(ends)


def test_an_asset_is_made_whole_and_changed_as_far_as_it_may_be(admin: Browser, sql: Sql, app: Flask) -> None:
    form = {"code": "silver", "name": " Silver  Coins ", "scale": "2", "reason": "Season 4"}
    for _ in range(2):
        assert admin.post("/console/assets", form).location == "/console/assets/SILVER?note=asset-made"
    assert sql("""
        SELECT count(*) FROM wallets JOIN users ON users.id = user_id JOIN asset_types ON asset_types.id = asset_type_id
         WHERE code = 'SILVER' AND user_type = 'SYSTEM'
    """) == [(8,)]
    made = sql("SELECT before, after, reason FROM audit_log WHERE action = 'asset:create'")
    assert made == [(None, {"code": "SILVER", "name": "Silver Coins", "scale": 2}, "Season 4")]
    assert wrong_field(admin.post("/console/assets", form | {"name": "Other"})) == "code"
    for field, value in {"code": "1x", "name": "", "scale": "13"}.items():
        tin = {"code": "TIN", "name": "Tin", "scale": "0"}
        assert wrong_field(admin.post("/console/assets", tin | {field: value})) == field

    view, _ = service.create_wallet(user_id=2, asset_code="SILVER")
    changed = admin.post("/console/assets/SILVER", {"name": "Silver", "scale": "3"})
    assert changed.location == "/console/assets/SILVER?note=asset-changed"
    assert sql("SELECT before, after FROM audit_log WHERE action = 'asset:change'") == [
        ({"name": "Silver Coins", "scale": 2}, {"name": "Silver", "scale": 3})
    ]
    origin = Origin(client="tests", actor="tests")
    service.execute(TopUp(wallet_id=view.wallet_id, reference="ref-1", origin=origin, amount=1234))
    assert wrong_field(admin.post("/console/assets/SILVER", {"name": "Silver", "scale": "2"})) == "scale"
    assert admin.post("/console/assets/SILVER", {"name": "Silver!", "scale": "3"}).status_code == 303
    page = text_of(admin.get("/console/assets/SILVER"))
    assert "1.234" in page
    assert service.get_asset("SILVER").wallets == 1
    with pytest.raises(DBAPIError, match="has entries: its scale is fixed"), unit_of_work() as connection:
        connection.exec_driver_sql("UPDATE asset_types SET scale = 0 WHERE code = 'SILVER'")
    listed = {one.code: one.outstanding for one in service.list_asset_facts(after_id=None, limit=10)}
    assert listed == {"GOLD": 800, "DIAMOND": 10, "SILVER": 1234}


def test_how_long_credit_lives_is_said_on_its_assets_page_and_counts_for_what_comes_then(
    admin: Browser, sql: Sql
) -> None:
    path, said = "/console/assets/GOLD", {"time_zone": "Europe/Berlin", "bonus_days": "30", "paid_days": "365"}
    opened = PageForm(admin.get(path)).fields
    assert [opened[name] for name in said] == ["UTC", "", ""]
    days = ["0", "3651", "-1", "1.5", "x"]
    wrong = {
        "time_zone": ["Mars/Phobos", "europe/berlin", "../UTC", "localtime", "Factory", ""],
        "bonus_days": days,
        "paid_days": days,
    }
    for url, form in ((path, opened), ("/console/assets", {"code": "TIN", "name": "Tin", "scale": "0"})):
        for field, values in wrong.items():
            for value in values:
                refused = admin.post(url, form | said | {field: value})
                assert wrong_field(refused) == field
                assert f'value="{value}"' in text_of(refused), "what was entered is there to be mended"
    assert not sql("SELECT FROM audit_log WHERE starts_with(action, 'asset:')")

    origin = Origin(client="tests", actor="tests")
    service.execute(TopUp(wallet_id=3, reference="ref-1", origin=origin, amount=5))
    service.execute(Bonus(wallet_id=3, reference="ref-2", origin=origin, amount=5))
    lots = "SELECT seq, kind, amount, expires_at FROM lots WHERE wallet_id = 3 ORDER BY seq"
    ((number, *standing),) = sql(lots)
    assert number == 0
    changed = admin.post(path, opened | said | {"reason": "New terms"})
    assert changed.location == f"{path}?note=asset-changed"
    assert service.get_asset("GOLD").life == CreditLife("Europe/Berlin", 30, 365)
    assert sql("SELECT before, after, reason FROM audit_log WHERE action = 'asset:change'") == [
        (
            {"name": "Gold Coins", "scale": 0, "time_zone": "UTC", "bonus_days": None, "paid_days": None},
            {"name": "Gold Coins", "scale": 0, "time_zone": "Europe/Berlin", "bonus_days": 30, "paid_days": 365},
            "New terms",
        )
    ]
    assert sql(lots) == [(number, *standing)], "what is there ends as it did, and what had no end got none"
    shown = text_of(admin.get(path))
    for fact in ("Europe/Berlin", "30 days, if it does not say when it ends", "365 days"):
        assert f">{fact}<" in shown
    service.execute(TopUp(wallet_id=3, reference="ref-3", origin=origin, amount=5))
    service.execute(Bonus(wallet_id=3, reference="ref-4", origin=origin, amount=5))
    ends = sql("""
        SELECT kind, date(expires_at AT TIME ZONE 'Europe/Berlin') - date(created_at AT TIME ZONE 'Europe/Berlin'),
               to_char(expires_at AT TIME ZONE 'Europe/Berlin', 'HH24:MI:SS')
          FROM lots WHERE wallet_id = 3 AND seq > 0 ORDER BY kind
    """)
    assert ends == [("bonus", 31, "00:00:00"), ("paid", 366, "00:00:00")]

    # A page from before there were these fields says nothing of them; one with them lets credit live for ever again.
    assert admin.post(path, {"name": "Gold", "scale": "0"}).status_code == 303
    assert service.get_asset("GOLD").life == CreditLife("Europe/Berlin", 30, 365)
    admin.post(path, PageForm(admin.get(path)).fields | {"bonus_days": "", "paid_days": ""})
    assert service.get_asset("GOLD").life == CreditLife("Europe/Berlin")
    admin.post("/console/assets", {"code": "TIN", "name": "Tin", "scale": "0"} | said | {"paid_days": ""})
    assert service.get_asset("TIN").life == CreditLife("Europe/Berlin", 30)


def test_a_scale_is_not_changed_while_something_is_posted(app: Flask, sql: Sql) -> None:
    by = By(actor="tests")
    service.create_asset(code="SILVER", name="Silver", scale=2, by=by)
    view, _ = service.create_wallet(user_id=2, asset_code="SILVER")
    with unit_of_work() as connection:
        locks.lock_wallets(connection, [view.wallet_id])
        with pytest.raises(ScaleFixedError, match="something is being posted"):
            service.change_asset("SILVER", name="Silver", scale=0, by=by)
    assert service.change_asset("SILVER", name="Silver", scale=0, by=by).scale == 0


def test_settings_tell_every_setting_and_no_secret(admin: Browser, app: Flask) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://login:canary-1@db.example/wallet?sslpassword=canary-2",
        "WALLET_KEY_PEPPER": "canary-3-0123456789abcdef0123456789",
        "WALLET_TOKEN_KEYS": "canary-4-0123456789abcdef0123456789",
        "WALLET_TOTP_KEY": "2:" + "ab" * 32 + ",1:" + "cd" * 32,
        "WALLET_BOOTSTRAP_API_KEY": "dino_dev_canary-5",
        "WALLET_RATE_LIMIT_STORAGE": "redis://user:canary-6@redis.example:6379/0",
    }
    settings = Settings.from_env(secrets | {"WALLET_WORKERS": "3"})
    described = settings_table.described(settings)
    said = str(described)
    assert "canary" not in said
    assert "abab" not in said
    assert "cdcd" not in said
    assert "redis.example:6379" in said
    assert {one.variable for one in described if one.source == "environment"} == {*secrets, "WALLET_WORKERS"}
    assert len(described) == len(fields(Settings)) - 1, "a setting that the page does not tell"
    app.extensions["wallet_settings"] = replace(settings, totp_key=app.extensions["wallet_settings"].totp_key)
    page = text_of(admin.get("/console/settings"))
    assert "canary" not in page
    assert "wallet at db.example, as login" in page
    assert "lock_timeout" in page
    assert "wallet_app" in page


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    engines = list(db.engines.values())
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def test_each_page_asks_as_often_however_much_there_is(admin: Browser, app: Flask) -> None:
    pages = ["/console/keys", "/console/operators", "/console/operators/roles", "/console/switches", "/console/assets"]
    pages += ["/console/assets/GOLD", "/console/settings", "/console/reasons"]

    def counts() -> list[int]:
        found = []
        for path in pages:
            with counted() as seen:
                assert admin.get(path).status_code == 200, path
            found.append(len(seen))
        return found

    before = counts()
    by = By(actor="tests")
    for number in range(26):
        service.create_asset(code=f"A{number}", name="A", scale=0, by=by)
    for number in range(8):
        settings = service.KeySettings(scopes=["wallets:read"])
        app.extensions["wallet_gate"].create_key(client=f"c{number}", settings=settings, by=by)
        service.create_operator(email=f"o{number}@wallet.example", name="O", role="viewer", by=by)
        view, _ = service.set_switch(replace(STOP_GOLD, reason=f"Reason {number}"), by=by)
        if number % 2:
            service.lift_switch(view.switch_id, reason="Enough", by=by)
    assert counts() == before
    assert max(before) <= 5, before
    assert 'rel="next"' in admin.get("/console/assets").get_data(as_text=True)


def test_reason_codes_and_bounds_are_set_in_the_units_that_people_read(admin: Browser, sql: Sql) -> None:
    service.create_asset(code="SILVER", name="Silver", scale=2, by=By(actor="tests"))
    form = {"code": "event", "name": "Event prize", "directions": "credit", "amount_max": "1000", "is_active": "on"}
    form |= {"approval_above": "100", "amount_max.SILVER": "50.5", "approval_above.SILVER": "0", "reason": "Season 4"}
    for _ in range(2):
        assert admin.post("/console/reasons", form).location == "/console/reasons?note=reason-made"
    made = service.get_reason("EVENT").settings
    assert made.of_assets == {"SILVER": service.Limits(amount_max=5050, approval_above=0)}
    assert "SILVER: 50.50, approval above 0.00" in text_of(admin.get("/console/reasons"))
    assert wrong_field(admin.post("/console/reasons", form | {"name": "Another"})) == "code"
    wrong = {
        "code": {"code": "1"},
        "name": {"name": " "},
        "directions": {"directions": "sideways"},
        "amount_max": {"amount_max": "1,00"},
        "approval_above": {"approval_above": "-1"},
        "amount_max.SILVER": {"amount_max.SILVER": "1.234"},
        "approval_above.SILVER": {"approval_above.SILVER": ""},
    }
    for field, change in wrong.items():
        assert wrong_field(admin.post("/console/reasons", form | {"code": "other"} | change)) == field

    shown = text_of(admin.get("/console/reasons/EVENT"))
    assert 'value="50.50"' in shown
    change = {name: value for name, value in form.items() if name not in {"code", "is_active"}}
    off = admin.post("/console/reasons/EVENT", change | {"amount_max": "2000", "ticket": "OPS-3"})
    assert off.location == "/console/reasons?note=reason-changed"
    act = sql("SELECT actor, before, after, reason, ticket FROM audit_log WHERE action = 'reason:change'")
    ((actor, before, after, why, ticket),) = act
    assert (actor, why, ticket) == (f"operator:{operator_id(sql, 'admin')}", "Season 4", "OPS-3")
    assert (before["amountMax"], before["isActive"]) == (1000, True)
    assert (after["amountMax"], after["isActive"]) == (2000, False)
    assert "EVENT" not in [one.code for one in service.list_reasons(direction="credit")]

    path = "/console/reasons/bounds"
    bound = {"asset": "SILVER", "operator_day_max": "200", "wallet_day_max": "99.99"}
    assert admin.post(path, bound).location == "/console/reasons?note=bound-set"
    assert [one for one in service.list_day_bounds() if one.asset_code == "SILVER"] == [
        service.DayBoundView("SILVER", 20000, 9999)
    ]
    assert 'value="99.99"' in text_of(admin.get(f"{path}?asset=SILVER"))
    assert wrong_field(admin.post(path, bound | {"wallet_day_max": "9.999"})) == "wallet_day_max"
    assert admin.get(f"{path}?asset=TIN").status_code == 404
