"""The journals against the ledger: what was acknowledged and is not there, what is there twice, what cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from drill.known import Acknowledged, Known
from drill.ledger import Ledger, Posted


@dataclass(slots=True)
class Findings:
    """Faults as sentences, by what they mean to the owner of a wallet."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)

    def add(self, more: Findings) -> None:
        """Add what was found elsewhere."""
        self.lost += more.lost
        self.doubled += more.doubled
        self.wrong += more.wrong

    def distinct(self) -> Findings:
        """Return each fault once, however often it was found."""
        return Findings(*(list(dict.fromkeys(faults)) for faults in (self.lost, self.doubled, self.wrong)))


def find_lost(known: Known, ledger: Ledger, references: Iterable[str]) -> list[str]:
    """Return which of the acknowledged references are not in the ledger as they were acknowledged."""
    return [
        f"{reference} was acknowledged as {known.acknowledged[reference]}, and the ledger has {found}"
        for reference in references
        if not _is_as_told(found := ledger.posted.get(reference), known, reference)
    ]


def find_doubled(known: Known, ledger: Ledger, posted: Iterable[Posted]) -> list[str]:
    """Return which of the entries nobody asked for, or not so often."""
    found = [f"nobody asked for {one}" for one in posted if one.reference not in known.wanted]
    found += [f"{one} is one too many" for one in ledger.odd]
    found += [
        f"{old} was wanted once and posted twice, the second time as {new}"
        for old, new in known.asked_anew
        if old in ledger.posted and new in ledger.posted
    ]
    return found


def find_all(known: Known, ledger: Ledger) -> Findings:
    """Return everything that is wrong between the journals and the ledger, both read to their ends."""
    wrong = list(known.faults)
    wrong += [f"{reference} was declined, and posted" for reference in known.declined if reference in ledger.posted]
    wrong += _find_halves(known, ledger)
    return Findings(
        lost=find_lost(known, ledger, known.acknowledged),
        doubled=find_doubled(known, ledger, ledger.posted.values()),
        wrong=wrong,
    )


def find_unanswered(known: Known, since: float, until: float) -> list[str]:
    """Return what was posted while the service drained, and not answered: it answers what it has accepted."""
    return [
        f"{reference} was posted, and its answer broke off while the service drained"
        for broken_at, reference in known.posted_unanswered
        if since <= min(broken_at) and max(broken_at) <= until
    ]


def expected_balances(known: Known, ledger: Ledger, before: dict[int, int]) -> dict[int, int]:
    """Return each wallet's balance by the clients' own arithmetic: what they wanted and know to be posted.

    A client that asks for the same thing under two references wants it once.
    """
    unwanted = {new for _, new in known.asked_anew}
    balances = dict(before)
    for reference, item in known.wanted.items():
        if reference not in unwanted and (reference in known.acknowledged or reference in ledger.posted):
            balances[item.wallet_id] += item.signed
    return balances


def _is_as_told(found: Posted | None, known: Known, reference: str) -> bool:
    if found is None or found.wallet_id != known.wanted[reference].wallet_id:
        return False
    told = Acknowledged(found.transaction_id, found.seq, found.amount, found.balance_after)
    return told == known.acknowledged[reference]


def _find_halves(known: Known, ledger: Ledger) -> Iterable[str]:
    for request in known.requests.values():
        if request.how != "atomic":
            continue
        posted = sum(item.reference in ledger.posted for item in request.items)
        if 0 < posted < len(request.items):
            yield f"of the atomic batch with {request.items[0].reference}, {posted} of {len(request.items)} were posted"
