"""A preview says what a posting would: by the same rules, on one state of the database, and it leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books
from wallet_app import service
from wallet_app.db import db
from wallet_app.errors import InsufficientBalanceError, ReferenceMismatchError
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import holds

TABLES = (
    "asset_types",
    "users",
    "wallets",
    "wallet_balances",
    "transactions",
    "transaction_details",
    "ledger_entries",
    "system_balances",
)


def everything(books: Books) -> list[object]:
    """Return all that the database holds, and where its sequences and tuples stand."""
    physical = [books.sql(f"SELECT ctid, xmin, xmax, * FROM {table} ORDER BY 1") for table in TABLES]
    return [*physical, books.sql("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")]


def told(outcome: service.Receipt | Exception) -> object:
    """Return all of an outcome but what only a posting gives: id, time and hashes."""
    if isinstance(outcome, Exception):
        return type(outcome), str(outcome), vars(outcome)
    made = outcome.transaction
    return (
        outcome.is_replay,
        (made.wallet_id, made.reference, made.kind, made.client, dict(made.requested)),
        [
            (entry.wallet_id, entry.seq, entry.entry_type, entry.amount, entry.balance_after, entry.contra_wallet_id)
            for entry in made.entries
        ],
        [
            (wallet.wallet_id, wallet.user_id, wallet.asset, wallet.status, wallet.balance, wallet.held, wallet.version)
            for wallet in outcome.wallets
        ],
        [wallet.owed for wallet in outcome.wallets],
        [(one.wallet_id, one.seq, one.reversed, one.owed) for one in outcome.reversed],
    )


def previewed(chunks: Sequence[Sequence[service.Command]]) -> list[object]:
    with service.previewing() as preview:
        return [told(outcome) for chunk in chunks for outcome in preview.preview(chunk)]


def posted(chunks: Sequence[Sequence[service.Command]]) -> list[object]:
    return [told(outcome) for chunk in chunks for outcome in service.execute_batch(chunk)]


commands = st.builds(
    lambda kind, **fields: kind(**fields),
    st.sampled_from([service.TopUp, service.Bonus, service.Spend]),
    wallet_id=st.sampled_from([JOHN, JOHN, JOHN_DIAMOND, DOE, 1, 99]),
    reference=st.sampled_from(["ref-a", "ref-b", "ref-c", "ref-d", "ref-e"]),
    origin=st.sampled_from([ORIGIN, ORIGIN, service.Origin(client="others", actor="others")]),
    amount=st.one_of(st.sampled_from([100, 400, AMOUNT_MAX, AMOUNT_MAX - 500]), st.integers(1, 700)),
    note=st.sampled_from([None, "a note"]),
)


@given(st.lists(st.lists(commands, max_size=6), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_preview_in_chunks_says_what_posting_them_says(
    books: Books, chunks: Sequence[Sequence[service.Command]]
) -> None:
    # The books go on from example to example, so some references were used long ago, and the others are new.
    example = books.entries(JOHN) + books.entries(DOE)
    fresh = [[replace(command, reference=named(command, example)) for command in chunk] for chunk in chunks]
    expected = previewed(fresh)
    assert posted(fresh) == expected


def named(command: service.Command, example: int) -> str:
    return command.reference if command.reference == "ref-a" else f"{command.reference}-{example}"


def test_a_preview_writes_nothing_and_burns_no_reference(books: Books) -> None:
    before = everything(books)
    with service.previewing() as preview:
        for _ in range(3):
            preview.preview([books.top_up(JOHN, 5, "once"), books.spend(DOE, 1), books.spend(DOE, 1_000, note="much")])
        connection = preview._connection
        number = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()").scalar()
        assert number is None, "a database transaction that writes gets a number"
        written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables"
        assert connection.exec_driver_sql(written).scalar() == 0
        locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode NOT IN ('AccessShareLock')"
        own = " AND locktype <> 'virtualxid'"
        assert connection.exec_driver_sql(locks + own).scalar() == 0
    assert everything(books) == before
    assert not service.execute(books.top_up(JOHN, 5, "once")).is_replay


def test_what_would_be_made_has_no_id_yet_and_what_was_made_keeps_its_own(books: Books) -> None:
    made = service.execute(books.top_up(JOHN, 5, "made"))
    with service.previewing() as preview:
        receipts = preview.preview([books.top_up(JOHN, 5, "made"), books.top_up(JOHN, 6, "new")])
        receipts += preview.preview([books.top_up(JOHN, 6, "new")])
    ids = [receipt.transaction.transaction_id for receipt in receipts if isinstance(receipt, service.Receipt)]
    assert ids == [made.transaction.transaction_id, service.NO_TRANSACTION, service.NO_TRANSACTION]


def test_what_the_first_chunk_takes_is_missing_in_the_last(books: Books) -> None:
    chunks = [[books.spend(JOHN, 450, "fifth")], [books.top_up(DOE, 1)], [books.spend(JOHN, 51)]]
    with service.previewing() as preview:
        outcomes = [outcome for chunk in chunks for outcome in preview.preview(chunk)]
        again = preview.preview([books.spend(JOHN, 450, "fifth"), books.spend(JOHN, 449, "fifth")])
    assert isinstance(outcomes[2], InsufficientBalanceError)
    assert outcomes[2].details["balance"] == 50
    assert isinstance(again[0], service.Receipt)
    assert again[0].is_replay
    assert isinstance(again[1], ReferenceMismatchError)


def test_a_preview_stays_on_its_state_while_others_post(books: Books) -> None:
    with service.previewing() as preview:
        service.execute(books.spend(JOHN, 500, "theirs"))
        outcomes = preview.preview([books.spend(JOHN, 500, "ours"), books.spend(JOHN, 500, "theirs")])
    assert isinstance(outcomes[0], service.Receipt)
    assert isinstance(outcomes[1], InsufficientBalanceError)


def test_a_preview_waits_for_nobody_who_holds_the_wallet(books: Books) -> None:
    with books.connect() as holder, service.previewing() as preview:
        holder.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        assert isinstance(preview.preview([books.spend(JOHN, 500)])[0], service.Receipt)


def test_a_lost_balance_row_counts_as_what_the_ledger_says(books: Books) -> None:
    service.execute(books.spend(JOHN, 200))
    books.sql("DELETE FROM wallet_balances WHERE wallet_id IN (3, 4, 6)")
    before = everything(books)
    chunks = [
        [books.spend(JOHN, 301), books.spend(JOHN, 299), books.spend(JOHN_DIAMOND, 11)],
        [books.spend(JOHN, 2), books.spend(JOHN, 1), books.spend(DOE, 300)],
    ]
    expected = previewed(chunks)
    assert everything(books) == before, "a preview heals nothing"
    assert posted(chunks) == expected
    assert books.balance(JOHN) == 0
    service.execute(books.top_up(6, 1))


def test_a_preview_outlives_the_timeout_of_an_idle_session(books: Books) -> None:
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "5s"
    with service.previewing() as preview:
        shown = preview._connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
        assert shown == "0", "reading the file and writing the results takes its time between two chunks"
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "5s"


def test_a_preview_of_holds_says_what_posting_them_says(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over chunks: holds that are there, and would be captured or released; new ones; and how many are open."""
    monkeypatch.setattr(holds, "HOLDS_MAX", 4)
    first, second, due = (
        service.execute(books.command(service.PlaceHold, JOHN, 100, expires_in=seconds)).hold for seconds in (60, 60, 1)
    )
    assert first is not None
    assert second is not None
    assert due is not None
    while not books.sql("SELECT clock_timestamp() >= %s", due.expires_at)[0][0]:
        time.sleep(0.05)

    def on(kind: type[Any], hold: service.Hold, reference: str, **more: Any) -> Any:
        return kind(wallet_id=JOHN, hold_id=hold.hold_id, reference=reference, origin=ORIGIN, **more)

    placing = [books.command(service.PlaceHold, JOHN, 10, f"new-{number}", expires_in=60) for number in range(5)]
    chunks = [
        [on(service.CaptureHold, first, "part", amount=40), books.spend(JOHN, 300, "all"), placing[0]],
        [on(service.CaptureHold, first, "part", amount=40), on(service.CaptureHold, first, "more", amount=61)],
        [on(service.ReleaseHold, first, "rest"), on(service.ReleaseHold, first, "again"), *placing[:3]],
        [on(service.CaptureHold, due, "late"), *placing[3:], placing[0]],
        [on(service.ReleaseHold, second, "second"), placing[4]],
    ]
    expected = previewed(chunks)
    assert posted(chunks) == expected


def test_a_preview_counts_what_is_due(books: Books) -> None:
    due = service.execute(books.command(service.PlaceHold, JOHN, 500, expires_in=3)).hold
    assert due is not None
    with service.previewing() as preview:
        assert isinstance(preview.preview([books.spend(JOHN, 500)])[0], InsufficientBalanceError)
    while not books.sql("SELECT clock_timestamp() >= %s", due.expires_at)[0][0]:
        time.sleep(0.05)
    with service.previewing() as preview:
        assert isinstance(preview.preview([books.spend(JOHN, 500, "some")])[0], service.Receipt)
        assert isinstance(preview.preview([books.spend(JOHN, 1)])[0], InsufficientBalanceError), "it is back once"
    assert service.get_hold(due.hold_id).hold.changes == ()
