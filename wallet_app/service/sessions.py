"""Sessions: kept by the server, known by the hash of their cookie, and gone the moment anything ends them.

A session holds as long as its operator is not disabled and its epoch is the operator's: whatever ends all sessions
raises that, so that one which is just being made ends too.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import CommitNotReplicatedError, reads, unit_of_work
from wallet_app.errors import NotSignedInError, PermissionDeniedError, ProofNeededError
from wallet_app.service import audit, locks
from wallet_app.service.audit import By
from wallet_app.service.callers import ANONYMOUS, OPERATOR, Actor
from wallet_app.service.permissions import ROLES
from wallet_app.service.permits import NOTHING

IDLE_SECONDS_MAX = 15 * 60
SECONDS_MAX = 8 * 60 * 60
HALF_WAY_SECONDS_MAX = 10 * 60
"""For a session that still waits for its second factor, or for its operator to be set up."""

PROOF_SECONDS_MAX = 5 * 60
"""How long after proving who they are an operator may do what needs a fresh proof."""

CONSOLE = "console"
"""The client that operators belong to, where services have their own."""

_COOKIE_BYTES = 32
_BROWSER_MAX = 200
_BOTH = ("signed_in", "signed_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is at the other end, as the face sees it. `device` is the cookie by which their browser is known, if any."""

    address: str
    browser: str = ""
    request_id: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session that holds, with its operator. `proof_age` is in seconds, None until they are signed in."""

    id_hash: bytes
    operator_id: int
    email: str
    name: str
    role: str
    epoch: int
    stage: str
    began_at: dt.datetime
    seen_age: float
    proof_age: float | None

    @property
    def actor(self) -> str:
        """The operator's name in the ledger and the audit log."""
        return actor_of(self.operator_id)

    @property
    def caller(self) -> Actor:
        """Who asks: the operator once they are signed in, and nobody known before.

        Without any scope, because an operator's rights are the permissions of their role.
        """
        if self.stage != "signed_in":
            return ANONYMOUS
        return Actor(id=self.actor, kind="operator", client=CONSOLE, permit=NOTHING)

    @property
    def is_fresh(self) -> bool:
        """Whether the operator proved just now who they are."""
        return self.proof_age is not None and self.proof_age <= PROOF_SECONDS_MAX

    def may(self, permission: str) -> bool:
        """Tell whether the operator is signed in and their role has the permission."""
        return self.stage == "signed_in" and permission in ROLES[self.role]


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as its operator sees it in the list of their own."""

    began_at: dt.datetime
    last_seen_at: dt.datetime
    address: str
    browser: str
    is_this: bool


def actor_of(operator_id: int) -> str:
    """Return the operator's name in the ledger and the audit log."""
    return f"{OPERATOR}{operator_id}"


def hash_of(cookie: str) -> bytes:
    """Return what is stored of a cookie."""
    return sha256(cookie.encode()).digest()


def find_session(cookie: str) -> Session | None:
    """Return the session that the cookie stands for, if it holds, and remember to the minute that it was used."""
    found = _find(hash_of(cookie))
    if found is not None and found.seen_age >= 60:
        # If a standby does not confirm that, a failover takes a minute from the session: no reason to refuse the page.
        with suppress(CommitNotReplicatedError), unit_of_work() as connection:
            connection.execute(_SEEN, {"id_hash": found.id_hash})
    return found


def require(session: Session | None, permission: str, *, visitor: Visitor, fresh: bool = False) -> Session:
    """Return the session if it may; a refusal for want of the permission is recorded.

    Raises NotSignedInError, PermissionDeniedError or, with `fresh`, ProofNeededError.
    """
    if session is None or session.stage != "signed_in":
        raise NotSignedInError
    if not session.may(permission):
        audit.record_alone(act(session.operator_id, permission, visitor, outcome="denied"))
        raise PermissionDeniedError(role=session.role, permission=permission)
    if fresh and not session.is_fresh:
        raise ProofNeededError
    return session


def require_current(connection: Connection, session: Session) -> None:
    """Raise NotSignedInError if all sessions of the operator were ended since this one was found.

    Locks the operator until the end of the unit of work, before anything else in it: so what gives them a new
    credential and what voids their credentials come one after the other.
    """
    if locks.lock_epoch(connection, session.operator_id) != session.epoch:
        raise NotSignedInError


def require_same(locked: locks.LockedOperator, session: Session) -> None:
    """Raise NotSignedInError as `require_current` does, for an operator who is locked already, with others."""
    if locked.is_disabled or locked.epoch != session.epoch:
        raise NotSignedInError


def require_there(connection: Connection, session: Session) -> None:
    """Raise NotSignedInError if the session has ended, or given way to another, since it was found."""
    if connection.execute(_THERE, {"id_hash": session.id_hash}).first() is None:
        raise NotSignedInError


def begin(
    connection: Connection,
    *,
    operator_id: int,
    epoch: int,
    stage: str,
    visitor: Visitor,
    instead_of: Session | None = None,
) -> str:
    """Begin a session in the caller's unit of work and return its cookie; the one it stands in for ends.

    It is void if the operator was disabled, or all their sessions were ended, since `epoch` was read.
    """
    cookie = secrets.token_urlsafe(_COOKIE_BYTES)
    began_at = None
    if instead_of is not None and not connection.execute(_END, {"id_hash": instead_of.id_hash}).rowcount:
        # It was used or ended at this moment by another request: what was shown counts once.
        raise NotSignedInError
    if instead_of is not None and (instead_of.operator_id, instead_of.stage, stage) == (operator_id, *_BOTH):
        # A proof in between makes a session no longer.
        began_at = instead_of.began_at
    connection.execute(
        _BEGIN,
        {
            "id_hash": hash_of(cookie),
            "operator_id": operator_id,
            "epoch": epoch,
            "stage": stage,
            "began_at": began_at,
            "address": visitor.address,
            "browser": visitor.browser[:_BROWSER_MAX],
        },
    )
    return cookie


def sign_out(session: Session, *, visitor: Visitor) -> None:
    """End this session."""
    with unit_of_work() as connection:
        connection.execute(_END, {"id_hash": session.id_hash})
        audit.record(connection, act(session.operator_id, "sign_in:end", visitor))


def end_all(session: Session, *, visitor: Visitor) -> None:
    """End every session of this session's operator, this one too."""
    with unit_of_work() as connection:
        end_all_of(connection, session.operator_id)
        audit.record(connection, act(session.operator_id, "sign_in:end_all", visitor))


def end_all_of(connection: Connection, operator_id: int) -> None:
    """End every session of the operator, also one that is just being made, in the caller's unit of work."""
    connection.execute(_NEXT_EPOCH, {"operator_id": operator_id})
    connection.execute(_END_ALL, {"operator_id": operator_id})


@reads
def list_sessions(connection: Connection, session: Session) -> Sequence[SessionView]:
    """Return where the session's operator is signed in, the latest used first."""
    rows = connection.execute(_OWN, {"operator_id": session.operator_id}).all()
    return [
        SessionView(row.began_at, row.last_seen_at, row.address, row.browser, row.id_hash == session.id_hash)
        for row in rows
    ]


def act(
    operator_id: int | None, action: str, visitor: Visitor, *, outcome: audit.Outcome = "done", **more: Any
) -> audit.Act:
    """Return the record of what an operator, or somebody unknown (None), did with their sign-in."""
    who = "unknown" if operator_id is None else actor_of(operator_id)
    by = By(actor=who, request_id=visitor.request_id, address=visitor.address)
    return audit.Act(by=by, action=action, outcome=outcome, subject=None if operator_id is None else who, **more)


@reads
def _find(connection: Connection, id_hash: bytes) -> Session | None:
    row: Row[Any] | None = connection.execute(_FIND, {"id_hash": id_hash}).first()
    return None if row is None else Session(**row._mapping)


_HOLDS = f"""
       operators.disabled_at IS NULL
   AND sessions.epoch = operators.epoch
   AND sessions.last_seen_at > clock_timestamp() - interval '{IDLE_SECONDS_MAX} seconds'
   AND sessions.began_at > clock_timestamp() - CASE sessions.stage WHEN 'signed_in'
       THEN interval '{SECONDS_MAX} seconds' ELSE interval '{HALF_WAY_SECONDS_MAX} seconds' END
"""
_FIND = text(f"""
SELECT sessions.id_hash, operators.id AS operator_id, operators.email, operators.name, operators.role, operators.epoch,
       sessions.stage, sessions.began_at,
       CAST(EXTRACT(epoch FROM clock_timestamp() - sessions.last_seen_at) AS float8) AS seen_age,
       CAST(EXTRACT(epoch FROM clock_timestamp() - sessions.authenticated_at) AS float8) AS proof_age
  FROM sessions
  JOIN operators ON operators.id = sessions.operator_id
 WHERE sessions.id_hash = :id_hash AND {_HOLDS}
""")  # noqa: S608 - constants
_OWN = text(f"""
SELECT sessions.id_hash, sessions.began_at, sessions.last_seen_at, sessions.address, sessions.browser
  FROM sessions
  JOIN operators ON operators.id = sessions.operator_id
 WHERE sessions.operator_id = :operator_id AND sessions.stage = 'signed_in' AND {_HOLDS}
 ORDER BY sessions.last_seen_at DESC
 LIMIT 100
""")  # noqa: S608 - constants
_BEGIN = text("""
INSERT INTO sessions (id_hash, operator_id, epoch, stage, began_at, authenticated_at, address, browser)
VALUES (:id_hash, :operator_id, :epoch, :stage, coalesce(CAST(:began_at AS timestamptz), now()),
        CASE CAST(:stage AS text) WHEN 'signed_in' THEN now() END, :address, :browser)
""")
_SEEN = text("UPDATE sessions SET last_seen_at = clock_timestamp() WHERE id_hash = :id_hash")
_THERE = text("SELECT FROM sessions WHERE id_hash = :id_hash")
_END = text("DELETE FROM sessions WHERE id_hash = :id_hash")
_END_ALL = text("DELETE FROM sessions WHERE operator_id = :operator_id")
_NEXT_EPOCH = text("UPDATE operators SET epoch = epoch + 1 WHERE id = :operator_id")
