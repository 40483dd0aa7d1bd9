"""The command line: `flask wallet erase`, for a person who wants to be forgotten."""

from __future__ import annotations

import click
from flask import Flask

from wallet_app import cli, service
from wallet_app.cli_keys import REASON, TICKET, by


def init_app(_: Flask) -> None:
    """Register the command beside the others."""
    cli.wallet.add_command(erase)


@click.command()
@click.argument("user_id", type=click.IntRange(1, 2**63 - 1))
@click.option("--yes", is_flag=True, help="Erase. Without it, only tell how many there are.")
@REASON
@TICKET
@cli.plainly
def erase(user_id: int, *, yes: bool, reason: str | None, ticket: str | None) -> None:
    """Erase the notes and metadata of all transactions of the user USER_ID, for good.

    Safe to repeat; after a stop, the same command goes on. Amounts, references and balances stay, and the books still
    verify. What stays: the user's name and externalId, notes on transfers that others sent, and backups.
    """
    found = service.count_erasable(user_id)
    where = f"User {user_id} has {found.wallets:,} wallets"
    if not yes:
        click.echo(
            f"{where}; transactions with a note or metadata: {found.transactions:,}. --yes erases them for good."
        )
        return
    with cli.progress_bar(found.transactions, "transactions") as bar:
        erased = service.erase_user(user_id, by=by(reason, ticket), progress=bar.update)
    click.echo(f"{where}; transactions whose note and metadata were erased: {erased:,}.")
