"""What stands around the service: migrations, CORS and the rate limit, bound to the application in one place."""

from __future__ import annotations

import math
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import cast

import structlog
from flask import Flask, Request, Response, g
from flask_cors import CORS
from flask_migrate import Migrate
from limits import RateLimitItem, parse_many
from limits.storage import Storage, storage_from_string
from werkzeug.exceptions import TooManyRequests

from wallet_app.config import Settings
from wallet_app.db import db
from wallet_app.service import Actor

log = structlog.get_logger("wallet")

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

migrate = Migrate()  # type: ignore[no-untyped-call]


def init_app(app: Flask) -> None:
    """Bind the extensions to the application."""
    settings: Settings = app.extensions["wallet_settings"]
    migrate.init_app(app, db, directory=str(MIGRATIONS))  # type: ignore[no-untyped-call]
    _limit_requests(app, settings)
    if settings.cors_origins:
        CORS(
            app,
            # As patterns, because it takes an origin with brackets in it, like http://[::1], for one anyway.
            origins=[re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins],
            always_send=False,
            methods=["GET", "HEAD", "POST"],
            allow_headers=["Content-Type", "Authorization", "Idempotency-Key", "If-Match", "X-Request-Id"],
            expose_headers=[
                "X-Request-Id",
                "Idempotent-Replayed",
                "ETag",
                "Retry-After",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
            ],
            max_age=600,
        )


def _limit_requests(app: Flask, settings: Settings) -> None:
    """Give each key one budget for the whole API, not one per route; who has none shares that of the address.

    A user has what an address has, with all tokens of a client, so that one player does not use up a whole game's. An
    operator has a budget of their own, because all of an office may share one address.

    The guard calls `app.extensions["wallet_limit"]` once it knows who asks, and before it refuses anybody; so does the
    console, once it has looked for the session.

    By the `limits` library itself and not Flask-Limiter, which takes longer, counts for all applications of a process
    together, and puts Retry-After on every answer. Fixed windows, counted with one call to the storage each.
    """
    budgets_of = lru_cache(maxsize=1_000)(_budgets)
    storage = cast(Storage, storage_from_string(settings.rate_limit_storage))

    def take(asked: Request, caller: Actor) -> None:
        if caller.kind == "anonymous":
            # A probe must not be told that a service is sick because it was asked often; a preflight asks for nothing.
            if asked.endpoint in {"health", "static"} or asked.method == "OPTIONS":
                return
            client, budgets = asked.remote_addr or "unknown", budgets_of(settings.rate_limit)
        elif caller.kind == "user":
            client, budgets = f"{caller.client}/{caller.id}", budgets_of(settings.rate_limit)
        elif caller.kind == "operator":
            client, budgets = caller.id, budgets_of(settings.rate_limit_operator)
        else:
            client, budgets = caller.id, budgets_of(caller.rate_limit or settings.rate_limit_key)
        if not budgets:
            return
        try:
            states = [_count(storage, budget, client) for budget in budgets]
        except Exception as error:
            # Refusing everybody because the counter is away would be worse than counting nobody for a while.
            log.error("rate_limit_unavailable", exc_info=error)
            return
        refused = [state for state in states if state[1] < 0]
        budget, left, reset = min(refused or states, key=lambda state: (max(state[1], 0), -state[2]))
        seconds = max(1, math.ceil(reset - time.time()))
        g.rate_limit = (budget, max(left, 0), seconds)
        if refused:
            raise TooManyRequests(_in_words(budget), retry_after=seconds)

    def tell(response: Response) -> Response:
        if (state := g.get("rate_limit")) is not None:
            budget, remaining, seconds = state
            headers = response.headers
            headers["RateLimit-Limit"] = str(budget.amount)
            headers["RateLimit-Remaining"] = str(remaining)
            headers["RateLimit-Reset"] = str(seconds)
            if response.status_code == TooManyRequests.code:
                # Unless something else was asked too often, like a password, and says itself how long to wait.
                headers.setdefault("Retry-After", str(seconds))
        return response

    app.extensions["wallet_limit"] = take
    app.after_request(tell)


def _budgets(limit: str) -> list[RateLimitItem]:
    return parse_many(limit) if limit else []


def _count(storage: Storage, budget: RateLimitItem, client: str) -> tuple[RateLimitItem, int, float]:
    """Count a request; return what is left after it (below 0 if it is one too many) and when the window ends."""
    key = budget.key_for(client)
    count = storage.incr(key, budget.get_expiry())
    return budget, budget.amount - count, storage.get_expiry(key)


def _in_words(budget: RateLimitItem) -> str:
    every = f"{budget.multiples} {budget.GRANULARITY.name}s" if budget.multiples > 1 else budget.GRANULARITY.name
    return f"{budget.amount} requests per {every}"
