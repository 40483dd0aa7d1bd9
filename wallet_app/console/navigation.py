"""The console's menu, said once: in this order, as far as there is such a screen and the operator may open it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from wallet_app.console.screens import SCREENS
from wallet_app.service import Session


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the menu; who may open its path is what the screen there declares."""

    path: str
    label: str


LINES = (
    Line("/console", "Home"),
    Line("/console/transactions", "Transactions"),
    Line("/console/approvals", "Approvals"),
    Line("/console/bulk", "Bulk runs"),
    Line("/console/reports", "Reports"),
    Line("/console/integrity", "Integrity"),
    Line("/console/imports", "Imports"),
    Line("/console/audit", "Audit"),
    Line("/console/assets", "Assets"),
    Line("/console/switches", "Stop switches"),
    Line("/console/reasons", "Reason codes"),
    Line("/console/operators", "Operators"),
    Line("/console/keys", "API keys"),
    Line("/console/settings", "Settings"),
)


def lines_for(session: Session) -> list[Line]:
    """Return the lines that the operator may open."""
    return [line for line in LINES if may_open(session, line.path)]


def may_open(session: Session, path: str) -> bool:
    """Tell whether there is a page at the path, whatever its ids are, and the operator's role may read it."""
    permission = _permission_of(path)
    return permission is not None and session.may(permission)


def current(path: str) -> str | None:
    """Return the path of the line that a page belongs to: the longest that it begins with."""
    found = [line.path for line in LINES if path == line.path or path.startswith(f"{line.path}/")]
    longest = max(found, key=len, default=None)
    return None if longest == "/console" and path != longest else longest


def _permission_of(path: str) -> str | None:
    return next((permission for pattern, permission in _pages() if pattern.fullmatch(path)), None)


@cache
def _pages() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return what each page's path looks like, and who may open it; once all screens are declared."""
    return tuple(
        (re.compile(re.sub(r"<[^>]+>", "[^/.]+", re.escape(each.path))), each.permission)
        for each in SCREENS.values()
        if each.method == "GET"
    )
