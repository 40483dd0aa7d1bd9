"""An index to list the wallets of one asset, page by page, however rare the asset is.

Safe under load: the index is built while everything else is read and written; only new wallets wait for it, and a
posting makes none. `lock_timeout` bounds the wait for those that are being made.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.execute("CREATE INDEX ix_wallets_asset_type_id_id ON wallets (asset_type_id, id)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX ix_wallets_asset_type_id_id")
