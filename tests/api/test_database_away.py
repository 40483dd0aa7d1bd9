"""The database is away: every endpoint says so, quickly and without a word of the inside, and recovers with it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy.engine import URL, make_url

from tests.api.support import MOVEMENTS, SECURITY_HEADERS, assert_problem, movement
from tests.conftest import conninfo, run_sql, settings_for
from tests.keys import VAULT, client_of
from wallet_app import create_app
from wallet_app.db import close_connections, db

pytestmark = pytest.mark.wide

READS = [
    "/wallets/3",
    "/wallets/3/balance",
    "/wallets/3/entries",
    "/transactions/01a202ea-16a9-7b16-a647-a13ad9a0d7db",
    "/wallets",
    "/users/2",
    "/users?externalId=demo:John",
    "/assets",
]
CREATIONS = {"/users": {"name": "Ada", "externalId": "ada"}, "/wallets": {"userId": 2, "asset": "GOLD"}}
SECONDS_MAX = 8
"""Less than the ten seconds for which a request would try again and again."""


CLOSED = socket.socket()
"""Bound, so that nobody else gets its port, and deaf."""
CLOSED.bind(("127.0.0.1", 0))

UNREACHABLE = {
    "refused": f"postgresql://somebody:s3cret-word@127.0.0.1:{CLOSED.getsockname()[1]}/wallet",
    "no socket": "postgresql://somebody:s3cret-word@/wallet?host=/nonexistent-folder",
}


@pytest.fixture(scope="module", params=UNREACHABLE)
def away(request: pytest.FixtureRequest) -> FlaskClient:
    """A client of a service whose database cannot be reached."""
    return client_of(create_app(settings_for(make_url(UNREACHABLE[request.param]))))


def assert_unavailable(answer: object) -> None:
    assert_problem(answer, 503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert b"s3cret" not in answer.get_data()


@pytest.mark.parametrize("path", READS)
def test_reads_are_503(away: FlaskClient, path: str) -> None:
    started = time.monotonic()
    assert_unavailable(away.get(path))
    assert time.monotonic() - started < SECONDS_MAX


@pytest.mark.parametrize("verb", MOVEMENTS)
def test_movements_are_503(away: FlaskClient, verb: str) -> None:
    started = time.monotonic()
    assert_unavailable(away.post(f"/wallets/3/{verb}", json=movement()))
    assert time.monotonic() - started < SECONDS_MAX


@pytest.mark.parametrize("path", CREATIONS)
def test_creations_are_503(away: FlaskClient, path: str) -> None:
    started = time.monotonic()
    assert_unavailable(away.post(path, json=CREATIONS[path]))
    assert time.monotonic() - started < SECONDS_MAX


def test_health_is_503_and_says_disconnected(away: FlaskClient) -> None:
    answer = away.get("/health")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert (answer.json["ok"], answer.json["db_status"]) == (False, "disconnected")
    assert set(answer.json) == {"ok", "db_status", "time"}
    assert SECURITY_HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("path", ["/nothing", "/openapi.json", "/docs"])
def test_what_needs_no_database_still_answers(away: FlaskClient, path: str) -> None:
    assert away.get(path).status_code == (404 if path == "/nothing" else 200)


def test_a_credential_that_cannot_be_looked_up_is_no_bad_one(away: FlaskClient) -> None:
    assert_unavailable(away.get("/wallets/3", headers={"Authorization": f"Bearer {VAULT.make_key().text}"}))
    assert_problem(away.get("/wallets/3", headers={"Authorization": "Bearer x"}), 503, "database_unavailable")
    assert_problem(away.get("/wallets/3", environ_overrides={"HTTP_AUTHORIZATION": None}), 401, "unauthenticated")


@pytest.fixture
def shut(server: URL, database: URL, client: FlaskClient) -> Iterator[FlaskClient]:
    """A client of a service that was connected, whose database then threw everybody out and lets nobody in."""
    assert client.get("/wallets/3").status_code == 200
    assert client.get("/health").status_code == 200
    run_sql(server, f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false", _throw_out(database))
    yield client
    run_sql(server, f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true")


def test_validation_needs_no_database(shut: FlaskClient) -> None:
    assert_problem(shut.post("/wallets/3/topup", json={}), 422, "validation_error")


def _throw_out(database: URL) -> str:
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.database}'"


def test_a_database_that_goes_and_comes_back(server: URL, database: URL, shut: FlaskClient) -> None:
    body = movement(5)
    for path in READS:
        assert_unavailable(shut.get(path))
    for verb in MOVEMENTS:
        assert_unavailable(shut.post(f"/wallets/3/{verb}", json=body))
    for created, asked in CREATIONS.items():
        assert_unavailable(shut.post(created, json=asked))
    assert shut.get("/health").status_code == 503
    run_sql(server, f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true")
    assert shut.get("/health").status_code == 200
    assert shut.post("/wallets/3/topup", json=body).json["balance"] == 505
    assert shut.get("/wallets/3/balance").json["balance"] == 505


def test_connections_that_died_unseen_are_replaced_without_a_word(
    server: URL, database: URL, client: FlaskClient
) -> None:
    for request in (
        lambda: client.get("/wallets/3"),
        lambda: client.get("/wallets/3/entries"),
        lambda: client.post("/wallets/3/topup", json=movement()),
        lambda: client.post("/users", json={"name": "Ada", "externalId": "ada"}),
        lambda: client.post("/users", json={"name": "Bo", "externalId": "bo"}),
    ):
        assert client.get("/wallets/3").status_code == 200
        run_sql(server, _throw_out(database))
        assert request().status_code in {200, 201}


def test_a_pool_without_a_free_connection_is_503(database: URL) -> None:
    settings = replace(settings_for(database), pool_size=1, pool_seconds_max=1)
    app = create_app(settings)
    with app.app_context():
        with db.engine.connect(), db.engines["reads"].connect():
            for path in READS:
                assert_problem(client_of(app).get(path), 503, "database_unavailable")
            answer = client_of(app).post("/wallets/3/topup", json=movement())
            assert_problem(answer, 503, answer.json["code"])
            assert client_of(app).get("/health").status_code == 200
        assert client_of(app).get("/wallets/3").status_code == 200
        close_connections()


def test_a_wallet_that_somebody_holds_is_503_for_movements_and_readable(database: URL, client: FlaskClient) -> None:
    with psycopg.connect(conninfo(database)) as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        answer = client.post("/wallets/3/topup", json=movement())
        assert_problem(answer, 503, "wallet_busy")
        assert client.get("/wallets/3").json["balance"] == 500
        assert client.post("/wallets/4/topup", json=movement()).status_code == 200


def test_a_read_that_takes_too_long_is_503(database: URL, client: FlaskClient) -> None:
    with psycopg.connect(conninfo(database)) as other:
        other.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        assert_problem(client.get("/wallets/3"), 503, "database_unavailable")
