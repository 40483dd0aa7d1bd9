"""Rules for several wallets against a plain model, without a database: random commands on random wallets.

The model knows integers and dictionaries only, and hashes a transaction with a request by its own reading of format 2.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.test_books_properties import Clock, attempt, make_books, micros, seen, text
from wallet_app import service
from wallet_app.errors import (
    AssetMismatchError,
    BalanceAboveBoundError,
    InsufficientBalanceError,
    ReferenceMismatchError,
    SameWalletError,
    SystemWalletError,
    WalletClosedError,
    WalletNotActiveError,
    WalletNotFoundError,
    WalletServiceError,
)
from wallet_app.money import AMOUNT_MAX
from wallet_app.service.books import Books, Frozen
from wallet_app.service.chain import json_text
from wallet_app.service.instants import NO_END

ASSETS = {3: "GOLD", 4: "DIAMOND", 5: "GOLD"}
TREASURY, NOBODYS = 1, 99
CLEARING = {"GOLD": 15, "DIAMOND": 16}
ORIGIN = service.Origin(client="x", actor="y", request_id="z")

wallets = st.sampled_from([3, 3, 3, 3, 5, 5, 5, 5, 4, TREASURY, NOBODYS])
amounts = st.one_of(st.integers(1, 20), st.sampled_from([1, AMOUNT_MAX - 1, AMOUNT_MAX]))
transfers = st.builds(
    service.Transfer,
    wallet_id=wallets,
    to_wallet_id=wallets,
    amount=amounts,
    is_up_to=st.booleans(),
    reference=st.sampled_from("abcdef"),
    origin=st.just(ORIGIN),
)
balances = st.one_of(st.integers(0, 30), st.sampled_from([0, AMOUNT_MAX - 1, AMOUNT_MAX, AMOUNT_MAX]))


@dataclass
class Model:
    """Balances as integers, and what was accepted under which reference."""

    balances: dict[int, int]
    accepted: dict[tuple[int, str], tuple[service.Transfer, Any]] = field(default_factory=dict)

    def transfer(self, command: service.Transfer) -> type[WalletServiceError] | str | int:
        """Return what must come of it: the amount moved, `replay`, or the class of its decline."""
        source, target = command.wallet_id, command.to_wallet_id
        if source not in ASSETS:
            return SystemWalletError if source == TREASURY else WalletNotFoundError
        if before := self.accepted.get((source, command.reference)):
            first = before[0]
            asked = (command.to_wallet_id, command.amount, command.is_up_to)
            return "replay" if (first.to_wallet_id, first.amount, first.is_up_to) == asked else ReferenceMismatchError
        if target not in ASSETS:
            return SystemWalletError if target == TREASURY else WalletNotFoundError
        if source == target:
            return SameWalletError
        if ASSETS[source] != ASSETS[target]:
            return AssetMismatchError
        there = self.balances[source]
        if there < (1 if command.is_up_to else command.amount):
            return InsufficientBalanceError
        moved = min(there, command.amount)
        return BalanceAboveBoundError if self.balances[target] + moved > AMOUNT_MAX else moved


OUTCOMES = {
    "moved", "less", "replay", "SystemWalletError", "WalletNotFoundError", "ReferenceMismatchError", "SameWalletError",
    "AssetMismatchError", "InsufficientBalanceError", "BalanceAboveBoundError",
}  # fmt: skip


def test_transfers_do_what_a_plain_model_does_and_every_outcome_comes() -> None:
    counted: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(start=st.tuples(balances, balances, balances), commands=st.lists(transfers, max_size=20))
    def run(start: tuple[int, ...], commands: list[service.Transfer]) -> None:
        opening = dict(zip(ASSETS, start, strict=True))
        books, model = make_books(opening, dict.fromkeys(ASSETS, 0), Clock()), Model(dict(opening))
        # Some come again.
        for command in [*commands, *commands[::3]]:
            step(books, model, command, counted)
        for asset in set(ASSETS.values()):
            own = [wallet_id for wallet_id, code in ASSETS.items() if code == asset]
            assert sum(books.wallets[one].balance for one in own) == sum(opening[one] for one in own)
            assert books.contra_deltas.get(CLEARING[asset], 0) == 0

    run()
    assert {name for name in OUTCOMES if counted[name] < 3} == set()


def step(books: Books, model: Model, command: service.Transfer, counted: Counter[str]) -> None:
    before, expected = seen(books), model.transfer(command)
    outcome = attempt(books, command)
    if isinstance(expected, int):
        counted["moved" if expected == command.amount else "less"] += 1
        assert_moved(books, model, command, outcome, expected)
        return
    assert seen(books) == before, "a replay or a decline changes nothing, and burns no reference"
    counted[expected if isinstance(expected, str) else expected.__name__] += 1
    if expected == "replay":
        assert outcome.is_replay
        assert outcome.transaction == model.accepted[command.wallet_id, command.reference][1]
        assert [one.wallet_id for one in outcome.wallets] == [command.wallet_id, command.to_wallet_id]
    else:
        assert type(outcome) is expected


def assert_moved(books: Books, model: Model, command: service.Transfer, receipt: Any, moved: int) -> None:
    source, target = command.wallet_id, command.to_wallet_id
    model.balances[source] -= moved
    model.balances[target] += moved
    transaction = receipt.transaction
    model.accepted[source, command.reference] = (command, transaction)
    assert not receipt.is_replay
    assert [(one.wallet_id, one.entry_type, one.amount, one.balance_after) for one in transaction.entries] == [
        (source, "TRANSFER", -moved, model.balances[source]),
        (target, "TRANSFER", moved, model.balances[target]),
    ]
    assert {one.contra_wallet_id for one in transaction.entries} == {CLEARING[ASSETS[source]]}
    assert [one.balance for one in receipt.wallets] == [model.balances[source], model.balances[target]]
    assert transaction.digest == digest_of(transaction)


def digest_of(transaction: Any) -> bytes:
    """Hash by the design's words: format 2, every field in its order, then the request, and the result if any."""
    request = json.dumps(dict(sorted(transaction.requested.items(), key=lambda item: (len(item[0]), item[0]))))
    return sha256(
        b"\x02"
        + transaction.transaction_id.bytes
        + pack(">q", transaction.wallet_id)
        + b"".join(text(word) for word in (transaction.reference, transaction.kind, "x", "y", "z"))
        + micros(transaction.occurred_at)
        + b"\xff" * 8
        + text(request)
        + text(None if transaction.result is None else json.dumps(transaction.result))
    ).digest()


@pytest.mark.parametrize(
    ("there", "asked", "is_up_to", "expected"),
    [
        (5, 5, False, 5),
        (5, 6, False, InsufficientBalanceError),
        (5, 6, True, 5),
        (5, 4, True, 4),
        (1, AMOUNT_MAX, True, 1),
        (0, 1, True, InsufficientBalanceError),
        (0, 1, False, InsufficientBalanceError),
    ],
)
def test_the_last_coin_moves_and_one_more_does_not(there: int, asked: int, is_up_to: bool, expected: Any) -> None:
    outcome = attempt_transfer({3: there, 4: 0, 5: 0}, asked, is_up_to=is_up_to)
    if isinstance(expected, int):
        assert [one.amount for one in outcome.transaction.entries] == [-expected, expected]
    else:
        assert type(outcome) is expected
        assert outcome.details["balance"] == there


@pytest.mark.parametrize(("held", "moved", "fits"), [(0, 1, True), (0, 2, False), (1, 1, False)])
def test_the_receiving_wallet_is_filled_to_its_bound_and_not_beyond(held: int, moved: int, fits: bool) -> None:
    outcome = attempt_transfer({3: 10, 4: 0, 5: AMOUNT_MAX - 1}, moved, held=held)
    assert isinstance(outcome, service.Receipt) if fits else type(outcome) is BalanceAboveBoundError


@pytest.mark.parametrize("wallet_id", [3, 5])
@pytest.mark.parametrize(("status", "error"), [("FROZEN", WalletNotActiveError), ("CLOSED", WalletClosedError)])
def test_both_sides_must_be_active(wallet_id: int, status: str, error: type[WalletServiceError]) -> None:
    outcome = attempt_transfer({3: 10, 4: 0, 5: 0}, 1, status={wallet_id: status})
    assert type(outcome) is error
    assert outcome.details["wallet_id"] == wallet_id


def attempt_transfer(
    start: dict[int, int], amount: int, *, is_up_to: bool = False, held: int = 0, status: dict[int, str] | None = None
) -> Any:
    books = make_books(start, {3: 0, 4: 0, 5: held}, Clock())
    for wallet_id, word in (status or {}).items():
        change = {"frozen": Frozen(NO_END, NO_END)} if word == "FROZEN" else {"status": word}
        books.wallets[wallet_id] = books.wallets[wallet_id]._replace(**change)
    command = service.Transfer(
        wallet_id=3, to_wallet_id=5, amount=amount, is_up_to=is_up_to, reference="r", origin=ORIGIN
    )
    return attempt(books, command)


def test_a_float_is_not_kept_with_a_transaction() -> None:
    with pytest.raises(TypeError):
        json_text({"rate": 0.1})
