"""The command line: `flask wallet operators ...`, by which the first operators of the console come to be."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import AppGroup

from wallet_app import cli, cli_keys, service
from wallet_app.config import current_settings

operators = AppGroup("operators", help="Make and disable the console's operators.")


def init_app(_: Flask) -> None:
    """Register the commands beside the others."""
    cli.wallet.add_command(operators)


@operators.command()
@click.argument("email")
@click.option("--name", required=True, help="As the console shows it.")
@click.option("--role", required=True, type=click.Choice(list(service.ROLES)), help="What they may do.")
@cli_keys.REASON
@cli_keys.TICKET
@cli.plainly
def create(email: str, name: str, role: str, reason: str | None, ticket: str | None) -> None:
    """Make an operator, and print the code with which they set up their sign-in."""
    code = service.create_operator(email=email, name=name, role=role, by=cli_keys.by(reason, ticket))
    click.echo(f"{email.strip().lower()} is {_article(role)} {role}.")
    _tell(code)


@operators.command("list")
@cli.plainly
def list_operators() -> None:
    """List the operators, and say in which database."""
    click.echo(f"In the database {cli.database()}:", err=True)
    found = service.list_operators()
    if not found:
        click.echo("There are no operators. Make one: flask wallet operators create EMAIL --name NAME --role admin")
    for each in found:
        keys = f"{each.passkeys} passkey{'' if each.passkeys == 1 else 's'}"
        seal = "  (old seal)" if each.has_old_seal else ""
        click.echo(f"{each.email:<40}{each.role:<10}{each.status:<10}{keys:<13}{each.name}{seal}")
    if old := sum(each.has_old_seal for each in found):
        click.echo(
            f"{old} of {len(found)} authenticator secrets are sealed with an old version of WALLET_TOTP_KEY. "
            "Keep it until they have signed in, or `reset` them."
        )


@operators.command()
@click.argument("email")
@cli_keys.REASON
@cli_keys.TICKET
@cli.plainly
def disable(email: str, reason: str | None, ticket: str | None) -> None:
    """Keep an operator out, and end their sessions, from this moment on."""
    service.disable_operator(email, by=cli_keys.by(reason, ticket))
    click.echo(f"{email} is disabled and signed out everywhere. `reset` lets them in again.")


@operators.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(list(service.ROLES)))
@cli_keys.REASON
@cli_keys.TICKET
@cli.plainly
def change_role(email: str, role: str, reason: str | None, ticket: str | None) -> None:
    """Give an operator another ROLE, and end their sessions."""
    service.change_role(email, role, by=cli_keys.by(reason, ticket))
    click.echo(f"{email} is {_article(role)} {role} now, and signed out everywhere.")


@operators.command()
@click.argument("email")
@cli_keys.REASON
@cli_keys.TICKET
@cli.plainly
def reset(email: str, reason: str | None, ticket: str | None) -> None:
    """Void all that an operator signs in with, and print a code for a new set-up."""
    code = service.reset_operator(email, by=cli_keys.by(reason, ticket))
    click.echo(f"{email}: password, authenticator app, passkeys, recovery codes and sessions are void.")
    _tell(code)


@operators.command()
@click.argument("email")
@cli.plainly
def code(email: str) -> None:
    """Print the code of an operator's authenticator app. In development alone."""
    click.echo(service.development_code(email))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _tell(code: str) -> None:
    settings = current_settings()
    origin = settings.console_origin or f"http://localhost:{settings.port}"
    click.echo(f"\n  Set-up code  {code}\n  To enter at  {origin}/console/set-up\n")
    click.echo(f"It is good once, for {service.SET_UP_HOURS} hours. Hand it over in person; it is not kept.")
