"""What only a raw connection to the production server shows of the API; broken HTTP is tested with the server."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.conftest import Live
from tests.api.support import assert_problem, new_reference
from tests.keys import KEY

SECONDS_MAX = 4
"""The service itself would close an idle connection after five."""
HOST = f"Host: wallet\r\nAuthorization: Bearer {KEY}\r\n".encode()
LAST = b"Connection: close\r\n"


@dataclass
class Raw:
    """One answer, as the judges of the other tests want it."""

    status_code: int
    headers: dict[str, str]
    body: bytes

    def get_data(self) -> bytes:
        return self.body

    def json(self) -> Any:
        return json.loads(self.body)


def ask(live: Live, sent: bytes) -> list[Raw]:
    """Send it all at once; return every answer until the service closes the connection, which it must do soon."""
    received, answered = b"", time.monotonic()
    with socket.create_connection((live.host, live.port), timeout=30) as client:
        client.sendall(sent)
        while data := client.recv(65536):
            received += data
            answered = time.monotonic()
    assert time.monotonic() - answered < SECONDS_MAX
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", "0"))
        answers.append(Raw(int(status.split()[1]), headers, received[:length]))
        received = received[length:]
    return answers


def post(body: dict[str, object], *headers: bytes, path: bytes = b"/wallets/3/topup") -> bytes:
    data = json.dumps(body).encode()
    lines = [b"Content-Type: application/json\r\n", b"Content-Length: %d\r\n" % len(data), *headers]
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n" + data


@pytest.mark.parametrize(
    "keys",
    [
        (b"raw-1", b"raw-1"),
        (b"raw-1", b"raw-2"),
        (b'"raw-1"', b'"raw-1"'),
        (b"",),
        (b"raw\xe9",),
        (b"x" * 8_000,),
        (b"a\tb",),
    ],
)
def test_broken_idempotency_keys(live: Live, keys: tuple[bytes, ...]) -> None:
    headers = [b"Idempotency-Key: " + key + b"\r\n" for key in keys]
    (answer,) = ask(live, post({"amount": 1}, *headers, LAST))
    assert_problem(answer, 400, "bad_request")


def test_a_header_that_tries_to_be_two_is_none(live: Live) -> None:
    (answer,) = ask(live, post({"amount": 1}, b"Idempotency-Key: raw\rX-Injected: 1\r\n", LAST))
    assert_problem(answer, 400, json.loads(answer.body)["code"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/wallets/%00", 422),
        (b"/wallets/3%0d%0aX-Injected:%201", 422),
        (b"/wallets/3%2Ftopup", 405),
        (b"/wallets/..%2f3", 404),
        (b"/..;/wallets/3", 404),
        (b"/wallets/3;/balance", 422),
        (b"/../../etc/passwd", 404),
        (b"/static/../wallet_app/web.py", 404),
        (b"/static/%2e%2e/wallet_app/web.py", 404),
        (b"/wallets/\xff", 400),
    ],
)
def test_paths(live: Live, path: bytes, status: int) -> None:
    (answer,) = ask(live, b"GET " + path + b" HTTP/1.1\r\n" + HOST + LAST + b"\r\n")
    assert_problem(answer, status, json.loads(answer.body)["code"])
    assert "X-Injected" not in answer.headers


def test_an_absolute_uri_is_the_path_in_it(live: Live) -> None:
    (answer,) = ask(live, b"GET http://elsewhere.example/wallets/3 HTTP/1.1\r\n" + HOST + LAST + b"\r\n")
    assert (answer.status_code, answer.json()["walletId"]) == (200, 3)


def test_http_1_0_is_answered_and_ends(live: Live) -> None:
    (answer,) = ask(live, b"GET /wallets/3 HTTP/1.0\r\n" + HOST + b"\r\n")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (post({"amount": 1}, path=b"/wallets/abc/topup"), 422),
        (post({"amount": 1}, path=b"/nothing"), 404),
        (post({"amount": 1}).replace(b"application/json", b"text/plain"), 415),
        (post({"amount": 1}).replace(b"POST", b"DELETE", 1), 405),
    ],
)
def test_a_body_that_nobody_read_is_not_taken_for_the_next_request(live: Live, refused: bytes, status: int) -> None:
    reference = new_reference()
    answers = ask(live, refused + post({"amount": 1, "referenceId": reference}, LAST))
    assert answers[0].status_code == status
    if len(answers) == 1:  # The connection was closed instead.
        assert answers[0].headers["Connection"] == "close"
    else:
        assert [answer.status_code for answer in answers] == [status, 200]
        assert answers[1].json()["referenceId"] == reference
