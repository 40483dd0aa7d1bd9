"""Tables of the console's operators: who they are, how they prove it, and where they are signed in."""

from __future__ import annotations

import datetime as dt
import uuid

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
from sqlalchemy.orm import Mapped, mapped_column

from wallet_app.db import Base
from wallet_app.models import Instant


class Operator(Base):
    """A person who uses the console. Never removed, because the ledger and the audit log name them.

    `epoch` counts what ends all sessions: disabling, a new password, "end all". A session of another epoch is none.
    """

    __tablename__ = "operators"
    __table_args__ = (
        UniqueConstraint("email"),
        UniqueConstraint("handle"),
        CheckConstraint("email = lower(email) AND char_length(email) BETWEEN 3 AND 254", name="email_form"),
        CheckConstraint("char_length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("role IN ('viewer', 'support', 'approver', 'finance', 'admin')", name="role_known"),
        CheckConstraint(
            "totp_confirmed_at IS NULL OR (totp_secret IS NOT NULL AND password_hash IS NOT NULL)", name="set_up_whole"
        ),
        CheckConstraint("octet_length(set_up_hash) = 32", name="set_up_hash_length"),
        CheckConstraint("(set_up_hash IS NULL) = (set_up_expires_at IS NULL)", name="set_up_expires"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    handle: Mapped[uuid.UUID] = mapped_column(Uuid, server_default=text("gen_random_uuid()"))
    """The name by which an authenticator knows the operator; tells nothing."""
    epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    password_hash: Mapped[str | None] = mapped_column(Text)
    totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Sealed with a key that is not in the database."""
    totp_confirmed_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """Null until a code of it was shown: nobody can sign in before."""
    totp_step: Mapped[int | None] = mapped_column(BigInteger)
    """The last half minute (since 1970) whose code was accepted: a code is good once."""
    set_up_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    set_up_expires_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    disabled_at: Mapped[dt.datetime | None] = mapped_column(Instant)


class Passkey(Base):
    """A public key whose private half an authenticator of the operator holds."""

    __tablename__ = "passkeys"
    __table_args__ = (
        UniqueConstraint("credential_id"),
        CheckConstraint("octet_length(credential_id) BETWEEN 1 AND 1023", name="credential_id_length"),
        CheckConstraint("octet_length(public_key) <= 4096", name="public_key_length"),
        CheckConstraint("char_length(name) BETWEEN 1 AND 60", name="name_length"),
        Index("ix_passkeys_operator_id", "operator_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    credential_id: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    last_used_at: Mapped[dt.datetime | None] = mapped_column(Instant)


class PasskeyChallenge(Base):
    """A question that an authenticator was asked; each is answered once, in the browser that asked, or lapses."""

    __tablename__ = "passkey_challenges"
    __table_args__ = (
        CheckConstraint("octet_length(challenge_hash) = 32", name="challenge_hash_length"),
        CheckConstraint("octet_length(cookie_hash) = 32", name="cookie_hash_length"),
        CheckConstraint("purpose IN ('sign_in', 'confirm', 'enrol')", name="purpose_known"),
    )

    challenge_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    cookie_hash: Mapped[bytes] = mapped_column(LargeBinary)
    purpose: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[dt.datetime] = mapped_column(Instant)


class RecoveryCode(Base):
    """A code that stands in once for a lost second factor; 125 random bits, so its SHA-256 tells nothing."""

    __tablename__ = "recovery_codes"
    __table_args__ = (
        CheckConstraint("octet_length(code_hash) = 32", name="code_hash_length"),
        Index("ix_recovery_codes_operator_id", "operator_id"),
    )

    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    created_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    used_at: Mapped[dt.datetime | None] = mapped_column(Instant)


class Session(Base):
    """A browser in which an operator is, or is about to be, signed in; known by the SHA-256 of its cookie alone."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("octet_length(id_hash) = 32", name="id_hash_length"),
        CheckConstraint("stage IN ('set_up', 'second_factor', 'signed_in')", name="stage_known"),
        CheckConstraint("(stage = 'signed_in') = (authenticated_at IS NOT NULL)", name="authenticated_when_signed_in"),
        Index("ix_sessions_operator_id", "operator_id"),
    )

    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey(Operator.id))
    epoch: Mapped[int] = mapped_column(BigInteger)
    stage: Mapped[str] = mapped_column(Text)
    began_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    """Of the first of the ids that this sign-in has had."""
    last_seen_at: Mapped[dt.datetime] = mapped_column(Instant, server_default=func.now())
    """To the minute."""
    authenticated_at: Mapped[dt.datetime | None] = mapped_column(Instant)
    """When the operator last proved who they are."""
    address: Mapped[str] = mapped_column(Text)
    browser: Mapped[str] = mapped_column(Text)


class SignInAttempt(Base):
    """How many attempts in a row have failed for an account, an address or a browser, by the hash of its name.

    An ordinary table: an unlogged one would be empty after a crash, and with it all that slows a guesser down.
    """

    __tablename__ = "sign_in_attempts"
    __table_args__ = (
        CheckConstraint("octet_length(bucket) = 32", name="bucket_length"),
        CheckConstraint("failures >= 0", name="failures_not_negative"),
        Index("ix_sign_in_attempts_last_at", "last_at"),
    )

    bucket: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    last_at: Mapped[dt.datetime] = mapped_column(Instant)
    free_at: Mapped[dt.datetime] = mapped_column(Instant)
    """Before this instant no further attempt is looked at."""
