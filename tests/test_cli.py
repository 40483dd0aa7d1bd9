"""The commands: what they print, how they exit, and what a second run changes."""

from __future__ import annotations

import re
from dataclasses import replace

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo, run_sql, settings_for
from wallet_app import create_app, service

BOOKS = """
    SELECT wallets.id, users.name, asset_types.code, wallet_balances.balance
      FROM wallets JOIN users ON users.id = user_id JOIN asset_types ON asset_types.id = asset_type_id
      LEFT JOIN wallet_balances ON wallet_id = wallets.id
     ORDER BY wallets.id"""


def rows(database: URL, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo(database)) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def run(app: Flask, *arguments: str) -> tuple[int, str, str]:
    result = app.test_cli_runner().invoke(args=list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_seed_makes_the_wallets_of_the_original(app: Flask, database: URL) -> None:
    assert run(app, "seed") == (0, "Assets and SYSTEM users are there, John and Doe too.\n", "")

    assert rows(database, BOOKS)[:6] == [
        (1, "Treasury", "GOLD", None),
        (2, "Treasury", "DIAMOND", None),
        (3, "John", "GOLD", 500),
        (4, "John", "DIAMOND", 10),
        (5, "Doe", "GOLD", 300),
        (6, "Doe", "DIAMOND", 0),
    ]
    assert rows(database, "SELECT DISTINCT entry_type FROM ledger_entries") == [("SEED",)]


def test_seeding_again_changes_nothing(app: Flask, database: URL) -> None:
    run(app, "seed", "--users", "5")
    before = rows(database, BOOKS), rows(database, "SELECT * FROM ledger_entries ORDER BY 1, 2")

    assert run(app, "seed", "--users", "5")[:2] == (
        0,
        "Assets and SYSTEM users are there, John and Doe too.\n5 demo users are there with their history.\n",
    )

    assert before == (rows(database, BOOKS), rows(database, "SELECT * FROM ledger_entries ORDER BY 1, 2"))


def test_more_users_are_added_to_those_there_are(app: Flask, database: URL) -> None:
    assert run(app, "seed", "--users", "5")[0] == 0
    before = rows(database, "SELECT * FROM ledger_entries ORDER BY 1, 2")
    assert run(app, "seed", "--users", "8")[0] == 0

    after = rows(database, "SELECT * FROM ledger_entries ORDER BY 1, 2")
    assert set(before) < set(after)
    assert {(row[0], row[1]) for row in after if row[0] <= 30} == {(row[0], row[1]) for row in before}
    assert rows(database, "SELECT count(*) FROM users WHERE external_id ~ '^demo:.* [0-9]+$'") == [(8,)]


def test_history_lies_in_the_past_and_varies(app: Flask, database: URL) -> None:
    run(app, "seed", "--users", "40")

    assert rows(
        database, "SELECT max(created_at) <= now(), min(created_at) > now() - interval '92 days' FROM transactions"
    ) == [(True, True)]
    days = "SELECT count(DISTINCT date_trunc('day', created_at)) FROM ledger_entries"
    assert rows(database, days)[0][0] > 30  # type: ignore[operator]
    counts = [count for (count,) in rows(database, "SELECT version FROM wallet_balances WHERE wallet_id > 20")]
    assert len(set(counts)) > 8, "some play much, many play little"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_production_gets_no_demo_unless_asked(empty: URL, environment: str) -> None:
    app = create_app(replace(settings_for(empty), environment=environment))
    people = "SELECT name FROM users WHERE user_type = 'USER' ORDER BY id"
    assert run(app, "db", "upgrade")[0] == 0

    run(app, "seed")
    assert bool(rows(empty, people)) is (environment != "production")
    run(app, "seed", "--demo")
    assert rows(empty, people) == [("John",), ("Doe",)]


def test_verify_prints_a_line_per_invariant(app: Flask) -> None:
    code, out, err = run(app, "wallet", "verify")

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert re.fullmatch(r"seq counts 1, 2, 3, ... without a gap +3 entries +ok +\d+\.\d\d s", lines[0])
    assert len(lines) == len(service.verify().findings) + 1
    assert re.fullmatch(
        r"What is new since the last verification was checked: 3 entries in .* s\. The books are right\.", lines[-1]
    )


@pytest.mark.tampers
def test_verify_names_faults_and_exits_1(app: Flask, database: URL) -> None:
    run_sql(database, "UPDATE wallet_balances SET balance = 7 WHERE wallet_id = 3")

    code, out, err = run(app, "wallet", "verify", "--full")

    assert (code, err) == (1, "")
    assert "    wallet 3: balance is 7, its entries make 500\n" in out
    assert out.endswith("3 faults: THE BOOKS ARE NOT RIGHT.\n")


def test_rebuild_prints_what_it_corrected(app: Flask, database: URL) -> None:
    run_sql(database, "UPDATE wallet_balances SET balance = 7 WHERE wallet_id = 3")

    assert run(app, "wallet", "rebuild-balances", "--dry-run") == (
        0,
        "wallet 3, balance: 7 -> 500\nWallets compared with the ledger: 4; values that would be corrected: 1.\n",
        "",
    )
    assert run(app, "wallet", "rebuild-balances")[0] == 0
    assert service.get_wallet(3).balance == 500


@pytest.mark.tampers
def test_rebuild_exits_1_when_it_left_a_wallet(app: Flask, database: URL) -> None:
    run_sql(database, "UPDATE wallet_balances SET version = 7 WHERE wallet_id = 3")

    code, _, err = run(app, "wallet", "rebuild-balances")

    assert code == 1
    assert "LEFT wallet 3: its stored head (version 7) is not in the ledger, which ends at seq 1" in err
    assert run(app, "wallet", "rebuild-balances", "--accept-loss")[0] == 0


@pytest.mark.parametrize("command", [("seed",), ("wallet", "verify"), ("wallet", "rebuild-balances")])
def test_without_tables_there_is_one_clear_sentence(empty: URL, command: tuple[str, ...]) -> None:
    app = create_app(settings_for(empty))

    assert run(app, *command) == (
        1,
        "",
        "The database has no tables of this version: run `flask db upgrade` first.\n",
    )


@pytest.mark.parametrize("command", [("seed",), ("wallet", "verify"), ("wallet", "rebuild-balances")])
def test_without_a_database_there_is_one_clear_sentence(command: tuple[str, ...]) -> None:
    app = create_app(settings_for(URL.create("postgresql", "nobody", host="127.0.0.1", port=1, database="none")))

    code, out, err = run(app, *command)

    assert (code, out) == (1, "")
    assert err.startswith("The database cannot be used: ")
    assert err.count("\n") == 1
