"""Reports: the daily totals of a SYSTEM wallet are found without reading those of others, and lots have totals too.

Safe under load: new tables; an index that is built beside its only writer, the worker; and one of extensions of lots,
of which there are few, and which waits for them alone.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_daily_totals_contra_wallet_id_day": "daily_totals (contra_wallet_id, day)",
    "ix_lot_movements_extended": "lot_movements (wallet_id, lot_seq, lot_part, seq) WHERE kind = 'extend'",
}

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
    """Make tables and indexes."""
    op.execute(_TABLES)
    op.execute(_GRANTS)
    with op.get_context().autocommit_block():
        # Each waits for transactions that began before it, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        for name, on in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}")
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove them; all of it can be made again from the ledger."""
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("DROP TABLE lot_ends, bonus_totals")
