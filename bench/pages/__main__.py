"""`python -m bench.pages`: every page of the console and every list of the API, asked for again and again."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine, report
from bench.command import run_command
from bench.database import Database, application, migrate, new_database, open_server
from bench.pages.addresses import Page, all_pages
from bench.pages.content import Size, fill, make_ledger
from bench.pages.visitors import Answer, Visitors, renew
from bench.rounds import to_stderr
from bench.serving import Service, serve
from bench.usage import Tree
from bench.wallets import make_wallets
from wallet_app import service

LIMIT_MS = 150.0
FULL = Size(users=100_000, entries=1_000_000, records=100_000, requests=3_000, bulk_rows=10_000)
QUICK = Size(users=1_000, entries=10_000, records=1_000, requests=100, bulk_rows=500)
WARM_UP = 2


@dataclass
class Timed:
    """What one address took. `ms` is the service's own time, as it logs it; CPU is of all its requests together."""

    page: Page
    ms: list[float] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    size: int = 0
    service_cpu: float = 0.0
    postgres_cpu: float = 0.0
    answers: list[Answer] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return them for the result's file."""
        ms = sorted(self.ms)
        count = len(self.answers)
        return {
            **self.page._asdict(),
            "requests": count,
            "statuses": sorted(self.statuses),
            "bytes": self.size,
            "p50_ms": round(statistics.median(ms), 1),
            "p95_ms": at_share(ms, 0.95),
            "max_ms": ms[-1],
            "client_p95_ms": round(at_share(sorted(answer.seconds for answer in self.answers), 0.95) * 1000, 1),
            "service_cpu_ms": round(self.service_cpu / count * 1000, 1),
            "postgres_cpu_ms": round(self.postgres_cpu / count * 1000, 1),
        }


def main() -> int:
    """Run what the command line asks for."""
    asked = _arguments()
    return run_command(lambda: _run(asked))


def at_share(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of the ordered values does not exceed."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--requests", type=int, default=60, help="how often each address is asked for (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="in how many rounds, one after the other (default: 3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="addresses that have this in them")
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything, 6 requests: to try it out")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where the result is written")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the data lies meanwhile")  # noqa: S108
    asked = parser.parse_args()
    asked.size = QUICK if asked.quick else FULL
    if asked.quick:
        asked.requests = 6
    return asked


def _run(asked: argparse.Namespace) -> int:
    here = machine.describe()
    machine.warn_if_busy(here)
    limits = dict.fromkeys(("WALLET_RATE_LIMIT", "WALLET_RATE_LIMIT_KEY", "WALLET_RATE_LIMIT_OPERATOR"), "")
    with open_server(asked.folder) as (server, folder), new_database(server) as database:
        settings = database.settings() | {"data": server.where, **asdict(asked.size)}
        print(f"machine: {here}\nsettings: {settings}")
        migrate(database)
        with application(database):
            service.verify()  # Of the empty books: so that there is a verification to be shown.
        history = make_ledger(database, make_wallets(database, asked.size.users), asked.size, tell=to_stderr)
        with serve(database, folder, **limits) as running, application(database) as app:
            visitors = Visitors(running.port)
            to_stderr("Making all else.")
            content = fill(database, history, visitors, asked.size)
            pages, left = all_pages(app, content)
            timed = [Timed(page) for page in pages if asked.only in page.address]
            _measure(asked, database, running, visitors, timed)
    return _conclude(asked, here, settings, timed, left)


def _measure(
    asked: argparse.Namespace, database: Database, running: Service, visitors: Visitors, timed: list[Timed]
) -> None:
    postgres = None if database.postgres_id is None else Tree(database.postgres_id)
    for number in range(asked.rounds):
        to_stderr(f"round {number + 1}/{asked.rounds}")
        for one in timed:
            if one.page.is_file and number:
                continue
            renew(database)
            address = one.page.address if one.page.is_file else _warmed_up(visitors, one.page)
            before = running.tree.cpu_seconds(), postgres.cpu_seconds() if postgres else 0.0
            for turn in range(1 if one.page.is_file else max(asked.requests // asked.rounds, 1)):
                answer = visitors.ask(one.page.who[turn % len(one.page.who)], address)
                one.answers.append(answer)
                one.statuses.add(answer.status)
                one.size = max(one.size, answer.size)
            one.service_cpu += running.tree.cpu_seconds() - before[0]
            one.postgres_cpu += postgres.cpu_seconds() - before[1] if postgres else 0.0
    logged = dict(_logged(running.log))
    for one in timed:
        # What a file takes shows when its last row has come.
        one.ms = [
            round(answer.seconds * 1000, 1) if one.page.is_file else logged[answer.request_id] for answer in one.answers
        ]


def _warmed_up(visitors: Visitors, page: Page) -> str:
    """Ask for the page some times, and return where it is: a form is led to its own address with a one-time key."""
    address = page.address
    for _ in range(WARM_UP):
        answer = visitors.ask(page.who[0], address)
        if answer.location.startswith(f"{page.address}?"):
            address = answer.location
    return address


def _logged(log: Path) -> list[tuple[str, float]]:
    """Return each request's id with the milliseconds that the service says it took."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines() if b'"request"' in line]
    return [(line["request_id"], line["ms"]) for line in lines if line["event"] == "request"]


def _conclude(
    asked: argparse.Namespace, here: dict[str, Any], settings: dict[str, Any], timed: list[Timed], left: list[str]
) -> int:
    figures = sorted((one.figures() for one in timed), key=lambda one: (one["is_file"], -one["p95_ms"]))
    head = ("", "p50 ms", "p95 ms", "max ms", "service CPU ms", "PostgreSQL CPU ms", "KiB", "status")
    for title, is_file in (("Pages and lists", False), ("Files, each once, to their last row", True)):
        print(f"\n{title}:")
        report.print_table([head, *[_row(one) for one in figures if one["is_file"] is is_file]])
    slow = [one["address"] for one in figures if not one["is_file"] and one["p95_ms"] > LIMIT_MS]
    broken = [one["address"] for one in figures if max(one["statuses"]) >= 500 or 429 in one["statuses"]]
    print(f"\nAbove {LIMIT_MS:.0f} ms at the 95th percentile: {', '.join(slow) or 'none'}.")
    print(f"Not answered: {', '.join(broken) or 'none'}. Routes without an address here: {', '.join(left) or 'none'}.")
    result = {"machine": here, "settings": settings, "pages": figures, "left": left}
    print("Written:", report.save(asked.results, report.stem(here, "pages-"), result))
    return 1 if broken else 0


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["address"],
        *(f"{one[name]:,.1f}" for name in ("p50_ms", "p95_ms", "max_ms", "service_cpu_ms", "postgres_cpu_ms")),
        f"{one['bytes'] / 1024:,.0f}",
        " ".join(map(str, one["statuses"])),
    )


if __name__ == "__main__":
    sys.exit(main())
