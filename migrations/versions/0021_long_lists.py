"""So that pages about much take no longer: sums of blocks of a wallet's entries, and the bulk rows with a problem.

Safe under load: a new table, which the worker fills from what has settled, at first from the whole ledger; and an index
of rows of bulk runs, which holds up these runs alone while it is made.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE wallet_sums (
    wallet_id bigint NOT NULL,
    block bigint NOT NULL,
    entry_type text NOT NULL,
    is_credit boolean NOT NULL,
    entries bigint NOT NULL,
    amount numeric(38, 0) NOT NULL,
    CONSTRAINT pk_wallet_sums PRIMARY KEY (wallet_id, block, entry_type, is_credit),
    CONSTRAINT ck_wallet_sums_entries CHECK (block >= 0 AND entries >= 1),
    CONSTRAINT ck_wallet_sums_sign CHECK (amount <> 0 AND is_credit = (amount > 0))
);
"""

# What a run's preview says would be refused is counted on every list of runs.
_INDEX = """
CREATE INDEX ix_bulk_rows_expected_error ON bulk_rows (run_id, row_no) WHERE expected_error IS NOT NULL;
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, DELETE ON wallet_sums TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create both."""
    op.execute(_TABLE)
    op.execute(_INDEX)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove both: all of it can be made again."""
    op.execute("DROP INDEX ix_bulk_rows_expected_error")
    op.execute("DROP TABLE wallet_sums")
    op.execute("DELETE FROM settled_cursors WHERE consumer = 'wallet_sums'")
