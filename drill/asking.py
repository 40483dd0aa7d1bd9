"""Requests as the clients make them: one command, a batch, a run of lines. An answer counts as far as it came."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from drill.journal import Told, Wanted
from drill.keys import HEADERS

ANSWER_SECONDS_MAX = 40.0
OK = 200
REFUSED = 409
UNAVAILABLE = 503
FINAL = {OK, REFUSED}
"""With these a command is done; after any other status it is asked for again."""

NOBODY_THERE = ConnectionRefusedError.__name__
"""How a request ends that reached nobody; after any other end it may have been posted."""

BROKEN_OFF = (OSError, http.client.HTTPException, ValueError)


class Answers(NamedTuple):
    """What came back of a request; `broken` says how it ended early, if it did."""

    told: list[Told]
    broken: str | None = None

    def are_final(self, count: int) -> bool:
        """Whether each of so many commands is done."""
        return len(self.told) == count and all(one.status in FINAL for one in self.told)


def connect(port: int) -> http.client.HTTPConnection:
    """Return a connection, which opens itself again when it is used after it broke."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)


def ask(connection: http.client.HTTPConnection, how: str, items: Sequence[Wanted]) -> Answers:
    """Ask for the commands by "single", "each", "atomic" or "lines"; whatever happens is an answer."""
    told: list[Told] = []
    try:
        for one in _TOLD[how](connection, items):
            told.append(one)
    except BROKEN_OFF as error:
        connection.close()
        return Answers(told, type(error).__name__)
    return Answers(told)


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of a GET; raises what BROKEN_OFF names."""
    try:
        connection.request("GET", path, headers=HEADERS)
        answer = connection.getresponse()
        return answer.status, orjson.loads(answer.read())
    except BROKEN_OFF:
        connection.close()
        raise


def _single(connection: http.client.HTTPConnection, items: Sequence[Wanted]) -> Iterator[Told]:
    (item,) = items
    body = {"amount": item.amount, "referenceId": item.reference}
    answer = _post(connection, f"/wallets/{item.wallet_id}/{item.kind}", orjson.dumps(body), "application/json")
    yield Told(0, answer.status, orjson.loads(answer.read()))


def _each(connection: http.client.HTTPConnection, items: Sequence[Wanted]) -> Iterator[Told]:
    yield from _batch(connection, items, "each")


def _atomic(connection: http.client.HTTPConnection, items: Sequence[Wanted]) -> Iterator[Told]:
    yield from _batch(connection, items, "atomic")


def _batch(connection: http.client.HTTPConnection, items: Sequence[Wanted], mode: str) -> Iterator[Told]:
    body = orjson.dumps({"mode": mode, "items": [_record(item) for item in items]})
    answer = _post(connection, "/batches", body, "application/json")
    found = orjson.loads(answer.read())
    if answer.status != OK:
        yield from (Told(position, answer.status, found) for position in range(len(items)))
        return
    for position, one in enumerate(found["items"]):
        yield Told(position, one["status"], one["body"])


def _lines(connection: http.client.HTTPConnection, items: Sequence[Wanted]) -> Iterator[Told]:
    body = b"".join(orjson.dumps(_record(item), option=orjson.OPT_APPEND_NEWLINE) for item in items)
    answer = _post(connection, "/batches", body, "application/x-ndjson")
    if answer.status != OK:
        found = orjson.loads(answer.read())
        yield from (Told(position, answer.status, found) for position in range(len(items)))
        return
    answered = 0
    while (line := answer.readline()).endswith(b"\n"):
        one = orjson.loads(line)
        answered += 1
        yield Told(one["index"], one["status"], one["body"])
    # To readline() an answer that was cut off looks like one that is over.
    if answered < len(items):
        raise http.client.IncompleteRead(line)


_TOLD = {"single": _single, "each": _each, "atomic": _atomic, "lines": _lines}


def _post(
    connection: http.client.HTTPConnection, path: str, body: bytes, content_type: str
) -> http.client.HTTPResponse:
    connection.request("POST", path, body, {"Content-Type": content_type, **HEADERS})
    return connection.getresponse()


def _record(item: Wanted) -> dict[str, Any]:
    return {
        "type": item.kind,
        "walletId": item.wallet_id,
        "amount": item.amount,
        "referenceId": item.reference,
    }
