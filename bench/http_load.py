"""Load over HTTP by wrk: closed loops for throughput, open ones for latency. See load.lua."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.keys import SETTINGS
from bench.serving import Service

SCRIPT = Path(__file__).with_name("load.lua")
MEMORY_EVERY_SECONDS = 1.5
TIMEOUT_SECONDS = 15
_BUCKETS_PER_MILLISECOND = 10
POSTING = ("spend", "topup")
PERCENTILES = (50, 90, 99, 99.9)


class MissingProgramError(Exception):
    """A program that is needed is not installed; the message says how to come by it."""


@dataclass(frozen=True)
class Load:
    """What is asked for, and how. `rate` 0 is a closed loop, else arrivals a second."""

    kind: str
    items: Path
    connections: int
    seconds: float
    run: str
    zipf: float = 0.0
    replays: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True)
class Answers:
    """What came of it: `latency` in milliseconds by percentile, `posted_min` and `posted_max` new references."""

    seconds: float
    answered: int
    failed: int
    posted_min: int
    posted_max: int
    latency: dict[str, float]
    memory_bytes: int


def require_wrk() -> None:
    """Install wrk where root can; raise MissingProgramError otherwise."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing wrk.")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "wrk"]):
            subprocess.run(["apt-get", *command], env=environment, stdin=subprocess.DEVNULL, check=False)
    if not shutil.which("wrk"):
        raise MissingProgramError("wrk makes the load and is not installed: `apt install wrk`, or `brew install wrk`.")


def run(service: Service, load: Load) -> Answers:
    """Put the load on the service, and return what came of it."""
    options = {
        "kind": load.kind,
        "run": load.run,
        "items": load.items,
        "zipf": load.zipf,
        "replays": load.replays,
        "rate": load.rate,
        "seed": random.randrange(2**31),
    }
    command = [
        *("wrk", "--threads", "1", "--connections", str(load.connections), "--timeout", f"{TIMEOUT_SECONDS}s"),
        *("--duration", f"{load.seconds:.0f}s", "--script", str(SCRIPT), f"http://127.0.0.1:{service.port}", "--"),
        *(f"{name}={value}" for name, value in options.items()),
    ]
    output, memory = _watch(
        subprocess.Popen(command, env=os.environ | SETTINGS, stdout=subprocess.PIPE, text=True), service
    )
    result = next((line.removeprefix("RESULT ") for line in output.splitlines() if line.startswith("RESULT ")), None)
    if result is None:
        raise RuntimeError(f"wrk gave no result: {output}")
    return _answers(load, json.loads(result), memory)


def _watch(process: subprocess.Popen[str], service: Service) -> tuple[str, int]:
    """Return what the process wrote, and the most memory that the service had meanwhile."""
    memory = 0
    while True:
        try:
            return process.communicate(timeout=MEMORY_EVERY_SECONDS)[0], memory
        except subprocess.TimeoutExpired:
            memory = max(memory, service.tree.memory_bytes())


def _answers(load: Load, result: dict[str, Any], memory: int) -> Answers:
    failed = result["refused"] + result["broken"] + result["timeouts"] + result["unmatched"]
    fine = result["answered"] - result["refused"]
    posts = result["calls"] - result["repeats"] if load.kind in POSTING else 0
    # What was on its way at the end may have been posted or not.
    unknown = result["calls"] - fine
    return Answers(
        seconds=result["seconds"],
        answered=fine,
        failed=failed,
        posted_min=max(0, posts - unknown),
        posted_max=posts,
        latency=_percentiles(result["histogram"]) if load.rate else result["percentiles"],
        memory_bytes=memory,
    )


def _percentiles(histogram: dict[str, int]) -> dict[str, float]:
    """Return the percentiles of a histogram; a bucket counts with its upper end."""
    counts = sorted((int(bucket), count) for bucket, count in histogram.items())
    total = sum(count for _, count in counts)
    found: dict[str, float] = {}
    for percentile in PERCENTILES:
        seen = 0
        for bucket, count in counts:
            seen += count
            if seen >= total * percentile / 100:
                found[f"{percentile:g}"] = (bucket + 1) / _BUCKETS_PER_MILLISECOND
                break
    return found
