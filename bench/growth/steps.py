"""What is measured on ledgers of every size: posting, reading, and verifying what is new."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from bench import cells
from bench.cells import Cell, Outcome, Stage
from bench.http_load import Load
from bench.wallets import ORIGIN
from wallet_app import service
from wallet_app.api import cursor

PAGE = 50
DEEP_PAGES = 1_000
KERNEL_BATCH = 256
NEW_ENTRIES = 10_000


def all_cells() -> Iterator[Cell]:
    """Yield the cells in the order of a round; the first is on pages as a checkpoint leaves them."""
    yield Cell(
        "kernel-256-cold", f"the kernel alone, batches of {KERNEL_BATCH}, after a checkpoint", _cold, _checkpoint
    )
    yield Cell("topup-64", "top-ups over HTTP, random wallets, 64 connections", _top_ups)
    yield Cell("kernel-256", f"the kernel alone, top-ups in batches of {KERNEL_BATCH}", _kernel)
    yield Cell("balance-64", "reads of a balance, random wallets, 64 connections", _read("balances"))
    yield Cell("page-few-64", "the last 5 entries of random wallets, 64 connections", _read("few"))
    yield Cell("page-first-64", f"the last {PAGE} entries of the deep wallet, 64 connections", _read("first"))
    yield Cell("page-deep-64", f"{PAGE} entries from anywhere in the deep wallet, 64 connections", _read("deep"))
    yield Cell("verify", f"incremental verification, {NEW_ENTRIES:,} new entries: rows", _verify, _post_what_is_new)
    yield Cell("verify-nothing", "incremental verification, nothing new: rows", _verify)


def warm_up(stage: Stage, wallets: int) -> None:
    """Top so many wallets up once: their pages are in memory then, and whole in the log since the last checkpoint."""
    for first in range(0, wallets, service.BATCH_MAX):
        commands = [
            service.TopUp(wallet_id=wallet_id, reference=f"{stage.tag()}-warm", origin=ORIGIN, amount=1)
            for wallet_id in stage.wallet_ids[first : min(first + service.BATCH_MAX, wallets)]
        ]
        outcomes = service.execute_batch(commands)
        stage.posted_min += sum(isinstance(outcome, service.Receipt) for outcome in outcomes)
        stage.posted_max += len(commands)


def write_paths(stage: Stage, deep_wallet: int) -> None:
    """Write the files of what is asked for; the deep wallet's pages begin anywhere in its history."""
    entries = service.get_wallet(deep_wallet).version
    starts = [random.randint(min(PAGE + 1, entries), entries) for _ in range(DEEP_PAGES)]
    deep = f"/wallets/{deep_wallet}/entries?limit={PAGE}"
    paths = {
        "balances": [f"/wallets/{wallet_id}/balance" for wallet_id in stage.wallet_ids],
        "few": [f"/wallets/{wallet_id}/entries?limit=5" for wallet_id in stage.wallet_ids],
        "first": [deep],
        "deep": [f"{deep}&cursor={cursor.make(start, 'entries', deep_wallet)}" for start in starts],
    }
    for name, lines in paths.items():
        stage.items(name).write_text("\n".join(lines) + "\n")


def _top_ups(stage: Stage) -> Outcome:
    return cells.ask(stage, Load("topup", stage.items("wallets"), 64, stage.seconds, stage.tag()))


def _read(name: str) -> Callable[[Stage], Outcome]:
    def measure(stage: Stage) -> Outcome:
        return cells.ask(stage, Load("get", stage.items(name), 64, stage.seconds, stage.tag()))

    return measure


def _checkpoint(stage: Stage) -> None:
    if stage.database.is_superuser():
        with stage.database.connect(admin=True) as connection:
            connection.execute("CHECKPOINT")


def _cold(stage: Stage) -> Outcome | None:
    return _kernel(stage) if stage.database.is_superuser() else None


def _kernel(stage: Stage) -> Outcome:
    return cells.post(stage, size=KERNEL_BATCH, kind=service.TopUp, seconds=stage.seconds)


def _post_what_is_new(stage: Stage) -> None:
    service.verify()
    for _ in range(NEW_ENTRIES // service.BATCH_MAX):
        cells.post(stage, size=service.BATCH_MAX, kind=service.TopUp, seconds=0)


def _verify(_: Stage) -> Outcome:
    """Verify; the speed is in rows, since a verification looks again at the transactions of its last hour."""
    report = service.verify()
    rows = report.entries_checked + report.findings["digests"].looked_at
    return Outcome(report.seconds, rows, report.faults, {"50": report.seconds * 1000}, in_process=True)
