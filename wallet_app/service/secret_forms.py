"""Forms of the console that make a secret: sent once more, by a second click or a reload, they tell the same one.

The secret is derived from the form's key, which is new in each form that is shown and is stored nowhere, and from a
key of ours. So it need not be kept to be shown to whoever clicked twice, and who has only one of the two has nothing.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from wallet_app.errors import FormOutOfDateError
from wallet_app.service import sealing
from wallet_app.service.sessions import Session

FORM_SECONDS_MAX = 15 * 60
"""How long after it was made a secret is shown again to who sends the same form."""

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Form:
    """A form as the session's operator sent it; raises FormOutOfDateError for a key that none of ours has."""

    session: Session
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if _KEY.fullmatch(self.key) is None:
            raise FormOutOfDateError

    def material(self, purpose: str) -> bytes:
        """Return 32 bytes to make the secret from: always the same for this operator, form and purpose."""
        return sealing.derived(f"{self.session.operator_id} {self.key}", purpose=f"form: {purpose}")


def make_secret_form_key() -> str:
    """Return the key of a form that is about to be shown."""
    return secrets.token_urlsafe(32)
