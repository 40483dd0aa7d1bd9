"""What an operator had entered into a form, sealed, so that their own browser can keep it while they sign in again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import orjson

from wallet_app.config import ConfigurationError
from wallet_app.service import sealing


def seal_draft(fields: Mapping[str, str], *, about: str) -> str:
    """Return the fields as a text for a cookie, readable for this service alone and together with the same `about`."""
    return base64.urlsafe_b64encode(sealing.seal(orjson.dumps(fields), about=f"draft {about}")).decode()


def open_draft(sealed: str, *, about: str) -> Mapping[str, str] | None:
    """Return the fields that were sealed about the same; None for what is no such text, or sealed with a lost key."""
    try:
        # Whoever can send a cookie can send anything: a short one has no version, a wrong one no right tag.
        return dict(orjson.loads(sealing.unseal(base64.urlsafe_b64decode(sealed.encode()), about=f"draft {about}")))
    except (binascii.Error, ValueError, IndexError, ConfigurationError):
        return None
