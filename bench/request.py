"""`python -m bench.request`: where the microseconds of a spend go, part by part, in one process and without a load."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, g

from bench import machine
from bench.database import Database, application, migrate, new_database, open_server
from bench.keys import HEADERS
from bench.rounds import LIMIT_NEVER_REACHED
from bench.wallets import ORIGIN, fill, make_wallets
from wallet_app import access, create_app, service, strict_json, web
from wallet_app.api import body, present
from wallet_app.api.schemas import MovementRequest
from wallet_app.config import Settings
from wallet_app.db import close_connections

BODY = b'{"amount": 1, "referenceId": "quest-1234567890"}'
REPEATS, CALLS = 500, 20
"""Many short ones: the least of them met with nothing else that the machine does."""


def main() -> None:
    """Print the least of some repeats for each part: what disturbs only ever adds."""
    print("machine:", ", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    with open_server(Path("/var/tmp")) as (server, _), new_database(server) as database:  # noqa: S108
        migrate(database)
        wallet_ids = make_wallets(database, 2_000)
        fill(database, wallet_ids)
        _show("the application, the posting left out", list(_application(database, wallet_ids[0])))
        _show("the kernel, a command", list(_kernel(database, wallet_ids)))


def _show(title: str, parts: Sequence[tuple[str, float]]) -> None:
    print(f"\nCPU of this process for {title}:")
    for name, microseconds in parts:
        print(f"{microseconds:8.1f} µs  {name}")


def _application(database: Database, wallet_id: int) -> Iterator[tuple[str, float]]:
    settings = Settings.from_env(
        {**database.environment(), "WALLET_RATE_LIMIT": "", "WALLET_RATE_LIMIT_KEY": "", "WALLET_GROUP_COMMIT": "off"}
    )
    app, limited = create_app(settings), create_app(replace(settings, rate_limit_key=LIMIT_NEVER_REACHED))
    open_to_all = _without_guard(create_app(settings))
    with app.app_context():
        receipt = service.execute(service.Spend(wallet_id=wallet_id, reference="request", origin=ORIGIN, amount=1))
        close_connections()
    service.execute = _always(receipt)  # type: ignore[assignment]
    bare = Flask("bare")
    bare.add_url_rule("/wallets/<wallet_id>/spend", methods=["POST"], view_func=_answer_nothing)
    with _log_thrown_away():
        yield "a route of plain Flask that answers {}", _least(lambda: _call(bare, wallet_id))
        everything = _least_of_each(
            *(partial(_call, one, wallet_id) for one in (app, open_to_all, limited)), repeats=2 * REPEATS
        )
        whole, without, with_limit = everything
        yield "POST /wallets/{id}/spend", whole
        yield "  of these, who asks and whether they may", whole - without
        yield "  the rate limit would add", with_limit - whole
        headers = {"Authorization": HEADERS["Authorization"]}
        with app.test_request_context(f"/wallets/{wallet_id}/spend", method="POST", data=BODY, headers=headers):
            app.preprocess_request()
            answer = web.json_response({})
            yield "  JSON, strictly", _least(lambda: strict_json.parse(BODY))
            value = strict_json.parse(BODY)
            yield "  validation", _least(lambda: MovementRequest.model_validate(value))
            yield "  reference, body or header", _least(lambda: body.read_reference("quest-1234567890"))
            yield "  presenting and serializing", _least(lambda: orjson.dumps(present.movement(receipt)))
            yield "  headers and the log line", _least(lambda: app.process_response(answer))
    for one in (app, limited, open_to_all):
        with one.app_context():
            # What has not been written would be, later, on a connection that keeps the database from being dropped.
            access.gate_of(one).write_uses()
            close_connections()


def _without_guard(app: Flask) -> Flask:
    """Return the application as one that asks nobody who it is, to tell what that costs."""

    def let_in() -> None:
        g.caller = service.ANONYMOUS

    app.before_request_funcs[None] = [
        let_in if isinstance(one, partial) and one.func is access._guard else one
        for one in app.before_request_funcs[None]
    ]
    return app


def _kernel(database: Database, wallet_ids: list[int]) -> Iterator[tuple[str, float]]:
    number = 0

    def post(size: int) -> None:
        nonlocal number
        number += 1
        commands = [
            service.Spend(wallet_id=wallet_ids[at], reference=f"kernel-{number}", origin=ORIGIN, amount=1)
            for at in range(size)
        ]
        service.execute_batch(commands)

    with application(database):
        for size in (1, 16, 256, 1_000):
            post(size)
            taken = _least(lambda: post(size), calls=max(1, 32 // size), repeats=60) / size  # noqa: B023
            yield f"in a batch of {size:,}", taken


def _always(receipt: service.Receipt) -> Callable[..., service.Receipt]:
    """Return what stands for the posting, which is measured by itself."""

    def execute(*_: object, **__: object) -> service.Receipt:
        return receipt

    return execute


def _answer_nothing(wallet_id: str) -> Response:  # noqa: ARG001
    return Response(b"{}", content_type="application/json")


def _call(app: Flask, wallet_id: int) -> None:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/wallets/{wallet_id}/spend",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(BODY)),
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": HEADERS["Authorization"],
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(BODY),
    }
    b"".join(app(environ, _start_response))


def _start_response(*_: object) -> Callable[[bytes], object]:
    return BODY.startswith


def _least(part: Callable[[], object], *, calls: int = CALLS, repeats: int = REPEATS) -> float:
    least = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(calls):
            part()
        least = min(least, time.process_time() - began)
    return least / calls * 1e6


def _least_of_each(*parts: Callable[[], object], repeats: int) -> list[float]:
    """Measure the parts by turns, because what is compared should have met with the same disturbance."""
    found = [[_least(part, repeats=1) for part in parts] for _ in range(repeats)]
    return [min(each) for each in zip(*found, strict=True)]


@contextmanager
def _log_thrown_away() -> Iterator[None]:
    """Let the log lines go where writing costs least; nothing else is printed meanwhile."""
    sys.stdout.flush()
    real, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(real, 1)
        os.close(real)
        os.close(nowhere)


if __name__ == "__main__":
    main()
