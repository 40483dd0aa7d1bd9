"""What the search needs: transactions by reference, and users by name.

Safe under load: a new table and a column without a default; the indexes are built beside the writers, each in a
transaction of its own. Nothing is filled in here: the worker does that, in small pieces. The trigram index is left out
where this user may not create the extension pg_trgm, or it is not installed: the search by name then reads all names.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# If an index fails, all this is there already when the migration runs again.
_TABLES = """
CREATE TABLE IF NOT EXISTS transaction_references (
    digest bigint NOT NULL,
    transaction_id uuid NOT NULL,
    CONSTRAINT pk_transaction_references PRIMARY KEY (digest, transaction_id)
);
ALTER TABLE users ADD COLUMN IF NOT EXISTS name_folded text;
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT ON transaction_references TO wallet_app;
        GRANT UPDATE (name_folded) ON users TO wallet_app;
    END IF;
END $$;
"""

_EXTENSION = """
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'There is no extension pg_trgm (%): users are found by name, but more slowly.', SQLERRM;
END $$;
"""

_HAS_TRIGRAMS = "SELECT EXISTS (SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid))"

_INDEXES = {
    "ix_users_name_prefix": "users (name_folded text_pattern_ops)",
    "ix_users_unfolded": "users (id) WHERE name_folded IS NULL",
}
_TRIGRAMS = {"ix_users_name_folded": "users USING gin (name_folded gin_trgm_ops)"}

_NO_EXTENSION = """
DO $$
BEGIN
    DROP EXTENSION IF EXISTS pg_trgm;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'The extension pg_trgm stays: %', SQLERRM;
END $$;
"""


def upgrade() -> None:
    """Add everything."""
    op.execute(_TABLES)
    op.execute(_GRANTS)
    op.execute(_EXTENSION)
    has_trigrams = op.get_bind().exec_driver_sql(_HAS_TRIGRAMS).scalar_one()
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it; what an earlier try left goes first.
        op.execute("SET lock_timeout = 0")
        for name, columns in (_INDEXES | (_TRIGRAMS if has_trigrams else {})).items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove everything; the extension too, unless something else uses it."""
    op.execute("ALTER TABLE users DROP COLUMN name_folded")
    op.execute("DROP TABLE transaction_references")
    op.execute(_NO_EXTENSION)
