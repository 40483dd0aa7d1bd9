"""Tables of what is kept behind the postings: how far it has come, the sums of each day, and the verifications."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from wallet_app.db import Base
from wallet_app.models import ENTRY_TYPES, LOT_KINDS, AssetType, Instant

RUN_STATES = ("requested", "running", "ended", "broken_off")


class SettledCursor(Base):
    """How far a consumer has taken the settled transactions: all with an id up to `position`, each once."""

    __tablename__ = "settled_cursors"
    __table_args__ = (
        CheckConstraint("consumer ~ '^[a-z][a-z_]{0,63}$'", name="consumer_form"),
        CheckConstraint("(candidate_at IS NULL) = (ceiling IS NULL)", name="candidate_whole"),
    )

    consumer: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[uuid.UUID] = mapped_column(Uuid, server_default=text("'00000000-0000-0000-0000-000000000000'"))
    candidate_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """The instant up to which ids are settled as soon as every unit of work below `ceiling` has ended."""
    ceiling: Mapped[int | None] = mapped_column(BigInteger)
    seen_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("'epoch'"))
    """The database's clock when this row was written last: it shows when the clock is set back."""
    restarts_seen: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class SettledRestart(Base):
    """Transactions with older ids come: every consumer is to begin again, but not before `not_before`."""

    __tablename__ = "settled_restarts"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    not_before: Mapped[dt.datetime] = mapped_column(Instant)


class DailyTotal(Base):
    """What the settled entries of a day (UTC) make, by asset, entry type and the SYSTEM wallet on the other side."""

    __tablename__ = "daily_totals"
    __table_args__ = (
        CheckConstraint(f"entry_type IN ({', '.join(repr(name) for name in ENTRY_TYPES)})", name="entry_type_known"),
        CheckConstraint("entries >= 1 AND wallets >= 0 AND wallets <= entries", name="counts"),
        CheckConstraint("credits >= 0 AND debits >= 0", name="not_negative"),
        # For reports, and for the days of a SYSTEM wallet: without those of other assets.
        Index("ix_daily_totals_contra_wallet_id_day", "contra_wallet_id", "day"),
    )

    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id), primary_key=True, autoincrement=False)
    entry_type: Mapped[str] = mapped_column(Text, primary_key=True)
    contra_wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entries: Mapped[int] = mapped_column(BigInteger)
    wallets: Mapped[int] = mapped_column(BigInteger)
    """How many user wallets have such entries on that day."""
    credits: Mapped[int] = mapped_column(Numeric(38, 0))
    debits: Mapped[int] = mapped_column(Numeric(38, 0))
    """Without its sign."""


class BonusTotal(Base):
    """What of a day's settled entries against a SYSTEM wallet was bonus, by entry type, as of DailyTotal."""

    __tablename__ = "bonus_totals"
    __table_args__ = (CheckConstraint("entries >= 1 AND credits >= 0 AND debits >= 0", name="not_negative"),)

    contra_wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    entry_type: Mapped[str] = mapped_column(Text, primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger)
    """How many movements of lots there are."""
    credits: Mapped[int] = mapped_column(Numeric(38, 0))
    debits: Mapped[int] = mapped_column(Numeric(38, 0))
    """Without its sign."""


class LotEnd(Base):
    """By how much a day's settled movements changed what users have of lots that can be used until `ends_on`.

    That is the last day (UTC) on which they can; of standing lots it is 9999-01-01.
    """

    __tablename__ = "lot_ends"
    __table_args__ = (
        CheckConstraint(f"kind IN ({', '.join(repr(name) for name in LOT_KINDS)})", name="kind_known"),
        CheckConstraint("entries >= 1 AND credits >= 0 AND debits >= 0", name="not_negative"),
    )

    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id), primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    ends_on: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger)
    credits: Mapped[int] = mapped_column(Numeric(38, 0))
    debits: Mapped[int] = mapped_column(Numeric(38, 0))
    """Without its sign."""


class WalletDay(Base):
    """The same of one user wallet. Kept for the last days only: it counts the wallets, and finds the top movers."""

    __tablename__ = "wallet_days"

    day: Mapped[dt.date] = mapped_column(Date, primary_key=True)
    wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_type: Mapped[str] = mapped_column(Text, primary_key=True)
    contra_wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    net: Mapped[int] = mapped_column(Numeric(38, 0))


class WalletSum(Base):
    """What a full block of a wallet's entries makes, by type: what they brought, or took (`amount` below 0)."""

    __tablename__ = "wallet_sums"
    __table_args__ = (
        CheckConstraint("block >= 0 AND entries >= 1", name="entries"),
        CheckConstraint("amount <> 0 AND is_credit = (amount > 0)", name="sign"),
    )

    wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_type: Mapped[str] = mapped_column(Text, primary_key=True)
    is_credit: Mapped[bool] = mapped_column(primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(Numeric(38, 0))


class TopMover(Base):
    """A wallet that gained or lost most within the last `days` days, as of `made_at`."""

    __tablename__ = "top_movers"
    __table_args__ = (
        CheckConstraint("net <> 0", name="net_not_zero"),
        CheckConstraint("days >= 1 AND place >= 1", name="positive"),
    )

    days: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id), primary_key=True, autoincrement=False)
    is_gain: Mapped[bool] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    wallet_id: Mapped[int] = mapped_column(BigInteger)
    net: Mapped[int] = mapped_column(Numeric(38, 0))
    made_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))


class VerificationRun(Base):
    """A verification, from being asked for until its end: who wanted it, how far it is, what it checked and found."""

    __tablename__ = "verification_runs"
    __table_args__ = (
        UniqueConstraint("night"),
        CheckConstraint(f"state IN ({', '.join(repr(name) for name in RUN_STATES)})", name="state_known"),
        CheckConstraint("(state = 'requested') = (started_at IS NULL)", name="started"),
        CheckConstraint("(state IN ('ended', 'broken_off')) = (ended_at IS NOT NULL)", name="ended_as_said"),
        CheckConstraint(
            "state <> 'ended' OR (faults IS NOT NULL AND findings IS NOT NULL)", name="ended_with_findings"
        ),
        Index("ix_verification_runs_open", "id", postgresql_where=text("state IN ('requested', 'running')")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    requested_by: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    night: Mapped[dt.datetime | None] = mapped_column(Instant)
    """The hour for which the worker asked by itself: once, however many workers there are."""
    is_requested: Mapped[bool]
    """Whether the worker is to do it; otherwise whoever asked did it at once, and nobody repeats it."""
    is_full: Mapped[bool]
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    started_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    beat_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """When it last told how far it is."""
    ended_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    entries_checked: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    entries_expected: Mapped[int | None] = mapped_column(BigInteger)
    faults: Mapped[int | None] = mapped_column(BigInteger)
    findings: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    """For each invariant its name, sentence, unit, how many were looked at, faults, seconds and the first examples."""
    notes: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
