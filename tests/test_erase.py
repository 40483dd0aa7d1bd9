"""`flask wallet erase`: what was written about a user is gone, the books are as right as before, replays answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, broken_books  # noqa: F401
from tests.kernel.conftest import books as books
from wallet_app import service
from wallet_app.errors import UserNotFoundError
from wallet_app.service import erasure

JOHNS, DOES = 2, 3
SECRET = "Anna, Elm Street 5"


def run(books: Books, *arguments: str) -> tuple[int, str]:
    assert books.app is not None
    result = books.app.test_cli_runner().invoke(args=["wallet", "erase", *arguments])
    return result.exit_code, result.output


def write(books: Books) -> list[service.Command]:
    transfer: dict[str, Any] = {"origin": ORIGIN, "amount": 1, "note": SECRET}
    commands: list[service.Command] = [
        books.top_up(JOHN, 5, "noted", note=SECRET),
        books.top_up(JOHN, 5, "told", metadata=f'{{"name":"{SECRET}"}}'),
        books.top_up(JOHN_DIAMOND, 5, note=SECRET),
        books.top_up(JOHN, 5, "bare"),
        service.Transfer(wallet_id=JOHN, to_wallet_id=DOE, reference="sent", **transfer),
        service.Transfer(wallet_id=DOE, to_wallet_id=JOHN, reference="received", **transfer),
    ]
    assert all(isinstance(outcome, service.Receipt) for outcome in service.execute_batch(commands))
    return commands


def details(books: Books) -> list[tuple[Any, ...]]:
    return books.sql("SELECT wallet_id, note FROM transaction_details ORDER BY 1")


def test_a_dry_run_counts_and_erases_nothing(books: Books) -> None:
    write(books)
    before = details(books)
    assert run(books, str(JOHNS)) == (
        0,
        "User 2 has 2 wallets; transactions with a note or metadata: 4. --yes erases them for good.\n",
    )
    assert details(books) == before


def test_notes_and_metadata_are_gone_and_everything_else_is_as_it_was(books: Books) -> None:
    commands = write(books)
    ledger = "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {} AS t"
    tables = ("transactions", "ledger_entries", "wallet_balances", "users")
    before = [books.sql(ledger.format(table)) for table in tables]
    assert run(books, str(JOHNS), "--yes", "--reason", "asked for it", "--ticket", "T-1") == (
        0,
        "User 2 has 2 wallets; transactions whose note and metadata were erased: 4.\n",
    )
    # Doe's transfer to John is Doe's: what Doe wrote stays until Doe is erased.
    assert details(books) == [(DOE, SECRET)]
    assert [books.sql(ledger.format(table)) for table in tables] == before
    assert service.verify(full=True).is_clean
    for command in commands:
        receipt = service.execute(replace(command, note=None, metadata=None))
        assert receipt.is_replay
    views = service.list_entries(JOHN, before_seq=None, limit=10)
    assert [view.note for view in views if view.reference != "received"] == [None] * 5


def test_the_audit_log_tells_who_and_how_many_and_nothing_of_the_text(books: Books) -> None:
    write(books)
    run(books, str(JOHNS), "--yes", "--reason", "asked for it", "--ticket", "T-1")
    records = books.sql(
        "SELECT actor, subject, after, reason, ticket FROM audit_log WHERE action = 'user:erase' ORDER BY id"
    )
    assert [record[1:] for record in records] == [
        ("user:2", {"walletId": JOHN, "transactions": 3}, "asked for it", "T-1"),
        ("user:2", {"walletId": JOHN_DIAMOND, "transactions": 1}, "asked for it", "T-1"),
    ]
    assert all(record[0].startswith("cli:") for record in records)
    assert not [row for row in books.sql("SELECT audit_log::text FROM audit_log") if "Elm" in row[0]]


def test_a_run_that_was_stopped_is_begun_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "ROWS_MAX", 10)
    service.execute_batch([books.top_up(JOHN, 1, note=SECRET) for _ in range(35)])

    class StoppedError(Exception):
        pass

    def stop(count: int) -> None:
        if books.sql("SELECT count(*) FROM transaction_details") == [(15,)]:
            raise StoppedError

    by = service.By(actor="tests")
    with pytest.raises(StoppedError):
        service.erase_user(JOHNS, by=by, progress=stop)
    assert service.count_erasable(JOHNS).transactions == 15
    assert service.erase_user(JOHNS, by=by) == 15
    assert service.count_erasable(JOHNS).transactions == 0
    assert service.erase_user(JOHNS, by=by) == 0
    counts = books.sql("SELECT (after ->> 'transactions')::int FROM audit_log WHERE action = 'user:erase' ORDER BY id")
    assert counts == [(10,), (10,), (10,), (5,)]
    assert service.verify(full=True).is_clean


def test_the_system_and_nobody_have_nothing_to_erase(books: Books) -> None:
    for user_id in (1, 999_999):
        with pytest.raises(UserNotFoundError):
            service.count_erasable(user_id)
        with pytest.raises(UserNotFoundError):
            service.erase_user(user_id, by=service.By(actor="tests"))
    assert run(books, "999999", "--yes") == (1, "There is no user 999999.\n")


def test_the_service_may_erase_details_and_nothing_else(books: Books) -> None:
    write(books)
    rights = """
        SELECT has_table_privilege('wallet_app', 'transaction_details', 'DELETE'),
               has_table_privilege('wallet_app', 'transaction_details', 'UPDATE'),
               has_table_privilege('wallet_app', 'transactions', 'DELETE')"""
    assert books.sql(rights) == [(True, False, False)]
