"""Passkeys (WebAuthn): enrolled by a signed-in operator, and asked for something new each time.

A challenge is kept by its hash, bound to the browser that asked and to what it asked for, and answered once.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

import webauthn
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import IntegrityError
from webauthn.helpers import (
    options_to_json,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import PasskeyRefusedError
from wallet_app.service import audit, sessions, throttle
from wallet_app.service.sessions import Session, Visitor, act, hash_of

CHALLENGE_SECONDS_MAX = 300
PASSKEYS_MAX = 20
"""Of one operator."""

ANSWER_MAX = 16_384
"""Characters of what an authenticator may say."""

_RP_NAME = "Dino Wallet"


@dataclass(frozen=True, slots=True)
class PasskeyView:
    """A passkey as its operator sees it."""

    id: int
    name: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Proven:
    """A passkey whose holder has just signed `challenge`, which is still to be looked up."""

    passkey_id: int
    operator_id: int
    epoch: int
    sign_count: int
    challenge: bytes


def ask_to_sign_in(*, cookie: str, origin: str, visitor: Visitor) -> str:
    """Return, as JSON, what a browser asks any passkey of ours. Raises TooManyAttemptsError."""
    # Nobody is known yet, so what is stored here is bounded by address.
    bucket = throttle.address_bucket(visitor.address, purpose="passkey challenge")
    throttle.take([bucket], act(None, "sign_in:passkey", visitor))
    with unit_of_work() as connection:
        challenge = _make_challenge(connection, "sign_in", cookie)
    return _request(challenge, origin, [])


def ask_to_confirm(session: Session, *, cookie: str, origin: str) -> str:
    """Return, as JSON, what a browser asks the passkeys of the signed-in operator."""
    with unit_of_work() as connection:
        challenge = _make_challenge(connection, "confirm", cookie)
        known = _credentials(connection, session.operator_id)
    return _request(challenge, origin, known)


def ask_to_enrol(session: Session, *, cookie: str, origin: str) -> str:
    """Return, as JSON, what a browser asks an authenticator that is to make a passkey for the signed-in operator."""
    with unit_of_work() as connection:
        challenge = _make_challenge(connection, "enrol", cookie)
        known = _credentials(connection, session.operator_id)
        handle = connection.execute(_HANDLE, {"operator_id": session.operator_id}).scalar_one()
    options = webauthn.generate_registration_options(
        rp_id=_rp_id(origin),
        rp_name=_RP_NAME,
        user_name=session.email,
        user_id=handle.bytes,
        user_display_name=session.name,
        challenge=challenge,
        timeout=CHALLENGE_SECONDS_MAX * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=credential) for credential in known],
    )
    return options_to_json(options)


def enrol(session: Session, answer: str, *, name: str, cookie: str, origin: str, visitor: Visitor) -> None:
    """Keep the new passkey under the name that the operator gave it. Raises PasskeyRefusedError, NotSignedInError."""
    try:
        credential = parse_registration_credential_json(answer[:ANSWER_MAX])
        challenge = parse_client_data_json(credential.response.client_data_json).challenge
        verified = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=_rp_id(origin),
            expected_origin=origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, RecursionError):
        raise PasskeyRefusedError("The passkey could not be made. Try again, or use another device.") from None
    with unit_of_work() as connection:
        sessions.require_current(connection, session)
        if not _take_challenge(connection, challenge, "enrol", cookie):
            raise PasskeyRefusedError("It took too long to make the passkey. Try again.")
        if len(_credentials(connection, session.operator_id)) >= PASSKEYS_MAX:
            raise PasskeyRefusedError(f"You have {PASSKEYS_MAX} passkeys already: remove one that you do not use.")
        _add(connection, session, name, verified.credential_id, verified.credential_public_key, verified.sign_count)
        audit.record(connection, act(session.operator_id, "passkey:add", visitor, after={"name": name}))


def remove(session: Session, passkey_id: int, *, visitor: Visitor) -> None:
    """Remove a passkey of the signed-in operator, if it is one."""
    with unit_of_work() as connection:
        name = connection.execute(_REMOVE, {"id": passkey_id, "operator_id": session.operator_id}).scalar()
        if name is not None:
            audit.record(connection, act(session.operator_id, "passkey:remove", visitor, before={"name": name}))


@reads
def list_passkeys(connection: Connection, session: Session) -> Sequence[PasskeyView]:
    """Return the signed-in operator's passkeys, the newest first."""
    rows = connection.execute(_LIST, {"operator_id": session.operator_id})
    return [PasskeyView(row.id, row.name, row.created_at, row.last_used_at) for row in rows]


def check_answer(answer: str, *, origin: str) -> Proven | None:
    """Return whose passkey signed the answer, if it is one of an operator's who may sign in; changes nothing."""
    try:
        credential = parse_authentication_credential_json(answer[:ANSWER_MAX])
        challenge = parse_client_data_json(credential.response.client_data_json).challenge
        row = _by_credential(credential.raw_id)
        if row is None or credential.response.user_handle not in {None, row.handle.bytes}:
            return None
        verified = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=_rp_id(origin),
            expected_origin=origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, RecursionError):
        return None
    return Proven(row.id, row.operator_id, row.epoch, verified.new_sign_count, challenge)


def use(connection: Connection, proven: Proven, *, purpose: str, cookie: str) -> bool:
    """Tell whether this browser was asked that for this, and let it count once, in the caller's unit of work."""
    if not _take_challenge(connection, proven.challenge, purpose, cookie):
        return False
    used = connection.execute(_USED, {"id": proven.passkey_id, "sign_count": proven.sign_count})
    return bool(used.rowcount)  # It may have been removed meanwhile.


def _make_challenge(connection: Connection, purpose: str, cookie: str) -> bytes:
    challenge = secrets.token_bytes(32)
    connection.execute(
        _ASK,
        {
            "challenge_hash": sha256(challenge).digest(),
            "cookie_hash": hash_of(cookie),
            "purpose": purpose,
            "seconds": CHALLENGE_SECONDS_MAX,
        },
    )
    return challenge


def _take_challenge(connection: Connection, challenge: bytes, purpose: str, cookie: str) -> bool:
    asked = {
        "challenge_hash": sha256(challenge).digest(),
        "cookie_hash": hash_of(cookie),
        "purpose": purpose,
    }
    return bool(connection.execute(_ANSWER, asked).rowcount)


def _request(challenge: bytes, origin: str, known: Sequence[bytes]) -> str:
    options = webauthn.generate_authentication_options(
        rp_id=_rp_id(origin),
        challenge=challenge,
        timeout=CHALLENGE_SECONDS_MAX * 1000,
        allow_credentials=[PublicKeyCredentialDescriptor(id=credential) for credential in known] or None,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json(options)


def _rp_id(origin: str) -> str:
    """Return the name that passkeys are bound to: the console's host."""
    return urlsplit(origin).hostname or "localhost"


def _credentials(connection: Connection, operator_id: int) -> list[bytes]:
    return list(connection.execute(_CREDENTIALS, {"operator_id": operator_id}).scalars())


def _add(
    connection: Connection, session: Session, name: str, credential_id: bytes, public_key: bytes, sign_count: int
) -> None:
    try:
        connection.execute(
            _ADD,
            {
                "operator_id": session.operator_id,
                "credential_id": credential_id,
                "public_key": public_key,
                "sign_count": sign_count,
                "name": name,
            },
        )
    except IntegrityError as exc:
        raise PasskeyRefusedError("This passkey is known already.") from exc


@reads
def _by_credential(connection: Connection, credential_id: bytes) -> Row[tuple[object, ...]] | None:
    return connection.execute(_FIND, {"credential_id": credential_id}).first()


_ASK = text("""
INSERT INTO passkey_challenges (challenge_hash, cookie_hash, purpose, expires_at)
VALUES (:challenge_hash, :cookie_hash, :purpose, clock_timestamp() + make_interval(secs => :seconds))
""")
_ANSWER = text("""
DELETE FROM passkey_challenges
 WHERE challenge_hash = :challenge_hash AND cookie_hash = :cookie_hash AND purpose = :purpose
   AND expires_at > clock_timestamp()
""")
_ADD = text("""
INSERT INTO passkeys (operator_id, credential_id, public_key, sign_count, name)
VALUES (:operator_id, :credential_id, :public_key, :sign_count, :name)
""")
_USED = text("UPDATE passkeys SET sign_count = :sign_count, last_used_at = clock_timestamp() WHERE id = :id")
_REMOVE = text("DELETE FROM passkeys WHERE id = :id AND operator_id = :operator_id RETURNING name")
_LIST = text("""
SELECT id, name, created_at, last_used_at FROM passkeys WHERE operator_id = :operator_id ORDER BY id DESC
""")
_CREDENTIALS = text("SELECT credential_id FROM passkeys WHERE operator_id = :operator_id ORDER BY id")
_HANDLE = text("SELECT handle FROM operators WHERE id = :operator_id")
_FIND = text("""
SELECT passkeys.id, passkeys.operator_id, passkeys.public_key, passkeys.sign_count, operators.epoch, operators.handle
  FROM passkeys
  JOIN operators ON operators.id = passkeys.operator_id
 WHERE passkeys.credential_id = :credential_id AND operators.disabled_at IS NULL
   AND operators.totp_confirmed_at IS NOT NULL
""")
