"""Stop switches: how a wallet is frozen or closed, and the switches for users, assets and everything.

Safe under load: the columns have no default that changes a row. The constraints on `wallets` read that table once, and
postings wait while they do; `lock_timeout` bounds the wait for the lock. The service never made a wallet FROZEN before;
one that was made so by hand stops the migration, and is to be frozen by a command after it.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_WALLETS = """
ALTER TABLE wallets
    ADD COLUMN debits_frozen_until timestamptz,
    ADD COLUMN credits_frozen_until timestamptz,
    ADD COLUMN state_transaction_id uuid,
    DROP CONSTRAINT ck_wallets_status_known,
    ADD CONSTRAINT ck_wallets_status_known CHECK (status IN ('ACTIVE', 'CLOSED')),
    ADD CONSTRAINT ck_wallets_state_has_its_transaction CHECK (
        state_transaction_id IS NOT NULL
        OR (status = 'ACTIVE' AND debits_frozen_until IS NULL AND credits_frozen_until IS NULL)
    );
"""

_SWITCHES = """
CREATE TABLE stop_switches (
    id bigint GENERATED ALWAYS AS IDENTITY,
    target text NOT NULL,
    user_id bigint,
    asset_type_id bigint,
    side text NOT NULL,
    reason text NOT NULL,
    until timestamptz,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifted_by text,
    lifted_at timestamptz,
    lift_reason text,
    CONSTRAINT pk_stop_switches PRIMARY KEY (id),
    CONSTRAINT fk_stop_switches_user_id FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT fk_stop_switches_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_stop_switches_target_named CHECK (
        target IN ('user', 'asset', 'everything')
        AND (target = 'user') = (user_id IS NOT NULL) AND (target = 'asset') = (asset_type_id IS NOT NULL)
    ),
    CONSTRAINT ck_stop_switches_side_known CHECK (side IN ('debits', 'credits', 'both')),
    CONSTRAINT ck_stop_switches_reason_length CHECK (
        char_length(reason) BETWEEN 1 AND 500 AND char_length(lift_reason) BETWEEN 1 AND 500
    ),
    CONSTRAINT ck_stop_switches_lifted_as_a_whole CHECK (
        (lifted_at IS NULL) = (lifted_by IS NULL) AND (lifted_at IS NULL) = (lift_reason IS NULL)
    )
);
CREATE UNIQUE INDEX uq_stop_switches_set ON stop_switches (target, user_id, asset_type_id, side, until, reason)
    NULLS NOT DISTINCT WHERE (lifted_at IS NULL);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT UPDATE (status, debits_frozen_until, credits_frozen_until, state_transaction_id) ON wallets TO wallet_app;
        GRANT SELECT, INSERT ON stop_switches TO wallet_app;
        -- What was stopped, and why, is never changed: a switch is lifted, and another one set.
        GRANT UPDATE (lifted_by, lifted_at, lift_reason) ON stop_switches TO wallet_app;
    END IF;
END $$;
"""

_BACK = """
DROP TABLE stop_switches;
ALTER TABLE wallets
    DROP CONSTRAINT ck_wallets_state_has_its_transaction,
    ADD CONSTRAINT ck_wallets_status_known CHECK (status IN ('ACTIVE', 'FROZEN', 'CLOSED')),
    DROP COLUMN state_transaction_id, DROP COLUMN credits_frozen_until, DROP COLUMN debits_frozen_until;
"""

_REVOKES = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        REVOKE UPDATE (status) ON wallets FROM wallet_app;
    END IF;
END $$;
"""

_STILL_FROZEN = """
UPDATE wallets SET status = 'FROZEN'
 WHERE status = 'ACTIVE' AND greatest(debits_frozen_until, credits_frozen_until) > clock_timestamp();
"""


def upgrade() -> None:
    """Add everything."""
    op.execute(_WALLETS)
    op.execute(_SWITCHES)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove everything. Switches stop nothing any more; frozen wallets stay so, on both sides and without an end."""
    op.execute("ALTER TABLE wallets DROP CONSTRAINT ck_wallets_status_known")
    op.execute(_STILL_FROZEN)
    op.execute(_BACK)
    op.execute(_REVOKES)
