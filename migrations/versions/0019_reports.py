"""Reports: the daily totals of a SYSTEM wallet, and of an asset's, are found without reading those of all others.

Safe under load: the index is built beside its only writer, the worker.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None

_NAME = "ix_daily_totals_contra_wallet_id_day"


def upgrade() -> None:
    """Make the index."""
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_NAME}")
        op.execute(f"CREATE INDEX CONCURRENTLY {_NAME} ON daily_totals (contra_wallet_id, day)")
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove it."""
    op.execute(f"DROP INDEX {_NAME}")
