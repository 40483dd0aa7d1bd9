"""One-time keys of the console's forms: each becomes the reference of what its form asks for, so that it is done once.

A key is made when a form is shown, for one operator and one act on one thing; nothing is stored. Whoever sends the form
twice, by a double click, a reload or the back button, asks for the same thing under the same reference.
"""

from __future__ import annotations

import re
import secrets
import uuid
from typing import NamedTuple

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import FormKeyError
from wallet_app.service import sealing
from wallet_app.service.commands import SYSTEM_REFERENCE
from wallet_app.service.sessions import Session

_PURPOSE = "form key"
_KEY = re.compile(r"(?P<key>[A-Za-z0-9_-]{22})\.(?P<proof>[0-9a-f]{64})")


def new_form_key() -> str:
    """Return a form's one-time key: the reference of what is done with it, so that it is done once."""
    return secrets.token_urlsafe(16)


def sign_form_key(session: Session, act: str) -> str:
    """Return a new key for the operator's form, with what proves it ours; `act` is like `freeze wallet:3`."""
    key = new_form_key()
    return f"{key}.{sealing.signature(_text(session, act, key), purpose=_PURPOSE)}"


def read_form_key(session: Session, act: str, given: str) -> str:
    """Return the key without its proof; raise FormKeyError unless it was made for this operator and this act."""
    found = _KEY.fullmatch(given)
    if found is None or not sealing.is_signed(_text(session, act, found["key"]), found["proof"], purpose=_PURPOSE):
        raise FormKeyError
    return found["key"]


class Sent(NamedTuple):
    """What came of a form that was sent before: it was done, or it was asked for."""

    transaction_id: uuid.UUID | None
    request_id: int | None


@reads
def find_sent(connection: Connection, *, wallet_id: int, key: str) -> Sent | None:
    """Return what came of the form whose act has this wallet as its anchor; None if it was not sent."""
    row = connection.execute(
        _SENT, {"wallet_id": wallet_id, "reference": f"{SYSTEM_REFERENCE}form:{key}", "key": key}
    ).one()
    found = Sent(*row)
    return found if any(found) else None


def _text(session: Session, act: str, key: str) -> str:
    # Of the operator and not of the session: who signs in again while a form is open goes on with it.
    return f"{session.operator_id} {act} {key}"


_SENT = text("""
SELECT (SELECT transaction_id FROM transactions WHERE wallet_id = :wallet_id AND reference_id = :reference),
       (SELECT id FROM approval_requests WHERE form_key = :key)
""")
