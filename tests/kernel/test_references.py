"""The index by reference that the worker keeps: at any lag a search over all wallets finds what was committed."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest

from tests.kernel.conftest import JOHN, ORIGIN, Books
from tests.kernel.test_expiry import never, wait_for
from wallet_app import service
from wallet_app.errors import BadFilterError
from wallet_app.service import Filters, references, settled, walks


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
    """Let the index have all there is, as soon as nobody on this server has been at work since before it."""
    wait_for(lambda: references.extend_index(never) == 0 and not settled._has_more(references.NAME))


def indexed(books: Books) -> int:
    return int(books.sql("SELECT count(*) FROM transaction_references")[0][0])


def position(books: Books) -> object:
    return books.sql("SELECT position FROM settled_cursors WHERE consumer = 'references'")[0][0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "SLACK", dt.timedelta(0))
    monkeypatch.setattr(settled, "ROWS_MAX", 7)
    monkeypatch.setattr(settled, "OLDER_WITHIN", dt.timedelta(0))


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
            catch_up()
        assert found("campaign") == wallets[:number][::-1], "after it"
        assert found("campai") == found("Campaign") == []
    catch_up()
    assert indexed(books) == books.sql("SELECT count(*) FROM transactions")[0][0]
    before = position(books)
    assert references.extend_index(never) == 0
    assert position(books) == before, "with nothing new, nothing is written"
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


def test_what_is_missing_is_told_and_added_by_going_through_all_again(books: Books) -> None:
    service.execute(books.top_up(JOHN, 1, "lost"))
    catch_up()
    books.sql(
        """DELETE FROM transaction_references USING transactions
            WHERE transactions.transaction_id = transaction_references.transaction_id AND reference_id = 'lost'"""
    )
    assert found("lost") == []
    report = service.verify(full=True)
    assert {name for name, finding in report.findings.items() if finding.faults} == {"references"}
    service.check_references_anew()
    catch_up()
    assert found("lost") == [JOHN]
    assert service.verify(full=True).is_clean


def test_workers_at_once_leave_each_transaction_in_it_once(books: Books) -> None:
    wallets = books.make_wallets(60)
    service.execute_batch([books.bonus(wallet_id, 1, f"gift-{wallet_id % 4}") for wallet_id in wallets])
    for _ in range(3):
        books.in_threads([partial(references.extend_index, never) for _ in range(6)])
    catch_up()
    assert indexed(books) == books.sql("SELECT count(*) FROM transactions")[0][0] == 63
    assert sorted(found("gift-1")) == [wallet_id for wallet_id in wallets if wallet_id % 4 == 1]


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
    service.execute(books.top_up(JOHN, 1, "after the index"))
    assert found("ref-3") == found("after the index") == [JOHN]


def test_invented_history_is_found_although_it_is_older_than_the_index(books: Books) -> None:
    catch_up()
    (wallet_id,) = books.make_wallets(1)
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
    settled.expect_older()
    service.execute_batch(
        [service.Bonus(wallet_id=wallet_id, reference="invented", origin=ORIGIN, amount=1)], clock=lambda: long_ago
    )
    catch_up()
    assert found("invented") == [wallet_id]
