"""Reversals in the kernel: a transaction is undone once at most, and what is not there to be taken back is owed."""

from __future__ import annotations

import uuid
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books, outcome_of
from tests.kernel.test_holds import Clock
from tests.kernel.test_preview import everything, previewed
from tests.kernel.test_preview import posted as really
from tests.kernel.test_statements import names, round_trips
from wallet_app import service
from wallet_app.errors import (
    AmountNotAllowedError,
    AssetNotAllowedError,
    BalanceAboveBoundError,
    InsufficientBalanceError,
    MissingScopeError,
    NoDebtBetweenUsersError,
    NotReversibleError,
    OnlyAsAWholeError,
    OverReversalError,
    ReferenceMismatchError,
    TooManyDebtsError,
    TransactionNotFoundError,
    WalletNotActiveError,
)
from wallet_app.money import AMOUNT_MAX
from wallet_app.service import reversals

START = 500
"""What John has of GOLD."""
PAIRS = 60


def reversing(
    transaction_id: uuid.UUID, amount: int | None = None, reference: str | None = None, **more: Any
) -> service.ReverseTransaction:
    moved = service.find_moved_wallets([transaction_id])[transaction_id]
    return service.ReverseTransaction(
        wallet_id=moved.wallet_id,
        other_wallet_ids=moved.other_wallet_ids,
        transaction_id=transaction_id,
        amount=amount,
        reference=reference or f"reversal-{uuid.uuid4()}",
        **({"origin": ORIGIN, "reason": "a test"} | more),
    )


def posted(command: service.Command) -> uuid.UUID:
    return service.execute(command).transaction.transaction_id


def reverse(transaction_id: uuid.UUID, amount: int | None = None, **more: Any) -> service.Receipt:
    return service.execute(reversing(transaction_id, amount, **more))


def refused(transaction_id: uuid.UUID, amount: int | None = None, **more: Any) -> Exception:
    outcome = outcome_of(reversing(transaction_id, amount, **more))
    assert isinstance(outcome, Exception)
    return outcome


def moved(receipt: service.Receipt) -> list[tuple[int, str, int]]:
    return [(entry.wallet_id, entry.entry_type, entry.amount) for entry in receipt.transaction.entries]


def owed(books: Books, wallet_id: int) -> int:
    (row,) = books.sql("SELECT balance, owed FROM wallet_balances WHERE wallet_id = %s", wallet_id)
    assert not (row[0] and row[1]), "who owes something has nothing"
    return int(row[1])


def left(transaction_id: uuid.UUID) -> list[int]:
    return [one.remaining for one in service.get_transaction(transaction_id).reversible]


# --- what is reversed ---


@pytest.mark.parametrize(("kind", "sign"), [("top_up", 1), ("bonus", 1), ("spend", -1)])
def test_a_movement_is_undone_against_the_same_other_side(books: Books, kind: str, sign: int) -> None:
    original = posted(getattr(books, kind)(JOHN, 100))
    receipt = reverse(original)
    assert moved(receipt) == [(JOHN, "REVERSAL", -100 * sign)]
    assert receipt.transaction.reverses == original
    assert receipt.transaction.kind == "REVERSAL"
    contra = {entry.contra_wallet_id for one in (original, receipt.transaction.transaction_id)
              for entry in service.get_transaction(one).transaction.entries}  # fmt: skip
    assert len(contra) == 1
    assert books.balance(JOHN) == START
    assert left(original) == [0]


def test_a_first_balance_is_reversible_too(books: Books) -> None:
    seeded = books.sql("SELECT transaction_id FROM transactions WHERE wallet_id = %s AND kind = 'SEED'", JOHN)[0][0]
    reverse(seeded)
    assert books.balance(JOHN) == 0


def test_parts_are_reversed_until_nothing_is_left(books: Books) -> None:
    original = posted(books.spend(JOHN, 100))
    assert reverse(original, 30).reversed[0].remaining == 70
    assert reverse(original, 50).reversed[0].remaining == 20
    over = refused(original, 21)
    assert isinstance(over, OverReversalError)
    assert (over.details["remaining"], over.details["amount"]) == (20, 21)
    assert moved(reverse(original)) == [(JOHN, "REVERSAL", 20)]
    nothing = refused(original)
    assert isinstance(nothing, OverReversalError)
    assert nothing.details["remaining"] == 0
    assert isinstance(refused(original, 1), OverReversalError)
    assert books.balance(JOHN) == START


def test_of_a_capture_the_spend_comes_back_to_the_balance(books: Books) -> None:
    hold = service.execute(books.command(service.PlaceHold, JOHN, 200, expires_in=600)).hold
    assert hold is not None
    capture = service.CaptureHold(
        wallet_id=JOHN, hold_id=hold.hold_id, amount=120, is_final=True, reference="sold", origin=ORIGIN
    )
    captured = posted(capture)
    assert moved(reverse(captured, 20)) == [(JOHN, "REVERSAL", 20)]
    assert moved(reverse(captured)) == [(JOHN, "REVERSAL", 100)]
    assert books.balance(JOHN) == START
    assert service.get_hold(hold.hold_id).hold.state == "captured"


def test_a_transfer_goes_back_on_both_sides(books: Books) -> None:
    original = posted(books.command(service.Transfer, JOHN, 200, to_wallet_id=DOE))
    assert moved(reverse(original, 50)) == [(JOHN, "REVERSAL", 50), (DOE, "REVERSAL", -50)]
    assert left(original) == [150, 150]
    reverse(original)
    assert (books.balance(JOHN), books.balance(DOE)) == (START, 300)


def test_an_exchange_and_a_purchase_go_back_as_a_whole(books: Books) -> None:
    diamonds = books.balance(JOHN_DIAMOND)
    exchange = posted(books.command(service.Exchange, JOHN, 100, to_wallet_id=JOHN_DIAMOND, rate=Fraction(1, 10)))
    legs = (
        service.Leg(JOHN, "SPEND", 200),
        service.Leg(JOHN_DIAMOND, "TOPUP", 5),
        service.Leg(JOHN, "BONUS", 20),
    )
    purchase = posted(service.Purchase(wallet_id=JOHN, legs=legs, reference="bundle", origin=ORIGIN))
    for original in (exchange, purchase):
        assert isinstance(refused(original, 1), OnlyAsAWholeError)
        assert isinstance(refused(original, on_shortfall="partial"), OnlyAsAWholeError)
    receipt = reverse(purchase)
    assert moved(receipt) == [(JOHN, "REVERSAL", 200), (JOHN, "REVERSAL", -20), (JOHN_DIAMOND, "REVERSAL", -5)]
    assert moved(reverse(exchange)) == [(JOHN, "REVERSAL", 100), (JOHN_DIAMOND, "REVERSAL", -10)]
    assert (books.balance(JOHN), books.balance(JOHN_DIAMOND)) == (START, diamonds)
    assert isinstance(refused(purchase), OverReversalError)


def test_a_purchase_of_one_leg_may_be_reversed_in_part(books: Books) -> None:
    only = service.Purchase(wallet_id=JOHN, legs=(service.Leg(JOHN, "SPEND", 50),), reference="only", origin=ORIGIN)
    original = posted(only)
    assert moved(reverse(original, 20)) == [(JOHN, "REVERSAL", 20)]
    assert left(original) == [30]


def test_what_cannot_be_reversed_is_refused_with_its_kind(books: Books) -> None:
    hold = service.execute(books.command(service.PlaceHold, JOHN, 100, expires_in=600)).transaction
    release = service.ReleaseHold(wallet_id=JOHN, hold_id=hold.transaction_id, reference="back", origin=ORIGIN)
    reversal = reverse(posted(books.spend(JOHN, 10))).transaction
    kinds = []
    for one in (hold.transaction_id, posted(release), reversal.transaction_id):
        error = refused(one)
        assert isinstance(error, NotReversibleError)
        kinds.append(error.details["kind"])
    assert kinds == ["HOLD", "RELEASE", "REVERSAL"]


def test_a_transaction_that_is_not_there_or_of_another_wallet_is_not_found(books: Books) -> None:
    never = uuid.uuid4()
    assert service.find_moved_wallets([never]) == {}
    original = posted(books.spend(JOHN, 10))
    for wallet_id, transaction_id in ((JOHN, never), (DOE, original)):
        command = service.ReverseTransaction(
            wallet_id=wallet_id, transaction_id=transaction_id, reason="x", reference="no", origin=ORIGIN
        )
        assert isinstance(outcome_of(command), TransactionNotFoundError)


def test_a_full_wallet_has_no_room_for_what_comes_back(books: Books) -> None:
    original = posted(books.spend(JOHN, 10))
    service.execute(books.top_up(JOHN, AMOUNT_MAX - books.balance(JOHN)))
    assert isinstance(refused(original), BalanceAboveBoundError)


def test_a_wallet_that_is_not_active_is_left_alone(books: Books) -> None:
    original = posted(books.command(service.Transfer, JOHN, 200, to_wallet_id=DOE))
    books.stop(DOE, "FROZEN")
    assert isinstance(refused(original), WalletNotActiveError)


# --- who may ---


def test_the_limits_of_a_key_hold(books: Books) -> None:
    def asking(**limits: Any) -> dict[str, Any]:
        permit = service.Permit(**({"scopes": frozenset({"transactions:reverse"})} | limits))
        return {"origin": service.Origin(client="shop", actor="key:x", permit=permit)}

    spent = posted(books.spend(JOHN, 100))
    for amount in (None, 60):
        assert isinstance(refused(spent, amount, **asking(amount_max=50)), AmountNotAllowedError)
    reverse(spent, 50, **asking(amount_max=50))
    assert isinstance(refused(spent, **asking(scopes=frozenset({"wallets:spend"}))), MissingScopeError)
    swapped = posted(books.command(service.Exchange, JOHN, 100, to_wallet_id=JOHN_DIAMOND, rate=Fraction(1, 10)))
    assert isinstance(refused(swapped, **asking(assets=frozenset({"GOLD"}))), AssetNotAllowedError)
    topped = posted(books.top_up(JOHN, 100))
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    assert isinstance(refused(topped, on_shortfall="debt", **asking(amount_max=50)), AmountNotAllowedError)


# --- what is not there any more ---


def spent_up(books: Books, amount: int = 100, keep: int = 0) -> uuid.UUID:
    """Top John up, and leave him with `keep`."""
    original = posted(books.top_up(JOHN, amount))
    service.execute(books.spend(JOHN, books.balance(JOHN) - keep))
    return original


def test_credit_that_is_spent_is_refused_unless_something_else_is_said(books: Books) -> None:
    original = spent_up(books, 100, keep=40)
    error = refused(original)
    assert isinstance(error, InsufficientBalanceError)
    assert (error.details["balance"], error.details["required"]) == (40, 100)
    assert left(original) == [100]


def test_a_part_is_taken_as_far_as_there_is_something(books: Books) -> None:
    original = spent_up(books, 100, keep=40)
    receipt = reverse(original, on_shortfall="partial")
    assert moved(receipt) == [(JOHN, "REVERSAL", -40)]
    assert receipt.reversed[0].remaining == 60
    assert isinstance(refused(original, on_shortfall="partial"), InsufficientBalanceError), "at least 1"
    service.execute(books.top_up(JOHN, 25))
    assert moved(reverse(original, 20, on_shortfall="partial")) == [(JOHN, "REVERSAL", -20)]
    assert left(original) == [40]
    assert owed(books, JOHN) == 0


def test_of_a_transfer_what_the_recipient_still_has_comes_back(books: Books) -> None:
    original = posted(books.command(service.Transfer, JOHN, 200, to_wallet_id=DOE))
    service.execute(books.spend(DOE, 470))
    assert isinstance(refused(original), InsufficientBalanceError)
    assert isinstance(refused(original, on_shortfall="debt"), NoDebtBetweenUsersError)
    receipt = reverse(original, on_shortfall="partial")
    assert moved(receipt) == [(JOHN, "REVERSAL", 30), (DOE, "REVERSAL", -30)]
    assert left(original) == [170, 170]


def test_what_is_owed_is_repaid_by_the_next_credits(books: Books) -> None:
    original = spent_up(books, 100, keep=40)
    receipt = reverse(original, on_shortfall="debt", reference="chargeback")
    assert moved(receipt) == [(JOHN, "REVERSAL", -40)]
    assert (receipt.wallets[0].balance, receipt.wallets[0].owed) == (0, 60)
    assert left(original) == [0]
    assert isinstance(refused(original), OverReversalError)

    credited = service.execute(books.top_up(JOHN, 25))
    assert (credited.wallets[0].balance, credited.wallets[0].owed) == (0, 35)
    assert credited.transaction.entries[0].balance_after == 25
    assert owed(books, JOHN) == 35
    (debt,) = service.list_debts(JOHN).debts
    assert (debt.entry.transaction_id, debt.entry.amount, debt.entry.reversed, debt.entry.owed) == (
        original,
        100,
        65,
        35,
    )

    service.execute(books.bonus(JOHN, 50))
    assert (books.balance(JOHN), owed(books, JOHN)) == (15, 0)
    assert service.list_debts(JOHN).debts == []
    repayments = books.sql(
        "SELECT reference_id, kind, client, actor, reverses FROM transactions WHERE reference_id LIKE 'sys:repay:%' "
        "ORDER BY created_at"
    )
    assert [(row[1:]) for row in repayments] == [("REVERSAL", "system", "debt repayment", original)] * 2
    assert len({row[0] for row in repayments}) == 2


def test_a_debt_may_be_all_of_it(books: Books) -> None:
    original = spent_up(books, 100)
    receipt = reverse(original, on_shortfall="debt", reference="chargeback")
    assert moved(receipt) == []
    assert receipt.wallets[0].owed == 100
    version = service.get_wallet(JOHN).version
    again = reverse(original, on_shortfall="debt", reference="chargeback")
    assert again.is_replay
    assert again.wallets == receipt.wallets
    assert service.get_wallet(JOHN).version == version
    seen = service.get_transaction(receipt.transaction.transaction_id)
    assert (seen.transaction.entries, seen.transaction.reverses, seen.reversible) == ((), original, ())


def test_the_oldest_debt_is_repaid_first_and_one_credit_may_repay_several(books: Books) -> None:
    originals = [posted(books.top_up(JOHN, 100)) for _ in range(3)]
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    for original in reversed(originals):
        reverse(original, on_shortfall="debt")
    assert owed(books, JOHN) == 300
    service.execute(books.top_up(JOHN, 150))
    debts = [(one.entry.transaction_id, one.entry.owed) for one in service.list_debts(JOHN).debts]
    assert debts == [(originals[1], 50), (originals[0], 100)]
    service.execute(books.top_up(JOHN, 151))
    assert (books.balance(JOHN), owed(books, JOHN)) == (1, 0)


def test_a_debt_grows_with_each_part_and_keeps_its_age(books: Books) -> None:
    first, second = (posted(books.top_up(JOHN, 100)) for _ in range(2))
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    reverse(first, 10, on_shortfall="debt")
    reverse(second, on_shortfall="debt")
    reverse(first, on_shortfall="debt")
    assert [(one.entry.transaction_id, one.entry.owed) for one in service.list_debts(JOHN).debts] == [
        (first, 100),
        (second, 100),
    ]


@pytest.mark.parametrize("credit", ["transfer", "exchange", "purchase", "reversal", "release", "batch"])
def test_whatever_raises_the_balance_repays(books: Books, credit: str) -> None:
    hold = service.execute(books.command(service.PlaceHold, JOHN, 30, expires_in=600)).hold
    spent = posted(books.spend(JOHN, 30))
    original = spent_up(books, 100)
    reverse(original, on_shortfall="debt")
    assert hold is not None
    release = service.ReleaseHold(wallet_id=JOHN, hold_id=hold.hold_id, reference="back", origin=ORIGIN)
    legs = (service.Leg(JOHN, "TOPUP", 20), service.Leg(JOHN, "BONUS", 10))
    commands: dict[str, service.Command] = {
        "transfer": books.command(service.Transfer, DOE, 30, to_wallet_id=JOHN),
        "exchange": books.command(service.Exchange, JOHN_DIAMOND, 3, to_wallet_id=JOHN, rate=Fraction(10, 1)),
        "purchase": service.Purchase(wallet_id=JOHN, legs=legs, reference="bundle", origin=ORIGIN),
        "reversal": reversing(spent),
        "release": release,
        "batch": books.top_up(JOHN, 30),
    }
    if credit == "batch":
        first, then = service.execute_batch([commands["batch"], books.spend(JOHN, 1)])
        assert isinstance(first, service.Receipt)
        assert isinstance(then, InsufficientBalanceError)
    else:
        service.execute(commands[credit])
    assert (books.balance(JOHN), owed(books, JOHN)) == (0, 70)


def test_what_an_expired_hold_gives_back_repays_before_it_can_be_spent(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.execute(books.command(service.PlaceHold, JOHN, 30, expires_in=60))
    original = spent_up(books, 100)
    reverse(original, on_shortfall="debt")
    Clock(monkeypatch).move(seconds=61)
    assert isinstance(outcome_of(books.spend(JOHN, 1)), InsufficientBalanceError)
    assert (books.balance(JOHN), owed(books, JOHN)) == (0, 70)


def test_a_purchase_owes_per_wallet_and_each_wallet_repays_by_itself(books: Books) -> None:
    legs = (
        service.Leg(JOHN, "TOPUP", 100),
        service.Leg(JOHN_DIAMOND, "TOPUP", 50),
        service.Leg(JOHN, "BONUS", 40),
    )
    original = posted(service.Purchase(wallet_id=JOHN, legs=legs, reference="bundle", origin=ORIGIN))
    for wallet_id, keep in ((JOHN, 60), (JOHN_DIAMOND, 0)):
        service.execute(books.spend(wallet_id, books.balance(wallet_id) - keep))
    receipt = reverse(original, on_shortfall="debt")
    assert moved(receipt) == [(JOHN, "REVERSAL", -40), (JOHN, "REVERSAL", -20)]
    assert (owed(books, JOHN), owed(books, JOHN_DIAMOND)) == (80, 50)
    assert {wallet.wallet_id for wallet in receipt.wallets} == {JOHN, JOHN_DIAMOND}
    service.execute(books.top_up(JOHN_DIAMOND, 60))
    service.execute(books.top_up(JOHN, 81))
    assert (books.balance(JOHN), books.balance(JOHN_DIAMOND)) == (1, 10)
    assert (owed(books, JOHN), owed(books, JOHN_DIAMOND)) == (0, 0)


def test_a_wallet_owes_for_so_many_entries_and_no_more(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reversals, "DEBTS_MAX", 2)
    originals = [posted(books.top_up(JOHN, 10)) for _ in range(3)]
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    reverse(originals[0], 5, on_shortfall="debt")
    reverse(originals[1], on_shortfall="debt")
    reverse(originals[0], on_shortfall="debt")
    assert isinstance(refused(originals[2], on_shortfall="debt"), TooManyDebtsError)
    service.execute(books.top_up(JOHN, 10))
    reverse(originals[2], on_shortfall="debt")


# --- again, and at once ---


def test_a_retry_answers_also_when_nothing_is_left(books: Books) -> None:
    original = posted(books.spend(JOHN, 100))
    first = reverse(original, 60, reference="first")
    reverse(original)
    again = reverse(original, 60, reference="first")
    assert again.is_replay
    assert again.transaction.transaction_id == first.transaction.transaction_id
    assert again.transaction.entries == first.transaction.entries
    assert again.reversed[0].remaining == 0
    for other in ({"amount": 61}, {"on_shortfall": "debt"}, {"reason": "another"}):
        asked: dict[str, Any] = {"amount": 60, "reference": "first"} | other
        with pytest.raises(ReferenceMismatchError):
            reverse(original, **asked)
    assert reverse(original, 60, reference="first", note="another note").is_replay


def test_the_reference_of_a_movement_is_not_a_reversal_s(books: Books) -> None:
    original = posted(books.spend(JOHN, 100, "spent"))
    error = refused(original, reference="spent")
    assert isinstance(error, ReferenceMismatchError)
    assert "kind" in error.details["fields"]


@pytest.mark.parametrize("kind", ["TRANSFER", "SPEND"])
@pytest.mark.parametrize("pairs", [PAIRS, pytest.param(500, marks=pytest.mark.slow)])
def test_of_two_reversals_at_once_exactly_one_wins(books: Books, kind: str, pairs: int) -> None:
    wallets = books.make_wallets(pairs, balance=100)
    service.execute(books.top_up(JOHN, pairs))
    give: list[service.Command] = [
        books.command(service.Transfer, JOHN, 1, to_wallet_id=wallet) if kind == "TRANSFER" else books.spend(wallet, 70)
        for wallet in wallets
    ]
    outcomes = service.execute_batch(give)
    originals = [one.transaction.transaction_id for one in outcomes if isinstance(one, service.Receipt)]
    assert len(originals) == pairs
    works = [partial(outcome_of, reversing(original)) for original in originals for _ in range(2)]
    results: list[Any] = []
    for start in range(0, len(works), 40):
        results += books.in_threads(works[start : start + 40])
    for pair in zip(results[::2], results[1::2], strict=True):
        assert sorted(type(one).__name__ for one in pair) == ["OverReversalError", "Receipt"]
    assert {books.balance(wallet) for wallet in wallets} == {100}
    assert books.balance(JOHN) == START + pairs


def test_parts_at_once_do_not_exceed_the_whole(books: Books) -> None:
    original = posted(books.spend(JOHN, 100))
    works = [partial(outcome_of, reversing(original, 30)) for _ in range(8)]
    results = books.in_threads(works)
    assert sorted(type(one).__name__ for one in results) == ["OverReversalError"] * 5 + ["Receipt"] * 3
    assert (books.balance(JOHN), left(original)) == (START - 10, [10])


def test_credits_and_debts_of_one_purchase_at_once_do_not_deadlock(books: Books) -> None:
    before = books.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0]
    legs = (service.Leg(JOHN, "TOPUP", 100), service.Leg(JOHN_DIAMOND, "TOPUP", 100))
    originals = [
        posted(service.Purchase(wallet_id=JOHN, legs=legs, reference=f"bundle-{n}", origin=ORIGIN)) for n in range(4)
    ]
    for wallet_id in (JOHN, JOHN_DIAMOND):
        service.execute(books.spend(wallet_id, books.balance(wallet_id)))
    works: list[Any] = [partial(outcome_of, reversing(one, on_shortfall="debt")) for one in originals]
    works += [partial(outcome_of, books.top_up(wallet_id, 20)) for _ in range(8) for wallet_id in (JOHN, JOHN_DIAMOND)]
    results = books.in_threads(works)
    assert {type(one) for one in results} == {service.Receipt}
    assert (owed(books, JOHN), owed(books, JOHN_DIAMOND)) == (240, 240)
    after = books.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0]
    assert after == before


# --- how it speaks to the database ---


def test_reversals_need_no_round_trip_of_their_own_and_owing_wallets_one(books: Books) -> None:
    originals = [posted(books.top_up(JOHN, 10)) for _ in range(4)]
    commands = [reversing(one) for one in originals]
    with round_trips() as trips:
        service.execute_batch(commands)
    asked = [names(questions) for questions in trips]
    assert asked == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions", "load_originals", "load_lot_movements"],
        [
            "insert_transactions",
            "insert_entries",
            "update_balances",
            "upsert_reversed_entries",
            "add_to_system_balances",
            "commit",
        ],
    ]
    reverse(spent_up(books), on_shortfall="debt")
    with round_trips() as trips:
        service.execute_batch([books.top_up(JOHN, 1) for _ in range(40)])
    assert [names(questions) for questions in trips][1] == ["load_debts"]
    assert len(trips) == 3
    with round_trips() as trips:
        service.execute(books.top_up(DOE, 1))
    assert len(trips) == 2, "who owes nothing pays nothing"


# --- preview ---


def test_a_preview_of_reversals_says_what_posting_them_says(books: Books) -> None:
    originals = [posted(books.top_up(JOHN, 100)) for _ in range(3)]
    given = posted(books.command(service.Transfer, JOHN, 50, to_wallet_id=DOE))
    service.execute(books.spend(JOHN, books.balance(JOHN) - 20))
    chunks: list[list[service.Command]] = [
        [reversing(originals[0], 60, reference="a", on_shortfall="debt"), reversing(given, 30, reference="b")],
        [reversing(originals[0], reference="c", on_shortfall="debt"), reversing(given, reference="d")],
        [reversing(originals[0], 1, reference="e"), books.spend(JOHN, 1, "f"), books.top_up(JOHN, 33, "g")],
        [reversing(originals[1], reference="h", on_shortfall="debt"), reversing(originals[2], reference="i")],
        [books.top_up(JOHN, 120, "j"), books.spend(JOHN, 50, "k")],
        [books.top_up(JOHN, 120, "l"), reversing(given, 30, reference="b"), books.spend(JOHN, 1, "m")],
    ]
    before = everything(books)
    expected = previewed(chunks)
    assert everything(books) == before
    assert expected == really(chunks)
    assert owed(books, JOHN) == 0
