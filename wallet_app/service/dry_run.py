"""Dry runs: what a request would do, by the rules that do it; nothing is locked or written, no reference burnt.

What who asks may not do is refused as ever. Each takes a connection of the reads for as long as it lasts, so only a few
go on at once.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from wallet_app.db import reads
from wallet_app.errors import OverloadedError
from wallet_app.models import AssetType, User
from wallet_app.service import listings, users
from wallet_app.service.books import Receipt
from wallet_app.service.bulk import declined_at_once
from wallet_app.service.commands import Command, require_permitted
from wallet_app.service.execution import BATCH_MAX, REQUEST_SECONDS_MAX
from wallet_app.service.permits import Permit
from wallet_app.service.posting import BatchRefusedError, Outcome
from wallet_app.service.preview import previewing
from wallet_app.service.queries import WalletView
from wallet_app.service.users import UserView

RUNS_MAX = 2
"""How many dry runs go on at once in a process; the next one waits for its turn."""

NO_ID = 0
"""The id of a user or a wallet that only would be made: it has none yet."""

_turns = threading.BoundedSemaphore(RUNS_MAX)


def preview_command(command: Command) -> Receipt:
    """Return the receipt that the command would be answered with; raise the WalletServiceError that would decline it.

    The transaction's id is NO_TRANSACTION unless it would be a replay. Raises OverloadedError if the turn does not
    come.
    """
    require_permitted(command)
    (outcome,) = _preview([command])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def preview_each(commands: Sequence[Command]) -> list[Outcome]:
    """Return what would come of up to BATCH_MAX commands, each answered on its own, in the same order."""
    outcomes: list[Outcome | None] = [*declined_at_once(commands)]
    permitted = [at for at, outcome in enumerate(outcomes) if outcome is None]
    for at, outcome in zip(permitted, _preview([commands[at] for at in permitted]), strict=True):
        outcomes[at] = outcome
    return cast(list[Outcome], outcomes)


def preview_atomic(commands: Sequence[Command]) -> list[Receipt]:
    """Return the receipts of up to BATCH_MAX commands, if all were accepted; BatchRefusedError with the first not."""
    for index, declined in enumerate(declined_at_once(commands)):
        if declined is not None:
            raise BatchRefusedError(index, declined)
    receipts: list[Receipt] = []
    for index, outcome in enumerate(_preview(commands)):
        if isinstance(outcome, Exception):
            raise BatchRefusedError(index, outcome)
        receipts.append(outcome)
    return receipts


def preview_user(*, name: str, external_id: str) -> tuple[UserView, bool]:
    """Return the user that `create_user` would, and whether it would be made now; raises as that does."""
    if found := users.find_users(external_id=external_id):
        return users.require_name(found[0], name), False
    return UserView(NO_ID, name, external_id, dt.datetime.now(dt.UTC)), True


def preview_wallet(*, user_id: int, asset_code: str, permit: Permit | None = None) -> tuple[WalletView, bool]:
    """Return the wallet that `create_wallet` would, and whether it would be made now; raises as that does."""
    found = listings.list_wallets(user_id=user_id, asset_code=asset_code, after_id=None, limit=1, permit=permit)
    return (found[0], False) if found else (_new_wallet(user_id, asset_code), True)


@reads
def _new_wallet(connection: Connection, user_id: int, asset_code: str) -> WalletView:
    """Return the wallet as it would be made; the user and the asset are known to exist."""
    asset = connection.execute(select(AssetType.name, AssetType.scale).where(AssetType.code == asset_code)).one()
    now = dt.datetime.now(dt.UTC)
    return WalletView(
        wallet_id=NO_ID,
        user_id=user_id,
        user_name=connection.execute(select(User.name).where(User.id == user_id)).scalar_one(),
        user_type="USER",
        asset_code=asset_code,
        asset_name=asset.name,
        asset_scale=asset.scale,
        status="ACTIVE",
        balance=0,
        held=0,
        version=0,
        created_at=now,
        updated_at=now,
        due=0,
        owed=0,
    )


def _preview(commands: Sequence[Command]) -> list[Outcome]:
    """Return what would come of the commands; a connection that was dead gets a second try, as for any read."""
    if len(commands) > BATCH_MAX:
        raise ValueError(f"a batch has at most {BATCH_MAX} commands, not {len(commands)}")
    if not commands:
        return []
    with _turn():
        try:
            return _ask(commands)
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
            return _ask(commands)


def _ask(commands: Sequence[Command]) -> list[Outcome]:
    with previewing(is_long=False) as preview:
        return preview.preview(commands)


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=REQUEST_SECONDS_MAX):
        raise OverloadedError("Too many dry runs are going on. Repeat this one.")
    try:
        yield
    finally:
        _turns.release()
