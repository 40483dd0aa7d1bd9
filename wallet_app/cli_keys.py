"""The command line: `flask wallet keys ...`. It prints a key's text once, when it is made; nobody can show it again."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from wallet_app import access, cli, service
from wallet_app.service import By, KeySettings, KeyView

keys = AppGroup("keys", help="Make and revoke the API keys of services.")

REASON = click.option("--reason", help="For the audit log.")
TICKET = click.option("--ticket", help="For the audit log.")


def init_app(_: Flask) -> None:
    """Register the commands beside the others."""
    cli.wallet.add_command(keys)


def by(reason: str | None = None, ticket: str | None = None) -> By:
    """Return who sits at the command line, as the audit log names them."""
    return By(actor=cli.system_user(), reason=reason, ticket=ticket)


@keys.command("create")
@click.argument("client")
@click.option("--scope", "scopes", multiple=True, required=True, help="Like wallets:read; several by commas or again.")
@click.option("--amount-max", type=int, help="The most that one command may move, in the smallest unit.")
@click.option("--asset", "assets", multiple=True, help="Only these assets, by code.")
@click.option("--network", "networks", multiple=True, help="Only from these addresses, like 10.0.0.0/8.")
@click.option("--rate-limit", help="Like '600 per minute'. Default: WALLET_RATE_LIMIT_KEY.")
@click.option("--days", type=click.IntRange(1, 3650), help="How long it works. Default: until it is revoked.")
@REASON
@TICKET
@cli.plainly
def create(client: str, *, days: int | None, reason: str | None, ticket: str | None, **limits: Any) -> None:
    """Make a key for CLIENT, a service, and print it. CLIENT is made if it is new, and owns the references it uses.

    A client has two live keys at most, so that one can be replaced while the other is in use.
    """
    expires_at = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    settings = KeySettings(
        scopes=_split(limits["scopes"]),
        amount_max=limits["amount_max"],
        assets=_split(limits["assets"]) or None,
        networks=_split(limits["networks"]) or None,
        rate_limit=limits["rate_limit"],
        expires_at=expires_at,
    )
    _show(access.gate_of(current_app).create_key(client=client, settings=settings, by=by(reason, ticket)))


@keys.command("rotate")
@click.argument("key_id")
@REASON
@TICKET
@cli.plainly
def rotate(key_id: str, *, reason: str | None, ticket: str | None) -> None:
    """Make another key that allows the same as KEY_ID, and print it. KEY_ID works until it is revoked."""
    _show(access.gate_of(current_app).rotate_key(key_id, by=by(reason, ticket)))
    click.echo(f"Key {key_id} still works. When nobody uses it any more: flask wallet keys revoke {key_id}", err=True)


@keys.command("revoke")
@click.argument("key_id", required=False)
@click.option("--client", help="Instead of one key: all of this client's, for good.")
@REASON
@TICKET
@cli.plainly
def revoke(key_id: str | None, *, client: str | None, reason: str | None, ticket: str | None) -> None:
    """Let KEY_ID, or every key of a client, authenticate nobody any more, within five seconds everywhere."""
    if (key_id is None) == (client is None):
        raise click.UsageError("Name either a KEY_ID or a --client.")
    gate = access.gate_of(current_app)
    if key_id is not None:
        gate.revoke_key(key_id, by=by(reason, ticket))
        click.echo(f"Key {key_id} is revoked.")
    elif client is not None:
        gate.revoke_client(client, by=by(reason, ticket))
        click.echo(f"Client {client} is revoked with all its keys.")


@keys.command("list")
@click.option("--all", "with_revoked", is_flag=True, help="Those that are revoked or expired too.")
@cli.plainly
def list_keys(*, with_revoked: bool) -> None:
    """List the keys: what they may do, and when they were used last, to within about a minute.

    And in which database: of two services on one machine each has its own (WALLET_DATA_DIR).
    """
    click.echo(f"In the database {cli.database()}:", err=True)
    found = service.list_keys(with_revoked=with_revoked)
    for key in found:
        click.echo(_line(key))
    if not found:
        click.echo("There is no key. Make one: flask wallet keys create CLIENT --scope wallets:read", err=True)


def _split(values: tuple[str, ...]) -> list[str]:
    return [one.strip() for value in values for one in value.split(",") if one.strip()]


def _show(made: service.NewKey) -> None:
    # The key alone on stdout, so that a script can take it from there.
    click.echo(f"Key {made.key_id} is made. This is the only time that it is shown:", err=True)
    click.echo(made.text)


def _line(key: KeyView) -> str:
    settings = key.settings
    limits = {
        "at most": settings.amount_max,
        "assets": " ".join(settings.assets or ()),
        "from": " ".join(settings.networks or ()),
        "rate": settings.rate_limit,
        "expires": _day(settings.expires_at),
        "made": f"{_day(key.created_at)} by {key.created_by}",
        "used": _minute(key.last_used_at) or "never",
        "revoked": _minute(key.revoked_at),
    }
    told = "; ".join(f"{name} {value}" for name, value in limits.items() if value)
    state = "" if key.is_live else "  NOT LIVE"
    return f"{key.key_id}  {key.client}{state}\n    {' '.join(settings.scopes)}\n    {told}"


def _day(instant: dt.datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(dt.UTC).strftime("%Y-%m-%d")


def _minute(instant: dt.datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
