"""What all clients together know of the books from the answers that they had, and where these contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from drill.asking import NOBODY_THERE, OK, REFUSED, UNAVAILABLE
from drill.journal import Reader, Wanted

Place = tuple[int, int]
"""A wallet and a version of it."""


class Acknowledged(NamedTuple):
    """What was said of an entry; `seq` is the version that it made."""

    transaction_id: str
    seq: int
    amount: int
    balance_after: int


@dataclass(slots=True)
class Request:
    """A request of a client with its attempts, as far as they are known."""

    client: str
    number: int
    how: str
    items: list[Wanted]
    at: float
    attempts: int = 0
    broken_at: list[float] = field(default_factory=list)
    """When attempts broke off that may have reached the service."""
    was_unclear: bool = False
    """Whether an attempt was answered with 503, after which it may have been posted or not."""


@dataclass(slots=True)
class Known:
    """The journals' content. `faults` are contradictions that need no look at the ledger."""

    reader: Reader
    wanted: dict[str, Wanted] = field(default_factory=dict)
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    declined: set[str] = field(default_factory=set)
    requests: dict[tuple[str, int], Request] = field(default_factory=dict)
    first_asked: dict[str, Request] = field(default_factory=dict)
    """The request in which a reference was new."""
    asked_anew: list[tuple[str, str]] = field(default_factory=list)
    """References under which the same thing was asked for twice; the clients of the drill never do that."""
    posted_unanswered: list[tuple[list[float], str]] = field(default_factory=list)
    """References that had been posted, as a repetition told, and when the attempts broke off that can have done it."""
    broken: int = 0
    replayed_by_service: int = 0
    faults: list[str] = field(default_factory=list)
    _balances: dict[Place, int] = field(default_factory=dict)
    _posted_at: dict[Place, str] = field(default_factory=dict)
    _floors: dict[tuple[str, int], int] = field(default_factory=dict)
    """The highest version of a wallet that a client was told before its present request."""
    _current: dict[str, dict[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Known:
        """Return what the journals in the folder will tell when `read_new` is called."""
        return cls(Reader(folder))

    def read_new(self) -> list[str]:
        """Take in what was written since the last time; return the references that were acknowledged meanwhile."""
        fresh: list[str] = []
        for client, record in self.reader.read_new():
            if "intent" in record:
                self._intend(client, record)
            else:
                fresh += self._hear(self.requests[client, record["answer"]], record)
        return fresh

    def open_references(self) -> list[str]:
        """Return the references of which nobody was told whether they were posted."""
        return [one for one in self.wanted if one not in self.acknowledged and one not in self.declined]

    def _intend(self, client: str, record: dict[str, Any]) -> None:
        items = [Wanted(*item) for item in record["items"]]
        request = Request(client, record["intent"], record["how"], items, record["at"])
        before = self.requests.get((client, request.number))
        if before is not None:
            self.asked_anew += [(old.reference, new.reference) for old, new in zip(before.items, items, strict=True)]
        self.requests[client, request.number] = request
        for item in items:
            if item.reference not in self.wanted:
                self.wanted[item.reference] = item
                self.first_asked[item.reference] = request
        for wallet_id, version in self._current.pop(client, {}).items():
            self._floors[client, wallet_id] = max(version, self._floors.get((client, wallet_id), 0))

    def _hear(self, request: Request, record: dict[str, Any]) -> Iterable[str]:
        request.attempts += 1
        for position, status, body in record["told"]:
            item = request.items[position]
            if status == OK:
                if self._accepted(request, item, body):
                    yield item.reference
            elif status == REFUSED:
                self._refused(request, item, body)
            elif status == UNAVAILABLE:
                request.was_unclear = True
            else:
                self._fault(item, f"was answered {status} {body.get('code')}")
        if record["broken"] is not None:
            self.broken += 1
            if record["broken"] != NOBODY_THERE:
                request.broken_at.append(record["at"])

    def _accepted(self, request: Request, item: Wanted, body: dict[str, Any]) -> bool:
        """Take in an acknowledgement; return whether it is the first of this reference."""
        told = Acknowledged(body["transactionId"], body["seq"], body["amount"], body["balanceAfter"])
        before = self.acknowledged.setdefault(item.reference, told)
        is_first, is_new = before is told, self.first_asked[item.reference] is request
        self.declined.discard(item.reference)
        self._agree(item, told, before)
        self._see(request, item, body["version"], body["balance"])
        if not body["idempotent"] and (told.seq, told.balance_after) != (body["version"], body["balance"]):
            self._fault(item, f"made version {told.seq} and was told {body['version']}")
        if is_first:
            self._place(item, told)
        if is_first and is_new:
            self._order(request, item, told)
        # The service repeats what is in doubt itself: then the very first answer says that it is a replay.
        self.replayed_by_service += bool(body["idempotent"] and is_first and request.attempts == 1 and is_new)
        if not body["idempotent"] and not is_first:
            self._fault(item, "was posted a second time")
        if body["idempotent"] and is_first and request.broken_at and not request.was_unclear:
            self.posted_unanswered.append((list(request.broken_at), item.reference))
        return is_first

    def _agree(self, item: Wanted, told: Acknowledged, before: Acknowledged) -> None:
        if told != before:
            self._fault(item, f"was {before} and later {told}")
        if told.amount != item.signed:
            self._fault(item, f"asked for {item.signed} and was told {told.amount}")

    def _place(self, item: Wanted, told: Acknowledged) -> None:
        """Note which reference made the version, and that both it and the one before it fit."""
        other = self._posted_at.setdefault((item.wallet_id, told.seq), item.reference)
        if other != item.reference:
            self._fault(item, f"has version {told.seq} of its wallet, as {other} has")
        self._balance(item, told.seq, told.balance_after)
        self._balance(item, told.seq - 1, told.balance_after - told.amount)

    def _order(self, request: Request, item: Wanted, told: Acknowledged) -> None:
        """A client that was answered before it asked again gets higher and higher versions."""
        if told.seq <= self._floors.get((request.client, item.wallet_id), 0):
            self._fault(item, f"has version {told.seq}, not above what its client had been told before")
        within = self._current.setdefault(request.client, {})
        if request.attempts == 1 and told.seq <= within.get(item.wallet_id, 0):
            self._fault(item, f"has version {told.seq}, not above an earlier item of its request")
        within[item.wallet_id] = max(told.seq, within.get(item.wallet_id, 0))

    def _refused(self, request: Request, item: Wanted, body: dict[str, Any]) -> None:
        if item.reference in self.acknowledged:
            self._fault(item, f"was acknowledged and later refused with {body.get('code')}")
            return
        self.declined.add(item.reference)
        # What an atomic batch saw when it was refused includes its own first items, which then never happened.
        if "version" in body and request.how != "atomic":
            self._see(request, item, body["version"], body["balance"])

    def _see(self, request: Request, item: Wanted, version: int, balance: int) -> None:
        if version < self._floors.get((request.client, item.wallet_id), 0):
            self._fault(item, f"was told version {version}, below what its client had been told before")
        self._balance(item, version, balance)

    def _balance(self, item: Wanted, version: int, balance: int) -> None:
        known = self._balances.setdefault((item.wallet_id, version), balance)
        if known != balance:
            self._fault(item, f"tells a balance of {balance} at version {version}, another answer {known}")

    def _fault(self, item: Wanted, sentence: str) -> None:
        self.faults.append(f"{item.reference} (wallet {item.wallet_id}) {sentence}")
