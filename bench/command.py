"""How a benchmark's command begins and ends: with the programs that it needs, and with an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from bench.database import NotDurableError
from bench.http_load import MissingProgramError


def run_command(run: Callable[[], int], *required: Callable[[], object]) -> int:
    """Return what `run` returns; 2, with a sentence, if it cannot run, and 130 after Ctrl-C or SIGTERM.

    Each of `required` raises MissingProgramError if its program is not there.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that nothing is left running.
    try:
        for require in required:
            require()
        return run()
    except (MissingProgramError, NotDurableError) as problem:
        print(f"The benchmark cannot run: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
