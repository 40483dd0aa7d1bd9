"""Who asks: a credential, which is an API key or a user token, becomes an Actor without a query for each request.

Each process keeps the keys that are live in memory and reads them anew after KEYS_SECONDS, so a key that is revoked
ends everywhere soon after that, and the user tokens that were made with it end with it. A credential that is not good
is told from what is in memory too: a storm of them costs the database nothing.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import structlog
from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app import metrics
from wallet_app.db import unit_of_work
from wallet_app.errors import (
    DatabaseUnavailableError,
    ForbiddenError,
    UnauthenticatedError,
    WalletServiceError,
)
from wallet_app.service import keys, users
from wallet_app.service.audit import By
from wallet_app.service.callers import ANONYMOUS, Actor, actor_of_key, actor_of_user
from wallet_app.service.credentials import KEY_PREFIX, Digest, Vault
from wallet_app.service.denials import Denials, Seldom
from wallet_app.service.key_views import IS_LIVE, KeySettings
from wallet_app.service.keys import NewKey
from wallet_app.service.permits import TOKEN_SCOPES
from wallet_app.service.secret_forms import Form
from wallet_app.service.sessions import Session
from wallet_app.service.tokens import MadeToken, Signer, UserToken

log = structlog.get_logger("wallet")

KEYS_SECONDS = 2.0
"""After so long the keys are read anew, by one request while the others go on with what there is."""

KEYS_SECONDS_MAX = 4.0
"""Keys that are older are not believed: a revoked one works no longer than this."""

NEW_KEY_SECONDS = 0.25
"""An unknown key may be a new one, so for it the keys are read anew after this time already. One that was made longer
ago is known everywhere."""

_AWAY_SECONDS = 1.0
"""When the keys could not be read, so long is answered without another try."""

_USES_SECONDS = 60.0

TOKENS_MAX = 10_000
"""User tokens that are remembered as proved; with more, all are proved again."""


@dataclass(slots=True)
class _Keys:
    """The live keys as they were read at an instant of the monotonic clock."""

    read_at: float = -1e9
    actors: dict[str, tuple[Digest, Actor]] = field(default_factory=dict)
    """By key id."""
    known: dict[bytes, Actor] = field(default_factory=dict)
    """By the hash of a credential that was proved right: one for each key at most, because each has but one text."""
    users: dict[bytes, Actor] = field(default_factory=dict)
    """By the hash of a user token that was proved right, as long as these keys are believed; TOKENS_MAX at most."""


class Gate:
    """Tells, for one process and database, who asks."""

    def __init__(self, engine: Engine, vault: Vault, signer: Signer, bootstrap_key: str | None = None) -> None:
        """`bootstrap_key` is a key that was given from outside; the first request sees to it that it is there."""
        self.engine = engine
        self.vault = vault
        self._signer = signer
        self._bootstrap_key = bootstrap_key
        self._keys = _Keys()
        self._reading = threading.Lock()
        self._away_until = 0.0
        self._uses: dict[str, float] = {}
        self._uses_written_at = time.monotonic()
        self._denials = Denials(engine)
        self._refused = Seldom(things_max=20)
        watched = weakref.WeakMethod(self._look)
        metrics.every_second(lambda: look() if (look := watched()) else ())

    def authenticate(self, credential: str | None, *, is_stale_enough: bool = False) -> Actor:
        """Return whose credential it is; what it may do, and from where, is for the caller to require.

        Raises UnauthenticatedError for none or a bad one, and what a database that is away raises; unless
        `is_stale_enough`, when keys that were read at any time will do.
        """
        if credential is None:
            metrics.UNAUTHENTICATED.add("absent")
            raise UnauthenticatedError(
                "This needs an API key or a user token, in the header `Authorization: Bearer dino_...`."
            )
        now = time.monotonic()
        found = self._keys
        if now - found.read_at > KEYS_SECONDS:
            found = self._read_keys(now, KEYS_SECONDS, is_stale_enough=is_stale_enough)
        digest = sha256(credential.encode()).digest()
        actor = found.known.get(digest) or found.users.get(digest)
        if actor is None:
            prove = self._prove_token if _is_token(credential) else self._prove
            actor = prove(credential, found, now)
        if actor.expires_at is not None and time.time() >= actor.expires_at:
            raise _unknown() if actor.kind == "key" else _bad_token()
        if actor.key_id is not None:
            self._uses[actor.key_id] = now
        return actor

    def create_token(self, caller: Actor, *, user_id: int, scopes: Iterable[str], seconds: int) -> MadeToken:
        """Make a token that speaks for the user, by leave of the caller's key: with it the token ends.

        It allows what the key allows as well, on the user's wallets alone, and from any network: it is made for those
        who are outside. `seconds` are 1 to TOKEN_SECONDS_MAX; it does not outlive the key. Raises MissingScopeError for
        a scope that the key does not have, or no token can have; UserNotFoundError; UnauthenticatedError.
        """
        for scope in scopes:
            caller.permit.require(scope if scope in TOKEN_SCOPES else None)
        users.get_user(user_id, permit=caller.permit)
        now = int(time.time())
        expires_at = min(now + seconds, int(caller.expires_at or now + seconds))
        token = UserToken(
            user_id=user_id,
            key_id=caller.key_id or "",
            scopes=frozenset(scopes),
            made_at=now,
            expires_at=expires_at,
        )
        return MadeToken(self._signer.sign(token), token)

    def create_key(
        self, *, client: str, settings: KeySettings, by: By, within: Actor | None = None, form: Form | None = None
    ) -> NewKey:
        """Make a key; as `keys.create_key`."""
        made = keys.create_key(
            self.engine, self.vault, client=client, settings=settings, by=by, within=within, form=form
        )
        self._forget()
        return made

    def rotate_key(self, key_id: str, *, by: By, within: Actor | None = None, form: Form | None = None) -> NewKey:
        """Make another key that allows the same; as `keys.rotate_key`."""
        made = keys.rotate_key(self.engine, self.vault, key_id, by=by, within=within, form=form)
        self._forget()
        return made

    def revoke_key(self, key_id: str, *, by: By, session: Session | None = None) -> None:
        """Revoke a key: at once here, and within KEYS_SECONDS_MAX in other processes; as `keys.revoke_key`."""
        keys.revoke_key(self.engine, key_id, by=by, session=session)
        self._forget()

    def revoke_client(self, name: str, *, by: By) -> None:
        """Revoke a client with all its keys; as `keys.revoke_client`."""
        keys.revoke_client(self.engine, name, by=by)
        self._forget()

    def ensure_key(self, given: str, *, client: str, by: By) -> bool:
        """See to it that a key from outside is there, and return whether it is live; as `keys.ensure_key`."""
        is_live = keys.ensure_key(self.engine, self.vault, given, client=client, by=by)
        self._forget()
        return is_live

    def _forget(self) -> None:
        self._keys = _Keys()

    def note_denial(self, actor: Actor, error: ForbiddenError, *, request_id: str, address: str) -> None:
        """Record in the audit log what the actor was denied; as `Denials.note`."""
        self._denials.note(actor, error, request_id=request_id, address=address)

    def write_uses(self) -> None:
        """Write down which keys were used since the last time, in one statement.

        When it fails, these are given up: the next use is written.
        """
        uses, self._uses = self._uses, {}
        self._uses_written_at = now = time.monotonic()
        if not uses:
            return
        parameters = {"key_ids": list(uses), "seconds": [now - used_at for used_at in uses.values()]}
        with unit_of_work(self.engine) as connection:
            connection.execute(_WRITE_USES, parameters)

    def _look(self) -> Iterable[metrics.Sight]:
        if time.monotonic() - self._uses_written_at >= _USES_SECONDS:
            try:
                self.write_uses()
            except (DBAPIError, PoolTimeoutError) as away:
                log.warning("key_uses_not_written", error=type(away).__name__)
        return ()

    def _prove(self, credential: str, found: _Keys, now: float) -> Actor:
        """Return whose credential it is, from what the keys say about it; raise UnauthenticatedError."""
        try:
            key_id = self.vault.read_id(credential)
        except ValueError as problem:
            metrics.UNAUTHENTICATED.add("malformed")
            detail = f"What stands in the Authorization header {problem}."
            raise UnauthenticatedError(detail, challenge="invalid_token") from None
        found = self._with_key(key_id, found, now)
        digest, actor = found.actors.get(key_id, (None, ANONYMOUS))
        if not self.vault.is_right(credential, digest):
            if self._refused.is_due(key_id):
                log.warning("key_refused", key_id=key_id)
            raise _unknown()
        found.known[sha256(credential.encode()).digest()] = actor
        return actor

    def _prove_token(self, credential: str, found: _Keys, now: float) -> Actor:
        """Return whose token it is, from what it says and what its key still allows; raise UnauthenticatedError."""
        try:
            token = self._signer.read(credential)
        except ValueError:
            raise _bad_token() from None
        found = self._with_key(token.key_id, found, now)
        _, key = found.actors.get(token.key_id, (None, None))
        if key is None:
            raise _bad_token()
        if len(found.users) >= TOKENS_MAX:
            found.users.clear()
        actor = found.users[sha256(credential.encode()).digest()] = actor_of_user(token, key)
        return actor

    def _with_key(self, key_id: str, found: _Keys, now: float) -> _Keys:
        """Return keys that have the key, if there is one that is new."""
        if key_id not in found.actors and now - found.read_at > NEW_KEY_SECONDS:
            return self._read_keys(now, NEW_KEY_SECONDS, is_stale_enough=True)
        return found

    def _read_keys(self, now: float, seconds: float, *, is_stale_enough: bool) -> _Keys:
        """Return keys that are not older than `seconds`, or older ones that are young enough while others read them."""
        is_usable = is_stale_enough or now - self._keys.read_at <= KEYS_SECONDS_MAX
        if not self._reading.acquire(blocking=not is_usable, timeout=-1 if is_usable else KEYS_SECONDS_MAX):
            if self._keys.read_at > 0 and is_usable:
                return self._keys
            raise _away()
        try:
            # Another one may have read them while this one waited.
            if time.monotonic() - self._keys.read_at > seconds:
                self._keys = self._read()
        except (WalletServiceError, DBAPIError, PoolTimeoutError):
            if not is_usable or self._keys.read_at < 0:
                raise
        finally:
            self._reading.release()
        return self._keys

    def _read(self) -> _Keys:
        if time.monotonic() < self._away_until:
            raise _away()
        try:
            self._ensure_bootstrap_key()
            read_at = time.monotonic()
            rows = self._live_keys()
        except DBAPIError:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise
        return _Keys(
            read_at, {row.key_id: (Digest(row.pepper_version, row.secret_hmac), actor_of_key(row)) for row in rows}
        )

    def _live_keys(self) -> Sequence[Row[Any]]:
        # Not with the connections of reads: those may all be busy with long ones, and money must go on.
        for is_last in (False, True):
            try:
                with unit_of_work(self.engine) as connection:
                    return connection.execute(_LIVE_KEYS).all()
            except DBAPIError as error:
                if is_last or not error.connection_invalidated:
                    raise
        raise AssertionError

    def _ensure_bootstrap_key(self) -> None:
        if self._bootstrap_key is None:
            return
        by = By(actor="settings", reason="Given from outside.")
        if not keys.ensure_key(self.engine, self.vault, self._bootstrap_key, client=BOOTSTRAP_CLIENT, by=by):
            log.error("bootstrap_key_not_live", key_id=self.vault.read_id(self._bootstrap_key))
        self._bootstrap_key = None


BOOTSTRAP_CLIENT = "bootstrap"
"""Whose key WALLET_BOOTSTRAP_API_KEY is."""


def _unknown() -> UnauthenticatedError:
    metrics.UNAUTHENTICATED.add("unknown")
    detail = "This API key is not known, or it has expired or was revoked."
    return UnauthenticatedError(detail, challenge="invalid_token")


def _bad_token() -> UnauthenticatedError:
    metrics.UNAUTHENTICATED.add("token")
    # Not why: whoever has a good one needs another one in any case.
    detail = "This user token is not good, or it has ended. Ask the service that made it for another one."
    return UnauthenticatedError(detail, challenge="invalid_token")


def _is_token(credential: str) -> bool:
    return not credential.startswith(KEY_PREFIX) and credential.count(".") == 2


def _away() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("The database cannot be reached at the moment. Repeat the request in a second.")


_LIVE_KEYS = text(f"""
SELECT api_keys.key_id, api_keys.secret_hmac, api_keys.pepper_version, api_keys.scopes, api_keys.amount_max,
       api_keys.assets, api_keys.networks, api_keys.rate_limit, api_keys.expires_at, clients.name AS client
  FROM api_keys
  JOIN clients ON clients.id = api_keys.client_id
 WHERE {IS_LIVE}
""")  # noqa: S608 - constants

# A later use may have been written by another process in the meantime.
_WRITE_USES = text("""
UPDATE api_keys
   SET last_used_at = greatest(api_keys.last_used_at, clock_timestamp() - make_interval(secs => used.seconds))
  FROM unnest(CAST(:key_ids AS text[]), CAST(:seconds AS double precision[])) AS used (key_id, seconds)
 WHERE api_keys.key_id = used.key_id
""")
