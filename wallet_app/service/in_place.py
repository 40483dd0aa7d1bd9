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

    `paid` and `standing` are how much of the entry lies in no lot that ends, and is not reversed yet. That is reversed
    first, and what is taken for it is in the place of nothing.
    """

    paid: int
    standing: int
    taken: list[Unit] = field(default_factory=list)
    """In the order in which it was taken."""

    def take(self, standing: int, units: Sequence[Unit]) -> None:
        """Keep what a reversal took: of the bonus for ever that the entry brought, and then what, in its order."""
        self.standing -= min(standing, self.standing)
        # What was paid is reversed from its like, as far as that is there.
        like = min(self.paid, sum([amount for key, amount in units if key is None]))
        self.paid -= like
        for key, there in units:
            own = min(there, like) if key is None else 0
            like -= own
            amount = there - own
            amount -= self._besides(amount)
            if amount:
                self.taken.append((key, amount))

    def _besides(self, amount: int) -> int:
        """Take off what of the amount is taken for what lies in no lot that ends; return how much that is."""
        paid = min(amount, self.paid)
        standing = min(amount - paid, self.standing)
        self.paid -= paid
        self.standing -= standing
        return paid + standing

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
    granted = [one for one in movements if one.kind == "grant"]
    standing = sum([one.amount for one in granted if not one.lot_seq])
    return InPlace(amount - sum([one.amount for one in granted]), standing)


def taken_for(seq: int, amount: int, moves: Iterable[LotMove]) -> tuple[int, list[Unit]]:
    """Return what an entry of the amount, without its sign, takes that is not of the lots that the entry `seq` made.

    First how much it takes of the bonus for ever that that entry brought; then the others.
    """
    standing, paid = 0, amount
    units: list[Unit] = []
    for one in moves:
        paid -= one.amount
        if one.key[0] == seq:
            continue
        if one.kind == "revoke":
            standing += one.amount
        else:
            units.append((one.key, one.amount))
    return standing, [*units, (None, paid)]
