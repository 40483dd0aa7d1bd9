"""Tables of limits: what was set for assets, user types and wallets, and what wallets have spent lately."""

from __future__ import annotations

import datetime as dt
import uuid

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Numeric, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from wallet_app.db import Base
from wallet_app.models import AssetType, Instant, Wallet
from wallet_app.money import AMOUNT_MAX

LIMIT_LEVELS = ("asset", "user_type", "wallet", "raise")
"""For what a limit is set, from the widest to the narrowest. The last is a wallet's higher limit until an instant."""


class Limit(Base):
    """Limits that were set, by all their figures. Append-only: the last of its kind holds, and null is no limit.

    A `raise` is a projection of the transaction that names it, and holds until its end.
    """

    __tablename__ = "limits"
    __table_args__ = (
        CheckConstraint(f"level IN ({', '.join(repr(name) for name in LIMIT_LEVELS)})", name="level_known"),
        CheckConstraint(
            "(level IN ('wallet', 'raise')) = (wallet_id IS NOT NULL)"
            " AND (level = 'user_type') = (user_type IS NOT NULL)",
            name="level_has_its_own",
        ),
        CheckConstraint("user_type = 'USER'", name="user_type_known"),
        CheckConstraint(
            f"least(single_max, balance_max, day_max, rolling_max) >= 0"
            f" AND greatest(single_max, balance_max, day_max, rolling_max) <= {AMOUNT_MAX}",
            name="figures_range",
        ),
        CheckConstraint(
            "(level = 'raise') = (until IS NOT NULL) AND (level = 'raise') = (transaction_id IS NOT NULL)"
            " AND (level <> 'raise' OR num_nonnulls(single_max, balance_max, day_max, rolling_max) > 0)",
            name="raise_has_its_own",
        ),
        Index(
            "ix_limits_of_all",
            *("asset_type_id", "level", "id"),
            postgresql_where=text("wallet_id IS NULL"),
        ),
        Index("ix_limits_of_wallet", "wallet_id", "level", "id", postgresql_where=text("wallet_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    level: Mapped[str] = mapped_column(Text)
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id))
    user_type: Mapped[str | None] = mapped_column(Text)
    """USER: what is the system's has no limits."""
    wallet_id: Mapped[int | None] = mapped_column(ForeignKey(Wallet.id))
    single_max: Mapped[int | None] = mapped_column(BigInteger)
    balance_max: Mapped[int | None] = mapped_column(BigInteger)
    day_max: Mapped[int | None] = mapped_column(BigInteger)
    rolling_max: Mapped[int | None] = mapped_column(BigInteger)
    until: Mapped[dt.datetime | None] = mapped_column(Instant)
    transaction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    set_by: Mapped[str] = mapped_column(Text)
    set_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))


class SpendBucket(Base):
    """What a wallet with a limit on its spending spent within an hour, which begins at `hour`.

    A projection of entries, holds and reversals, kept by the posting of each entry of such a wallet. `seq` is the last
    entry that is counted: where the largest of a wallet is not its version, it is counted anew from the ledger.
    """

    __tablename__ = "spend_buckets"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="amount_not_negative"),
        Index("ix_spend_buckets_hour", "hour"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    hour: Mapped[dt.datetime] = mapped_column(Instant, primary_key=True)
    amount: Mapped[int] = mapped_column(Numeric(38, 0))
    """Numeric, because nothing bounds what is spent before a limit is set."""
    seq: Mapped[int] = mapped_column(BigInteger)
