"""Four eyes on a bulk run: its maker asks, another operator approves, and from then on the worker posts its rows.

A run is no command of the kernel by itself: its approval is one unit of work that lets it begin, and its rows are
commands, each decided when its turn comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, text, update

from wallet_app.errors import (
    BulkAlteredError,
    BulkStateError,
    DriftedError,
    SelfApprovalError,
    WalletServiceError,
)
from wallet_app.models_bulk import BulkRun
from wallet_app.service import approvals, audit, bulk_commands, bulk_outlook, bulk_runs, bulk_views, locks, sessions
from wallet_app.service.approvals import Asking, RequestView
from wallet_app.service.audit import Act, By
from wallet_app.service.bulk_views import BulkRunView
from wallet_app.service.four_eyes import lock_acting, maker_refused
from wallet_app.service.operations import BulkOperation, RunOperation, UndoOperation, payload_of
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session, Visitor, require


def ask_bulk(session: Session, run_id: int, *, visitor: Visitor) -> int:
    """Ask others to approve the run, and return the request's id; a repetition returns the same.

    It is checked anew first. Locks the operator and the run. Raises PermissionDeniedError, BulkRunNotFoundError,
    BulkStateError, BulkDriftedError, ReasonRefusedError, OverloadedError, OutcomeUnknownError.
    """
    require(session, "bulk:draft", visitor=visitor)
    run = bulk_views.get_bulk_run(run_id)
    if run.state == "ready":
        checked = bulk_runs.check_bulk(session, run_id, visitor=visitor)
        bulk_runs.require_as_checked(run_id, checked, is_undo=run.undoes is not None)
    return repeatable(partial(_ask, session=session, run=run, visitor=visitor))


def approve_bulk(session: Session, run_id: int, *, seen: str, comment: str, visitor: Visitor) -> None:
    """Approve another operator's run: its rows are posted from now on. A repetition does nothing.

    `seen` is the run's `sight` that the approver was shown; it is checked anew, and must still be that. What the books
    would refuse may be approved once it was shown; what the reason codes do not allow may not.

    Locks both operators, the request and the run. Raises PermissionDeniedError, ProofNeededError, BulkRunNotFoundError,
    BulkStateError, SelfApprovalError, RequestDecidedError, MakerDisabledError, MakerRoleError, ReasonRefusedError,
    DriftedError, BulkAlteredError, OverloadedError, OutcomeUnknownError.
    """
    sessions.require(session, "approvals:decide", visitor=visitor, fresh=True)
    said = approvals.cleaned_comment(comment, is_required=False)
    run = bulk_views.get_bulk_run(run_id)
    if run.request_id is None:
        raise BulkStateError(run_id=run_id, state=run.state, wanted="approved")
    request = approvals.get_request_view(run.request_id)
    not_allowed = None
    if request.is_pending and run.maker_id != session.operator_id:
        not_allowed = bulk_runs.not_allowed(run_id, bulk_runs.check_bulk(session, run_id, visitor=visitor))
    work = partial(
        _approve,
        session=session,
        run=run,
        request=request,
        not_allowed=not_allowed,
        seen=seen,
        comment=said,
        visitor=visitor,
    )
    if (refused := repeatable(work)) is not None:
        raise refused


def _ask(connection: Connection, *, session: Session, run: BulkRunView, visitor: Visitor) -> int:
    lock_acting(connection, session)
    state = locks.lock_bulk_run(connection, run.run_id)
    if state == "pending_approval":
        before: int = connection.scalar(text("SELECT request_id FROM bulk_runs WHERE id = :id"), {"id": run.run_id})
        return before
    if state != "ready":
        raise BulkStateError(run_id=run.run_id, state=state, wanted="asked for")
    operation = _operation(run)
    asking = Asking(
        kind=operation.kind,
        wallet_id=None,
        form_key=f"bulk-run-{run.run_id:08d}",
        subject=f"bulk:{run.run_id}",
        payload={
            "operation": payload_of(operation),
            "command": None,
            "maker": session.operator_id,
            "form": f"bulk-run-{run.run_id:08d}",
            "noteHash": None,
        },
        ticket=run.ticket,
        note=None,
        note_salt=None,
        demands=[operation.always_asks or ""],
        preview=[],
    )
    # Who asks is the request's maker, and the ledger names the run's: so only that one can ask.
    if session.operator_id != run.maker_id:
        raise BulkStateError(run_id=run.run_id, state=f"{run.maker_name}'s", wanted="asked for by you")
    request_id = approvals.insert_request(connection, asking, maker_id=session.operator_id)
    connection.execute(
        update(BulkRun).where(BulkRun.id == run.run_id).values(state="pending_approval", request_id=request_id)
    )
    bulk_outlook.note_asked(connection, run.run_id)
    after = {"requestId": request_id, "payloadHash": approvals.payload_hash(asking.payload).hex()}
    audit.record(connection, bulk_runs.act(session, run.run_id, "bulk:ask", visitor, after=after))
    return request_id


def _operation(run: BulkRunView) -> RunOperation:
    common: dict[str, Any] = {
        "run_id": run.run_id,
        "campaign": run.campaign,
        "rows": run.rows_to_do,
        "sums": [one._asdict() for one in run.sums],
        "digest": run.digest,
        "ticket": run.ticket,
    }
    if run.undoes is None:
        return BulkOperation(**common)
    return UndoOperation(
        **common, undoes=run.undoes, reason=run.reason or "", on_shortfall=run.on_shortfall or "refuse"
    )


def _approve(
    connection: Connection,
    *,
    session: Session,
    run: BulkRunView,
    request: RequestView,
    not_allowed: WalletServiceError | None,
    seen: str,
    comment: str | None,
    visitor: Visitor,
) -> WalletServiceError | None:
    """Decide, or return why not; that is recorded as well."""
    maker = lock_acting(connection, session, beside=request.maker_id)
    by = By(actor=session.actor, reason=comment, request_id=visitor.request_id, address=visitor.address)
    subject = f"request:{request.request_id}"

    def refuse(error: WalletServiceError, outcome: audit.Outcome = "failed") -> WalletServiceError:
        after = {"problem": error.code, "run": run.run_id}
        audit.record(connection, Act(by=by, action="approval:approve", subject=subject, after=after, outcome=outcome))
        return error

    if request.maker_id == session.operator_id:
        return refuse(SelfApprovalError(request.request_id), "denied")
    locked = locks.lock_request(connection, request.request_id)
    if locked.status == "approved" and locked.checker_id == session.operator_id:
        return None
    if (decided := approvals.require_undecided(connection, request.request_id, locked)) is not None:
        return refuse(decided)
    if (gone := maker_refused(request, is_disabled=maker.is_disabled, role=maker.role)) is not None:
        return refuse(gone)
    locks.lock_bulk_run(connection, run.run_id)
    now = bulk_views.find_run(connection, run.run_id)
    if not _is_unaltered(connection, now, request):
        return refuse(BulkAlteredError(run.run_id))
    if not_allowed is not None:
        return refuse(not_allowed)
    if now.sight != seen:
        return refuse(DriftedError(request.request_id))
    approvals.decide(connection, request.request_id, "approved", checker_id=session.operator_id, comment=comment)
    after = {"operation": payload_of(request.operation), "payloadHash": request.payload_hash}
    audit.record(connection, Act(by=by, action="approval:approve", subject=subject, after=after))
    return None


def _is_unaltered(connection: Connection, run: BulkRunView, request: RequestView) -> bool:
    """Tell whether request and run are what was asked for, and the rows those of the run."""
    rows: Sequence[Any] = connection.execute(_ROWS, {"run_id": run.run_id}).all()
    digest = bulk_commands.digest_of(rows).hex()
    return (
        approvals.payload_hash(request.payload).hex() == request.payload_hash
        and request.payload["operation"] == payload_of(_operation(run))
        and request.payload["maker"] == request.maker_id == run.maker_id
        and digest == run.digest
    )


_ROWS = text("SELECT * FROM bulk_rows WHERE run_id = :run_id ORDER BY row_no")
