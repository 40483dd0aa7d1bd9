"""The command line: `flask wallet freeze | unfreeze | close` for a wallet, `flask wallet switches` for all else."""

from __future__ import annotations

import datetime as dt

import click
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from uuid_utils import uuid7

from wallet_app import cli, service
from wallet_app.cli_keys import TICKET, by
from wallet_app.service import NO_END, Side, SwitchSettings
from wallet_app.state_fields import read_reason

switches = AppGroup("switches", help="Stop users, assets or everything, and let them go again.")


def init_app(_: Flask) -> None:
    """Register the commands beside the others."""
    cli.wallet.add_command(freeze)
    cli.wallet.add_command(unfreeze)
    cli.wallet.add_command(close)
    cli.wallet.add_command(switches)


def _reason(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return read_reason(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem), context, parameter) from None


WALLET = click.argument("wallet_id", type=click.IntRange(1, 2**63 - 1))
SIDE = click.option("--side", type=click.Choice(service.SIDES), default="both", show_default=True)
UNTIL = click.option("--until", type=click.DateTime(), help="In UTC, like 2026-02-01T00:00:00. Default: no end.")
WHY = click.option("--reason", required=True, callback=_reason, help="Stands with it, for whoever looks later.")
REFERENCE = click.option("--reference", help="To repeat it safely. Default: a new one.")


@click.command()
@with_appcontext
@WALLET
@SIDE
@UNTIL
@WHY
@REFERENCE
@cli.plainly
def freeze(wallet_id: int, *, side: Side, until: dt.datetime | None, reason: str, reference: str | None) -> None:
    """Let nothing leave the wallet, or come into it, or both."""
    command = service.Freeze(
        wallet_id=wallet_id,
        reference=reference or _new_reference(),
        origin=_origin(),
        side=side,
        until=_utc(until),
        reason=reason,
    )
    _tell(service.execute(command))


@click.command()
@with_appcontext
@WALLET
@SIDE
@WHY
@REFERENCE
@cli.plainly
def unfreeze(wallet_id: int, *, side: Side, reason: str, reference: str | None) -> None:
    """Let the wallet go again. What a switch stops stays stopped."""
    command = service.Unfreeze(
        wallet_id=wallet_id,
        reference=reference or _new_reference(),
        origin=_origin(),
        side=side,
        reason=reason,
    )
    _tell(service.execute(command))


@click.command()
@with_appcontext
@WALLET
@WHY
@REFERENCE
@cli.plainly
def close(wallet_id: int, *, reason: str, reference: str | None) -> None:
    """Close the wallet, for good. Only an empty one can be closed."""
    command = service.Close(
        wallet_id=wallet_id, reference=reference or _new_reference(), origin=_origin(), reason=reason
    )
    _tell(service.execute(command))


@switches.command("set")
@click.option("--user", "user_id", type=click.IntRange(1, 2**63 - 1), help="All wallets of this user, by id.")
@click.option("--asset", help="All wallets of this asset, by code.")
@click.option("--everything", is_flag=True, help="All wallets.")
@SIDE
@UNTIL
@WHY
@TICKET
@cli.plainly
def set_switch(
    user_id: int | None,
    asset: str | None,
    *,
    everything: bool,
    side: Side,
    until: dt.datetime | None,
    reason: str,
    ticket: str | None,
) -> None:
    """Stop a user, an asset or everything: within a second, in every process."""
    if (user_id is not None) + (asset is not None) + everything != 1:
        raise click.UsageError("Name one of --user, --asset and --everything.")
    settings = SwitchSettings(
        target="everything" if everything else "asset" if user_id is None else "user",
        side=side,
        reason=reason,
        user_id=user_id,
        asset_code=asset,
        until=_utc(until),
    )
    view, _ = service.set_switch(settings, by=by(reason, ticket))
    _show(view)


@switches.command("lift")
@click.argument("switch_id", type=click.IntRange(1, 2**63 - 1))
@WHY
@TICKET
@cli.plainly
def lift(switch_id: int, *, reason: str, ticket: str | None) -> None:
    """Lift the switch. Others that concern the same wallets stay."""
    _show(service.lift_switch(switch_id, reason=reason, by=by(reason, ticket)))


@switches.command("list")
@click.option("--all", "with_lifted", is_flag=True, help="Those that were lifted, or have ended, too.")
@cli.plainly
def list_switches(*, with_lifted: bool) -> None:
    """List what is stopped, and why."""
    after, found = None, 0
    while page := service.list_switches(with_lifted=with_lifted, after_id=after)[: service.PAGE_MAX]:
        for view in page:
            _show(view)
        after, found = page[-1].switch_id, found + len(page)
    if not found:
        click.echo("No switch is set. Frozen wallets tell it themselves, and in the list of wallets.", err=True)


def _origin() -> service.Origin:
    return service.Origin(client="cli", actor=by().actor)


def _new_reference() -> str:
    return f"{service.SYSTEM_REFERENCE}cli:{uuid7()}"


def _utc(given: dt.datetime | None) -> dt.datetime | None:
    return None if given is None else given.replace(tzinfo=dt.UTC)


def _minute(instant: dt.datetime) -> str:
    return instant.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _tell(receipt: service.Receipt) -> None:
    wallet, made = receipt.wallets[0], receipt.transaction
    sides = wallet.frozen.at(receipt.as_of or made.created_at)._asdict().items()
    frozen = [side + ("" if until == NO_END else f" until {_minute(until)}") for side, until in sides if until]
    state = "closed" if wallet.status == "CLOSED" else f"frozen: {', '.join(frozen)}" if frozen else "active"
    before = " This reference was accepted before." if receipt.is_replay else ""
    click.echo(f"Wallet {wallet.wallet_id} is {state}. Transaction {made.transaction_id}.{before}")


def _show(view: service.SwitchView) -> None:
    whose = {"user": f"of user {view.user_id}", "asset": f"of {view.asset_code}", "everything": "of everything"}
    until = "" if view.until is None else f" until {_minute(view.until)}"
    state = "" if view.is_set else "  NOT SET"
    sides = "debits and credits" if view.side == "both" else view.side
    click.echo(f"{view.switch_id}  {sides} {whose[view.target]}{until}{state}")
    click.echo(f"    {view.reason}; set {_minute(view.set_at)} by {view.set_by}")
    if view.lifted_at is not None:
        click.echo(f"    {view.lift_reason}; lifted {_minute(view.lifted_at)} by {view.lifted_by}")
