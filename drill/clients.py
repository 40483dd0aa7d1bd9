"""`python -m drill.clients PLAN`: a process of clients that ask, write down, repeat what broke off, and never give way.

A request that has no final answer is repeated with the same references until it has; now and then a client gives up on
one that broke off, as programs that crash do.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from drill.asking import NOBODY_THERE, OK, Answers, ask, connect
from drill.journal import Journal, Wanted

STOP = "stop"
"""The name of the file that tells the clients of a folder to finish what they do and end."""

STOPPING_SECONDS_MAX = 60.0
TOO_MUCH = 1_000_000_000_000
_HOT_SHARE = 0.3
_OLD_SHARE = 0.1
_GIVE_UP_SHARE = 0.15
_FRESH_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the clients of a process do. The first of the wallets is the hot one."""

    folder: str
    port: int
    process: int
    threads: int
    seed: int
    think_seconds: float
    wallet_ids: list[int]

    def write(self) -> Path:
        """Write it down and return the file."""
        file = Path(self.folder) / f"{self.process}.plan"
        file.write_text(json.dumps(asdict(self)))
        return file


class Client:
    """One client: it has one request on its way at a time."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._name = f"{plan.process}-{number}"
        self._dice = random.Random(f"{plan.seed}-{self._name}")
        self._journal = Journal(Path(plan.folder) / f"{self._name}.journal")
        self._connection = connect(plan.port)
        self._posted: deque[Wanted] = deque(maxlen=2_000)
        self._number = 0
        self._stop = Path(plan.folder) / STOP
        self._parent = os.getppid()

    def run(self) -> None:
        """Ask until it is time to stop."""
        while not self._is_to_stop():
            how, items = self._choose()
            if self._dice.random() < _FRESH_SHARE:
                # Else all would stay with the worker that did not die, and the next to be killed would have no load.
                self._connection.close()
            self._number += 1
            self._journal.intend(self._number, how, items, time.time())
            self._ask_until_done(how, items)
            time.sleep(self._dice.uniform(0, 2 * self._plan.think_seconds))

    def _is_to_stop(self) -> bool:
        return self._stop.exists() or os.getppid() != self._parent

    def _ask_until_done(self, how: str, items: list[Wanted]) -> None:
        stopping = None
        gives_up = self._dice.random() < _GIVE_UP_SHARE
        while True:
            answers = ask(self._connection, how, items)
            self._journal.hear(self._number, answers.told, answers.broken, time.time())
            if answers.are_final(len(items)):
                self._remember(items, answers)
                return
            if gives_up and answers.broken and answers.broken != NOBODY_THERE:
                return
            if self._is_to_stop():
                stopping = stopping or time.monotonic() + STOPPING_SECONDS_MAX
                if time.monotonic() > stopping:
                    return
            time.sleep(self._dice.uniform(0.02, 0.3))

    def _remember(self, items: list[Wanted], answers: Answers) -> None:
        self._posted.extend(items[one.position] for one in answers.told if one.status == OK)

    # --- what to ask for ---

    def _choose(self) -> tuple[str, list[Wanted]]:
        how = self._dice.choices(("single", "each", "atomic", "lines"), (76, 8, 8, 8))[0]
        count = 1 if how == "single" else self._dice.randint(2, 20)
        # What an atomic batch would replay says nothing about its being all or nothing.
        items = list(self._new(count) if how == "atomic" else self._new_and_old(count))
        if how == "atomic" and self._dice.random() < 0.15:
            items[-1] = items[-1]._replace(kind="spend", amount=TOO_MUCH)
        return how, items

    def _new_and_old(self, count: int) -> Iterator[Wanted]:
        for item in self._new(count):
            if self._posted and self._dice.random() < _OLD_SHARE:
                yield self._dice.choice(self._posted)
            elif self._dice.random() < 0.03:
                yield item._replace(kind="spend", amount=TOO_MUCH)
            else:
                yield item

    def _new(self, count: int) -> Iterator[Wanted]:
        hot, *others = self._plan.wallet_ids
        for position in range(count):
            kind = self._dice.choices(("spend", "topup", "bonus"), (45, 40, 15))[0]
            wallet_id = hot if self._dice.random() < _HOT_SHARE else self._dice.choice(others)
            reference = f"drill-{self._name}-{self._number + 1}-{position}"
            yield Wanted(kind, wallet_id, self._dice.randint(1, 100), reference)


def main(plan_file: Path) -> None:
    """Run the clients of the plan, each a thread."""
    # If one fails, all end: a drill with fewer would prove less.
    threading.excepthook = _end
    plan = Plan(**json.loads(plan_file.read_text()))
    clients = [threading.Thread(target=Client(plan, number).run) for number in range(plan.threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _end(failure: threading.ExceptHookArgs) -> None:
    sys.excepthook(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
