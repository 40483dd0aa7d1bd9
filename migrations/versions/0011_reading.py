"""Indexes to read by: transactions by their reference, and those of a wallet that wrote it no entry.

Safe under load: both are built while everything else is read, but a posting waits until they are; on a large ledger
build them beforehand by CREATE INDEX CONCURRENTLY, under the same names: then there is nothing left to do here.

A wallet's other transactions are found by its entries, so the second index has only what is not: it costs a posting
nothing. The first has the id too, so that what many wallets have under one reference is read page by page.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEXES = """
CREATE INDEX IF NOT EXISTS ix_transactions_reference_id_transaction_id ON transactions (reference_id, transaction_id);
CREATE INDEX IF NOT EXISTS ix_transactions_without_entry ON transactions (wallet_id, transaction_id)
 WHERE seq IS NULL AND entry_keys[1] IS DISTINCT FROM wallet_id;
"""


def upgrade() -> None:
    """Add the indexes."""
    op.execute(_INDEXES)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP INDEX ix_transactions_without_entry, ix_transactions_reference_id_transaction_id")
