"""Users: the owners of wallets, made once per external id. The system's own users are not to be had here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select

from wallet_app.db import reads
from wallet_app.errors import ExternalIdTakenError, UserNotFoundError
from wallet_app.models import User
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.repeatable import repeatable
from wallet_app.service.wallets import add_user


@dataclass(frozen=True, slots=True)
class UserView:
    """A user; `external_id` is None for one that was not made by a caller."""

    user_id: int
    name: str
    external_id: str | None
    created_at: dt.datetime


def create_user(*, name: str, external_id: str) -> tuple[UserView, bool]:
    """Return the user with this external id, and whether it was made now.

    Raises ExternalIdTakenError if there is one under another name: two services that number their players alike must
    not come to share a player's wallets without a word.
    """
    is_new = False
    if not (found := find_users(external_id=external_id)):
        is_new = repeatable(partial(_add, name=name, external_id=external_id))
        found = find_users(external_id=external_id)
    return require_name(found[0], name), is_new


def require_name(user: UserView, name: str) -> UserView:
    """Return the user; raise ExternalIdTakenError if the name is another one."""
    if user.name != name:
        raise ExternalIdTakenError(external_id=user.external_id, user_id=user.user_id)
    return user


@reads
def get_user(connection: Connection, user_id: int, *, permit: Permit | None = None) -> UserView:
    """Return the user; raise UserNotFoundError, also for a SYSTEM user, and for one that the permit does not reach."""
    row = connection.execute(_USERS.where(User.id == user_id)).first()
    if row is None or not reaches(permit, user_id):
        raise UserNotFoundError(user_id)
    return UserView(*row)


@reads
def find_users(connection: Connection, *, external_id: str, permit: Permit | None = None) -> Sequence[UserView]:
    """Return the user with this external id, or nobody; also if the permit does not reach that user."""
    rows = connection.execute(_USERS.where(User.external_id == external_id))
    return [UserView(*row) for row in rows if reaches(permit, row.id)]


def _add(connection: Connection, *, name: str, external_id: str) -> bool:
    return add_user(connection, name=name, user_type="USER", external_id=external_id) is not None


_USERS = select(User.id, User.name, User.external_id, User.created_at).where(User.user_type == "USER")
