"""A wallet is read by a short statement or by the long one, whichever knows it; they say the same."""

from __future__ import annotations

from tests.history import History
from tests.kernel.conftest import DOE, JOHN, Books
from tests.kernel.test_holds import placed
from tests.kernel.test_lots import after, grant
from tests.kernel.test_reversals import reverse
from tests.kernel.test_states import close, freeze
from tests.test_reports import BEGIN
from wallet_app import service
from wallet_app.db import READS, db
from wallet_app.round_trip import ask
from wallet_app.service.queries import _PLAIN_WALLET, _WALLET

SYSTEM = 1
NOBODY = 999_999


def plain(wallet_id: int) -> bool:
    """Return whether the short statement knows the wallet; then it says what the long one says."""
    with db.engines[READS].connect() as connection:
        short, long = ask(connection, _PLAIN_WALLET(wallet_id), _WALLET(wallet_id))
    assert short in ([], long)
    return bool(short)


def test_a_plain_wallet_is_read_as_the_whole_view_has_it(broken_books: Books) -> None:
    books = broken_books  # A freeze that ended is made by hand.
    owing, frozen, thawed, closed, standing, held, ending, lost = books.make_wallets(8, balance=100)
    granted = service.execute(books.top_up(owing, 50))
    service.execute(books.spend(owing, 150))
    reverse(granted.transaction.transaction_id, on_shortfall="debt")
    assert service.get_wallet(owing).owed == 50
    service.execute(freeze(books, frozen, until=after(hours=1)))
    service.execute(freeze(books, thawed, until=after(hours=1)))
    books.sql("UPDATE wallets SET debits_frozen_until = now() - interval '1 hour' WHERE id = %s", thawed)
    service.execute(books.spend(closed, 100))
    service.execute(close(books, closed))
    grant(books, 40, wallet_id=standing)
    placed(books, held, 10)
    grant(books, 40, after(hours=1), wallet_id=ending)
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", lost)
    assert all(plain(wallet_id) for wallet_id in (JOHN, DOE, owing, frozen, thawed, closed, standing))
    assert not any(plain(wallet_id) for wallet_id in (held, ending, lost, SYSTEM, NOBODY))
    assert service.get_wallet(lost).balance == 100
    service.execute(books.top_up(lost, 1))
    assert plain(lost)


def test_after_a_history_each_wallet_is_read_as_the_whole_view_has_it(books: Books) -> None:
    history = History(BEGIN)
    history.post(30)
    known = [plain(wallet_id) for pair in history.users for wallet_id in pair]
    assert {*known} == {True, False}
