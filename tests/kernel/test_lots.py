"""Lots in the kernel: what ends is taken first, and ends exactly; bonus stays bonus, and what was held ends too."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
import uuid
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, outcome_of
from tests.kernel.test_books_properties import START, attempt
from tests.kernel.test_holds import Clock, capture, place, placed, release
from tests.kernel.test_lots_properties import JOHN as WALLET
from tests.kernel.test_lots_properties import World
from tests.kernel.test_preview import posted, previewed
from tests.kernel.test_reversals import reverse, reversing
from tests.kernel.test_statements import names, round_trips
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import (
    BroughtExpiredError,
    InsufficientBalanceError,
    LotEndNotLaterError,
    LotEndPassedError,
    LotFinishedError,
    LotNotOneGrantError,
    LotUsedError,
    LotWithoutEndError,
    OverReversalError,
    ReferenceMismatchError,
    TooManyLotsError,
)
from wallet_app.service import execution, lot_rules, posting
from wallet_app.service.instants import end_of_day
from wallet_app.service.lot_rules import FOR_EVER, converted_natures
from wallet_app.service.lots import NewLot

START_BALANCE = 500
"""What John has of GOLD, all of it paid."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def after(**time: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(**time)


def grant(books: Books, amount: int, end: Any = None, wallet_id: int = JOHN, **more: Any) -> uuid.UUID:
    """Grant a bonus and return its transaction's id, which is its lot's if it ends."""
    return service.execute(books.bonus(wallet_id, amount, expires_at=end, **more)).transaction.transaction_id


def lots(books: Books, wallet_id: int = JOHN) -> list[tuple[Any, ...]]:
    """Return kind, amount, available, held, consumed, expired, revoked of the wallet's lots in the order of taking."""
    return books.sql(
        """SELECT kind, amount, available, held, consumed, expired, revoked FROM lots
            WHERE wallet_id = %s ORDER BY expires_at, kind, seq, part""",
        wallet_id,
    )


def available(books: Books, wallet_id: int = JOHN) -> list[int]:
    return [row[2] for row in lots(books, wallet_id)]


def row(books: Books, wallet_id: int = JOHN) -> tuple[int, int, int]:
    """Return balance, bonus, lots."""
    ((*found,),) = books.sql("SELECT balance, bonus, lots FROM wallet_balances WHERE wallet_id = %s", wallet_id)
    balance, bonus, count = found
    return balance, bonus, count


def kinds(books: Books, wallet_id: int = JOHN) -> list[str]:
    return [
        kind
        for (kind,) in books.sql("SELECT entry_type FROM ledger_entries WHERE wallet_id = %s ORDER BY seq", wallet_id)
    ]


def extending(lot_id: uuid.UUID, end: Any, reference: str = "extend") -> service.ExtendLot:
    return service.ExtendLot(
        wallet_id=JOHN, reference=reference, origin=ORIGIN, lot_id=lot_id, expires_at=end, reason="a test"
    )


def revoking(lot_id: uuid.UUID, on_shortfall: str = "refuse", reference: str = "revoke") -> service.RevokeLot:
    return service.RevokeLot(
        wallet_id=JOHN,
        reference=reference,
        origin=ORIGIN,
        lot_id=lot_id,
        on_shortfall=on_shortfall,
        reason="a test",
    )


# --- taking ---


def test_what_ends_soonest_is_taken_first_then_bonus_for_ever_then_what_was_paid(books: Books) -> None:
    grant(books, 50)
    grant(books, 30, after(days=10))
    grant(books, 20, after(days=5))
    assert row(books) == (600, 100, 2)
    service.execute(books.spend(JOHN, 35))
    assert available(books) == [0, 15, 50]
    service.execute(books.spend(JOHN, 45))
    assert available(books) == [0, 0, 20]
    with round_trips() as trips:
        service.execute(books.spend(JOHN, 40))
    assert [len(questions) for questions in trips] == [4, 7], "no lot that ends is left: the balance row tells the rest"
    assert (row(books), lots(books)[2]) == ((480, 0, 0), ("bonus", 50, 0, 0, 50, 0, 0))
    service.execute(books.spend(JOHN, 480))


def test_a_batch_takes_one_round_trip_more_for_lots_however_many_wallets_have_some(books: Books) -> None:
    wallets = books.make_wallets(20, balance=10)
    with_lots = [books.bonus(wallet_id, 5, expires_at=after(days=n)) for wallet_id in wallets for n in (1, 2)]
    service.execute_batch(with_lots)
    asked = []
    for some in (wallets[:1], wallets):
        with round_trips() as trips:
            service.execute_batch([books.spend(wallet_id, 7) for wallet_id in some for _ in range(2)])
        asked.append([names(questions) for questions in trips])
    assert asked[0] == asked[1]
    assert asked[0][1] == ["load_lots"]
    assert {tuple(available(books, wallet_id)) for wallet_id in wallets} == {(0, 0)}


def test_the_last_unit_is_there_until_the_instant_of_its_end_and_not_then() -> None:
    end = START + dt.timedelta(seconds=10)
    for before, is_spent in ((dt.timedelta(microseconds=1), True), (dt.timedelta(0), False)):
        world = World()
        common: Any = {"wallet_id": WALLET, "origin": ORIGIN}
        attempt(world.books, service.Bonus(reference="grant", amount=1, expires_at=end, **common))
        world.clock.now = end - before
        outcome = attempt(world.books, service.Spend(reference="spend", amount=1, **common))
        assert isinstance(outcome, service.Receipt if is_spent else InsufficientBalanceError)
        assert world.wallet(WALLET).balance == 0


# --- ends ---


DAYS = [
    ("2026-03-28", "Europe/Berlin", "2026-03-28T23:00:00"),
    ("2026-03-29", "Europe/Berlin", "2026-03-29T22:00:00"),
    ("2026-10-25", "Europe/Berlin", "2026-10-25T23:00:00"),
    ("2026-12-31", "UTC", "2027-01-01T00:00:00"),
    ("2026-12-31", "Pacific/Kiritimati", "2026-12-31T10:00:00"),
    # Midnight is left out: the day begins with the hour after it.
    ("2024-04-25", "Africa/Cairo", "2024-04-25T22:00:00"),
    # The day's first hour comes twice: it begins with the first of them.
    ("2026-10-24", "Atlantic/Azores", "2026-10-25T00:00:00"),
    # A whole day is left out.
    ("2011-12-29", "Pacific/Apia", "2011-12-30T10:00:00"),
]


def test_a_day_ends_where_the_asset_is() -> None:
    for day, zone, expected in DAYS:
        found = end_of_day(dt.date.fromisoformat(day), zone)
        assert found.isoformat() == f"{expected}+00:00", (day, zone)


def test_an_end_is_said_as_an_instant_a_day_none_or_not_at_all(books: Books) -> None:
    books.sql("UPDATE asset_types SET time_zone = 'Asia/Tokyo', bonus_days = 3 WHERE code = 'GOLD'")
    today = dt.datetime.now(dt.UTC).date()
    first = books.bonus(JOHN, 1, "day", expires_at=dt.date(2030, 5, 1))
    unsaid = books.bonus(JOHN, 2, "unsaid")
    commands = [first, unsaid, books.bonus(JOHN, 4, expires_at=None)]
    receipts = [service.execute(command) for command in commands]
    ends = dict(books.sql("SELECT amount, expires_at FROM lots WHERE wallet_id = %s", JOHN))
    assert ends[1] == dt.datetime(2030, 5, 1, 15, tzinfo=dt.UTC)
    assert ends[2].hour == 15
    assert 2 <= (ends[2].date() - today).days <= 4
    assert ends[4] == service.NO_END
    assert [receipt.transaction.result for receipt in receipts][1:] == [
        {"expiresAt": ends[2].strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
        None,
    ]
    for past in (dt.date(2020, 1, 1), after(seconds=-1), dt.date(9998, 12, 31), service.NO_END):
        assert isinstance(outcome_of(books.bonus(JOHN, 1, "refused", expires_at=past)), LotEndPassedError)
    # What was asked is compared as it was said, so it replays whatever the asset says since.
    books.sql("UPDATE asset_types SET time_zone = 'UTC', bonus_days = NULL")
    for command, receipt in zip((first, unsaid), receipts, strict=False):
        again = service.execute(command)
        assert again.is_replay
        assert again.transaction.entries == receipt.transaction.entries
        assert again.transaction.result == receipt.transaction.result
    for other in (None, dt.date(2030, 5, 2)):
        assert isinstance(outcome_of(books.bonus(JOHN, 1, "day", expires_at=other)), ReferenceMismatchError)
    # What a purchase brings along is as unsaid; what is topped up ends only if the asset says so.
    books.sql("UPDATE asset_types SET bonus_days = 1, paid_days = 2")
    legs = (service.Leg(JOHN, "BONUS", 16), service.Leg(JOHN, "TOPUP", 32), service.Leg(JOHN, "SPEND", 1))
    service.execute(service.Purchase(wallet_id=JOHN, reference="buys", origin=ORIGIN, legs=legs))
    assert lots(books)[0] == ("bonus", 16, 15, 0, 1, 0, 0)
    assert lots(books)[1] == ("paid", 32, 32, 0, 0, 0, 0)
    assert row(books) == (START_BALANCE + 54, 22, 4)


# --- expiry ---


def test_what_has_expired_is_booked_before_anything_is_decided_and_stays_if_that_is_declined(
    books: Books, clock: Clock
) -> None:
    lot = grant(books, 100, after(hours=1))
    service.execute(books.spend(JOHN, 60))
    grant(books, 7, after(hours=3))
    clock.move(hours=2)
    refused = outcome_of(books.spend(JOHN, START_BALANCE + 8, "declined"))
    assert isinstance(refused, InsufficientBalanceError)
    assert refused.details["balance"] == START_BALANCE + 7, "only what was left of the grant has gone"
    assert kinds(books)[-1] == "EXPIRY"
    assert lots(books) == [("bonus", 100, 0, 0, 60, 40, 0), ("bonus", 7, 7, 0, 0, 0, 0)]
    ((reference, contra),) = books.sql(
        """SELECT t.reference_id, u.name FROM transactions t JOIN ledger_entries e USING (wallet_id, seq)
             JOIN wallets w ON w.id = e.contra_wallet_id JOIN users u ON u.id = w.user_id WHERE t.kind = 'EXPIRY'"""
    )
    assert (reference, contra) == (f"sys:expire:{lot}", "Breakage")
    # The sweep that comes later finds it done.
    assert service.execute(lot_rules.expiry_of(JOHN, lot, after(hours=1))).is_replay
    assert books.transactions("declined") == 0


def test_after_a_clock_was_set_back_a_transfer_has_one_time_for_both_its_wallets(books: Books) -> None:
    """Doe's wallet was moved by a clock that was ahead: by what it then says, John's grant is over."""
    grant(books, 60, after(hours=1))
    ahead = after(hours=2)
    execution.execute_batch([books.top_up(DOE, 1)], clock=lambda: ahead)
    moved = service.execute(books.command(service.Transfer, JOHN, 70, to_wallet_id=DOE))
    assert isinstance(moved, service.Receipt)
    assert lots(books) == [("bonus", 60, 0, 0, 0, 60, 0)]
    assert row(books) == (START_BALANCE - 70, 0, 0)
    assert lots(books, DOE) == []


def test_what_is_held_does_not_end_while_it_is_held_and_goes_back_to_its_lot(books: Books, clock: Clock) -> None:
    service.execute(books.spend(JOHN, START_BALANCE - 5))
    grant(books, 30, after(minutes=30))
    grant(books, 10, after(minutes=20))
    hold = service.execute(place(books, JOHN, 35, 7200)).hold
    assert hold is not None
    assert [part[1] for part in hold.lots] == [10, 25]
    service.execute(capture(hold, 4, reference="part"))
    assert lots(books) == [("bonus", 10, 0, 6, 4, 0, 0), ("bonus", 30, 5, 25, 0, 0, 0)]
    clock.move(minutes=25)
    service.execute(books.top_up(JOHN, 1))
    assert lots(books)[0] == ("bonus", 10, 0, 6, 4, 0, 0), "what is held has not ended"
    # The rest comes back to the lots: of the one that has ended meanwhile it goes at once, of the other it can be used.
    service.execute(release(hold, "release"))
    assert lots(books) == [("bonus", 10, 0, 0, 4, 6, 0), ("bonus", 30, 30, 0, 0, 0, 0)]
    assert kinds(books)[-2:] == ["RELEASE", "EXPIRY"]
    clock.move(minutes=10)
    assert isinstance(outcome_of(books.spend(JOHN, 1_000)), InsufficientBalanceError)
    assert row(books) == (6, 0, 0), "nothing of it has become permanent"


# --- reversals ---


def test_a_reversal_gives_back_to_the_same_lots_last_taken_first(books: Books) -> None:
    grant(books, 10, after(days=1))
    grant(books, 20, after(days=2))
    grant(books, 5)
    spent = service.execute(books.spend(JOHN, 40)).transaction.transaction_id
    assert row(books) == (START_BALANCE - 5, 0, 0)
    expected = [([0, 0, 0], 3), ([0, 0, 3], 5), ([0, 15, 5], 5), ([10, 20, 5], 5)]
    for amount, (left, paid) in zip((3, 5, 17, 15), expected, strict=True):
        reverse(spent, amount)
        assert available(books) == left
        assert row(books)[0] - sum(left) == START_BALANCE - 5 + paid
    assert isinstance(outcome_of(reversing(spent, 1)), OverReversalError)


def test_what_is_told_as_left_to_reverse_is_what_a_reversal_takes_also_before_an_end_is_booked(books: Books) -> None:
    """Of a grant that was spent in part, with a hold that is over too, and ends before anybody books that."""
    lot, paid = grant(books, 100, after(days=3)), service.execute(books.top_up(JOHN, 50)).transaction.transaction_id
    service.execute(books.spend(JOHN, 60))
    ends_at = placed(books, JOHN, 15, 1).expires_at
    assert told(lot) == told_in_list(lot) == (0, 100)
    books.sql("SELECT pg_sleep(greatest(0, extract(epoch FROM %s - clock_timestamp())))", ends_at)
    for table in ("lots", "lot_movements"):
        books.sql(
            "SET session_replication_role = replica;"
            f"UPDATE {table} SET expires_at = expires_at - interval '9 days' WHERE wallet_id = {JOHN}"
        )
    assert lots(books)[0][2:6] == (25, 15, 60, 0), "nothing of it is booked"
    assert told(lot) == told_in_list(lot) == (40, 60)
    assert told(paid) == (0, 50)
    assert isinstance(outcome_of(reversing(lot, 61)), OverReversalError)
    assert lots(books)[0][2:6] == (0, 0, 60, 40), "now it is booked"
    assert told(lot) == told_in_list(lot) == (40, 60)
    assert service.execute(reversing(lot)).transaction.entries[0].amount == -60
    assert told(lot) == (40, 0)


def told(transaction_id: uuid.UUID) -> tuple[int, int]:
    """Return what is told of the transaction's one entry: how much has expired, and is left to be reversed."""
    (one,) = service.get_transaction(transaction_id).reversible
    return one.expired, one.remaining


def told_in_list(transaction_id: uuid.UUID) -> tuple[int, int]:
    page = service.list_transactions(service.Filters(), wallet_id=JOHN, before=None, limit=50)
    (view,) = [one for one in page.items if one.transaction.transaction_id == transaction_id]
    return view.reversible[0].expired, view.reversible[0].remaining


def test_what_comes_back_to_a_lot_that_has_expired_expires_at_once_or_is_granted_anew(
    books: Books, clock: Clock
) -> None:
    lot = grant(books, 10, after(hours=1))
    first = service.execute(books.spend(JOHN, 4)).transaction.transaction_id
    second = service.execute(books.spend(JOHN, 3)).transaction.transaction_id
    clock.move(hours=2)
    service.execute(books.top_up(JOHN, 1))
    assert lots(books) == [("bonus", 10, 0, 0, 7, 3, 0)]
    reverse(first)
    assert lots(books) == [("bonus", 10, 0, 0, 3, 7, 0)]
    assert row(books) == (START_BALANCE + 1, 0, 0)
    assert kinds(books)[-2:] == ["REVERSAL", "EXPIRY"]
    assert books.sql("SELECT count(*) FROM transactions WHERE reference_id LIKE %s", f"sys:expire:{lot}%") == [(2,)]
    anew = reversing(second, reference="anew", on_expired="regrant", grace_days=2)
    receipt = service.execute(anew)
    assert lots(books) == [("bonus", 10, 0, 0, 3, 7, 0), ("bonus", 3, 3, 0, 0, 0, 0)]
    assert [move[0] for move in books.sql("SELECT kind FROM lot_movements WHERE transaction_id = %s", new_id(receipt))]
    assert service.execute(anew).is_replay
    # Of the grant, what has expired is not taken back a second time: three are left of it, which were used.
    assert isinstance(outcome_of(reversing(lot, 4)), OverReversalError)
    reverse(lot, 3)
    assert row(books) == (START_BALANCE + 1, 0, 0)


def new_id(receipt: service.Receipt) -> uuid.UUID:
    return receipt.transaction.transaction_id


def test_a_grant_is_taken_back_from_its_lot_and_a_top_up_from_what_was_paid(books: Books) -> None:
    soon = grant(books, 10, after(days=1))
    late = grant(books, 20, after(days=2))
    paid = service.execute(books.top_up(JOHN, 7)).transaction.transaction_id
    reverse(late, 15)
    assert available(books) == [10, 5]
    reverse(paid)
    assert available(books) == [10, 5], "not from bonus, or bonus would have become paid"
    service.execute(books.spend(JOHN, 12))
    assert available(books) == [0, 3]
    reverse(soon)
    assert available(books) == [0, 0], "its own lot has nothing any more: then what ends soonest, then what was paid"
    assert row(books) == (START_BALANCE - 7, 0, 0)


# --- transfers and exchanges ---


def test_a_transfer_and_its_reversal_keep_what_credit_is(books: Books) -> None:
    end = after(days=1)
    grant(books, 10, end)
    grant(books, 5)
    moved = service.execute(books.command(service.Transfer, JOHN, 20, to_wallet_id=DOE)).transaction.transaction_id
    assert lots(books, DOE) == [("bonus", 10, 10, 0, 0, 0, 0), ("bonus", 5, 5, 0, 0, 0, 0)]
    assert books.sql("SELECT expires_at FROM lots WHERE wallet_id = %s AND seq > 0", DOE) == [(end,)]
    assert row(books, DOE) == (320, 15, 1)
    reverse(moved, 8)
    assert (row(books), row(books, DOE)) == ((503, 3, 0), (312, 12, 1))
    reverse(moved)
    assert (row(books), row(books, DOE)) == ((515, 15, 1), (300, 0, 0))


def test_an_exchange_rounds_for_bonus_and_for_the_shorter_life(books: Books) -> None:
    soon, late = NewLot("bonus", START), NewLot("bonus", START + dt.timedelta(days=1))
    paid = NewLot("paid", START + dt.timedelta(hours=1))
    parts = [(soon, 1), (paid, 1), (late, 1), (FOR_EVER, 1), (None, 1)]
    assert converted_natures(parts, Fraction(1, 2)) == [(paid, 1), (late, 1)]
    assert converted_natures(parts, Fraction(3)) == [(nature, 3) for nature, _ in parts]
    for share in (Fraction(1, 3), Fraction(5, 7)):
        made = converted_natures([(soon, 3), (FOR_EVER, 2), (None, 4)], share)
        assert sum(amount for _, amount in made) == int(9 * share)
        assert dict(made).get(None, 0) == int(4 * share)
    grant(books, 3, after(days=1))
    command = books.command(service.Exchange, JOHN, 5, to_wallet_id=JOHN_DIAMOND, rate=Fraction(1, 2))
    exchanged = service.execute(command).transaction.transaction_id
    assert (row(books), row(books, JOHN_DIAMOND)) == ((498, 0, 0), (12, 1, 1))
    reverse(exchanged)
    assert (row(books), row(books, JOHN_DIAMOND)) == ((503, 3, 1), (10, 0, 0))


# --- extending and revoking ---


def test_a_lot_can_be_used_until_a_later_end_that_does_not_come_sooner(books: Books, clock: Clock) -> None:
    lot, end = grant(books, 10, after(hours=1)), after(hours=5)
    version = service.get_wallet(JOHN).version
    receipt = service.execute(extending(lot, end))
    assert receipt.wallets[0].version == version, "it makes no entry"
    assert receipt.transaction.result is not None
    assert receipt.transaction.result["left"] == 10
    clock.move(hours=2)
    service.execute(books.spend(JOHN, 4))
    assert lots(books) == [("bonus", 10, 6, 0, 4, 0, 0)]
    again = service.execute(extending(lot, end))
    assert (again.is_replay, again.transaction.result) == (True, receipt.transaction.result)
    assert isinstance(outcome_of(extending(lot, after(hours=4), "sooner")), LotEndNotLaterError)
    assert isinstance(outcome_of(extending(lot, dt.date(2020, 1, 1), "past")), LotEndPassedError)
    clock.move(hours=4)
    assert isinstance(outcome_of(extending(lot, after(days=4), "late")), LotFinishedError)
    standing = grant(books, 1)
    assert isinstance(outcome_of(extending(uuid.UUID(int=JOHN), after(days=4), "standing")), LotWithoutEndError)
    assert isinstance(outcome_of(revoking(uuid.UUID(int=JOHN))), LotNotOneGrantError)
    assert standing


def test_one_grant_is_revoked_without_touching_the_others(books: Books) -> None:
    soon = grant(books, 10, after(days=1))
    late = grant(books, 20, after(days=2))
    service.execute(books.spend(JOHN, 4))
    assert isinstance(outcome_of(revoking(soon)), LotUsedError)
    receipt = service.execute(revoking(soon, "partial"))
    assert lots(books) == [("bonus", 10, 0, 0, 4, 0, 6), ("bonus", 20, 20, 0, 0, 0, 0)]
    assert receipt.transaction.reverses == soon
    assert service.execute(revoking(soon, "partial")).is_replay
    # Both count against the grant: of it, four are left that a reversal takes from the rest.
    assert isinstance(outcome_of(reversing(soon, 5)), OverReversalError)
    service.execute(revoking(soon, "debt", "all"))
    assert available(books) == [0, 16]
    assert isinstance(outcome_of(reversing(soon)), OverReversalError)
    service.execute(revoking(late, "debt", "late"))
    assert row(books) == (START_BALANCE - 4, 0, 0)
    reverse(service.execute(books.top_up(JOHN, 1)).transaction.transaction_id)


def test_who_owes_has_nothing_and_repays_by_whatever_comes(books: Books) -> None:
    lot = grant(books, 10, after(days=1))
    service.execute(books.spend(JOHN, START_BALANCE + 7))
    service.execute(revoking(lot, "debt"))
    assert books.sql("SELECT balance, owed, bonus FROM wallet_balances WHERE wallet_id = %s", JOHN) == [(0, 7, 0)]
    grant(books, 9, after(days=1))
    assert row(books) == (2, 2, 1)


@pytest.mark.parametrize("undone", ["revoked", "reversed"])
@pytest.mark.parametrize("used", ["held", "spent"])
def test_what_is_owed_for_a_grant_is_taken_from_what_comes_back_of_it_before_that_expires(
    books: Books, clock: Clock, used: str, undone: str
) -> None:
    """Otherwise the same units would be lost twice: once as expired, once as repaid by other credit."""
    service.execute(books.spend(JOHN, START_BALANCE))
    lot = grant(books, 60, after(hours=1))
    hold = service.execute(place(books, JOHN, 60, 7200)).hold if used == "held" else None
    spent = None if hold else service.execute(books.spend(JOHN, 60)).transaction.transaction_id
    service.execute(revoking(lot, "debt") if undone == "revoked" else reversing(lot, on_shortfall="debt"))
    clock.move(minutes=90)
    if hold:
        service.execute(release(hold, "release"))
    elif spent:
        reverse(spent)
    assert lots(books) == [("bonus", 60, 0, 0, 0, 0, 60)]
    assert kinds(books)[-2:] == ["RELEASE" if hold else "REVERSAL", "REVERSAL"]
    service.execute(books.top_up(JOHN, 100))
    assert books.sql("SELECT balance, owed FROM wallet_balances WHERE wallet_id = %s", JOHN) == [(100, 0)]


def use(books: Books, how: str, amount: int) -> Callable[[], object]:
    """Spend the amount, or set it aside; return what brings it back. A hold ends with the clock at the latest."""
    if how in ("spent", "bought"):
        one = books.spend(JOHN, amount) if how == "spent" else buying(amount)
        spent = service.execute(one).transaction.transaction_id
        return lambda: reverse(spent)
    hold = placed(books, JOHN, amount, 7200)
    match how:
        case "released":
            return lambda: service.execute(release(hold, "release"))
        case "captured":
            return lambda: service.execute(capture(hold, 1, reference="capture", is_final=True))
    return lambda: service.execute(books.top_up(JOHN, 1))


def spend(books: Books, amount: int) -> uuid.UUID:
    return service.execute(books.spend(JOHN, amount)).transaction.transaction_id


def buying(amount: int) -> service.Purchase:
    """Return a purchase that takes from GOLD and brings diamonds."""
    legs = (service.Leg(JOHN, "SPEND", amount), service.Leg(JOHN_DIAMOND, "BONUS", 5))
    return service.Purchase(wallet_id=JOHN, reference="bought", origin=ORIGIN, legs=legs)


@pytest.mark.parametrize("undone", ["revoked", "reversed", "owed"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("used", ["spent", "bought", "released", "captured", "held until its end"])
def test_what_was_taken_in_place_of_a_used_grant_returns_when_that_comes_back(
    books: Books, clock: Clock, used: str, when: str, undone: str
) -> None:
    """Otherwise the user would have paid for the grant, and would lose what comes back of it with its end."""
    service.execute(books.spend(JOHN, START_BALANCE))
    lot = grant(books, 60, after(hours=1))
    bring_back = use(books, used, 60)
    if undone == "owed":
        service.execute(revoking(lot, "debt"))
    service.execute(books.top_up(JOHN, 100))
    if undone != "owed":
        service.execute(revoking(lot, "debt") if undone == "revoked" else reversing(lot))
    assert row(books)[0] == 40
    if used == "held until its end":
        clock.move(hours=3)
    elif when == "after":
        clock.move(minutes=90)
    bring_back()
    more = {"captured": -1, "held until its end": 1}.get(used, 0)
    assert row(books) == (100 + more, 0, 0), "all that was paid is there, and nothing of the grant"
    ((_, amount, *parts),) = lots(books)
    assert (amount, *parts) == (60, 0, 0, *((1, 0, 59) if used == "captured" else (0, 0, 60)))
    clock.move(hours=3)
    service.execute(books.top_up(JOHN, 1))
    assert row(books) == (101 + more, 0, 0)


def test_what_was_taken_in_place_returns_as_what_it_was_and_last_taken_first(books: Books, clock: Clock) -> None:
    """Bonus that was taken does not come back as paid credit, nor paid credit as bonus; an end stays the same."""
    first, spent = grant(books, 30, after(hours=1)), spend(books, 30)
    later, ever = grant(books, 5, after(hours=5)), grant(books, 10)
    assert ever
    service.execute(reversing(first))
    assert lots(books) == [("bonus", 30, 0, 0, 30, 0, 0), ("bonus", 5, 0, 0, 5, 0, 0), ("bonus", 10, 0, 0, 10, 0, 0)]
    assert row(books) == (START_BALANCE - 15, 0, 0)
    clock.move(hours=2)
    reverse(spent, amount=15)
    assert row(books) == (START_BALANCE, 0, 0), "what was paid was taken last"
    reverse(spent, amount=12)
    assert row(books) == (START_BALANCE + 12, 12, 1)
    reverse(spent)
    assert lots(books) == [("bonus", 30, 0, 0, 0, 0, 30), ("bonus", 5, 5, 0, 0, 0, 0), ("bonus", 10, 10, 0, 0, 0, 0)]
    service.execute(revoking(later, reference="later"))
    assert row(books) == (START_BALANCE + 10, 10, 0)


def test_bonus_for_ever_that_was_taken_in_place_returns_also_where_only_its_rest_is_known(books: Books) -> None:
    first, spent = grant(books, 30, after(hours=1)), spend(books, 30)
    grant(books, 40)
    service.execute(reversing(first))
    assert row(books) == (START_BALANCE + 10, 10, 0)
    reverse(spent)
    assert row(books) == (START_BALANCE + 40, 40, 0)


def test_what_returns_to_a_grant_that_was_taken_back_itself_returns_what_was_taken_in_place_of_that(
    books: Books, clock: Clock
) -> None:
    first, spent = grant(books, 30, after(hours=1)), spend(books, 30)
    second = grant(books, 30, after(hours=2))
    service.execute(reversing(first))
    service.execute(revoking(second, "debt"))
    assert row(books) == (START_BALANCE - 30, 0, 0)
    reverse(spent)
    assert row(books) == (START_BALANCE, 0, 0)
    clock.move(hours=3)
    service.execute(books.top_up(JOHN, 1))
    assert lots(books) == [("bonus", 30, 0, 0, 0, 0, 30), ("bonus", 30, 0, 0, 0, 0, 30)]


def test_a_grant_that_was_taken_back_in_part_returns_that_part_first_then_expires_or_is_granted_anew(
    books: Books, clock: Clock
) -> None:
    first, spent = grant(books, 30, after(hours=1)), spend(books, 30)
    reverse(first, amount=10)
    assert row(books) == (START_BALANCE - 10, 0, 0)
    clock.move(hours=2)
    reverse(spent, amount=5, on_expired="regrant", grace_days=3)
    assert row(books) == (START_BALANCE - 5, 0, 0)
    reverse(spent, amount=10, on_expired="regrant", grace_days=3)
    assert row(books) == (START_BALANCE + 5, 5, 1)
    reverse(spent)
    assert row(books) == (START_BALANCE + 5, 5, 1), "the rest of it has expired"
    assert [one[1:] for one in lots(books)] == [(30, 0, 0, 5, 15, 10), (5, 5, 0, 0, 0, 0)]


@pytest.mark.parametrize("paid", [0, 10])
@pytest.mark.parametrize("there", ["paid", "for ever"])
def test_of_what_came_mixed_its_own_is_taken_back_for_itself_and_only_other_credit_is_in_its_place(
    books: Books, there: str, paid: int
) -> None:
    """A transfer of bonus that ends, bonus for ever, and perhaps paid credit: the first is used, then it is undone."""
    spend(books, START_BALANCE)
    service.execute(books.spend(DOE, 300 - paid))
    grant(books, 10, after(hours=1), DOE)
    grant(books, 10, wallet_id=DOE)
    came = service.execute(books.command(service.Transfer, DOE, 20 + paid, to_wallet_id=JOHN)).transaction
    spent = spend(books, 10)
    service.execute(books.top_up(JOHN, 10) if there == "paid" else books.bonus(JOHN, 10, expires_at=None))
    bonus = row(books)[1]
    commands = [reversing(came.transaction_id), reversing(spent, 4), reversing(spent)]
    expected = previewed([commands])
    assert previewed([[one] for one in commands]) == expected
    assert posted([[one] for one in commands]) == expected
    assert row(books) == (10, bonus - 10, 0), "what was there before and did not come with it"
    assert row(books, DOE) == (20 + paid, 20, 1)
    assert lots(books)[0] == ("bonus", 10, 0, 0, 0, 0, 10)


@pytest.mark.wide
def test_any_number_of_grants_may_have_been_taken_each_in_place_of_the_one_before() -> None:
    """More of them than functions may call each other."""
    world = World()
    numbers = itertools.count()

    def do(kind: Any, **more: Any) -> Any:
        outcome = attempt(
            world.books, kind(wallet_id=WALLET, reference=f"chain-{next(numbers)}", origin=ORIGIN, **more)
        )
        assert isinstance(outcome, service.Receipt)
        return outcome.transaction

    def bonus() -> Any:
        return do(service.Bonus, amount=1, expires_at=START + dt.timedelta(hours=1))

    last = bonus()
    spent = do(service.Spend, amount=1)
    for _ in range(sys.getrecursionlimit()):
        before, last = last, bonus()
        world.know(before)
        do(service.RevokeLot, lot_id=before.transaction_id, reason="a test", on_shortfall="debt")
    world.know(spent)
    do(service.ReverseTransaction, transaction_id=spent.transaction_id, reason="a test")
    left = [lot.key for lot in world.lots(WALLET).values() if lot.available]
    assert left == [(last.entries[0].seq, 1)]


def test_within_one_batch_and_in_a_preview_in_chunks_the_same_returns(books: Books) -> None:
    first, spent = grant(books, 30, after(hours=1)), spend(books, 30)
    other, again = grant(books, 20, after(hours=1)), spend(books, 20)
    commands = [
        reversing(first, 10),
        reversing(spent, 5),
        reversing(first, 20),
        reversing(other),
        reversing(again, 15),
        reversing(spent),
        reversing(again),
    ]
    chunks = [commands[:2], commands[2:4], commands[4:]]
    assert previewed([commands]) == previewed(chunks)
    expected = previewed(chunks)
    assert posted([commands]) == expected
    assert row(books) == (START_BALANCE, 0, 0)
    assert [one[1:] for one in lots(books)] == [(30, 0, 0, 0, 0, 30), (20, 0, 0, 0, 0, 20)]


def test_an_exchange_whose_result_has_expired_is_not_reversed_unless_that_was_said(books: Books, clock: Clock) -> None:
    grant(books, 100, after(hours=1))
    exchange = service.Exchange(
        wallet_id=JOHN, reference="exchange", origin=ORIGIN, to_wallet_id=JOHN_DIAMOND, amount=100, rate=Fraction(1, 2)
    )
    exchanged = service.execute(exchange).transaction.transaction_id
    service.execute(books.spend(JOHN_DIAMOND, 20))
    clock.move(hours=2)
    refused = outcome_of(reversing(exchanged))
    assert isinstance(refused, BroughtExpiredError)
    assert refused.details == {
        "transaction_id": str(exchanged), "wallet_id": JOHN_DIAMOND, "seq": 2, "expired": 30
    }  # fmt: skip
    # John had ten diamonds before: these are taken for the twenty that he spent.
    done = service.execute(reversing(exchanged, on_shortfall="debt"))
    assert sorted((part[0], part[2], part[3]) for part in done.transaction.result["parts"]) == [
        (JOHN, 100, 0), (JOHN_DIAMOND, -10, 10)
    ]  # fmt: skip


# --- bounds, and what a posting, a preview and a repair have in common ---


def test_a_wallet_has_a_bounded_number_of_lots(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lot_rules, "LOTS_MAX", 2)
    grant(books, 1, after(days=1))
    grant(books, 1, after(days=2))
    assert isinstance(outcome_of(books.bonus(JOHN, 1, expires_at=after(days=3))), TooManyLotsError)
    grant(books, 1)
    service.execute(books.spend(JOHN, 1))
    grant(books, 1, after(days=3))


def test_a_preview_in_chunks_takes_from_lots_what_the_postings_do(books: Books) -> None:
    for n in range(6):
        grant(books, 5, after(days=1 + n))
    grant(books, 3)
    spent = service.execute(books.spend(JOHN, 2)).transaction.transaction_id
    hold = service.execute(place(books, JOHN, 6, 600)).hold
    assert hold is not None
    end = after(days=9)
    chunks = [
        [books.spend(JOHN, 9), books.bonus(JOHN, 4, expires_at=end)],
        [books.spend(JOHN, 7), capture(hold, 2, reference="part"), books.bonus(JOHN, 2)],
        [release(hold, "rest"), reversing(spent), books.command(service.Transfer, JOHN, 12, to_wallet_id=DOE)],
        [books.spend(DOE, 5), books.spend(JOHN, 500), books.spend(JOHN, 3)],
    ]
    before = (lots(books), row(books))
    expected = previewed(chunks)
    assert (lots(books), row(books)) == before
    assert posted(chunks) == expected


def test_a_missing_balance_row_is_made_again_with_its_lots(books: Books) -> None:
    grant(books, 5, after(days=1))
    grant(books, 6)
    service.execute(place(books, JOHN, 8, 600))
    whole = "SELECT * FROM wallet_balances WHERE wallet_id = 3"
    before = books.sql(whole)
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = 3")
    with unit_of_work() as connection:
        posting.heal(connection, [JOHN])
    assert books.sql(whole) == before
    books.sql("UPDATE wallet_balances SET bonus = 0, lots = 7 WHERE wallet_id = 3")
    assert {change.column for change in service.rebuild_balances().changes} == {"bonus", "lots"}
    assert books.sql(whole) == before
