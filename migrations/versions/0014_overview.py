"""What is kept behind the postings: how far it has come, the sums of each day, top movers, and verifications.

Safe under load: new tables only, and indexes on the audit log, which are built beside its writers.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_SETTLED = """
CREATE TABLE IF NOT EXISTS settled_cursors (
    consumer text NOT NULL,
    position uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    candidate_at timestamptz,
    ceiling bigint,
    seen_at timestamptz NOT NULL DEFAULT 'epoch',
    restarts_seen bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_settled_cursors PRIMARY KEY (consumer),
    CONSTRAINT ck_settled_cursors_consumer_form CHECK (consumer ~ '^[a-z][a-z_]{0,63}$'),
    CONSTRAINT ck_settled_cursors_candidate_whole CHECK ((candidate_at IS NULL) = (ceiling IS NULL))
);

CREATE TABLE IF NOT EXISTS settled_restarts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    not_before timestamptz NOT NULL,
    CONSTRAINT pk_settled_restarts PRIMARY KEY (id)
);
"""

_TOTALS = """
CREATE TABLE IF NOT EXISTS daily_totals (
    day date NOT NULL,
    asset_type_id bigint NOT NULL,
    entry_type text NOT NULL,
    contra_wallet_id bigint NOT NULL,
    entries bigint NOT NULL,
    wallets bigint NOT NULL,
    credits numeric(38, 0) NOT NULL,
    debits numeric(38, 0) NOT NULL,
    CONSTRAINT pk_daily_totals PRIMARY KEY (day, asset_type_id, entry_type, contra_wallet_id),
    CONSTRAINT fk_daily_totals_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_daily_totals_entry_type_known CHECK (entry_type IN (
        'TOPUP', 'BONUS', 'SPEND', 'SEED', 'ADJUSTMENT', 'TRANSFER', 'EXCHANGE', 'HOLD', 'RELEASE', 'EXPIRY', 'REVERSAL'
    )),
    CONSTRAINT ck_daily_totals_counts CHECK (entries >= 1 AND wallets >= 0 AND wallets <= entries),
    CONSTRAINT ck_daily_totals_not_negative CHECK (credits >= 0 AND debits >= 0)
);

CREATE TABLE IF NOT EXISTS wallet_days (
    day date NOT NULL,
    wallet_id bigint NOT NULL,
    entry_type text NOT NULL,
    contra_wallet_id bigint NOT NULL,
    net numeric(38, 0) NOT NULL,
    CONSTRAINT pk_wallet_days PRIMARY KEY (day, wallet_id, entry_type, contra_wallet_id)
);

CREATE TABLE IF NOT EXISTS top_movers (
    days smallint NOT NULL,
    asset_type_id bigint NOT NULL,
    is_gain boolean NOT NULL,
    place smallint NOT NULL,
    wallet_id bigint NOT NULL,
    net numeric(38, 0) NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_top_movers PRIMARY KEY (days, asset_type_id, is_gain, place),
    CONSTRAINT fk_top_movers_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_top_movers_net_not_zero CHECK (net <> 0),
    CONSTRAINT ck_top_movers_positive CHECK (days >= 1 AND place >= 1)
);
"""

_RUNS = """
CREATE TABLE IF NOT EXISTS verification_runs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    night timestamptz,
    is_requested boolean NOT NULL,
    is_full boolean NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    started_at timestamptz,
    beat_at timestamptz,
    ended_at timestamptz,
    entries_checked bigint NOT NULL DEFAULT 0,
    entries_expected bigint,
    faults bigint,
    findings jsonb,
    notes jsonb,
    CONSTRAINT pk_verification_runs PRIMARY KEY (id),
    CONSTRAINT uq_verification_runs_night UNIQUE (night),
    CONSTRAINT ck_verification_runs_state_known CHECK (state IN ('requested', 'running', 'ended', 'broken_off')),
    CONSTRAINT ck_verification_runs_started CHECK ((state = 'requested') = (started_at IS NULL)),
    CONSTRAINT ck_verification_runs_ended_as_said
        CHECK ((state IN ('ended', 'broken_off')) = (ended_at IS NOT NULL)),
    CONSTRAINT ck_verification_runs_ended_with_findings
        CHECK (state <> 'ended' OR (faults IS NOT NULL AND findings IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS ix_verification_runs_open ON verification_runs (id) WHERE state IN ('requested', 'running');
"""

_AUDIT_INDEXES = {
    "ix_audit_log_occurred_at_id": "(occurred_at, id)",
    "ix_audit_log_actor_occurred_at_id": "(actor, occurred_at, id)",
    "ix_audit_log_action_occurred_at_id": "(action, occurred_at, id)",
    "ix_audit_log_subject_occurred_at_id": "(subject, occurred_at, id) WHERE subject IS NOT NULL",
    "ix_audit_log_ticket_occurred_at_id": "(ticket, occurred_at, id) WHERE ticket IS NOT NULL",
    "ix_audit_log_request_id_occurred_at_id": "(request_id, occurred_at, id) WHERE request_id IS NOT NULL",
}

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE ON settled_cursors, verification_runs TO wallet_app;
        GRANT SELECT, INSERT ON settled_restarts TO wallet_app;
        GRANT UPDATE (not_before) ON settled_restarts TO wallet_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON daily_totals, wallet_days, top_movers TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_SETTLED)
    op.execute(_TOTALS)
    op.execute(_RUNS)
    op.execute(_GRANTS)
    with op.get_context().autocommit_block():
        # Each waits for transactions that began before it, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        for name, on in _AUDIT_INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON audit_log {on}")
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove everything; it can be made again from the ledger, save what is known of earlier verifications."""
    for name in _AUDIT_INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("""
        DROP TABLE verification_runs, top_movers, wallet_days, daily_totals, settled_restarts, settled_cursors
    """)
