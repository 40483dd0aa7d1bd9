"""An index to find those transactions of a wallet that wrote it no entry.

Safe under load: it has no row of an ordinary transaction, which is found by its entry, and so costs a posting nothing.
But a posting waits while it is built: on a large ledger build it beforehand by CREATE INDEX CONCURRENTLY, under the
same name; then there is nothing left to do here.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.execute("""
        CREATE INDEX IF NOT EXISTS ix_transactions_without_entry ON transactions (wallet_id, transaction_id)
         WHERE seq IS NULL AND entry_keys[1] IS DISTINCT FROM wallet_id
    """)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX ix_transactions_without_entry")
