"""The application role: it may append to the ledger and move the projections, and can change no entry.

The role is a group without login, made where the migrating user may create roles; a login of the service is a member of
it. It belongs to the server and not to this database, so a downgrade takes its rights here and leaves it standing.

Safe under load because GRANT takes no lock that a posting waits for.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app')
       AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            CREATE ROLE wallet_app NOLOGIN;
            EXECUTE format('GRANT wallet_app TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server made it in the same moment
        END;
    END IF;
END $$;
"""

_GRANTS = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        RAISE NOTICE 'There is no role wallet_app and this user may not create it: the service will act as its login.';
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA public TO wallet_app;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO wallet_app;
    GRANT INSERT ON asset_types, users, wallets, wallet_balances, system_balances,
                    transactions, transaction_details, ledger_entries TO wallet_app;
    GRANT UPDATE ON wallet_balances, system_balances TO wallet_app;
    GRANT DELETE ON transaction_details TO wallet_app;
    GRANT INSERT, UPDATE, DELETE ON verify_marks, verify_contra_sums TO wallet_app;
    GRANT INSERT ON verify_runs TO wallet_app;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO wallet_app;
END $$;
"""

_REVOKES = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM wallet_app;
        REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM wallet_app;
        REVOKE USAGE ON SCHEMA public FROM wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Make the role where that is possible, and give it what the service needs."""
    op.execute(_ROLE)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Take the rights in this database."""
    op.execute(_REVOKES)
