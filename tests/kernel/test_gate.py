"""Keys are made, told apart and revoked; by several at once, in several processes, and when the database is away."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.conftest import conninfo, settings_for
from tests.every_case import every
from tests.keys import KEY, PEPPERS, VAULT
from wallet_app import access, create_app, secret_files, service
from wallet_app.config import ConfigurationError, Settings
from wallet_app.db import close_connections
from wallet_app.errors import (
    BadKeySettingsError,
    ClientNotFoundError,
    ClientRevokedError,
    DatabaseUnavailableError,
    KeyNotFoundError,
    KeyRevokedError,
    TooManyKeysError,
    UnauthenticatedError,
)
from wallet_app.service import By, Gate, KeySettings, Vault, actors, keys

BY = By(actor="tests")
READING = KeySettings(scopes=["wallets:read"])


@pytest.fixture
def gate(app: Flask) -> Gate:
    return access.gate_of(app)


@pytest.fixture
def other_gate(app: Flask, database: URL) -> Iterator[Gate]:
    """Another process's, as far as memory goes."""
    other = create_app(settings_for(database))
    yield access.gate_of(other)
    with other.app_context():
        close_connections()


def sql(url: URL, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def make_old(gate: Gate, seconds: float) -> None:
    """Let the gate's keys be so old."""
    gate._keys.read_at = time.monotonic() - seconds


# --- the text of a key ---


def test_a_key_can_be_spotted_and_a_typo_is_refused_without_a_look_up() -> None:
    made = VAULT.make_key()
    assert made.text.startswith(f"dino_dev_{made.key_id}_")
    assert VAULT.read_id(made.text) == made.key_id
    for at in range(len("dino_dev_"), len(made.text)):
        for letter in "aB3":
            if made.text[at] != letter:
                with pytest.raises(ValueError, match="is not an API key"):
                    VAULT.read_id(made.text[:at] + letter + made.text[at + 1 :])
    with pytest.raises(ValueError, match="for another environment: dev, and this is production"):
        Vault("production", PEPPERS).read_id(made.text)
    assert len({VAULT.make_key().text for _ in range(1_000)}) == 1_000


def test_what_is_stored_depends_on_the_pepper_and_on_every_letter() -> None:
    text = VAULT.make_key().text
    stored = VAULT.digest(text)
    assert VAULT.is_right(text, stored)
    assert not VAULT.is_right(text[:-7] + "aaaaaaa", stored)
    assert not VAULT.is_right(text, None)
    assert not Vault("development", {1: b"another"}).is_right(text, stored)
    assert not Vault("development", {2: PEPPERS[1]}).is_right(text, stored), "a version that is not there"


def test_the_pepper_can_be_changed_while_old_keys_work(app: Flask, database: URL) -> None:
    changed = create_app(replace(settings_for(database), key_peppers={1: PEPPERS[1], 2: b"another"}))
    with changed.app_context():
        made = access.gate_of(changed).create_key(client="shop", settings=READING, by=BY)
        assert access.gate_of(changed).authenticate(KEY).client == "tests"
        assert access.gate_of(changed).authenticate(made.text).client == "shop"
        close_connections()
    assert sql(database, "SELECT pepper_version FROM api_keys ORDER BY created_at") == [(1,), (2,)]
    with pytest.raises(UnauthenticatedError):
        access.gate_of(app).authenticate(made.text)


# --- making and revoking ---


def test_a_client_has_two_live_keys_at_most_even_when_two_ask_at_once(
    app: Flask, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.create_key(client="shop", settings=READING, by=BY)
    outcomes: list[object] = []
    both_counted = threading.Barrier(2)
    count = keys._live_key_ids

    def count_and_wait_for_the_other(*args: Any) -> Any:
        found = count(*args)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_counted.wait(1)
        return found

    def make() -> None:
        with app.app_context():
            try:
                outcomes.append(gate.create_key(client="shop", settings=READING, by=BY))
            except TooManyKeysError as refused:
                outcomes.append(refused)

    monkeypatch.setattr(keys, "_live_key_ids", count_and_wait_for_the_other)
    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {type(outcome) for outcome in outcomes} == {service.NewKey, TooManyKeysError}
    assert len([key for key in service.list_keys() if key.client == "shop"]) == 2


def test_a_key_is_replaced_by_another_that_allows_the_same(gate: Gate) -> None:
    settings = KeySettings(
        scopes=["wallets:read", "wallets:spend"], amount_max=9, assets=["GOLD"], networks=["10.0.0.0/8"]
    )
    first = gate.create_key(client="shop", settings=settings, by=BY)
    second = gate.rotate_key(first.key_id, by=BY)
    assert gate.authenticate(first.text).permit == gate.authenticate(second.text).permit
    with pytest.raises(TooManyKeysError, match="Client shop has 2 live keys"):
        gate.rotate_key(first.key_id, by=BY)
    gate.revoke_key(first.key_id, by=BY)
    for refused, error in ((gate.revoke_key, KeyRevokedError), (gate.rotate_key, KeyRevokedError)):
        with pytest.raises(error):
            refused(first.key_id, by=BY)
    with pytest.raises(UnauthenticatedError):
        gate.authenticate(first.text)
    assert gate.authenticate(second.text).client == "shop"
    gate.rotate_key(second.key_id, by=BY)


def test_an_expired_key_leaves_room_for_another(gate: Gate, database: URL) -> None:
    made = [gate.create_key(client="shop", settings=READING, by=BY) for _ in range(2)]
    sql(database, f"UPDATE api_keys SET expires_at = now() - interval '1 hour' WHERE key_id = '{made[0].key_id}'")
    newest = gate.create_key(client="shop", settings=READING, by=BY)
    live = [key.key_id for key in service.list_keys() if key.client == "shop"]
    assert live == [made[1].key_id, newest.key_id]
    assert {gate.authenticate(key.text).key_id for key in (made[1], newest)} == set(live)
    with pytest.raises(UnauthenticatedError):
        gate.authenticate(made[0].text)
    with pytest.raises(TooManyKeysError):
        gate.create_key(client="shop", settings=READING, by=BY)


def test_a_key_that_expires_between_two_looks_at_the_table_ends_then(gate: Gate) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    made = gate.create_key(client="shop", settings=replace(READING, expires_at=soon), by=BY)
    assert gate.authenticate(made.text).client == "shop"
    while time.time() < soon.timestamp():
        time.sleep(0.05)
    with pytest.raises(UnauthenticatedError):
        gate.authenticate(made.text)


def test_a_revoked_client_gets_no_key_any_more(gate: Gate) -> None:
    made = gate.create_key(client="shop", settings=READING, by=BY)
    gate.revoke_client("shop", by=BY)
    with pytest.raises(UnauthenticatedError):
        gate.authenticate(made.text)
    with pytest.raises(ClientRevokedError):
        gate.create_key(client="shop", settings=READING, by=BY)
    with pytest.raises(ClientRevokedError):
        gate.rotate_key(made.key_id, by=BY)
    with pytest.raises(ClientRevokedError):
        gate.revoke_client("shop", by=BY)
    with pytest.raises(ClientNotFoundError):
        gate.revoke_client("nobody", by=BY)
    with pytest.raises(KeyNotFoundError):
        gate.revoke_key("aaaaaaaaaaaa", by=BY)


@every(
    ("client", "settings", "what"),
    [
        ("shop", {"scopes": []}, "without a scope"),
        ("shop", {"scopes": ["wallets:steal"]}, "There is no scope wallets:steal"),
        ("shop", {"amount_max": 0}, "The largest amount"),
        ("shop", {"amount_max": 2**53}, "The largest amount"),
        ("shop", {"assets": ["SILVER"]}, "There is no asset SILVER; there are DIAMOND, GOLD"),
        ("shop", {"networks": ["10.0.0.1/8"]}, "is no network"),
        ("shop", {"networks": ["everywhere"]}, "is no network"),
        ("shop", {"rate_limit": "often"}, "A rate limit looks like"),
        ("shop", {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "would have expired"),
        ("system", {}, "is the service's own"),
        ("cli", {}, "is the service's own"),
        ("", {}, "A client's name"),
        ("a b", {}, "A client's name"),
        ("x" * 65, {}, "A client's name"),
        ("sh\0op", {}, "A client's name"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    gate: Gate, database: URL, client: str, settings: dict[str, Any], what: str
) -> None:
    before = sql(database, "SELECT count(*) FROM api_keys"), sql(database, "SELECT count(*) FROM clients")
    with pytest.raises(BadKeySettingsError, match=what):
        gate.create_key(client=client, settings=replace(READING, **settings), by=BY)
    assert (sql(database, "SELECT count(*) FROM api_keys"), sql(database, "SELECT count(*) FROM clients")) == before


# --- who asks ---


def test_a_revoked_key_ends_elsewhere_within_the_time_that_is_promised(
    gate: Gate, other_gate: Gate, app: Flask
) -> None:
    assert actors.KEYS_SECONDS < actors.KEYS_SECONDS_MAX < 5
    made = gate.create_key(client="shop", settings=READING, by=BY)
    assert other_gate.authenticate(made.text).client == "shop"
    gate.revoke_key(made.key_id, by=BY)
    make_old(other_gate, 0)
    assert other_gate.authenticate(made.text), "it is still in memory there"
    make_old(other_gate, actors.KEYS_SECONDS + 0.01)
    with pytest.raises(UnauthenticatedError):
        other_gate.authenticate(made.text)


def test_a_key_that_is_new_works_elsewhere_almost_at_once(gate: Gate, other_gate: Gate) -> None:
    assert other_gate.authenticate(KEY)
    made = gate.create_key(client="shop", settings=READING, by=BY)
    make_old(other_gate, actors.NEW_KEY_SECONDS + 0.01)
    assert other_gate.authenticate(made.text).client == "shop"


def test_while_one_reads_the_keys_the_others_go_on(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.authenticate(KEY)
    reading, go_on = threading.Event(), threading.Event()
    read = gate._live_keys

    def slowly() -> Any:
        reading.set()
        assert go_on.wait(30)
        return read()

    monkeypatch.setattr(gate, "_live_keys", slowly)
    make_old(gate, actors.KEYS_SECONDS + 0.01)
    reader = threading.Thread(target=gate.authenticate, args=(KEY,))
    reader.start()
    assert reading.wait(30)
    assert gate.authenticate(KEY).client == "tests"
    monkeypatch.setattr(actors, "KEYS_SECONDS_MAX", 0.2)
    with pytest.raises(DatabaseUnavailableError):
        gate.authenticate(KEY)
    go_on.set()
    reader.join(30)
    assert gate.authenticate(KEY).client == "tests"


def test_a_database_that_is_away_is_no_bad_key_and_is_not_asked_each_time(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.authenticate(KEY)
    asked = []

    def fail() -> Any:
        asked.append(1)
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(gate, "_live_keys", fail)
    make_old(gate, actors.KEYS_SECONDS + 0.01)
    assert gate.authenticate(KEY), "young enough to be believed"
    gate._away_until = 0.0
    make_old(gate, actors.KEYS_SECONDS_MAX + 0.01)
    with pytest.raises(DBAPIError):
        gate.authenticate(KEY)
    for _ in range(50):
        with pytest.raises(DatabaseUnavailableError):
            gate.authenticate(VAULT.make_key().text)
    assert len(asked) == 2
    assert gate.authenticate(KEY, is_stale_enough=True).client == "tests"


def test_the_last_use_is_written_in_one_statement_and_never_goes_back(gate: Gate, database: URL) -> None:
    made = gate.create_key(client="shop", settings=READING, by=BY)
    uses = "SELECT count(last_used_at) FROM api_keys"
    for _ in range(20):
        gate.authenticate(KEY)
        gate.authenticate(made.text)
    assert sql(database, uses) == [(0,)]
    gate.write_uses()
    assert sql(database, uses) == [(2,)]
    assert sql(database, "SELECT bool_and(now() - last_used_at < interval '1 minute') FROM api_keys") == [(True,)]
    sql(database, "UPDATE api_keys SET last_used_at = '2100-01-01'")
    gate.authenticate(KEY)
    gate.write_uses()
    assert sql(database, "SELECT DISTINCT last_used_at >= '2100-01-01' FROM api_keys") == [(True,)]


# --- a key from outside ---


def test_a_key_from_outside_is_there_with_the_first_request(app: Flask, database: URL) -> None:
    given = VAULT.make_key().text
    for _ in range(3):
        started = create_app(replace(settings_for(database), bootstrap_key=given))
        assert access.gate_of(started).authenticate(given).client == "bootstrap"
        with started.app_context():
            close_connections()
    assert sql(database, "SELECT count(*) FROM audit_log WHERE actor = 'settings' AND action = 'key:create'") == [(1,)]


def test_the_newest_keys_from_outside_take_the_place_of_the_oldest(gate: Gate) -> None:
    given = [VAULT.make_key().text for _ in range(4)]
    for text in given:
        assert gate.ensure_key(text, client="bootstrap", by=BY)
    assert [gate.ensure_key(text, client="bootstrap", by=BY) for text in given] == [False, False, True, True]
    with pytest.raises(UnauthenticatedError):
        gate.authenticate(given[0])
    assert gate.authenticate(given[3]).permit.scopes == frozenset(service.SCOPES)


def test_a_bootstrap_key_that_is_none_stops_the_start_and_is_not_repeated(database: URL) -> None:
    with pytest.raises(ConfigurationError, match=r"^WALLET_BOOTSTRAP_API_KEY is not an API key") as stopped:
        create_app(replace(settings_for(database), bootstrap_key=KEY[:-1]))
    assert KEY[:-1] not in str(stopped.value)


# --- the pepper ---


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_outside_of_development_a_pepper_is_required(environment: str) -> None:
    others = {"WALLET_TOKEN_KEYS": "y" * 32, "WALLET_TOTP_KEY": "00" * 32, "WALLET_CONSOLE_ORIGIN": "https://w.example"}
    with pytest.raises(ConfigurationError, match=r"^WALLET_KEY_PEPPER is missing, and "):
        Settings.from_env({"WALLET_ENV": environment, **others})
    found = Settings.from_env({"WALLET_ENV": environment, "WALLET_KEY_PEPPER": "x" * 32, **others})
    assert found.key_peppers == {1: b"x" * 32}


@pytest.mark.parametrize(
    "value", ["short", "x" * 201, f"0:{'x' * 32}", f"a:{'x' * 32}", f"1:{'x' * 31}", "x" * 31 + " y"]
)
def test_a_pepper_that_is_none_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^WALLET_KEY_PEPPER ") as refused:
        Settings.from_env({"WALLET_KEY_PEPPER": value})
    assert "xxxx" not in str(refused.value)
    assert "short" not in str(refused.value)


def test_peppers_have_versions_and_the_highest_is_for_new_keys() -> None:
    settings = Settings.from_env({"WALLET_KEY_PEPPER": f"2:{'b' * 32}, 1:{'a' * 40}"})
    assert settings.key_peppers == {1: b"a" * 40, 2: b"b" * 32}
    assert Vault("development", settings.key_peppers).digest(KEY).pepper_version == 2
    assert "bbbb" not in repr(settings)


def test_a_development_machine_keeps_its_pepper(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first, second = (settings.with_development_secrets() for _ in range(2))
    assert first.key_peppers == second.key_peppers != {}
    file = tmp_path / "data" / "secrets" / "key-pepper"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert Settings(environment="production", data_dir=tmp_path).with_development_secrets().key_peppers == {}
    file.write_text("damaged")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        settings.with_development_secrets()


def test_many_that_make_a_secret_at_once_have_the_same(tmp_path: Path) -> None:
    found: list[str] = []
    gate = threading.Barrier(8)

    def make() -> None:
        gate.wait(30)
        found.append(secret_files.read_or_make(tmp_path, "pepper", lambda: secrets.token_hex(8)))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(found), len(set(found))) == (8, 1)
    assert [file.name for file in (tmp_path / "secrets").iterdir()] == ["pepper"]
