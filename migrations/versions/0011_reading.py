"""An index to find those transactions of a wallet that wrote it no entry.

Safe under load: it is built beside the writers, in a transaction of its own, and it has no row of an ordinary
transaction, which is found by its entry; so it costs a posting nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it; what an earlier try left goes first.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_transactions_without_entry")
        op.execute("""
            CREATE INDEX CONCURRENTLY ix_transactions_without_entry ON transactions (wallet_id, transaction_id)
             WHERE seq IS NULL AND entry_keys[1] IS DISTINCT FROM wallet_id
        """)
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX ix_transactions_without_entry")
