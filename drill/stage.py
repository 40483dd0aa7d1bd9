"""A stage: a service on data of its own, clients that press it, and what they and the ledger say."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from drill import checks, ledger, replays
from drill.checks import Findings
from drill.clients import STOP, STOPPING_SECONDS_MAX, Plan
from drill.keys import KEY, SETTING
from drill.kills import Kind
from drill.known import Known
from drill.ledger import Ledger
from drill.service import REPOSITORY, DrillError, Service, wait_until

PROCESSES, THREADS = 2, 6
THINK_SECONDS = 0.03
DEMO_USERS = 30
PRESSED = 30
"""How many acknowledgements there must have been since the last kill, so that the next one is one under load."""


class Struck(NamedTuple):
    """What a kill did."""

    kind: str
    ready_seconds: float
    acknowledged: int
    broken: int
    lost: int
    doubled: int


@dataclass
class Stage:
    """The clients run from `press` to `settle`."""

    folder: Path
    service: Service
    dice: random.Random
    known: Known = field(init=False)
    ledger: Ledger = field(init=False)
    findings: Findings = field(default_factory=Findings)
    drained: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the service was asked to end."""
    balances_before: dict[int, int] = field(default_factory=dict)
    _clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _to_look_for: list[str] = field(default_factory=list)
    """What was acknowledged and has not yet been looked for in the ledger."""

    def __post_init__(self) -> None:
        self.known = Known.of(self.folder)
        self.ledger = Ledger(self.service.data_dir)

    def press(self, *, seed: int) -> None:
        """Make wallets and start the clients on them; there is a hot one."""
        done = self.service.flask("seed", "--users", str(DEMO_USERS))
        if done.returncode:
            raise DrillError(done.stdout + done.stderr)
        wallet_ids = ledger.user_wallets(self.service.data_dir)
        self.dice.shuffle(wallet_ids)
        self.balances_before = replays.balances(self.service.port, wallet_ids)
        for process in range(PROCESSES):
            plan = Plan(
                folder=str(self.folder),
                port=self.service.port,
                process=process,
                threads=THREADS,
                seed=seed,
                think_seconds=THINK_SECONDS,
                wallet_ids=wallet_ids,
            )
            command = [sys.executable, "-m", "drill.clients", str(plan.write())]
            self._clients.append(
                subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env=os.environ | {SETTING: KEY},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def strike(self, kind: Kind) -> Struck:
        """Kill under load at a random moment, wait until the service is back, and look whether anything is missing."""
        self.wait_for_load()
        time.sleep(self.dice.uniform(0, 1.5))
        broken_before = self.known.broken
        began, began_at = time.monotonic(), time.time()
        kind.strike(self.service, self.dice)
        if kind.drains:
            self.drained.append((began_at, time.time()))
        self.service.wait_until_up()
        ready_seconds = time.monotonic() - began
        found = self.look()
        self.findings.add(found)
        return Struck(
            kind.name,
            round(ready_seconds, 2),
            len(self.known.acknowledged),
            self.known.broken - broken_before,
            len(found.lost),
            len(found.doubled),
        )

    def wait_for_load(self) -> None:
        """Return once the clients are at it again."""
        self._read_journals()
        goal = len(self.known.acknowledged) + PRESSED

        def is_pressed() -> bool:
            if any(client.poll() is not None for client in self._clients):
                raise DrillError("A process of clients ended.")
            self._read_journals()
            return len(self.known.acknowledged) >= goal

        wait_until(is_pressed, "the clients go on")

    def look(self) -> Findings:
        """Compare what has come since the last look; the clients may be at it."""
        # All that is acknowledged by now must be found in the ledger as it is afterwards ...
        self._read_journals()
        acknowledged, self._to_look_for = self._to_look_for, []
        posted = self.ledger.read_new()
        # ... and all that is found there must have been asked for before.
        self._read_journals()
        doubled = checks.find_doubled(self.known, self.ledger, posted)
        return Findings(
            lost=checks.find_lost(self.known, self.ledger, acknowledged),
            doubled=[one for one in doubled if one not in self.findings.doubled],
        )

    def _read_journals(self) -> None:
        self._to_look_for += self.known.read_new()

    def settle(self) -> Findings:
        """Let the clients finish, and return all that is wrong between them, the ledger, the API and the books."""
        self.stop_clients()
        self.known.read_new()
        self.ledger = Ledger(self.service.data_dir)
        self.ledger.read_new()
        found = self.findings
        found.add(checks.find_all(self.known, self.ledger))
        for since, until in self.drained:
            found.wrong += checks.find_unanswered(self.known, since, until)
        found.wrong += replays.repeat_all(self.folder, self.service.port, self.known, self.ledger)
        self.ledger = Ledger(self.service.data_dir)
        self.ledger.read_new()
        found.add(checks.find_all(self.known, self.ledger))
        balances = checks.expected_balances(self.known, self.ledger, self.balances_before)
        found.wrong += replays.compare(self.service.port, self.ledger, balances)
        found.wrong += ledger.faults(self.service.data_dir)
        verified = self.service.flask("wallet", "verify", "--full")
        if verified.returncode:
            found.wrong.append(f"verify: {verified.stdout}{verified.stderr}")
        return found.distinct()

    def stop_clients(self) -> None:
        """Tell them to finish what they do, and wait for it."""
        (self.folder / STOP).touch()
        clients, self._clients = self._clients, []
        for client in clients:
            try:
                ended = client.wait(STOPPING_SECONDS_MAX + 60)
            except subprocess.TimeoutExpired:
                client.kill()
                ended = client.wait()
            if ended:
                self.findings.wrong.append(f"a process of clients ended with {ended}")

    def kill_clients(self) -> None:
        """End those that still run, whatever they are at."""
        for client in self._clients:
            client.kill()
            client.wait()
        self._clients.clear()


@contextmanager
def open_stage(parent: Path, *, seed: int) -> Iterator[Stage]:
    """Yield a stage whose service is up; afterwards everything is stopped. Its folder is kept if there was a fault."""
    folder = Path(tempfile.mkdtemp(prefix="wallet-drill-", dir=parent.absolute()))
    folder.chmod(0o711)  # As root PostgreSQL runs as another user, who has to pass through.
    stage = Stage(folder, Service(folder), random.Random(seed))
    is_clean = False
    try:
        stage.service.wait_until_up()
        yield stage
        is_clean = not stage.findings
    finally:
        stage.kill_clients()
        stage.service.stop()
        if is_clean:
            shutil.rmtree(folder)
        else:
            print(f"Journals and logs stay in {folder}.", file=sys.stderr)
