"""For the administration's pages: an asset's name and scale may be changed, its scale until its first entry; and an
index by which it is found when an operator signed in last.

Safe under load: a trigger on a table that postings only read, and that hardly anybody writes; the index is built beside
the writers, in a transaction of its own, and has no row but those of sign-ins.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# If the index fails, this is there already when the migration runs again.
# Who changes a scale holds the asset and its wallets; this is for whoever does it in another way.
_SCALE = """
CREATE OR REPLACE FUNCTION keep_scale() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM wallets
                 JOIN ledger_entries ON ledger_entries.wallet_id = wallets.id AND ledger_entries.seq = 1
                WHERE wallets.asset_type_id = NEW.id) THEN
        RAISE EXCEPTION '% has entries: its scale is fixed', NEW.code
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'asset_types_scale_fixed';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER asset_types_scale_fixed BEFORE UPDATE OF scale ON asset_types
    FOR EACH ROW WHEN (NEW.scale IS DISTINCT FROM OLD.scale) EXECUTE FUNCTION keep_scale();
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        -- Not the code: keys, rates and the callers' own books name the asset by it.
        GRANT UPDATE (name, scale) ON asset_types TO wallet_app;
    END IF;
END $$;
"""

_REVOKES = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        REVOKE UPDATE (name, scale) ON asset_types FROM wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Add everything."""
    op.execute(_SCALE)
    op.execute(_GRANTS)
    with op.get_context().autocommit_block():
        # It waits for transactions that began before it, and nobody waits for it; what an earlier try left goes first.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audit_log_sign_ins")
        op.execute("""
            CREATE INDEX CONCURRENTLY ix_audit_log_sign_ins ON audit_log (subject, id)
             WHERE outcome = 'done'
               AND action IN ('sign_in:code', 'sign_in:passkey', 'sign_in:recovery', 'operator:set_up')
        """)
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Remove everything. What was renamed keeps its name."""
    op.execute("DROP INDEX ix_audit_log_sign_ins")
    op.execute("DROP TRIGGER asset_types_scale_fixed ON asset_types")
    op.execute("DROP FUNCTION keep_scale()")
    op.execute(_REVOKES)
