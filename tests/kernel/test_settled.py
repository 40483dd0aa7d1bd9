"""Each settled transaction is handed out once: whoever commits late, whoever is killed, however many walk at once."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tests.kernel.conftest import DOE, JOHN, ORIGIN, Books
from tests.kernel.test_expiry import never, wait_for
from tests.kernel.test_failures import set_for_new_connections
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.service import posting, settled
from wallet_app.service.settled import Consumer


class Shelf:
    """Keeps what it is handed in a unit of work, as soon as that is committed."""

    def __init__(self, *, breaks: Callable[[], None] = lambda: None) -> None:
        self.consumer = Consumer("shelf", self.take, self.begin_again)
        self.breaks = breaks
        self._taken: list[uuid.UUID] = []
        self.restarts = 0

    def take(self, connection: Connection, after: uuid.UUID, until: uuid.UUID) -> None:
        rows = connection.scalars(
            text("SELECT transaction_id FROM transactions WHERE transaction_id > :after AND transaction_id <= :until"),
            {"after": after, "until": until},
        )
        taken = list(rows)
        self.breaks()
        self._taken += taken

    def begin_again(self, connection: Connection) -> None:
        self._taken = []
        self.restarts += 1

    def hand_out(self) -> int:
        return settled.hand_out(self.consumer, never)

    def has_all(self, books: Books) -> bool:
        """Walk once more, and tell whether all is there; what is there twice or was never posted is a failure."""
        self.hand_out()
        posted = Counter(row[0] for row in books.sql("SELECT transaction_id FROM transactions"))
        surplus = Counter(self._taken) - posted
        assert not surplus, f"handed out twice: {surplus}"
        return Counter(self._taken) == posted


@pytest.fixture(autouse=True)
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sets the clock back here, and to wait a second each time would take long."""
    monkeypatch.setattr(settled, "SLACK", dt.timedelta(0))


def late_posting(books: Books) -> tuple[threading.Thread, threading.Event]:
    """Decide a posting, with its id, and keep it from its COMMIT until the event."""
    is_decided, may_commit = threading.Event(), threading.Event()
    set_for_new_connections(books, "idle_in_transaction_session_timeout", "60s")

    def post() -> None:
        assert books.app is not None
        with books.app.app_context(), unit_of_work() as connection:
            (receipt,) = posting.post(connection, [books.top_up(JOHN, 1, "late")])
            assert isinstance(receipt, service.Receipt)
            is_decided.set()
            assert may_commit.wait(30)

    thread = threading.Thread(target=post)
    thread.start()
    assert is_decided.wait(30)
    return thread, may_commit


def commit_between(books: Books, shelf: Shelf) -> None:
    """A posting gets its id, others commit with later ones and the walk comes by, and then it commits."""
    thread, may_commit = late_posting(books)
    service.execute_batch([books.top_up(DOE, 1) for _ in range(5)])
    for _ in range(5):
        shelf.hand_out()
    may_commit.set()
    thread.join()


def test_who_commits_late_is_waited_for(books: Books) -> None:
    shelf = Shelf()
    commit_between(books, shelf)
    wait_for(partial(shelf.has_all, books))
    assert shelf.restarts == 0


def test_control_without_the_horizon_who_commits_late_is_lost(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = settled._bound

    class Around:
        def __init__(self, around: Any) -> None:
            self.own, self.horizon = around.own, around.own

    monkeypatch.setattr(settled, "_bound", lambda cursor, around: bound(cursor, Around(around)))
    shelf = Shelf()
    commit_between(books, shelf)
    for _ in range(10):
        assert not shelf.has_all(books)


def test_many_who_post_and_many_who_walk(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "ROWS_MAX", 7)
    shelf = Shelf()
    wallets = books.make_wallets(8)
    is_over = threading.Event()

    def post(wallet_id: int) -> None:
        for _ in range(20):
            service.execute_batch([books.top_up(wallet_id, 1), books.top_up(JOHN, 1)])

    def walk() -> None:
        while not is_over.is_set():
            shelf.hand_out()

    walkers = [threading.Thread(target=_in_context, args=(books, walk)) for _ in range(3)]
    for thread in walkers:
        thread.start()
    books.in_threads([partial(post, wallet) for wallet in wallets])
    is_over.set()
    for thread in walkers:
        thread.join()
    wait_for(partial(shelf.has_all, books))
    assert shelf.restarts == 0


def _in_context(books: Books, work: Callable[[], None]) -> None:
    assert books.app is not None
    with books.app.app_context():
        work()


def test_what_breaks_in_the_middle_is_handed_out_again(books: Books) -> None:
    service.execute_batch([books.top_up(JOHN, 1) for _ in range(20)])

    def burst() -> None:
        raise ConnectionResetError

    shelf = Shelf(breaks=burst)

    def breaks_once() -> bool:
        try:
            shelf.hand_out()
        except ConnectionResetError:
            return True
        return False

    wait_for(breaks_once)
    assert breaks_once(), "and again: it did not move on"
    shelf.breaks = lambda: None
    wait_for(partial(shelf.has_all, books))


def test_invented_history_makes_it_begin_again_when_that_is_over(books: Books) -> None:
    shelf = Shelf()
    service.execute(books.top_up(JOHN, 1))
    wait_for(partial(shelf.has_all, books))
    expected = settled.expect_older()
    assert shelf.hand_out() == 0, "not as long as older ids may come"
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    (wallet,) = books.make_wallets(1)
    books.sql("UPDATE wallet_balances SET updated_at = %s WHERE wallet_id = %s", long_ago, wallet)
    command = service.TopUp(wallet_id=wallet, reference="old", origin=ORIGIN, amount=1)
    service.execute_batch([command], clock=lambda: long_ago)
    assert not shelf.has_all(books)
    settled.older_are_there([expected])
    wait_for(partial(shelf.has_all, books))
    assert shelf.restarts == 1


def test_a_clock_that_was_set_back_and_a_restored_database(books: Books) -> None:
    shelf = Shelf()
    service.execute(books.top_up(JOHN, 1))
    wait_for(partial(shelf.has_all, books))
    books.sql("UPDATE settled_cursors SET seen_at = clock_timestamp() + interval '1 hour'")
    wait_for(lambda: shelf.has_all(books) and shelf.restarts == 1)
    service.execute(books.top_up(JOHN, 1))
    # As in a dump of a server that had counted further.
    books.sql("UPDATE settled_cursors SET candidate_at = clock_timestamp(), ceiling = 4000000000000")
    wait_for(partial(shelf.has_all, books))
    assert shelf.restarts == 1


def test_where_nothing_happens_nothing_is_written(books: Books) -> None:
    shelf = Shelf()
    service.execute(books.top_up(JOHN, 1))
    wait_for(partial(shelf.has_all, books))
    wait_for(lambda: not settled._has_more("shelf"))
    before = books.sql("SELECT xmin::text, xmax::text FROM settled_cursors")
    assert [shelf.hand_out() for _ in range(3)] == [0, 0, 0]
    assert books.sql("SELECT xmin::text, xmax::text FROM settled_cursors") == before
