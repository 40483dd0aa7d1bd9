"""The command line: `flask wallet import FILE`. It opens the files, shows how far it is and says how it ended."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import click
from flask import Flask
from flask.cli import with_appcontext
from sqlalchemy.exc import DBAPIError

from wallet_app import cli, metrics, records, service, text
from wallet_app.errors import WalletServiceError
from wallet_app.imports import ImportFileError, result_file, running, source
from wallet_app.imports.progress import Progress
from wallet_app.imports.record import Record, recorded

_FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_NAME_MAX = 150
_PERMIT = service.Permit(
    scopes=frozenset(
        {
            "wallets:topup",
            "wallets:bonus",
            "wallets:spend",
            "wallets:transfer",
            "holds:write",
            "transactions:reverse",
            "wallets:freeze",
            "wallets:close",
        }
    )
)
"""What a file may ask for: what a service may, and nothing that is for operators alone."""
_COLLECT_EVERY = 50_000
"""Objects. A chunk makes many that live until it is posted; at Python's 700, looking for cycles among them took a
quarter of the processor's time."""


def init_app(_: Flask) -> None:
    """Register the command beside the others."""
    cli.wallet.add_command(import_file)


class _CannotError(click.ClickException):
    """One clear sentence on stderr."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True, file=file)


def _client(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return text.clean(value, low=1, high=200)
    except ValueError as problem:
        raise click.BadParameter(str(problem), context, parameter) from None


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--format", "file_format", type=click.Choice(["csv", "ndjson"]), help="Default: as FILE's name ends.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Tell what would happen, on the books as they are now.")
@click.option("--stop-on-error", is_flag=True, help="End with the first row that is not accepted.")
@click.option("--restart", is_flag=True, help="Try all rows anew, with a new result file.")
@click.option("--result", type=click.Path(path_type=Path), help="Default: FILE.result.csv, or FILE.dry-run.csv.")
@click.option("--client", default="cli", show_default=True, callback=_client, help="Whose references these are.")
@with_appcontext
def import_file(**asked: Any) -> None:
    """Post every row of FILE, and write a result file with a line per row.

    A CSV (in UTF-8; with comma, semicolon or tab) names its columns in the first line: type (topup, bonus or spend),
    walletId, amount, referenceId and, if you like, note, metadata (JSON, like {"quest": 7}), occurredAt and ifVersion
    (the row is refused if the wallet has another version when its turn comes); for transfer and exchange, from and to
    in place of walletId, and for an exchange its rate; for a hold, expiresIn; for capture and release, holdId in place
    of walletId, and final; for a reversal, transactionId in place of walletId, a reason and onShortfall (refuse,
    partial or debt), the amount only for a part; for what freezes, unfreezes or closes a wallet, a reason in place of
    the amount, side and until. A cell with nothing in it is a field that is not there, so a file may mix types. What a
    row captures, releases or reverses must have been made before the import, or more than
    a thousand rows above.
    NDJSON has an object with these fields on each line, as an item of POST /batches has, purchases too. FILE may be -
    for standard input, which needs a --result and cannot go on after a stop.

    Each row is decided on its own, in order. A row that is refused or invalid stands in the result file with its
    reason and does not stop the others. What was posted under a reference is never posted again: it comes back as
    replayed. So a file can be imported as often as you like.

    After a stop, by Ctrl-C or by a crash, the same command goes on after the last row that has a result. --restart
    tries all rows anew, also those that were refused.

    --dry-run tells for every row what would happen, by the same rules: what row 5 takes is missing in row 900. It
    writes nothing to the books.

    The result file has row (as a spreadsheet numbers it: a CSV's first line is row 1), status, code, message,
    transactionId, balanceAfter, version, and what stood in FILE. The status is done, replayed, refused (the books say
    no), invalid (the row is wrong in itself), busy (others held the wallet all the time: try again) or failed (a fault
    of the service). A cell that a spreadsheet would take for a formula begins with '.

    Exit code: 0 when every row is done or replayed, 1 when some are not, 2 when the import could not run or was
    stopped.
    """
    request = _request(**asked)
    # So that the wait for a database that is stopped ends.
    metrics.start()
    try:
        is_complete, tally = _import(request)
    except (ImportFileError, WalletServiceError) as problem:
        raise _CannotError(str(problem)) from None
    except running.CutOffError as problem:
        raise _CannotError(f"{problem} {request.how_to_go_on}") from None
    except KeyboardInterrupt:
        raise _CannotError(f"Stopped. {request.how_to_go_on}") from None
    except DBAPIError as problem:
        raise _CannotError(cli.database_sentence(problem)) from problem
    except OSError as problem:
        if problem.filename is None:  # Not to be opened, but in the middle: the disk is full, say.
            raise _CannotError(f"{request.result}: {problem.strerror}. {request.how_to_go_on}") from problem
        raise _CannotError(f"{problem.filename}: {problem.strerror}.") from problem
    if not is_complete and not (request.stop_on_error and tally.not_accepted):
        raise _CannotError(f"Stopped. {request.how_to_go_on}")
    if tally.not_accepted:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the user asks for, with the defaults filled in."""

    file: Path
    file_format: str
    is_dry_run: bool
    stop_on_error: bool
    restart: bool
    result: Path
    client: str

    @property
    def is_stream(self) -> bool:
        return str(self.file) == "-"

    @property
    def how_to_go_on(self) -> str:
        if self.is_dry_run:
            return "Nothing was posted."
        if self.is_stream:
            return "Standard input cannot go on: send all of it again, what was posted is not posted twice."
        return "The same command goes on after the last row that has a result."


def _request(*, file: Path, file_format: str | None, result: Path | None, **more: Any) -> _Request:
    found = file_format or _FORMATS.get(file.suffix.lower())
    if found is None:
        raise click.UsageError("FILE's name does not tell what it is: say --format csv or --format ndjson.")
    if result is None and str(file) == "-":
        raise click.UsageError("Standard input needs a --result FILE.")
    default = file.with_name(f"{file.name}.{'dry-run' if more['is_dry_run'] else 'result'}.{found}")
    return _Request(file=file, file_format=found, result=result or default, **more)


def _import(request: _Request) -> tuple[bool, result_file.Tally]:
    """Return whether it came to the end of the file, and what came of the rows."""
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_rare_collections())
        preview = _previewed(request, stack)
        file = stack.enter_context(_opened(request))
        identity = None if request.is_stream else source.identify(file)
        record = stack.enter_context(_recorded(request, identity))
        commands = source.Source(file, request.file_format)
        written = stack.enter_context(_results(request, commands, identity))
        record.tally, before = written.tally, written.tally.rows
        progress = stack.enter_context(Progress(identity.lines - bool(commands.columns) if identity else None, before))
        stack.enter_context(_ending_gently(stop, progress.say))
        posting = running.Posting(say=progress.say, stop=stop)

        def tell(rows: int) -> None:
            progress.update(rows)
            record.note()

        post = posting.until_refused if request.stop_on_error else posting.each
        is_complete = running.run(
            commands.rows(after=written.last_row),
            written,
            _reader(request, identity),
            preview.preview if preview else post,
            progress=tell,
            stop=stop,
            stop_on_error=request.stop_on_error,
        )
        record.end(*_ending(is_complete=is_complete, stop=stop))
    _print_summary(request, written.tally, before, progress.seconds)
    return is_complete, written.tally


def _previewed(request: _Request, stack: ExitStack) -> service.Preview | None:
    """Return the dry run's preview. Any run begins with one of nothing, so that a missing database is told at once."""
    if request.is_dry_run:
        preview = stack.enter_context(service.previewing())
        preview.preview([])
        return preview
    with service.previewing() as preview:
        preview.preview([])
    return None


@contextmanager
def _opened(request: _Request) -> Iterator[BinaryIO]:
    if request.is_stream:
        yield sys.stdin.buffer
        return
    with request.file.open("rb") as file:
        result_file.lock(file, f"Another import of {request.file} is running: wait for its end.")
        yield file


@contextmanager
def _results(
    request: _Request, commands: source.Source, identity: source.Identity | None
) -> Iterator[result_file.ResultFile]:
    known = {
        "size": identity.size if identity else None,
        "sha256": identity.sha256 if identity else None,
        "format": request.file_format,
        "client": request.client,
        "dryRun": request.is_dry_run,
    }
    with result_file.open_results(
        request.result,
        commands,
        known,
        may_go_on=not request.is_stream and not request.is_dry_run,
        restart=request.restart or (request.is_dry_run and not request.is_stream),
        retry_last=request.stop_on_error,
    ) as written:
        yield written


def _recorded(request: _Request, identity: source.Identity | None) -> AbstractContextManager[Record]:
    """Have operators told of the import; of a dry run nobody is."""
    if request.is_dry_run:
        return nullcontext(Record(None))
    sha256 = identity.sha256 if identity else None
    return recorded(_name_of(request), sha256, request.client, sentence_of=_sentence_of)


def _sentence_of(problem: Exception) -> str:
    if isinstance(problem, DBAPIError):
        try:
            return cli.database_sentence(problem)
        except DBAPIError:
            return "A fault of the service, see its log."
    if isinstance(problem, OSError):
        return f"{problem.strerror}."
    is_ours = isinstance(problem, ImportFileError | WalletServiceError | running.CutOffError)
    return str(problem) if is_ours else "A fault of the service, see its log."


def _ending(*, is_complete: bool, stop: threading.Event) -> tuple[str, str | None]:
    if is_complete:
        return "completed", None
    return "stopped", "Stopped by a signal." if stop.is_set() else "Ended with the first row that was not accepted."


def _reader(request: _Request, identity: source.Identity | None) -> running.Read:
    """Return what makes commands of records; the transactions tell which file they came from."""
    origin = service.Origin(
        client=request.client,
        actor=f"import {_name_of(request)}",
        request_id=f"import:{identity.sha256[:32]}" if identity else None,
        permit=_PERMIT,
    )
    return lambda found: records.read_commands(found, origin=origin)


def _name_of(request: _Request) -> str:
    name = "standard input" if request.is_stream else request.file.name
    return "".join(char if char.isprintable() else "?" for char in name[:_NAME_MAX])


@contextmanager
def _rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _ending_gently(stop: threading.Event, say: Callable[[str], object]) -> Iterator[None]:
    """Let a signal end the run after the chunk that is on its way; a second one ends it at once."""

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("Ending after these rows; press Ctrl-C again to end at once.")

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_summary(request: _Request, tally: result_file.Tally, before: int, seconds: float) -> None:
    rows = tally.rows - before
    if before:
        click.echo(f"Rows that had a result from an earlier run: {before:,}.")
    click.echo(f"{rows:,} rows in {seconds:.1f} s" + (f", {rows / seconds:,.0f} a second." if seconds > 1 else "."))
    if request.is_dry_run:
        click.echo("Nothing was posted. What would come of the rows:")
    for status, count in tally.statuses.most_common():
        click.echo(f"  {status:<10}{count:>14,}")
    for code, count in tally.codes.most_common():
        click.echo(f"    {code:<30}{count:>14,}")
    click.echo(f"Results: {request.result}")
