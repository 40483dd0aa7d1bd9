"""Who may do what, and who did what besides the movements of money: clients with their keys, and the audit log.

A key's secret is not here, only its HMAC; the pepper that goes into it is a setting.

The log is append-only like the ledger. Its chain is made afterwards, by whoever verifies, so that nobody who writes a
record waits for the one before it; `verify_runs` remembers how far it was verified, and a removed end shows.

Safe under load: new tables, and two columns without a default, which change no row.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# xid stands before id because a row's defaults are made in this order: whoever has an id has had its xid before.
_AUDIT = """
CREATE TABLE audit_log (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text,
    before jsonb,
    after jsonb,
    reason text,
    ticket text,
    request_id text,
    address text,
    outcome text NOT NULL,
    CONSTRAINT pk_audit_log PRIMARY KEY (id),
    CONSTRAINT ck_audit_log_action_form CHECK (action ~ '^[a-z][a-z_]*:[a-z][a-z_]*$'),
    CONSTRAINT ck_audit_log_outcome_known CHECK (outcome IN ('done', 'denied', 'failed')),
    CONSTRAINT ck_audit_log_text_length CHECK (
        char_length(concat(actor, action, subject, reason, ticket, request_id, address)) <= 4000
    )
);

CREATE TABLE audit_chain (
    seq bigint NOT NULL,
    audit_id bigint NOT NULL,
    horizon bigint NOT NULL,
    ceiling bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT pk_audit_chain PRIMARY KEY (seq),
    CONSTRAINT uq_audit_chain_audit_id UNIQUE (audit_id),
    CONSTRAINT ck_audit_chain_seq_positive CHECK (seq >= 1),
    CONSTRAINT ck_audit_chain_hash_length CHECK (octet_length(hash) = 32)
);

ALTER TABLE verify_runs ADD COLUMN audit_seq bigint, ADD COLUMN audit_hash bytea;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

_KEYS = """
CREATE TABLE clients (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT pk_clients PRIMARY KEY (id),
    CONSTRAINT uq_clients_name UNIQUE (name),
    CONSTRAINT ck_clients_name_form CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$')
);

CREATE TABLE api_keys (
    key_id text NOT NULL,
    client_id bigint NOT NULL,
    secret_hmac bytea NOT NULL,
    pepper_version smallint NOT NULL,
    scopes text[] NOT NULL,
    amount_max bigint,
    assets text[],
    networks cidr[],
    rate_limit text,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT pk_api_keys PRIMARY KEY (key_id),
    CONSTRAINT fk_api_keys_client_id FOREIGN KEY (client_id) REFERENCES clients (id),
    CONSTRAINT ck_api_keys_key_id_form CHECK (key_id ~ '^[a-z2-7]{12}$'),
    CONSTRAINT ck_api_keys_secret_hmac_length CHECK (octet_length(secret_hmac) = 32),
    CONSTRAINT ck_api_keys_amount_max_positive CHECK (amount_max >= 1)
);
CREATE INDEX ix_api_keys_client_id ON api_keys (client_id);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT ON audit_log, audit_chain, clients, api_keys TO wallet_app;
        -- What a key may do is never changed: another key is made, and the log tells.
        GRANT UPDATE (revoked_at) ON clients TO wallet_app;
        GRANT UPDATE (revoked_at, last_used_at) ON api_keys TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_AUDIT)
    op.execute(_KEYS)
    op.execute(_GRANTS)


def downgrade() -> None:
    """Remove everything. The audit log and all keys go with it."""
    op.execute("""
        ALTER TABLE verify_runs DROP COLUMN audit_seq, DROP COLUMN audit_hash;
        DROP TABLE api_keys, clients, audit_chain, audit_log;
    """)
