"""Exchange rates: what one asset makes of another, and from when on. Append-only: what applied once stays known.

Safe under load: a new table only. Its foreign keys take a short lock on asset_types that no posting waits for.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE exchange_rates (
    id bigint GENERATED ALWAYS AS IDENTITY,
    from_asset_id bigint NOT NULL,
    to_asset_id bigint NOT NULL,
    numerator bigint,
    denominator bigint,
    valid_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    CONSTRAINT pk_exchange_rates PRIMARY KEY (id),
    CONSTRAINT fk_exchange_rates_from_asset_id FOREIGN KEY (from_asset_id) REFERENCES asset_types (id),
    CONSTRAINT fk_exchange_rates_to_asset_id FOREIGN KEY (to_asset_id) REFERENCES asset_types (id),
    CONSTRAINT ck_exchange_rates_two_assets CHECK (from_asset_id <> to_asset_id),
    CONSTRAINT ck_exchange_rates_above_zero CHECK (numerator >= 1 AND denominator >= 1),
    CONSTRAINT ck_exchange_rates_whole CHECK ((numerator IS NULL) = (denominator IS NULL))
);
CREATE INDEX ix_exchange_rates_pair ON exchange_rates (from_asset_id, to_asset_id, valid_from, id);

CREATE TRIGGER exchange_rates_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON exchange_rates
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT ON exchange_rates TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(_TABLE)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Drop it. The rates that exchanges were made at stay with their transactions."""
    op.execute("DROP TABLE exchange_rates")
