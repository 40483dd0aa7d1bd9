"""What the rows of a bulk run ask of the ledger, and what they would do: the same commands for preview and posting.

The reference of an adjustment has campaign and row reference in it, so whatever is run again posts a row once.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import orjson

from wallet_app.errors import InsufficientBalanceError, OverloadedError, WalletServiceError
from wallet_app.money import format_amount
from wallet_app.service.adjustments import Adjust, Direction
from wallet_app.service.commands import Command, Origin, ReverseTransaction
from wallet_app.service.execution import REQUEST_SECONDS_MAX
from wallet_app.service.posting import Outcome
from wallet_app.service.preview import previewing
from wallet_app.service.sessions import CONSOLE, actor_of

T = TypeVar("T")

CHUNK_MAX = 256
"""How many rows are posted in one unit of work; their wallets are locked that long."""

_PREVIEW_CHUNK = 500
_turns = threading.BoundedSemaphore(1)


class RunOf(NamedTuple):
    """What the commands need to know of the run."""

    run_id: int
    campaign: str
    maker_id: int
    on_shortfall: str | None = None
    reason: str | None = None


class AskedRow(Protocol):
    """What a row asks for, whether it comes from a file or from the table."""

    @property
    def row_no(self) -> int: ...
    @property
    def row_ref(self) -> str: ...
    @property
    def wallet_id(self) -> int: ...
    @property
    def direction(self) -> str: ...
    @property
    def amount(self) -> int: ...
    @property
    def reason_code(self) -> str: ...
    @property
    def ticket(self) -> str | None: ...
    @property
    def note(self) -> str | None: ...
    @property
    def reverses(self) -> uuid.UUID | None: ...


def command_of(run: RunOf, row: AskedRow) -> Command:
    """Return the row as a command. An approver has not looked at each wallet: so what is frozen stays frozen."""
    origin = Origin(client=CONSOLE, actor=actor_of(run.maker_id), request_id=f"bulk:{run.run_id}")
    if row.reverses is not None:
        return ReverseTransaction(
            wallet_id=row.wallet_id,
            reference=f"sys:undo:{run.run_id}:{row.row_no}",
            origin=origin,
            transaction_id=row.reverses,
            reason=run.reason or "",
            on_shortfall=run.on_shortfall or "refuse",
        )
    direction: Direction = "credit" if row.direction == "credit" else "debit"
    return Adjust(
        wallet_id=row.wallet_id,
        reference=f"sys:bulk:{run.campaign}:{row.row_ref}",
        origin=origin,
        direction=direction,
        amount=row.amount,
        reason_code=row.reason_code,
        ticket=row.ticket,
        note=row.note,
    )


def preview_rows(run: RunOf, rows: Iterable[AskedRow]) -> list[Outcome]:
    """Return what would come of each row, one after the other, by the rules that post them; nothing is written.

    Takes a connection of the reads for as long as it lasts, so one goes on at a time in a process. Raises
    OverloadedError if its turn does not come.
    """
    if not _turns.acquire(timeout=REQUEST_SECONDS_MAX):
        raise OverloadedError("Another file is being checked. Try again in a moment.")
    try:
        with previewing() as preview:
            return [
                outcome
                for chunk in chunks((command_of(run, row) for row in rows), _PREVIEW_CHUNK)
                for outcome in preview.preview(chunk)
            ]
    finally:
        _turns.release()


def digest_of(rows: Iterable[AskedRow]) -> bytes:
    """Return the hash of what the rows ask for, in order; without notes, because these can be erased."""
    digest = sha256()
    for row in rows:
        asked = [
            row.row_no,
            row.row_ref,
            row.wallet_id,
            row.direction,
            row.amount,
            row.reason_code,
            row.ticket,
            None if row.reverses is None else str(row.reverses),
        ]
        digest.update(orjson.dumps(asked) + b"\n")
    return digest.digest()


def sentence_of(error: Exception, scale: int) -> str:
    """Return what to tell of a row that is refused, with amounts as the asset shows them."""
    if isinstance(error, InsufficientBalanceError) and scale:
        has, needed = (format_amount(int(error.details[name]), scale) for name in ("balance", "required"))
        return f"Wallet {error.details['wallet_id']} has {has}, {needed} needed."
    if isinstance(error, WalletServiceError):
        return error.detail
    return "This could not be posted: a fault of the service, see its log."


def chunks(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items, so many at a time."""
    found = iter(items)
    while chunk := list(islice(found, size)):
        yield chunk
