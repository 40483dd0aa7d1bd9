"""Clients and their API keys: made, listed, rotated and revoked; each of it is in the audit log."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from dataclasses import replace
from typing import NamedTuple

from limits import parse_many
from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    BadKeySettingsError,
    ClientNotFoundError,
    ClientRevokedError,
    FormUsedError,
    KeyRevokedError,
    TooManyKeysError,
    UnauthenticatedError,
)
from wallet_app.models import ApiKey, AssetType, Client
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import audit, grants, locks, sessions
from wallet_app.service.audit import Act, By
from wallet_app.service.callers import Actor
from wallet_app.service.credentials import Digest, MadeKey, Vault
from wallet_app.service.key_views import IS_LIVE, KeySettings, KeyView, find_row, get_row, view_of
from wallet_app.service.permits import SCOPES
from wallet_app.service.secret_forms import FORM_SECONDS_MAX, Form
from wallet_app.service.sessions import Session

KEYS_MAX = 2
"""Live keys of a client: the one in use, and the one that is to replace it."""

RESERVED_CLIENTS = frozenset({"system", "cli", "console"})
"""Names under which the service itself and its operators post."""

NOT_FOR_NEW_KEYS = RESERVED_CLIENTS | {
    *("anonymous", "bootstrap", "development"),
    *("import", "key", "operator", "settings", "unknown", "user", "verify", "worker"),
}
"""Names that nobody is given a key for: the service's own, those of its own keys, and what stands for an actor of its
in the books or the audit log. Whoever had one could look like the service there, or be told what it did.
"""

_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

EVERYTHING = KeySettings(scopes=tuple(SCOPES))

NOT_FOR_OPERATORS = frozenset({"admin:keys"})
"""Scopes that an operator gives no key."""


class NewKey(NamedTuple):
    """A key that was just made, with what it allows: the only moment at which its text is known."""

    key_id: str
    text: str
    view: KeyView


def create_key(
    engine: Engine,
    vault: Vault,
    *,
    client: str,
    settings: KeySettings,
    by: By,
    within: Actor | None = None,
    form: Form | None = None,
) -> NewKey:
    """Make a key for the client, which is made too if it is new; its text is kept nowhere.

    `within` is whose own credential makes it: it gives no more than that allows. `form` is the operator's who makes it:
    sent again, it is answered with the key that it made. Locks the operator, and the client. Raises
    BadKeySettingsError, ClientRevokedError, TooManyKeysError; with `within` what `grants.require_within` does; with
    `form` NotSignedInError and FormUsedError.
    """
    made = _make(vault, form)
    with unit_of_work(engine) as connection:
        if form is not None and (same := _made_before(connection, vault, made, form, by)) is not None:
            return same
        if form is not None:
            _require_givable(settings)
        _require_name(client)
        client_id = _ensure_client(connection, client)
        _lock_live_client(connection, client_id, client)
        if within is not None:
            _require_grantable(connection, settings, within)
        _require_room(connection, client_id, client)
        _insert(connection, vault, made, (client_id, client), settings=settings, by=by)
        return NewKey(*made, view_of(get_row(connection, made.key_id)))


@reads
def preview_key(connection: Connection, *, client: str, settings: KeySettings) -> KeySettings:
    """Return the settings as `create_key` would keep them for an operator, in their normal form; raises as it would."""
    _require_name(client)
    _require_givable(settings)
    found = connection.execute(select(Client.id, Client.revoked_at).where(Client.name == client)).first()
    if found is not None and found.revoked_at is not None:
        raise ClientRevokedError(client)
    if found is not None:
        _require_room(connection, found.id, client)
    return _checked(connection, settings)


def rotate_key(
    engine: Engine, vault: Vault, key_id: str, *, by: By, within: Actor | None = None, form: Form | None = None
) -> NewKey:
    """Make another key that allows the same; the one that was there goes on until it is revoked.

    Locks the operator, and the client. Raises as `create_key`, and KeyNotFoundError or KeyRevokedError.
    """
    made = _make(vault, form)
    with unit_of_work(engine) as connection:
        if form is not None and (same := _made_before(connection, vault, made, form, by)) is not None:
            return same
        found = get_row(connection, key_id)
        settings = view_of(found).settings
        if form is not None:
            _require_givable(settings)
        _lock_live_client(connection, found.client_id, found.client)
        if within is not None:
            _require_grantable(connection, settings, within)
        if not get_row(connection, key_id).is_live:
            raise KeyRevokedError(key_id)
        _require_room(connection, found.client_id, found.client)
        client = found.client_id, found.client
        _insert(connection, vault, made, client, settings=settings, by=by, replaces=key_id)
        return NewKey(*made, view_of(get_row(connection, made.key_id)))


def revoke_key(engine: Engine, key_id: str, *, by: By, session: Session | None = None) -> None:
    """Let the key authenticate nobody any more. `session` is the operator's who does it, if one does.

    Locks the operator, and the client. Raises KeyNotFoundError, KeyRevokedError, and NotSignedInError.
    """
    with unit_of_work(engine) as connection:
        if session is not None:
            sessions.require_current(connection, session)
        found = get_row(connection, key_id)
        locks.lock_client(connection, found.client_id)
        if get_row(connection, key_id).revoked_at is not None:
            raise KeyRevokedError(key_id)
        _revoke(connection, key_id, by)


def revoke_client(engine: Engine, name: str, *, by: By) -> None:
    """Let none of the client's keys authenticate anybody any more, and give it no other.

    Locks the client. Raises ClientNotFoundError or ClientRevokedError.
    """
    with unit_of_work(engine) as connection:
        client_id = connection.scalar(select(Client.id).where(Client.name == name))
        if client_id is None:
            raise ClientNotFoundError(name)
        _lock_live_client(connection, client_id, name)
        connection.execute(update(Client).where(Client.id == client_id).values(revoked_at=func.clock_timestamp()))
        audit.record(connection, Act(by=by, action="client:revoke", subject=f"client:{name}"))


def ensure_key(engine: Engine, vault: Vault, given: str, *, client: str, by: By) -> bool:
    """See to it that a key that was given from outside is there, with all scopes; return whether it is live.

    It takes the place of the client's oldest if there are two already. Locks the client. Raises ValueError for what is
    no key.
    """
    key_id = vault.read_id(given)
    with unit_of_work(engine) as connection:
        client_id = _ensure_client(connection, client)
        revoked_at = locks.lock_client(connection, client_id)
        found = find_row(connection, key_id)
        if found is None and revoked_at is None:
            for old in _live_key_ids(connection, client_id)[KEYS_MAX - 1 :]:
                _revoke(connection, old, replace(by, reason="Replaced by a newer one that was given from outside."))
            made = MadeKey(key_id, given)
            _insert(connection, vault, made, (client_id, client), settings=EVERYTHING, by=by)
            return True
        return (
            found is not None
            and found.is_live
            and vault.is_right(given, Digest(found.pepper_version, found.secret_hmac))
        )


def _make(vault: Vault, form: Form | None) -> MadeKey:
    return vault.make_key(None if form is None else form.material("api key"))


# --- within a unit of work ---


def _made_before(connection: Connection, vault: Vault, made: MadeKey, form: Form, by: By) -> NewKey | None:
    """Return the key that this form has made, if it has; the operator's lock lets one look at a time.

    Raises NotSignedInError, and FormUsedError for a key that is not shown any more.
    """
    sessions.require_current(connection, form.session)
    found = find_row(connection, made.key_id)
    if found is None:
        return None
    now: dt.datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    is_ours = vault.is_right(made.text, Digest(found.pepper_version, found.secret_hmac))
    if not is_ours or not found.is_live or (now - found.created_at).total_seconds() > FORM_SECONDS_MAX:
        raise FormUsedError(f"key {made.key_id}")
    audit.record(connection, Act(by=by, action="key:show", subject=f"key:{made.key_id}"))
    return NewKey(*made, view_of(found))


def _require_givable(settings: KeySettings) -> None:
    """Raise for what no operator gives: what such a key makes would be in nobody's name, and outlive its maker."""
    if refused := NOT_FOR_OPERATORS.intersection(settings.scopes):
        raise BadKeySettingsError(
            f"The console makes no key with the scope {', '.join(sorted(refused))}: such a key makes others, in "
            "nobody's name. Who may, does it at the command line.",
            about="scopes",
        )


def _require_grantable(connection: Connection, settings: KeySettings, caller: Actor) -> None:
    """Raise for a key that would allow more than the caller's own, or outlive its revocation.

    After all waiting for locks: meanwhile the caller's key may have been revoked.
    """
    # Not by what this process remembers: for some seconds a key that is revoked could make itself a successor.
    own = find_row(connection, caller.key_id or "")
    if own is None or not own.is_live:
        raise UnauthenticatedError("This API key has expired or was revoked.", challenge="invalid_token")
    grants.require_within(settings, caller)


def _require_name(name: str) -> None:
    if name.casefold() in NOT_FOR_NEW_KEYS:
        raise BadKeySettingsError(f"The name {name} is the service's own.", about="client")
    if not _CLIENT_NAME.fullmatch(name):
        raise BadKeySettingsError(
            "A client's name has 1 to 64 letters, digits, dots, dashes and underscores.", about="client"
        )


def _ensure_client(connection: Connection, name: str) -> int:
    connection.execute(insert(Client).values(name=name).on_conflict_do_nothing())
    client_id: int = connection.execute(select(Client.id).where(Client.name == name)).scalar_one()
    return client_id


def _lock_live_client(connection: Connection, client_id: int, name: str) -> None:
    if locks.lock_client(connection, client_id) is not None:
        raise ClientRevokedError(name)


def _require_room(connection: Connection, client_id: int, client: str) -> None:
    live = _live_key_ids(connection, client_id)
    if len(live) >= KEYS_MAX:
        raise TooManyKeysError(client=client, keys_max=KEYS_MAX, key_ids=live)


def _live_key_ids(connection: Connection, client_id: int) -> list[str]:
    """Return the client's live keys, the newest first."""
    return list(connection.scalars(_LIVE, {"client_id": client_id}))


def _insert(
    connection: Connection,
    vault: Vault,
    made: MadeKey,
    client: tuple[int, str],
    *,
    settings: KeySettings,
    by: By,
    replaces: str | None = None,
) -> None:
    settings = _checked(connection, settings)
    digest = vault.digest(made.text)
    connection.execute(
        insert(ApiKey).values(
            key_id=made.key_id,
            client_id=client[0],
            secret_hmac=digest.hmac,
            pepper_version=digest.pepper_version,
            scopes=settings.scopes,
            amount_max=settings.amount_max,
            assets=settings.assets,
            networks=settings.networks,
            rate_limit=settings.rate_limit,
            expires_at=settings.expires_at,
            created_by=by.actor,
            created_at=func.clock_timestamp(),
        )
    )
    after = {
        "client": client[1],
        "scopes": settings.scopes,
        "amount_max": settings.amount_max,
        "assets": settings.assets,
        "networks": settings.networks,
        "rate_limit": settings.rate_limit,
        "expires_at": settings.expires_at.isoformat() if settings.expires_at else None,
        "replaces": replaces,
    }
    audit.record(connection, Act(by=by, action="key:create", subject=f"key:{made.key_id}", after=after))


def _revoke(connection: Connection, key_id: str, by: By) -> None:
    connection.execute(update(ApiKey).where(ApiKey.key_id == key_id).values(revoked_at=func.clock_timestamp()))
    audit.record(connection, Act(by=by, action="key:revoke", subject=f"key:{key_id}"))


def _checked(connection: Connection, asked: KeySettings) -> KeySettings:
    """Return the settings in their normal form; raise BadKeySettingsError."""
    if unknown := sorted(set(asked.scopes) - SCOPES.keys()):
        raise BadKeySettingsError(f"There is no scope {unknown[0]}; there are {', '.join(SCOPES)}.", about="scopes")
    if not asked.scopes:
        raise BadKeySettingsError("A key without a scope could do nothing: name at least one.", about="scopes")
    if asked.amount_max is not None and not 1 <= asked.amount_max <= AMOUNT_MAX:
        raise BadKeySettingsError(f"The largest amount must be from 1 to {AMOUNT_MAX}.", about="amount_max")
    known = set(connection.scalars(select(AssetType.code)))
    if unknown := sorted(set(asked.assets or ()) - known):
        raise BadKeySettingsError(
            f"There is no asset {unknown[0]}; there are {', '.join(sorted(known))}.", about="assets"
        )
    now: dt.datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    if asked.expires_at is not None and asked.expires_at <= now:
        raise BadKeySettingsError("The key would have expired already.", about="days")
    return replace(
        asked,
        scopes=[scope for scope in SCOPES if scope in asked.scopes],
        assets=sorted(set(asked.assets)) if asked.assets else None,
        networks=[_network(one) for one in asked.networks] if asked.networks else None,
        rate_limit=_rate_limit(asked.rate_limit),
    )


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as exc:
        raise BadKeySettingsError(
            f"{value!r} is no network like 10.0.0.0/8 or 2001:db8::/32: {exc}.", about="networks"
        ) from None


def _rate_limit(value: str | None) -> str | None:
    try:
        if value:
            parse_many(value)
    except ValueError:
        raise BadKeySettingsError(
            f"A rate limit looks like '600 per minute', not {value!r}.", about="rate_limit"
        ) from None
    return value or None


_LIVE = text(f"""
SELECT key_id
  FROM api_keys
  JOIN clients ON clients.id = api_keys.client_id
 WHERE clients.id = :client_id AND {IS_LIVE}
 ORDER BY api_keys.created_at DESC, key_id
""")  # noqa: S608 - constants
