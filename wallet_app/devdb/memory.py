"""How much memory the embedded PostgreSQL keeps pages in: a part of what the machine, or its container, has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

MIB = 1024 * 1024
BUFFERS_MIN_MIB = 128
BUFFERS_MAX_MIB = 2_048
"""Holds the indexes of 10^7 entries. Taken as it is used; but whoever drops a table looks through all of it."""

# The kernel's notes of a container's bound, by version 2 and version 1 of its control groups.
_BOUNDS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def shared_buffers(bounds: Sequence[Path] = _BOUNDS) -> str:
    """Return PostgreSQL's `shared_buffers`: a quarter of the memory, as its documentation advises, within reason."""
    quarter = _memory_bytes(bounds) // 4 // MIB
    return f"{min(max(quarter, BUFFERS_MIN_MIB), BUFFERS_MAX_MIB)}MB"


def _memory_bytes(bounds: Sequence[Path]) -> int:
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in bounds:
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # No such bound, or the word "max".
            continue
    return min(found)
