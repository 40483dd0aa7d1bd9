"""What is verified when a test is over: as much of the books and of the audit log as the test may have changed.

A verification reads nothing but rows. So of tables that are as they were it would say what it said of the template.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app import service
from wallet_app.db import close_connections, db
from wallet_app.service.audit import extend_chain
from wallet_app.service.chain import GENESIS
from wallet_app.service.verification.audit import AUDIT_INVARIANTS, last_seq

NOT_LOOKED_AT = frozenset({
    "public.api_keys", "public.clients", "public.operators", "public.passkey_challenges", "public.passkeys",
    "public.recovery_codes", "public.sessions", "public.sign_in_attempts", "public.worker_heartbeats",
})  # fmt: skip
"""Tables that no invariant is about. A new table is none of them until it is named here."""
AUDIT = frozenset({"public.audit_log", "public.audit_chain"})
"""Tables that the audit log's own invariants are about, and no other."""


def require_right(changed: Set[str] | None) -> None:
    """Fail with what is wrong in the tables that changed; None says that nobody knows which ones did."""
    if changed is None or changed - NOT_LOOKED_AT - AUDIT:
        require_right_books()
    elif changed & AUDIT:
        _with_second_try(_require_right_audit)


def require_right_books() -> None:
    """Fail with what is wrong, if any invariant of the books and of the audit log does not hold."""
    _with_second_try(_require_right_books)


def _with_second_try(check: Callable[[], None]) -> None:
    try:
        check()
    except (DBAPIError, PoolTimeoutError):
        # The test left dead connections, or holds them all. Otherwise its own are used: warm, they take half the time.
        close_connections()
        check()


def _require_right_books() -> None:
    report = service.verify(full=True)
    faults = [f"{finding.name}: {fault}" for finding in report.findings.values() for fault in finding.examples]
    assert not faults, "The books are not right: " + "; ".join(faults)


def _require_right_audit() -> None:
    extend_chain()
    with db.engine.connect() as connection:
        scope = {"after": 0, "until": last_seq(connection), "genesis": GENESIS}
        faults = [
            f"{one.name}: {row}" for one in AUDIT_INVARIANTS for row in connection.execute(text(one.query), scope)
        ]
    assert not faults, "The audit log is not right: " + "; ".join(faults)
