"""A form that was refused comes back as it was filled in, without its secrets, and says at which field and why."""

from __future__ import annotations

from flask import Response

from wallet_app.console import pages
from wallet_app.errors import ThrottledError, WalletServiceError


def again(template: str, error: WalletServiceError, /, *, field: str | None = None, **context: object) -> Response:
    """Return the form's page with the error. `field` is the id of the field it is about, if it is about one.

    That one has to wait is about none of them: it says nothing of what was entered.
    """
    is_throttled = isinstance(error, ThrottledError)
    about = None if is_throttled else field
    answer = pages.page(template, 429 if is_throttled else 422, error=error.detail, error_field=about, **context)
    if isinstance(error, ThrottledError):
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer
