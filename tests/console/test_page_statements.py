"""No page asks the database more often because there is more of what it shows: every page and list, few and many."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from tests.console.conftest import Browser, Sql, text_of
from tests.console.test_bulk import HEADER, upload
from tests.keys import KEY
from wallet_app import access, round_trip, service
from wallet_app.console.screens import SCREENS
from wallet_app.db import db
from wallet_app.service import actors

pytestmark = pytest.mark.wide

ORIGIN = service.Origin(client="shop", actor="key:k3f6m2q7zt5a", request_id="request-1")
BY = service.By(actor="test")
VISITOR = service.Visitor(address="192.0.2.1", request_id="r-1")
TREASURY, JOHN, OWING, JOHN_ID = 1, 3, 4, 2
MANY = 60
"""More than a page shows of anything, and than a chart has points beside the first 90 entries."""

HEADERS = {"Authorization": f"Bearer {KEY}"}
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?(\w+)>")


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect what the database is asked, in either way."""
    asked: list[str] = []
    send = round_trip._send

    def collect(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    def sent(driver: Any, known: Any, questions: Any) -> Any:
        asked.extend(str(question.statement.name) for question in questions)
        return send(driver, known, questions)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(round_trip, "_send", sent)
        for engine in db.engines.values():
            event.listen(engine, "before_cursor_execute", collect)
        yield asked
        for engine in db.engines.values():
            event.remove(engine, "before_cursor_execute", collect)


class Office:
    """Makes one more of everything that pages show, as often as it is asked."""

    def __init__(self, app: Flask, sql: Sql, browsers: dict[str, Browser]) -> None:
        self.gate = access.gate_of(app)
        self.browsers = browsers
        self.sql = sql
        self.session = {role: self.find(browser) for role, browser in browsers.items()}
        self.made = 0
        # More entries than a chart has points: these are found in another way.
        self.do(*[self.command(service.TopUp, f"first-{n}", amount=100) for n in range(90)])
        # What John's other wallet got, and has spent: it is taken back again, and so it owes more and more.
        self.got = self.do(*[self.command(service.TopUp, f"got-{n}", OWING, amount=5) for n in range(90)])
        self.do(self.command(service.Spend, "spent", OWING, amount=service.get_wallet(OWING).balance))

    @staticmethod
    def find(browser: Browser) -> service.Session:
        found = service.find_session(str(browser.cookie))
        assert found is not None
        return found

    @staticmethod
    def command(kind: Any, reference: str, wallet_id: int = JOHN, **values: Any) -> service.Command:
        made: service.Command = kind(wallet_id=wallet_id, reference=reference, origin=ORIGIN, **values)
        return made

    @staticmethod
    def do(*commands: service.Command) -> list[service.Receipt]:
        outcomes = service.execute_batch(list(commands))
        assert not [one for one in outcomes if isinstance(one, Exception)], outcomes
        return outcomes  # type: ignore[return-value]

    def make_one_more(self) -> None:
        self.made += 1
        n = self.made
        self.do(self.command(service.PlaceHold, f"hold-{n}", amount=1, expires_in=3_600))
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=1, hours=n)
        self.do(self.command(service.Bonus, f"grant-{n}", amount=1, expires_at=ends))
        got = self.got[n].transaction.transaction_id
        back = {"transaction_id": got, "reason": "Charged back", "on_shortfall": "debt"}
        self.do(self.command(service.ReverseTransaction, f"back-{n}", OWING, **back))
        settings = service.SwitchSettings(target="user", side="debits", reason=f"Reason {n}", user_id=3)
        service.set_switch(settings, by=BY)
        ask = service.AdjustOperation(
            wallet_id=JOHN, direction="credit", amount=1_001 + n, reason_code="CORRECTION", ticket=f"T-{n}", note="why"
        )
        service.carry_out(self.session["support"], ask, form_key=service.new_form_key(), visitor=VISITOR)
        service.create_user(name=f"Player {n}", external_id=f"player-{n}")
        self.gate.create_key(client=f"service-{n}", settings=service.KeySettings(scopes=["wallets:read"]), by=BY)
        service.create_operator(email=f"person{n}@wallet.example", name=f"Person {n}", role="viewer", by=BY)

    def make_some_slower(self) -> None:
        """Make one more of what takes longer."""
        rows = "".join(f"\nr{self.made}-{n};2;{n + 1};x" for n in range(self.made))
        answer = upload(self.browsers["support"], HEADER + rows, campaign=f"campaign-{self.made}")
        assert answer.status_code == 303, text_of(answer)
        service.create_asset(code=f"ASSET{self.made}", name="Another", scale=2, by=BY)
        limits = service.Limits(amount_max=1_000, approval_above=100)
        reason = service.ReasonSettings(name="Another", directions="both", limits=limits)
        service.create_reason(f"REASON{self.made}", reason, by=BY)
        service.verify()

    def addresses(self, app: Flask) -> Iterator[tuple[str, list[str]]]:
        """Yield each page with who may open it; of a route that names something, the first of that."""
        one = {
            "user_id": JOHN_ID,
            "transaction_id": self.first("transaction_id", "transactions", "reference_id = 'first-1'"),
            "hold_id": self.first("hold_id", "holds"),
            "lot_id": self.first("lot_id", "lots", f"wallet_id = {JOHN}"),
            "request_id": self.first("id", "approval_requests"),
            "record_id": self.first("id", "audit_log"),
            "switch_id": self.first("id", "stop_switches"),
            "operator_id": self.first("id", "operators"),
            "key_id": self.first("key_id", "api_keys"),
            "asset_code": "GOLD",
            "day": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        }
        for route in app.url_map.iter_rules():
            if "GET" not in (route.methods or set()) or route.endpoint == "static" or "any(csv" in route.rule:
                continue
            runs = "verification_runs" if "/integrity/" in route.rule else "bulk_runs"
            code = "CORRECTION" if "/reasons/" in route.rule else "GOLD"
            # These are of the system's own wallets.
            wallet_id = TREASURY if "/days" in route.rule else JOHN
            known = {**one, "run_id": self.first("id", runs), "code": code, "wallet_id": wallet_id}
            assert set(_PARAMETER.findall(route.rule)) <= known.keys(), f"{route.rule} names something new: add it"
            path = _PARAMETER.sub(lambda found, known=known: str(known[found[1]]), route.rule)  # type: ignore[misc]
            yield path, self.who(route.endpoint)
        yield f"/console/wallets/{OWING}", ["viewer"]

    def first(self, column: str, table: str, condition: str = "true") -> Any:
        return self.sql(f"SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1")[0][0]

    @staticmethod
    def who(endpoint: str) -> list[str]:
        declared = SCREENS.get(endpoint)
        if declared is None:
            return ["key"]
        return [role for role, granted in service.ROLES.items() if declared.permission in granted] or ["nobody"]


def counts(office: Office, pages: list[tuple[str, list[str]]]) -> dict[str, int]:
    found = {}
    # That sessions were used is written once a minute: not here, however long this takes.
    office.sql("UPDATE sessions SET last_seen_at = now() + interval '1 hour'")
    office.browsers["nobody"].get("/assets", headers=HEADERS)
    for path, may in pages:
        options = {"headers": HEADERS} if may == ["key"] else {}
        for who in may:
            browser = office.browsers.get(who) or office.browsers["nobody"]
            answer = browser.get(path, **options)
            # Some roles see some of the requests, say.
            if answer.status_code != 403:
                break
        # A form is led to its own address with a one-time key.
        path_now = answer.location if answer.location and answer.location.startswith(f"{path}?") else path
        with counted() as asked:
            assert browser.get(path_now, **options).status_code in {200, 303, 404, 422}, path
        found[path] = len(asked)
    return found


def test_the_number_of_statements_is_the_same_for_few_rows_and_for_many(
    app: Flask, browsers: Callable[..., Browser], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is asked or written every so many seconds would count for one page or the other.
    for name in ("KEYS_SECONDS", "KEYS_SECONDS_MAX", "_USES_SECONDS"):
        monkeypatch.setattr(actors, name, 3_600.0)
    office = Office(app, sql, {role: browsers().sign_in(role) for role in service.ROLES})
    office.browsers["nobody"] = browsers()
    for _ in range(2):
        office.make_one_more()
    office.make_some_slower()
    pages = list(office.addresses(app))
    counts(office, pages)  # The first time, connections ask about themselves.
    few = counts(office, pages)
    for _ in range(MANY):
        office.make_one_more()
    office.make_some_slower()
    many = counts(office, pages)
    grown = {path: (few[path], many[path]) for path in few if many[path] > few[path]}
    assert grown == {}
    assert max(few.values()) <= 25, sorted(few.items(), key=lambda pair: -pair[1])[:5]
