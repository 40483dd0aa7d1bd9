"""Four eyes: an operator's operation is posted at once, or becomes a request that another operator decides on.

The only way by which operators move money. In one unit of work the operator is locked, then the request, then the
wallets; the rules decide, what they decided is weighed under these locks, and only then it is written, with what
belongs to it: the request's new status, what counts for the day's totals, and the audit record. What demands a second
person is taken back before it is written, and asked for instead.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from wallet_app.db import db, reads
from wallet_app.errors import (
    DriftedError,
    MakerDisabledError,
    MakerRoleError,
    NotSignedInError,
    OperationInvalidError,
    PermissionDeniedError,
    ReasonNotFoundError,
    ReasonRefusedError,
    ReferenceMismatchError,
    RequestAlteredError,
    RequestPendingError,
    SelfApprovalError,
    StoppedError,
    WalletNotActiveError,
    WalletServiceError,
)
from wallet_app.money import format_amount
from wallet_app.service import approvals, audit, locks, posting, reasons, sessions, weighing
from wallet_app.service.approvals import Asking, RequestView
from wallet_app.service.attempts import Work, post_with_retries
from wallet_app.service.audit import Act, By
from wallet_app.service.books import Receipt
from wallet_app.service.commands import SYSTEM_REFERENCE, Command, Origin
from wallet_app.service.execution import REQUEST_SECONDS_MAX
from wallet_app.service.locks import LockedOperator
from wallet_app.service.operations import MoneyOperation, Operation, RunOperation, cleaned, payload_of, subject_of
from wallet_app.service.permissions import ROLES
from wallet_app.service.places import Place, command_of, find_place, may_pass_freezes
from wallet_app.service.posting import Deferred, Outcome
from wallet_app.service.preview import Preview, previewing
from wallet_app.service.sessions import CONSOLE, Session, Visitor, actor_of
from wallet_app.service.weighing import Effect, Looks, Moved, Weighed

_FORM_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class Posted:
    """It was done. `is_replay` tells that this form, or this approval, had done it before."""

    receipt: Receipt
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """It was asked for. `is_replay` tells that this form had asked for it before."""

    request: RequestView
    is_replay: bool


@dataclass(frozen=True, slots=True)
class RequestPage:
    """A request with what it would do now, None when it is decided; and what has changed since it was asked for.

    `why_not` says why this operator cannot approve it, None if they can; `may_withdraw` is for who asked.
    """

    request: RequestView
    weighed: Weighed | None
    drift: Sequence[str]
    why_not: str | None
    may_withdraw: bool


def weigh(session: Session, operation: Operation) -> Weighed:
    """Return what the operation would do now, and whether this operator may do it alone; nothing is written.

    A refusal by the books or by the reason code is the answer's `problem`. Raises OperationInvalidError, and a
    NotFoundError for what the operation names and is not there.
    """
    operation = cleaned(operation)
    place = find_place(operation)
    with previewing(is_long=False) as preview:
        return _weigh(preview, operation, place, operator_id=session.operator_id, role=session.role)


def carry_out(session: Session, operation: Operation, *, form_key: str, visitor: Visitor) -> Posted | Asked:
    """Do it, if this operator may do it alone now; else ask for it. The same form does it once, however often it comes.

    Locks the operator, and the operation's wallets. Raises PermissionDeniedError, OperationInvalidError,
    ReasonRefusedError, RequestPendingError, ReferenceMismatchError for a form that did something else, whatever the
    books decline with, and an UnavailableError; each refusal is recorded.
    """
    _require_may_ask(session, operation, visitor)
    if not _FORM_KEY.fullmatch(form_key):
        raise OperationInvalidError("form_key", "This form is damaged: open it again.")
    operation = cleaned(operation)
    doing = _Doing(session, operation, find_place(operation), form_key, visitor)
    return doing.run()


def get_request(session: Session, request_id: int, *, visitor: Visitor) -> RequestPage:
    """Return the request as this operator sees it, with a fresh preview while it waits.

    Raises RequestNotFoundError; PermissionDeniedError for another's, in a role that does not see requests.
    """
    request = approvals.get_request_view(request_id)
    may_withdraw = request.maker_id == session.operator_id
    if not may_withdraw:
        sessions.require(session, "approvals:read", visitor=visitor)
    if not request.is_pending:
        return RequestPage(request, None, (), None, may_withdraw=False)
    why_not = _why_not(session, request)
    if isinstance(request.operation, RunOperation):
        # What a bulk run would do is shown with the run, where it is decided on.
        return RequestPage(request, None, (), why_not, may_withdraw)
    with previewing(is_long=False) as preview:
        weighed = _weigh_request(preview, request)
    if why_not is None and weighed.problem is not None:
        why_not = weighed.problem.detail
    return RequestPage(request, weighed, _drift(request, weighed), why_not, may_withdraw)


def approve(
    session: Session,
    request_id: int,
    *,
    seen: str,
    visitor: Visitor,
    comment: str = "",
    although_moving: bool = False,
) -> Posted:
    """Approve another operator's request and carry it out, in one unit of work; a repetition answers the same.

    `seen` is that of the `weighed` that the approver was shown: what would happen must be that, or, with
    `although_moving`, at least its changes. What the books refuse leaves the request pending, with the refusal as the
    answer: it may be possible later, and who asked need not ask again.

    Locks both operators, the request and the wallets. Raises PermissionDeniedError, ProofNeededError without a fresh
    sign-in, RequestNotFoundError, SelfApprovalError, RequestDecidedError, MakerDisabledError, MakerRoleError,
    DriftedError, RequestAlteredError, ReasonRefusedError, whatever the books decline with, and an UnavailableError.
    """
    sessions.require(session, "approvals:decide", visitor=visitor, fresh=True)
    said = approvals.cleaned_comment(comment, is_required=False)
    request = approvals.get_request_view(request_id)
    if isinstance(request.operation, RunOperation):
        raise OperationInvalidError("run", f"Decide on run {request.operation.run_id} where its rows are shown.")
    return _Approving(session, request, said, seen, although_moving, visitor).run()


# --- looking ---


def _weigh(
    preview: Preview,
    operation: Operation,
    place: Place,
    *,
    operator_id: int,
    role: str,
    payload: Mapping[str, Any] | None = None,
) -> Weighed:
    connection = preview.connection
    problem: WalletServiceError | None = None
    stopped: WalletServiceError | None = None
    outcome = _previewed(preview, operation, place, is_approved=False)
    if isinstance(outcome, WalletNotActiveError | StoppedError) and may_pass_freezes(operation):
        stopped, outcome = outcome, _previewed(preview, operation, place, is_approved=True)
    receipt = outcome if isinstance(outcome, Receipt) else None
    if isinstance(outcome, WalletServiceError):
        problem = outcome
    elif isinstance(outcome, Exception):
        raise outcome
    problem = _refused(connection, operation, place) or problem
    # What is refused anyway passes nothing.
    passes = [] if problem else weighing.stops_told(stopped)
    effects = weighing.effects_of(connection, None if problem else receipt, place.wallet_ids)
    moved = [] if receipt is None or problem else weighing.moved_by(receipt)
    looks = weighing.look(
        connection,
        operation,
        operator_id=operator_id,
        role=role,
        moved=moved,
        effects=effects,
        stopped=stopped,
    )
    return Weighed(
        operation=operation,
        effects=effects,
        totals=looks.totals,
        similar=weighing.similar_to(connection, operation, effects),
        demands=looks.demands,
        problem=problem,
        passes=passes,
        seen=weighing.sight_of(payload or payload_of(operation), effects, problem, passes),
    )


def _previewed(preview: Preview, operation: Operation, place: Place, *, is_approved: bool) -> Outcome:
    # Under a reference that nobody can have used: what is looked at here is not what was done before.
    reference = f"{SYSTEM_REFERENCE}look:{uuid.uuid4()}"
    origin = Origin(client=CONSOLE, actor="preview")
    command = command_of(operation, place, reference=reference, origin=origin, is_approved=is_approved)
    return preview.preview_alone(command)


def _weigh_request(preview: Preview, request: RequestView) -> Weighed:
    role = preview.connection.execute(_ROLE, {"operator_id": request.maker_id}).scalar_one()
    return _weigh(
        preview,
        request.operation,
        find_place(request.operation),
        operator_id=request.maker_id,
        role=role,
        payload=request.payload,
    )


@reads
def _why_not(connection: Connection, session: Session, request: RequestView) -> str | None:
    """Return why the operator cannot approve the request, whatever the books say."""
    if request.maker_id == session.operator_id:
        return SelfApprovalError(request.request_id).detail
    if not session.may("approvals:decide"):
        return PermissionDeniedError(role=session.role, permission="approvals:decide").detail
    maker = connection.execute(_MAKER, {"operator_id": request.maker_id}).one()
    refused = maker_refused(request, is_disabled=maker.is_disabled, role=maker.role)
    return None if refused is None else refused.detail


def maker_refused(request: RequestView, *, is_disabled: bool, role: str) -> WalletServiceError | None:
    """Return why nothing that the maker asked for can be approved, as they stand now."""
    asks = "bulk:draft" if isinstance(request.operation, RunOperation) else "adjustments:request"
    if is_disabled:
        return MakerDisabledError(request_id=request.request_id, maker=request.maker_name)
    if asks not in ROLES[role]:
        return MakerRoleError(request_id=request.request_id, maker=request.maker_name, role=role)
    return None


def _drift(request: RequestView, weighed: Weighed) -> list[str]:
    """Return what is otherwise now than when it was asked for, in sentences."""
    now = {line["walletId"]: line for line in _snapshot(weighed.effects)}
    sentences = []
    for before in request.snapshot:
        line = now.get(before["walletId"])
        if line is None:
            continue
        for name, word in (("balanceBefore", "balance"), ("heldBefore", "held"), ("owedBefore", "owed")):
            if line[name] != before[name]:
                is_now, was = (format_amount(one[name], line["scale"]) for one in (line, before))
                sentences.append(
                    f"Wallet {line['walletId']}: {word} is {is_now} {line['asset']} now; it was {was} when this was "
                    "asked for."
                )
        if line["version"] != before["version"] and line["balanceBefore"] == before["balanceBefore"]:
            moves = line["version"] - before["version"]
            sentences.append(f"Wallet {line['walletId']}: {moves} entries came since, which left the same balance.")
    # What stopped it when it was asked for is among what demanded a second person.
    news = [stop for stop in weighed.passes if not any(stop in demand for demand in request.demands)]
    sentences += [f"{stop} It was not so when this was asked for; approving passes that." for stop in news]
    return sentences


def _snapshot(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    return [
        {
            "walletId": one.wallet_id,
            "asset": one.asset_code,
            "scale": one.asset_scale,
            "version": one.version,
            "balanceBefore": one.balance_before,
            "balanceAfter": one.balance_after,
            "heldBefore": one.held_before,
            "heldAfter": one.held_after,
            "owedBefore": one.owed_before,
            "owedAfter": one.owed_after,
        }
        for one in effects
    ]


# --- doing ---


class _Doing:
    """What `carry_out` does, as often as its unit of work has to be repeated; the last answer counts."""

    def __init__(self, session: Session, operation: Operation, place: Place, form_key: str, visitor: Visitor) -> None:
        self._session = session
        self._operation = operation
        self._place = place
        self._form_key = form_key
        self._visitor = visitor
        self._answer: Posted | Asked | None = None
        self._asked: tuple[int, bool] | None = None

    def run(self) -> Posted | Asked:
        _run(self._command(is_approved=False), self._work)
        if self._asked is not None:
            request_id, is_replay = self._asked
            return Asked(approvals.get_request_view(request_id), is_replay)
        if self._answer is None:
            raise RuntimeError("a unit of work ended without an answer")
        return self._answer

    def _work(self, connection: Connection) -> list[Outcome | Deferred]:
        self._answer = self._asked = None
        operator = lock_acting(connection, self._session)
        if (form := approvals.find_form(connection, self._form_key)) is not None:
            return self._asked_before(connection, form)
        approvals.note_due(connection, subject_of(self._operation))
        alone, approved = self._command(is_approved=False), self._command(is_approved=True)
        outcome, stopped = _post(connection, self._operation, alone, approved)
        # What was done is told first: meanwhile the reason code may have come out of use.
        if isinstance(outcome, Receipt) and outcome.is_replay:
            return [self._done_before(connection, outcome)]
        if (refused := _refused(connection, self._operation, self._place)) is not None:
            posting.take_back(connection)
            return [self._refuse(connection, refused)]
        if isinstance(outcome, WalletServiceError):
            return [self._refuse(connection, outcome)]
        if not isinstance(outcome, Receipt):
            return [outcome]
        return [self._weighed(connection, operator, outcome, stopped)]

    def _weighed(
        self,
        connection: Connection,
        operator: LockedOperator,
        receipt: Receipt,
        stopped: WalletServiceError | None,
    ) -> Outcome:
        effects = weighing.effects_of(connection, receipt, self._place.wallet_ids)
        moved = weighing.moved_by(receipt)
        looks = weighing.look(
            connection,
            self._operation,
            operator_id=self._session.operator_id,
            role=operator.role,
            moved=moved,
            effects=effects,
            stopped=stopped,
        )
        if looks.demands:
            return self._ask(connection, receipt, looks, effects)
        _insert_postings(
            connection,
            self._operation,
            receipt,
            moved,
            operator_id=self._session.operator_id,
            looks=looks,
            request_id=None,
        )
        after = {
            "operation": payload_of(self._operation),
            "transactionId": str(receipt.transaction.transaction_id),
            "wallets": _snapshot(effects),
        }
        audit.record(connection, self._act("post", after=after))
        self._answer = Posted(receipt, is_replay=False)
        return receipt

    def _ask(self, connection: Connection, receipt: Receipt, looks: Looks, effects: Sequence[Effect]) -> Outcome:
        """Take back what was decided, and ask others to approve it."""
        posting.take_back(connection)
        if "adjustments:request" not in ROLES[self._session.role]:
            refused = PermissionDeniedError(role=self._session.role, permission="adjustments:request")
            return self._refuse(connection, refused, outcome="denied")
        subject = subject_of(self._operation)
        if (same := approvals.find_pending(connection, subject)) is not None:
            return self._refuse(connection, RequestPendingError(request_id=same.id, maker=same.name))
        salt, hashed = approvals.note_hash(self._operation.note)
        asking = Asking(
            kind=self._operation.kind,
            wallet_id=self._place.wallet_id,
            form_key=self._form_key,
            subject=subject,
            payload={
                "operation": payload_of(self._operation),
                "command": receipt.transaction.requested,
                "maker": self._session.operator_id,
                "form": self._form_key,
                "noteHash": hashed,
            },
            ticket=self._operation.ticket,
            note=self._operation.note,
            note_salt=salt,
            demands=[one.sentence for one in looks.demands],
            preview=_snapshot(effects),
        )
        request_id = approvals.insert_request(connection, asking, maker_id=self._session.operator_id)
        after = {
            "operation": payload_of(self._operation),
            "requestId": request_id,
            "payloadHash": approvals.payload_hash(asking.payload).hex(),
            "demands": [one.code for one in looks.demands],
        }
        audit.record(connection, self._act("ask", after=after))
        self._asked = request_id, False
        return receipt

    def _asked_before(self, connection: Connection, form: Any) -> list[Outcome | Deferred]:
        """Answer a form that made a request already, if it asked for the same."""
        is_same = form.maker_id == self._session.operator_id and form.payload["operation"] == payload_of(
            self._operation
        )
        if not is_same:
            return [self._refuse(connection, self._mismatch())]
        self._asked = int(form.id), True
        return []

    def _done_before(self, connection: Connection, receipt: Receipt) -> Outcome:
        """Answer a form that did it already, if it was this operator's."""
        if receipt.transaction.actor != self._session.actor:
            return self._refuse(connection, self._mismatch())
        self._answer = Posted(receipt, is_replay=True)
        return receipt

    def _mismatch(self) -> WalletServiceError:
        return ReferenceMismatchError(wallet_id=self._place.wallet_id, reference=self._reference, fields=["operation"])

    def _refuse(
        self, connection: Connection, error: WalletServiceError, *, outcome: audit.Outcome = "failed"
    ) -> WalletServiceError:
        """Record in the unit of work that it was refused, and why."""
        after = {"operation": payload_of(self._operation), "problem": error.code, "detail": error.detail}
        audit.record(connection, self._act("refuse", after=after, outcome=outcome))
        return error

    def _act(self, verb: str, *, after: Mapping[str, Any], outcome: audit.Outcome = "done") -> Act:
        why = self._operation.reason_code if isinstance(self._operation, MoneyOperation) else None
        by = By(
            actor=self._session.actor,
            reason=why or getattr(self._operation, "reason", None),
            ticket=self._operation.ticket,
            request_id=self._visitor.request_id,
            address=self._visitor.address,
        )
        return Act(
            by=by,
            action=f"{self._operation.kind}:{verb}",
            subject=f"wallet:{self._place.wallet_id}",
            after=after,
            outcome=outcome,
        )

    def _command(self, *, is_approved: bool) -> Command:
        origin = Origin(client=CONSOLE, actor=self._session.actor, request_id=self._visitor.request_id)
        return command_of(
            self._operation, self._place, reference=self._reference, origin=origin, is_approved=is_approved
        )

    @property
    def _reference(self) -> str:
        return f"{SYSTEM_REFERENCE}form:{self._form_key}"


class _Approving:
    """What `approve` does, as often as its unit of work has to be repeated."""

    def __init__(
        self,
        session: Session,
        request: RequestView,
        comment: str | None,
        seen: str,
        although_moving: bool,
        visitor: Visitor,
    ) -> None:
        self._session = session
        self._request = request
        self._comment = comment
        self._seen = seen
        self._although_moving = although_moving
        self._visitor = visitor
        self._place = find_place(request.operation)
        # The maker's: they wanted it, and whose form it was. Who approved it stands with the request.
        origin = Origin(client=CONSOLE, actor=actor_of(request.maker_id), request_id=visitor.request_id)
        reference = f"{SYSTEM_REFERENCE}request:{request.request_id}:{request.payload_hash}"
        self._alone, self._command = (
            command_of(request.operation, self._place, reference=reference, origin=origin, is_approved=is_approved)
            for is_approved in (False, True)
        )
        self._answer: Posted | None = None

    def run(self) -> Posted:
        _run(self._command, self._work)
        if self._answer is None:
            raise RuntimeError("a unit of work ended without an answer")
        return self._answer

    def _work(self, connection: Connection) -> list[Outcome | Deferred]:
        self._answer = None
        request_id, maker_id = self._request.request_id, self._request.maker_id
        maker = lock_acting(connection, self._session, beside=maker_id)
        if maker_id == self._session.operator_id:
            return [self._refuse(connection, SelfApprovalError(request_id), outcome="denied")]
        locked = locks.lock_request(connection, request_id)
        if locked.status == "approved" and locked.checker_id == self._session.operator_id:
            return [self._approved_before(connection)]
        if (decided := approvals.require_undecided(connection, request_id, locked)) is not None:
            return [self._refuse(connection, decided)]
        refused = maker_refused(self._request, is_disabled=maker.is_disabled, role=maker.role)
        if refused is not None:
            return [self._refuse(connection, refused)]
        if not self._is_unaltered():
            return [self._refuse(connection, RequestAlteredError(request_id))]
        return [self._execute(connection)]

    def _execute(self, connection: Connection) -> Outcome | Deferred:
        operation = self._request.operation
        outcome: Outcome | Deferred | None = _refused(connection, operation, self._place)
        stopped: WalletServiceError | None = None
        if outcome is None:
            outcome, stopped = _post(connection, operation, self._alone, self._command)
        if isinstance(outcome, Exception) and not isinstance(outcome, WalletServiceError):
            return outcome
        receipt = outcome if isinstance(outcome, Receipt) else None
        problem = outcome if isinstance(outcome, WalletServiceError) else None
        effects = weighing.effects_of(connection, receipt, self._place.wallet_ids)
        passes = [] if problem else weighing.stops_told(stopped)
        sight = weighing.sight_of(self._request.payload, effects, problem, passes)
        if not weighing.is_as_seen(sight, self._seen, although_moving=self._although_moving):
            posting.take_back(connection)
            return self._refuse(connection, DriftedError(self._request.request_id))
        if receipt is None or problem is not None:
            return outcome if problem is None else self._refuse(connection, problem)
        self._write(connection, receipt, effects, passes)
        return receipt

    def _write(
        self, connection: Connection, receipt: Receipt, effects: Sequence[Effect], passes: Sequence[str]
    ) -> None:
        request_id, transaction_id = self._request.request_id, receipt.transaction.transaction_id
        approvals.decide(
            connection,
            request_id,
            "approved",
            checker_id=self._session.operator_id,
            comment=self._comment,
            transaction_id=transaction_id,
        )
        _insert_postings(
            connection,
            self._request.operation,
            receipt,
            weighing.moved_by(receipt),
            operator_id=self._request.maker_id,
            looks=None,
            request_id=request_id,
        )
        after = {
            "operation": payload_of(self._request.operation),
            "transactionId": str(transaction_id),
            "payloadHash": self._request.payload_hash,
            "wallets": _snapshot(effects),
        }
        if passes:
            after["passes"] = list(passes)
        audit.record(connection, self._act(after=after))
        self._answer = Posted(receipt, is_replay=False)

    def _approved_before(self, connection: Connection) -> Outcome | Deferred:
        (outcome,) = posting.post(connection, [self._command])
        if isinstance(outcome, Receipt):
            self._answer = Posted(outcome, is_replay=True)
        return outcome

    def _is_unaltered(self) -> bool:
        """Tell whether the request is what was asked for: its payload, its note, and the command that it becomes."""
        payload = self._request.payload
        return (
            approvals.payload_hash(payload).hex() == self._request.payload_hash
            and payload["operation"] == payload_of(self._request.operation)
            and payload["command"] == self._command.requested()
            and payload["maker"] == self._request.maker_id
        )

    def _refuse(
        self, connection: Connection, error: WalletServiceError, *, outcome: audit.Outcome = "failed"
    ) -> WalletServiceError:
        after = {"problem": error.code, "detail": error.detail}
        audit.record(connection, self._act(after=after, outcome=outcome))
        return error

    def _act(self, *, after: Mapping[str, Any], outcome: audit.Outcome = "done") -> Act:
        by = By(
            actor=self._session.actor,
            reason=self._comment,
            ticket=self._request.operation.ticket,
            request_id=self._visitor.request_id,
            address=self._visitor.address,
        )
        subject = f"request:{self._request.request_id}"
        return Act(by=by, action="approval:approve", subject=subject, after=after, outcome=outcome)


def _post(
    connection: Connection, operation: Operation, alone: Command, approved: Command
) -> tuple[Outcome | Deferred, WalletServiceError | None]:
    """Let the rules decide; what only a freeze or a switch stops, as if it were approved, and with what stops it."""
    (outcome,) = posting.post(connection, [alone])
    if not isinstance(outcome, WalletNotActiveError | StoppedError) or not may_pass_freezes(operation):
        return outcome, None
    posting.take_back(connection)
    stopped = outcome
    (outcome,) = posting.post(connection, [approved])
    return outcome, stopped


def _run(command: Command, work: Work) -> None:
    deadline = time.monotonic() + REQUEST_SECONDS_MAX
    for outcome in post_with_retries(db.engine, [command], deadline=deadline, work=work):
        if isinstance(outcome, Exception):
            raise outcome


def _require_may_ask(session: Session, operation: Operation, visitor: Visitor) -> None:
    """Record and raise PermissionDeniedError for who may neither do it nor ask for it."""
    may_ask = isinstance(operation, MoneyOperation) and session.may("adjustments:request")
    if not may_ask:
        sessions.require(session, operation.permission, visitor=visitor)


def _refused(connection: Connection, operation: Operation, place: Place) -> WalletServiceError | None:
    """Return what the reason code refuses it with, if it does."""
    if not isinstance(operation, MoneyOperation):
        return None
    try:
        reasons.require_allowed(connection, operation, asset_id=place.asset_id, asset_scale=place.asset_scale)
    except (ReasonNotFoundError, ReasonRefusedError) as refused:
        return refused
    return None


def lock_acting(connection: Connection, session: Session, *, beside: int | None = None) -> LockedOperator:
    """Lock the operator, and another one with them, and return the other one, or them.

    Raises NotSignedInError if they were disabled, got another role or ended their sessions since this one was found.
    """
    wanted = {session.operator_id} if beside is None else {session.operator_id, beside}
    found = locks.lock_operators(connection, wanted)
    acting = found.get(session.operator_id)
    # Whoever gets another role gets another epoch: the session's role is the one that they have.
    if acting is None or acting.is_disabled or (acting.epoch, acting.role) != (session.epoch, session.role):
        raise NotSignedInError
    return acting if beside is None else found[beside]


def _insert_postings(
    connection: Connection,
    operation: Operation,
    receipt: Receipt,
    moved: Sequence[Moved],
    *,
    operator_id: int,
    looks: Looks | None,
    request_id: int | None,
) -> None:
    """Keep what counts for the day's totals, in the unit of work that posts."""
    if not moved or not isinstance(operation, MoneyOperation):
        return
    rows = []
    for one in moved:
        terms = None if looks is None else looks.terms[one.asset_id]
        rows.append(
            {
                "anchor_id": receipt.transaction.wallet_id,
                "reference_id": receipt.transaction.reference,
                "wallet_id": one.wallet_id,
                "transaction_id": receipt.transaction.transaction_id,
                "operator_id": operator_id,
                "asset_type_id": one.asset_id,
                "kind": operation.kind,
                "amount": one.amount,
                "counted": one.counted,
                "reason_code": operation.reason_code,
                "ticket": operation.ticket,
                "request_id": request_id,
                "approval_above": None if terms is None else terms.approval_above,
                "operator_day_max": None if terms is None else terms.operator_day_max,
                "wallet_day_max": None if terms is None else terms.wallet_day_max,
            }
        )
    connection.execute(_INSERT_POSTINGS, rows)


_INSERT_POSTINGS = text("""
INSERT INTO operator_postings (anchor_id, reference_id, wallet_id, transaction_id, operator_id, asset_type_id, kind,
                               amount, counted, reason_code, ticket, request_id, approval_above, operator_day_max,
                               wallet_day_max)
VALUES (:anchor_id, :reference_id, :wallet_id, :transaction_id, :operator_id, :asset_type_id, :kind,
        :amount, :counted, :reason_code, :ticket, :request_id, :approval_above, :operator_day_max,
        :wallet_day_max)
""")

_ROLE = text("SELECT role FROM operators WHERE id = :operator_id")

_MAKER = text("SELECT role, disabled_at IS NOT NULL AS is_disabled FROM operators WHERE id = :operator_id")
