"""POST /batches with 1,000 spends each, from one client that waits for each answer."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from bench.keys import HEADERS
from bench.serving import Service

ITEMS = 1_000


@dataclass(frozen=True)
class Bulk:
    """What came of it: items, and milliseconds of each request."""

    seconds: float
    sent: int
    done: int
    milliseconds: list[float]


def exists(service: Service) -> bool:
    """Whether the service has the route."""
    status, _ = _post(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30), b"{}")
    return status != http.HTTPStatus.NOT_FOUND


def run(service: Service, *, wallet_ids: Sequence[int], seconds: float, tag: str) -> Bulk:
    """Send batches one after the other for so long. Making and reading them is the client's part of the time."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    sent, done, took = 0, 0, []
    began = time.perf_counter()
    while (started := time.perf_counter()) < began + seconds:
        body = {"mode": "each", "items": [_spend(wallet_ids, f"{tag}-{sent + number}") for number in range(ITEMS)]}
        status, answer = _post(connection, orjson.dumps(body))
        sent += ITEMS
        if status == http.HTTPStatus.OK:
            done += sum(item["status"] == http.HTTPStatus.OK for item in orjson.loads(answer)["items"])
        took.append((time.perf_counter() - started) * 1000)
    connection.close()
    return Bulk(time.perf_counter() - began, sent, done, took)


def _spend(wallet_ids: Sequence[int], reference: str) -> dict[str, int | str]:
    return {"type": "spend", "walletId": random.choice(wallet_ids), "amount": 1, "referenceId": reference}


def _post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    try:
        connection.request("POST", "/batches", body, {"Content-Type": "application/json", **HEADERS})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, b""
