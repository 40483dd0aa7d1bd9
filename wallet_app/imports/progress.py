"""How far an import is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts rows towards `total`, if that is known; `done` of them were done before."""

    def __init__(self, total: int | None, done: int) -> None:
        self._bar: tqdm[Any] = tqdm(
            total=total,
            initial=done,
            unit=" rows",
            unit_scale=True,
            delay=1,
            leave=False,
            file=sys.stderr,
            disable=None,
        )
        self._done = done
        self._total = total
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def update(self, rows: int) -> None:
        self._done += rows
        self._bar.update(rows)
        if self._bar.disable and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.say(f"{self._done:,}{f' of about {self._total:,}' if self._total else ''} rows")

    def say(self, sentence: str) -> None:
        tqdm.write(sentence, file=sys.stderr)
