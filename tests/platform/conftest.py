"""What the platform's tests share: a data folder that the server's own system user can reach."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: pytest closes its parents to everybody else, and as root the server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="dino-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)
