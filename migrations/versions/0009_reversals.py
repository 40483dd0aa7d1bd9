"""Reversals: how much of each entry was taken back or is still owed, and what a wallet owes in all.

Safe under load: the index is built beside the writers, in a transaction of its own; it has a line for a reversal alone,
so other postings pass it by. The new column is in the catalogue only, and its check reads the balances once, which
postings wait for: a second for millions of wallets. An entry is known by its wallet and seq, so what is to be known of
it is found by the primary key, and guarded by the lock on its wallet alone.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE reversed_entries (
    wallet_id bigint NOT NULL,
    seq bigint NOT NULL,
    transaction_id uuid NOT NULL,
    contra_wallet_id bigint NOT NULL,
    amount bigint NOT NULL,
    reversed bigint NOT NULL,
    owed bigint NOT NULL,
    owed_since timestamptz,
    CONSTRAINT pk_reversed_entries PRIMARY KEY (wallet_id, seq),
    CONSTRAINT fk_reversed_entries_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_reversed_entries_not_negative CHECK (reversed >= 0 AND owed >= 0),
    CONSTRAINT ck_reversed_entries_within_amount CHECK (reversed + owed <= amount),
    CONSTRAINT ck_reversed_entries_owed_since CHECK ((owed > 0) = (owed_since IS NOT NULL))
);
CREATE INDEX ix_reversed_entries_owed ON reversed_entries (wallet_id, owed_since, seq) WHERE owed > 0;
ALTER TABLE wallet_balances
  ADD COLUMN owed bigint DEFAULT 0 NOT NULL,
  ADD CONSTRAINT ck_wallet_balances_owed_not_negative CHECK (owed >= 0);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE ON reversed_entries TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything."""
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it; what an earlier try left goes first.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_transactions_reverses")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_transactions_reverses ON transactions (reverses) WHERE reverses IS NOT NULL"
        )
        op.execute("SET lock_timeout = '2s'")
    op.execute(_TABLES)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove everything. What was reversed stays so in the ledger, but could be reversed again, and no debt is left."""
    op.execute("ALTER TABLE wallet_balances DROP COLUMN owed")
    op.execute("DROP TABLE reversed_entries")
    op.execute("DROP INDEX ix_transactions_reverses")
