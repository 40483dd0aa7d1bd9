"""The second factor: codes of an authenticator app, each good once, and recovery codes for whoever lost it."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from contextlib import suppress
from hashlib import sha256

import pyotp
from sqlalchemy import Connection, text

from wallet_app.config import ConfigurationError
from wallet_app.service import sealing

ISSUER = "Dino Wallet"
RECOVERY_CODES = 10
STEP_SECONDS = 30
_STEPS_ASIDE = 1
"""Half minutes by which the operator's clock may be off."""

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""32 of them, without those that look like others."""
_GROUPS, _GROUP = 5, 5


def make_totp_secret() -> str:
    """Return a new secret of 160 bits, as authenticator apps take it."""
    return pyotp.random_base32()


def seal_totp_secret(secret: str, operator_id: int) -> bytes:
    """Return the secret as it is stored."""
    return sealing.seal(secret.encode(), about=f"totp {operator_id}")


def unseal_totp_secret(sealed: bytes, operator_id: int) -> str:
    """Return the secret that was stored."""
    return sealing.unseal(sealed, about=f"totp {operator_id}").decode()


def renew_seal(connection: Connection, operator_id: int) -> None:
    """Seal the operator's secret with the newest key, if an older one did; in the caller's unit of work.

    A secret whose key is not there stays as it is: whoever signs in without it must not be kept out by that.
    """
    sealed: bytes | None = connection.execute(_SEALED, {"operator_id": operator_id}).scalar()
    if sealed is None or not has_old_seal(sealed):
        return
    with suppress(ConfigurationError):
        renewed = seal_totp_secret(unseal_totp_secret(sealed, operator_id), operator_id)
        connection.execute(_RENEW_SEAL, {"operator_id": operator_id, "old": sealed, "new": renewed})


def has_old_seal(sealed: bytes | None) -> bool:
    """Tell whether a secret, if there is one, was sealed with another key than the newest."""
    return sealed is not None and sealing.version_of(sealed) != sealing.newest_version()


def totp_address(secret: str, email: str) -> str:
    """Return the otpauth:// address that an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def totp_code(secret: str) -> str:
    """Return the code that an authenticator app shows now."""
    return pyotp.TOTP(secret).now()


def accept_totp(connection: Connection, *, operator_id: int, sealed: bytes | None, code: str) -> bool:
    """Tell whether the code is one of now, and not of a half minute whose code, or a later one's, was accepted before.

    In the caller's unit of work, which locks the operator's row if it is.
    """
    step = None if sealed is None else _step_of(unseal_totp_secret(sealed, operator_id), code)
    if step is None:
        return False
    return bool(connection.execute(_ACCEPT, {"operator_id": operator_id, "step": step}).rowcount)


def make_code(material: bytes | None = None) -> str:
    """Return a code of 125 random bits, in groups that can be read and typed; the same for the same `material`.

    `material` is at least 16 bytes that nobody can guess.
    """
    number = secrets.randbits(128) if material is None else int.from_bytes(material, "big")
    letters = "".join(_LETTERS[number >> 5 * at & 31] for at in range(_GROUPS * _GROUP))
    return "-".join(letters[start : start + _GROUP] for start in range(0, len(letters), _GROUP))


def code_hash(code: str) -> bytes:
    """Return what is stored of a code, however it was typed."""
    return sha256(re.sub(r"[\s-]", "", code).upper().encode()).digest()


def make_recovery_codes(connection: Connection, operator_id: int) -> list[str]:
    """Give the operator new recovery codes instead of the ones they have, and return them; they are not kept."""
    codes = [make_code() for _ in range(RECOVERY_CODES)]
    connection.execute(_DROP_CODES, {"operator_id": operator_id})
    connection.execute(_ADD_CODES, [{"hash": code_hash(code), "operator_id": operator_id} for code in codes])
    return codes


def accept_recovery_code(connection: Connection, *, operator_id: int, code: str) -> bool:
    """Tell whether the code is one of the operator's that was not used, and use it up in the caller's unit of work."""
    return bool(connection.execute(_USE_CODE, {"hash": code_hash(code), "operator_id": operator_id}).rowcount)


def _step_of(secret: str, code: str) -> int | None:
    digits = re.sub(r"\s", "", code)
    if re.fullmatch(r"[0-9]{6}", digits) is None:
        return None
    totp, now = pyotp.TOTP(secret), int(time.time()) // STEP_SECONDS
    steps = range(now - _STEPS_ASIDE, now + _STEPS_ASIDE + 1)
    # All of them, so that the time does not tell which one it was.
    matching = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), digits)]
    return max(matching, default=None)


_ACCEPT = text("""
UPDATE operators SET totp_step = :step WHERE id = :operator_id AND coalesce(totp_step < :step, true)
""")
_SEALED = text("SELECT totp_secret FROM operators WHERE id = :operator_id")
_RENEW_SEAL = text("UPDATE operators SET totp_secret = :new WHERE id = :operator_id AND totp_secret = :old")
_DROP_CODES = text("DELETE FROM recovery_codes WHERE operator_id = :operator_id")
_ADD_CODES = text("INSERT INTO recovery_codes (code_hash, operator_id) VALUES (:hash, :operator_id)")
_USE_CODE = text("""
UPDATE recovery_codes SET used_at = clock_timestamp()
 WHERE code_hash = :hash AND operator_id = :operator_id AND used_at IS NULL
""")
