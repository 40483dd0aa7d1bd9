"""The kernel alone: batches posted by a call in this process, without HTTP and without other postings."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.wallets import ORIGIN
from wallet_app import service

SIZES = (1, 16, 64, 256, 1_000)


@dataclass(frozen=True)
class Posted:
    """What came of it."""

    seconds: float
    sent: int
    done: int


def run(wallet_ids: Sequence[int], *, size: int, seconds: float, tag: str, kind: type[service.Movement]) -> Posted:
    """Post batches of one size on random wallets for so long, and at least one; needs the application."""
    sent, done = 0, 0
    began = time.perf_counter()
    while not sent or time.perf_counter() < began + seconds:
        commands = [
            kind(wallet_id=random.choice(wallet_ids), reference=f"{tag}-{sent + number}", origin=ORIGIN, amount=1)
            for number in range(size)
        ]
        sent += size
        done += sum(isinstance(outcome, service.Receipt) for outcome in service.execute_batch(commands))
    return Posted(time.perf_counter() - began, sent, done)
