"""The sums of a wallet's blocks are what its entries make, and an explanation is the same with them and without."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import conninfo
from tests.kernel.test_expiry import never, wait_for
from tests.test_verify import ORIGIN
from wallet_app import service
from wallet_app.service import explanations, settled, wallet_sums
from wallet_app.service.wallet_sums import BLOCK

pytestmark = pytest.mark.wide

DOE, JOHN = 5, 3


@pytest.fixture(autouse=True)
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "SLACK", dt.timedelta(0))


@pytest.fixture
def ask(app: Flask, database: URL) -> Callable[[str], list[tuple[Any, ...]]]:
    connection = psycopg.connect(conninfo(database), autocommit=True)
    return lambda statement: connection.execute(statement).fetchall()


def grow(wallet_id: int, entries: int) -> None:
    """Post until the wallet has so many entries, of several types, in and out."""
    have = service.get_wallet(wallet_id).version
    kinds = (service.TopUp, service.Bonus, service.Spend)
    for low in range(have, entries, 500):
        batch = [
            kinds[n % 3](wallet_id=wallet_id, reference=f"grow-{n}", origin=ORIGIN, amount=1 + n % 7 if n % 3 else 9)
            for n in range(low, min(low + 500, entries))
        ]
        assert not [one for one in service.execute_batch(batch) if isinstance(one, Exception)]


def test_a_block_is_summed_up_when_it_is_full_and_an_explanation_stays_the_same(
    app: Flask, ask: Callable[[str], list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(DOE, BLOCK - 1)
    wallet_sums.sum_up(never)
    transfer = service.Transfer(wallet_id=JOHN, to_wallet_id=DOE, reference="full", origin=ORIGIN, amount=5)
    # Its last entry is one of several of a transaction, and what comes next wrote none.
    filled = service.execute(transfer).transaction
    service.execute(service.Freeze(wallet_id=DOE, side="both", reason="a test", reference="freeze", origin=ORIGIN))
    service.execute(service.Unfreeze(wallet_id=DOE, side="both", reason="over", reference="unfreeze", origin=ORIGIN))
    assert max(entry.seq for entry in filled.entries if entry.wallet_id == DOE) == BLOCK
    grow(DOE, BLOCK + 10)
    cases: list[dict[str, dt.datetime]] = [{}, {"since": filled.created_at}, {"until": filled.created_at}]
    before = [service.explain_balance(DOE, **case) for case in cases]
    assert before[0].entries == BLOCK + 10

    def is_summed_up() -> bool:
        wallet_sums.sum_up(never)
        return bool(ask("SELECT FROM wallet_sums"))

    wait_for(is_summed_up)
    kept = ask("SELECT wallet_id, block, sum(entries) FROM wallet_sums GROUP BY 1, 2")
    assert kept == [(DOE, 0, BLOCK)], "of each wallet's full blocks, once"
    after = [service.explain_balance(DOE, **case) for case in cases]
    assert [(one.opening, one.sums, one.closing) for one in after] == [
        (one.opening, one.sums, one.closing) for one in before
    ]
    assert all(one.is_right for one in after)
    # What is in no block is looked at, as much of it as may be.
    monkeypatch.setattr(explanations, "EXPLAINED_MAX", 4)
    cut = service.explain_balance(DOE)
    assert (cut.entries, cut.is_cut, cut.is_right) == (4, True, True)
    monkeypatch.setattr(explanations, "EXPLAINED_MAX", 10)
    whole = service.explain_balance(DOE)
    assert (whole.entries, whole.is_cut, whole.sums) == (BLOCK + 10, False, before[0].sums)
    assert service.verify(full=True).is_clean
    service.rebuild_totals()
    wait_for(lambda: wallet_sums.sum_up(never) == 0 and not ask("SELECT FROM wallet_sums"))
    wait_for(is_summed_up)
    assert service.verify().is_clean
