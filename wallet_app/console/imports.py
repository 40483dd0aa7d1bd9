"""Files that were imported at the command line: what came of each, and that somebody has looked at what went wrong."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, pages
from wallet_app.console.screens import screen
from wallet_app.fields import ID_MAX

STATES = {
    "running": ("Running", "neutral"),
    "completed": ("Completed", "good"),
    "stopped": ("Stopped", "warn"),
    "failed": ("Failed", "bad"),
    "silent": ("Broken off", "bad"),
}


@screen("GET", "/imports", permission="imports:review")
def imports() -> Response:
    """List the imports, newest first."""
    given = request.args.get("before", "")
    before = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
    page = service.list_imports(before_id=before)
    return pages.page(
        "imports.html",
        imports=page.items,
        states=STATES,
        next_url=None if page.following is None else f"/console/imports?before={page.following[0]}",
        first_url=None if before is None else "/console/imports",
    )


@screen("POST", "/imports/<int:import_id>/seen", permission="imports:review")
def see_import(import_id: int) -> Response:
    """Note that the operator has looked at it."""
    pages.read_form()
    if import_id > ID_MAX:
        raise NotFound
    service.see_import(browser.session(), import_id, visitor=browser.visitor())
    return pages.go("/console/imports", note="import-seen")
