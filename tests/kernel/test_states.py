"""Freezes, closings and switches in the kernel: what each stops, when it ends, and that nothing slips past it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, UNLOCKED, Books, outcome_of
from tests.kernel.test_holds import Clock, capture, clock, placed, release
from tests.kernel.test_limits import limit, raise_to
from tests.kernel.test_preview import posted, previewed
from tests.kernel.test_statements import names, round_trips
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import (
    EndPassedError,
    InsufficientBalanceError,
    MissingScopeError,
    ReferenceMismatchError,
    StoppedError,
    UserNotFoundError,
    WalletClosedError,
    WalletNotActiveError,
    WalletNotEmptyError,
    WalletNotFrozenError,
)
from wallet_app.service import holds, loading, locks, lot_rules, posting
from wallet_app.service.adjustments import Adjust, ApprovedAdjust, ApprovedReversal, ApprovedRevocation, Direction
from wallet_app.service.rules import RULES

assert clock
BY = service.By(actor="tests")
JOHN_USER = 2
FAR = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)


def freeze(books: Books, wallet_id: int = JOHN, side: str = "both", reference: str | None = None, **more: Any) -> Any:
    reference = reference or f"freeze-{next(books._references)}"
    return service.Freeze(
        wallet_id=wallet_id, reference=reference, side=side, **({"origin": ORIGIN, "reason": "why"} | more)
    )


def unfreeze(books: Books, wallet_id: int = JOHN, side: str = "both", reference: str | None = None) -> service.Unfreeze:
    reference = reference or f"unfreeze-{next(books._references)}"
    return service.Unfreeze(wallet_id=wallet_id, reference=reference, origin=ORIGIN, side=side, reason="why")


def close(books: Books, wallet_id: int = JOHN, reference: str | None = None) -> service.Close:
    reference = reference or f"close-{next(books._references)}"
    return service.Close(wallet_id=wallet_id, reference=reference, origin=ORIGIN, reason="why")


def set_switch(target: str = "everything", side: str = "both", **more: Any) -> service.SwitchView:
    whose = {"user": {"user_id": JOHN_USER}, "asset": {"asset_code": "GOLD"}, "everything": {}}[target]
    settings = service.SwitchSettings(target=target, side=side, reason="a test", **whose, **more)
    return service.set_switch(settings, by=BY)[0]


def status(wallet_id: int = JOHN) -> str:
    return service.get_wallet(wallet_id).status


def state(books: Books, wallet_id: int = JOHN) -> list[tuple[Any, ...]]:
    """Return everything that a refused command must leave as it was."""
    return [
        *books.sql("SELECT * FROM wallets WHERE id = %s", wallet_id),
        *books.sql("SELECT * FROM wallet_balances WHERE wallet_id = %s", wallet_id),
        *books.sql("SELECT count(*) FROM transactions"),
    ]


# --- what each stops ---

Prepared = Callable[[Books], service.Command]


def held(books: Books, then: Callable[[service.Hold], service.Command]) -> service.Command:
    return then(placed(books, JOHN, 100))


def purchase(books: Books, kind: str) -> service.Purchase:
    """John pays with diamonds, and something happens to his gold."""
    legs = (service.Leg(JOHN_DIAMOND, "SPEND", 1), service.Leg(JOHN, kind, 1))
    return service.Purchase(wallet_id=JOHN_DIAMOND, legs=legs, reference="bought", origin=ORIGIN)


def exchange(source: int, target: int) -> service.Exchange:
    rate = Fraction(1)
    return service.Exchange(wallet_id=source, to_wallet_id=target, amount=1, rate=rate, reference="swap", origin=ORIGIN)


DEBIT, CREDIT, PASSES = {"debits"}, {"credits"}, set[str]()
CELLS: dict[str, tuple[Prepared, set[str]]] = {
    "TOPUP": (lambda books: books.top_up(JOHN, 1), CREDIT),
    "BONUS": (lambda books: books.bonus(JOHN, 1), CREDIT),
    "SEED": (lambda books: books.command(service.Seed, JOHN, 1), CREDIT),
    "SPEND": (lambda books: books.spend(JOHN, 1), DEBIT),
    "TRANSFER out": (lambda books: books.command(service.Transfer, JOHN, 1, to_wallet_id=DOE), DEBIT),
    "TRANSFER in": (lambda books: books.command(service.Transfer, DOE, 1, to_wallet_id=JOHN), CREDIT),
    "EXCHANGE out": (lambda _: exchange(JOHN, JOHN_DIAMOND), DEBIT),
    "EXCHANGE in": (lambda _: exchange(JOHN_DIAMOND, JOHN), CREDIT),
    "PURCHASE with a spend": (lambda books: purchase(books, "SPEND"), DEBIT),
    "PURCHASE with a top-up": (lambda books: purchase(books, "TOPUP"), CREDIT),
    "PURCHASE with a bonus": (lambda books: purchase(books, "BONUS"), CREDIT),
    "HOLD": (lambda books: books.command(service.PlaceHold, JOHN, 1, expires_in=60), DEBIT),
    "CAPTURE": (lambda books: held(books, lambda hold: capture(hold, 1, reference="part")), DEBIT),
    "CAPTURE of all": (lambda books: held(books, lambda hold: capture(hold, reference="all")), DEBIT),
    "RELEASE": (lambda books: held(books, lambda hold: release(hold, "back")), PASSES),
    "REVERSAL of a top-up": (lambda books: undoing(books.top_up(JOHN, 1)), DEBIT),
    "REVERSAL of a spend": (lambda books: undoing(books.spend(JOHN, 1)), CREDIT),
    "REVERSAL for a debt alone": (lambda books: owing_alone(books), PASSES),
    "REVERSAL that was approved": (lambda books: undoing(books.top_up(JOHN, 1), ApprovedReversal), PASSES),
    "REVERSAL of one grant": (lambda books: on_lot(books, service.RevokeLot), DEBIT),
    "REVERSAL of one grant that was approved": (lambda books: on_lot(books, ApprovedRevocation), PASSES),
    "EXTEND": (lambda books: on_lot(books, service.ExtendLot, expires_at=FAR), PASSES),
    "ADJUSTMENT up": (lambda books: adjust(books, "credit"), CREDIT),
    "ADJUSTMENT down": (lambda books: adjust(books, "debit"), DEBIT),
    "ADJUSTMENT up that was approved": (lambda books: adjust(books, "credit", ApprovedAdjust), PASSES),
    "ADJUSTMENT down that was approved": (lambda books: adjust(books, "debit", ApprovedAdjust), PASSES),
    "FREEZE": (lambda books: freeze(books), PASSES),
    "UNFREEZE": (lambda books: unfreeze_again(books), PASSES),
    "CLOSE": (lambda books: emptied(books), PASSES),
    "LIMIT_RAISE": (lambda books: limit(wallet_id=JOHN, single=500) and raise_to(books, single=501), PASSES),
    "LIMIT_RAISE_END": (lambda books: raised(books), PASSES),
}
"""Of each kind a command, and the sides of wallet JOHN that it needs. Expiries have a test of their own."""


def raised(books: Books) -> service.EndRaise:
    limit(wallet_id=JOHN, single=500)
    service.execute(raise_to(books, single=501))
    return service.EndRaise(wallet_id=JOHN, reason="over", reference="end-raise", origin=ORIGIN)


def adjust(books: Books, direction: Direction, kind: type[Adjust] = Adjust) -> Adjust:
    return books.command(kind, JOHN, 1, direction=direction, reason_code="OTHER")


def undoing(
    command: service.Command, kind: type[service.ReverseTransaction] = service.ReverseTransaction, **more: Any
) -> service.ReverseTransaction:
    original = service.execute(command).transaction
    return kind(
        wallet_id=JOHN,
        transaction_id=original.transaction_id,
        reason="why",
        reference="undo",
        origin=ORIGIN,
        **more,
    )


def on_lot(books: Books, kind: type[service.OnLot], **more: Any) -> service.OnLot:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    granted = service.execute(books.bonus(JOHN, 1, expires_at=end)).transaction
    common: Any = {"wallet_id": JOHN, "reference": "on lot", "origin": ORIGIN, "reason": "why"}
    return kind(lot_id=granted.transaction_id, **common, **more)


def owing_alone(books: Books) -> service.ReverseTransaction:
    """Nothing is there to be taken back: all of it is owed, and no entry is made."""
    command = undoing(books.top_up(JOHN, 1), on_shortfall="debt")
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    return command


def unfreeze_again(books: Books) -> service.Unfreeze:
    """Both sides are frozen before the one in question is: also under a switch, there is something to unfreeze."""
    service.execute(freeze(books))
    return unfreeze(books)


def emptied(books: Books) -> service.Close:
    service.execute(books.spend(JOHN, books.balance(JOHN)))
    return close(books)


def test_every_kind_has_its_cell() -> None:
    kinds = {kind.kind for kind in RULES} - {"HOLD_EXPIRY", "EXPIRY"}
    assert {name.split()[0] for name in CELLS} == kinds


STOPS = [
    *(("wallet", "debits"), ("wallet", "credits"), ("wallet", "both"), ("everything", "debits")),
    *(("everything", "credits"), ("user", "debits"), ("asset", "credits")),
]


@pytest.mark.wide
@pytest.mark.parametrize(("by", "side"), STOPS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_stopped_is_what_the_entries_do(books: Books, cell: str, by: str, side: str) -> None:
    prepare, needs = CELLS[cell]
    command = prepare(books)
    switch = service.execute(freeze(books, side=side)) if by == "wallet" else set_switch(by, side)
    before = state(books)
    outcome = outcome_of(command)
    # A switch for everything, or for a user, stops their other wallets too.
    others = {"EXCHANGE out": CREDIT, "EXCHANGE in": DEBIT, "PURCHASE": DEBIT, "TRANSFER out": CREDIT,
              "TRANSFER in": DEBIT}  # fmt: skip
    reaches_others = {"everything": tuple(others), "user": ("EXCHANGE", "PURCHASE"), "asset": ("TRANSFER",)}
    if by != "wallet" and cell.startswith(reaches_others[by]):
        needs = needs | next(more for name, more in others.items() if cell.startswith(name))
    if needs & ({"debits", "credits"} if side == "both" else {side}):
        assert type(outcome) is (WalletNotActiveError if by == "wallet" else StoppedError), outcome
        assert outcome.details["side"] in needs
        assert state(books) == before
        if isinstance(switch, service.SwitchView):
            service.lift_switch(switch.switch_id, reason="over", by=BY)
        else:
            service.execute(unfreeze(books))
        assert isinstance(outcome_of(command), service.Receipt), "the refusal burnt no reference"
    else:
        assert isinstance(outcome, service.Receipt), outcome
    for view in service.list_switches():
        service.lift_switch(view.switch_id, reason="over", by=BY)


@pytest.mark.parametrize("by", ["wallet", "everything"])
def test_what_is_due_comes_back_or_goes_whatever_is_frozen(books: Books, clock: Clock, by: str) -> None:
    first, second = placed(books, JOHN, 100, 60), placed(books, JOHN, 50, 60)
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    lot = service.execute(books.bonus(JOHN, 7, expires_at=end)).transaction.transaction_id
    service.execute(freeze(books)) if by == "wallet" else set_switch()
    clock.move(seconds=61)
    assert service.execute(holds.expiry_of(JOHN, first.hold_id, first.expires_at)).is_replay, "settled on the way"
    wallet = service.get_wallet(JOHN)
    assert (wallet.balance, wallet.held) == (500, 0)
    assert service.get_hold(second.hold_id).hold.state == "expired"
    assert service.execute(lot_rules.expiry_of(JOHN, lot, end)).is_replay, "what has expired goes likewise"


def test_what_the_books_refuse_anyway_is_told_first(books: Books) -> None:
    service.execute(freeze(books))
    assert isinstance(outcome_of(books.spend(JOHN, 501)), InsufficientBalanceError)


@pytest.mark.parametrize("by", ["wallet", "user"])
def test_a_debt_is_repaid_though_debits_are_stopped(books: Books, by: str) -> None:
    service.execute(owing_alone(books))
    service.execute(freeze(books, side="debits")) if by == "wallet" else set_switch("user", "debits")
    service.execute(books.top_up(JOHN, 3))
    assert (service.get_wallet(JOHN).balance, service.get_wallet(JOHN).owed) == (2, 0)
    assert isinstance(outcome_of(books.spend(JOHN, 1)), WalletNotActiveError | StoppedError)


# --- a wallet's freeze ---


def test_a_freeze_names_its_side_and_leaves_the_other(books: Books) -> None:
    receipt = service.execute(freeze(books, side="debits", reason="case 17", note="Ann called"))
    assert (receipt.transaction.kind, receipt.transaction.entries) == ("FREEZE", ())
    assert receipt.wallets[0].frozen == service.Frozen(debits=service.NO_END)
    refused = outcome_of(books.spend(JOHN, 1))
    assert isinstance(refused, WalletNotActiveError)
    assert refused.details == {"wallet_id": JOHN, "wallet_status": "FROZEN", "side": "debits"}
    service.execute(books.top_up(JOHN, 1))
    assert (status(), status(DOE)) == ("FROZEN", "ACTIVE")
    view = service.get_transaction(receipt.transaction.transaction_id)
    assert (view.note, view.transaction.requested["reason"]) == ("Ann called", "case 17")


def test_sides_are_frozen_and_unfrozen_each_by_itself(books: Books) -> None:
    service.execute(freeze(books, side="debits"))
    service.execute(freeze(books, side="credits", until=FAR))
    assert service.get_wallet(JOHN).frozen == service.Frozen(service.NO_END, FAR)
    service.execute(unfreeze(books, side="debits"))
    assert service.get_wallet(JOHN).frozen == service.Frozen(None, FAR)
    service.execute(books.spend(JOHN, 1))
    assert isinstance(outcome_of(books.top_up(JOHN, 1)), WalletNotActiveError)
    assert isinstance(outcome_of(unfreeze(books, side="debits")), WalletNotFrozenError)
    service.execute(unfreeze(books))
    assert status() == "ACTIVE"
    assert isinstance(outcome_of(unfreeze(books)), WalletNotFrozenError)


def test_a_frozen_side_gets_the_new_end(books: Books) -> None:
    service.execute(freeze(books, side="debits"))
    service.execute(freeze(books, side="both", until=FAR))
    assert service.get_wallet(JOHN).frozen == service.Frozen(FAR, FAR)


def test_it_ends_at_its_instant_and_nobody_has_to_write_that(books: Books, clock: Clock) -> None:
    until = books.sql("SELECT clock_timestamp() + interval '1 hour'")[0][0]
    service.execute(freeze(books, side="debits", until=until))
    clock.move(minutes=59)
    assert isinstance(outcome_of(books.spend(JOHN, 1)), WalletNotActiveError)
    clock.move(minutes=1, seconds=1)
    service.execute(books.spend(JOHN, 1))
    assert isinstance(outcome_of(unfreeze(books)), WalletNotFrozenError)
    assert books.sql("SELECT debits_frozen_until FROM wallets WHERE id = %s", JOHN) == [(until,)]


def test_reads_tell_its_end_by_the_databases_clock(books: Books) -> None:
    until = books.sql("SELECT clock_timestamp() + interval '3 seconds'")[0][0]
    service.execute(freeze(books, until=until))
    assert status() == "FROZEN"
    while not books.sql("SELECT clock_timestamp() >= %s", until)[0][0]:
        time.sleep(0.05)
    assert service.get_wallet(JOHN).frozen == service.Frozen()
    assert status() == "ACTIVE"
    service.execute(books.spend(JOHN, 1))


def test_an_end_that_has_passed_is_refused_and_a_retry_after_it_replays(books: Books, clock: Clock) -> None:
    now = books.sql("SELECT clock_timestamp()")[0][0]
    before = state(books)
    assert isinstance(outcome_of(freeze(books, until=now)), EndPassedError)
    assert state(books) == before
    command = freeze(books, until=now + dt.timedelta(hours=1))
    service.execute(command)
    clock.move(hours=2)
    again = service.execute(command)
    assert again.is_replay
    assert again.as_of is not None
    assert again.wallets[0].frozen.at(again.as_of) == service.Frozen()


def test_retries_replay_and_another_command_is_a_mismatch(books: Books) -> None:
    first = service.execute(freeze(books, reference="one", side="debits", note="a"))
    service.execute(unfreeze(books, reference="two"))
    again = service.execute(freeze(books, reference="one", side="debits", note="b"))
    assert again.is_replay
    assert again.transaction.transaction_id == first.transaction.transaction_id
    assert again.wallets[0].frozen == service.Frozen(), "as it stands now"
    for other, fields in (
        (freeze(books, reference="one", side="both"), ["side"]),
        (freeze(books, reference="one", side="debits", until=FAR), ["until"]),
        (freeze(books, reference="one", side="debits", reason="another"), ["reason"]),
        (unfreeze(books, reference="one", side="debits"), ["kind", "until"]),
        (books.spend(JOHN, 1, "one"), ["kind", "amount", "side", "until", "reason"]),
    ):
        refused = outcome_of(other)
        assert isinstance(refused, ReferenceMismatchError)
        assert sorted(refused.details["fields"]) == sorted(fields)
    same = dt.datetime(2998, 12, 31, 22, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    service.execute(freeze(books, reference="three", until=FAR))
    assert service.execute(freeze(books, reference="three", until=same)).is_replay, (
        "the same instant, written otherwise"
    )


def test_no_user_may_freeze_or_close(books: Books) -> None:
    permit = service.Permit(scopes=service.TOKEN_SCOPES, user_id=JOHN_USER)
    origin = service.Origin(client="tests", actor="user:2", permit=permit)
    for command in (
        freeze(books, origin=origin),
        service.Unfreeze(wallet_id=JOHN, reference="x", origin=origin, reason="why"),
        service.Close(wallet_id=JOHN, reference="x", origin=origin, reason="why"),
    ):
        assert isinstance(outcome_of(command), MissingScopeError)


# --- closing ---


def test_only_an_empty_wallet_is_closed(books: Books) -> None:
    before = state(books)
    refused = outcome_of(close(books))
    assert isinstance(refused, WalletNotEmptyError)
    assert (refused.details["balance"], refused.details["held"]) == (500, 0)
    assert state(books) == before
    hold = placed(books, JOHN, 500)
    refused = outcome_of(close(books))
    assert isinstance(refused, WalletNotEmptyError)
    assert (refused.details["balance"], refused.details["held"]) == (0, 500)
    service.execute(capture(hold, reference="all"))
    assert service.execute(close(books)).wallets[0].status == "CLOSED"
    assert status() == "CLOSED"


def test_a_wallet_that_owes_is_not_closed(books: Books) -> None:
    owed = owing_alone(books)
    service.execute(owed)
    refused = outcome_of(close(books))
    assert isinstance(refused, WalletNotEmptyError)
    assert (refused.details["balance"], refused.details["owed"]) == (0, 1)
    service.execute(books.top_up(JOHN, 1))
    service.execute(close(books))
    late = replace(owed, reference="late")
    assert isinstance(outcome_of(late), WalletClosedError)


def test_what_is_due_makes_a_wallet_with_something_in_it(books: Books, clock: Clock) -> None:
    placed(books, JOHN, 500, 60)
    clock.move(seconds=61)
    refused = outcome_of(close(books))
    assert isinstance(refused, WalletNotEmptyError)
    assert (refused.details["balance"], refused.details["held"]) == (500, 0), "it was settled first, and stays so"


def test_a_closed_wallet_takes_no_new_command_and_answers_what_it_took(books: Books) -> None:
    hold = placed(books, JOHN, 100)
    ends = [release(hold, "back"), books.spend(JOHN, 500, "rest"), close(books, reference="end")]
    for command in ends:
        service.execute(command)
    before = state(books)
    news = [
        *(books.top_up(JOHN, 1), books.spend(JOHN, 1), freeze(books), unfreeze(books), close(books)),
        *(books.command(service.Transfer, DOE, 1, to_wallet_id=JOHN), purchase(books, "TOPUP")),
        *(capture(hold, reference="late"), books.command(service.Seed, JOHN, 1)),
    ]
    for command in news:
        assert isinstance(outcome_of(command), WalletClosedError), command
    assert state(books) == before
    for command in ends:
        assert service.execute(command).is_replay
    view, is_new = service.create_wallet(user_id=JOHN_USER, asset_code="GOLD")
    assert (view.wallet_id, view.status, is_new) == (JOHN, "CLOSED", False)


def test_a_frozen_wallet_can_be_closed(books: Books) -> None:
    service.execute(books.spend(JOHN, 500))
    service.execute(freeze(books))
    service.execute(close(books))
    assert status() == "CLOSED"


def test_a_wallet_is_never_closed_with_money_in_it(books: Books) -> None:
    """Whoever comes first: either it is closed and takes nothing, or it has something and stays open."""
    for wallet_id in books.make_wallets(40):
        outcomes = books.in_threads(
            [
                *[lambda wallet_id=wallet_id: outcome_of(books.top_up(wallet_id, 5)) for _ in range(3)],
                lambda wallet_id=wallet_id: outcome_of(close(books, wallet_id)),
            ]
        )
        wallet = service.get_wallet(wallet_id)
        accepted = sum(isinstance(one, service.Receipt) for one in outcomes[:3])
        assert wallet.balance == 5 * accepted
        assert (wallet.status == "CLOSED") == (accepted == 0) == isinstance(outcomes[3], service.Receipt)
        assert {type(one) for one in outcomes} <= {service.Receipt, WalletClosedError, WalletNotEmptyError}


def test_control_without_the_row_lock_a_wallet_is_closed_with_money_in_it(
    broken_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT", UNLOCKED)
    (wallet_id,) = broken_books.make_wallets(1)
    with unit_of_work() as connection:
        (closed,) = posting.post(connection, [close(broken_books, wallet_id)])
        service.execute(broken_books.top_up(wallet_id, 5))
    assert isinstance(closed, service.Receipt)
    assert (status(wallet_id), broken_books.balance(wallet_id)) == ("CLOSED", 5)
    assert "a closed wallet has something" in broken_books.faults()
    assert "closed" in service.verify().broken()


def test_spends_stop_at_the_freeze_and_none_comes_after_it(books: Books) -> None:
    service.execute(books.top_up(JOHN, 500))
    works: list[Callable[[], Any]] = [lambda: [outcome_of(books.spend(JOHN, 1)) for _ in range(10)] for _ in range(8)]
    outcomes = books.in_threads([*works, lambda: service.execute(freeze(books, reference="stop"))])
    spends = [one for part in outcomes[:-1] for one in part]
    assert {type(one) for one in spends} <= {service.Receipt, WalletNotActiveError}
    spent = sum(isinstance(one, service.Receipt) for one in spends)
    assert books.balance(JOHN) == 1_000 - spent
    late = """SELECT count(*) FROM transactions WHERE kind = 'SPEND' AND wallet_id = 3
                 AND created_at > (SELECT created_at FROM transactions WHERE reference_id = 'stop')"""
    assert books.sql(late) == [(0,)]
    for part in outcomes[:-1]:
        refused = [isinstance(one, WalletNotActiveError) for one in part]
        assert refused == sorted(refused), "once refused, always refused"


# --- batches and preview ---


def mixed(books: Books) -> list[list[service.Command]]:
    """Chunks in which what one command stops another one meets."""
    return [
        [books.spend(JOHN, 1, "a"), freeze(books, side="debits", reference="b"), books.spend(JOHN, 1, "c")],
        [books.spend(JOHN, 1, "d"), books.top_up(JOHN, 1, "e"), freeze(books, side="credits", reference="f")],
        [books.top_up(JOHN, 1, "g"), freeze(books, side="debits", reference="b"), unfreeze(books, reference="h")],
        [books.spend(JOHN, 500, "i"), close(books, reference="j"), books.top_up(JOHN, 1, "k")],
        [close(books, reference="j"), close(books, reference="l"), unfreeze(books, reference="m")],
        [freeze(books, DOE, until=FAR, reference="n"), close(books, DOE, reference="o")],
        [books.spend(DOE, 1, "p"), unfreeze(books, DOE, "credits", reference="q"), books.top_up(DOE, 1, "r")],
        [unfreeze(books, DOE, "credits", reference="s")],
    ]


EXPECTED = [
    *("done", "done", "WalletNotActiveError"),
    *("WalletNotActiveError", "done", "done"),
    *("WalletNotActiveError", "replay", "done"),
    *("done", "done", "WalletClosedError"),
    *("replay", "WalletClosedError", "WalletClosedError"),
    *("done", "WalletNotEmptyError"),
    *("WalletNotActiveError", "done", "done"),
    "WalletNotFrozenError",
]


def word(outcome: Any) -> str:
    if isinstance(outcome, Exception):
        return type(outcome).__name__
    return "replay" if outcome.is_replay else "done"


@pytest.mark.parametrize("together", [False, True])
def test_each_of_a_batch_sees_what_came_before_it(books: Books, together: bool) -> None:
    chunks = mixed(books)
    chunks = [[command for chunk in chunks for command in chunk]] if together else chunks
    outcomes = [outcome for chunk in chunks for outcome in service.execute_batch(chunk)]
    assert [word(outcome) for outcome in outcomes] == EXPECTED


def test_a_preview_says_what_posting_says(books: Books) -> None:
    chunks = mixed(books)
    expected = previewed(chunks)
    assert (status(), status(DOE)) == ("ACTIVE", "ACTIVE")
    assert posted(chunks) == expected


def test_a_preview_knows_the_switches(books: Books) -> None:
    set_switch("user", "debits")
    chunks: list[list[service.Command]] = [[books.spend(JOHN, 1), books.top_up(JOHN, 1), books.spend(DOE, 1)]]
    expected = previewed(chunks)
    assert posted(chunks) == expected


def test_an_atomic_batch_that_is_refused_freezes_nothing(books: Books) -> None:
    with pytest.raises(service.BatchRefusedError) as refused:
        service.execute_atomic([freeze(books, side="debits"), books.spend(JOHN, 1)])
    assert refused.value.index == 1
    assert status() == "ACTIVE"
    service.execute_atomic([freeze(books, side="debits"), unfreeze(books), books.spend(JOHN, 1)])


def test_a_freeze_is_one_more_statement_and_all_else_none(books: Books) -> None:
    service.execute(books.spend(JOHN, 1))
    with round_trips() as trips:
        service.execute(freeze(books))
    assert [names(trip) for trip in trips] == [
        ["lock_wallets", "try_slot", "load_wallets", "load_transactions"],
        ["insert_transactions", "update_balances", "update_states", "commit"],
    ]


# --- switches ---


def test_a_switch_names_its_target_and_side(books: Books) -> None:
    set_switch("asset", "credits")
    refused = outcome_of(books.top_up(DOE, 1))
    assert isinstance(refused, StoppedError)
    assert refused.details == {"wallet_id": DOE, "side": "credits", "target": "asset"}
    service.execute(books.spend(DOE, 1))
    service.execute(books.top_up(JOHN_DIAMOND, 1))
    assert status(DOE) == "ACTIVE", "it is no state of the wallet"


def test_each_of_several_switches_stops_until_it_is_lifted(books: Books) -> None:
    several = [set_switch("user"), set_switch("asset", "debits"), set_switch("everything", "credits")]
    stopped = []
    for switch in several:
        stopped.append(
            [isinstance(outcome_of(one), StoppedError) for one in (books.spend(JOHN, 1), books.top_up(JOHN, 1))]
        )
        service.lift_switch(switch.switch_id, reason="over", by=BY)
    assert stopped == [[True, True], [True, True], [False, True]]
    service.execute(books.top_up(JOHN, 1))


def test_a_switch_ends_by_itself(books: Books) -> None:
    until = books.sql("SELECT clock_timestamp() + interval '3 seconds'")[0][0]
    switch = set_switch(until=until)
    assert isinstance(outcome_of(books.spend(JOHN, 1)), StoppedError)
    while not books.sql("SELECT clock_timestamp() >= %s", until)[0][0]:
        time.sleep(0.05)
    service.execute(books.spend(JOHN, 1))
    assert service.list_switches() == []
    assert [view.is_set for view in service.list_switches(with_lifted=True)] == [False]
    assert not service.get_switch(switch.switch_id).is_set


def test_the_same_switch_is_set_once_and_another_one_beside_it(books: Books) -> None:
    settings = service.SwitchSettings(target="user", side="both", reason="twice", user_id=JOHN_USER)
    made = books.in_threads([lambda: service.set_switch(settings, by=BY)] * 8)
    assert len({view.switch_id for view, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1
    first = made[0][0].switch_id
    assert set_switch("user", until=FAR).switch_id != first
    service.lift_switch(first, reason="over", by=BY)
    assert service.set_switch(settings, by=BY)[1], "a new one"


def test_who_set_and_lifted_it_first_stays_and_stands_in_the_audit_log(books: Books) -> None:
    switch = set_switch("asset", "debits")
    for name in ("ann", "ben"):
        view = service.lift_switch(switch.switch_id, reason=f"said {name}", by=service.By(actor=name, ticket="T-1"))
    assert (view.set_by, view.lifted_by, view.lift_reason, view.is_set) == ("tests", "ann", "said ann", False)
    subject = f"switch:{switch.switch_id}"
    records = "SELECT actor, action, reason, after ->> 'asset' FROM audit_log WHERE subject = %s"
    assert books.sql(f"{records} ORDER BY id", subject) == [
        ("tests", "switch:set", "a test", "GOLD"),
        ("ann", "switch:lift", "said ann", None),
    ]


def test_what_is_no_user_or_has_ended_is_refused(books: Books) -> None:
    for user_id in (1, 999):
        settings = service.SwitchSettings(target="user", side="both", reason="x", user_id=user_id)
        with pytest.raises(UserNotFoundError):
            service.set_switch(settings, by=BY)
    with pytest.raises(EndPassedError):
        set_switch(until=dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    assert service.list_switches(with_lifted=True) == []
    assert books.sql("SELECT count(*) FROM audit_log WHERE action LIKE 'switch:%%'") == [(0,)]


def test_without_any_switch_no_wallet_is_asked_about(books: Books) -> None:
    """The plan: whether there is one is asked once; the look for each wallet is never executed."""
    wallet_ids = books.make_wallets(50)
    statement = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) " + loading._LOAD_WALLETS.sql.decode()
    plan = [row[0] for row in books.sql(statement.replace("$1", "%s::bigint[]"), wallet_ids)]
    scans = [line for line in plan if "stop_switches" in line]
    assert len(scans) == 4
    assert sum("never executed" in line for line in scans) == 3, "\n".join(plan)
