"""Limits: what was set for assets, user types and wallets, and what wallets have spent lately.

Safe under load: new tables only. The foreign keys to `wallets` and `asset_types` take a lock there for a moment that
stops nobody who reads or posts; `lock_timeout` bounds the wait for it.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_LIMITS = """
CREATE TABLE limits (
    id bigint GENERATED ALWAYS AS IDENTITY,
    level text NOT NULL,
    asset_type_id bigint NOT NULL,
    user_type text,
    wallet_id bigint,
    single_max bigint,
    balance_max bigint,
    day_max bigint,
    rolling_max bigint,
    until timestamptz,
    transaction_id uuid,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_limits PRIMARY KEY (id),
    CONSTRAINT fk_limits_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT fk_limits_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_limits_level_known CHECK (level IN ('asset', 'user_type', 'wallet', 'raise')),
    CONSTRAINT ck_limits_level_has_its_own CHECK (
        (level IN ('wallet', 'raise')) = (wallet_id IS NOT NULL) AND (level = 'user_type') = (user_type IS NOT NULL)
    ),
    CONSTRAINT ck_limits_user_type_known CHECK (user_type = 'USER'),
    CONSTRAINT ck_limits_figures_range CHECK (
        least(single_max, balance_max, day_max, rolling_max) >= 0
        AND greatest(single_max, balance_max, day_max, rolling_max) <= 9007199254740991
    ),
    CONSTRAINT ck_limits_raise_has_its_own CHECK (
        (level = 'raise') = (until IS NOT NULL) AND (level = 'raise') = (transaction_id IS NOT NULL)
        AND (level <> 'raise' OR num_nonnulls(single_max, balance_max, day_max, rolling_max) > 0)
    )
);
CREATE INDEX ix_limits_of_all ON limits (asset_type_id, level, id) WHERE wallet_id IS NULL;
CREATE INDEX ix_limits_of_wallet ON limits (wallet_id, level, id) WHERE wallet_id IS NOT NULL;
"""

_BUCKETS = """
CREATE TABLE spend_buckets (
    wallet_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    amount numeric(38, 0) NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT pk_spend_buckets PRIMARY KEY (wallet_id, hour),
    CONSTRAINT fk_spend_buckets_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_spend_buckets_amount_not_negative CHECK (amount >= 0)
) WITH (fillfactor = 70);
CREATE INDEX ix_spend_buckets_hour ON spend_buckets (hour);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        -- What was set is never changed: something else is set.
        GRANT SELECT, INSERT ON limits TO wallet_app;
        GRANT SELECT, INSERT, DELETE, UPDATE (amount, seq) ON spend_buckets TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_LIMITS)
    op.execute(_BUCKETS)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove everything: nothing is limited then. That a wallet's limits were raised stays in the ledger."""
    op.execute("DROP TABLE spend_buckets, limits")
