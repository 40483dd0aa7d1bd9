"""The search: one field for names, ids, references and tickets; a single hit is gone to at once."""

from __future__ import annotations

from flask import Response, request
from pydantic_core import PydanticCustomError

from wallet_app import service, text
from wallet_app.console import browser, pages
from wallet_app.console.screens import screen
from wallet_app.service import SearchResult


@screen("GET", "/search", permission="account:own")
def search() -> Response:
    """Show what the text may mean, or go to it if it can only be one thing; each kind for who may read it."""
    session = browser.session()
    terms = [what for what, permission in service.search_terms() if session.may(permission)]
    asked = request.args.get("q", "").strip()
    if not asked:
        return pages.page("search.html", terms=terms, found=None)
    try:
        asked = text.clean(asked, low=1, high=service.SEARCH_CHARACTERS_MAX)
    except (ValueError, PydanticCustomError):
        most = service.SEARCH_CHARACTERS_MAX
        error = f"Search for 1 to {most} characters that can be typed."
        return pages.page("search.html", 422, terms=terms, found=None, error=error)
    found = service.search(asked, session=session)
    if found.count == 1 and (path := _only(found)):
        return pages.go(path)
    return pages.page("search.html", terms=terms, found=found, asked=asked, most=service.HITS_MAX)


def _only(found: SearchResult) -> str | None:
    """Return where the single hit is to be seen."""
    for user in found.users.items:
        return f"/console/users/{user.user_id}"
    for wallet in found.wallets.items:
        return f"/console/wallets/{wallet.wallet_id}"
    for transaction in found.transactions.items:
        return f"/console/transactions/{transaction.transaction_id}"
    for approval in found.requests.items:
        return f"/console/approvals/{approval.request_id}"
    for record in found.records.items:
        return f"/console/audit/{record.id}"
    for key in found.keys.items:
        return f"/console/keys/{key.key_id}"
    return None
