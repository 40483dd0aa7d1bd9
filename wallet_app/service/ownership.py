"""Whose a wallet is, where the books were not asked: for credentials that reach one user's wallets and no others.

Usually the books tell it at the decision. But a wallet that somebody else holds, or a batch that waits for its turn,
must not tell by its waiting that there is such a wallet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app.db import reads
from wallet_app.errors import WalletNotFoundError
from wallet_app.models import Wallet
from wallet_app.service.commands import Command


def find_foreign(commands: Sequence[Command]) -> dict[int, WalletNotFoundError]:
    """Return what to answer those commands, by their index, whose wallets are not all their user's; or do not exist."""
    asked = [(command.origin.permit, command.wallet_ids()) for command in commands]
    of_users = [(permit.user_id, ids) for permit, ids in asked if permit is not None and permit.user_id is not None]
    if not of_users:
        return {}
    owners = _owners({wallet_id for _, ids in of_users for wallet_id in ids})
    found = {}
    for index, (permit, ids) in enumerate(asked):
        if permit is not None and permit.user_id is not None:
            foreign = next((wallet_id for wallet_id in ids if owners.get(wallet_id) != permit.user_id), None)
            if foreign is not None:
                found[index] = WalletNotFoundError(foreign)
    return found


def require_owned(command: Command) -> None:
    """Raise WalletNotFoundError if a wallet of the command is not its user's; nothing if that cannot be told now."""
    try:
        foreign = find_foreign([command])
    except (DBAPIError, PoolTimeoutError):
        return
    if foreign:
        raise foreign[0]


@reads
def _owners(connection: Connection, wallet_ids: Iterable[int]) -> dict[int, int]:
    rows = connection.execute(select(Wallet.id, Wallet.user_id).where(Wallet.id.in_(sorted(wallet_ids))))
    return {row.id: row.user_id for row in rows}
