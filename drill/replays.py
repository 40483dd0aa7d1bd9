"""The API asked afterwards: every reference is repeated, and every wallet's entries and balance are read."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from drill.asking import OK, Answers, ask, connect, get
from drill.journal import Journal, Wanted
from drill.known import Known
from drill.ledger import OURS, Ledger
from drill.service import UP_SECONDS_MAX, DrillError

NAME = "afterwards"
"""The client that repeats what all others wanted; its journal is read like theirs."""

_TOGETHER = 250
_TRANSACTIONS_MAX = 100


def repeat_all(folder: Path, port: int, known: Known, ledger: Ledger) -> list[str]:
    """Repeat everything that was acknowledged, and what nobody knows of; return what is wrong with the answers.

    `ledger` is as it was before. Reading the journal finds whether what was acknowledged is a replay of the same.
    """
    client = _Afterwards(folder, port)
    open_references = known.open_references()
    wanted = [known.wanted[reference] for reference in known.acknowledged]
    for start in range(0, len(wanted), _TOGETHER):
        client.repeat("each", wanted[start : start + _TOGETHER])
    replayed: set[str] = set()
    # As they were asked for, a batch as a batch: what is all or nothing stays so.
    for request in {id(request): request for request in map(known.first_asked.__getitem__, open_references)}.values():
        replayed |= client.repeat(request.how, request.items)
    known.read_new()
    return [
        f"{reference} {'was' if is_there else 'was not'} in the ledger, and its repetition tells otherwise"
        for reference in open_references
        if (is_there := reference in ledger.posted) != (reference in replayed)
    ]


def compare(port: int, ledger: Ledger, balances: dict[int, int]) -> Iterator[str]:
    """Yield where the API tells something else than the ledger, or than the balances that are to be."""
    connection = connect(port)
    listed: dict[str, tuple[Any, ...]] = {}
    for wallet_id, balance in balances.items():
        entries = list(_entries(connection, wallet_id))
        if [one["seq"] for one in entries] != list(range(len(entries), 0, -1)):
            yield f"the entries of wallet {wallet_id} have gaps"
        for one in entries:
            listed[one["referenceId"]] = (
                wallet_id,
                one["transactionId"],
                one["seq"],
                one["amount"],
                one["balanceAfter"],
            )
        _, told = get(connection, f"/wallets/{wallet_id}/balance")
        if (told["balance"], told["version"]) != (balance, len(entries)):
            yield f"wallet {wallet_id} has {told['balance']} at {told['version']}, not {balance} at {len(entries)}"
    posted = {reference: one[1:] for reference, one in ledger.posted.items()}
    ours = {reference for reference in listed if reference.startswith(OURS)}
    for reference in (listed.keys() - ours) | posted.keys():
        if listed.get(reference) != posted.get(reference):
            yield f"{reference} is listed as {listed.get(reference)}, and the ledger has {posted.get(reference)}"
    yield from _compare_transactions(connection, ledger)


def balances(port: int, wallet_ids: Iterable[int]) -> dict[int, int]:
    """Return what the API says that the wallets have."""
    connection = connect(port)
    return {wallet_id: get(connection, f"/wallets/{wallet_id}/balance")[1]["balance"] for wallet_id in wallet_ids}


def _entries(connection: HTTPConnection, wallet_id: int) -> Iterator[dict[str, Any]]:
    path = f"/wallets/{wallet_id}/entries?limit=100"
    cursor = ""
    while True:
        _, page = get(connection, path + cursor)
        yield from page["entries"]
        if "next" not in page:
            return
        cursor = f"&cursor={page['next']}"


def _compare_transactions(connection: HTTPConnection, ledger: Ledger) -> Iterator[str]:
    some = random.sample(list(ledger.posted.values()), min(_TRANSACTIONS_MAX, len(ledger.posted)))
    for one in some:
        _, told = get(connection, f"/transactions/{one.transaction_id}")
        entries = [(entry["walletId"], entry["seq"], entry["amount"]) for entry in told["entries"]]
        if (told["referenceId"], entries) != (one.reference, [(one.wallet_id, one.seq, one.amount)]):
            yield f"transaction {one.transaction_id} is told otherwise than the ledger has it"


class _Afterwards:
    """A client that repeats until there is an answer to everything."""

    def __init__(self, folder: Path, port: int) -> None:
        self._journal = Journal(folder / f"{NAME}.journal")
        self._connection = connect(port)
        self._number = 0

    def repeat(self, how: str, items: Sequence[Wanted]) -> set[str]:
        """Return the references that were answered as replays at the first time."""
        self._number += 1
        self._journal.intend(self._number, how, items, time.time())
        deadline = time.monotonic() + UP_SECONDS_MAX
        while not (answers := self._ask(how, items)).are_final(len(items)):
            if time.monotonic() > deadline:
                raise DrillError(f"The repetition of {items[0].reference} has no answer.")
            time.sleep(0.1)
        return {items[one.position].reference for one in answers.told if one.status == OK and one.body["idempotent"]}

    def _ask(self, how: str, items: Sequence[Wanted]) -> Answers:
        answers = ask(self._connection, how, items)
        self._journal.hear(self._number, answers.told, answers.broken, time.time())
        return answers
