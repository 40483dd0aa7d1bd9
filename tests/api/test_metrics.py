"""GET /metrics: what was posted can be read from it, of all processes together, and no sum ever falls."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from structlog.testing import CapturingLogger

from tests.api.conftest import MakeClient
from tests.api.support import MOVEMENTS, assert_headers, movement, new_reference
from tests.keys import KEY, VAULT
from tests.platform.conftest import REPOSITORY, Service
from wallet_app import access, service
from wallet_app.db import db, unit_of_work
from wallet_app.errors import UnavailableError
from wallet_app.metrics import work as work_figures
from wallet_app.service import group_commit, posting

pytestmark = pytest.mark.wide

ORIGIN = service.Origin(client="tests", actor="tests")
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
Figures = dict[str, float]


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine's figures of the work are waited for, but where a test is about their absence."""
    if "says_nothing" not in request.fixturenames:
        monkeypatch.setattr(work_figures, "SECONDS_MAX", 30)


@pytest.fixture
def says_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The database answers nothing about the work."""
    over = threading.Event()
    monkeypatch.setattr(service, "get_work_figures", lambda: over.wait(60))
    yield
    over.set()


def parse(page: str) -> Figures:
    """Return the samples by name and labels, as in `wallet_posting_failures_total{lane=shared,reason=busy}`."""
    return {
        name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def name(metric: str, labels: dict[str, str]) -> str:
    inside = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{metric}{{{inside}}}" if inside else metric


def figures(client: FlaskClient) -> Figures:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return parse(answer.text)


def grown(client: FlaskClient, work: Callable[[], object]) -> Callable[[str], float]:
    """Do the work, and return by how much a figure has grown meanwhile."""
    before = figures(client)
    work()
    after = figures(client)
    return lambda key: after[key] - before[key]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


# --- the page ---


def test_it_is_prometheus_text_and_not_limited(client_with: MakeClient) -> None:
    client = client_with(rate_limit="1 per minute")
    for _ in range(5):
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "RateLimit-Limit" not in answer.headers
        assert_headers(answer)
    assert client.get("/wallets/3").status_code == 200


def test_every_figure_has_a_help_line_and_an_alarm_in_the_docs(client: FlaskClient) -> None:
    docs = (REPOSITORY / "docs" / "deploy.md").read_text()
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    ours = [family for family in families if family.name.startswith("wallet_")]
    assert len(ours) == 19
    for family in ours:
        assert family.documentation.endswith(".")
        assert f"`{family.name}" in docs, family.name


def test_it_answers_without_the_database_whoever_was_known_before(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/metrics").status_code == 200
    gate = access.gate_of(app)
    monkeypatch.setattr(gate, "engine", create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere"))
    monkeypatch.setattr(gate._keys, "read_at", 1.0)
    assert client.get("/wallets/3").status_code == 503
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"Authorization": f"Bearer {VAULT.make_key().text}"}).status_code == 401
    gate._forget()
    assert client.get("/metrics").status_code == 503


def test_the_background_work_is_told_by_any_process(app: Flask, client: FlaskClient) -> None:
    """By the workers' signs of life, and by what waits: here a verification that was asked for, and what was posted."""
    assert figures(client)["wallet_workers"] == 0
    assert figures(client)["wallet_job_last_success_timestamp_seconds{job=verify}"] == 0
    before, now = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    done = {"at": now.isoformat(), "succeededAt": before.isoformat(), "seconds": 2.5, "failed": True}
    service.beat(uuid.uuid4(), host="here", pid=1, jobs={"verify": done})
    service.beat(uuid.uuid4(), host="there", pid=1, jobs={"verify": {"since": now.isoformat()}})
    service.request_verification(full=False, by=service.By(actor="tests"))
    client.post("/wallets/3/topup", json=movement())
    found = figures(client)
    assert found["wallet_workers"] == 2
    assert found["wallet_job_last_success_timestamp_seconds{job=verify}"] == before.timestamp()
    assert found["wallet_job_duration_seconds{job=verify}"] == 2.5
    assert found["wallet_job_failed{job=verify}"] == 1
    assert found["wallet_job_backlog{job=verify}"] == 1
    assert found["wallet_job_backlog{job=add_up_days}"] == found["wallet_job_backlog{job=index_references}"] > 0
    assert {name for name in found if "backlog" in name} == {
        f"wallet_job_backlog{{job={job.name}}}" for job in service.JOBS if job.name != "find_top_movers"
    }, "a job without a backlog says so here"


def test_figures_of_the_work_are_left_out_when_the_database_says_nothing(
    client: FlaskClient, says_nothing: None
) -> None:
    begun = time.monotonic()
    for _ in range(2):
        found = figures(client)
        assert "wallet_workers" not in found
        assert "wallet_processes" in found
    assert time.monotonic() - begun < 30


# --- what is counted ---


def test_a_movement_is_a_command_in_a_batch_of_the_shared_lane(client: FlaskClient) -> None:
    def work() -> None:
        for verb in MOVEMENTS:
            assert client.post(f"/wallets/3/{verb}", json=movement()).status_code == 200

    by = grown(client, work)
    assert by("wallet_group_commit_batch_commands_count{lane=shared}") == 3
    assert by("wallet_group_commit_batch_commands_sum{lane=shared}") == 3
    assert by("wallet_group_commit_batch_commands_bucket{lane=shared,le=1}") == 3
    assert by("wallet_group_commit_queue_seconds_count{lane=shared}") == 3
    assert by("wallet_posting_seconds_count{lane=shared}") == 3
    assert by("wallet_posting_seconds_sum{lane=shared}") > 0
    assert by("wallet_posting_seconds_bucket{lane=shared,le=+Inf}") == 3
    assert by("wallet_group_commit_batch_commands_count{lane=alone}") == 0


def test_without_group_commit_it_is_posted_alone(client_with: MakeClient) -> None:
    client = client_with(group_commit=False)
    by = grown(client, lambda: client.post("/wallets/3/topup", json=movement()))
    assert by("wallet_group_commit_batch_commands_sum{lane=alone}") == 1
    assert by("wallet_group_commit_batch_commands_sum{lane=shared}") == 0


@pytest.mark.parametrize("mode", ["atomic", "each"])
def test_a_batch_is_bulk(client: FlaskClient, mode: str) -> None:
    items = [{"type": "topup", "walletId": 3, **movement()} for _ in range(40)]
    by = grown(client, lambda: client.post("/batches", json={"mode": mode, "items": items}))
    assert by("wallet_group_commit_batch_commands_count{lane=bulk}") == 1
    assert by("wallet_group_commit_batch_commands_sum{lane=bulk}") == 40
    assert by("wallet_group_commit_batch_commands_bucket{lane=bulk,le=32}") == 0
    assert by("wallet_group_commit_batch_commands_bucket{lane=bulk,le=64}") == 1
    assert by("wallet_group_commit_queue_seconds_count{lane=bulk}") == 1


def test_a_busy_wallet_is_deferred_and_its_wait_that_runs_out_is_a_failure(client: FlaskClient) -> None:
    def work() -> None:
        with unit_of_work() as connection:
            connection.execute(text("SELECT set_config('lock_timeout', '0', true)"))
            connection.execute(text("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE"))
            assert client.post("/wallets/3/topup", json=movement()).status_code == 503

    by = grown(client, work)
    assert by("wallet_group_commit_deferred_total{lane=shared}") == 1
    assert by("wallet_posting_failures_total{lane=waiting,reason=busy}") == 1
    assert by("wallet_posting_seconds_bucket{lane=waiting,le=+Inf}") >= 1


def test_a_full_queue_refuses_and_is_counted(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_MAX", 0)
    by = grown(client, lambda: client.post("/wallets/3/topup", json=movement()))
    assert by("wallet_group_commit_refused_total{lane=shared}") == 1
    assert by("wallet_group_commit_batch_commands_count{lane=shared}") == 0


def test_a_lane_that_hangs_shows_in_the_figures_and_in_the_log(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = CapturingLogger()
    monkeypatch.setattr(group_commit, "log", said)
    go_on = threading.Event()
    post = posting.post

    def slow(*args: Any, **options: Any) -> Any:
        go_on.wait(100)
        return post(*args, **options)

    def queue_up(seconds_max: float) -> None:
        command = service.TopUp(wallet_id=3, amount=1, reference=new_reference(), origin=ORIGIN)
        with app.app_context(), contextlib.suppress(UnavailableError):
            service.execute(command, seconds_max=seconds_max)

    monkeypatch.setattr(posting, "post", slow)
    before = figures(client)
    taken = threading.Thread(target=queue_up, args=(100,))
    taken.start()
    was_taken = "wallet_group_commit_queue_seconds_count{lane=shared}"
    eventually(lambda: figures(client)[was_taken] > before[was_taken])
    # Long enough to be looked at twice.
    left = threading.Thread(target=queue_up, args=(8,))
    left.start()
    eventually(lambda: figures(client)["wallet_group_commit_queued{lane=shared}"] == 1)
    eventually(lambda: figures(client)["wallet_group_commit_oldest_seconds{lane=shared}"] > 1)
    left.join(60)
    key = "wallet_group_commit_withdrawn_total{lane=shared}"
    assert figures(client)[key] == before[key] + 1
    go_on.set()
    taken.join(20)
    eventually(lambda: figures(client)["wallet_group_commit_queued{lane=shared}"] == 0)
    assert said.calls
    for call in said.calls:
        assert (call.method_name, call.args) == ("warning", ("lane_stalled",))
        assert (call.kwargs["lane"], call.kwargs["queued"]) == ("shared", 1)
        assert call.kwargs["oldest_seconds"] >= 1


def test_connections_in_use_are_told(client: FlaskClient) -> None:
    service.execute(service.TopUp(wallet_id=3, amount=1, reference=new_reference(), origin=ORIGIN))
    eventually(lambda: figures(client)["wallet_db_connections_max{pool=postings}"] >= 20)
    with db.engine.connect():
        eventually(lambda: figures(client)["wallet_db_connections_in_use{pool=postings}"] == 1)
    eventually(lambda: figures(client)["wallet_db_connections_in_use{pool=postings}"] == 0)


# --- several processes ---


@pytest.fixture
def server_of_two(database: URL, tmp_path: Path) -> Iterator[Service]:
    """A server with two workers, on a database of its own."""
    running = Service(
        tmp_path, DATABASE_URL=database.set(drivername="postgresql").render_as_string(False), WALLET_WORKERS="2"
    )
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def page_of(running: Service) -> Figures:
    asked = urllib.request.Request(f"http://127.0.0.1:{running.port}/metrics", headers=AUTHORIZED)
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
        return parse(answer.read().decode())


def test_either_worker_answers_for_both_and_a_worker_that_is_killed_takes_nothing_with_it(
    server_of_two: Service,
) -> None:
    key = "wallet_group_commit_batch_commands_sum{lane=shared}"
    # The master is the third: it has seeded.
    eventually(lambda: page_of(server_of_two)["wallet_processes"] == 3)
    workers = server_of_two.workers()
    for count, sleeper in ((10, workers[0]), (20, workers[1])):
        os.kill(sleeper, signal.SIGSTOP)
        for _ in range(10):
            assert server_of_two.request("POST", "/wallets/3/topup", movement())[0] == 200
        page = page_of(server_of_two)
        os.kill(sleeper, signal.SIGCONT)
        assert page[key] == count
    assert page["wallet_processes"] == 3
    numbers = {sample for sample in page if sample.startswith("process_resident_memory_bytes")}
    assert len(numbers) == 3

    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: len(server_of_two.workers()) == 2 and workers[0] not in server_of_two.workers())
    eventually(lambda: page_of(server_of_two)["wallet_processes"] == 3)
    for _ in range(5):
        assert server_of_two.request("POST", "/wallets/3/topup", movement())[0] == 200
    assert page_of(server_of_two)[key] == 25
    assert {sample for sample in page_of(server_of_two) if sample.startswith("process_resident_memory")} == numbers
