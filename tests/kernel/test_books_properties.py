"""The functional core against a plain model, without a database: random commands on random wallets.

The model knows integers and dictionaries only, and hashes by its own reading of the design.
"""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet_app import service
from wallet_app.errors import (
    BalanceAboveBoundError,
    InsufficientBalanceError,
    ReferenceMismatchError,
    SystemWalletError,
    WalletNotFoundError,
    WalletServiceError,
)
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.books import Asset, BookkeepingError, Books, Plan, PlannedEntry, WalletState
from wallet_app.service.rules import decide

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
TREASURY = 1
GOLD = Asset(1, "GOLD", "Gold Coins", 0, {"Treasury": 1, "Promotions": 7, "Revenue": 9, "Clearing": 15, "Holds": 13})
DIAMOND = Asset(2, "DIAMOND", "Diamonds", 0, {"Treasury": 2, "Promotions": 8, "Revenue": 10, "Clearing": 16})
USERS = {3: GOLD, 4: DIAMOND, 5: GOLD}
CONTRA = {"TOPUP": "Treasury", "BONUS": "Promotions", "SPEND": "Revenue", "SEED": "Treasury"}

amounts = st.one_of(st.sampled_from([1, 2, AMOUNT_MAX - 1, AMOUNT_MAX]), st.integers(1, 50), st.integers(1, AMOUNT_MAX))
balances = st.one_of(st.sampled_from([0, 1, AMOUNT_MAX]), st.integers(0, 100), st.integers(0, AMOUNT_MAX))
texts = st.one_of(st.none(), st.text(max_size=5))
commands = st.builds(
    lambda kind, **fields: kind(**fields),
    st.sampled_from([service.TopUp, service.Bonus, service.Spend, service.Seed]),
    wallet_id=st.sampled_from([3, 3, 4, 5, TREASURY, 99]),
    reference=st.sampled_from(["a", "b", "c", "d", "e", "\u00e9", "f" * 200]),
    origin=st.builds(
        service.Origin, client=st.sampled_from(["x", "x", "y"]), actor=st.text(max_size=3), request_id=texts
    ),
    amount=amounts,
    note=texts,
    metadata=st.sampled_from([None, "{}", '{"a": 1}']),
    occurred_at=st.one_of(st.none(), st.datetimes(timezones=st.just(dt.UTC))),
)
steps = st.lists(st.tuples(commands, st.integers(-5_000_000, 5_000_000)), max_size=30)
"""Commands, each with the microseconds by which the clock jumps before it, also backwards."""
held_amounts = st.sampled_from([0, 0, 1, 1000])


@dataclass
class Model:
    """Wallets as integers; what was accepted under which reference; every contra wallet's sum."""

    balances: dict[int, int]
    held: dict[int, int]
    versions: dict[int, int]
    chains: dict[int, bytes]
    times: dict[int, dt.datetime]
    accepted: dict[tuple[int, str], tuple[service.Movement, Any]] = field(default_factory=dict)
    contra: dict[int, int] = field(default_factory=dict)

    def expected(self, command: service.Movement) -> type[WalletServiceError] | str:
        """Return what must come of the command: `new`, `replay`, or the class of its decline."""
        wallet_id, amount = command.wallet_id, command.amount
        if wallet_id == TREASURY:
            return SystemWalletError
        if wallet_id not in USERS:
            return WalletNotFoundError
        if before := self.accepted.get((wallet_id, command.reference)):
            first = before[0]
            same = (first.kind, first.origin.client, first.amount) == (command.kind, command.origin.client, amount)
            return "replay" if same else ReferenceMismatchError
        if command.kind == "SPEND":
            return InsufficientBalanceError if self.balances[wallet_id] < amount else "new"
        fits = self.balances[wallet_id] + self.held[wallet_id] + amount <= AMOUNT_MAX
        return "new" if fits else BalanceAboveBoundError

    def post(self, command: service.Movement, transaction: Any) -> None:
        wallet_id = command.wallet_id
        signed = -command.amount if command.kind == "SPEND" else command.amount
        contra = USERS[wallet_id].contra[CONTRA[command.kind]]
        self.balances[wallet_id] += signed
        self.versions[wallet_id] += 1
        self.contra[contra] = self.contra.get(contra, 0) - signed
        self.accepted[wallet_id, command.reference] = (command, transaction)
        self.chains[wallet_id] = next_hash(self.chains[wallet_id], command, transaction, signed, contra, self)


def text(value: str | None) -> bytes:
    return b"\xff" * 4 if value is None else pack(">I", len(value.encode())) + value.encode()


def micros(instant: dt.datetime) -> bytes:
    since = instant - EPOCH
    return pack(">q", (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def next_hash(
    previous: bytes, command: service.Movement, transaction: Any, signed: int, contra: int, model: Model
) -> bytes:
    """Hash the entry by the design's words: format, then every field in its order, the texts with their lengths."""
    number, wallet_id = transaction.transaction_id.bytes, pack(">q", command.wallet_id)
    details = b"\xff" * 4
    if command.note is not None or command.metadata is not None:
        hashed = sha256(b"\x01" + b"s" * 16 + text(command.note) + text(command.metadata)).digest()
        details = pack(">I", 32) + hashed
    origin = command.origin
    words = b"".join(
        text(word) for word in (command.reference, command.kind, origin.client, origin.actor, origin.request_id)
    )
    occurred = micros(command.occurred_at or transaction.created_at)
    digest = sha256(b"\x01" + number + wallet_id + words + occurred + b"\xff" * 4 + details).digest()
    seq, after = model.versions[command.wallet_id], model.balances[command.wallet_id]
    numbers = pack(">qqq", signed, after, contra) + micros(transaction.created_at)
    entry = wallet_id + pack(">q", seq) + number + text(command.kind) + numbers
    return sha256(b"\x01" + previous + entry + digest).digest()


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> dt.datetime:
        return self.now


def make_books(start: dict[int, int], held: dict[int, int], clock: Clock) -> Books:
    numbers = itertools.count(1)
    return Books(
        wallets={
            wallet_id: WalletState(
                wallet_id=wallet_id,
                user_id=wallet_id,
                asset=asset,
                status="ACTIVE",
                balance=start[wallet_id],
                held=held[wallet_id],
                version=wallet_id,
                chain=bytes([wallet_id]) * 32,
                updated_at=START,
            )
            for wallet_id, asset in USERS.items()
        },
        system_wallets=frozenset({*GOLD.contra.values(), *DIAMOND.contra.values()}),
        transactions={},
        clock=clock,
        new_id=lambda _: uuid.UUID(int=next(numbers)),
        new_salt=lambda: b"s" * 16,
    )


def seen(books: Books) -> tuple[Any, ...]:
    """Return all that a command could change."""
    return (dict(books.wallets), dict(books.transactions), list(books.posted), dict(books.contra_deltas))


def attempt(books: Books, command: service.Command) -> Any:
    try:
        return decide(books, command)
    except WalletServiceError as declined:
        return declined


@settings(max_examples=200, deadline=None)
@given(
    start=st.tuples(balances, balances, balances), held=st.tuples(held_amounts, held_amounts, held_amounts), steps=steps
)
def test_the_books_do_what_a_plain_model_does(
    start: tuple[int, ...], held: tuple[int, ...], steps: list[tuple[service.Movement, int]]
) -> None:
    opening = dict(zip(USERS, start, strict=True))
    # Held funds count to the bound, so a wallet that holds some is not full.
    on_hold = {wallet_id: min(h, AMOUNT_MAX - opening[wallet_id]) for wallet_id, h in zip(USERS, held, strict=True)}
    clock = Clock()
    books = make_books(opening, on_hold, clock)
    model = Model(
        balances=dict(opening),
        held=on_hold,
        versions={wallet_id: wallet_id for wallet_id in USERS},
        chains={wallet_id: bytes([wallet_id]) * 32 for wallet_id in USERS},
        times=dict.fromkeys(USERS, START),
    )
    for command, jump in steps:
        clock.now += dt.timedelta(microseconds=jump)
        before, expected = seen(books), model.expected(command)
        outcome = attempt(books, command)
        if expected == "new":
            assert_posted(books, model, command, outcome)
        else:
            assert seen(books) == before, "a replay or a decline changes nothing, and burns no reference"
            assert_answered(model, command, outcome, expected)
    assert_sums(books, model, opening)


def test_no_entry_is_earlier_than_its_wallets_last_one() -> None:
    """A plan with a wallet that its command does not name: nobody has looked at its time."""
    books = make_books({3: 20, 4: 0, 5: 20}, dict.fromkeys(USERS, 0), Clock())
    books.wallets[5] = books.wallets[5]._replace(updated_at=START + dt.timedelta(microseconds=1))
    command = service.TopUp(wallet_id=3, reference="r", origin=service.Origin(client="x", actor="x"), amount=1)
    before = seen(books)
    with pytest.raises(BookkeepingError):
        books.apply(command, Plan((PlannedEntry(5, "TOPUP", 1, "Treasury"),)))
    assert seen(books) == before


def assert_posted(books: Books, model: Model, command: service.Movement, receipt: Any) -> None:
    wallet_id, transaction = command.wallet_id, receipt.transaction
    model.post(command, transaction)
    (entry,) = transaction.entries
    state = books.wallets[wallet_id]
    assert not receipt.is_replay
    assert receipt.wallets == (state,)
    assert (state.balance, state.held) == (model.balances[wallet_id], model.held[wallet_id])
    assert 0 <= state.balance <= AMOUNT_MAX
    assert entry.balance_after == state.balance
    assert entry.seq == state.version == model.versions[wallet_id]
    assert entry.hash == state.chain == model.chains[wallet_id]
    # Where the clock fell back, the wallet's last time stands in for it.
    assert entry.created_at == state.updated_at == transaction.created_at == max(books.clock(), model.times[wallet_id])
    model.times[wallet_id] = entry.created_at


def assert_answered(model: Model, command: service.Movement, outcome: Any, expected: Any) -> None:
    if expected == "replay":
        original = model.accepted[command.wallet_id, command.reference][1]
        assert outcome.is_replay
        assert outcome.transaction == original
        assert [state.balance for state in outcome.wallets] == [model.balances[command.wallet_id]]
        return
    assert type(outcome) is expected
    if expected is ReferenceMismatchError:
        first = model.accepted[command.wallet_id, command.reference][0]
        differing = {
            name
            for name, was, now in [
                ("kind", first.kind, command.kind),
                ("client", first.origin.client, command.origin.client),
                ("amount", first.amount, command.amount),
            ]
            if was != now
        }
        assert set(outcome.details["fields"]) == differing
        assert len(outcome.details["fields"]) == len(differing)
    if expected in (InsufficientBalanceError, BalanceAboveBoundError):
        assert outcome.details["balance"] == model.balances[command.wallet_id]
        assert outcome.details["version"] == model.versions[command.wallet_id]


def assert_sums(books: Books, model: Model, opening: dict[int, int]) -> None:
    assert books.contra_deltas == model.contra
    for asset in (GOLD, DIAMOND):
        moved = sum(model.balances[wallet_id] - opening[wallet_id] for wallet_id, of in USERS.items() if of is asset)
        assert sum(books.contra_deltas.get(wallet_id, 0) for wallet_id in asset.contra.values()) == -moved
    assert len(books.posted) == len(model.accepted)
    changed = {wallet_id for wallet_id in USERS if model.versions[wallet_id] != wallet_id}
    assert [state.wallet_id for state in books.changed_wallets()] == sorted(changed)


def plans() -> st.SearchStrategy[Plan]:
    entries = st.builds(
        PlannedEntry,
        st.sampled_from([3, 5]),
        st.just("TRANSFER"),
        st.one_of(st.integers(-30, 30), st.sampled_from([AMOUNT_MAX, -AMOUNT_MAX])),
        st.sampled_from(["Clearing", "Holds"]),
        lots=st.just(()),
    )
    results = st.sampled_from([None, {"rate": "1/3"}])
    return st.builds(
        Plan,
        st.lists(entries, max_size=5).map(tuple),
        holds_for=st.none(),
        part=st.none(),
        reversed=st.just(()),
        state=st.none(),
        extension=st.none(),
        limits=st.none(),
        result=results,
    )


@settings(max_examples=100, deadline=None)
@given(plans=st.lists(plans(), max_size=6))
def test_a_plan_of_many_entries_is_applied_whole_or_not_at_all(plans: list[Plan]) -> None:
    """Plans that no rule has made: of several wallets, with holds, and with entries that cannot be."""
    books = make_books({3: 20, 4: 0, 5: 20}, dict.fromkeys(USERS, 0), Clock())
    balance, held, version = {3: 20, 5: 20}, {3: 0, 5: 0}, {3: 3, 5: 5}
    for number, plan in enumerate(plans):
        command = service.TopUp(
            wallet_id=3, reference=f"r{number}", origin=service.Origin(client="x", actor="x"), amount=1
        )
        after, after_held, is_possible = dict(balance), dict(held), True
        for entry in plan.entries:
            after[entry.wallet_id] += entry.amount
            after_held[entry.wallet_id] -= entry.amount if entry.contra == "Holds" else 0
            possible = 0 <= after[entry.wallet_id] <= AMOUNT_MAX and after_held[entry.wallet_id] >= 0
            is_possible = is_possible and entry.amount != 0 and possible
        before = seen(books)
        if not is_possible:
            with pytest.raises(BookkeepingError):
                books.apply(command, plan)
            assert seen(books) == before
            continue
        receipt = books.apply(command, plan)
        balance, held = after, after_held
        for entry in receipt.transaction.entries:
            version[entry.wallet_id] += 1
            assert entry.seq == version[entry.wallet_id]
        assert {i: (books.wallets[i].balance, books.wallets[i].held, books.wallets[i].version) for i in (3, 5)} == {
            i: (balance[i], held[i], version[i]) for i in (3, 5)
        }
        assert [state.wallet_id for state in receipt.wallets][:1] == [3]


@pytest.mark.parametrize(
    ("balance", "amount", "expected"),
    [
        (5, 5, "new"),
        (5, 6, InsufficientBalanceError),
        (0, 1, InsufficientBalanceError),
        (AMOUNT_MAX, AMOUNT_MAX, "new"),
    ],
)
def test_a_spend_of_the_last_coin_is_accepted_and_of_one_more_is_not(balance: int, amount: int, expected: Any) -> None:
    assert_boundary(service.Spend, balance, amount, 0, expected)


@pytest.mark.parametrize(
    ("balance", "held", "amount", "expected"),
    [
        (0, 0, AMOUNT_MAX, "new"),
        (1, 0, AMOUNT_MAX, BalanceAboveBoundError),
        (0, 1, AMOUNT_MAX, BalanceAboveBoundError),
        (AMOUNT_MAX - 2, 1, 1, "new"),
        (AMOUNT_MAX - 1, 1, 1, BalanceAboveBoundError),
        (AMOUNT_MAX, 0, 1, BalanceAboveBoundError),
    ],
)
@pytest.mark.parametrize("kind", [service.TopUp, service.Bonus, service.Seed])
def test_a_wallet_is_filled_to_the_bound_and_not_beyond(
    kind: Any, balance: int, held: int, amount: int, expected: Any
) -> None:
    assert_boundary(kind, balance, amount, held, expected)


def assert_boundary(kind: Any, balance: int, amount: int, held: int, expected: Any) -> None:
    books = make_books({3: balance, 4: 0, 5: 0}, {3: held, 4: 0, 5: 0}, Clock())
    origin = service.Origin(client="x", actor="x")
    outcome = attempt(books, kind(wallet_id=3, reference="r", origin=origin, amount=amount))
    assert isinstance(outcome, service.Receipt) if expected == "new" else type(outcome) is expected
