"""`make drill`, short: five kills under load lose and double nothing, and what is meant to be found is found."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from drill import controls, report
from drill.kills import KINDS
from drill.stage import open_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FOLDER = Path(tempfile.gettempdir())


def test_kills_under_load_lose_and_double_nothing() -> None:
    seed = random.randrange(10**6)
    print(f"\nseed {seed}\n{report.head()}")
    with open_stage(FOLDER, seed=seed) as stage:
        stage.press(seed=seed)
        for name in ("worker", "service", "postmaster", "backend", "terminate"):
            print(report.line(1, stage.strike(KINDS[name])))
        findings = stage.settle()
        assert not findings, report.tell(findings)
        # Of tracebacks there may be some: libraries tell on stderr of connections that died halfway.
        assert stage.service.errors_logged().keys() <= {"traceback"}
        # The same checks on the same books, with a fault in them.
        assert controls.retry_under_a_new_reference(stage)
        assert controls.claim_what_never_happened(stage)


def test_a_server_that_is_not_durable_is_found_out() -> None:
    lost = controls.lose_what_was_not_flushed(FOLDER, seed=random.randrange(10**6))
    assert lost
    print(f"\n{len(lost)} acknowledged writes lost")
