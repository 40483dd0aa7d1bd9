"""What was taken back in place of a grant that had been used, so that it returns when what was used comes back; pure.

Who takes back a grant of which something is used or held takes other credit for that. The grant's own units may still
come back: by the reversal of a spend, or from a hold. Then they are taken, as they should have been, and what was taken
in their place returns instead. Otherwise they would end with the grant, and the user would have lost them twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wallet_app.service.lots import LotKey, LotMove, LotMovement

Unit = tuple[LotKey | None, int]
"""How much of which lot; None is paid credit without an end."""


@dataclass(slots=True)
class InPlace:
    """What the reversals of an entry took of other lots than those that it made, as far as it has not come back.

    `besides` is how much of the entry lies in no lot that ends and is not reversed yet. That is reversed first, and
    what is taken for it is in the place of nothing.
    """

    besides: int
    taken: list[Unit] = field(default_factory=list)
    """In the order in which it was taken."""

    def take(self, units: Sequence[Unit]) -> None:
        """Keep what a reversal took, in the order in which it did."""
        # What is besides is reversed from its like, as far as that is there.
        for key, amount in sorted(units, key=lambda unit: unit[0] is not None) if self.besides else units:
            part = min(amount, self.besides)
            self.besides -= part
            if amount > part:
                self.taken.append((key, amount - part))

    def last(self, amount: int, *, behind: int = 0) -> list[Unit]:
        """Return what comes back for the amount, what was taken last first, `behind` so much that does before."""
        found = []
        for key, there in reversed(self.taken):
            part = min(max(0, there - behind), amount)
            behind -= min(behind, there)
            amount -= part
            if part:
                found.append((key, part))
        return found

    def give(self, amount: int) -> None:
        """Forget what came back."""
        while amount and self.taken:
            key, there = self.taken.pop()
            if there > amount:
                self.taken.append((key, there - amount))
            amount -= min(there, amount)


def place_of(amount: int, movements: Iterable[LotMovement]) -> InPlace:
    """Return what to keep for an entry of the amount that did these movements and was not reversed before."""
    return InPlace(amount - sum([one.amount for one in movements if one.kind == "grant" and one.lot_seq]))


def taken_for(seq: int, amount: int, moves: Iterable[LotMove]) -> list[Unit]:
    """Return what an entry of the amount, without its sign, takes that is not of the lots that the entry `seq` made."""
    units: list[Unit] = []
    paid = amount
    for one in moves:
        paid -= one.amount
        if one.key[0] != seq:
            units.append((one.key, one.amount))
    return [*units, (None, paid)]
