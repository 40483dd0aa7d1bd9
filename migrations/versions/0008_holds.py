"""Holds: what was set aside of a wallet, until when, and what became of it; and the workers' signs of life.

Safe under load: new tables only. `seq` is the number of the wallet's HOLD entry, so a page of a wallet's holds, and a
hold whose transaction is known, are found by the primary key.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE holds (
    wallet_id bigint NOT NULL,
    seq bigint NOT NULL,
    hold_id uuid NOT NULL,
    amount bigint NOT NULL,
    captured bigint NOT NULL,
    released bigint NOT NULL,
    expired bigint NOT NULL,
    state text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    changes bigint[] NOT NULL,
    CONSTRAINT pk_holds PRIMARY KEY (wallet_id, seq),
    CONSTRAINT fk_holds_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_holds_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_holds_parts_not_negative CHECK (captured >= 0 AND released >= 0 AND expired >= 0),
    CONSTRAINT ck_holds_parts_within_amount CHECK (captured + released + expired <= amount),
    CONSTRAINT ck_holds_state_known
        CHECK (state IN ('open', 'partially_captured', 'captured', 'released', 'expired')),
    CONSTRAINT ck_holds_ended_when_nothing_is_left CHECK (
        (state IN ('open', 'partially_captured')) = (captured + released + expired < amount)
        AND (state IN ('open', 'partially_captured')) = (ended_at IS NULL)
    )
);
CREATE INDEX ix_holds_wallet_id_state_seq ON holds (wallet_id, state, seq);
CREATE INDEX ix_holds_open ON holds (wallet_id, expires_at) WHERE ended_at IS NULL;
CREATE INDEX ix_holds_due ON holds (expires_at, wallet_id, seq) WHERE ended_at IS NULL;
"""

_WORKERS = """
CREATE TABLE worker_heartbeats (
    worker_id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    jobs jsonb NOT NULL,
    CONSTRAINT pk_worker_heartbeats PRIMARY KEY (worker_id)
);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE ON holds TO wallet_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON worker_heartbeats TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_TABLES)
    op.execute(_WORKERS)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove everything. What is held stays in the ledger, and could no more be captured or released."""
    op.execute("DROP TABLE worker_heartbeats, holds")
