"""The index by reference that the worker keeps: at any lag a search over all wallets finds what was committed."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest

from tests.kernel.conftest import DOE, JOHN, ORIGIN, Books
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import BadFilterError
from wallet_app.service import Filters, references, walks
from wallet_app.service.posting import post


def never() -> bool:
    return False


def found(reference: str, **asked: object) -> list[int]:
    """The anchors of the transactions under the reference, newest first, over all pages."""
    wallet_ids, before = [], None
    while True:
        page = service.list_transactions(
            Filters(reference=reference, **asked),  # type: ignore[arg-type]
            wallet_id=None,
            before=before,
            limit=3,
        )
        wallet_ids += [view.transaction.wallet_id for view in page.items]
        if page.following is None:
            return wallet_ids
        before = page.following


def catch_up() -> None:
    """Let the mark pass what is there now: noted by one run, and passed in the next."""
    references.extend_index(never)
    references.extend_index(never)


def indexed(books: Books) -> int:
    return int(books.sql("SELECT count(*) FROM transaction_references")[0][0])


def mark(books: Books) -> object:
    return books.sql("SELECT indexed_below FROM transaction_reference_mark")[0][0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CLOCK_SLACK", dt.timedelta(0))
    monkeypatch.setattr(references, "ROWS_MAX", 7)


def test_a_reference_is_found_in_all_wallets_at_any_lag(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "ROWS_MAX", 4)
    wallets = books.make_wallets(11)
    for number, wallet_id in enumerate(wallets, 1):
        service.execute(books.bonus(wallet_id, 1, "campaign"))
        service.execute(books.top_up(JOHN, number))
        assert found("campaign") == wallets[:number][::-1], "before the worker"
        if number % 2:
            references.extend_index(never)
        if number % 3 == 0:
            books.sql("SELECT pg_sleep(0.003)")
            catch_up()
        assert found("campaign") == wallets[:number][::-1], "after it"
        assert found("campai") == found("Campaign") == []
    books.sql("SELECT pg_sleep(0.003)")
    catch_up()
    assert indexed(books) == books.sql("SELECT count(*) FROM transactions")[0][0]
    books.sql("SELECT pg_sleep(0.003)")
    catch_up()
    before = mark(books)
    assert references.extend_index(never) == 0
    assert mark(books) == before, "with nothing new, nothing is written"
    assert found("campaign", amount_min=2) == []
    assert found("campaign", actor="tests", kind="BONUS") == wallets[::-1], (
        "and with it, the other filters need no range"
    )
    # A row that does not belong there leads nowhere.
    books.sql("""INSERT INTO transaction_references
                 SELECT indexed.digest, (SELECT transaction_id FROM transactions WHERE reference_id = 'ref-3')
                   FROM transaction_references AS indexed JOIN transactions USING (transaction_id)
                  WHERE reference_id = 'campaign' LIMIT 1""")
    assert found("campaign") == wallets[::-1]


def run_beside_a_late_commit(books: Books) -> None:
    """Commit a transaction after others that came later, with the worker going on in between."""
    with unit_of_work() as connection:
        post(connection, [books.top_up(JOHN, 1, "late")])
        for _ in range(4):
            service.execute(books.top_up(DOE, 1))
            books.sql("SELECT pg_sleep(0.003)")
            references.extend_index(never)
        # What it wrote is sent with its COMMIT, which comes now.
    catch_up()
    service.execute(books.top_up(DOE, 1))


def test_the_mark_passes_nothing_that_is_still_to_be_committed(books: Books) -> None:
    run_beside_a_late_commit(books)
    assert found("late") == [JOHN]
    books.sql("SELECT pg_sleep(0.003)")
    catch_up()
    assert found("late") == [JOHN]
    assert service.verify(full=True).is_clean


def test_control_a_mark_that_waits_for_nobody_loses_what_is_committed_late(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = references._moved
    monkeypatch.setattr(references, "_moved", lambda mark, now, _, last: moved(mark, now, 2**62, last))
    run_beside_a_late_commit(broken_books)
    assert found("late") == []
    report = service.verify(full=True)
    assert {name for name, finding in report.findings.items() if finding.faults} == {"references"}
    # And this is how it is mended, once the cause is.
    monkeypatch.setattr(references, "_moved", moved)
    service.check_references_anew()
    catch_up()
    assert found("late") == [JOHN]
    assert service.verify(full=True).is_clean


def test_workers_at_once_and_one_that_stops_leave_each_transaction_in_it_once(books: Books) -> None:
    wallets = books.make_wallets(60)
    service.execute_batch([books.bonus(wallet_id, 1, f"gift-{wallet_id % 4}") for wallet_id in wallets])
    told = iter([False, False, True])
    assert references.extend_index(lambda: next(told)) == 13, "two pages, of which the second begins with a known one"
    assert sorted(found("gift-1")) == [wallet_id for wallet_id in wallets if wallet_id % 4 == 1]
    books.in_threads([partial(references.extend_index, never) for _ in range(6)])
    books.in_threads([partial(references.extend_index, never) for _ in range(6)])
    catch_up()
    assert indexed(books) == books.sql("SELECT count(*) FROM transactions")[0][0] == 63
    with unit_of_work() as connection:
        service.execute(books.top_up(JOHN, 1, "another"))
        from wallet_app.service import locks

        assert locks.try_lock_references(connection)
        (idle,) = books.in_threads([partial(references.extend_index, never)])
        assert idle == 0, "who finds another at it leaves"
    assert found("another") == [JOHN]


def test_without_the_worker_a_long_tail_is_told_and_a_range_still_answers(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "TAIL_MAX", 20)
    monkeypatch.setattr(walks, "TAIL_PAGE", 5)
    service.execute_batch([books.top_up(JOHN, 1) for _ in range(17)])
    assert found("ref-3") == [JOHN], "of 20, with the seeds"
    service.execute(books.top_up(JOHN, 1))
    lately = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    with pytest.raises(BadFilterError, match=r"`flask wallet worker`.* in at most 31 days"):
        found("ref-3")
    assert found("ref-3", created_from=lately) == [JOHN]
    catch_up()
    books.sql("SELECT pg_sleep(0.003)")
    catch_up()
    service.execute(books.top_up(JOHN, 1, "behind the mark"))
    assert found("ref-3") == found("behind the mark") == [JOHN]


def test_a_restored_database_and_a_clock_that_went_back_leave_nothing_out(books: Books) -> None:
    service.execute(books.top_up(JOHN, 1, "before"))
    references.extend_index(never)
    # Transactions are numbered by the server: here they begin low again.
    books.sql("UPDATE transaction_reference_mark SET noted_xid = noted_xid + 1000000000")
    service.execute(books.top_up(JOHN, 1, "in the new place"))
    before = mark(books)
    catch_up()
    assert mark(books) > before  # type: ignore[operator]
    # What the clock said yesterday was a minute ahead of what it says today.
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    ahead = references.first_id(later)
    books.sql("UPDATE transaction_reference_mark SET noted_at = %s, indexed_below = %s", later, ahead)
    service.execute(books.top_up(JOHN, 1, "after the step"))
    assert found("after the step") == [], "until the worker notices"
    references.extend_index(never)
    assert mark(books) < ahead  # type: ignore[operator]
    for reference in ("before", "in the new place", "after the step"):
        assert found(reference) == [JOHN]


def test_invented_history_is_found_although_it_lies_before_the_mark(books: Books) -> None:
    books.sql("SELECT pg_sleep(0.003)")
    catch_up()
    (wallet_id,) = books.make_wallets(1)
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
    service.execute_batch(
        [service.Bonus(wallet_id=wallet_id, reference="invented", origin=ORIGIN, amount=1)], clock=lambda: long_ago
    )
    catch_up()
    assert found("invented") == [wallet_id]
