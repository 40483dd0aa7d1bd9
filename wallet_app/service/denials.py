"""What credentials were denied, for the audit log: each once a minute, so a storm of refusals is no storm of writes."""

from __future__ import annotations

import time
from collections.abc import Hashable

import structlog
from sqlalchemy import Engine

from wallet_app.db import unit_of_work
from wallet_app.errors import ForbiddenError
from wallet_app.service import audit
from wallet_app.service.audit import Act, By
from wallet_app.service.callers import Actor

log = structlog.get_logger("wallet")

_SELDOM_SECONDS = 60.0


class Denials:
    """Records what this process denies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seldom = Seldom(things_max=1_000)

    def note(self, actor: Actor, error: ForbiddenError, *, request_id: str, address: str) -> None:
        """Record what the actor was denied; the same at most once a minute, and never an error."""
        what = str(error.details.get("scope") or error.details.get("asset") or error.details.get("limit") or "")
        if not self._seldom.is_due((actor.id, error.code, what)):
            return
        by = By(actor=actor.id, reason=error.detail, request_id=request_id, address=address)
        try:
            with unit_of_work(self._engine) as connection:
                act = Act(by=by, action=f"access:{error.code}", subject=f"client:{actor.client}", outcome="denied")
                audit.record(connection, act)
        except Exception as fault:
            log.error("denial_not_recorded", actor=actor.id, code=error.code, error=type(fault).__name__)


class Seldom:
    """Lets each thing happen once a minute, and not more than so many things."""

    def __init__(self, *, things_max: int) -> None:
        self._things_max = things_max
        self._since = 0.0
        self._seen: set[Hashable] = set()

    def is_due(self, thing: Hashable) -> bool:
        """Tell whether it may happen now, and count it as happened if so."""
        now = time.monotonic()
        if now - self._since > _SELDOM_SECONDS:
            self._since, self._seen = now, set()
        if thing in self._seen or len(self._seen) >= self._things_max:
            return False
        self._seen.add(thing)
        return True
