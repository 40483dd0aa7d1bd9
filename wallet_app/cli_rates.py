"""The command line: `flask wallet rates ...`, for the rates that exchanges are made at when they name none."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

import click
from flask import Flask
from flask.cli import AppGroup

from wallet_app import cli, service
from wallet_app.cli_keys import REASON, TICKET, by
from wallet_app.money import format_rate, parse_rate

rates = AppGroup("rates", help="Set and list exchange rates.")

FROM = click.option(
    "--from", "valid_from", type=click.DateTime(), help="In UTC, like 2026-02-01T00:00:00. Default: now."
)


def init_app(_: Flask) -> None:
    """Register the commands beside the others."""
    cli.wallet.add_command(rates)


def _rate(context: click.Context, parameter: click.Parameter, value: str) -> Fraction:
    try:
        return parse_rate(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem), context, parameter) from None


@rates.command("set")
@click.argument("source")
@click.argument("target")
@click.argument("rate", callback=_rate)
@FROM
@REASON
@TICKET
@cli.plainly
def set_rate(
    source: str, target: str, rate: Fraction, *, valid_from: dt.datetime | None, reason: str | None, ticket: str | None
) -> None:
    """Let one smallest unit of SOURCE make RATE smallest units of TARGET, both assets by code.

    RATE is exact: a decimal like 0.1 or a fraction like 1/3. What was set before stays known, and applies until then.
    """
    _show(service.set_rate(source=source, target=target, rate=rate, valid_from=_utc(valid_from), by=by(reason, ticket)))


@rates.command("end")
@click.argument("source")
@click.argument("target")
@FROM
@REASON
@TICKET
@cli.plainly
def end(source: str, target: str, *, valid_from: dt.datetime | None, reason: str | None, ticket: str | None) -> None:
    """Let there be no rate from SOURCE to TARGET any more: exchanges must name one, or are refused."""
    _show(service.set_rate(source=source, target=target, rate=None, valid_from=_utc(valid_from), by=by(reason, ticket)))


@rates.command("list")
@cli.plainly
def list_rates() -> None:
    """List what applies now, and what will."""
    found = service.list_rates()
    for view in found:
        _show(view)
    if not found:
        click.echo("There is no rate. Set one: flask wallet rates set GOLD DIAMOND 1/10", err=True)


def _utc(given: dt.datetime | None) -> dt.datetime | None:
    return None if given is None else given.replace(tzinfo=dt.UTC)


def _show(view: service.RateView) -> None:
    rate = "none" if view.rate is None else format_rate(view.rate)
    since = view.valid_from.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    click.echo(f"{view.source} -> {view.target}  {rate}  from {since}, by {view.created_by}")
