"""Tables of files: bulk runs, that is a file of adjustments, or the undoing of one, with what came of each row; and
files that were imported at the command line."""

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
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from wallet_app.db import Base
from wallet_app.models import Instant, Wallet
from wallet_app.models_approvals import ApprovalRequest, ReasonCode
from wallet_app.models_console import Operator

_OPEN = "state IN ('ready', 'pending_approval', 'running')"


class BulkRun(Base):
    """A file of adjustments that was free of problems, or the undoing (`undoes`) of such a run.

    `campaign` scopes the row references: what was done under one counts for every later run of the same campaign.
    `digest` is over the rows as they were asked for. `done` and `refused` count the rows that are settled.
    """

    __tablename__ = "bulk_runs"
    __table_args__ = (
        CheckConstraint("kind IN ('adjustment', 'undo')", name="kind_known"),
        CheckConstraint(
            "(kind = 'undo') = (undoes IS NOT NULL) AND (kind = 'undo') = (on_shortfall IS NOT NULL) "
            "AND (kind = 'undo') = (reason IS NOT NULL) AND (kind = 'undo') = (file_sha256 IS NULL)",
            name="kind_has_its_own",
        ),
        CheckConstraint("campaign ~ '^[a-z0-9][a-z0-9._-]{1,59}$'", name="campaign_form"),
        CheckConstraint("on_shortfall IN ('refuse', 'partial', 'debt')", name="on_shortfall_known"),
        CheckConstraint("octet_length(file_sha256) = 32 AND octet_length(digest) = 32", name="hash_length"),
        CheckConstraint(
            "state IN ('ready', 'pending_approval', 'running', 'completed', 'completed_with_errors', 'stopped', "
            "'rejected', 'withdrawn', 'expired')",
            name="state_known",
        ),
        CheckConstraint(
            "(state IN ('ready', 'pending_approval', 'running')) = (ended_at IS NULL)", name="ended_when_over"
        ),
        UniqueConstraint("request_id"),
        CheckConstraint("state IN ('ready', 'withdrawn') OR request_id IS NOT NULL", name="asked_before_it_runs"),
        CheckConstraint("state <> 'completed' OR (refused = 0 AND done = rows_to_do)", name="completed_means_all"),
        CheckConstraint(
            "rows_to_do BETWEEN 0 AND row_count AND done >= 0 AND refused >= 0 AND done + refused <= rows_to_do",
            name="counts_fit",
        ),
        Index("uq_bulk_runs_open_campaign", "campaign", unique=True, postgresql_where=text(_OPEN)),
        Index(
            "uq_bulk_runs_file",
            "file_sha256",
            unique=True,
            postgresql_where=text("state IN ('ready', 'pending_approval', 'running', 'completed')"),
        ),
        Index("ix_bulk_runs_undoes", "undoes"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    campaign: Mapped[str] = mapped_column(Text)
    undoes: Mapped[int | None] = mapped_column(ForeignKey("bulk_runs.id"))
    on_shortfall: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    ticket: Mapped[str | None] = mapped_column(Text)
    file_name: Mapped[str | None] = mapped_column(Text)
    file_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    row_count: Mapped[int] = mapped_column(Integer)
    rows_to_do: Mapped[int] = mapped_column(Integer)
    """Without those that were done before."""
    sums: Mapped[Any] = mapped_column(JSONB)
    """What is to be done: a list of {asset, scale, direction, rows, amount}."""
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    maker_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    state: Mapped[str] = mapped_column(Text)
    """After `running` there is no way back; the six behind it are the end."""
    request_id: Mapped[int | None] = mapped_column(ForeignKey(ApprovalRequest.id))
    """The request for approval that this run became."""
    done: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    refused: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    checked_at: Mapped[dt.datetime] = mapped_column(Instant)
    """When the preview that is shown was made."""
    started_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    stop_asked_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    beat_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """When a worker last settled rows of it."""
    ended_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    outlook: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    """What the last preview says: digest, refused, sums, and how many rows changed since it was asked for."""


class BulkRow(Base):
    """A row of a run: what is asked for, what the preview expects, and what came of it.

    `row_no` is the one that a spreadsheet shows. Of an undo, `reverses` is the transaction that the row made, and
    direction and amount are those of that row. `moved` is what the wallet got, or gave (below zero).
    """

    __tablename__ = "bulk_rows"
    __table_args__ = (
        UniqueConstraint("run_id", "row_ref"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("direction IN ('credit', 'debit')", name="direction_known"),
        CheckConstraint("char_length(row_ref) BETWEEN 1 AND 100", name="row_ref_length"),
        CheckConstraint("status IN ('waiting', 'done', 'done_before', 'refused', 'failed')", name="status_known"),
        CheckConstraint(
            "(status IN ('done', 'done_before')) = (transaction_id IS NOT NULL) "
            "AND (status IN ('refused', 'failed')) = (error_code IS NOT NULL)",
            name="status_has_its_own",
        ),
        # Whatever the service thinks: a row reference of a campaign is done once.
        Index(
            "uq_bulk_rows_done",
            "campaign",
            "row_ref",
            unique=True,
            postgresql_where=text("status = 'done' AND reverses IS NULL"),
        ),
        Index("uq_bulk_rows_transaction_id", "transaction_id", unique=True, postgresql_where=text("status = 'done'")),
        Index("ix_bulk_rows_expected_error", "run_id", "row_no", postgresql_where=text("expected_error IS NOT NULL")),
        Index("ix_bulk_rows_with_note", "wallet_id", postgresql_where=text("note IS NOT NULL")),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey(BulkRun.id), primary_key=True)
    row_no: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign: Mapped[str] = mapped_column(Text)
    row_ref: Mapped[str] = mapped_column(Text)
    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id))
    direction: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    reason_code: Mapped[str] = mapped_column(ForeignKey(ReasonCode.code))
    ticket: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    reverses: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    expected_balance: Mapped[int | None] = mapped_column(BigInteger)
    """The wallet's balance after the row, in the preview; null where the preview says that it would be refused."""
    expected_error: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    transaction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    moved: Mapped[int | None] = mapped_column(BigInteger)
    balance_after: Mapped[int | None] = mapped_column(BigInteger)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    expected_moved: Mapped[int | None] = mapped_column(BigInteger)
    asked_moved: Mapped[int | None] = mapped_column(BigInteger)
    """What the preview said when the run was asked for; likewise `asked_balance`."""
    asked_balance: Mapped[int | None] = mapped_column(BigInteger)


class FileImport(Base):
    """A file that `flask wallet import` posts, or tried to: how far it came, and which operator has looked at it."""

    __tablename__ = "file_imports"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'completed', 'stopped', 'failed')", name="state_known"),
        CheckConstraint("octet_length(file_sha256) = 32", name="hash_length"),
        CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="ended_when_over"),
        CheckConstraint("(seen_by IS NULL) = (seen_at IS NULL)", name="seen_whole"),
        CheckConstraint("accepted BETWEEN 0 AND rows", name="counts_fit"),
        Index("ix_file_imports_file_sha256", "file_sha256", "client"),
        Index(
            "ix_file_imports_unseen",
            "id",
            postgresql_where=text("seen_at IS NULL AND (state <> 'completed' OR accepted < rows)"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    file_name: Mapped[str] = mapped_column(Text)
    file_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    """None for standard input, which nobody reads twice."""
    client: Mapped[str] = mapped_column(Text)
    """Whose references its rows have."""
    made_by: Mapped[str] = mapped_column(Text)
    """Who started it, as the machine knows them: user@host."""
    state: Mapped[str] = mapped_column(Text)
    problem: Mapped[str | None] = mapped_column(Text)
    """Why it did not come to its end."""
    rows: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Rows that have a result, also from earlier attempts at the same file."""
    accepted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    started_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    beat_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    """When it last told how far it is."""
    ended_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    seen_by: Mapped[int | None] = mapped_column(ForeignKey(Operator.id))
    seen_at: Mapped[dt.datetime | None] = mapped_column(Instant)
