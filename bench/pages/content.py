"""What the pages have to show: much of everything. The ledger is made set-based, the rest by the service, and copied.

What a list can have many of is made once by the service, as operators would make it, and then copied: see copies.py.
"""

from __future__ import annotations

import datetime as dt
import io
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bench.database import Database
from bench.growth.history import ROUND, STEP_MAX, History
from bench.pages import copies
from bench.pages.visitors import Visitors
from wallet_app import service
from wallet_app.imports.adjustments import read_adjustments

HOLDS = 180
DEBTS = 90
SWITCHES = 300
LOTS = 150

_CONSUMERS = {
    "references": "index_references",
    "daily_totals": "add_up_days",
    "lot_totals": "add_up_lots",
    "wallet_sums": "sum_up_wallets",
}
"""Who is handed out what has settled, each with its job."""

_ORIGIN = service.Origin(client="bench", actor="bench")
_VISITOR = service.Visitor(address="127.0.0.1", request_id="bench")
_FILLED_SECONDS_MAX = 600


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of what there can be much of."""

    users: int
    entries: int
    records: int
    requests: int
    bulk_rows: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is looked at: of each kind one, the one with the most."""

    wallet_id: int
    """The wallet that has a tenth of all entries, and as many holds and requests as there can be."""
    system_id: int
    """The SYSTEM wallet with the most movements."""
    owing_id: int
    """A wallet that owes for many entries."""
    user_id: int
    transaction_id: uuid.UUID
    hold_id: uuid.UUID
    lot_id: uuid.UUID
    request_id: int
    bulk_id: int
    draft_id: int
    verification_id: int
    record_id: int
    switch_id: int
    operator_id: int
    key_id: str
    began_at: dt.datetime


def make_ledger(database: Database, wallet_ids: list[int], size: Size, *, tell: Callable[[str], None]) -> History:
    """Make the entries, up to now."""
    rounds = -(-size.entries // min(STEP_MAX, size.users))
    history = History(wallet_ids, began=dt.datetime.now(dt.UTC) - rounds * ROUND - dt.timedelta(minutes=5))
    history.grow(database, size.entries, tell=tell)
    return history


def fill(database: Database, history: History, visitors: Visitors, size: Size) -> Content:
    """Make everything else, and have the background work done. Needs the application; the service runs."""
    wallet_id, owing_id = history.deep_wallet, history.wallet_ids[1]
    transaction_id = _top_up(wallet_id)
    hold_id = _hold(wallet_id)
    _grant(wallet_id)
    _owe(owing_id)
    for user in range(SWITCHES):
        _stop(history.wallet_ids[2 + user])
    request_id = _ask(visitors, wallet_id)
    bulk_id = _run_of(visitors, history.wallet_ids, size.bulk_rows)
    draft_id = _draft(visitors, history.wallet_ids, size.bulk_rows, "drafted")
    copies.make(
        database,
        records=size.records,
        requests=size.requests,
        request_id=request_id,
        wallet_ids=history.wallet_ids[:1_000],
        run_id=draft_id,
    )
    _work_off(database)
    with database.connect() as connection:
        connection.execute("VACUUM ANALYZE")
    return Content(
        wallet_id=wallet_id,
        system_id=_one(database, _REVENUE),
        owing_id=owing_id,
        user_id=service.get_wallet(wallet_id).user_id,
        transaction_id=transaction_id,
        hold_id=hold_id,
        lot_id=cast(uuid.UUID, _one(database, _LOT.format(wallet_id=wallet_id))),
        request_id=request_id,
        bulk_id=bulk_id,
        draft_id=draft_id,
        verification_id=_one(database, "SELECT min(id) FROM verification_runs WHERE state = 'ended'"),
        record_id=_one(database, "SELECT max(id) FROM audit_log WHERE before IS NOT NULL"),
        switch_id=_one(database, "SELECT max(id) FROM stop_switches"),
        operator_id=_one(database, "SELECT max(id) FROM operators"),
        key_id=_one(database, "SELECT max(key_id) FROM api_keys"),
        began_at=history.began,
    )


def _top_up(wallet_id: int) -> uuid.UUID:
    command = service.TopUp(wallet_id=wallet_id, reference="bench-top-up", origin=_ORIGIN, amount=100_000)
    return service.execute(command).transaction.transaction_id


def _hold(wallet_id: int) -> uuid.UUID:
    placed = [
        service.PlaceHold(wallet_id=wallet_id, reference=f"bench-hold-{n}", origin=_ORIGIN, amount=1, expires_in=86_400)
        for n in range(HOLDS)
    ]
    return _done(placed)[-1].transaction.transaction_id


def _grant(wallet_id: int) -> None:
    """Have the wallet get what ends, each on another day."""
    today = dt.datetime.now(dt.UTC)
    granted = [
        service.Bonus(
            wallet_id=wallet_id,
            reference=f"bench-lot-{n}",
            origin=_ORIGIN,
            amount=10,
            expires_at=today + dt.timedelta(days=1 + n),
        )
        for n in range(LOTS)
    ]
    _done(granted)


def _owe(wallet_id: int) -> None:
    """Have the wallet get something, spend all, and give back what it got."""
    top_ups = [
        service.TopUp(wallet_id=wallet_id, reference=f"owe-{n}", origin=_ORIGIN, amount=10) for n in range(DEBTS)
    ]
    got = _done(top_ups)
    all_of_it = service.get_wallet(wallet_id).balance
    _done([service.Spend(wallet_id=wallet_id, reference="owe-spent", origin=_ORIGIN, amount=all_of_it)])
    _done(
        [
            service.ReverseTransaction(
                wallet_id=wallet_id,
                reference=f"owe-back-{n}",
                origin=_ORIGIN,
                transaction_id=receipt.transaction.transaction_id,
                reason="Charged back",
                on_shortfall="debt",
            )
            for n, receipt in enumerate(got)
        ]
    )


def _done(commands: list[service.Command]) -> list[service.Receipt]:
    receipts = []
    for outcome in service.execute_batch(commands):
        if isinstance(outcome, Exception):
            raise outcome
        receipts.append(outcome)
    return receipts


def _stop(wallet_id: int) -> None:
    user_id = service.get_wallet(wallet_id).user_id
    settings = service.SwitchSettings(target="user", side="debits", reason="Account taken over", user_id=user_id)
    service.set_switch(settings, by=service.By(actor="bench"))


def _ask(visitors: Visitors, wallet_id: int) -> int:
    operation = service.AdjustOperation(
        wallet_id=wallet_id, direction="credit", amount=2_000, reason_code="CORRECTION", ticket="T-1", note="why"
    )
    asked = service.carry_out(visitors.session("support"), operation, form_key=service.new_form_key(), visitor=_VISITOR)
    if not isinstance(asked, service.Asked):
        raise TypeError("The adjustment needs no approval any more.")
    return asked.request.request_id


def _draft(visitors: Visitors, wallet_ids: list[int], rows: int, campaign: str) -> int:
    lines = [f"{campaign}-{n},{wallet_ids[n % len(wallet_ids)]},{1 + n % 7}" for n in range(1, rows + 1)]
    file = "\n".join(["row_ref,wallet_id,amount", *lines, ""]).encode()
    defaults = service.BulkDefaults(direction="credit", reason_code="GOODWILL")
    read = read_adjustments(io.BytesIO(file), name=f"{campaign}.csv", campaign=campaign, defaults=defaults)
    made = service.draft_bulk(visitors.session("support"), read.file, visitor=_VISITOR)
    if not isinstance(made, int):
        raise TypeError(f"The bulk file has problems: {made}")
    return made


def _run_of(visitors: Visitors, wallet_ids: list[int], rows: int) -> int:
    """Have a bulk run asked for, approved and posted."""
    run_id = _draft(visitors, wallet_ids, rows, "posted")
    service.ask_bulk(visitors.session("support"), run_id, visitor=_VISITOR)
    sight = service.get_bulk_run(run_id).sight
    service.approve_bulk(visitors.session("approver"), run_id, seen=sight, comment="", visitor=_VISITOR)
    _job("bulk_runs")
    return run_id


def _work_off(database: Database) -> None:
    """Do what the worker would have done by now."""
    newest = _one(database, "SELECT transaction_id FROM transactions ORDER BY transaction_id DESC LIMIT 1")
    deadline = time.monotonic() + _FILLED_SECONDS_MAX
    for consumer, job in _CONSUMERS.items():
        while (_one(database, _POSITION.format(consumer=consumer)) or uuid.UUID(int=0)) < newest:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The job {job} does not come to its end.")
            _job(job)
            time.sleep(0.2)
    for job in ("fold_names", "extend_audit_chain", "find_top_movers"):
        _job(job)


def _job(name: str) -> None:
    job = next(job for job in service.JOBS if job.name == name)
    while job.run(lambda: False) and name not in {"find_top_movers", *_CONSUMERS.values()}:
        pass


def _one(database: Database, query: str) -> object:
    with database.connect() as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


_REVENUE = """
SELECT wallets.id FROM wallets JOIN users ON users.id = user_id JOIN asset_types ON asset_types.id = asset_type_id
 WHERE user_type = 'SYSTEM' AND users.name = 'Revenue' AND code = 'GOLD'
"""

# An end in the year 9999 is none: that is the standing lot.
_LOT = "SELECT lot_id FROM lots WHERE wallet_id = {wallet_id} AND expires_at < '9000-01-01' ORDER BY seq LIMIT 1"

_POSITION = "SELECT position FROM settled_cursors WHERE consumer = '{consumer}'"
