"""Tables of what operators do to wallets: why they may, what they asked of others, and what they did alone."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from wallet_app.db import Base
from wallet_app.models import AssetType, Instant, Wallet
from wallet_app.models_console import Operator
from wallet_app.money import AMOUNT_MAX

DIRECTIONS = ("credit", "debit", "both")
REQUEST_STATUSES = ("pending", "approved", "rejected", "withdrawn", "expired", "failed")
"""A request begins pending; all others are the end. What failed was approved and could not be carried out: work that
goes on in the background, because what is done at once stays pending when the books refuse it."""


class ReasonCode(Base):
    """Why operators move money: what is allowed under this name, and from where on two people have to look.

    Never removed, because what was done under it stays.
    """

    __tablename__ = "reason_codes"
    __table_args__ = (
        CheckConstraint("code ~ '^[A-Z][A-Z0-9_]{1,31}$'", name="code_form"),
        CheckConstraint("char_length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint(f"directions IN ({', '.join(repr(one) for one in DIRECTIONS)})", name="directions_known"),
        CheckConstraint(f"amount_max BETWEEN 1 AND {AMOUNT_MAX}", name="amount_max_range"),
        CheckConstraint(f"approval_above BETWEEN 0 AND {AMOUNT_MAX}", name="approval_above_range"),
    )

    code: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    directions: Mapped[str] = mapped_column(Text)
    amount_max: Mapped[int] = mapped_column(BigInteger)
    """The most that one adjustment may move, approved or not, in the smallest unit, where no limit of an asset says."""
    approval_above: Mapped[int] = mapped_column(BigInteger)
    """What is more than this needs approval; 0: everything does."""
    ticket_required: Mapped[bool]
    note_required: Mapped[bool]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))


class ReasonLimit(Base):
    """What holds of a reason code for one asset, instead of what it says of all."""

    __tablename__ = "reason_limits"
    __table_args__ = (
        CheckConstraint(f"amount_max BETWEEN 1 AND {AMOUNT_MAX}", name="amount_max_range"),
        CheckConstraint(f"approval_above BETWEEN 0 AND {AMOUNT_MAX}", name="approval_above_range"),
    )

    reason_code: Mapped[str] = mapped_column(ForeignKey(ReasonCode.code), primary_key=True)
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id), primary_key=True, autoincrement=False)
    amount_max: Mapped[int] = mapped_column(BigInteger)
    approval_above: Mapped[int] = mapped_column(BigInteger)


class DayBound(Base):
    """How much one operator may move alone within 24 hours, and how much all of them on one wallet.

    Of an asset, in its smallest unit; without an asset, of all that have no line of their own.
    """

    __tablename__ = "day_bounds"
    __table_args__ = (
        UniqueConstraint("asset_type_id", postgresql_nulls_not_distinct=True),
        CheckConstraint(f"operator_day_max BETWEEN 0 AND {AMOUNT_MAX}", name="operator_day_max_range"),
        CheckConstraint(f"wallet_day_max BETWEEN 0 AND {AMOUNT_MAX}", name="wallet_day_max_range"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey(AssetType.id))
    operator_day_max: Mapped[int] = mapped_column(BigInteger)
    wallet_day_max: Mapped[int] = mapped_column(BigInteger)


class ApprovalRequest(Base):
    """What an operator asked others to approve. It is decided once and changes no more; rows are never removed.

    `payload` says all of it but the note, which can be erased and stands in it by its salted hash.
    """

    __tablename__ = "approval_requests"
    __table_args__ = (
        UniqueConstraint("form_key"),
        CheckConstraint("octet_length(payload_hash) = 32", name="payload_hash_length"),
        CheckConstraint("char_length(note) <= 500 AND char_length(comment) <= 500", name="text_length"),
        CheckConstraint("cardinality(demands) >= 1", name="demands_say_why"),
        CheckConstraint("expires_at > created_at", name="expires_later"),
        CheckConstraint(f"status IN ({', '.join(repr(one) for one in REQUEST_STATUSES)})", name="status_known"),
        # Four eyes: whatever the service does, nobody decides on what they asked for.
        CheckConstraint("checker_id <> maker_id", name="checker_is_another"),
        CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="decided_when_not_pending"),
        CheckConstraint("(status IN ('approved', 'rejected', 'failed')) = (checker_id IS NOT NULL)", name="checked"),
        CheckConstraint("status = 'approved' OR transaction_id IS NULL", name="only_approved_is_posted"),
        Index(
            "uq_approval_requests_pending",
            "subject",
            unique=True,
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_approval_requests_due", "expires_at", postgresql_where=text("status = 'pending'")),
        Index("ix_approval_requests_wallet_id", "wallet_id", "id"),
        Index("ix_approval_requests_maker_id", "maker_id", "id"),
        Index("ix_approval_requests_status", "status", "id"),
        Index("ix_approval_requests_ticket", "ticket", postgresql_where=text("ticket IS NOT NULL")),
        Index(
            "ix_approval_requests_transaction_id",
            "transaction_id",
            postgresql_where=text("transaction_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    wallet_id: Mapped[int | None] = mapped_column(ForeignKey(Wallet.id))
    """The anchor; null for what concerns no single wallet."""
    form_key: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    payload: Mapped[Any] = mapped_column(JSONB)
    payload_hash: Mapped[bytes] = mapped_column(LargeBinary)
    ticket: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    note_salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    maker_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    demands: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Why it could not be done alone, in sentences."""
    preview: Mapped[Any] = mapped_column(JSONB)
    """What it would have done when it was asked for."""
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    expires_at: Mapped[dt.datetime] = mapped_column(Instant)
    status: Mapped[str] = mapped_column(Text, server_default=text("'pending'"))
    checker_id: Mapped[int | None] = mapped_column(ForeignKey(Operator.id))
    comment: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    transaction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    problem: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))


class OperatorPosting(Base):
    """What a transaction that an operator caused has moved on a wallet, as the day's bounds count it. Append-only.

    Written in the unit of work that posts. `amount` is all that was moved on the wallet, in and out, and what it owes
    since; `counted` is what of it counts for the operator: of a transaction, once for each asset. The three bounds are
    those that held then; null for what a second person approved, because that counts against none.
    """

    __tablename__ = "operator_postings"
    __table_args__ = (
        CheckConstraint("amount >= 0 AND counted BETWEEN 0 AND amount", name="amount_range"),
        CheckConstraint(
            "(request_id IS NULL) = (num_nulls(approval_above, operator_day_max, wallet_day_max) = 0)"
            " AND num_nulls(approval_above, operator_day_max, wallet_day_max) IN (0, 3)",
            name="bounds_of_what_was_done_alone",
        ),
        Index("ix_operator_postings_operator_id", "operator_id", "asset_type_id", "posted_at"),
        Index("ix_operator_postings_wallet_id", "wallet_id", "posted_at"),
        Index("ix_operator_postings_ticket", "ticket", postgresql_where=text("ticket IS NOT NULL")),
        Index("ix_operator_postings_request_id", "request_id", postgresql_where=text("request_id IS NOT NULL")),
    )

    anchor_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    reference_id: Mapped[str] = mapped_column(Text, primary_key=True)
    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    operator_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    """Who wanted it; of a request, its maker."""
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id))
    kind: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    counted: Mapped[int] = mapped_column(BigInteger)
    reason_code: Mapped[str] = mapped_column(ForeignKey(ReasonCode.code))
    ticket: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[int | None] = mapped_column(ForeignKey(ApprovalRequest.id))
    approval_above: Mapped[int | None] = mapped_column(BigInteger)
    operator_day_max: Mapped[int | None] = mapped_column(BigInteger)
    wallet_day_max: Mapped[int | None] = mapped_column(BigInteger)
    posted_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
