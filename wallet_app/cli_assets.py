"""The command line: `flask wallet assets ...`, for how long credit lives if nobody says so, and when its days end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup

from wallet_app import cli, service
from wallet_app.cli_keys import REASON, TICKET, by

assets = AppGroup("assets", help="List assets, and say how long their credit lives.")

_NEVER = "never"


def init_app(_: Flask) -> None:
    """Register the commands beside the others."""
    cli.wallet.add_command(assets)


def _days(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == _NEVER:
        return value
    if not (value.isascii() and value.isdigit()):
        raise click.BadParameter(f"is a number of days, or {_NEVER}", context, parameter)
    return int(value[:9])


@assets.command("list")
@cli.plainly
def list_assets() -> None:
    """List all assets."""
    after, has_more = None, True
    while has_more:
        found = service.list_assets(after_id=after, limit=service.PAGE_MAX)
        page, has_more = found[: service.PAGE_MAX], len(found) > service.PAGE_MAX
        for view in page:
            _show(view, service.CreditLife(view.time_zone, view.bonus_days, view.paid_days))
            after = view.asset_type_id


@assets.command("life")
@click.argument("code")
@click.option("--time-zone", help="In which a day ends, by its IANA name, like Europe/Berlin.")
@click.option(
    "--bonus-days", callback=_days, help="For how many days a bonus lives that says nothing itself, or never."
)
@click.option("--paid-days", callback=_days, help="For how many days what is paid for lives, or never.")
@REASON
@TICKET
@cli.plainly
def say_life(code: str, *, reason: str | None, ticket: str | None, **asked: Any) -> None:
    """Say how long credit of the asset CODE lives; what is not said stays.

    It counts for what is granted from now on, and ends with a day in the asset's time zone. Credit that is there keeps
    its end. That paid credit ends may be against the law, or the rules of a shop, where your users are.
    """
    said: dict[str, Any] = {
        name: None if value == _NEVER else value for name, value in asked.items() if value is not None
    }
    wanted = replace(service.get_asset(code).life, **said)
    changed = service.change_asset(code, life=wanted, by=by(reason, ticket))
    _show(changed, changed.life)


def _show(asset: service.AssetView | service.AssetFacts, life: service.CreditLife) -> None:
    bonus, paid = [f"{days} days" if days else "for ever" for days in (life.bonus_days, life.paid_days)]
    click.echo(
        f"{asset.code}  {asset.name}  scale {asset.scale}  days end in {life.time_zone}  "
        f"bonus lives {bonus}, paid credit {paid}"
    )
