"""Verifications that are asked for: done once, kept with what they found, and done again when they are broken off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy.engine import URL

from tests.conftest import Tamper, conninfo
from tests.kernel.test_expiry import never
from tests.test_verify import move
from wallet_app import service
from wallet_app.errors import VerificationRunningError
from wallet_app.service import verification
from wallet_app.service.verification import marks, requests, runs

pytestmark = pytest.mark.wide

BY = service.By(actor="operator:ann", request_id="r-1")
Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def ask(app: Flask, database: URL) -> Ask:
    connection = psycopg.connect(conninfo(database), autocommit=True)

    def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = connection.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing is asked for by the night, whenever the tests run."""
    monkeypatch.setattr(requests, "NIGHT_HOUR", 25)


def test_what_is_asked_for_is_done_once_and_kept(app: Flask, ask: Ask) -> None:
    move(3, 100, 50)
    first = service.request_verification(full=True, by=BY)
    assert service.request_verification(full=True, by=BY) == first, "a double click asks once"
    assert verification.run_requested(never) == 1
    assert verification.run_requested(never) == 0
    service.verify(requested_by="cli:root")
    kept = service.list_verifications()
    assert [(one.state, one.requested_by, one.is_full, one.faults) for one in kept] == [
        ("ended", "cli:root", False, 0),
        ("ended", "operator:ann", True, 0),
    ]
    assert kept[1].findings is not None
    assert kept[1].entries_checked == 5
    assert kept[1].entries_expected == 5
    assert {one["name"]: one["lookedAt"] for one in kept[1].findings}["gapless"] == 5
    assert ask("SELECT actor, action, subject, after ->> 'waitedAlready' FROM audit_log ORDER BY id DESC LIMIT 2") == [
        ("operator:ann", "verification:request", f"verification:{first}", "true"),
        ("operator:ann", "verification:request", f"verification:{first}", "false"),
    ]


@pytest.mark.tampers
def test_faults_are_kept_in_words(app: Flask, tamper: Tamper) -> None:
    move(3, 100, 50)
    tamper("UPDATE ledger_entries SET balance_after = 7 WHERE wallet_id = 3 AND seq = 2")
    service.request_verification(full=False, by=BY)
    assert verification.run_requested(never) == 1
    (run,) = service.list_verifications()
    assert run.faults == 3
    assert run.findings is not None
    broken = {one["name"]: one["examples"] for one in run.findings if one["faults"]}
    assert broken["balance_after"][0] == "wallet 3, seq 2: 500 and an amount of 100 do not make a balance of 7"


def test_several_workers_do_it_once(app: Flask, ask: Ask) -> None:
    for full in (True, False):
        service.request_verification(full=full, by=BY)
    ended = []

    def work() -> None:
        with app.app_context():
            for _ in range(5):
                ended.append(verification.run_requested(never))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(ended) + verification.run_requested(never) == 2
    assert {one.state for one in service.list_verifications()} == {"ended"}


def test_one_that_was_killed_is_marked_and_done_again(app: Flask, ask: Ask) -> None:
    asked = service.request_verification(full=True, by=BY)
    # What a kill leaves behind: it runs, and nobody is there.
    runs.begin(asked, full=True, requested_by="", entries_expected=2)
    assert verification.run_requested(never) == 0, "it may still be alive"
    ask("UPDATE verification_runs SET beat_at = beat_at - interval '2 minutes'")
    with marks.alone():
        assert verification.run_requested(never) == 0, "it is alive, and only silent"
        assert service.get_verification(asked).state == "running"  # type: ignore[union-attr]
    assert verification.run_requested(never) == 1
    found = [(one.state, one.attempt, one.is_full) for one in service.list_verifications()]
    assert found == [("ended", 2, True), ("broken_off", 1, True)]
    by_hand = runs.begin(None, full=False, requested_by="cli:root", entries_expected=2)
    assert service.verify().is_clean
    assert service.get_verification(by_hand).state == "broken_off"  # type: ignore[union-attr]
    assert verification.run_requested(never) == 0, "who does it by hand does it again by hand"


def test_one_that_is_told_to_stop_is_done_again_later(app: Flask) -> None:
    service.request_verification(full=True, by=BY)
    answers = iter([False, True])
    assert verification.run_requested(lambda: next(answers)) == 0
    assert [(one.state, one.attempt) for one in service.list_verifications()] == [("requested", 2), ("broken_off", 1)]
    assert verification.run_requested(never) == 1


def test_each_night_is_asked_for_once(app: Flask, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = int(ask("SELECT extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')")[0][0])
    monkeypatch.setattr(requests, "NIGHT_HOUR", hour)
    monkeypatch.setattr(requests, "MORNING_HOUR", 24)
    assert verification.run_requested(never) == 1
    assert verification.run_requested(never) == 0
    (run,) = service.list_verifications()
    assert (run.state, run.requested_by, run.is_full) == ("ended", "worker", True)


def test_two_at_once_are_refused(app: Flask) -> None:
    with marks.alone(), pytest.raises(VerificationRunningError):
        service.verify()
    assert service.list_verifications() == []
