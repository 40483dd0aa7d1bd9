"""Reports tell what is bonus, and when what users have ends: the totals of lots, which the worker adds up.

Safe under load: new tables, and an index of extensions of lots, of which there are few; nobody waits for it.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE IF NOT EXISTS bonus_totals (
    contra_wallet_id bigint NOT NULL,
    day date NOT NULL,
    entry_type text NOT NULL,
    entries bigint NOT NULL,
    credits numeric(38, 0) NOT NULL,
    debits numeric(38, 0) NOT NULL,
    CONSTRAINT pk_bonus_totals PRIMARY KEY (contra_wallet_id, day, entry_type),
    CONSTRAINT ck_bonus_totals_not_negative CHECK (entries >= 1 AND credits >= 0 AND debits >= 0)
);

CREATE TABLE IF NOT EXISTS lot_ends (
    asset_type_id bigint NOT NULL,
    kind text NOT NULL,
    ends_on date NOT NULL,
    day date NOT NULL,
    entries bigint NOT NULL,
    credits numeric(38, 0) NOT NULL,
    debits numeric(38, 0) NOT NULL,
    CONSTRAINT pk_lot_ends PRIMARY KEY (asset_type_id, kind, ends_on, day),
    CONSTRAINT fk_lot_ends_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_lot_ends_kind_known CHECK (kind IN ('bonus', 'paid')),
    CONSTRAINT ck_lot_ends_not_negative CHECK (entries >= 1 AND credits >= 0 AND debits >= 0)
);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON bonus_totals, lot_ends TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Make tables and index."""
    op.execute(_TABLES)
    op.execute(_GRANTS)
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_lot_movements_extended")
        op.execute("""
            CREATE INDEX CONCURRENTLY ix_lot_movements_extended
                ON lot_movements (wallet_id, lot_seq, lot_part, seq) WHERE kind = 'extend'
        """)
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove them; all of it can be made again from the ledger."""
    op.execute("DROP INDEX ix_lot_movements_extended")
    op.execute("DROP TABLE lot_ends, bonus_totals")
