"""The background work: what the worker does again and again. Each job is a function, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wallet_app.service import (
    approvals,
    audit,
    bulk_running,
    daily_totals,
    expiry,
    forgetting,
    lot_totals,
    names,
    references,
    verification,
    wallet_sums,
)


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is done every `seconds`, by any number of workers at once.

    `run` is told how to know that it should stop, and returns how much it did. It must be as right after a kill in its
    middle as after its end, and find by itself what is left to do.
    """

    name: str
    seconds: float
    run: Callable[[Callable[[], bool]], int]


JOBS = (
    Job("expire_holds", 1.0, expiry.expire_due),
    Job("expire_lots", 1.0, expiry.expire_due_lots),
    Job("bulk_runs", 1.0, bulk_running.work_off),
    Job("expire_requests", 10.0, approvals.expire_due),
    Job("extend_audit_chain", 5.0, lambda _: audit.extend_chain()),
    Job("index_references", 2.0, references.extend_index),
    Job("fold_names", 5.0, names.fold_names),
    Job("add_up_days", 1.0, daily_totals.add_up),
    Job("add_up_lots", 1.0, lot_totals.add_up),
    Job("sum_up_wallets", 5.0, wallet_sums.sum_up),
    Job("forget_spending", 60.0, forgetting.forget_spending),
    Job("verify", 5.0, verification.run_requested),
    Job("find_top_movers", 60.0, lambda _: daily_totals.find_top_movers()),
)
