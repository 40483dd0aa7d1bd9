"""The tables that a posting appends to no longer look each row's wallet up; instead no wallet can be removed.

A posting writes for wallets whose balance row it has locked, and that row's foreign key stands. The look-up of every
transaction and entry locked the wallet's row once more (FOR KEY SHARE, written to the log) and was a third of what a
posting of 1,000 commands cost the database. `verify` finds an entry without a wallet.

Safe under load: dropping a constraint needs an instant alone with the table, and `lock_timeout` bounds the wait for it.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("ledger_entries", "transaction_details", "transactions")


def upgrade() -> None:
    """Guard the wallets once instead of at every row."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_wallet_id")
    op.execute("""
        CREATE TRIGGER wallets_stay BEFORE DELETE OR TRUNCATE ON wallets
           FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)


def downgrade() -> None:
    """Look up again."""
    op.execute("DROP TRIGGER wallets_stay ON wallets")
    for table in _TABLES:
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id)"
        )
