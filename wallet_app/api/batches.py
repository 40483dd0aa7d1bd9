"""POST /batches: many commands in one request, each answered on its own or all together."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from flask import Response, request, stream_with_context
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from wallet_app import access, service, strict_json
from wallet_app.api import ndjson, parameters, present
from wallet_app.api.batch_schemas import BatchAnswer, BatchLineAnswer
from wallet_app.api.body import read_body, refuse_coding, refuse_condition, refuse_unknown_parameters
from wallet_app.api.ndjson import Line
from wallet_app.api.operations import operation
from wallet_app.api.schemas import BatchRequest
from wallet_app.errors import WalletServiceError
from wallet_app.fields import invalid
from wallet_app.records import read_commands
from wallet_app.service import Command, Origin, Receipt
from wallet_app.web import Problem, json_response, origin, problem_of, problem_response, request_id

log = structlog.get_logger("wallet")

BODY_BYTES_MAX = 1024 * 1024
_NO_DRY_RUN = (
    "is not possible with lines, because it would keep one state of the database for as long as they come: send up to "
    "1,000 items as application/json, or use `flask wallet import --dry-run`"
)
_NDJSON_TYPE = re.compile(r'application/(?:x-ndjson|jsonl)(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
_JSON_TYPE = re.compile(r"application/json\b", re.IGNORECASE)

Answer = tuple[int, dict[str, Any]]
"""The status and the body that a command of its own would have been answered with."""


@operation(
    "POST",
    "/batches",
    tag="Batches",
    scope=access.EACH_ITEM,
    request=BatchRequest,
    answer=BatchAnswer,
    line=BatchLineAnswer,
    dry_run=True,
    problems=(400, 404, 409, 412, 413, 415, 422, 429, 503),
)
def post_batch() -> Response:
    """Post up to 1,000 commands, each on its own or all or nothing.

    An item is a record: a command's type, its wallet, and what its own route takes in the body. It needs the scope that
    its own route needs, and the key's limits hold for it. References make a
    repetition of the whole batch safe: what was posted before is answered as replayed.

    With `mode` "each", the items are posted in order and each is answered with the status and the body that it would
    have had alone, also one that is malformed. The answer is 200 when they were processed; `refused` counts the items
    that were not accepted, for whatever reason. An item whose turn did not come within 10 seconds is answered 503.

    With `mode` "atomic", either all are posted, in one database transaction, or nothing happens, and the answer is the
    problem of the first item that was refused, with its `index`; what is wrong in itself is found before the books are
    asked. Replayed items count as done. A problem without an `index` is about the batch as a whole.

    With `?dryRun=true` nothing is posted, and each item is answered with what it would have been, after those before
    it. Lines have no dry run.

    An item's `ifVersion` is what If-Match is to a command of its own; earlier items of the batch count.

    For long runs send application/x-ndjson (or application/jsonl): one record a line, always "each", of any length.
    The answer has one line for each line, in order, with its number from 0 as `index`; blank lines are counted and not
    answered. Lines are posted and answered as they come, at most 1,000 together, so read the answer while you send. A
    line that exceeds 16 KiB (`line_too_long`), or a body that breaks off (`rest_unreadable`), is the last to be
    answered.
    """
    content_type = request.headers.get("Content-Type", "")
    if _NDJSON_TYPE.fullmatch(content_type):
        refuse_coding()
        refuse_unknown_parameters(("dryRun",))
        refuse_condition()
        if parameters.dry_run():
            raise invalid("/dryRun", "unsupported", _NO_DRY_RUN)
        return _stream()
    if not _JSON_TYPE.match(content_type):
        raise UnsupportedMediaType("The body must be sent as Content-Type: application/json or application/x-ndjson.")
    request.max_content_length = BODY_BYTES_MAX
    batch = read_body(BatchRequest, tag="mode", parameters=("dryRun",)).root
    dry_run = parameters.dry_run()
    return (_post_atomic if batch.mode == "atomic" else _post_each)(batch.items, dry_run=dry_run)


# --- a JSON body ---


def _post_each(items: Sequence[object], *, dry_run: bool) -> Response:
    asking = origin()
    return _answer("each", _execute_each(_read(items, asking), dry_run=dry_run), dry_run=dry_run)


def _post_atomic(items: Sequence[object], *, dry_run: bool) -> Response:
    asking = origin()
    commands = []
    for index, command in enumerate(_read(items, asking)):
        if isinstance(command, Problem):
            return _refusal(index, command)
        commands.append(command)
    try:
        receipts = (service.preview_atomic if dry_run else service.execute_atomic)(commands)
    except service.BatchRefusedError as refused:
        return _refusal(refused.index, problem_of(refused.error))
    return _answer("atomic", [_accepted(receipt, dry_run=dry_run) for receipt in receipts], dry_run=dry_run)


def _refusal(index: int, found: Problem) -> Response:
    return problem_response(found._replace(body={**found.body, "index": index}))


def _answer(mode: str, answers: Sequence[Answer], *, dry_run: bool) -> Response:
    told = {"dryRun": True} if dry_run else {}
    return json_response({"ok": True, "mode": mode, **_counts(answers), "items": list(map(_item, answers)), **told})


def _item(answer: Answer) -> dict[str, Any]:
    status, body = answer
    return {"status": status, "body": body}


def _counts(answers: Sequence[Answer]) -> dict[str, int]:
    accepted = [body for status, body in answers if status in (200, 201)]
    replayed = sum(body["idempotent"] for body in accepted)
    return {
        "done": len(accepted) - replayed,
        "replayed": replayed,
        "refused": len(answers) - len(accepted),
    }


# --- lines ---


def _stream() -> Response:
    # Of Flask's bounds None stands for the application's own.
    request.max_content_length = sys.maxsize
    return Response(stream_with_context(_answer_lines()), content_type="application/x-ndjson")


def _answer_lines() -> Iterator[bytes]:
    """Yield the answers of a block at a time; when the client has gone, no further block is read."""
    asking, begun, lines = origin(), time.perf_counter(), 0
    try:
        for block in ndjson.read_blocks(request.stream, length=request.content_length, lines_max=service.BATCH_MAX):
            answers = _execute_lines(_read_lines(block, asking))
            lines += len(block)
            yield b"".join(
                orjson.dumps({"index": index, "status": status, "body": body}, option=orjson.OPT_APPEND_NEWLINE)
                for (index, _), (status, body) in zip(block, answers, strict=True)
            )
    finally:
        seconds = time.perf_counter() - begun
        log.info("lines_answered", request_id=request_id(), lines=lines, ms=round(seconds * 1000, 1))


def _read_lines(block: Sequence[Line], asking: Origin) -> list[Command | Problem]:
    found = [_parse(line) for line in block]
    commands = iter(_read([one.record for one in found if isinstance(one, _Parsed)], asking))
    return [next(commands) if isinstance(one, _Parsed) else one for one in found]


class _Parsed(NamedTuple):
    record: object


def _parse(line: Line) -> _Parsed | Problem:
    _, content = line
    if isinstance(content, Problem):
        return content
    try:
        return _Parsed(strict_json.parse(content))
    except ValueError as exc:
        return problem_of(BadRequest(f"The line {exc}."))


def _execute_lines(found: Sequence[Command | Problem]) -> list[Answer]:
    """Post and answer, whatever happens: other lines of this run have been answered already."""
    try:
        return _execute_each(found)
    except Exception as fault:
        failed = problem_of(fault)
        return [_of(one) if isinstance(one, Problem) else _of(failed) for one in found]


# --- both ---


def _read(records: Sequence[object], asking: Origin) -> list[Command | Problem]:
    found = read_commands(records, origin=asking)
    return [problem_of(one) if isinstance(one, WalletServiceError) else one for one in found]


def _execute_each(found: Sequence[Command | Problem], *, dry_run: bool = False) -> list[Answer]:
    """Post the commands among what was read, or preview them, and answer all of it, in order."""
    execute = service.preview_each if dry_run else service.execute_each
    outcomes = iter(execute([one for one in found if isinstance(one, Command)]))
    return [_of(one) if isinstance(one, Problem) else _told(next(outcomes), dry_run=dry_run) for one in found]


def _told(outcome: Receipt | Exception, *, dry_run: bool) -> Answer:
    return _accepted(outcome, dry_run=dry_run) if isinstance(outcome, Receipt) else _of(problem_of(outcome))


def _accepted(receipt: Receipt, *, dry_run: bool) -> Answer:
    body = present.receipt(receipt)
    if dry_run:
        body["dryRun"] = True
    return present.status(receipt), body


def _of(found: Problem) -> Answer:
    return found.status, found.body
