"""The command line: `flask seed` and `flask wallet ...`. It prints what the service did, and decides nothing."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import click
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tqdm import tqdm

from wallet_app import service
from wallet_app.config import ConfigurationError, current_settings
from wallet_app.db import LOST_SENTENCE, CommitNotReplicatedError, in_doubt
from wallet_app.errors import WalletServiceError

P = ParamSpec("P")

wallet = AppGroup("wallet", help="Check and mend the books; make API keys.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(seed)
    app.cli.add_command(wallet)


class _CannotError(click.ClickException):
    """One clear sentence on stderr, and exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True, file=file)


def plainly(function: Callable[P, None]) -> Callable[P, None]:
    """Turn what a user can cause into a sentence; a traceback stays for faults of ours."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except WalletServiceError as error:
            raise _CannotError(error.detail) from error
        except ConfigurationError as error:
            raise _CannotError(str(error)) from error
        except CommitNotReplicatedError as error:
            raise _CannotError(error.sentence) from error
        except PoolTimeoutError as error:
            raise _CannotError(
                "This needs two database connections at once: set WALLET_POOL_SIZE to 2 or more."
            ) from error
        except DBAPIError as error:
            raise _CannotError(LOST_SENTENCE if in_doubt(error) else database_sentence(error)) from error

    return command


def database_sentence(error: DBAPIError) -> str:
    """Return what a user can do about it; raise the error itself if it is a fault of ours."""
    state = getattr(error.orig, "sqlstate", None)
    if state in {"42P01", "42703", "3F000"}:
        return "The database has no tables of this version: run `flask db upgrade` first."
    if state == "42501":
        return "The database does not let this user do that: check the user in DATABASE_URL and run `flask db upgrade`."
    if error.connection_invalidated or state is None or state[:2] in {"08", "28", "3D", "53", "57"}:
        return f"The database cannot be used: {' '.join(str(error.orig).split())}"
    raise error


def database() -> str:
    """Return which database this command speaks of, without any secret of its address."""
    settings = current_settings()
    url = make_url(settings.database_url or "")
    where = url.query.get("host") or url.host or "the local socket"
    told = f"{url.database} at {where}{f':{url.port}' if url.port else ''}"
    if "DATABASE_URL" in settings.given:
        return f"{told}, from DATABASE_URL"
    return f"{told}, of the data folder {settings.data_dir.absolute()}"


@contextmanager
def progress_bar(total: int | None, unit: str) -> Iterator[tqdm[Any]]:
    """Yield a progress bar on stderr, which shows after a second, and only to a terminal."""
    with tqdm(total=total, unit=f" {unit}", delay=1, leave=False, file=sys.stderr, disable=None) as bar:
        yield bar


def system_user() -> str:
    """Return who sits at the command line, as the audit log names them."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


# --- seed ---


@click.command()
@click.option("--demo/--no-demo", default=None, help="John and Doe too. Default: yes, unless WALLET_ENV=production.")
@click.option("--users", type=click.IntRange(0, 1_000_000), default=0, help="Demo users with 90 days of history.")
@with_appcontext
@plainly
def seed(demo: bool | None, users: int) -> None:
    """Make assets and SYSTEM users, and what there is to try things out. Safe to repeat."""
    with_demo = current_settings().environment != "production" if demo is None else demo
    service.seed(demo=with_demo)
    click.echo("Assets and SYSTEM users are there" + (", John and Doe too." if with_demo else "."))
    if users:
        with progress_bar(users, "users") as bar:
            service.seed_users(users, progress=bar.update)
        click.echo(f"{users:,} demo users are there with their history.")


# --- wallet verify ---


@wallet.command()
@click.option("--full", is_flag=True, help="Start over, instead of after what was verified before.")
@plainly
def verify(full: bool) -> None:
    """Check every invariant of the books while the service runs. Exit 1 on a fault."""
    with progress_bar(None, "entries") as bar:
        report = service.verify(full=full, progress=_follow(bar), requested_by=system_user())
    for finding in report.findings.values():
        _print_finding(finding)
    for note in report.notes:
        click.echo(f"NOTE {note}")
    _print_verdict(report)
    if not report.is_clean:
        sys.exit(1)


def _follow(bar: tqdm[Any]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


def _print_finding(finding: service.Finding) -> None:
    looked_at = f"{finding.looked_at:,} {finding.unit}"
    faults = "ok" if not finding.faults else f"{finding.faults:,} FAULT{'S' if finding.faults > 1 else ''}"
    click.echo(f"{finding.sentence:<66}{looked_at:>24}{faults:>12}{finding.seconds:>8.2f} s")
    for fault in finding.examples:
        click.echo(f"    {fault}")
    if finding.faults > len(finding.examples):
        click.echo(f"    ... and {finding.faults - len(finding.examples):,} more")


def _print_verdict(report: service.VerifyReport) -> None:
    scope = "Everything was" if report.is_full else "What is new since the last verification was"
    found = "The books are right." if report.is_clean else f"{report.faults:,} faults: THE BOOKS ARE NOT RIGHT."
    click.echo(f"{scope} checked: {report.entries_checked:,} entries in {report.seconds:.1f} s. {found}")


# --- wallet rebuild-balances ---


@wallet.command("rebuild-balances")
@click.option("--dry-run", is_flag=True, help="Only show what would be corrected.")
@click.option("--accept-loss", is_flag=True, help="Follow the ledger even where entries seem to have been removed.")
@plainly
def rebuild_balances(dry_run: bool, accept_loss: bool) -> None:
    """Make the balances say again what the ledger says, while the service runs. Exit 1 if a wallet was left."""
    with progress_bar(None, "wallets") as bar:
        report = service.rebuild_balances(dry_run=dry_run, accept_loss=accept_loss, progress=bar.update)
    for change in report.changes:
        click.echo(str(change))
    for refusal in report.refusals:
        click.echo(f"LEFT {refusal}", err=True)
    _print_rebuilt(report)
    if report.refusals:
        sys.exit(1)


def _print_rebuilt(report: service.RebuildReport) -> None:
    corrected = "would be corrected" if report.is_dry_run else "were corrected"
    values = len(report.changes)
    click.echo(f"Wallets compared with the ledger: {report.wallets_checked:,}; values that {corrected}: {values:,}.")
    if report.refusals:
        click.echo(
            f"Wallets that were left, because following the ledger could hide a loss: {len(report.refusals):,}. "
            "Find out what happened with `flask wallet verify --full`; --accept-loss follows the ledger all the same.",
            err=True,
        )


# --- wallet rebuild-totals ---


@wallet.command("rebuild-totals")
@plainly
def rebuild_totals() -> None:
    """Have the worker add up the daily totals anew from the ledger."""
    service.rebuild_totals()
    click.echo(
        "The worker (`flask wallet worker`) adds up everything anew; until then the console says how late it is."
    )


# --- wallet rebuild-references ---


@wallet.command("rebuild-references")
@plainly
def rebuild_references() -> None:
    """Have the worker go through all references again and add to their index what is missing."""
    service.check_references_anew()
    click.echo(
        "The worker (`flask wallet worker`) goes through all transactions again; `verify` tells when it is done."
    )
