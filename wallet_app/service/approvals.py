"""Requests for approval: what is kept of them, how they are read, and how they end without being carried out.

A request is decided once, under its row's lock; what it would do is not touched before. It expires by the database's
clock, whether the worker has noted that or not.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text, update

from wallet_app import text as texts
from wallet_app.db import reads, unit_of_work
from wallet_app.errors import (
    NotSignedInError,
    NotYourRequestError,
    OperationInvalidError,
    RequestDecidedError,
    RequestNotFoundError,
    SelfApprovalError,
    WalletServiceError,
)
from wallet_app.models_approvals import ApprovalRequest
from wallet_app.service import audit, bulk_states, chain, locks, sessions
from wallet_app.service.audit import Act, By
from wallet_app.service.history import Page
from wallet_app.service.locks import LockedRequest
from wallet_app.service.operations import Operation, operation_of
from wallet_app.service.queries import PAGE_MAX
from wallet_app.service.repeatable import repeatable
from wallet_app.service.sessions import Session, Visitor

HOURS_MAX = 72
"""How long a request waits for somebody to decide on it."""

COMMENT_MAX = 500


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as it stands now: one whose time is over reads as expired, whether that was noted or not.

    `snapshot` is what it would have done when it was asked for, a line for each wallet: walletId, asset, scale,
    version, balanceBefore, balanceAfter, heldBefore, heldAfter, owedBefore, owedAfter.
    """

    request_id: int
    operation: Operation
    wallet_id: int | None
    user_id: int | None
    user_name: str | None
    asset_code: str | None
    asset_scale: int | None
    maker_id: int
    maker_name: str
    demands: Sequence[str]
    snapshot: Sequence[Mapping[str, Any]]
    created_at: dt.datetime
    expires_at: dt.datetime
    status: str
    checker_id: int | None
    checker_name: str | None
    comment: str | None
    decided_at: dt.datetime | None
    transaction_id: uuid.UUID | None
    problem: Mapping[str, Any] | None
    payload: Mapping[str, Any]
    payload_hash: str
    """In hexadecimal digits."""

    @property
    def is_pending(self) -> bool:
        """Whether it waits for a decision."""
        return self.status == "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilters:
    """What a list of requests is narrowed to; None is anything. `not_made_by` are those that this operator may decide.

    `wallet_id` is the wallet that a request is about; `rows_about` one that may also be among the rows of its bulk run.
    `status` is pending, approved, rejected, withdrawn, expired or failed; `kind` an operation's kind.
    """

    status: str | None = None
    kind: str | None = None
    maker_id: int | None = None
    not_made_by: int | None = None
    wallet_id: int | None = None
    rows_about: int | None = None
    user_id: int | None = None
    ticket: str | None = None


class Asking(NamedTuple):
    """All that is kept of a request when it is made."""

    kind: str
    wallet_id: int | None
    form_key: str
    subject: str
    payload: Mapping[str, Any]
    ticket: str | None
    note: str | None
    note_salt: bytes | None
    demands: Sequence[str]
    preview: Sequence[Mapping[str, Any]]


@reads
def get_request_view(connection: Connection, request_id: int) -> RequestView:
    """Return the request; raise RequestNotFoundError."""
    return find_view(connection, request_id)


def find_view(connection: Connection, request_id: int) -> RequestView:
    """Return the request as the connection sees it; raise RequestNotFoundError."""
    row = connection.execute(text(f"{_VIEW} WHERE requests.id = :request_id"), {"request_id": request_id}).first()
    if row is None:
        raise RequestNotFoundError(request_id)
    return _view(row)


@reads
def list_requests(
    connection: Connection, filters: RequestFilters, *, before_id: int | None = None, limit: int = PAGE_MAX
) -> Page[RequestView]:
    """Return a page of the requests with ids below `before_id`, newest first; `following` holds the next `before_id`.

    Who may see requests is the face's to ask: `approvals:read`.
    """
    limit = min(limit, PAGE_MAX)
    conditions = [_CONDITIONS[name] for name in _CONDITIONS if getattr(filters, name) is not None]
    if filters.status is not None:
        conditions.append(_IN_STATUS.get(filters.status, _IN_ANOTHER))
    if before_id is not None:
        conditions.append("requests.id < :before_id")
    where = "".join(f"\n   AND {condition}" for condition in conditions)
    values = {name: getattr(filters, name) for name in (*_CONDITIONS, "status")}
    rows = connection.execute(
        text(f"{_VIEW} WHERE true{where}\n ORDER BY requests.id DESC LIMIT :rows"),
        {**values, "before_id": before_id, "rows": limit + 1},
    ).all()
    views = [_view(row) for row in rows[:limit]]
    return Page(views, (views[-1].request_id,) if len(rows) > limit else None)


def pending_of_wallet(wallet_id: int) -> Sequence[RequestView]:
    """Return the requests about the wallet, and of runs with rows about it, that wait: for a banner on its page."""
    return list_requests(RequestFilters(status="pending", rows_about=wallet_id), limit=20).items


def count_pending(*, not_made_by: int | None = None) -> int:
    """Return how many requests wait for a decision, by others than this operator; counted up to PAGE_MAX."""
    return len(list_requests(RequestFilters(status="pending", not_made_by=not_made_by)).items)


@reads
def request_of_transaction(connection: Connection, transaction_id: uuid.UUID) -> int | None:
    """Return the id of the request that the transaction carried out, None if there is none."""
    found: int | None = connection.scalar(
        select(ApprovalRequest.id).where(ApprovalRequest.transaction_id == transaction_id)
    )
    return found


def reject(session: Session, request_id: int, *, comment: str, visitor: Visitor) -> RequestView:
    """Refuse what another operator asked for, with a comment that says why; a repetition answers the same.

    Locks the operator and the request. Raises PermissionDeniedError, RequestNotFoundError, SelfApprovalError,
    RequestDecidedError, OperationInvalidError without a comment, OutcomeUnknownError.
    """
    sessions.require(session, "approvals:decide", visitor=visitor)
    said = cleaned_comment(comment, is_required=True)
    maker_id = get_request_view(request_id).maker_id
    return _end(session, request_id, maker_id, "rejected", said, visitor)


def withdraw(session: Session, request_id: int, *, visitor: Visitor, comment: str = "") -> RequestView:
    """Take back what one has asked for oneself, in whatever role one is by now; a repetition answers the same.

    Locks the operator and the request. Raises RequestNotFoundError, NotYourRequestError, RequestDecidedError,
    OutcomeUnknownError.
    """
    said = cleaned_comment(comment, is_required=False)
    maker_id = get_request_view(request_id).maker_id
    return _end(session, request_id, maker_id, "withdrawn", said, visitor)


def expire_due(should_stop: Callable[[], bool]) -> int:
    """Note of all requests whose time is over that they expired; return of how many. What is locked is left."""
    expired = 0
    while not should_stop():
        with unit_of_work() as connection:
            is_due = ApprovalRequest.expires_at <= func.clock_timestamp()
            due = select(ApprovalRequest.id).where(ApprovalRequest.status == "pending", is_due).limit(100)
            found = locks.lock_free_rows(connection, due)
            for request_id in found:
                note_expired(connection, request_id)
        expired += len(found)
        if not found:
            break
    return expired


# --- within a unit of work ---


def insert_request(connection: Connection, asking: Asking, *, maker_id: int) -> int:
    """Keep the request and return its id."""
    request_id: int = connection.execute(
        _INSERT,
        {
            **asking._asdict(),
            "payload": chain.json_text(asking.payload),
            "payload_hash": payload_hash(asking.payload),
            "demands": list(asking.demands),
            "preview": chain.json_text({"wallets": list(asking.preview)}),
            "maker_id": maker_id,
            "hours": HOURS_MAX,
        },
    ).scalar_one()
    return request_id


def find_pending(connection: Connection, subject: str) -> Row[tuple[int, str]] | None:
    """Return id and maker's name of the request that asks for the very same, and waits, if there is one."""
    return connection.execute(_SAME, {"subject": subject}).first()


def find_form(connection: Connection, form_key: str) -> Row[Any] | None:
    """Return the request that was made with the form, if it made one: id, maker_id, payload."""
    return connection.execute(
        select(ApprovalRequest.id, ApprovalRequest.maker_id, ApprovalRequest.payload).where(
            ApprovalRequest.form_key == form_key
        )
    ).first()


def note_due(connection: Connection, subject: str) -> None:
    """Note of a request for the very same that its time is over, so that it stands in nobody's way.

    Locks that request's row: the caller has locked no wallet yet.
    """
    is_due = ApprovalRequest.expires_at <= func.clock_timestamp()
    found = connection.scalar(
        select(ApprovalRequest.id).where(
            ApprovalRequest.subject == subject, ApprovalRequest.status == "pending", is_due
        )
    )
    if found is not None and locks.lock_request(connection, found).status == "pending":
        note_expired(connection, found)


def note_expired(connection: Connection, request_id: int) -> None:
    """Note that the request's time is over; the caller has locked it, and it was pending."""
    connection.execute(
        update(ApprovalRequest)
        .where(ApprovalRequest.id == request_id)
        .values(status="expired", decided_at=ApprovalRequest.expires_at)
    )
    bulk_states.follow(connection, request_id, "expired")
    by = By(actor="system", reason=f"nobody decided within {HOURS_MAX} hours")
    audit.record(connection, Act(by=by, action="approval:expire", subject=f"request:{request_id}"))


def decide(
    connection: Connection,
    request_id: int,
    status: str,
    *,
    checker_id: int | None,
    comment: str | None,
    transaction_id: uuid.UUID | None = None,
) -> None:
    """Write the decision on a pending request; the caller has locked it."""
    connection.execute(
        update(ApprovalRequest)
        .where(ApprovalRequest.id == request_id)
        .values(
            status=status,
            checker_id=checker_id,
            comment=comment,
            decided_at=func.clock_timestamp(),
            transaction_id=transaction_id,
        )
    )
    bulk_states.follow(connection, request_id, status)


def require_undecided(connection: Connection, request_id: int, locked: LockedRequest) -> WalletServiceError | None:
    """Return why the locked request cannot be decided any more; note at once that its time is over, if it is."""
    if locked.status == "pending" and locked.is_due:
        note_expired(connection, request_id)
        return RequestDecidedError(request_id=request_id, status="expired", by=None)
    if locked.status == "pending":
        return None
    name = connection.scalar(_NAME, {"operator_id": locked.checker_id})
    return RequestDecidedError(request_id=request_id, status=locked.status, by=name)


def payload_hash(payload: Mapping[str, Any]) -> bytes:
    """Return the hash of the payload, as PostgreSQL can compute it too from its jsonb."""
    return sha256(chain.json_text(payload).encode()).digest()


def erase_notes(connection: Connection, wallet_id: int) -> int:
    """Erase the notes of all requests about the wallet that are decided, and return of how many.

    A note of one that waits is what the approver decides by: it goes when that is over and this is asked again.
    """
    erased = connection.execute(
        update(ApprovalRequest)
        .where(
            ApprovalRequest.wallet_id == wallet_id,
            ApprovalRequest.status != "pending",
            ApprovalRequest.note.is_not(None),
        )
        .values(note=None, note_salt=None)
    )
    return erased.rowcount


def note_hash(note: str | None) -> tuple[bytes | None, str | None]:
    """Return a salt, and the hash that stands for the note in the payload; both None for none."""
    if note is None:
        return None, None
    salt = os.urandom(16)
    return salt, sha256(salt + note.encode()).hexdigest()


def cleaned_comment(comment: str, *, is_required: bool) -> str | None:
    """Return the comment without blanks around it, None for none; raise OperationInvalidError."""
    try:
        return texts.clean(comment, low=1 if is_required else 0, high=COMMENT_MAX) or None
    except ValueError as wrong:
        if is_required and not comment.strip():
            raise OperationInvalidError("comment", "Say why, for who asked and for who looks later.") from None
        raise OperationInvalidError("comment", f"The comment {wrong}.") from None


def _end(
    session: Session, request_id: int, maker_id: int, status: str, comment: str | None, visitor: Visitor
) -> RequestView:
    work = partial(
        _end_locked,
        session=session,
        request_id=request_id,
        maker_id=maker_id,
        status=status,
        comment=comment,
        visitor=visitor,
    )
    if (refused := repeatable(work)) is not None:
        raise refused
    return get_request_view(request_id)


def _end_locked(
    connection: Connection,
    *,
    session: Session,
    request_id: int,
    maker_id: int,
    status: str,
    comment: str | None,
    visitor: Visitor,
) -> WalletServiceError | None:
    """Decide, or return why not; that is recorded as well."""
    operator = locks.lock_operators(connection, [session.operator_id]).get(session.operator_id)
    if operator is None or operator.is_disabled or operator.epoch != session.epoch:
        raise NotSignedInError
    by = By(actor=session.actor, reason=comment, request_id=visitor.request_id, address=visitor.address)
    act = Act(
        by=by,
        action="approval:reject" if status == "rejected" else "approval:withdraw",
        subject=f"request:{request_id}",
    )
    is_maker = session.operator_id == maker_id
    if is_maker is (status == "rejected"):
        audit.record(connection, Act(by=by, action=act.action, subject=act.subject, outcome="denied"))
        return SelfApprovalError(request_id) if is_maker else NotYourRequestError(request_id)
    locked = locks.lock_request(connection, request_id)
    if locked.status == status and locked.checker_id == (None if is_maker else session.operator_id):
        return None
    if (refused := require_undecided(connection, request_id, locked)) is not None:
        audit.record(connection, Act(by=by, action=act.action, subject=act.subject, outcome="failed"))
        return refused
    decide(
        connection,
        request_id,
        status,
        checker_id=None if is_maker else session.operator_id,
        comment=comment,
    )
    audit.record(connection, act)
    return None


def _view(row: Any) -> RequestView:
    payload = row.payload
    return RequestView(
        request_id=row.id,
        operation=operation_of(payload["operation"], note=row.note),
        wallet_id=row.wallet_id,
        user_id=row.user_id,
        user_name=row.user_name,
        asset_code=row.asset_code,
        asset_scale=row.asset_scale,
        maker_id=row.maker_id,
        maker_name=row.maker_name,
        demands=tuple(row.demands),
        snapshot=tuple(row.preview["wallets"]),
        created_at=row.created_at,
        expires_at=row.expires_at,
        status=row.status_now,
        checker_id=row.checker_id,
        checker_name=row.checker_name,
        comment=row.comment,
        decided_at=row.decided_at if row.status_now == row.status else row.expires_at,
        transaction_id=row.transaction_id,
        problem=row.problem,
        payload=payload,
        payload_hash=row.payload_hash.hex(),
    )


_DUE = "requests.status = 'pending' AND requests.expires_at <= clock_timestamp()"

_VIEW = f"""
SELECT requests.*, CASE WHEN {_DUE} THEN 'expired' ELSE requests.status END AS status_now,
       wallets.user_id, users.name AS user_name, asset_types.code AS asset_code, asset_types.scale AS asset_scale,
       makers.name AS maker_name, checkers.name AS checker_name
  FROM approval_requests AS requests
  JOIN operators AS makers ON makers.id = requests.maker_id
  LEFT JOIN operators AS checkers ON checkers.id = requests.checker_id
  LEFT JOIN wallets ON wallets.id = requests.wallet_id
  LEFT JOIN users ON users.id = wallets.user_id
  LEFT JOIN asset_types ON asset_types.id = wallets.asset_type_id
"""  # noqa: S608 - constants

_CONDITIONS = {
    "kind": "requests.kind = :kind",
    "maker_id": "requests.maker_id = :maker_id",
    "not_made_by": "requests.maker_id <> :not_made_by",
    "wallet_id": "requests.wallet_id = :wallet_id",
    # The runs that wait are few, and each is looked through along its key.
    "rows_about": """(requests.wallet_id = :rows_about OR requests.id IN (
        SELECT request_id FROM bulk_runs AS runs
         WHERE runs.state = 'pending_approval'
           AND EXISTS (SELECT FROM bulk_rows WHERE run_id = runs.id AND wallet_id = :rows_about)))""",
    "user_id": "requests.wallet_id IN (SELECT id FROM wallets WHERE user_id = :user_id)",
    "ticket": "requests.ticket = :ticket",
}

_IN_STATUS = {
    "pending": "requests.status = 'pending' AND requests.expires_at > clock_timestamp()",
    "expired": f"(requests.status = 'expired' OR ({_DUE}))",
}
_IN_ANOTHER = "requests.status = :status"

_INSERT = text("""
INSERT INTO approval_requests (kind, wallet_id, form_key, subject, payload, payload_hash, ticket, note, note_salt,
                               maker_id, demands, preview, created_at, expires_at)
SELECT :kind, :wallet_id, :form_key, :subject, CAST(:payload AS jsonb), :payload_hash, :ticket, :note, :note_salt,
       :maker_id, CAST(:demands AS text[]), CAST(:preview AS jsonb), now, now + make_interval(hours => :hours)
  FROM clock_timestamp() AS now
RETURNING id
""")

_SAME = text("""
SELECT requests.id, operators.name
  FROM approval_requests AS requests
  JOIN operators ON operators.id = requests.maker_id
 WHERE requests.subject = :subject AND requests.status = 'pending'
""")

_NAME = text("SELECT name FROM operators WHERE id = :operator_id")
