"""Secrets that must be readable again, sealed with the key that lies outside of the database (WALLET_TOTP_KEY)."""

from __future__ import annotations

import hmac
import os
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wallet_app.config import ConfigurationError, current_settings

_FORMAT = b"\x01"
_NONCE_BYTES = 12


def seal(secret: bytes, *, about: str) -> bytes:
    """Return the secret encrypted with AES-256-GCM, readable only together with the same `about`."""
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(_key("sealing")).encrypt(nonce, secret, about.encode())


def unseal(sealed: bytes, *, about: str) -> bytes:
    """Return what was sealed; raise ConfigurationError if it was sealed with another key."""
    nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(_key("sealing")).decrypt(nonce, rest, about.encode())
    except InvalidTag:
        raise ConfigurationError(
            "WALLET_TOTP_KEY is not the key that the operators' secrets were sealed with: bring the old one back."
        ) from None


def signature(text: str, *, purpose: str) -> str:
    """Return what proves, for this purpose alone, that the text is from us."""
    return hmac.new(_key(purpose), text.encode(), sha256).hexdigest()


def _key(purpose: str) -> bytes:
    key = current_settings().totp_key
    if key is None:
        raise ConfigurationError("WALLET_TOTP_KEY is not set: the console's operators need it.")
    return hmac.new(key, f"dino-wallet {purpose}".encode(), sha256).digest()
