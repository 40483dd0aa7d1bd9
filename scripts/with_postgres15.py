"""Runs the tests on PostgreSQL 15, Debian's: WALLET_TEST_POSTGRES tells each process of theirs what to start.

One server for all would make them wait for each other's transactions, as what is settled is one server's.
`with_postgres15.py COMMAND...` exits as the command does. Where there is no PostgreSQL 15 and root cannot
install it, the command is left out: loudly on a developer's machine, as a failure in CI.
"""

# ruff: noqa: T201
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN_DIR = Path("/usr/lib/postgresql/15/bin")
# The package would make and start a server of its own on the usual port.
CREATE_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")


def main(command: list[str]) -> int:
    """Run the command and return its exit code."""
    if not BIN_DIR.exists() and os.geteuid() == 0:
        install()
    if not BIN_DIR.exists():
        print(f"LEFT OUT, because PostgreSQL 15 is not installed: {' '.join(command)}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    ours = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.call(command, env=ours | {"WALLET_TEST_POSTGRES": str(BIN_DIR)})


def install() -> None:
    """Install Debian's PostgreSQL 15 without the server that it would start; a failure shows in its absence."""
    if not CREATE_NO_CLUSTER.exists():
        CREATE_NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        CREATE_NO_CLUSTER.write_text("create_main_cluster = false\n")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    for arguments in (["update", "-qq"], ["install", *options, "postgresql-15"]):
        try:
            subprocess.run(["apt-get", *arguments], env=environment, stdin=subprocess.DEVNULL, check=False)
        except FileNotFoundError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
