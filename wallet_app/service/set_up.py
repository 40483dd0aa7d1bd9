"""How an operator's sign-in comes to be: with a code that was handed to them, they choose a password and show that
their authenticator app works. Until then nobody can sign in with it, and afterwards the code is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import NotSignedInError, SignInRefusedError
from wallet_app.service import audit, devices, passwords, second_factor, sessions, throttle
from wallet_app.service.sessions import Session, Visitor, act
from wallet_app.service.throttle import Bucket, address_bucket

_WRONG = (
    "The e-mail address or the set-up code is wrong, or the code is used or too old. Ask an administrator for another."
)
_WRONG_CODE = "The code is wrong. See that your device's clock is right, and enter the code that the app shows now."


@dataclass(frozen=True, slots=True)
class AppSecret:
    """What an authenticator app needs: as text to type, and as the address that its QR code holds."""

    secret: str
    address: str


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a finished set-up leaves: the cookies of the browser, and the recovery codes, which are shown once."""

    cookie: str
    device: str
    recovery_codes: list[str]


def begin_set_up(email: str, code: str, password: str, *, visitor: Visitor) -> str:
    """Return the cookie of a session in which the operator connects their authenticator app.

    Raises SignInRefusedError, WeakPasswordError, OverloadedError; TooManyAttemptsError for a wrong code alone.
    """
    email = email.strip().lower()
    found = _find(email, second_factor.code_hash(code))
    if found is None:
        # Wrong ones alone are counted. Of 2^125 nobody guesses the right one, whether slowed down or not; but by wrong
        # ones anybody could make the new operator wait, who has no browser yet in which they are known.
        buckets = [Bucket(f"set-up of {email}"), address_bucket(visitor.address)]
        throttle.take(buckets, act(None, "operator:set_up", visitor))
        audit.record_alone(act(None, "operator:set_up", visitor, outcome="failed"))
        raise SignInRefusedError(_WRONG)
    passwords.require_strength(password, about=(email, found.name))
    password_hash = passwords.make_hash(password)
    secret = second_factor.seal_totp_secret(second_factor.make_totp_secret(), found.id)
    with unit_of_work() as connection:
        begun = {"id": found.id, "epoch": found.epoch, "password_hash": password_hash, "secret": secret}
        if not connection.execute(_BEGIN, begun).rowcount:
            raise SignInRefusedError(_WRONG)
        cookie = sessions.begin(
            connection, operator_id=found.id, epoch=found.epoch + 1, stage="set_up", visitor=visitor
        )
        audit.record(connection, act(found.id, "operator:begin_set_up", visitor))
    return cookie


def app_secret(session: Session) -> AppSecret:
    """Return what the operator's authenticator app is to be given. Raises NotSignedInError if that is done already."""
    if session.stage != "set_up":
        raise NotSignedInError
    secret = second_factor.unseal_totp_secret(_sealed(session.operator_id), session.operator_id)
    return AppSecret(secret, second_factor.totp_address(secret, session.email))


def finish_set_up(session: Session, code: str, *, visitor: Visitor) -> SetUp:
    """Sign the operator in, if the code shows that their app works.

    Raises NotSignedInError, SignInRefusedError, TooManyAttemptsError.
    """
    if session.stage != "set_up":
        raise NotSignedInError
    # For nobody else's attempts, and not for the address: the secret stands on this very page, so this is no guess.
    buckets = [Bucket(f"app of {session.operator_id}")]
    throttle.take(buckets, act(session.operator_id, "operator:set_up", visitor))
    sealed = _sealed(session.operator_id)
    with unit_of_work() as connection:
        if second_factor.accept_totp(connection, operator_id=session.operator_id, sealed=sealed, code=code):
            return _finish(connection, session, visitor, buckets)
    audit.record_alone(act(session.operator_id, "operator:set_up", visitor, outcome="failed"))
    raise SignInRefusedError(_WRONG_CODE)


def _finish(connection: Connection, session: Session, visitor: Visitor, buckets: list[Bucket]) -> SetUp:
    if not connection.execute(_FINISH, {"id": session.operator_id, "epoch": session.epoch}).rowcount:
        raise NotSignedInError
    codes = second_factor.make_recovery_codes(connection, session.operator_id)
    cookie = sessions.begin(
        connection,
        operator_id=session.operator_id,
        epoch=session.epoch,
        stage="signed_in",
        visitor=visitor,
        instead_of=session,
    )
    audit.record(connection, act(session.operator_id, "operator:set_up", visitor))
    throttle.succeeded(connection, buckets)
    return SetUp(cookie, devices.make_device(session.operator_id, visitor.device), codes)


@reads
def _find(connection: Connection, email: str, code_hash: bytes) -> Row[Any] | None:
    return connection.execute(_OPERATOR, {"email": email, "code_hash": code_hash}).first()


@reads
def _sealed(connection: Connection, operator_id: int) -> bytes:
    sealed: bytes | None = connection.execute(_SECRET, {"id": operator_id}).scalar()
    if sealed is None:
        raise NotSignedInError
    return sealed


_OPEN = """
       set_up_expires_at > clock_timestamp() AND disabled_at IS NULL
"""
_OPERATOR = text(f"""
SELECT id, name, epoch FROM operators WHERE email = :email AND set_up_hash = :code_hash AND {_OPEN}
""")  # noqa: S608 - a constant
# Raises the epoch, so that of two browsers that set the same operator up only the later one goes on.
_BEGIN = text(f"""
UPDATE operators
   SET password_hash = :password_hash, totp_secret = :secret, totp_confirmed_at = NULL, totp_step = NULL,
       epoch = epoch + 1
 WHERE id = :id AND epoch = :epoch AND set_up_hash IS NOT NULL AND {_OPEN}
""")  # noqa: S608 - a constant
_SECRET = text("SELECT totp_secret FROM operators WHERE id = :id AND totp_confirmed_at IS NULL")
_FINISH = text("""
UPDATE operators SET totp_confirmed_at = clock_timestamp(), set_up_hash = NULL, set_up_expires_at = NULL
 WHERE id = :id AND epoch = :epoch AND totp_confirmed_at IS NULL AND disabled_at IS NULL
""")
