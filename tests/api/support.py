"""What the API's tests share: how an answer is judged, whoever gives it, and what stands in the books."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import text

from wallet_app.db import db

JOHN_GOLD, JOHN_DIAMOND, DOE_GOLD, DOE_DIAMOND = 3, 4, 5, 6
TREASURY_GOLD = 1
NO_WALLET = 999_999_999
MOVEMENTS = ("topup", "bonus", "spend")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_LEAKS = re.compile(r"traceback|psycopg|sqlalchemy|postgres|select |insert |\.py\b|<html|<!doctype", re.IGNORECASE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z")
_run, _numbers = secrets.token_hex(4), itertools.count(1)


class Answer(Protocol):
    status_code: int
    headers: Mapping[str, str]

    def get_data(self) -> bytes: ...


def new_reference() -> str:
    """Return a reference that no other test uses."""
    return f"test-{_run}-{next(_numbers)}"


def movement(amount: object = 1, reference: str | None = None, **more: object) -> dict[str, object]:
    """Return the body of a top-up, bonus or spend."""
    return {"amount": amount, "referenceId": reference or new_reference(), **more}


def is_instant(value: object) -> bool:
    return isinstance(value, str) and _INSTANT.fullmatch(value) is not None


def assert_headers(answer: Answer) -> None:
    """Check what must stand on every answer of the API, whatever its status."""
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get(name) == value, f"{name} on {answer.status_code}"
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", answer.headers["X-Request-Id"])
    assert "X-Powered-By" not in answer.headers
    assert ("Retry-After" in answer.headers) == (answer.status_code in {429, 503})
    assert "html" not in answer.headers.get("Content-Type", "")


def assert_problem(answer: Answer, status: int, code: str, *pointers: str) -> dict[str, Any]:
    """Check that the answer is this problem, in full and with nothing of our inside in it; return its body."""
    data = answer.get_data()
    assert answer.status_code == status, data
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert_headers(answer)
    body: dict[str, Any] = json.loads(data)
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["ok"] is False
    assert body["type"] == f"urn:dino-wallet:problem:{code}"
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert body["title"] == body["error"]
    assert all(isinstance(body[name], str) and body[name] for name in ("title", "detail", "error"))
    assert not _LEAKS.search(data.decode()), data
    if code == "validation_error":
        assert body["errors"]
        assert all(set(error) == {"pointer", "code", "detail"} for error in body["errors"])
    if pointers:
        assert [error["pointer"] for error in body["errors"]] == list(pointers)
    return body


def books() -> tuple[object, ...]:
    """Return what a refused request must leave as it was: all counts, sums and versions. Needs an app context."""
    with db.engine.connect() as connection:
        return tuple(connection.execute(_BOOKS).one())


_BOOKS = text("""
SELECT (SELECT count(*) FROM transactions), (SELECT count(*) FROM transaction_details),
       (SELECT count(*) FROM ledger_entries), (SELECT count(*) FROM wallets), (SELECT count(*) FROM users),
       (SELECT md5(string_agg(format('%s %s %s %s', wallet_id, balance, held, version), ',' ORDER BY wallet_id))
          FROM wallet_balances),
       (SELECT sum(balance) FROM system_balances)
""")
