"""GET /balance?at= tells what a plain read told then: kept at each step of a random history, compared at its end."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from tests.kernel.conftest import DOE, JOHN, Books
from wallet_app import service
from wallet_app.errors import InstantAheadError, SystemEntriesError, WalletNotFoundError, WalletServiceError
from wallet_app.service import WalletView

pytestmark = pytest.mark.wide

NOW = "SELECT clock_timestamp()"
KINDS = ("top up", "spend", "transfer", "hold", "hold", "capture", "capture", "release", "undo", "grant", "grant")
FOR_CERTAIN = {
    20: ("top up", "hold", "hold", "hold", "hold", "wait"),
    30: ("grant", "grant", "grant", "hold", "hold", "wait", "grant", "wait", "spend"),
    40: ("top up", "spend all", "undo", "undo", "top up"),
    60: ("top up", "hold", "hold", "hold", "spend all", "undo", "wait"),
}
"""What chance may leave out: something due, something owed, and both."""
ORIGIN = service.Origin(client="tests", actor="tests")


def step(books: Books, dice: random.Random, holds: list[service.Hold], what: str) -> None:
    """Post something, or let time pass; what is declined changes nothing but what was due."""
    amount = dice.randint(1, 30)
    hold = dice.choice(holds) if holds else None
    if what == "wait":
        books.sql("SELECT pg_sleep(1.01)")
        return
    try:
        if what == "top up":
            service.execute(books.top_up(JOHN, amount))
        elif what == "spend":
            service.execute(books.spend(JOHN, amount))
        elif what == "spend all":
            service.execute(books.spend(JOHN, service.get_wallet(JOHN).balance or 1))
        elif what == "grant":
            end = books.sql(NOW)[0][0] + dt.timedelta(seconds=dice.choice((1, 1, 2, 600)))
            service.execute(books.command(service.Bonus, JOHN, amount, expires_at=end))
        elif what == "undo":
            undo(books, dice)
        elif what == "transfer":
            service.execute(books.command(service.Transfer, JOHN, amount, to_wallet_id=DOE))
        elif what == "hold":
            seconds = dice.choice((1, 600))
            receipt = service.execute(books.command(service.PlaceHold, JOHN, amount, expires_in=seconds))
            assert receipt.hold is not None
            holds.append(receipt.hold)
        elif hold is not None and what == "capture":
            part = dice.choice((None, 1, 2))
            command = service.CaptureHold(
                wallet_id=JOHN,
                reference=f"capture-{dice.random()}",
                origin=ORIGIN,
                hold_id=hold.hold_id,
                amount=part,
                is_final=part is None,
            )
            service.execute(command)
        elif hold is not None:
            service.execute(
                service.ReleaseHold(
                    wallet_id=JOHN,
                    reference=f"release-{dice.random()}",
                    origin=ORIGIN,
                    hold_id=hold.hold_id,
                )
            )
    except WalletServiceError:
        pass


def undo(books: Books, dice: random.Random) -> None:
    """Reverse a top-up, in part perhaps, and let what is not there be owed."""
    top_ups = books.sql("SELECT transaction_id FROM transactions WHERE wallet_id = %s AND kind = 'TOPUP'", JOHN)
    if top_ups:
        service.execute(
            service.ReverseTransaction(
                wallet_id=JOHN,
                reference=f"undo-{dice.random()}",
                origin=ORIGIN,
                transaction_id=dice.choice(top_ups)[0],
                reason="a test",
                amount=dice.choice((None, 1, 5)),
                on_shortfall="debt",
            )
        )


def seen(books: Books) -> tuple[dt.datetime, WalletView]:
    """Return an instant, and what a read tells, so that the end of no hold and no lot lies between."""
    while True:
        instant = books.sql(NOW)[0][0]
        view = service.get_wallet(JOHN)
        ends = "SELECT 1 FROM {} WHERE wallet_id = %s AND expires_at BETWEEN %s AND clock_timestamp()"
        if not any(books.sql(ends.format(table), JOHN, instant) for table in ("holds", "lots")):
            return instant, view


def told_later(view: WalletView) -> WalletView:
    """Return the view without what is told of now alone: what was granted, and what is about to expire."""
    over = view.expiring
    return view._replace(bonus=0, expiring=service.Expiring(over=over.over, over_back=over.over_back))


@pytest.mark.parametrize("seed", range(3))
def test_each_instant_tells_what_was_told_then(books: Books, seed: int) -> None:
    dice, told = random.Random(seed), []
    holds: list[service.Hold] = []
    for number in range(80):
        for what in FOR_CERTAIN.get(number, (dice.choice(KINDS),)):
            step(books, dice, holds, what)
            told.append(seen(books))
    assert max(view.due for _, view in told) > 0, "something was due and not settled"
    assert len({view.held for _, view in told}) > 10
    assert len({view.owed for _, view in told}) > 1, "something was owed"
    assert max(view.expiring.over for _, view in told) > 0, "something had expired and was not settled"
    assert max(view.expiring.over_back for _, view in told) > 0, "and a hold that was due kept some of it"
    for instant, view in told:
        assert service.get_wallet_at(JOHN, instant) == told_later(view)


def test_an_entry_counts_from_its_microsecond_on(books: Books) -> None:
    entries = [service.execute(books.top_up(JOHN, 1)).transaction.entries[0] for _ in range(3)]
    microsecond = dt.timedelta(microseconds=1)
    for entry in entries:
        assert service.get_wallet_at(JOHN, entry.created_at).version == entry.seq
        assert service.get_wallet_at(JOHN, entry.created_at - microsecond).version == entry.seq - 1


def test_before_its_first_entry_a_wallet_had_nothing(books: Books) -> None:
    first = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    for wallet_id in (JOHN, books.make_wallets(1)[0]):
        view = service.get_wallet_at(wallet_id, first)
        assert (view.balance, view.held, view.due, view.version) == (0, 0, 0, 0)
        assert view.updated_at == view.created_at


def test_entries_of_one_batch_count_together(books: Books) -> None:
    service.execute_batch([books.top_up(JOHN, 1) for _ in range(10)])
    last = service.list_entries(JOHN, before_seq=None, limit=1)[0].entry
    assert service.get_wallet_at(JOHN, last.created_at).version == last.seq == 11


def test_what_will_be_is_not_told(books: Books) -> None:
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    for instant in (ahead, dt.datetime.max.replace(tzinfo=dt.UTC)):
        with pytest.raises(InstantAheadError):
            service.get_wallet_at(JOHN, instant)


def test_the_systems_wallets_and_those_of_others_are_not_told(books: Books) -> None:
    now = dt.datetime.now(dt.UTC)
    with pytest.raises(SystemEntriesError):
        service.get_wallet_at(1, now)
    with pytest.raises(WalletNotFoundError):
        service.get_wallet_at(JOHN, now, permit=service.Permit(scopes=frozenset(), user_id=3))
