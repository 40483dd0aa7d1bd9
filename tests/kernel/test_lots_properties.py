"""The rules of lots, without a database, with a clock that jumps over their ends and back."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.test_books_properties import START, Clock, attempt, make_books
from wallet_app import service
from wallet_app.service.adjustments import Adjust
from wallet_app.service.books import Asset, Books
from wallet_app.service.lots import EFFECTS, STANDING, Lot, LotKey

ORIGIN = service.Origin(client="x", actor="x")
JOHN, DOE = 3, 5
OWNERS = ("Treasury", "Promotions", "Revenue", "Clearing", "Holds", "Breakage", "Adjustments")
GOLD = Asset(1, "GOLD", "Gold Coins", 0, {name: 100 + n for n, name in enumerate(OWNERS)}, "UTC", None, None)

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("topup", "bonus", "bonus", "bonus", "spend", "spend", "spend", "hold", "hold", "capture", "capture"),
                *("release", "transfer", "transfer", "reverse", "reverse", "reverse", "extend", "revoke", "adjust"),
                *("purchase",),
            ]
        ),
        st.sampled_from([JOHN, JOHN, DOE]),
        st.integers(0, 7),
        st.integers(1, 12),
        st.sampled_from([0, 0, 0, 0, 1, 2, 5, -3]),
    ),
    min_size=12,
    max_size=40,
)
"""Verb, wallet, which (or until when), amount, and by how many seconds the clock jumps."""
outcomes: Counter[str] = Counter()


class World:
    """The books of two wallets of one asset, and what is known of them beside."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.books = make_books({JOHN: 0, 4: 0, DOE: 0}, {JOHN: 0, 4: 0, DOE: 0}, self.clock)
        for wallet_id, wallet in self.books.wallets.items():
            self.books.wallets[wallet_id] = wallet._replace(asset=GOLD, version=0, user_id=1)
        self.numbers = 0
        self.paid_of: Counter[Any] = Counter()
        """Of each transaction that took paid credit for good, how much of that has not come back."""

    def wallet(self, wallet_id: int) -> Any:
        return self.books.wallets[wallet_id]

    def lots(self, wallet_id: int) -> dict[LotKey, Lot]:
        return self.books.lots.get(wallet_id, {})

    def paid(self) -> int:
        """What both wallets have that was paid for, held or not."""
        total = sum(wallet.balance + wallet.held for wallet in self.books.wallets.values())
        return total - sum(lot.left for lots in self.books.lots.values() for lot in lots.values())

    def command(self, verb: str, wallet_id: int, which: int, amount: int) -> Any:
        self.numbers += 1
        common: Any = {"wallet_id": wallet_id, "reference": f"r{self.numbers}", "origin": ORIGIN}
        other = DOE if wallet_id == JOHN else JOHN
        match verb:
            case "topup":
                return service.TopUp(amount=amount * 2, **common)
            case "bonus":
                until = None if which == 0 else max(self.clock.now, self.wallet(wallet_id).updated_at)
                end = None if until is None else until + dt.timedelta(seconds=which)
                return service.Bonus(amount=amount * 2, expires_at=end, **common)
            case "spend":
                return service.Spend(amount=amount, **common)
            case "hold":
                return service.PlaceHold(amount=amount, expires_in=which + 1, **common)
            case "transfer":
                return service.Transfer(to_wallet_id=other, amount=amount, **common)
            case "adjust":
                return Adjust(amount=amount, direction="debit", reason_code="x", **common)
            case "purchase":
                legs = (service.Leg(wallet_id, "BONUS", which + 1), service.Leg(wallet_id, "SPEND", amount))
                return service.Purchase(legs=legs, **common)
        return self.on_something(verb, which, amount, common)

    def on_something(self, verb: str, which: int, amount: int, common: Any) -> Any:
        """Return a command on a hold, a lot or a transaction that there is; None if there is none."""
        found: list[Any]
        if verb in ("capture", "release"):
            found = list(self.books.holds.get(common["wallet_id"], {}).values())
        elif verb == "reverse":
            found = [one for one in self.books.posted if one.kind not in ("HOLD", "REVERSAL", "EXPIRY", "HOLD_EXPIRY")]
            found = [one for one in found if one.entries]
        else:
            found = list(self.lots(common["wallet_id"]).values())
        if not found:
            return None
        one = found[-1 - which % min(len(found), 4)]
        if verb == "capture":
            final = bool(amount % 2)
            return service.CaptureHold(hold_id=one.hold_id, amount=amount if which else None, is_final=final, **common)
        if verb == "release":
            return service.ReleaseHold(hold_id=one.hold_id, **common)
        shortfall = ("refuse", "partial", "debt")[amount % 3]
        if verb == "reverse":
            return self.reversal(one, amount if which % 2 else None, shortfall, bool(which > 3), common)
        if verb == "extend":
            end = one.expires_at + dt.timedelta(seconds=which - 1) if one.key != STANDING else START
            return service.ExtendLot(lot_id=one.lot_id, expires_at=end, reason="x", **common)
        self.know(self.granted_by(one))
        return service.RevokeLot(lot_id=one.lot_id, reason="x", on_shortfall=shortfall, **common)

    def reversal(self, one: Any, amount: int | None, shortfall: str, regrants: bool, common: Any) -> Any:
        self.know(one)
        others = tuple({entry.wallet_id for entry in one.entries} - {one.wallet_id})
        more: Any = {"on_expired": "regrant", "grace_days": 1} if regrants else {}
        return service.ReverseTransaction(
            **(common | {"wallet_id": one.wallet_id}),
            transaction_id=one.transaction_id,
            other_wallet_ids=others,
            reason="x",
            amount=amount,
            on_shortfall=shortfall,
            **more,
        )

    def granted_by(self, lot: Lot) -> Any:
        entries = {(entry.wallet_id, entry.seq): one for one in self.books.posted for entry in one.entries}
        return entries.get((lot.wallet_id, lot.seq))

    def know(self, original: Any) -> None:
        """Give the books what a posting loads of what it reverses."""
        self.books.originals = {} if original is None else {original.transaction_id: original}
        self.books.movements = {
            (entry.wallet_id, entry.seq): tuple(
                one
                for one in self.books.lot_movements
                if (one.wallet_id, one.seq) == (entry.wallet_id, entry.seq) and one.kind != "extend"
            )
            for entry in (original.entries if original is not None else ())
        }


@settings(max_examples=200, deadline=None)
@given(steps=steps)
def check_the_rules_of_lots(steps: list[tuple[str, int, int, int, int]]) -> None:
    world = World()
    for verb, wallet_id, which, amount, jump in steps:
        world.clock.now += dt.timedelta(seconds=jump)
        world.books.instant = None
        command = world.command(verb, wallet_id, which, amount)
        if command is None:
            continue
        before, paid = len(world.books.posted), world.paid()
        decided = command.wallet_ids()
        expected = expected_moves(world, command)
        outcome = attempt(world.books, command)
        done = isinstance(outcome, service.Receipt)
        outcomes[verb if done else f"{verb} {type(outcome).__name__}"] += 1
        for one in world.books.posted[before:]:
            outcomes[one.kind] += 1
            outcomes[f"{one.kind} in place"] += any(returned_in_place(world, one, entry) for entry in one.entries)
            changed(world, one)
        if done and expected is not None:
            assert moves_of(world, outcome.transaction) == expected
        if verb not in ("reverse", "revoke"):
            assert_expired_once(world.books, world.books.posted[before:])
        assert_paid(world, world.books.posted[before:], paid)
        assert_whole(world.books, decided)
        assert_bound(world.books)


def expected_moves(world: World, command: Any) -> list[tuple[LotKey | None, int]] | None:
    """Return what a spend, hold or transfer must take, by its own reading: soonest end, standing, paid."""
    if command.kind not in ("SPEND", "HOLD", "TRANSFER") or any(
        world.books.due_holds(wallet_id) for wallet_id in command.wallet_ids()
    ):
        return None
    now = max([world.clock.now, *[world.wallet(wallet_id).updated_at for wallet_id in command.wallet_ids()]])
    left, taken = command.amount, []
    usable = [lot for lot in world.lots(command.wallet_id).values() if lot.available and lot.expires_at > now]
    for lot in sorted(usable, key=lambda lot: (lot.expires_at, lot.seq, lot.part)):
        if left:
            taken.append((lot.key, min(left, lot.available)))
            left -= taken[-1][1]
    return [*taken, (None, left)] if left else taken


def moves_of(world: World, transaction: Any) -> list[tuple[LotKey | None, int]]:
    entry = transaction.entries[0]
    moves = [one for one in world.books.lot_movements if one.transaction_id == transaction.transaction_id]
    taken: list[tuple[LotKey | None, int]] = [
        ((one.lot_seq, one.lot_part), one.amount) for one in moves if one.wallet_id == entry.wallet_id
    ]
    left = -entry.amount - sum(amount for _, amount in taken)
    return [*taken, (None, left)] if left else taken


def changed(world: World, transaction: Any) -> None:
    """Note how much paid credit the transaction took for good; a transfer lengthens no life."""
    moves = [one for one in world.books.lot_movements if one.transaction_id == transaction.transaction_id]
    if transaction.kind == "TRANSFER":
        giver = transaction.wallet_id
        ends: Counter[Any] = Counter()
        for one in moves:
            lot = world.lots(one.wallet_id)[one.lot_seq, one.lot_part]
            ends[lot.expires_at] += one.amount if one.wallet_id == giver else -one.amount
        assert not any(ends.values()), "what arrives is what was taken"
    for entry in transaction.entries:
        if entry.amount < 0 and transaction.kind in ("SPEND", "CAPTURE", "ADJUSTMENT", "PURCHASE"):
            of_lots = sum(one.amount for one in moves if (one.wallet_id, one.seq) == (entry.wallet_id, entry.seq))
            world.paid_of[transaction.transaction_id] += -entry.amount - of_lots


def returned_in_place(world: World, transaction: Any, entry: Any) -> int:
    """Return how much the entry gave back of what had been taken in place of lots."""
    moves = [one for one in world.books.lot_movements if one.transaction_id == transaction.transaction_id]
    if entry.amount < 0:
        return 0
    return sum(one.amount for one in moves if one.kind == "revoke" and one.seq == entry.seq)


def assert_paid(world: World, posted: list[Any], before: int) -> None:
    """Paid credit comes by top-ups, and back by the reversal of what took it: never out of bonus.

    And it comes back where it had been taken in place of a grant, as much as is taken of that then.
    """
    allowed = 0
    for one in posted:
        allowed += sum(returned_in_place(world, one, entry) for entry in one.entries)
        if one.kind == "TOPUP":
            allowed += one.entries[0].amount
        if one.kind == "REVERSAL" and one.reverses is not None:
            allowed += world.paid_of[one.reverses]
            if world.paid_of[one.reverses]:
                returned = sum(entry.amount for entry in one.entries if entry.amount > 0)
                moves = [move for move in world.books.lot_movements if move.transaction_id == one.transaction_id]
                returned -= sum(move.amount for move in moves if move.kind in ("restore", "grant"))
                world.paid_of[one.reverses] -= returned
                assert world.paid_of[one.reverses] >= 0, "no more paid credit comes back than was taken"
    after = world.paid()
    if any(one.kind == "REVERSAL" for one in posted):
        # The reversal of a transfer gives the giver what was paid, also if the other one has only bonus left for it.
        transfers = {one.transaction_id for one in world.books.posted if one.kind == "TRANSFER"}
        if any(one.reverses in transfers for one in posted):
            return
    assert after - before <= allowed


def assert_expired_once(books: Books, posted: list[Any]) -> None:
    """What is owed for a grant is taken from what came back of it: nothing expires that is still owed for."""
    expired = {one.transaction_id for one in posted if one.kind == "EXPIRY"}
    for move in books.lot_movements:
        debt = books.reversed.get((move.wallet_id, move.lot_seq))
        assert move.transaction_id not in expired or debt is None or not debt.owed


def assert_bound(books: Books) -> None:
    """Of what an entry granted, nothing is lost twice: what is or was there to expire was not taken back besides."""
    for (wallet_id, seq), one in books.reversed.items():
        made = [lot for lot in books.lots.get(wallet_id, {}).values() if lot.seq == seq]
        assert sum(lot.available + lot.expired for lot in made) + one.reversed + one.owed <= one.amount


def assert_whole(books: Books, decided: tuple[int, ...]) -> None:
    """Check the books after a command, and that nothing due is left on its wallets."""
    for wallet_id, wallet in books.wallets.items():
        lots = books.lots.get(wallet_id, {})
        assert sum(lot.available for lot in lots.values() if lot.kind == "bonus") == wallet.bonus <= wallet.balance
        assert sum(lot.held for lot in lots.values()) <= wallet.held
        assert sum(lot.counts for lot in lots.values()) == wallet.lots
        assert not (wallet.owed and wallet.balance), "who owes has nothing"
        if wallet_id in decided:
            assert books.due_lots(wallet_id) == [], "what is due was settled"
        for key, lot in lots.items():
            assert min(lot[6:11]) >= 0
            assert sum(lot[6:11]) == lot.amount
            moves = [
                one for one in books.lot_movements if (one.wallet_id, one.lot_seq, one.lot_part) == (wallet_id, *key)
            ]
            sums = [sum(EFFECTS[one.kind][n] * one.amount for one in moves) for n in range(6)]
            assert sums == list(lot[5:11]), "a lot is what its movements make"
            assert max(one.expires_at for one in moves if one.expires_at) == lot.expires_at
        held: Counter[LotKey] = Counter()
        for hold in books.holds.get(wallet_id, {}).values():
            assert sum(amount for _, amount in hold.lots) <= hold.remaining
            held.update(dict(hold.lots))
        assert {key: lot.held for key, lot in lots.items() if lot.held} == dict(held)


def test_lots_keep_what_is_bonus_bonus_and_what_ends_ending() -> None:
    outcomes.clear()
    check_the_rules_of_lots()
    wanted = {"topup", "bonus", "spend", "hold", "capture", "release", "transfer", "reverse", "extend", "revoke"}
    wanted |= {"adjust", "purchase", "EXPIRY", "HOLD_EXPIRY", "reverse OverReversalError", "revoke LotUsedError"}
    wanted |= {"extend LotFinishedError", "spend InsufficientBalanceError"}
    assert {name for name in wanted if not outcomes[name]} == set()
