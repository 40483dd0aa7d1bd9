"""How much memory the embedded PostgreSQL is given."""

from __future__ import annotations

from pathlib import Path

from wallet_app.devdb.memory import BUFFERS_MAX_MIB, BUFFERS_MIN_MIB, shared_buffers


def test_it_is_a_quarter_of_what_a_container_may_use(tmp_path: Path) -> None:
    bound = tmp_path / "memory.max"
    bound.write_text(f"{1024**3}\n")
    assert shared_buffers([tmp_path / "not-there", bound]) == "256MB"


def test_it_is_neither_too_little_nor_too_much(tmp_path: Path) -> None:
    bound = tmp_path / "memory.max"
    bound.write_text(f"{100 * 1024**2}\n")
    assert shared_buffers([bound]) == f"{BUFFERS_MIN_MIB}MB"
    bound.write_text("max\n")
    assert BUFFERS_MIN_MIB <= int(shared_buffers([bound]).removesuffix("MB")) <= BUFFERS_MAX_MIB
