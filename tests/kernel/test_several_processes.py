"""Three processes with lanes of their own work on the same few wallets: what they answer makes one history."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from functools import partial

import pytest

from tests.conftest import settings_for
from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books
from tests.kernel.processes import Answer, answer_to, execute, in_processes
from tests.kernel.test_concurrency import deadlocks
from tests.verifying import require_right_books
from wallet_app import service

HOT = DOE
WALLETS = (JOHN, JOHN_DIAMOND, DOE)
THREADS = 6
ROUNDS = 6


def hammer() -> list[Answer]:
    """Post single commands, half of them on one wallet, and batches over all wallets, each in an order of its own."""
    dice = random.Random()
    answers = []
    for _ in range(ROUNDS):
        answers += [execute(command(dice, HOT)), execute(command(dice, dice.choice(WALLETS)))]
        batch = [command(dice, wallet_id) for wallet_id in dice.sample(WALLETS, len(WALLETS))]
        post = dice.choice((partial(service.execute_batch, seconds_max=60), partial(service.execute_each)))
        answers += [answer_to(one, outcome) for one, outcome in zip(batch, post(batch), strict=True)]
    return answers


def command(dice: random.Random, wallet_id: int) -> service.Movement:
    kind = dice.choice((service.TopUp, service.Bonus, service.Spend, service.Spend))
    reference = f"ref-{dice.getrandbits(64):x}"
    return kind(wallet_id=wallet_id, amount=dice.randint(1, 40), reference=reference, origin=ORIGIN)


@pytest.mark.wide
def test_the_answers_of_three_processes_make_one_history_of_each_wallet(books: Books) -> None:
    for name in ("lock_timeout", "statement_timeout"):
        books.sql(f"ALTER DATABASE {books.url.database} SET {name} = '60s'")
    before = {wallet_id: books.balance(wallet_id) for wallet_id in WALLETS}
    settings = replace(settings_for(books.url), group_commit=True, pool_size=8)

    answers = in_processes(settings, [hammer] * 3, threads=THREADS)

    assert len(answers) == 3 * THREADS * ROUNDS * 5
    assert {answer.error for answer in answers} <= {None, "InsufficientBalanceError"}
    posted = [answer for answer in answers if answer.error is None]
    histories: dict[int, list[Answer]] = defaultdict(list)
    for answer in posted:
        histories[answer.wallet_id].append(answer)
    for wallet_id, history in histories.items():
        assert_is_one_history(history, start=before[wallet_id], end=books.balance(wallet_id))
    assert len(histories[HOT]) > len(posted) / 3
    require_right_books()
    assert deadlocks(books) == 0


def assert_is_one_history(history: list[Answer], *, start: int, end: int) -> None:
    """The versions follow one another without a gap, and each balance is the one before it and the amount."""
    history.sort(key=lambda answer: answer.version or 0)
    first = history[0].version
    assert first is not None
    assert [answer.version for answer in history] == list(range(first, first + len(history)))
    balance = start
    for answer in history:
        balance += answer.signed
        assert answer.balance_after == balance >= 0
        assert not answer.is_replay
    assert balance == end
