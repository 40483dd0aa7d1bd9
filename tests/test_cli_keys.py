"""`flask wallet keys`: what it prints, what it refuses, and who the audit log says it was."""

from __future__ import annotations

import getpass
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.keys import KEY, VAULT, client_of
from tests.test_cli import rows, run
from wallet_app import service


def create(app: Flask, *options: str) -> str:
    """Make a key for the client shop, and return its text."""
    code, out, _ = run(app, "wallet", "keys", "create", "shop", *options)
    assert code == 0
    return out.strip()


def test_a_key_is_printed_once_and_alone(app: Flask) -> None:
    code, out, err = run(app, "wallet", "keys", "create", "shop", "--scope", "wallets:read,wallets:spend")
    key_id = VAULT.read_id(out.strip())
    assert (code, out.count("\n")) == (0, 1)
    assert err == f"Key {key_id} is made. This is the only time that it is shown:\n"
    client = client_of(app, out.strip())
    assert client.get("/wallets/3").status_code == 200
    assert client.post("/wallets/3/topup", json={}).status_code == 403
    listed = run(app, "wallet", "keys", "list", "--all")[1]
    assert key_id in listed
    assert out.strip() not in listed


def test_limits_are_taken_and_listed(app: Flask) -> None:
    text = create(
        app,
        *("--scope", "wallets:read", "--scope", "wallets:topup", "--amount-max", "50", "--asset", "GOLD"),
        *("--network", "127.0.0.0/8,::1/128", "--rate-limit", "9 per minute", "--days", "30"),
    )
    (found,) = [key for key in service.list_keys() if key.client == "shop"]
    assert found.settings.expires_at is not None
    assert found.settings == service.KeySettings(
        scopes=["wallets:read", "wallets:topup"],
        amount_max=50,
        assets=["GOLD"],
        networks=["127.0.0.0/8", "::1/128"],
        rate_limit="9 per minute",
        expires_at=found.settings.expires_at,
    )
    listed = run(app, "wallet", "keys", "list")[1]
    for told in (found.key_id, "wallets:read wallets:topup", "at most 50", "assets GOLD", "127.0.0.0/8 ::1/128"):
        assert told in listed
    assert "rate 9 per minute" in listed
    assert f"expires {found.settings.expires_at:%Y-%m-%d}" in listed
    assert f"by cli:{getpass.getuser()}" in listed
    assert "used never" in listed
    assert client_of(app, text).get("/wallets/3").status_code == 200


def test_the_list_says_of_which_database_it_is(app: Flask, database: URL) -> None:
    """Two services on a machine have a data folder each, and `flask` looks into the one that it is told of."""
    said = run(app, "wallet", "keys", "list")[2]
    assert said.startswith(f"In the database {database.database} at ")
    settings = app.extensions["wallet_settings"]
    assert said.endswith(f", of the data folder {settings.data_dir.absolute()}:\n")
    app.extensions["wallet_settings"] = replace(settings, given=settings.given | {"DATABASE_URL"})
    assert run(app, "wallet", "keys", "list")[2].endswith(", from DATABASE_URL:\n")


def test_a_key_is_rotated_and_revoked(app: Flask, database: URL) -> None:
    first = create(app, "--scope", "wallets:read")
    first_id = VAULT.read_id(first)
    code, second, err = run(app, "wallet", "keys", "rotate", first_id, "--reason", "each year", "--ticket", "T-9")
    assert (code, f"flask wallet keys revoke {first_id}" in err) == (0, True)
    assert [client_of(app, key.strip()).get("/wallets/3").status_code for key in (first, second)] == [200, 200]
    assert run(app, "wallet", "keys", "revoke", first_id) == (0, f"Key {first_id} is revoked.\n", "")
    assert [client_of(app, key.strip()).get("/wallets/3").status_code for key in (first, second)] == [401, 200]
    assert first_id not in run(app, "wallet", "keys", "list")[1]
    assert f"{first_id}  shop  NOT LIVE" in run(app, "wallet", "keys", "list", "--all")[1]
    assert run(app, "wallet", "keys", "revoke", "--client", "shop") == (
        0,
        "Client shop is revoked with all its keys.\n",
        "",
    )
    assert client_of(app, second.strip()).get("/wallets/3").status_code == 401
    who = f"cli:{getpass.getuser()}"
    told = rows(database, "SELECT actor, action, reason, ticket FROM audit_log WHERE actor LIKE 'cli:%' ORDER BY id")
    assert told == [
        (who, "key:create", None, None),
        (who, "key:create", "each year", "T-9"),
        (who, "key:revoke", None, None),
        (who, "client:revoke", None, None),
    ]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("revoke", "aaaaaaaaaaaa"), "There is no key aaaaaaaaaaaa."),
        (("rotate", "aaaaaaaaaaaa"), "There is no key aaaaaaaaaaaa."),
        (("revoke", "--client", "nobody"), "There is no client nobody."),
        (("create", "system", "--scope", "wallets:read"), "The name system is the service's own."),
        (("create", "Import", "--scope", "wallets:read"), "The name Import is the service's own."),
        (("create", "Bootstrap", "--scope", "wallets:read"), "The name Bootstrap is the service's own."),
        (("create", "development", "--scope", "wallets:read"), "The name development is the service's own."),
        (("create", "shop", "--scope", "x:y"), "There is no scope x:y; there are wallets:read, "),
    ],
)
def test_what_cannot_be_is_one_sentence(app: Flask, command: tuple[str, ...], sentence: str) -> None:
    code, out, err = run(app, "wallet", "keys", *command)
    assert (code, out) == (1, "")
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_one_key_or_one_client_is_named(app: Flask) -> None:
    for command in (("revoke",), ("revoke", VAULT.read_id(KEY), "--client", "tests")):
        code, _, err = run(app, "wallet", "keys", *command)
        assert code == 2
        assert "Name either a KEY_ID or a --client." in err


def test_an_import_posts_as_the_command_line_and_nothing_that_is_for_operators(
    app: Flask, database: URL, tmp_path: Any
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("type,walletId,amount,referenceId\ntopup,3,5,row-1\nadjustment,3,5,row-2\nseed,3,5,row-3\n")
    assert run(app, "wallet", "import", str(file))[0] == 1
    assert rows(database, "SELECT client, actor, kind FROM transactions WHERE reference_id LIKE 'row-%'") == [
        ("cli", "import rows.csv", "TOPUP")
    ]
