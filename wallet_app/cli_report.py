"""The command line: `flask wallet report`, what users have of an asset and how it came about, tied to the books."""

from __future__ import annotations

import csv
import datetime as dt
import sys

import click
from flask import Flask

from wallet_app import cli, report_rows, service
from wallet_app.money import format_amount

_INSTANT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"])


def init_app(_: Flask) -> None:
    """Register the command beside the others."""
    cli.wallet.add_command(report)


@click.command()
@click.argument("asset")
@click.option("--from", "since", type=_INSTANT, help="In UTC, like 2026-01-01. Default: from the beginning.")
@click.option("--to", "until", type=_INSTANT, help="In UTC; the day or instant is not included. Default: to now.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")
@cli.plainly
def report(asset: str, *, since: dt.datetime | None, until: dt.datetime | None, as_csv: bool) -> None:
    """Report on ASSET, by its code: opening, what brought and took something, closing. Exit 1 if it does not tie."""
    found = service.get_asset_report(asset, since=_utc(since), until=_utc(until))
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(report_rows.COLUMNS)
        writer.writerows([map(_cell, row) for row in report_rows.cells(found)])
    else:
        _print(found)
    if found.ties is False:
        sys.exit(1)


def _print(found: service.AssetReport) -> None:
    scale = found.asset.scale
    begin = "from the beginning" if found.since is None else f"from {_said(found.since)}"
    click.echo(f"{found.asset.code}, {begin} to {_said(found.until)}, as known at {_said(found.made_at)}")
    click.echo(f"  {'':<38}{'entries':>14}{'amount':>28}{'of it bonus':>24}")
    for row in report_rows.movements(found):
        _print_row(row, scale)
    click.echo()
    for row in report_rows.holds(found):
        _print_row(row, scale)
    for row in report_rows.ages(found):
        if row.amount:
            _print_row(row, scale)
    click.echo()
    for sentence in report_rows.verdict(found):
        click.echo(sentence)


def _print_row(row: report_rows.ReportRow, scale: int) -> None:
    entries = "" if row.entries is None else f"{row.entries:,}"
    sign = "+" if row.is_moved and row.amount > 0 else ""
    bonus = "" if row.bonus is None else format_amount(row.bonus, scale)
    click.echo(f"  {row.label:<38}{entries:>14}{sign + format_amount(row.amount, scale):>28}{bonus:>24}".rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, dt.datetime) else f"{value}"


def _said(instant: dt.datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000") + " UTC"


def _utc(given: dt.datetime | None) -> dt.datetime | None:
    return None if given is None else given.replace(tzinfo=dt.UTC)
