"""`make bench-servers`: ways to serve the same application, beside each other in rounds, to choose by."""

from __future__ import annotations

import argparse
import secrets
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine, usage
from bench.database import Database, migrate, new_database, open_server
from bench.http_load import Answers, Load, require_wrk
from bench.http_load import run as put_load
from bench.rounds import WALLETS, to_stderr
from bench.serving import GUNICORN, Service, serve
from bench.wallets import fill, make_wallets, shuffled

CONNECTIONS = 64
_STOCK = ("gunicorn", "--preload", "--bind", "127.0.0.1:PORT", "--log-level", "warning")
_GRANIAN = ("granian", "--interface", "wsgi", "--port", "PORT", "--no-ws", "--log-level", "warning", "--http", "1")


@dataclass(frozen=True)
class SetUp:
    """A server with its arguments, and the service's settings."""

    title: str
    module: Sequence[str]
    settings: dict[str, str] = field(default_factory=dict)


def set_ups() -> Iterator[SetUp]:
    """Yield what is compared."""
    for workers in ("1", "2", "3"):
        yield SetUp(f"ours, {workers} workers", GUNICORN, {"WALLET_WORKERS": workers})
    yield SetUp("ours, 2 workers, 2 connections", GUNICORN, {"WALLET_WORKERS": "2", "WALLET_POOL_SIZE": "2"})
    yield SetUp("ours, 2 workers, no group commit", GUNICORN, {"WALLET_WORKERS": "2", "WALLET_GROUP_COMMIT": "off"})
    # The command line wins over the file, which patches Python.
    yield SetUp("gunicorn gevent, 2 workers", (*GUNICORN[:-1], "-k", "gevent", "wsgi:app"), {"WALLET_WORKERS": "2"})
    yield SetUp("gunicorn gthread, 64 threads", (*_STOCK, "-k", "gthread", "--threads", "64", "wsgi:app"))
    yield SetUp("gunicorn gthread, 2 x 32", (*_STOCK, "-w", "2", "-k", "gthread", "--threads", "32", "wsgi:app"))
    yield SetUp("granian, 64 threads", (*_GRANIAN, "--blocking-threads", "64", "wsgi:app"))
    yield SetUp("granian, 2 x 32", (*_GRANIAN, "--workers", "2", "--blocking-threads", "32", "wsgi:app"))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make bench-servers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs (default: 3)")
    parser.add_argument("--seconds", type=float, default=5, help="how long each runs (default: 5)")
    asked = parser.parse_args()
    require_wrk()
    here = machine.describe()
    machine.warn_if_busy(here)
    print("machine:", ", ".join(f"{name} {value}" for name, value in here.items()))
    with open_server(Path("/var/tmp")) as (server, folder), new_database(server) as database:  # noqa: S108
        wallet_ids = _prepare(database, folder)
        print(f"{WALLETS:,} wallets; spends; {CONNECTIONS} connections; medians of {asked.rounds} rounds (least-most)")
        measured = _measure(database, folder, rounds=asked.rounds, seconds=asked.seconds)
        _show(measured)
        print(f"{len(wallet_ids):,} wallets were used.")


def _prepare(database: Database, folder: Path) -> list[int]:
    migrate(database)
    wallet_ids = shuffled(make_wallets(database, WALLETS))
    fill(database, wallet_ids)
    with database.connect() as connection:
        connection.execute("VACUUM ANALYZE")
    (folder / "random").write_text("".join(f"{wallet_id}\n" for wallet_id in wallet_ids))
    (folder / "hot").write_text(f"{wallet_ids[0]}\n")
    return wallet_ids


def _measure(
    database: Database, folder: Path, *, rounds: int, seconds: float
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Return the samples by set-up and wallets. Each set-up is started anew in each round."""
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(1, rounds + 1):
        for set_up in set_ups():
            with ExitStack() as stack:
                settings = {"WALLET_RATE_LIMIT_KEY": "", **set_up.settings}
                service = stack.enter_context(serve(database, folder, module=set_up.module, **settings))
                for wallets in ("random", "hot"):
                    _load(service, folder / wallets, 1.5)
                    sample = _sample(database, service, folder / wallets, seconds)
                    samples.setdefault((set_up.title, wallets), []).append(sample)
                    to_stderr(f"round {number}/{rounds}  {set_up.title:<34}{wallets:<8}{sample['rate']:>8,.0f}/s")
    return samples


def _sample(database: Database, service: Service, items: Path, seconds: float) -> dict[str, float]:
    trees = {"service": service.tree}
    if database.postgres_id:
        trees["postgres"] = usage.Tree(database.postgres_id)
    before = {name: tree.cpu_seconds() for name, tree in trees.items()}
    done = _load(service, items, seconds)
    used = {name: (tree.cpu_seconds() - before[name]) / max(done.answered, 1) * 1e6 for name, tree in trees.items()}
    return {
        "rate": done.answered / done.seconds,
        "failed": done.failed,
        "p99": done.latency.get("99", 0.0),
        "mib": done.memory_bytes / 2**20,
        **used,
    }


def _load(service: Service, items: Path, seconds: float) -> Answers:
    return put_load(service, Load("spend", items, CONNECTIONS, seconds, f"s{secrets.token_hex(4)}"))


def _show(measured: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    print("\n| server | wallets | spends/s | p99 ms | CPU µs: service | PostgreSQL | MiB | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for (title, wallets), samples in measured.items():
        middle = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        rates = [sample["rate"] for sample in samples]
        print(
            f"| {title} | {wallets} | {middle['rate']:,.0f} ({min(rates):,.0f}-{max(rates):,.0f}) "
            f"| {middle['p99']:.0f} | {middle['service']:.0f} | {middle.get('postgres', 0):.0f} | {middle['mib']:.0f} "
            f"| {middle['failed']:.0f} |"
        )


if __name__ == "__main__":
    main()
