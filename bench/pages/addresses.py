"""Every address that is asked for: each route that is read, and lists narrowed in the ways that cost most.

A route whose parameters are not known here has no address, and is told as such: so a new page cannot be forgotten.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import NamedTuple

from flask import Flask

from bench.pages.content import Content
from bench.pages.visitors import KEY, NOBODY, STAGES
from wallet_app import service
from wallet_app.console.screens import ANYONE, SCREENS

DOCUMENTS = {"/openapi.json", "/docs", "/metrics", "/health"}
"""No pages and no lists."""

_PARAMETER = re.compile(r"<(?:[^:<>]+:)?(\w+)>")

_NEEDED = {"/users": "?externalId=bench:77", "/console/assets/<code>/limits/set": "?for=asset"}
"""What a route is asked, by its rule, that answers nothing else."""


class Page(NamedTuple):
    """An address with the rule of its route, and who asks for it, in turns. A file is sent row by row."""

    rule: str
    address: str
    who: tuple[str, ...]
    is_file: bool = False


def all_pages(app: Flask, content: Content) -> tuple[list[Page], list[str]]:
    """Return all addresses, and the routes that have none."""
    pages, left = [], []
    for route in app.url_map.iter_rules():
        if "GET" not in (route.methods or set()) or route.endpoint == "static" or route.rule in DOCUMENTS:
            continue
        rule = route.rule.replace("(min=1)", "")
        found = list(_pages_of(route.endpoint, rule, content))
        pages += found
        left += [] if found else [rule]
    return sorted(pages, key=lambda page: page.address), left


def _pages_of(endpoint: str, rule: str, content: Content) -> Iterator[Page]:
    is_file = "any(csv,json)" in rule or rule.endswith(".csv")
    who = _who(endpoint)
    path = _filled(rule, content)
    if path is None:
        return
    # Of all transactions, a file has those of a day: it takes as long as it has rows.
    is_all = is_file and rule.startswith("/console/transactions")
    query = f"?from={content.began_at + dt.timedelta(days=7):%Y-%m-%d}" if is_all else _NEEDED.get(rule, "")
    yield Page(rule, path + query, who, is_file)
    for query in () if is_file else _queries(content).get(rule, ()):
        yield Page(rule, path + query, who)
    if rule == "/console/wallets/<int:wallet_id>":
        yield Page(rule, f"/console/wallets/{content.owing_id}", who)
    if rule == "/console/bulk/<int:run_id>":
        yield Page(rule, f"/console/bulk/{content.draft_id}", who)


def _who(endpoint: str) -> tuple[str, ...]:
    declared = SCREENS.get(endpoint)
    if declared is None:
        return (KEY,)
    if declared.permission == ANYONE:
        return (NOBODY,)
    stages = {
        f"at {'the second factor' if stage == 'second_factor' else 'set-up'}": who for who, stage in STAGES.items()
    }
    if declared.permission in stages:
        return (stages[declared.permission],)
    return tuple(role for role, granted in service.ROLES.items() if declared.permission in granted)


def _filled(rule: str, content: Content) -> str | None:
    """Return the path with something of each kind in it; None if there is a kind that is not known."""
    known = {
        # Days are shown of the system's own wallets.
        "wallet_id": content.system_id if "/days" in rule else content.wallet_id,
        "user_id": content.user_id,
        "transaction_id": content.transaction_id,
        "hold_id": content.hold_id,
        "lot_id": content.lot_id,
        "request_id": content.request_id,
        "run_id": content.verification_id if "/integrity/" in rule else content.bulk_id,
        "record_id": content.record_id,
        "switch_id": content.switch_id,
        "operator_id": content.operator_id,
        "key_id": content.key_id,
        "asset_code": "GOLD",
        "day": f"{content.began_at + dt.timedelta(days=2):%Y-%m-%d}",
        "code": "CORRECTION" if "/reasons/" in rule else "GOLD",
        "form": "csv",
    }
    if any(name not in known for name in _PARAMETER.findall(rule)):
        return None
    return _PARAMETER.sub(lambda found: str(known[found[1]]), rule)


def _queries(content: Content) -> dict[str, tuple[str, ...]]:
    """Return what lists are narrowed to: what nearly nothing passes, what nearly everything does, and deep places."""
    at = content.began_at + dt.timedelta(days=2)
    day = f"{at:%Y-%m-%d}"
    return {
        **_queries_of_wallets(content, day),
        **_queries_of_everything(content, day),
        **_queries_of_programs(content, f"{at:%Y-%m-%dT%H:%M:%SZ}"),
    }


def _queries_of_wallets(content: Content, day: str) -> dict[str, tuple[str, ...]]:
    """Return those of the console's pages about some wallets."""
    return {
        "/console/search": (
            "?q=bench",
            "?q=Bench 77",
            "?q=grown-7",
            f"?q={content.transaction_id}",
            "?q=nothing at all",
        ),
        "/console/wallets/<int:wallet_id>": (
            "?kind=FREEZE",
            "?reference=grown-77",
            f"?from={day}&to={day}",
            "?least=5000",
        ),
        "/console/wallets/<int:wallet_id>/explain": (f"?from={day}",),
        "/console/wallets/<int:wallet_id>/statement": (f"?from={day}&to={day}", "?from=2020-01-01"),
    }


def _queries_of_everything(content: Content, day: str) -> dict[str, tuple[str, ...]]:
    """Return those of the console's pages about all wallets, and about what operators do."""
    return {
        "/console": ("?days=90",),
        "/console/transactions": (
            "?kind=FREEZE",
            "?reference=grown-7",
            f"?actor=nobody&from={day}",
            f"?wallet={content.wallet_id}&kind=FREEZE",
            f"?least=5000&from={day}&to={day}",
        ),
        "/console/audit": (
            "?actor=operator:7",
            "?action=key",
            "?action=sign_in:code",
            "?outcome=failed",
            "?subject=wallet:7",
            "?ticket=T-7",
            f"?to={day}",
        ),
        "/console/assets/<code>/limits/set": (f"?for=wallet&wallet={content.wallet_id}",),
        "/console/approvals": (
            "?status=all",
            "?status=rejected",
            "?maker=me&status=all",
            "?status=failed",
            "?ticket=T-7",
        ),
        "/console/bulk/<int:run_id>": ("?status=done", "?status=failed", "?status=expected"),
    }


def _queries_of_programs(content: Content, instant: str) -> dict[str, tuple[str, ...]]:
    """Return those of the API's lists."""
    return {
        "/wallets/<wallet_id>/entries": (
            "?limit=100",
            "?type=BONUS",
            f"?from={instant}&limit=100",
            "?reference=grown-77",
        ),
        "/wallets/<wallet_id>/balance": (f"?at={instant}",),
        "/transactions": (
            "?limit=100",
            "?reference=grown-7",
            "?kind=FREEZE",
            f"?walletId={content.wallet_id}&kind=FREEZE",
        ),
        "/wallets": ("?limit=100", "?asset=GOLD&limit=100", f"?userId={content.user_id}"),
    }
