"""A bulk file is checked as a whole, and kept if nothing is wrong with it; of another one nothing is kept.

All that can be told before anything is posted is told here: what is wrong in a cell, what was done before, what the
books would refuse. So a run that is kept has no row that is known to fail.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    BulkCampaignOpenError,
    BulkFileKnownError,
    BulkInvalidError,
    BulkNothingLeftError,
    InsufficientBalanceError,
    WalletServiceError,
)
from wallet_app.models import AssetType
from wallet_app.models_bulk import BulkRun
from wallet_app.service import audit, bulk_commands, reasons
from wallet_app.service.audit import Act, By
from wallet_app.service.books import Receipt
from wallet_app.service.bulk_commands import RunOf
from wallet_app.service.bulk_outlook import Sum, keep_outlook, moved_of
from wallet_app.service.bulk_reading import (
    BulkCells,
    BulkDefaults,
    BulkProblem,
    BulkRow,
    Known,
    OwnWallet,
    asked_ids,
    read_row,
)
from wallet_app.service.posting import Outcome
from wallet_app.service.sessions import Session, Visitor, require, require_current

PROBLEMS_MAX = 20
"""How many rows with problems are told at once."""

OPEN_STATES = ("ready", "pending_approval", "running")

_CAMPAIGN = re.compile(r"[a-z0-9][a-z0-9._-]{1,59}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkFile:
    """An uploaded file as it was read. `campaign` scopes its row references."""

    name: str
    sha256: bytes
    campaign: str
    defaults: BulkDefaults
    rows: Sequence[BulkCells]


@dataclass(frozen=True, slots=True)
class BulkProblems:
    """What is wrong with a file: of its first rows that have problems, and how many rows have some at all."""

    problems: Sequence[BulkProblem]
    rows: int


class _Before(NamedTuple):
    """A row reference that was done before, by another run of the campaign."""

    run_id: int
    wallet_id: int
    direction: str
    amount: int
    transaction_id: uuid.UUID


class NewRow(NamedTuple):
    """A row that is to be kept; columns as in the table."""

    row_no: int
    row_ref: str
    wallet_id: int
    direction: str
    amount: int
    reason_code: str
    ticket: str | None
    note: str | None
    reverses: uuid.UUID | None = None
    expected_balance: int | None = None
    expected_error: str | None = None
    status: str = "waiting"
    transaction_id: uuid.UUID | None = None
    expected_moved: int | None = None


def campaign_of(given: str) -> str:
    """Return a campaign's name in small letters, with - for blanks; raise BulkInvalidError if it cannot be one."""
    name = re.sub(r"\s+", "-", given.strip()).lower()
    if not _CAMPAIGN.fullmatch(name):
        raise BulkInvalidError(
            "campaign", "A campaign has 2 to 60 letters (a to z), digits and . _ - and begins with a letter or digit."
        )
    return name


def draft_bulk(session: Session, file: BulkFile, *, visitor: Visitor) -> int | BulkProblems:
    """Check the file, and return the id of the run that was made of it, or its problems.

    Posts nothing. Raises PermissionDeniedError, BulkInvalidError, BulkFileKnownError, BulkCampaignOpenError,
    BulkNothingLeftError or OverloadedError; NotSignedInError if the operator's role changed while it was checked.
    """
    require(session, "bulk:draft", visitor=visitor)
    campaign = campaign_of(file.campaign)
    by = By(actor=session.actor, request_id=visitor.request_id, address=visitor.address)
    try:
        _require_new(file.sha256, campaign)
        found = _checked(session, file, campaign)
        if isinstance(found, BulkProblems):
            _record_failure(by, file, {"problems": found.rows})
            return found
        rows, wallets = found
        return _keep(session, file, campaign, rows, wallets, by)
    except WalletServiceError as refused:
        _record_failure(by, file, {"error": refused.code})
        raise


def _record_failure(by: By, file: BulkFile, more: Mapping[str, Any]) -> None:
    after = {"file": file.name[:100], "sha256": file.sha256.hex(), "rows": len(file.rows), **more}
    audit.record_alone(Act(by=by, action="bulk:draft", outcome="failed", after=after))


# --- check ---


def _checked(
    session: Session, file: BulkFile, campaign: str
) -> BulkProblems | tuple[list[NewRow], Mapping[int, OwnWallet]]:
    known = _look_up(asked_ids(list(file.rows)))
    rows: list[BulkRow] = []
    problems: list[BulkProblem] = []
    for cells in file.rows:
        row, wrong = read_row(cells, file.defaults, known)
        problems.extend(wrong)
        if row is not None:
            rows.append(row)
    before = _done_before(campaign, [row.row_ref for row in rows])
    problems.extend(_twice(rows))
    problems.extend(_changed_since(rows, before))
    if problems:
        return _problems(problems)
    todo = [row for row in rows if row.row_ref not in before]
    if not todo:
        raise BulkNothingLeftError(
            f"{'Its 1 row was' if len(rows) == 1 else f'All {len(rows):,} rows were'} done before, by the campaign "
            f"{campaign}: there is nothing left to do."
        )
    run = RunOf(0, campaign, session.operator_id)
    outcomes = bulk_commands.preview_rows(run, [_new(row) for row in todo])
    expected = dict(zip([row.row_no for row in todo], outcomes, strict=True))
    for row in todo:
        if isinstance(error := expected[row.row_no], Exception):
            column = "amount" if isinstance(error, InsufficientBalanceError) else row.owner_column
            problems.append(BulkProblem(row.row_no, column, bulk_commands.sentence_of(error, row.wallet.asset_scale)))
    if problems:
        return _problems(problems)
    kept = [_to_keep(row, expected.get(row.row_no), before.get(row.row_ref)) for row in rows]
    return kept, {row.wallet.wallet_id: row.wallet for row in rows}


def _problems(problems: list[BulkProblem]) -> BulkProblems:
    """Return the problems of the first rows that have some, in the file's order."""
    numbers = sorted({one.row_no for one in problems})
    shown = set(numbers[:PROBLEMS_MAX])
    return BulkProblems(sorted([one for one in problems if one.row_no in shown], key=_place), len(numbers))


def _place(problem: BulkProblem) -> int:
    return problem.row_no


def _twice(rows: Iterable[BulkRow]) -> list[BulkProblem]:
    first: dict[str, int] = {}
    return [
        BulkProblem(row.row_no, "row_ref", f"Row {first[row.row_ref]} has this row_ref too: each has one of its own.")
        for row in rows
        if first.setdefault(row.row_ref, row.row_no) != row.row_no
    ]


def _changed_since(rows: Iterable[BulkRow], before: Mapping[str, _Before]) -> list[BulkProblem]:
    """Return the rows whose reference was done before for something else."""
    problems = []
    for row in rows:
        done = before.get(row.row_ref)
        if done is not None and done[1:4] != (row.wallet.wallet_id, row.direction, row.amount):
            problems.append(
                BulkProblem(
                    row.row_no,
                    "row_ref",
                    f"{row.row_ref} was done before, by run {done.run_id}, for another wallet or amount (wallet "
                    f"{done.wallet_id}): give this row another row_ref, or leave it out.",
                )
            )
    return problems


def _new(row: BulkRow) -> NewRow:
    return NewRow(
        row.row_no,
        row.row_ref,
        row.wallet.wallet_id,
        row.direction,
        row.amount,
        row.reason_code,
        row.ticket,
        row.note,
    )


def _to_keep(row: BulkRow, expected: Outcome | None, before: _Before | None) -> NewRow:
    if before is not None:
        return _new(row)._replace(status="done_before", transaction_id=before.transaction_id)
    moved = moved_of(expected, row.wallet.wallet_id)
    return _new(row)._replace(expected_balance=balance_of(expected), expected_moved=moved)


def balance_of(outcome: Outcome | None) -> int | None:
    """Return the anchor's balance after what was accepted."""
    return outcome.wallets[0].balance if isinstance(outcome, Receipt) else None


@reads
def _look_up(connection: Connection, asked: tuple[set[int], set[str], set[int]]) -> Known:
    user_ids, external_ids, wallet_ids = (list(one) for one in asked)
    users = connection.execute(_USERS, {"user_ids": user_ids, "external_ids": external_ids}).all()
    found = [row.id for row in users]
    wallets = [
        (OwnWallet(row.id, row.user_id, row.code, row.scale))
        for row in connection.execute(_WALLETS, {"user_ids": found, "wallet_ids": wallet_ids})
    ]
    return Known(
        users={row.external_id: row.id for row in users if row.external_id is not None},
        user_ids=frozenset(found),
        wallets={one.wallet_id: one for one in wallets},
        of_users={(one.user_id, one.asset_code): one for one in wallets},
        assets=frozenset(connection.scalars(select(AssetType.code))),
        reasons={one.code: one.settings for one in reasons.list_reasons()},
    )


@reads
def _done_before(connection: Connection, campaign: str, row_refs: Sequence[str]) -> dict[str, _Before]:
    rows = connection.execute(_DONE_BEFORE, {"campaign": campaign, "row_refs": list(row_refs)})
    return {row.row_ref: _Before._make(row[1:]) for row in rows}


# --- keep ---


@reads
def _require_new(connection: Connection, sha256: bytes, campaign: str) -> None:
    """Raise for a file, or a campaign, that has a run on its way, and for a file that was run."""
    is_open = BulkRun.state.in_(OPEN_STATES)
    same = connection.execute(
        select(BulkRun.id, BulkRun.campaign, BulkRun.state, BulkRun.done)
        .where(BulkRun.file_sha256 == sha256)
        .order_by(BulkRun.id)
    ).all()
    for row in same:
        if row.state in (*OPEN_STATES, "completed"):
            raise BulkFileKnownError(
                run_id=row.id,
                detail=f"This very file is run {row.id}, which is {row.state.replace('_', ' ')}. "
                "A file is run once: nothing was done now.",
            )
        if row.done and row.campaign != campaign:
            raise BulkFileKnownError(
                run_id=row.id,
                detail=f"This very file was run {row.id} of the campaign {row.campaign}, and {row.done:,} of its rows "
                f"{'was' if row.done == 1 else 'were'} done. Upload it under that campaign: then only the others are "
                "done.",
            )
    found = connection.scalar(select(BulkRun.id).where(BulkRun.campaign == campaign, is_open))
    if found is not None:
        raise BulkCampaignOpenError(run_id=found, campaign=campaign)


def _keep(
    session: Session,
    file: BulkFile,
    campaign: str,
    rows: Sequence[NewRow],
    wallets: Mapping[int, OwnWallet],
    by: By,
) -> int:
    todo = [row for row in rows if row.status == "waiting"]
    sums = sums_of([(wallets[row.wallet_id].asset_code, wallets[row.wallet_id].asset_scale, row) for row in todo])
    values = {
        "kind": "adjustment",
        "campaign": campaign,
        "file_name": file.name,
        "file_sha256": file.sha256,
        "maker_id": session.operator_id,
    }
    told = {"campaign": campaign, "file": file.name[:100], "sha256": file.sha256.hex()}
    try:
        with unit_of_work() as connection:
            require_current(connection, session)
            return insert_run(connection, values, rows, sums, by=by, told=told)
    except IntegrityError:
        # Somebody was faster: now it is there to be told of.
        _require_new(file.sha256, campaign)
        raise


def insert_run(
    connection: Connection,
    values: Mapping[str, Any],
    rows: Sequence[NewRow],
    sums: Sequence[Sum],
    *,
    by: By,
    told: Mapping[str, Any],
) -> int:
    """Keep a run that is ready, with its rows and its record in the audit log, and return its id."""
    todo = [row for row in rows if row.status == "waiting"]
    run_id: int = connection.execute(
        insert(BulkRun)
        .values(
            **values,
            row_count=len(rows),
            rows_to_do=len(todo),
            sums=[one._asdict() for one in sums],
            digest=bulk_commands.digest_of(rows),
            state="ready",
            checked_at=dt.datetime.now(dt.UTC),
        )
        .returning(BulkRun.id)
    ).scalar_one()
    json = orjson.dumps([row._asdict() for row in rows]).decode()
    connection.execute(_INSERT_ROWS, {"run_id": run_id, "campaign": values["campaign"], "rows": json})
    keep_outlook(connection, run_id)
    after = {**told, "rows": len(rows), "rowsToDo": len(todo), "sums": [one._asdict() for one in sums]}
    audit.record(connection, Act(by=by, action="bulk:draft", subject=f"bulk:{run_id}", after=after))
    return run_id


def sums_of(rows: Iterable[tuple[str, int, NewRow]]) -> list[Sum]:
    """Return what the rows (each with its asset's code and scale) move, by asset and direction."""
    counts: Counter[tuple[str, int, str]] = Counter()
    amounts: Counter[tuple[str, int, str]] = Counter()
    for code, scale, row in rows:
        counts[code, scale, row.direction] += 1
        amounts[code, scale, row.direction] += row.amount
    return [Sum(*key, counts[key], amounts[key]) for key in sorted(counts)]


_USERS = text("""
SELECT id, external_id FROM users WHERE user_type = 'USER' AND id = ANY (CAST(:user_ids AS bigint[]))
 UNION
SELECT id, external_id FROM users WHERE user_type = 'USER' AND external_id = ANY (CAST(:external_ids AS text[]))
""")

_WALLETS = text("""
SELECT wallets.id, wallets.user_id, asset_types.code, asset_types.scale
  FROM (SELECT id, user_id, asset_type_id FROM wallets WHERE user_id = ANY (CAST(:user_ids AS bigint[]))
         UNION
        SELECT id, user_id, asset_type_id FROM wallets WHERE id = ANY (CAST(:wallet_ids AS bigint[]))) AS wallets
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  JOIN users ON users.id = wallets.user_id AND users.user_type = 'USER'
""")

_DONE_BEFORE = text("""
SELECT row_ref, run_id, wallet_id, direction, amount, transaction_id
  FROM bulk_rows
 WHERE campaign = :campaign AND status = 'done' AND reverses IS NULL
   AND row_ref = ANY (CAST(:row_refs AS text[]))
""")

_INSERT_ROWS = text("""
INSERT INTO bulk_rows (run_id, row_no, campaign, row_ref, wallet_id, direction, amount, reason_code, ticket, note,
                       reverses, expected_balance, expected_error, status, transaction_id, expected_moved)
SELECT :run_id, row_no, :campaign, row_ref, wallet_id, direction, amount, reason_code, ticket, note, reverses,
       expected_balance, expected_error, status, transaction_id, expected_moved
  FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS asked (row_no integer, row_ref text, wallet_id bigint, direction text, amount bigint, reason_code text,
              ticket text, note text, reverses uuid, expected_balance bigint, expected_error text, status text,
              transaction_id uuid, expected_moved bigint)
""")
