"""Users, wallets and assets: made once and found again, whoever asks at the same moment; none of the system's own."""
# ruff: noqa: RUF001

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Thread
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from tests.api.support import (
    JOHN_DIAMOND,
    JOHN_GOLD,
    assert_headers,
    assert_problem,
    books,
    is_instant,
    movement,
)
from tests.conftest import conninfo, run_sql
from tests.every_case import every
from tests.keys import client_of
from wallet_app.db import CommitNotReplicatedError, db, unit_of_work
from wallet_app.service import listings, repeatable, wallets

TREASURY, JOHN = 1, 2
NOBODY = 999_999_999
THREADS = 16


def answered(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.get_data()
    assert answer.headers["Content-Type"] == "application/json"
    assert_headers(answer)
    body: dict[str, Any] = answer.get_json()
    assert body["ok"] is True
    return body


def new_id() -> str:
    return f"player-{secrets.token_hex(6)}"


def new_user(client: FlaskClient, external_id: str | None = None, name: str = "Ada") -> int:
    answer = client.post("/users", json={"name": name, "externalId": external_id or new_id()})
    return int(answered(answer, 201)["userId"])


def at_once(app: Flask, work: Callable[[FlaskClient], Any]) -> list[Any]:
    """Do it in many threads, let go at the same moment; return what each came to."""
    gate = Barrier(THREADS)

    def run(_: int) -> Any:
        client = client_of(app)
        gate.wait(30)
        return work(client)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS)))


def count(statement: str, **values: object) -> int:
    with db.engine.connect() as connection:
        return int(connection.execute(text(statement), values).scalar_one())


# --- users ---


def test_a_user_is_made_once_and_found_again(client: FlaskClient) -> None:
    made = client.post("/users", json={"name": "Ada", "externalId": "ada-1"})
    body = answered(made, 201)
    assert set(body) == {"ok", "userId", "name", "externalId", "createdAt"}
    assert (body["name"], body["externalId"]) == ("Ada", "ada-1")
    assert is_instant(body["createdAt"])
    before = books()
    again = client.post("/users", json={"externalId": " ada-1\t", "name": " Ada "})
    assert answered(again, 200) == body
    assert books() == before
    assert made.headers["Location"] == f"/users/{body['userId']}"
    assert "Location" not in again.headers
    assert answered(client.get(made.headers["Location"]), 200) == body
    found = answered(client.get("/users", query_string={"externalId": "ada-1"}), 200)
    assert found == {"ok": True, "users": [{name: value for name, value in body.items() if name != "ok"}]}


def test_an_external_id_under_another_name_is_refused_and_names_the_user(client: FlaskClient) -> None:
    user = new_user(client, "ada-1")
    before = books()
    problem = assert_problem(
        client.post("/users", json={"name": "Bo", "externalId": "ada-1"}), 409, "external_id_taken"
    )
    assert (problem["externalId"], problem["userId"]) == ("ada-1", user)
    assert "Ada" not in str(problem)
    assert books() == before
    assert answered(client.get(f"/users/{user}"), 200)["name"] == "Ada"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Zoe\u0301", "Zo\u00e9"),
        ("Zo\u00e9", "Zoe\u0301"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\u212b", "\u00c5"),
    ],
)
def test_names_and_external_ids_are_the_same_in_each_normal_form(shared: FlaskClient, first: str, again: str) -> None:
    mark = new_id()
    user = new_user(shared, first + mark, first)
    body = answered(shared.post("/users", json={"name": again, "externalId": again + mark}), 200)
    assert body["userId"] == user
    found = answered(shared.get("/users", query_string={"externalId": again + mark}), 200)["users"]
    assert [one["userId"] for one in found] == [user]


@every(
    "value",
    [
        "x",
        "x" * 200,
        "a b",
        "ключ",
        "\U0001f995",
        "demo:Nobody",
        "sys:1",
        "' OR 1=1 --",
        # In the normal form three times as long, in the most bytes that a character can come to.
        "\U0001d160" * 200,
        "\u202eabc",
    ],
)
def test_names_and_external_ids_that_are_accepted(client: FlaskClient, value: str) -> None:
    user = new_user(client, value, value)
    assert answered(client.post("/users", json={"name": value, "externalId": value}), 200)["userId"] == user
    found = answered(client.get("/users", query_string={"externalId": value}), 200)["users"]
    assert [one["userId"] for one in found] == [user]


def test_external_ids_that_look_alike_are_not_the_same(shared: FlaskClient) -> None:
    mark = new_id()
    made = {new_user(shared, mark + end) for end in ("a", "A", "а", "\u200ba", "aa")}
    assert len(made) == 5


def test_both_fields_are_required(shared: FlaskClient) -> None:
    assert_problem(shared.post("/users", json={}), 422, "validation_error", "/name", "/externalId")
    assert_problem(shared.get("/users"), 422, "validation_error", "/externalId")


def test_an_unknown_external_id_finds_nobody(shared: FlaskClient) -> None:
    assert answered(shared.get("/users?externalId=nobody"), 200) == {"ok": True, "users": []}


@pytest.mark.parametrize("user", [NOBODY, 2**63 - 1, 2**63, 10**30, TREASURY])
def test_an_unknown_user_is_404_and_so_is_one_of_the_system(shared: FlaskClient, user: int) -> None:
    before = books()
    for answer in (
        shared.get(f"/users/{user}"),
        shared.get(f"/wallets?userId={user}"),
        shared.post("/wallets", json={"userId": user, "asset": "GOLD"}),
    ):
        problem = assert_problem(answer, 404, "user_not_found")
        assert problem["error"] == "User not found"
        assert problem["detail"] == f"There is no user {user}."
    assert books() == before


def test_seeded_people_are_found_by_the_external_id_of_the_seed(client: FlaskClient) -> None:
    (john,) = answered(client.get("/users?externalId=demo:John"), 200)["users"]
    assert (john["userId"], john["name"]) == (JOHN, "John")


def test_the_same_user_asked_for_at_once_is_one_user(app: Flask) -> None:
    answers = at_once(app, lambda client: client.post("/users", json={"name": "Ada", "externalId": "ada-1"}))
    assert sorted(answer.status_code for answer in answers) == [200] * (THREADS - 1) + [201]
    assert len({answer.json["userId"] for answer in answers}) == 1
    assert count("SELECT count(*) FROM users WHERE external_id = 'ada-1'") == 1


def test_of_two_names_asked_for_at_once_one_has_the_external_id(app: Flask) -> None:
    names = iter(["Ada", "Bo"] * (THREADS // 2))
    answers = at_once(app, lambda client: client.post("/users", json={"name": next(names), "externalId": "ada-1"}))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * (THREADS // 2 - 1) + [201] + [409] * (THREADS // 2)
    assert count("SELECT count(*) FROM users WHERE external_id = 'ada-1'") == 1


# --- wallets ---


def test_a_wallet_is_made_once_with_its_balance_row_and_found_again(client: FlaskClient) -> None:
    user = new_user(client)
    made = client.post("/wallets", json={"userId": user, "asset": "GOLD"})
    body = answered(made, 201)
    wallet = body["walletId"]
    assert made.headers["Location"] == f"/wallets/{wallet}"
    assert (body["userId"], body["userName"], body["userType"]) == (user, "Ada", "USER")
    assert (body["balance"], body["held"], body["total"], body["version"]) == (0, 0, 0, 0)
    assert (body["asset"], body["status"]) == ({"code": "GOLD", "name": "Gold Coins"}, "ACTIVE")
    assert count("SELECT count(*) FROM wallet_balances WHERE wallet_id = :wallet", wallet=wallet) == 1
    assert answered(client.get(f"/wallets/{wallet}"), 200) == body
    before = books()
    again = client.post("/wallets", json={"userId": str(user), "asset": "GOLD"})
    assert answered(again, 200) == body
    assert "Location" not in again.headers
    assert books() == before
    posted = answered(client.post(f"/wallets/{wallet}/topup", json=movement(7)), 200)
    assert (posted["balance"], posted["version"]) == (7, 1)
    assert answered(client.post("/wallets", json={"userId": user, "asset": "GOLD"}), 200)["balance"] == 7


def test_a_user_has_a_wallet_for_each_asset(shared: FlaskClient) -> None:
    user = new_user(shared)
    made = [
        answered(shared.post("/wallets", json={"userId": user, "asset": asset}), 201) for asset in ("GOLD", "DIAMOND")
    ]
    assert made[0]["walletId"] != made[1]["walletId"]
    listed = answered(shared.get(f"/wallets?userId={user}"), 200)
    assert [wallet["walletId"] for wallet in listed["wallets"]] == [wallet["walletId"] for wallet in made]


def test_a_seeded_wallet_is_there_already(client: FlaskClient) -> None:
    body = answered(client.post("/wallets", json={"userId": JOHN, "asset": "DIAMOND"}), 200)
    assert (body["walletId"], body["balance"]) == (JOHN_DIAMOND, 10)


def test_an_unknown_asset_is_404(shared: FlaskClient) -> None:
    before = books()
    for answer in (
        shared.post("/wallets", json={"userId": JOHN, "asset": "SILVER"}),
        shared.get("/wallets?asset=SILVER"),
        shared.get(f"/wallets?userId={JOHN}&asset=SILVER"),
    ):
        problem = assert_problem(answer, 404, "asset_not_found")
        assert (problem["error"], problem["asset"]) == ("Asset not found", "SILVER")
    assert books() == before


def test_both_fields_of_a_wallet_are_required(shared: FlaskClient) -> None:
    assert_problem(shared.post("/wallets", json={}), 422, "validation_error", "/userId", "/asset")


def test_the_same_wallet_asked_for_at_once_is_one_wallet_that_works(app: Flask, client: FlaskClient) -> None:
    user = new_user(client)
    answers = at_once(app, lambda one: one.post("/wallets", json={"userId": user, "asset": "GOLD"}))
    assert sorted(answer.status_code for answer in answers) == [200] * (THREADS - 1) + [201]
    (wallet,) = {answer.json["walletId"] for answer in answers}
    assert count("SELECT count(*) FROM wallets WHERE user_id = :user", user=user) == 1
    assert count("SELECT count(*) FROM wallet_balances WHERE wallet_id = :wallet", wallet=wallet) == 1
    assert answered(client.post(f"/wallets/{wallet}/topup", json=movement(3)), 200)["balance"] == 3


def test_a_wallet_that_is_just_being_made_is_waited_for(database: URL, app: Flask, client: FlaskClient) -> None:
    """The other's insert is there, but not committed: who asks for the same wallet is answered with that one."""
    user = new_user(client)
    answers: list[Any] = []
    ask = Thread(target=lambda: answers.append(client_of(app).post("/wallets", json={"userId": user, "asset": "GOLD"})))
    with unit_of_work() as connection:
        wallet = wallets.ensure_wallet(connection, user_id=user, asset_type_id=1)
        ask.start()
        wait_for_a_waiter(database)
        assert answers == []
    ask.join(30)
    assert answered(answers[0], 200)["walletId"] == wallet


def wait_for_a_waiter(database: URL) -> None:
    """Return when somebody waits for another's transaction in this database."""
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        deadline = time.monotonic() + 30
        while not connection.execute(_WAITING).fetchone():
            assert time.monotonic() < deadline
            time.sleep(0.01)


_WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"


# --- the list of wallets ---


def pages(client: FlaskClient, query: str, limit: int, between: Callable[[], object] = lambda: None) -> list[int]:
    """Return the ids on all pages, calling `between` before each next one."""
    found: list[int] = []
    following = ""
    while True:
        body = answered(client.get(f"/wallets?limit={limit}{query}{following}"), 200)
        assert len(body["wallets"]) <= limit
        found += [wallet["walletId"] for wallet in body["wallets"]]
        if "next" not in body:
            return found
        assert len(body["wallets"]) == limit
        following = f"&cursor={body['next']}"
        between()


def test_a_listed_wallet_is_the_wallet(client: FlaskClient) -> None:
    (listed,) = answered(client.get(f"/wallets?userId={JOHN}&asset=GOLD"), 200)["wallets"]
    assert {"ok": True, **listed} == answered(client.get(f"/wallets/{JOHN_GOLD}"), 200)


@pytest.mark.parametrize("limit", [1, 2, 3, 13, 14, 15, 100])
def test_pages_have_every_user_wallet_once_while_wallets_are_made(client: FlaskClient, limit: int) -> None:
    made = {"": [3, 4, 5, 6], "&asset=GOLD": [3, 5], "&asset=DIAMOND": [4, 6]}
    for _ in range(5):
        user = new_user(client)
        for asset in ("GOLD", "DIAMOND"):
            wallet = answered(client.post("/wallets", json={"userId": user, "asset": asset}), 201)["walletId"]
            made[""].append(wallet)
            made[f"&asset={asset}"].append(wallet)
        made[f"&userId={user}"] = made[""][-2:]
    for query, expected in made.items():
        assert pages(client, query, limit) == expected

    def add() -> None:
        made[""].append(
            answered(client.post("/wallets", json={"userId": new_user(client), "asset": "GOLD"}), 201)["walletId"]
        )

    # What is made while somebody pages comes at the end; with one on a page the end would not be reached.
    between = add if limit > 1 else lambda: None
    assert pages(client, "", limit, between) == made[""]


def test_system_wallets_are_not_listed(client: FlaskClient) -> None:
    assert pages(client, "", 3) == [3, 4, 5, 6]
    assert count("SELECT count(*) FROM wallets") == 20


def test_a_user_without_wallets_has_an_empty_list(shared: FlaskClient) -> None:
    assert answered(shared.get(f"/wallets?userId={new_user(shared)}"), 200) == {"ok": True, "wallets": []}


def test_a_cursor_belongs_to_its_list_and_filters(client: FlaskClient) -> None:
    following = {
        path: answered(client.get(f"{path}limit=1"), 200)["next"]
        for path in ("/wallets?", f"/wallets?userId={JOHN}&", "/wallets?asset=GOLD&", "/assets?")
    }
    assert len(set(following.values())) == 4
    for path in following:
        for other, cursor in following.items():
            answer = client.get(f"{path}cursor={cursor}")
            if path == other:
                answered(answer, 200)
            else:
                assert_problem(answer, 400, "bad_cursor")
    assert_problem(client.get(f"/wallets/3/entries?cursor={following['/wallets?']}"), 400, "bad_cursor")


@pytest.mark.tampers
@pytest.mark.parametrize("user", [None, 107])
@pytest.mark.parametrize("asset", [None, "GOLD", "RARE"])
def test_a_page_is_found_by_index_however_many_wallets_there_are(
    database: URL, app: Flask, user: int | None, asset: str | None
) -> None:
    run_sql(
        database,
        "INSERT INTO users (name, user_type) SELECT 'n' || n, 'USER' FROM generate_series(1, 20000) AS n",
        "INSERT INTO asset_types (code, name) VALUES ('RARE', 'Rare')",
        "INSERT INTO wallets (user_id, asset_type_id) SELECT id, 1 FROM users WHERE id > 100",
        "INSERT INTO wallets (user_id, asset_type_id) SELECT id, 3 FROM users WHERE id IN (107, 19000)",
        "INSERT INTO wallet_balances SELECT id, 0, 0, 0, sha256(''), created_at FROM wallets WHERE id > 100",
    )
    values = {"user_id": user, "asset_codes": asset and [asset], "after_id": 0, "limit": 2}
    statement = listings._WALLETS[user is not None, asset is not None]
    for analyze in (False, True):  # With and without statistics.
        if analyze:
            run_sql(database, "ANALYZE")
        with db.engines["reads"].connect() as connection:
            plan = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"), values).scalar_one()
        top = plan[0]["Plan"]
        assert top["Actual Rows"] >= 1
        # The tables have hundreds of pages.
        assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 80, plan


# --- assets ---


def test_assets(client: FlaskClient) -> None:
    life = {"timeZone": "UTC", "bonusDays": None, "paidDays": None}
    gold = {"code": "GOLD", "name": "Gold Coins", "scale": 0, **life}
    diamond = {"code": "DIAMOND", "name": "Diamonds", "scale": 0, **life}
    assert answered(client.get("/assets"), 200) == {"ok": True, "assets": [gold, diamond]}
    first = answered(client.get("/assets?limit=1"), 200)
    assert first["assets"] == [gold]
    second = answered(client.get(f"/assets?limit=1&cursor={first['next']}"), 200)
    assert second == {"ok": True, "assets": [diamond]}


# --- when the database does not answer as it should ---


def test_a_creation_that_a_standby_did_not_confirm_is_unknown_and_found_when_it_is_repeated(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def unconfirmed() -> Iterator[Connection]:
        with unit_of_work() as connection:
            yield connection
        raise CommitNotReplicatedError

    with monkeypatch.context() as patched:
        patched.setattr(repeatable, "unit_of_work", unconfirmed)
        body = {"name": "Ada", "externalId": "ada-1"}
        assert_problem(client.post("/users", json=body), 503, "outcome_unknown")
    user = answered(client.post("/users", json=body), 200)["userId"]
    with monkeypatch.context() as patched:
        patched.setattr(repeatable, "unit_of_work", unconfirmed)
        wallet = {"userId": user, "asset": "GOLD"}
        assert_problem(client.post("/wallets", json=wallet), 503, "outcome_unknown")
    answered(client.post("/wallets", json=wallet), 200)


def test_a_connection_that_is_lost_at_commit_makes_one_user_and_one_wallet(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lost_once() -> Iterator[Connection]:
        with unit_of_work() as connection:
            yield connection
        monkeypatch.undo()
        raise OperationalError("COMMIT", None, psycopg.OperationalError("gone"), connection_invalidated=True)

    monkeypatch.setattr(repeatable, "unit_of_work", lost_once)
    user = answered(client.post("/users", json={"name": "Ada", "externalId": "ada-1"}), 200)["userId"]
    monkeypatch.setattr(repeatable, "unit_of_work", lost_once)
    answered(client.post("/wallets", json={"userId": user, "asset": "GOLD"}), 200)
    assert count("SELECT count(*) FROM users WHERE external_id = 'ada-1'") == 1
    assert count("SELECT count(*) FROM wallets WHERE user_id = :user", user=user) == 1
