"""What a process writes to its standard output: one JSON line per request, and nothing that is somebody else's."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.keys import ENVIRONMENT, KEY, VAULT

KEY_ID = VAULT.read_id(KEY)
SECRETS = (
    "word-of-a-note",
    "reference-in-body",
    "key-of-metadata",
    "text-of-metadata",
    "key-in-header",
    "Bearer-token",
    "token-value",
    "cookie-value",
    "parameter-value",
)
_ROOT = Path(__file__).parents[2]
_REQUESTS = """
from wallet_app import create_app, service
client = create_app().test_client()
client.get("/wallets/3", headers={"Authorization": "Bearer-token"})
client.get("/wallets/3", headers={"Authorization": "Bearer " + "token-value"})
client.environ_base["HTTP_AUTHORIZATION"] = "Bearer " + input()
body = {"amount": 1, "referenceId": "reference-in-body", "note": "word-of-a-note"}
body["metadata"] = {"key-of-metadata": "text-of-metadata"}
secret = {"Cookie": "session=cookie-value", "X-Request-Id": "given-1"}
client.get("/wallets/3", headers=secret)
client.post("/wallets/3/topup", json=body)
client.post("/wallets/3/topup", json={"amount": 1}, headers={"Idempotency-Key": "key-in-header"})
client.post("/wallets/3/topup", json={**body, "amount": 2})
client.post("/wallets/3/topup", data=b'{"note": "word-of-a-note', content_type="application/json")
client.post("/wallets/3/topup", json={**body, "metadata": {"key-of-metadata": ["text-of-metadata"]}})
client.get("/wallets/3?colour=parameter-value")
client.get("/wallets/parameter-value")
client.put("/wallets/3")
client.get("/nothing/parameter-value")
client.get("/health")
def fail(*_):
    raise RuntimeError("inside")
service.execute = fail
client.post("/wallets/3/topup", json=body)
def fail_badly(*_):
    raise RuntimeError("inside " + chr(0xD800))
service.execute = fail_badly
client.post("/wallets/3/topup", json=body)
"""


@pytest.fixture
def lines(database: URL) -> list[dict[str, Any]]:
    """All that a process of its own wrote to its standard output while it answered."""
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {**os.environ, "DATABASE_URL": url, "WALLET_RATE_LIMIT": "", "PYTHONPATH": str(_ROOT), **ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", _REQUESTS],
        input=KEY,
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for secret in (*SECRETS, KEY, KEY.rpartition("_")[2]):
        assert secret not in done.stdout
    if database.password:
        assert database.password not in done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_request_is_one_line_without_secrets_or_bodies(lines: list[dict[str, Any]]) -> None:
    requests = [line for line in lines if line["event"] == "request"]
    movement, wallet = "/wallets/<wallet_id>/topup", "/wallets/<wallet_id>"
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("GET", wallet, 401),
        ("GET", wallet, 401),
        ("GET", wallet, 200),
        ("POST", movement, 200),
        ("POST", movement, 200),
        ("POST", movement, 422),
        ("POST", movement, 400),
        ("POST", movement, 422),
        ("GET", wallet, 422),
        ("GET", wallet, 422),
        ("PUT", None, 405),
        ("GET", None, 404),
        ("GET", "/health", 200),
        ("POST", movement, 500),
        ("POST", movement, 500),
    ]
    for line in requests:
        assert set(line) == {
            "event", "level", "timestamp", "request_id", "actor", "method", "route", "status", "ms",
        }  # fmt: skip
        assert 0 <= line["ms"] < 100_000
    assert requests[2]["request_id"] == "given-1"
    assert [line["actor"] for line in requests[:3]] == ["anonymous", "anonymous", f"key:{KEY_ID}"]
    assert len({line["request_id"] for line in requests}) == len(requests)


def test_a_fault_of_ours_is_logged_with_its_traceback_and_no_local_variables(lines: list[dict[str, Any]]) -> None:
    faults = [line for line in lines if line["event"] != "request"]
    assert [(fault["event"], fault["level"]) for fault in faults] == [("unexpected", "error")] * 2
    assert [fault["request_id"] for fault in faults] == [lines[-3]["request_id"], lines[-1]["request_id"]]
    # The second one's text has what no UTF-8 has.
    said = [(fault["exception"][0]["exc_type"], fault["exception"][0]["exc_value"]) for fault in faults]
    assert said == [("RuntimeError", "inside"), ("RuntimeError", "inside \ud800")]
    for line in lines:
        assert dt.datetime.fromisoformat(line["timestamp"]).utcoffset() == dt.timedelta(0)
