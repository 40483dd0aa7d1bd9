"""A preview of random commands of every kind, on random versions, says what posting them then says."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books
from tests.kernel.test_preview import everything, told
from wallet_app import service
from wallet_app.errors import (
    HoldFinishedError,
    InsufficientBalanceError,
    ReferenceMismatchError,
    VersionMismatchError,
)
from wallet_app.service.adjustments import Adjust, ApprovedAdjust, ApprovedReversal, ApprovedRevocation
from wallet_app.service.rules import RULES

wallets = st.sampled_from([JOHN, JOHN, JOHN, JOHN_DIAMOND, DOE])
amounts = st.one_of(st.integers(1, 60), st.sampled_from([300, 9_000]))
common: dict[str, Any] = {
    "wallet_id": wallets,
    "reference": st.sampled_from(["one", "two", "three", "four", "five", "six", "long-ago"]),
    "origin": st.just(ORIGIN),
    "note": st.sampled_from([None, "a note"]),
    "metadata": st.sampled_from([None, '{"a":1}']),
    "occurred_at": st.sampled_from([None, dt.datetime(2026, 1, 31, tzinfo=dt.UTC)]),
}
legs = st.builds(service.Leg, wallets, st.sampled_from(["SPEND", "TOPUP", "BONUS"]), amounts)
ends = st.sampled_from([None, dt.date(2100, 1, 2), dt.datetime(2100, 1, 1, tzinfo=dt.UTC), dt.date(2100, 1, 1)])
movements = st.one_of(
    st.sampled_from([service.TopUp, service.Bonus, service.Spend]).flatmap(
        lambda kind: st.builds(kind, amount=amounts, **common)
    ),
    st.builds(service.Bonus, amount=amounts, expires_at=ends, **common),
)
commands = st.one_of(
    movements,
    st.builds(service.Transfer, to_wallet_id=wallets, amount=amounts, is_up_to=st.booleans(), **common),
    st.builds(
        service.Exchange,
        to_wallet_id=st.sampled_from([JOHN_DIAMOND, JOHN_DIAMOND, JOHN, DOE]),
        amount=amounts,
        rate=st.sampled_from([None, Fraction(1, 7), Fraction(2), Fraction(2)]),
        **common | {"wallet_id": st.sampled_from([JOHN, JOHN, JOHN_DIAMOND])},
    ),
    st.builds(service.Purchase, legs=st.lists(legs, min_size=1, max_size=3).map(tuple), **common),
    st.builds(service.PlaceHold, amount=amounts, expires_in=st.just(3_600), **common),
    # Which hold it is, is chosen when it is known which there are: as the n-th of the newest ones.
    st.builds(service.ReleaseHold, hold_id=st.integers(0, 3).map(lambda n: uuid.UUID(int=n)), **common),
    st.builds(
        service.CaptureHold,
        hold_id=st.integers(0, 3).map(lambda n: uuid.UUID(int=n)),
        amount=st.one_of(st.none(), amounts),
        is_final=st.booleans(),
        **common,
    ),
    # So with lots.
    *[
        st.builds(
            kind,
            lot_id=st.integers(0, 3).map(lambda n: uuid.UUID(int=n)),
            on_shortfall=st.sampled_from(["refuse", "partial", "debt"]),
            reason=st.just("a test"),
            **common,
        )
        for kind in (service.RevokeLot, ApprovedRevocation)
    ],
    st.builds(
        service.ExtendLot,
        lot_id=st.integers(0, 3).map(lambda n: uuid.UUID(int=n)),
        expires_at=st.integers(3, 900).map(lambda days: dt.date(2100, 1, 1) + dt.timedelta(days=days)),
        reason=st.just("a test"),
        **common,
    ),
)
adjustments = st.sampled_from([Adjust, Adjust, ApprovedAdjust]).flatmap(
    lambda kind: st.builds(
        kind,
        direction=st.sampled_from(["credit", "debit"]),
        amount=amounts,
        reason_code=st.just("OTHER"),
        ticket=st.sampled_from([None, "T-1"]),
        **common,
    )
)
reversals = st.sampled_from([service.ReverseTransaction, service.ReverseTransaction, ApprovedReversal]).flatmap(
    lambda kind: undoing(kind)
)


def undoing(kind: type[service.ReverseTransaction]) -> st.SearchStrategy[service.ReverseTransaction]:
    """As with holds, which transaction it is, is chosen later."""
    return st.builds(
        kind,
        transaction_id=st.integers(0, 7).map(lambda n: uuid.UUID(int=n)),
        amount=st.one_of(st.none(), st.integers(1, 60)),
        on_shortfall=st.sampled_from(["refuse", "partial", "debt"]),
        reason=st.just("a test"),
        **common,
    )


FRESH = 0
"""Stands for a wallet that no earlier example knows."""

stopped = {**common, "wallet_id": st.sampled_from([DOE, JOHN_DIAMOND, FRESH, FRESH]), "reason": st.just("a test")}
states = st.one_of(
    st.builds(service.Freeze, side=st.sampled_from(["debits", "credits", "both"]), **stopped),
    st.builds(service.Unfreeze, side=st.sampled_from(["debits", "credits", "both"]), **stopped),
    st.builds(service.Close, **stopped),
)

steps = st.tuples(
    st.one_of(commands, commands, commands, commands, reversals, states, adjustments),
    st.sampled_from([*[None] * 8, (0,), (0, 1, 2, 3), (-1,)]),
)
"""A command, and the versions on which it is asked: how far they are from the one at the beginning."""

UNASKED = {"Seed", "ExpireHold", "ExpireLot", "RaiseLimits", "EndRaise"}
"""Kinds that no caller can ask for."""


def all_told(outcome: service.Receipt | Exception) -> object:
    """Return all of an outcome but what only a posting gives, and holds and details with it."""
    if isinstance(outcome, Exception):
        return told(outcome)
    made, hold = outcome.transaction, outcome.hold
    parts = None if hold is None else (*hold[3:8], hold.seq, hold.changes, hold.lots)
    # Of a replay within a preview, an earlier chunk's transaction is remembered without its details.
    details = None if outcome.is_replay or made.details is None else made.details[1:]
    owed = [(wallet.owed, wallet.bonus, wallet.lots) for wallet in outcome.wallets]
    # A freeze names the one before it, which has no id if it only would be.
    result = None if made.result is None else {**made.result, "previous": None}
    return told(outcome), result, parts, details, owed


def realized(
    books: Books, chunks: Sequence[Sequence[tuple[service.Command, tuple[int, ...] | None]]], example: int, fresh: int
) -> list[list[service.Command]]:
    """Return the commands with references of this example, holds that there are, and versions near the real ones."""
    versions = dict(books.sql("SELECT wallet_id, version FROM wallet_balances"))
    found = books.sql("SELECT wallet_id, hold_id FROM holds ORDER BY created_at DESC, seq DESC LIMIT 4")
    lots = books.sql("SELECT wallet_id, lot_id FROM lots WHERE seq > 0 ORDER BY created_at DESC, seq DESC LIMIT 4")
    newest = books.sql(
        "SELECT transaction_id, wallet_id, entry_keys FROM transactions ORDER BY created_at DESC LIMIT 8"
    )

    def real(command: service.Command, ahead: tuple[int, ...] | None) -> service.Command:
        if isinstance(command, service.OnHold) and command.hold_id.int < len(found):
            wallet_id, hold_id = found[command.hold_id.int]
            command = replace(command, wallet_id=wallet_id, hold_id=hold_id)
        if isinstance(command, service.OnLot) and command.lot_id.int < len(lots):
            wallet_id, lot_id = lots[command.lot_id.int]
            command = replace(command, wallet_id=wallet_id, lot_id=lot_id)
        if isinstance(command, service.ReverseTransaction) and command.transaction_id.int < len(newest):
            transaction_id, wallet_id, keys = newest[command.transaction_id.int]
            others = tuple(sorted({*(keys or [])[::2]} - {wallet_id}))
            command = replace(command, wallet_id=wallet_id, transaction_id=transaction_id, other_wallet_ids=others)
        if command.wallet_id == FRESH:
            command = replace(command, wallet_id=fresh)
        reference = "long-ago" if command.reference == "long-ago" else f"{command.reference}-{example}"
        near = None if ahead is None else tuple(versions[command.wallet_id] + step for step in ahead)
        return replace(command, reference=reference, if_versions=near)

    return [[real(command, ahead) for command, ahead in chunk] for chunk in chunks]


@pytest.mark.wide
def test_a_preview_of_any_commands_says_what_posting_them_says(books: Books) -> None:
    seen: Counter[object] = Counter()
    example = [0]
    made = books.make_wallets(120)

    @given(st.lists(st.lists(steps, min_size=3, max_size=10), min_size=2, max_size=4))
    @settings(
        max_examples=120,
        deadline=None,
        # The same each time, because what comes is counted.
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def check(chunks: list[list[tuple[service.Command, tuple[int, ...] | None]]]) -> None:
        example[0] += 1
        real = realized(books, chunks, example[0], made[example[0] % len(made)])
        with service.previewing() as preview:
            expected = [all_told(outcome) for chunk in real for outcome in preview.preview(chunk)]
        outcomes = [outcome for chunk in real for outcome in service.execute_batch(chunk)]
        assert [all_told(outcome) for outcome in outcomes] == expected
        for command, outcome in zip([command for chunk in real for command in chunk], outcomes, strict=True):
            if isinstance(outcome, Exception):
                seen[type(outcome)] += 1
            else:
                seen[type(command).__name__, "replayed" if outcome.is_replay else "done"] += 1
        # Or nothing would go any more.
        service.execute_batch(
            [
                service.Unfreeze(wallet_id=wallet_id, reference=f"end-{example[0]}", origin=ORIGIN, reason="a test")
                for wallet_id in (DOE, JOHN_DIAMOND)
            ]
        )

    check()
    kinds = {kind.__name__ for kind in RULES} - UNASKED
    assert {kind for kind in kinds if seen[kind, "done"]} == kinds, "a kind that is never done proves nothing"
    assert sum(seen[kind, "replayed"] for kind in kinds) > 5
    for declined in (
        HoldFinishedError,
        InsufficientBalanceError,
        ReferenceMismatchError,
        VersionMismatchError,
    ):
        assert seen[declined], f"{declined.__name__} never came"


def test_dry_runs_burn_no_reference_and_leave_no_trace(books: Books) -> None:
    commands = [
        books.top_up(JOHN, 5, "once", note="a note", metadata='{"a":1}'),
        books.command(service.PlaceHold, JOHN, 5, "hold", expires_in=60),
        books.command(service.Transfer, JOHN, 5, "gift", to_wallet_id=DOE),
    ]
    before = everything(books)
    for _ in range(2):
        singles = [service.preview_command(command) for command in commands]
        assert [receipt.is_replay for receipt in singles] == [False] * 3
        assert not [one for one in service.preview_each(commands) if isinstance(one, Exception)]
        assert [receipt.is_replay for receipt in service.preview_atomic(commands)] == [False] * 3
    assert everything(books) == before
    assert [service.execute(command).is_replay for command in commands] == [False] * 3
