"""CPU and memory of trees of processes. On a busy machine CPU per operation is steadier than any rate."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil


class Tree:
    """A process with all that it has started."""

    def __init__(self, process_id: int) -> None:
        self.root = psutil.Process(process_id)

    def cpu_seconds(self) -> float:
        """Return what the tree has used so far, with its members that have ended."""
        total = 0.0
        for process in self._members():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> int:
        """Return the tree's memory, what its members share counted once (PSS); where that is not told, RSS."""
        total = 0
        for process in self._members():
            try:
                full = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total += getattr(full, "pss", full.rss)
        return total

    def _members(self) -> Iterator[psutil.Process]:
        yield self.root
        try:
            yield from self.root.children(recursive=True)
        except psutil.NoSuchProcess:
            return


def own_cpu_seconds() -> float:
    """Return what this process has used, and the load generators that it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
