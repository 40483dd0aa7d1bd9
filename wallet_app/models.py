"""Tables, columns and constraints; no behaviour. Each rule of the books that a constraint can state stands here too."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from wallet_app.db import Base
from wallet_app.money import AMOUNT_MAX

ENTRY_TYPES = (
    "TOPUP",
    "BONUS",
    "SPEND",
    "SEED",
    "ADJUSTMENT",
    "TRANSFER",
    "EXCHANGE",
    "HOLD",
    "RELEASE",
    "EXPIRY",
    "REVERSAL",
)
LOT_KINDS = ("bonus", "paid")
"""What was granted, and what was paid for; of paid credit only what ends is in lots."""

LOT_MOVEMENT_KINDS = ("grant", "consume", "hold", "release", "restore", "expire", "revoke", "extend")

HOLD_STATES = ("open", "partially_captured", "captured", "released", "expired")
"""A hold begins open; the last three are the end."""

SIDES = ("debits", "credits", "both")
"""What a freeze or a switch stops: what leaves a wallet, what comes into it, or both."""

SWITCH_TARGETS = ("user", "asset", "everything")

SYSTEM_USERS = (
    "Treasury",
    "Promotions",
    "Revenue",
    "Adjustments",
    "Breakage",
    "Holds",
    "Clearing",
    "Exchange",
)
"""The owners of the contra wallets, one wallet per asset each."""

Instant = DateTime(timezone=True)


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id, read as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class AssetType(Base):
    """A kind of credit. `scale` is the number of decimal places for display; amounts are in the smallest unit."""

    __tablename__ = "asset_types"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("code ~ '^[A-Z][A-Z0-9_]{1,31}$'", name="code_form"),
        CheckConstraint("scale BETWEEN 0 AND 12", name="scale_range"),
        CheckConstraint("bonus_days BETWEEN 1 AND 3650 AND paid_days BETWEEN 1 AND 3650", name="days_range"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    code: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    scale: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    time_zone: Mapped[str] = mapped_column(Text, server_default=text("'UTC'"))
    """Where its days begin and end: the name of a time zone."""
    bonus_days: Mapped[int | None] = mapped_column(Integer)
    """How many days after that of the grant a bonus can still be used, unless it is said; null: for ever."""
    paid_days: Mapped[int | None] = mapped_column(Integer)
    """The same of what is topped up; null, as the law often wants it: for ever."""


class User(Base):
    """An owner of wallets: a person (USER), or one of the system's own sides of the books (SYSTEM)."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("external_id"),
        CheckConstraint("user_type IN ('USER', 'SYSTEM')", name="user_type_known"),
        Index("uq_users_system_name", "name", unique=True, postgresql_where=text("user_type = 'SYSTEM'")),
        Index("ix_users_unfolded", "id", postgresql_where=text("name_folded IS NULL")),
        Index("ix_users_name_prefix", "name_folded", postgresql_ops={"name_folded": "text_pattern_ops"}),
        # Of the extension pg_trgm, and only where there is one.
        Index(
            "ix_users_name_folded",
            "name_folded",
            postgresql_using="gin",
            postgresql_ops={"name_folded": "gin_trgm_ops"},
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    user_type: Mapped[str] = mapped_column(Text)
    external_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    name_folded: Mapped[str | None] = mapped_column(Text)
    """The name as it is searched for, without case and accents; null until the worker comes, in rows of before."""


class Wallet(Base):
    """One asset of one owner. Its balance lies in wallet_balances (USER) or system_balances (SYSTEM)."""

    __tablename__ = "wallets"
    __table_args__ = (
        UniqueConstraint("user_id", "asset_type_id"),
        Index("ix_wallets_asset_type_id_id", "asset_type_id", "id"),
        CheckConstraint("status IN ('ACTIVE', 'CLOSED')", name="status_known"),
        CheckConstraint(
            "state_transaction_id IS NOT NULL"
            " OR (status = 'ACTIVE' AND debits_frozen_until IS NULL AND credits_frozen_until IS NULL)",
            name="state_has_its_transaction",
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    asset_type_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id))
    status: Mapped[str] = mapped_column(Text, server_default=text("'ACTIVE'"))
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    debits_frozen_until: Mapped[dt.datetime | None] = mapped_column(Instant)
    """Null where they never were frozen, or were unfrozen; an instant that has passed freezes nothing."""
    credits_frozen_until: Mapped[dt.datetime | None] = mapped_column(Instant)
    state_transaction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    """The last transaction that froze, unfroze or closed it: what it says is what these columns say."""


class WalletBalance(Base):
    """The cached projection of a user wallet's entries, and the row that a posting locks.

    `version` is the seq of the last entry, `chain` its hash, `updated_at` its created_at.
    """

    __tablename__ = "wallet_balances"
    __table_args__ = (
        CheckConstraint(f"balance BETWEEN 0 AND {AMOUNT_MAX}", name="balance_range"),
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("version >= 0", name="version_not_negative"),
        CheckConstraint("octet_length(chain) = 32", name="chain_length"),
        CheckConstraint("owed >= 0", name="owed_not_negative"),
        CheckConstraint("bonus BETWEEN 0 AND balance", name="bonus_range"),
        CheckConstraint("lots >= 0", name="lots_not_negative"),
        # Room in the page for the next version of the row: an update then touches no index.
        {"postgresql_with": {"fillfactor": 50}},
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    chain: Mapped[bytes] = mapped_column(LargeBinary)
    updated_at: Mapped[dt.datetime] = mapped_column(Instant)
    owed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What its reversed entries owe together; who owes something has a balance of 0."""
    bonus: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What is available of its bonus lots; the rest of the balance is paid."""
    lots: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How many of its lots that end have something available or held, and one more if its standing lot holds something.

    With 0 this row tells all: the standing lot has `bonus` available, and no other lot has anything.
    """


class Transaction(Base):
    """One accepted command, for ever. The primary key is the idempotency rule: one reference per anchor wallet."""

    __tablename__ = "transactions"
    __table_args__ = (
        CheckConstraint("char_length(reference_id) BETWEEN 1 AND 200", name="reference_id_length"),
        CheckConstraint("seq IS NULL OR entry_keys IS NULL", name="one_way_to_entries"),
        CheckConstraint("octet_length(digest) = 32", name="digest_length"),
        CheckConstraint("octet_length(details_hash) = 32", name="details_hash_length"),
        Index("ix_transactions_transaction_id", "transaction_id"),
        Index(
            "ix_transactions_without_entry",
            "wallet_id",
            "transaction_id",
            postgresql_where=text("seq IS NULL AND entry_keys[1] IS DISTINCT FROM wallet_id"),
        ),
        Index("ix_transactions_reverses", "reverses", postgresql_where=text("reverses IS NOT NULL")),
    )

    wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference_id: Mapped[str] = mapped_column(Text, primary_key=True)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    kind: Mapped[str] = mapped_column(Text)
    client: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    """The one entry of the anchor, in most transactions."""
    entry_keys: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    """Otherwise wallet id and seq of each entry, one after the other."""
    request: Mapped[Any | None] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB)
    reverses: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    details_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    occurred_at: Mapped[dt.datetime] = mapped_column(Instant)
    created_at: Mapped[dt.datetime] = mapped_column(Instant)
    xid: Mapped[str] = mapped_column(Xid8, server_default=text("pg_current_xact_id()"))


class TransactionReference(Base):
    """Where a reference is used, whichever the wallet: the worker's index over transactions, behind their commits.

    `digest` begins sha256 of the reference, so what is found is compared with the reference itself.
    """

    __tablename__ = "transaction_references"

    digest: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)


class TransactionDetail(Base):
    """Note and metadata of a transaction: the one erasable table, because personal data ends up in notes."""

    __tablename__ = "transaction_details"
    __table_args__ = (
        CheckConstraint("octet_length(salt) = 16", name="salt_length"),
        CheckConstraint("char_length(note) <= 500", name="note_length"),
    )

    wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[Any | None] = mapped_column("metadata", JSON)
    """`json`, not `jsonb`: it keeps the text to the byte, and the text is what details_hash covers."""


class LedgerEntry(Base):
    """The append-only source of truth: one movement of a user wallet against a contra wallet, both legs in one row."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("seq >= 1", name="seq_positive"),
        CheckConstraint("amount <> 0", name="amount_not_zero"),
        CheckConstraint(f"amount BETWEEN -{AMOUNT_MAX} AND {AMOUNT_MAX}", name="amount_range"),
        CheckConstraint(f"balance_after BETWEEN 0 AND {AMOUNT_MAX}", name="balance_after_range"),
        CheckConstraint("contra_wallet_id <> wallet_id", name="contra_is_another"),
        CheckConstraint(f"entry_type IN ({', '.join(repr(name) for name in ENTRY_TYPES)})", name="entry_type_known"),
        CheckConstraint("octet_length(hash) = 32", name="hash_length"),
    )

    wallet_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    entry_type: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    contra_wallet_id: Mapped[int] = mapped_column(BigInteger)
    """No foreign key: it would take a share lock on Treasury's row with every insert."""
    created_at: Mapped[dt.datetime] = mapped_column(Instant)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class SystemBalance(Base):
    """A slot of a SYSTEM wallet's balance, which is the sum of its slots and may be below zero.

    Numeric, because the contra side of many full wallets exceeds 64 bits.
    """

    __tablename__ = "system_balances"
    __table_args__ = (
        CheckConstraint("slot BETWEEN 0 AND 15", name="slot_range"),
        {"postgresql_with": {"fillfactor": 20}},
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(Numeric(38, 0))


class Hold(Base):
    """What was set aside of a wallet. A projection of the transactions that placed, captured, released or expired it.

    `hold_id` is the id of the transaction that placed it, `seq` its HOLD entry's.
    """

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("captured >= 0 AND released >= 0 AND expired >= 0", name="parts_not_negative"),
        CheckConstraint("captured + released + expired <= amount", name="parts_within_amount"),
        CheckConstraint(f"state IN ({', '.join(repr(name) for name in HOLD_STATES)})", name="state_known"),
        CheckConstraint(
            "(state IN ('open', 'partially_captured')) = (captured + released + expired < amount)"
            " AND (state IN ('open', 'partially_captured')) = (ended_at IS NULL)",
            name="ended_when_nothing_is_left",
        ),
        Index("ix_holds_wallet_id_state_seq", "wallet_id", "state", "seq"),
        Index("ix_holds_open", "wallet_id", "expires_at", postgresql_where=text("ended_at IS NULL")),
        Index("ix_holds_due", "expires_at", "wallet_id", "seq", postgresql_where=text("ended_at IS NULL")),
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hold_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    amount: Mapped[int] = mapped_column(BigInteger)
    captured: Mapped[int] = mapped_column(BigInteger)
    released: Mapped[int] = mapped_column(BigInteger)
    expired: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[dt.datetime] = mapped_column(Instant)
    created_at: Mapped[dt.datetime] = mapped_column(Instant)
    ended_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    changes: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    """The seqs of the RELEASE entries that gave parts of it back, each of a transaction of its own."""
    lots: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))
    """What of it that is still held is of lots: seq and part of each lot, and how much; the rest is paid."""


class Lot(Base):
    """A grant of credit that ends, or a wallet's standing lot: all its bonus without an end.

    A projection of its movements, whose parts make `amount`. `seq` is that of the entry that granted it, and `part`
    counts the lots of that entry from 1; both are 0 for the standing lot.
    """

    __tablename__ = "lots"
    __table_args__ = (
        CheckConstraint(f"kind IN ({', '.join(repr(name) for name in LOT_KINDS)})", name="kind_known"),
        CheckConstraint(
            "available >= 0 AND held >= 0 AND consumed >= 0 AND expired >= 0 AND revoked >= 0",
            name="parts_not_negative",
        ),
        CheckConstraint("available + held + consumed + expired + revoked = amount", name="parts_make_amount"),
        CheckConstraint("amount > 0", name="amount_not_zero"),
        CheckConstraint(
            "(seq = 0) = (expires_at = '9999-01-01 00:00:00+00') AND (seq = 0) = (part = 0)"
            " AND (seq > 0 OR (kind = 'bonus' AND expired = 0))",
            name="standing_has_no_end",
        ),
        # The order in which lots are taken: soonest end first, bonus before paid, then as they came.
        Index(
            "ix_lots_taking",
            *("wallet_id", "expires_at", "kind", "seq", "part"),
            postgresql_where=text("available > 0"),
        ),
        Index(
            "ix_lots_due",
            *("expires_at", "wallet_id", "seq", "part"),
            postgresql_where=text("available > 0 AND expires_at < '9999-01-01 00:00:00+00'"),
        ),
        Index("ix_lots_lot_id", "lot_id"),
        # Room in the page for the next version of the row.
        {"postgresql_with": {"fillfactor": 50}},
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    lot_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    """The id of the transaction that granted it, if it granted no other; the standing lot's is the wallet's number."""
    kind: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    """All that was granted into it: of the standing lot it grows."""
    available: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[int] = mapped_column(BigInteger)
    consumed: Mapped[int] = mapped_column(BigInteger)
    """Spent, transferred or exchanged, less what came back of that."""
    expired: Mapped[int] = mapped_column(BigInteger)
    revoked: Mapped[int] = mapped_column(BigInteger)
    """Taken back by reversals."""
    expires_at: Mapped[dt.datetime] = mapped_column(Instant)
    """It can be used before this instant. The standing lot's is NO_END."""
    created_at: Mapped[dt.datetime] = mapped_column(Instant)
    changed_at: Mapped[dt.datetime] = mapped_column(Instant)


class LotMovement(Base):
    """What an entry did to a lot, for ever; all that a lot says is the sum of these. Append-only.

    (wallet_id, seq) is the entry; an `extend` has none, and `seq` is the wallet's version then. What an entry moved and
    is in no lot is paid credit without an end.
    """

    __tablename__ = "lot_movements"
    __table_args__ = (
        CheckConstraint(f"kind IN ({', '.join(repr(name) for name in LOT_MOVEMENT_KINDS)})", name="kind_known"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("(kind IN ('grant', 'extend')) = (expires_at IS NOT NULL)", name="tells_end"),
        Index("ix_lot_movements_lot", "wallet_id", "lot_seq", "lot_part", "seq"),
        # When a lot ended at an earlier time: it may have any number of other movements.
        Index(
            "ix_lot_movements_extended",
            *("wallet_id", "lot_seq", "lot_part", "seq"),
            postgresql_where=text("kind = 'extend'"),
        ),
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Its place among those of the entry, from 1: the order in which the lots were taken, or came."""
    lot_seq: Mapped[int] = mapped_column(BigInteger)
    lot_part: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(BigInteger)
    """Of an extension, what was available or held."""
    expires_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """The lot's end since then; for grants and extensions alone."""
    created_at: Mapped[dt.datetime] = mapped_column(Instant)


class ReversedEntry(Base):
    """How much of an entry was reversed, and how much of it is owed because it was not there to be taken back.

    A projection of the transactions that reverse the entry's, and the bound of all that come: a row of an entry's own
    wallet, so that the lock on that wallet guards it.
    """

    __tablename__ = "reversed_entries"
    __table_args__ = (
        CheckConstraint("reversed >= 0 AND owed >= 0", name="not_negative"),
        CheckConstraint("reversed + owed <= amount", name="within_amount"),
        CheckConstraint("(owed > 0) = (owed_since IS NOT NULL)", name="owed_since"),
        Index("ix_reversed_entries_owed", "wallet_id", "owed_since", "seq", postgresql_where=text("owed > 0")),
    )

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    transaction_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    """The entry's own transaction."""
    contra_wallet_id: Mapped[int] = mapped_column(BigInteger)
    """The entry's too."""
    amount: Mapped[int] = mapped_column(BigInteger)
    """The entry's, without its sign."""
    reversed: Mapped[int] = mapped_column(BigInteger)
    owed: Mapped[int] = mapped_column(BigInteger)
    owed_since: Mapped[dt.datetime | None] = mapped_column(Instant)
    """When it began to owe something; the oldest debt is repaid first."""


class ExchangeRate(Base):
    """From when on one smallest unit of an asset makes so many of another; a null rate: none any more. Append-only."""

    __tablename__ = "exchange_rates"
    __table_args__ = (
        CheckConstraint("from_asset_id <> to_asset_id", name="two_assets"),
        CheckConstraint("numerator >= 1 AND denominator >= 1", name="above_zero"),
        CheckConstraint("(numerator IS NULL) = (denominator IS NULL)", name="whole"),
        Index("ix_exchange_rates_pair", "from_asset_id", "to_asset_id", "valid_from", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    from_asset_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id))
    to_asset_id: Mapped[int] = mapped_column(ForeignKey(AssetType.id))
    numerator: Mapped[int | None] = mapped_column(BigInteger)
    denominator: Mapped[int | None] = mapped_column(BigInteger)
    valid_from: Mapped[dt.datetime] = mapped_column(Instant)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    created_by: Mapped[str] = mapped_column(Text)


class StopSwitch(Base):
    """Debits, credits or both of a user, of an asset or of everything are stopped, until somebody lifts it or it ends.

    Lifted switches stay; the audit log tells of both.
    """

    __tablename__ = "stop_switches"
    __table_args__ = (
        CheckConstraint(
            f"target IN ({', '.join(repr(name) for name in SWITCH_TARGETS)})"
            " AND (target = 'user') = (user_id IS NOT NULL) AND (target = 'asset') = (asset_type_id IS NOT NULL)",
            name="target_named",
        ),
        CheckConstraint(f"side IN ({', '.join(repr(name) for name in SIDES)})", name="side_known"),
        CheckConstraint(
            "char_length(reason) BETWEEN 1 AND 500 AND char_length(lift_reason) BETWEEN 1 AND 500",
            name="reason_length",
        ),
        CheckConstraint(
            "(lifted_at IS NULL) = (lifted_by IS NULL) AND (lifted_at IS NULL) = (lift_reason IS NULL)",
            name="lifted_as_a_whole",
        ),
        # Each posting looks here for the few that are set; and the same is not set twice.
        Index(
            "uq_stop_switches_set",
            *("target", "user_id", "asset_type_id", "side", "until", "reason"),
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    target: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey(AssetType.id))
    side: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    until: Mapped[dt.datetime | None] = mapped_column(Instant)
    """Null for one without an end."""
    set_by: Mapped[str] = mapped_column(Text)
    set_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    lifted_by: Mapped[str | None] = mapped_column(Text)
    lifted_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    lift_reason: Mapped[str | None] = mapped_column(Text)


class VerifyMark(Base):
    """How far a wallet's entries were verified, and what the entry at `seq` said: the next verification starts there.

    It counts only for the incremental verification of its own `round`; as evidence it stands in any.
    """

    __tablename__ = "verify_marks"

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    balance: Mapped[int] = mapped_column(BigInteger)
    held: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime] = mapped_column(Instant)


class VerifyContraSum(Base):
    """The sum, per contra wallet, of all entries up to the round's marks; moves in the same unit of work as they do."""

    __tablename__ = "verify_contra_sums"

    wallet_id: Mapped[int] = mapped_column(ForeignKey(Wallet.id), primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(Numeric(38, 0))


class VerifyRun(Base):
    """A verification that ended: when, how much it looked at, what it found."""

    __tablename__ = "verify_runs"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    started_at: Mapped[dt.datetime] = mapped_column(Instant)
    ended_at: Mapped[dt.datetime] = mapped_column(Instant)
    is_full: Mapped[bool]
    transactions_from: Mapped[dt.datetime | None] = mapped_column(Instant)
    """Transactions with an id from before this instant were left to earlier runs; null when none were."""
    entries_checked: Mapped[int] = mapped_column(BigInteger)
    faults: Mapped[int] = mapped_column(BigInteger)
    audit_seq: Mapped[int | None] = mapped_column(BigInteger)
    """How far the audit log's chain was found right, and its hash there."""
    audit_hash: Mapped[bytes | None] = mapped_column(LargeBinary)


class WorkerHeartbeat(Base):
    """A worker's sign of life, and when each of its jobs was last done; gone after a clean end, or a day's silence."""

    __tablename__ = "worker_heartbeats"

    worker_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    beat_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    jobs: Mapped[Any] = mapped_column(JSONB)


class AuditRecord(Base):
    """What an operator, a key or the administration did or tried beside moving money. Append-only."""

    __tablename__ = "audit_log"
    __table_args__ = (
        CheckConstraint("action ~ '^[a-z][a-z_]*:[a-z][a-z_]*$'", name="action_form"),
        CheckConstraint("outcome IN ('done', 'denied', 'failed')", name="outcome_known"),
        CheckConstraint(
            "char_length(concat(actor, action, subject, reason, ticket, request_id, address)) <= 4000",
            name="text_length",
        ),
        # For the console's filters: each is a walk along one of these, newest first.
        Index("ix_audit_log_occurred_at_id", "occurred_at", "id"),
        Index("ix_audit_log_actor_occurred_at_id", "actor", "occurred_at", "id"),
        Index("ix_audit_log_action_occurred_at_id", "action", "occurred_at", "id"),
        *[
            Index(
                f"ix_audit_log_{name}_occurred_at_id",
                name,
                "occurred_at",
                "id",
                postgresql_where=text(f"{name} IS NOT NULL"),
            )
            for name in ("subject", "ticket", "request_id")
        ],
        # When an operator signed in last.
        Index(
            "ix_audit_log_sign_ins",
            "subject",
            "id",
            postgresql_where=text(
                "outcome = 'done'"
                " AND action IN ('sign_in:code', 'sign_in:passkey', 'sign_in:recovery', 'operator:set_up')"
            ),
        ),
    )

    xid: Mapped[str] = mapped_column(Xid8, server_default=text("pg_current_xact_id()"))
    """In front of `id`, so that whoever has an id has had its xid before: defaults are made in this order."""
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    occurred_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    before: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(Text)
    ticket: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)


class AuditLink(Base):
    """A link of the audit log's chain, made after the record was committed. Append-only.

    `horizon` and `ceiling` are the database's when the link was made: every record of a transaction below the horizon
    was there to be chained, and no transaction from the ceiling on had begun.
    """

    __tablename__ = "audit_chain"
    __table_args__ = (
        UniqueConstraint("audit_id"),
        CheckConstraint("seq >= 1", name="seq_positive"),
        CheckConstraint("octet_length(hash) = 32", name="hash_length"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    audit_id: Mapped[int] = mapped_column(BigInteger)
    horizon: Mapped[int] = mapped_column(BigInteger)
    ceiling: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class Client(Base):
    """A service that has keys; its name stands in the ledger as the owner of its references."""

    __tablename__ = "clients"
    __table_args__ = (
        UniqueConstraint("name"),
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'", name="name_form"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    revoked_at: Mapped[dt.datetime | None] = mapped_column(Instant)


class ApiKey(Base):
    """A key of a client: what it may do, and the HMAC of its secret.

    Live until it expires, or it or its client is revoked.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("key_id ~ '^[a-z2-7]{12}$'", name="key_id_form"),
        CheckConstraint("octet_length(secret_hmac) = 32", name="secret_hmac_length"),
        CheckConstraint("amount_max >= 1", name="amount_max_positive"),
    )

    key_id: Mapped[str] = mapped_column(Text, primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey(Client.id), index=True)
    secret_hmac: Mapped[bytes] = mapped_column(LargeBinary)
    pepper_version: Mapped[int] = mapped_column(SmallInteger)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    amount_max: Mapped[int | None] = mapped_column(BigInteger)
    assets: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    networks: Mapped[list[Any] | None] = mapped_column(ARRAY(CIDR))
    rate_limit: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    created_by: Mapped[str] = mapped_column(Text)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """To within about a minute."""
