"""What the drill finds in journals and ledger: each way to be wrong, one at a time, beside books that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drill import checks
from drill.checks import Findings
from drill.journal import Journal, Told, Wanted
from drill.known import Known
from drill.ledger import Ledger, Posted

WALLET = 3


class Books:
    """A client's journal and a ledger, by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "client.journal")
        self.ledger = Ledger(folder)
        self.number = 0

    def ask(self, *items: Wanted, how: str = "single") -> None:
        self.number += 1
        self.journal.intend(self.number, how, items, 0.0)

    def hear(self, *told: Told, broken: str | None = None, at: float = 0.0) -> None:
        self.journal.hear(self.number, told, broken, at)

    def post(self, item: Wanted, seq: int, balance_after: int, **other: Any) -> None:
        told = Posted(item.reference, WALLET, f"id-{item.reference}", seq, item.signed, balance_after)
        self.ledger.posted[item.reference] = told._replace(**other)

    def acknowledge(self, item: Wanted, seq: int, balance_after: int, **other: Any) -> None:
        """Let the client ask for it and be told so, and the ledger have it so."""
        self.ask(item)
        self.hear(accepted(item, seq, balance_after, **other))
        self.post(item, seq, balance_after, **other)

    def find(self) -> tuple[Known, Findings]:
        known = Known.of(self.folder)
        known.read_new()
        return known, checks.find_all(known, self.ledger)


def top_up(reference: str, amount: int = 10) -> Wanted:
    return Wanted("topup", WALLET, amount, reference)


def accepted(item: Wanted, seq: int, balance_after: int, position: int = 0, **other: Any) -> Told:
    told = {
        "idempotent": False,
        "transactionId": f"id-{item.reference}",
        "amount": item.signed,
        "seq": seq,
        "version": seq,
        "balance": balance_after,
        "balanceAfter": balance_after,
    }
    return Told(position, 200, told | other)


def refused(version: int, balance: int) -> Told:
    return Told(0, 409, {"code": "insufficient_balance", "version": version, "balance": balance})


ONE, TWO, THREE = top_up("one"), top_up("two"), top_up("three")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """One acknowledged, one declined, one that broke off and was given up on, and was posted."""
    books = Books(tmp_path)
    books.ask(ONE)
    books.hear(Told(0, 503, {"code": "wallet_busy"}))
    books.hear(accepted(ONE, 1, 10))
    books.post(ONE, 1, 10)
    books.ask(Wanted("spend", WALLET, 500, "declined"))
    books.hear(refused(1, 10))
    books.ask(TWO)
    books.hear(broken="ConnectionResetError", at=5.0)
    books.post(TWO, 2, 20)
    return books


def test_right_books_are_right(books: Books) -> None:
    known, found = books.find()
    assert not found, found
    assert known.open_references() == ["two"]
    assert checks.expected_balances(known, books.ledger, {WALLET: 0}) == {WALLET: 20}


def not_there(books: Books) -> None:
    del books.ledger.posted["one"]


def another_transaction(books: Books) -> None:
    books.post(ONE, 1, 10, transaction_id="another")


def another_wallet(books: Books) -> None:
    books.post(ONE, 1, 10, wallet_id=4)


@pytest.mark.parametrize("break_books", [not_there, another_transaction, another_wallet])
def test_what_is_not_there_as_acknowledged_is_lost(books: Books, break_books: Callable[[Books], None]) -> None:
    break_books(books)
    assert [fault.partition(" ")[0] for fault in books.find()[1].lost] == ["one"]


def a_stranger(books: Books) -> None:
    books.post(THREE, 3, 30)


def two_entries(books: Books) -> None:
    books.ledger.odd.append(books.ledger.posted["one"]._replace(seq=3))


def another_reference(books: Books) -> None:
    books.journal.intend(1, "single", [THREE], 0.0)
    books.journal.hear(1, [accepted(THREE, 3, 30)], None, 0.0)
    books.post(THREE, 3, 30)


@pytest.mark.parametrize("break_books", [a_stranger, two_entries, another_reference])
def test_what_is_there_too_often_is_doubled(books: Books, break_books: Callable[[Books], None]) -> None:
    break_books(books)
    known, found = books.find()
    assert len(found.doubled) == 1
    # Counted by what the clients wanted, and there are three entries of ten.
    assert checks.expected_balances(known, books.ledger, {WALLET: 0}) == {WALLET: 20}


def declined_and_posted(books: Books) -> None:
    books.post(Wanted("spend", WALLET, 500, "declined"), 3, 0)


def half_a_batch(books: Books) -> None:
    books.ask(THREE, top_up("four"), how="atomic")
    books.hear(broken="ConnectionResetError")
    books.post(THREE, 3, 30)


def a_version_twice(books: Books) -> None:
    books.acknowledge(THREE, 1, 10)


def a_lower_version(books: Books) -> None:
    books.acknowledge(THREE, 9, 90)
    books.acknowledge(top_up("four"), 4, 40)


def an_old_read(books: Books) -> None:
    books.acknowledge(THREE, 9, 90)
    books.ask(Wanted("spend", WALLET, 500, "late"))
    books.hear(refused(8, 80))


def a_balance_that_does_not_follow(books: Books) -> None:
    books.acknowledge(THREE, 2, 25)


def two_balances_of_a_version(books: Books) -> None:
    books.ask(Wanted("spend", WALLET, 500, "late"))
    books.hear(refused(1, 11))


def posted_twice(books: Books) -> None:
    books.ask(ONE)
    books.hear(accepted(ONE, 1, 10))


def another_amount(books: Books) -> None:
    books.acknowledge(THREE, 3, 31, amount=11)


def refused_after_all(books: Books) -> None:
    books.ask(ONE)
    books.hear(refused(2, 20))


def an_internal_error(books: Books) -> None:
    books.ask(THREE)
    books.hear(Told(0, 500, {"code": "internal_error"}))


@pytest.mark.parametrize(
    ("break_books", "words"),
    [
        (declined_and_posted, "was declined, and posted"),
        (half_a_batch, "1 of 2 were posted"),
        (a_version_twice, "has version 1 of its wallet, as one has"),
        (a_lower_version, "has version 4, not above"),
        (an_old_read, "was told version 8, below"),
        (a_balance_that_does_not_follow, "tells a balance of 15 at version 1, another answer 10"),
        (two_balances_of_a_version, "tells a balance of 11 at version 1, another answer 10"),
        (posted_twice, "was posted a second time"),
        (another_amount, "asked for 10 and was told 11"),
        (refused_after_all, "was acknowledged and later refused"),
        (an_internal_error, "was answered 500 internal_error"),
    ],
)
def test_whatever_cannot_be_is_found(books: Books, break_books: Callable[[Books], None], words: str) -> None:
    break_books(books)
    found = books.find()[1]
    assert not found.lost
    assert not found.doubled
    assert any(words in fault for fault in found.wrong), found.wrong


def test_what_was_posted_while_the_service_drained_was_to_be_answered(books: Books) -> None:
    books.hear(broken="ConnectionRefusedError", at=7.0)  # It reached nobody.
    books.hear(accepted(TWO, 2, 20, idempotent=True, version=2), at=9.0)
    known, found = books.find()
    assert not found
    assert len(checks.find_unanswered(known, 4.0, 6.0)) == 1
    assert checks.find_unanswered(known, 6.0, 9.0) == []
