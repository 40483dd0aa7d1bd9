"""Signing in: each way to prove who one is, and the session that comes of it.

Every attempt is throttled before it is looked at, takes the same work whether the operator exists or not, and leaves a
record. At each step the session gets a new id, so that none that somebody knew before is worth more afterwards.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import NotSignedInError, SignInRefusedError
from wallet_app.service import audit, cleaning, devices, passkeys, passwords, second_factor, sessions, throttle
from wallet_app.service.sessions import Session, Visitor, act
from wallet_app.service.throttle import Bucket, address_bucket

_WRONG_PASSWORD = "The e-mail address or the password is wrong."  # noqa: S105
_WRONG_CODE = "The code is wrong, or it was used before. Wait for the next one."
_WRONG_RECOVERY_CODE = "The recovery code is wrong, or it was used before."
_WRONG_PASSKEY = "The passkey was not accepted. Try again, or use another way to sign in."
_WRONG_PROOF = "The password or the code is wrong, or the code was used before. Wait for the next one."


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a finished sign-in leaves in the browser: the session's cookie, and the one that makes the browser known."""

    cookie: str
    device: str


def sign_in_with_password(email: str, password: str, *, visitor: Visitor, instead_of: Session | None = None) -> str:
    """Return the cookie of a session that waits for the second factor.

    Raises SignInRefusedError, TooManyAttemptsError, OverloadedError.
    """
    email = email.strip().lower()
    found = _by_email(email)
    buckets = _buckets(f"password of {email}", None if found is None else found.id, visitor)
    throttle.take(buckets, act(None if found is None else found.id, "sign_in:password", visitor))
    # Who has not finished their set-up has no password yet: they come with their set-up code.
    is_ready = found is not None and found.disabled_at is None and found.totp_confirmed_at is not None
    is_right = passwords.matches(password, found.password_hash if found is not None and is_ready else None)
    if found is None or not is_right:
        raise _refused(None if found is None else found.id, "sign_in:password", visitor, _WRONG_PASSWORD)
    renewed = passwords.make_hash(password) if passwords.needs_new_hash(found.password_hash) else None
    with unit_of_work() as connection:
        if renewed is not None:
            connection.execute(_RENEW_HASH, {"id": found.id, "old": found.password_hash, "new": renewed})
        cookie = sessions.begin(
            connection,
            operator_id=found.id,
            epoch=found.epoch,
            stage="second_factor",
            visitor=visitor,
            instead_of=instead_of,
        )
        audit.record(connection, act(found.id, "sign_in:password", visitor))
        throttle.succeeded(connection, buckets)
    return cookie


def finish_with_code(session: Session, code: str, *, visitor: Visitor) -> SignedIn:
    """Sign the operator in by a code of their authenticator app.

    Raises SignInRefusedError, TooManyAttemptsError; NotSignedInError where another request was the first to do it.
    """
    _require_stage(session, "second_factor")
    buckets = _buckets(f"code of {session.operator_id}", session.operator_id, visitor)
    throttle.take(buckets, act(session.operator_id, "sign_in:code", visitor))
    with unit_of_work() as connection:
        if _accept_code(connection, session, code):
            return _finish(connection, session, buckets, "sign_in:code", visitor)
        # A code is good once. If its session has ended by it, nobody guessed: the form was sent twice.
        sessions.require_there(connection, session)
    raise _refused(session.operator_id, "sign_in:code", visitor, _WRONG_CODE)


def finish_with_recovery_code(session: Session, code: str, *, visitor: Visitor) -> SignedIn:
    """Sign the operator in by a recovery code. Raises as `finish_with_code`."""
    _require_stage(session, "second_factor")
    buckets = _buckets(f"code of {session.operator_id}", session.operator_id, visitor)
    throttle.take(buckets, act(session.operator_id, "sign_in:recovery", visitor))
    with unit_of_work() as connection:
        if second_factor.accept_recovery_code(connection, operator_id=session.operator_id, code=code):
            return _finish(connection, session, buckets, "sign_in:recovery", visitor)
        sessions.require_there(connection, session)
    raise _refused(session.operator_id, "sign_in:recovery", visitor, _WRONG_RECOVERY_CODE)


def sign_in_with_passkey(
    answer: str, *, cookie: str, origin: str, visitor: Visitor, instead_of: Session | None = None
) -> SignedIn:
    """Sign the operator in by a passkey alone: the authenticator has verified who holds it, so it is two factors.

    Raises SignInRefusedError, TooManyAttemptsError.
    """
    buckets = [address_bucket(visitor.address, purpose="passkey answer")]
    throttle.take(buckets, act(None, "sign_in:passkey", visitor))
    proven = passkeys.check_answer(answer, origin=origin)
    if proven is not None:
        with unit_of_work() as connection:
            if passkeys.use(connection, proven, purpose="sign_in", cookie=cookie):
                return _begin(connection, proven, buckets, visitor, instead_of)
    raise _refused(None if proven is None else proven.operator_id, "sign_in:passkey", visitor, _WRONG_PASSKEY)


def confirm_with_password(session: Session, password: str, code: str, *, visitor: Visitor) -> SignedIn:
    """Prove again who the signed-in operator is. Raises as `finish_with_code`, and OverloadedError."""
    _require_stage(session, "signed_in")
    buckets = _buckets(f"proof of {session.operator_id}", session.operator_id, visitor)
    throttle.take(buckets, act(session.operator_id, "sign_in:confirm", visitor))
    if passwords.matches(password, _password_hash(session.operator_id)):
        with unit_of_work() as connection:
            if _accept_code(connection, session, code):
                return _finish(connection, session, buckets, "sign_in:confirm", visitor)
            sessions.require_there(connection, session)
    raise _refused(session.operator_id, "sign_in:confirm", visitor, _WRONG_PROOF)


def confirm_with_passkey(session: Session, answer: str, *, cookie: str, origin: str, visitor: Visitor) -> SignedIn:
    """Prove again, by a passkey, who the signed-in operator is. Raises SignInRefusedError, TooManyAttemptsError."""
    _require_stage(session, "signed_in")
    buckets = _buckets(f"proof of {session.operator_id}", session.operator_id, visitor)
    throttle.take(buckets, act(session.operator_id, "sign_in:confirm", visitor))
    proven = passkeys.check_answer(answer, origin=origin)
    if proven is not None and proven.operator_id == session.operator_id:
        with unit_of_work() as connection:
            if passkeys.use(connection, proven, purpose="confirm", cookie=cookie):
                return _finish(connection, session, buckets, "sign_in:confirm", visitor)
    raise _refused(session.operator_id, "sign_in:confirm", visitor, _WRONG_PASSKEY)


def _accept_code(connection: Connection, session: Session, code: str) -> bool:
    sealed = connection.execute(_SECRET, {"id": session.operator_id}).scalar()
    return second_factor.accept_totp(connection, operator_id=session.operator_id, sealed=sealed, code=code)


def _finish(
    connection: Connection, session: Session, buckets: Collection[Bucket], action: str, visitor: Visitor
) -> SignedIn:
    """Begin the signed-in session instead of the one that was, in the caller's unit of work."""
    cookie = sessions.begin(
        connection,
        operator_id=session.operator_id,
        epoch=session.epoch,
        stage="signed_in",
        visitor=visitor,
        instead_of=session,
    )
    audit.record(connection, act(session.operator_id, action, visitor))
    second_factor.renew_seal(connection, session.operator_id)
    cleaning.clean(connection)
    throttle.succeeded(connection, buckets)
    return SignedIn(cookie, devices.make_device(session.operator_id, visitor.device))


def _begin(
    connection: Connection,
    proven: passkeys.Proven,
    buckets: Collection[Bucket],
    visitor: Visitor,
    instead_of: Session | None,
) -> SignedIn:
    cookie = sessions.begin(
        connection,
        operator_id=proven.operator_id,
        epoch=proven.epoch,
        stage="signed_in",
        visitor=visitor,
        instead_of=instead_of,
    )
    audit.record(connection, act(proven.operator_id, "sign_in:passkey", visitor))
    second_factor.renew_seal(connection, proven.operator_id)
    cleaning.clean(connection)
    throttle.succeeded(connection, buckets)
    return SignedIn(cookie, devices.make_device(proven.operator_id, visitor.device))


def _buckets(what: str, operator_id: int | None, visitor: Visitor) -> list[Bucket]:
    """Return what an attempt counts for: the operator's own browser, or else the account and the address."""
    browser = None if operator_id is None else devices.known_browser(visitor.device, operator_id)
    if browser is not None:
        return [Bucket(f"{what} in {browser}")]
    return [Bucket(what), address_bucket(visitor.address)]


def _refused(operator_id: int | None, action: str, visitor: Visitor, sentence: str) -> SignInRefusedError:
    audit.record_alone(act(operator_id, action, visitor, outcome="failed"))
    return SignInRefusedError(sentence)


def _require_stage(session: Session, stage: str) -> None:
    if session.stage != stage:
        raise NotSignedInError


@reads
def _by_email(connection: Connection, email: str) -> Row[Any] | None:
    return connection.execute(_OPERATOR, {"email": email}).first()


@reads
def _password_hash(connection: Connection, operator_id: int) -> str | None:
    return connection.execute(_PASSWORD, {"id": operator_id}).scalar()


_OPERATOR = text("""
SELECT id, epoch, password_hash, totp_confirmed_at, disabled_at FROM operators WHERE email = :email
""")
_PASSWORD = text("SELECT password_hash FROM operators WHERE id = :id")
_SECRET = text("SELECT totp_secret FROM operators WHERE id = :id AND totp_confirmed_at IS NOT NULL")
_RENEW_HASH = text("UPDATE operators SET password_hash = :new WHERE id = :id AND password_hash = :old")
