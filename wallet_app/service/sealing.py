"""Secrets that must be readable again, sealed with the key that lies outside of the database (WALLET_TOTP_KEY).

While that key changes there are several. What is sealed names the version of its key; the newest seals and signs, and
what an older one sealed or signed is still read.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wallet_app.config import ConfigurationError, current_settings

_FIRST_FORMAT = 1
"""The format, the nonce, and what is sealed with version 1 of the key: from when there was but one."""
_FORMAT = 2
"""The format, the key's version in two bytes, the nonce, and what is sealed."""
_NONCE_BYTES = 12


def seal(secret: bytes, *, about: str) -> bytes:
    """Return the secret encrypted with AES-256-GCM, readable only together with the same `about`."""
    version, nonce = newest_version(), os.urandom(_NONCE_BYTES)
    head = bytes([_FORMAT]) + version.to_bytes(2, "big")
    return head + nonce + AESGCM(_key(version, "sealing")).encrypt(nonce, secret, about.encode())


def unseal(sealed: bytes, *, about: str) -> bytes:
    """Return what was sealed; raise ConfigurationError if the key that it was sealed with is not there."""
    version = version_of(sealed)
    rest = sealed[1:] if sealed[0] == _FIRST_FORMAT else sealed[3:]
    if version not in _all_keys():
        raise ConfigurationError(
            f"WALLET_TOTP_KEY has no version {version}, which an operator's secret was sealed with: bring it back."
        )
    try:
        return AESGCM(_key(version, "sealing")).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], about.encode())
    except InvalidTag:
        raise ConfigurationError(
            f"Version {version} of WALLET_TOTP_KEY is not the key that the operators' secrets were sealed with: "
            "bring the old one back."
        ) from None


def version_of(sealed: bytes) -> int:
    """Return which version of the key it was sealed with."""
    return 1 if sealed[0] == _FIRST_FORMAT else int.from_bytes(sealed[1:3], "big")


def newest_version() -> int:
    """Return the version of the key that seals and signs."""
    return current_settings().totp_key_version


def signature(text: str, *, purpose: str) -> str:
    """Return what proves, for this purpose alone, that the text is from us."""
    return _signature(newest_version(), text, purpose)


def is_signed(text: str, signed: str, *, purpose: str) -> bool:
    """Tell whether it is the text's signature, by any of the keys."""
    # All of them, so that the time does not tell which one it was.
    found = [hmac.compare_digest(_signature(version, text, purpose), signed) for version in _all_keys()]
    return any(found)


def derived(text: str, *, purpose: str) -> bytes:
    """Return 32 bytes that are always the same for this text and purpose, and that nobody without the key can tell."""
    return hmac.digest(_key(newest_version(), purpose), text.encode(), "sha256")


def _signature(version: int, text: str, purpose: str) -> str:
    return hmac.new(_key(version, purpose), text.encode(), sha256).hexdigest()


def _key(version: int, purpose: str) -> bytes:
    return hmac.new(_all_keys()[version], f"dino-wallet {purpose}".encode(), sha256).digest()


def _all_keys() -> Mapping[int, bytes]:
    settings = current_settings()
    if settings.totp_key is None:
        raise ConfigurationError("WALLET_TOTP_KEY is not set: the console's operators need it.")
    return {settings.totp_key_version: settings.totp_key, **settings.totp_keys_before}
