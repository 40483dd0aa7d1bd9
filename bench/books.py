"""The books after the load: whoever was fast by losing money was not fast."""

from __future__ import annotations

from typing import Any

from bench.database import Database
from drill.ledger import unbalanced_assets
from wallet_app import service


def count_entries(database: Database) -> int:
    """Return how many entries there are."""
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM ledger_entries").fetchone()
    return int(row[0]) if row else 0


def faults(database: Database, *, entries_min: int, entries_max: int) -> tuple[list[str], dict[str, Any]]:
    """Return what is wrong with the books, and what was looked at. Needs the application.

    There are as many entries as spends were acknowledged, and at most as many more as had no answer; each asset sums to
    zero; a full verification finds nothing.
    """
    found = []
    entries = count_entries(database)
    if not entries_min <= entries <= entries_max:
        found.append(f"There are {entries:,} entries; from {entries_min:,} to {entries_max:,} were posted.")
    with database.connect() as connection:
        found += [f"All {code} together make {total}." for code, total in unbalanced_assets(connection)]
    report = service.verify(full=True)
    found += [f"verify, {finding.name}: {fault}" for finding in report.findings.values() for fault in finding.examples]
    checked = {
        "entries": entries,
        "entries_min": entries_min,
        "entries_max": entries_max,
        "verify_seconds": round(report.seconds, 1),
        "verify_entries": report.entries_checked,
        "faults": found,
    }
    return found, checked
