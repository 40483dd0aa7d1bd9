"""What a verification tells: for each invariant how much was looked at, what was wrong, and how long it took."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

EXAMPLES_MAX = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where an invariant does not hold. `seq` is None where the whole wallet is meant."""

    wallet_id: int | None
    seq: int | None
    what: str

    def __str__(self) -> str:
        place = "" if self.wallet_id is None else f"wallet {self.wallet_id}"
        place += "" if self.seq is None else f", seq {self.seq}"
        return f"{place}: {self.what}" if place else self.what


@dataclass(slots=True)
class Finding:
    """An invariant with what the verification found; `examples` are the first few of its `faults`."""

    name: str
    sentence: str
    unit: str
    looked_at: int = 0
    faults: int = 0
    seconds: float = 0.0
    examples: list[Fault] = field(default_factory=list)

    def add(self, *, looked_at: int, faults: Iterable[Fault], seconds: float) -> None:
        """Add what one query returned."""
        self.looked_at += looked_at
        self.seconds += seconds
        for fault in faults:
            self.faults += 1
            if len(self.examples) < EXAMPLES_MAX:
                self.examples.append(fault)


@dataclass(frozen=True, slots=True)
class AuditMark:
    """How far the audit log's chain was found right, and its hash there; `seq` 0 for not at all."""

    seq: int = 0
    hash: bytes | None = None


@dataclass(slots=True)
class VerifyReport:
    """A verification that ended. `transactions_from` is None when it looked at all transactions."""

    started_at: dt.datetime
    is_full: bool
    transactions_from: dt.datetime | None
    findings: dict[str, Finding]
    entries_checked: int = 0
    audit_mark: AuditMark = AuditMark()
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What is not wrong, and worth to be looked at."""

    @property
    def faults(self) -> int:
        """How many faults all invariants have together."""
        return sum(finding.faults for finding in self.findings.values())

    @property
    def is_clean(self) -> bool:
        """Whether every invariant holds."""
        return self.faults == 0

    def broken(self) -> set[str]:
        """Return the names of the invariants that do not hold."""
        return {finding.name for finding in self.findings.values() if finding.faults}
