"""What a result has to be read with: the machine, the commit, and what it costs here to be durable."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = bytes(8192)


def describe() -> dict[str, Any]:
    """Return the machine and the commit that are measured."""
    return {
        "processor": _processor(),
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": git("rev-parse", "--short=12", "HEAD") or "unknown",
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def git(*arguments: str) -> str:
    """Return what git says, or nothing where there is no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def file_system(folder: Path) -> str:
    """Return the type and device of the file system that holds the folder."""
    path = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    if not mounts:
        return "unknown"
    mount = max(mounts, key=lambda mount: len(mount.mountpoint))
    return f"{mount.fstype} on {mount.device}"


def sync_milliseconds(folder: Path) -> float:
    """Return the median of what it takes to write a page and have it on the disk: no durable commit is faster."""
    file = folder / "sync-probe"
    took = []
    with file.open("wb", buffering=0) as probe:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            began = time.perf_counter()
            probe.write(PAGE)
            os.fsync(probe.fileno())
            took.append(time.perf_counter() - began)
    file.unlink()
    return round(statistics.median(took) * 1000, 3)


def warn_if_busy(machine: dict[str, Any]) -> None:
    """Say so when others use the machine: rates are then worth little, and only ratios and CPU a little more."""
    if machine["load_before"] > machine["cores"] / 4:
        print(
            f"WARNING: the machine is busy (load {machine['load_before']} on {machine['cores']} cores): "
            "what is measured now is not what it can do.",
            file=sys.stderr,
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
