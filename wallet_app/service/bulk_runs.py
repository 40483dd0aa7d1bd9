"""What operators do with a bulk run: check it again, ask for approval, discard it, stop it, and begin to undo it.

How a run stands changes under its row's lock, and once: whoever clicks twice, or comes too late, is told how it stands.
What is written is written under the operator's lock too: who was disabled or got another role meanwhile is signed out,
and so what their page was about to do is not done (NotSignedInError).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, select, text, update
from sqlalchemy.exc import IntegrityError

from wallet_app import text as texts
from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    BulkCampaignOpenError,
    BulkDriftedError,
    BulkInvalidError,
    BulkNothingLeftError,
    BulkRunNotFoundError,
    BulkStateError,
    OperationInvalidError,
    ReasonRefusedError,
)
from wallet_app.models_bulk import BulkRun
from wallet_app.service import audit, bulk_commands, bulk_drafts, bulk_rules, locks, reasons
from wallet_app.service.audit import Act, By
from wallet_app.service.bulk_commands import RunOf
from wallet_app.service.bulk_drafts import OPEN_STATES, NewRow
from wallet_app.service.bulk_outlook import keep_outlook, moved_of
from wallet_app.service.commands import SHORTFALLS
from wallet_app.service.operations import REASON_MAX, Operation, cleaned
from wallet_app.service.posting import Outcome
from wallet_app.service.reasons import ReasonSettings
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session, Visitor, require, require_current

UNDOABLE = ("completed", "completed_with_errors", "stopped")
"""How a run must stand to be undone: what it did is known then."""


class Checked(NamedTuple):
    """How many rows of a run would be refused now, and how many of these their reason code does not allow."""

    refused: int
    not_allowed: int


def check_bulk(session: Session, run_id: int, *, visitor: Visitor) -> Checked:
    """Preview the run anew, by the reason codes and the books as they are now, while nobody has approved it.

    Posts nothing. Raises PermissionDeniedError, BulkRunNotFoundError, BulkStateError or OverloadedError.
    """
    require(session, "bulk:watch", visitor=visitor)
    run = _get(run_id)
    if run.state not in ("ready", "pending_approval"):
        raise BulkStateError(run_id=run_id, state=run.state, wanted="checked")
    rows = _waiting(run_id)
    denied = bulk_rules.refused_rows(rows, _reasons())
    # What is not allowed is not posted: so no later row stands on it.
    allowed = [row for row in rows if row.row_no not in denied]
    outcomes: dict[int, Outcome] = {**denied}
    previewed = bulk_commands.preview_rows(_about(run), allowed)
    outcomes.update(zip([row.row_no for row in allowed], previewed, strict=True))
    expected = [
        {
            "row_no": row.row_no,
            "balance": bulk_drafts.balance_of(outcome),
            "moved": moved_of(outcome, row.wallet_id),
            "error": bulk_commands.sentence_of(outcome, row.scale) if isinstance(outcome, Exception) else None,
        }
        for row in rows
        for outcome in (outcomes[row.row_no],)
    ]
    refused = sum(one["error"] is not None for one in expected)
    with unit_of_work() as connection:
        require_current(connection, session)
        state = locks.lock_bulk_run(connection, run_id)
        if state in ("ready", "pending_approval"):
            connection.execute(_EXPECT, {"run_id": run_id, "expected": orjson.dumps(expected).decode()})
            keep_outlook(connection, run_id)
            audit.record(connection, act(session, run_id, "bulk:check", visitor, after={"refused": refused}))
    return Checked(refused, len(denied))


def discard_bulk(session: Session, run_id: int, *, visitor: Visitor) -> None:
    """Let a run that nobody was asked to approve be over; a repetition does nothing.

    Raises PermissionDeniedError, BulkRunNotFoundError, BulkStateError, OutcomeUnknownError.
    """
    require(session, "bulk:draft", visitor=visitor)
    _get(run_id)
    _change(session, run_id, {"ready": "withdrawn"}, action="bulk:discard", wanted="discarded", visitor=visitor)


def stop_bulk(session: Session, run_id: int, *, visitor: Visitor) -> None:
    """Have a run stopped after the rows that are being posted at this moment; a repetition does nothing.

    What was posted stays posted. Raises PermissionDeniedError, BulkRunNotFoundError, BulkStateError,
    OutcomeUnknownError.
    """
    require(session, "bulk:watch", visitor=visitor)
    _get(run_id)
    repeatable(partial(_ask_to_stop, session=session, run_id=run_id, visitor=visitor))


def draft_undo(
    session: Session,
    run_id: int,
    *,
    reason_code: str,
    reason: str,
    ticket: str | None,
    on_shortfall: str,
    visitor: Visitor,
) -> int:
    """Make a run that reverses what the run did, with its preview; return its id.

    Rows that cannot be reversed are kept, and say why: they are tried all the same, because that may change. What is
    spent already is, by `on_shortfall`, left (refuse), taken as far as there is (partial), or owed (debt).

    Raises PermissionDeniedError, BulkInvalidError, BulkRunNotFoundError, BulkStateError, BulkCampaignOpenError,
    BulkNothingLeftError, OverloadedError.
    """
    require(session, "bulk:draft", visitor=visitor)
    reason, ticket = _said(reason_code, reason, ticket, on_shortfall)
    run = _get(run_id)
    if run.kind != "adjustment" or run.state not in UNDOABLE:
        raise BulkStateError(run_id=run_id, state=run.state, wanted="undone")
    done = _done(run_id)
    if not done:
        raise BulkNothingLeftError(f"There is nothing left to undo of run {run_id}: all that it did is undone already.")
    rows = [
        NewRow(
            row.row_no,
            row.row_ref,
            row.wallet_id,
            "debit" if row.direction == "credit" else "credit",
            row.amount,
            reason_code,
            ticket,
            None,
            reverses=row.transaction_id,
        )
        for row in done
    ]
    about = RunOf(0, run.campaign, session.operator_id, on_shortfall, reason)
    outcomes = bulk_commands.preview_rows(about, rows)
    kept = [
        new._replace(
            expected_balance=bulk_drafts.balance_of(outcome),
            expected_moved=moved_of(outcome, row.wallet_id),
            expected_error=bulk_commands.sentence_of(outcome, row.scale) if isinstance(outcome, Exception) else None,
        )
        for new, row, outcome in zip(rows, done, outcomes, strict=True)
    ]
    values = {
        "kind": "undo",
        "campaign": run.campaign,
        "undoes": run_id,
        "on_shortfall": on_shortfall,
        "reason": reason,
        "ticket": ticket,
        "maker_id": session.operator_id,
    }
    sums = bulk_drafts.sums_of([(row.code, row.scale, new) for row, new in zip(done, kept, strict=True)])
    by = By(actor=session.actor, reason=reason, ticket=ticket, request_id=visitor.request_id, address=visitor.address)
    try:
        with unit_of_work() as connection:
            require_current(connection, session)
            told = {"undoes": run_id, "onShortfall": on_shortfall}
            return bulk_drafts.insert_run(connection, values, kept, sums, by=by, told=told)
    except IntegrityError:
        found = _open_of_campaign(run.campaign)
        if found is None:
            raise
        raise BulkCampaignOpenError(run_id=found, campaign=run.campaign) from None


def _said(reason_code: str, reason: str, ticket: str | None, on_shortfall: str) -> tuple[str, str | None]:
    """Return what is said of an undo, trimmed; raise BulkInvalidError for what is wrong with it."""
    found = _reasons().get(reason_code)
    if found is None or not found.is_active:
        raise BulkInvalidError("reason_code", "Choose a reason code that is in use.")
    if on_shortfall not in SHORTFALLS:
        raise BulkInvalidError("on_shortfall", "Choose what is to be if there is too little left.")
    try:
        said = texts.clean(reason, low=1, high=REASON_MAX)
    except ValueError as wrong:
        empty = not reason.strip()
        raise BulkInvalidError("reason", "Say why." if empty else f"The reason {wrong}.") from None
    try:
        asked = cleaned(Operation(ticket=ticket or None)).ticket
    except OperationInvalidError as wrong:
        raise BulkInvalidError("ticket", wrong.detail) from None
    if found.ticket_required and asked is None:
        raise BulkInvalidError("ticket", f"{reason_code} needs a ticket.")
    return said, asked


def require_as_checked(run_id: int, checked: Checked, *, is_undo: bool) -> None:
    """Raise BulkDriftedError for rows of a file that would be refused now; of an undo the books may refuse some.

    Raises ReasonRefusedError for an undo whose reason code does not allow it any more.
    """
    if is_undo and (refused := not_allowed(run_id, checked)) is not None:
        raise refused
    if checked.refused and not is_undo:
        raise BulkDriftedError(run_id=run_id, refused=checked.refused)


def not_allowed(run_id: int, checked: Checked) -> ReasonRefusedError | None:
    """Return what keeps the run from being approved: rows that their reason code, as it is now, does not allow."""
    if not checked.not_allowed:
        return None
    rows = "1 row" if checked.not_allowed == 1 else f"{checked.not_allowed:,} rows"
    return ReasonRefusedError(
        "reason_code",
        f"The reason codes, as they are now, do not allow {rows} of run {run_id}: look at them. Nothing was done. "
        "End this run, and make another that they allow.",
    )


def act(
    session: Session,
    run_id: int,
    action: str,
    visitor: Visitor,
    *,
    after: Mapping[str, Any] | None = None,
    outcome: audit.Outcome = "done",
) -> Act:
    """Return the record of what an operator did with the run."""
    by = By(actor=session.actor, request_id=visitor.request_id, address=visitor.address)
    return Act(by=by, action=action, subject=f"bulk:{run_id}", after=after, outcome=outcome)


# --- within a unit of work ---


def _change(
    session: Session, run_id: int, ways: Mapping[str, str], *, action: str, wanted: str, visitor: Visitor
) -> None:
    """Let the run stand as `ways` says for how it stands now; where it stands so already, nothing is done."""

    def work(connection: Connection) -> str | None:
        require_current(connection, session)
        state = locks.lock_bulk_run(connection, run_id)
        if state in ways.values():
            return None
        is_possible = state in ways
        if is_possible:
            over = {} if ways[state] in OPEN_STATES else {"ended_at": text("clock_timestamp()")}
            connection.execute(update(BulkRun).where(BulkRun.id == run_id).values(state=ways[state], **over))
        outcome: audit.Outcome = "done" if is_possible else "failed"
        audit.record(connection, act(session, run_id, action, visitor, outcome=outcome))
        return None if is_possible else state

    if (found := repeatable(work)) is not None:
        raise BulkStateError(run_id=run_id, state=found, wanted=wanted)


def _ask_to_stop(connection: Connection, *, session: Session, run_id: int, visitor: Visitor) -> None:
    """Note that the run is to stop: the worker ends it, because it knows what is on its way."""
    require_current(connection, session)
    state = locks.lock_bulk_run(connection, run_id)
    if state == "stopped":
        return
    if state != "running":
        raise BulkStateError(run_id=run_id, state=state, wanted="stopped")
    changed = connection.execute(
        update(BulkRun)
        .where(BulkRun.id == run_id, BulkRun.stop_asked_at.is_(None))
        .values(stop_asked_at=text("clock_timestamp()"))
    ).rowcount
    if changed:
        audit.record(connection, act(session, run_id, "bulk:stop", visitor))


# --- reads ---


@reads
def _get(connection: Connection, run_id: int) -> Row[Any]:
    row = connection.execute(text("SELECT * FROM bulk_runs WHERE id = :id"), {"id": run_id}).first()
    if row is None:
        raise BulkRunNotFoundError(run_id)
    return row


@reads
def _reasons(connection: Connection) -> dict[str, ReasonSettings]:
    return reasons.settings_by_code(connection)


@reads
def _waiting(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    return connection.execute(_WAITING, {"run_id": run_id}).all()


@reads
def _done(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    return connection.execute(_DONE, {"run_id": run_id}).all()


@reads
def _open_of_campaign(connection: Connection, campaign: str) -> int | None:
    found: int | None = connection.scalar(
        select(BulkRun.id).where(BulkRun.campaign == campaign, BulkRun.state.in_(OPEN_STATES))
    )
    return found


def _about(run: Row[Any]) -> RunOf:
    return RunOf(run.id, run.campaign, run.maker_id, run.on_shortfall, run.reason)


_WAITING = text("""
SELECT bulk_rows.*, asset_types.scale, asset_types.code AS asset_code
  FROM bulk_rows
  JOIN wallets ON wallets.id = bulk_rows.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
 WHERE run_id = :run_id AND bulk_rows.status = 'waiting'
 ORDER BY row_no
""")

# Of each row what is not reversed yet: an adjustment has one entry.
_DONE = text("""
SELECT done.row_no, done.row_ref, done.wallet_id, done.direction, done.transaction_id,
       done.amount - coalesce(undone.reversed + undone.owed, 0) AS amount, asset_types.code, asset_types.scale
  FROM bulk_rows AS done
  JOIN wallets ON wallets.id = done.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN LATERAL (
       SELECT seq FROM transactions
        WHERE wallet_id = done.wallet_id AND transaction_id = done.transaction_id
          AND reference_id = concat('sys:bulk:', done.campaign, ':', done.row_ref)
       ) AS made ON true
  LEFT JOIN reversed_entries AS undone ON undone.wallet_id = done.wallet_id AND undone.seq = made.seq
 WHERE done.run_id = :run_id AND done.status = 'done'
   AND done.amount > coalesce(undone.reversed + undone.owed, 0)
 ORDER BY done.row_no
""")

_EXPECT = text("""
UPDATE bulk_rows
   SET expected_balance = expected.balance, expected_moved = expected.moved, expected_error = expected.error
  FROM jsonb_to_recordset(CAST(:expected AS jsonb))
    AS expected (row_no integer, balance bigint, moved bigint, error text)
 WHERE bulk_rows.run_id = :run_id AND bulk_rows.row_no = expected.row_no
""")
