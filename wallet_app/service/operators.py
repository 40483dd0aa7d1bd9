"""Operators: made, listed, disabled and given a new start by the administration. Nobody else learns their secrets."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.config import ConfigurationError, current_settings
from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    FormUsedError,
    OperatorChangedError,
    OperatorExistsError,
    OperatorInvalidError,
    OperatorNotFoundError,
    OwnOperatorError,
)
from wallet_app.service import audit, locks, passwords, second_factor, sessions
from wallet_app.service.audit import By
from wallet_app.service.permissions import ROLES
from wallet_app.service.secret_forms import FORM_SECONDS_MAX, Form
from wallet_app.service.sessions import Session, actor_of

SET_UP_HOURS = 24
"""How long a set-up code is good."""

_EMAIL = re.compile(r"[^\s@<>]{1,64}@[^\s@<>]{1,189}")


@dataclass(frozen=True, slots=True)
class OperatorView:
    """An operator as the administration sees them. `status` is waiting (for their set-up), active or disabled."""

    id: int
    email: str
    name: str
    role: str
    status: str
    passkeys: int
    sessions: int
    created_at: dt.datetime
    epoch: int
    """Changes with whatever ends all their sessions."""
    last_signed_in_at: dt.datetime | None
    has_old_seal: bool
    """Whether the authenticator's secret is sealed with a key that has a successor: until their next sign-in."""


def create_operator(*, email: str, name: str, role: str, by: By, form: Form | None = None) -> str:
    """Make an operator and return the code with which they set up their sign-in, to be shown once.

    `by` is who does it. `form` is the operator's who makes them: sent again, it is answered with the same code. Locks
    that operator. Raises OperatorInvalidError, OperatorExistsError; with `form` NotSignedInError, FormUsedError.
    """
    email, name = _clean(email, name, role)
    code = _make_code(form)
    with unit_of_work() as connection:
        if form is not None:
            sessions.require_current(connection, form.session)
        operator_id = connection.execute(
            _CREATE,
            {"email": email, "name": name, "role": role, "hash": second_factor.code_hash(code), "hours": SET_UP_HOURS},
        ).scalar()
        if operator_id is None:
            # Without a lock: the one on who sends the form lets one of the same forms look at a time.
            found = connection.execute(_SET_UP, {"email": email}).one()
            if form is None or not _is_shown_again(connection, found, code, by):
                raise OperatorExistsError(email)
            return code
        after = {"email": email, "name": name, "role": role}
        audit.record(connection, _act(operator_id, "operator:create", by, after=after))
    return code


def disable_operator(email: str, *, by: By, session: Session | None = None) -> None:
    """Keep the operator out from this moment on, and end their sessions.

    `session` is the operator's who does it, if one does. Locks both. Raises OperatorNotFoundError; with `session`
    OwnOperatorError, NotSignedInError.
    """
    with unit_of_work() as connection:
        found = _lock(connection, email, session)
        connection.execute(_DISABLE, {"id": found.id})
        sessions.end_all_of(connection, found.id)
        audit.record(connection, _act(found.id, "operator:disable", by))


def change_role(email: str, role: str, *, by: By, session: Session | None = None) -> None:
    """Give the operator another role, and end their sessions: what they had open was for the role that they had.

    Their id stays: whoever tells the maker of a thing from its checker must go by ids, because roles change.

    `session` is the operator's who does it, if one does. Locks both. Raises OperatorNotFoundError, OperatorInvalidError
    for no role or the one that they have; with `session` OwnOperatorError, NotSignedInError.
    """
    _require_role(role)
    with unit_of_work() as connection:
        found = _lock(connection, email, session)
        if found.role == role:
            raise OperatorInvalidError(f"{found.email} has the role {role} already.", about="role")
        connection.execute(_CHANGE_ROLE, {"id": found.id, "role": role})
        sessions.end_all_of(connection, found.id)
        act = audit.Act(
            by=by,
            action="operator:role",
            subject=actor_of(found.id),
            before={"role": found.role},
            after={"role": role},
        )
        audit.record(connection, act)


def reset_operator(email: str, *, by: By, form: Form | None = None, seen: int | None = None) -> str:
    """Void the operator's password, authenticator app, passkeys, recovery codes and sessions, and let them start anew.

    Returns a set-up code, as `create_operator` does. One who was disabled is let in again.

    `form` is the operator's who does it: sent again, it is answered with the same code; `seen` the epoch that they saw.
    Locks both. Raises OperatorNotFoundError; with `form` OwnOperatorError, NotSignedInError, FormUsedError, and with
    `seen` OperatorChangedError.
    """
    code = _make_code(form)
    with unit_of_work() as connection:
        found = _lock(connection, email, None if form is None else form.session)
        if form is not None and _is_shown_again(connection, found, code, by):
            return code
        if seen is not None and seen != found.epoch:
            raise OperatorChangedError(found.email)
        connection.execute(_RESET, {"id": found.id, "hash": second_factor.code_hash(code), "hours": SET_UP_HOURS})
        for statement in _VOID:
            connection.execute(statement, {"id": found.id})
        sessions.end_all_of(connection, found.id)
        audit.record(connection, _act(found.id, "operator:reset", by))
    return code


@reads
def preview_operator(connection: Connection, *, email: str, name: str, role: str) -> tuple[str, str]:
    """Return e-mail address and name as `create_operator` would keep them; raises as it would."""
    email, name = _clean(email, name, role)
    if connection.execute(_ID, {"email": email}).scalar() is not None:
        raise OperatorExistsError(email)
    return email, name


@reads
def get_operator(connection: Connection, operator_id: int) -> OperatorView:
    """Return the operator; raise OperatorNotFoundError."""
    row = connection.execute(_ONE, {"id": operator_id}).first()
    if row is None:
        raise OperatorNotFoundError(f"with the id {operator_id}")
    return _view(row)


@reads
def list_operators(connection: Connection) -> Sequence[OperatorView]:
    """Return all operators, by e-mail address."""
    return [_view(row) for row in connection.execute(_LIST)]


def ensure_development_operator(*, email: str, name: str, role: str, password: str) -> None:
    """Make an operator who can sign in at once, for a development machine; one who is there stays as they are.

    Unless their secret was sealed with a key that is gone: then password and secret are set anew.
    """
    _require_development()
    found = _find_development(email)
    if found is not None and found.totp_secret is not None and _is_readable(found.id, found.totp_secret):
        return
    password_hash = passwords.make_hash(password)
    with unit_of_work() as connection:
        operator_id = connection.execute(_DEVELOPMENT, {"email": email, "name": name, "role": role}).scalar_one()
        secret = second_factor.seal_totp_secret(second_factor.make_totp_secret(), operator_id)
        connection.execute(_READY, {"id": operator_id, "password_hash": password_hash, "secret": secret})
        after = {"email": email, "name": name, "role": role}
        audit.record(connection, _act(operator_id, "operator:create", By(actor="system"), after=after))


def development_code(email: str) -> str:
    """Return the code that the operator's authenticator app would show now.

    Raises ConfigurationError anywhere but in development, OperatorNotFoundError, and OperatorInvalidError for one whom
    no code lets in.
    """
    _require_development()
    found = _find_development(email.strip().lower())
    if found is None:
        raise OperatorNotFoundError(email)
    if found.is_disabled:
        raise OperatorInvalidError(f"{found.email} is disabled: no code lets them in. `reset` does.", about="email")
    if found.totp_secret is None:
        raise OperatorInvalidError(
            f"{found.email} has no authenticator app yet: they begin with their set-up code.", about="email"
        )
    return second_factor.totp_code(second_factor.unseal_totp_secret(found.totp_secret, found.id))


def _view(row: Row[Any]) -> OperatorView:
    columns = dict(row._mapping)
    has_old_seal = second_factor.has_old_seal(columns.pop("totp_secret"))
    return OperatorView(**columns, has_old_seal=has_old_seal)


def _make_code(form: Form | None) -> str:
    return second_factor.make_code(None if form is None else form.material("set-up code"))


def _lock(connection: Connection, email: str, session: Session | None) -> locks.LockedOperator:
    """Lock the operator, and with them who does it: of two who keep each other out, one is too late."""
    operator_id = _id_of(connection, email)
    if session is not None and session.operator_id == operator_id:
        raise OwnOperatorError
    found = locks.lock_operators(connection, {operator_id, *([] if session is None else [session.operator_id])})
    if session is not None:
        sessions.require_same(found[session.operator_id], session)
    return found[operator_id]


def _is_shown_again(connection: Connection, found: locks.LockedOperator | Row[Any], code: str, by: By) -> bool:
    """Tell whether it is the code that this form has made, and record that it is shown again.

    Raises FormUsedError where that was too long ago.
    """
    if found.set_up_hash != second_factor.code_hash(code) or found.set_up_expires_at is None:
        return False
    now: dt.datetime = connection.execute(_NOW).scalar_one()
    age = dt.timedelta(hours=SET_UP_HOURS) - (found.set_up_expires_at - now)
    if age.total_seconds() > FORM_SECONDS_MAX:
        raise FormUsedError(f"a set-up code for {found.email}")
    audit.record(connection, _act(found.id, "operator:show_code", by))
    return True


def _require_development() -> None:
    if current_settings().environment != "development":
        raise ConfigurationError("This is possible with WALLET_ENV=development alone: elsewhere a code is its owner's.")


def _clean(email: str, name: str, role: str) -> tuple[str, str]:
    email, name = email.strip().lower(), " ".join(name.split())
    if _EMAIL.fullmatch(email) is None or not email.isprintable():
        raise OperatorInvalidError(f"{email[:80]!r} is not an e-mail address.", about="email")
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise OperatorInvalidError("The name must have 1 to 100 characters that can be printed.", about="name")
    _require_role(role)
    return email, name


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise OperatorInvalidError(f"There is no role {role[:40]!r}: choose one of {', '.join(ROLES)}.", about="role")


def _act(operator_id: int, action: str, by: By, *, after: dict[str, str] | None = None) -> audit.Act:
    return audit.Act(by=by, action=action, subject=actor_of(operator_id), after=after)


def _id_of(connection: Connection, email: str) -> int:
    operator_id: int | None = connection.execute(_ID, {"email": email.strip().lower()}).scalar()
    if operator_id is None:
        raise OperatorNotFoundError(email)
    return operator_id


@reads
def _find_development(connection: Connection, email: str) -> Row[Any] | None:
    return connection.execute(_SECRET, {"email": email}).first()


def _is_readable(operator_id: int, sealed: bytes) -> bool:
    try:
        second_factor.unseal_totp_secret(sealed, operator_id)
    except ConfigurationError:
        return False
    return True


_CREATE = text("""
INSERT INTO operators (email, name, role, set_up_hash, set_up_expires_at)
VALUES (:email, :name, :role, :hash, clock_timestamp() + make_interval(hours => :hours))
    ON CONFLICT (email) DO NOTHING
RETURNING id
""")
_DISABLE = text("""
UPDATE operators
   SET disabled_at = coalesce(disabled_at, clock_timestamp()), set_up_hash = NULL, set_up_expires_at = NULL
 WHERE id = :id
""")
_CHANGE_ROLE = text("UPDATE operators SET role = :role WHERE id = :id")
_RESET = text("""
UPDATE operators
   SET password_hash = NULL, totp_secret = NULL, totp_confirmed_at = NULL, totp_step = NULL, disabled_at = NULL,
       set_up_hash = :hash, set_up_expires_at = clock_timestamp() + make_interval(hours => :hours)
 WHERE id = :id
""")
_VOID = (
    text("DELETE FROM passkeys WHERE operator_id = :id"),
    text("DELETE FROM recovery_codes WHERE operator_id = :id"),
)
_ID = text("SELECT id FROM operators WHERE email = :email")
_SET_UP = text("SELECT id, email, set_up_hash, set_up_expires_at FROM operators WHERE email = :email")
_SECRET = text("""
SELECT id, email, totp_secret, disabled_at IS NOT NULL AS is_disabled FROM operators WHERE email = :email
""")
_DEVELOPMENT = text("""
INSERT INTO operators (email, name, role) VALUES (:email, :name, :role)
    ON CONFLICT (email) DO UPDATE SET role = EXCLUDED.role, epoch = operators.epoch + 1
RETURNING id
""")
_READY = text("""
UPDATE operators
   SET password_hash = :password_hash, totp_secret = :secret, totp_confirmed_at = clock_timestamp(), totp_step = NULL,
       set_up_hash = NULL, set_up_expires_at = NULL
 WHERE id = :id
""")
_NOW = text("SELECT clock_timestamp()")
_VIEW = """
SELECT operators.id, operators.email, operators.name, operators.role,
       CASE WHEN operators.disabled_at IS NOT NULL THEN 'disabled'
            WHEN operators.totp_confirmed_at IS NULL THEN 'waiting' ELSE 'active' END AS status,
       (SELECT count(*) FROM passkeys WHERE operator_id = operators.id) AS passkeys,
       (SELECT count(*) FROM sessions
         WHERE operator_id = operators.id AND epoch = operators.epoch AND stage = 'signed_in') AS sessions,
       operators.created_at, operators.epoch, signed_in.occurred_at AS last_signed_in_at, operators.totp_secret
  FROM operators
  LEFT JOIN LATERAL (
       SELECT occurred_at FROM audit_log
        WHERE subject = 'operator:' || operators.id AND outcome = 'done'
          AND action IN ('sign_in:code', 'sign_in:passkey', 'sign_in:recovery', 'operator:set_up')
        ORDER BY id DESC LIMIT 1
       ) AS signed_in ON true
"""
_LIST = text(f"{_VIEW} ORDER BY operators.email")
_ONE = text(f"{_VIEW} WHERE operators.id = :id")
