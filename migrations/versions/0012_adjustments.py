"""Corrections by operators: reason codes, what they ask others to approve, and what they did alone within a day.

Safe under load: new tables only; a posting of a service touches none of them. The foreign keys to wallets and operators
are of empty tables, so they are checked at once; `lock_timeout` bounds the wait for the lock.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_MAX = 9_007_199_254_740_991

_TABLES = f"""
CREATE TABLE reason_codes (
    code text NOT NULL,
    name text NOT NULL,
    directions text NOT NULL,
    amount_max bigint NOT NULL,
    approval_above bigint NOT NULL,
    ticket_required boolean NOT NULL,
    note_required boolean NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_reason_codes PRIMARY KEY (code),
    CONSTRAINT ck_reason_codes_code_form CHECK (code ~ '^[A-Z][A-Z0-9_]{{1,31}}$'),
    CONSTRAINT ck_reason_codes_name_length CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT ck_reason_codes_directions_known CHECK (directions IN ('credit', 'debit', 'both')),
    CONSTRAINT ck_reason_codes_amount_max_range CHECK (amount_max BETWEEN 1 AND {_MAX}),
    CONSTRAINT ck_reason_codes_approval_above_range CHECK (approval_above BETWEEN 0 AND {_MAX})
);

CREATE TABLE reason_limits (
    reason_code text NOT NULL,
    asset_type_id bigint NOT NULL,
    amount_max bigint NOT NULL,
    approval_above bigint NOT NULL,
    CONSTRAINT pk_reason_limits PRIMARY KEY (reason_code, asset_type_id),
    CONSTRAINT fk_reason_limits_reason_code FOREIGN KEY (reason_code) REFERENCES reason_codes (code),
    CONSTRAINT fk_reason_limits_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_reason_limits_amount_max_range CHECK (amount_max BETWEEN 1 AND {_MAX}),
    CONSTRAINT ck_reason_limits_approval_above_range CHECK (approval_above BETWEEN 0 AND {_MAX})
);

CREATE TABLE day_bounds (
    id bigint GENERATED ALWAYS AS IDENTITY,
    asset_type_id bigint,
    operator_day_max bigint NOT NULL,
    wallet_day_max bigint NOT NULL,
    CONSTRAINT pk_day_bounds PRIMARY KEY (id),
    CONSTRAINT uq_day_bounds_asset_type_id UNIQUE NULLS NOT DISTINCT (asset_type_id),
    CONSTRAINT fk_day_bounds_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT ck_day_bounds_operator_day_max_range CHECK (operator_day_max BETWEEN 0 AND {_MAX}),
    CONSTRAINT ck_day_bounds_wallet_day_max_range CHECK (wallet_day_max BETWEEN 0 AND {_MAX})
);

CREATE TABLE approval_requests (
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    wallet_id bigint,
    form_key text NOT NULL,
    subject text NOT NULL,
    payload jsonb NOT NULL,
    payload_hash bytea NOT NULL,
    ticket text,
    note text,
    note_salt bytea,
    maker_id bigint NOT NULL,
    demands text[] NOT NULL,
    preview jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    checker_id bigint,
    comment text,
    decided_at timestamptz,
    transaction_id uuid,
    problem jsonb,
    CONSTRAINT pk_approval_requests PRIMARY KEY (id),
    CONSTRAINT uq_approval_requests_form_key UNIQUE (form_key),
    CONSTRAINT fk_approval_requests_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT fk_approval_requests_maker_id FOREIGN KEY (maker_id) REFERENCES operators (id),
    CONSTRAINT fk_approval_requests_checker_id FOREIGN KEY (checker_id) REFERENCES operators (id),
    CONSTRAINT ck_approval_requests_payload_hash_length CHECK (octet_length(payload_hash) = 32),
    CONSTRAINT ck_approval_requests_text_length CHECK (char_length(note) <= 500 AND char_length(comment) <= 500),
    CONSTRAINT ck_approval_requests_demands_say_why CHECK (cardinality(demands) >= 1),
    CONSTRAINT ck_approval_requests_expires_later CHECK (expires_at > created_at),
    CONSTRAINT ck_approval_requests_status_known
        CHECK (status IN ('pending', 'approved', 'rejected', 'withdrawn', 'expired', 'failed')),
    CONSTRAINT ck_approval_requests_checker_is_another CHECK (checker_id <> maker_id),
    CONSTRAINT ck_approval_requests_decided_when_not_pending CHECK ((status = 'pending') = (decided_at IS NULL)),
    CONSTRAINT ck_approval_requests_checked
        CHECK ((status IN ('approved', 'rejected', 'failed')) = (checker_id IS NOT NULL)),
    CONSTRAINT ck_approval_requests_only_approved_is_posted CHECK (status = 'approved' OR transaction_id IS NULL)
);
CREATE UNIQUE INDEX uq_approval_requests_pending ON approval_requests (subject) WHERE (status = 'pending');
CREATE INDEX ix_approval_requests_due ON approval_requests (expires_at) WHERE (status = 'pending');
CREATE INDEX ix_approval_requests_wallet_id ON approval_requests (wallet_id, id);
CREATE INDEX ix_approval_requests_maker_id ON approval_requests (maker_id, id);
CREATE INDEX ix_approval_requests_status ON approval_requests (status, id);
CREATE INDEX ix_approval_requests_ticket ON approval_requests (ticket) WHERE (ticket IS NOT NULL);
CREATE INDEX ix_approval_requests_transaction_id ON approval_requests (transaction_id)
 WHERE (transaction_id IS NOT NULL);

CREATE TABLE operator_postings (
    anchor_id bigint NOT NULL,
    reference_id text NOT NULL,
    wallet_id bigint NOT NULL,
    transaction_id uuid NOT NULL,
    operator_id bigint NOT NULL,
    asset_type_id bigint NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    counted bigint NOT NULL,
    reason_code text NOT NULL,
    ticket text,
    request_id bigint,
    approval_above bigint,
    operator_day_max bigint,
    wallet_day_max bigint,
    posted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_operator_postings PRIMARY KEY (anchor_id, reference_id, wallet_id),
    CONSTRAINT fk_operator_postings_anchor_id FOREIGN KEY (anchor_id) REFERENCES wallets (id),
    CONSTRAINT fk_operator_postings_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT fk_operator_postings_operator_id FOREIGN KEY (operator_id) REFERENCES operators (id),
    CONSTRAINT fk_operator_postings_asset_type_id FOREIGN KEY (asset_type_id) REFERENCES asset_types (id),
    CONSTRAINT fk_operator_postings_reason_code FOREIGN KEY (reason_code) REFERENCES reason_codes (code),
    CONSTRAINT fk_operator_postings_request_id FOREIGN KEY (request_id) REFERENCES approval_requests (id),
    CONSTRAINT ck_operator_postings_amount_range CHECK (amount >= 0 AND counted BETWEEN 0 AND amount),
    CONSTRAINT ck_operator_postings_bounds_of_what_was_done_alone CHECK (
        (request_id IS NULL) = (num_nulls(approval_above, operator_day_max, wallet_day_max) = 0)
        AND num_nulls(approval_above, operator_day_max, wallet_day_max) IN (0, 3)
    )
);
CREATE INDEX ix_operator_postings_operator_id ON operator_postings (operator_id, asset_type_id, posted_at);
CREATE INDEX ix_operator_postings_wallet_id ON operator_postings (wallet_id, posted_at);
CREATE INDEX ix_operator_postings_ticket ON operator_postings (ticket) WHERE (ticket IS NOT NULL);
CREATE INDEX ix_operator_postings_request_id ON operator_postings (request_id) WHERE (request_id IS NOT NULL);
"""

# What was asked for never changes, a decision is made once, and a note can only go. Written for the row as a whole, so
# that a column which comes later is guarded before anybody thinks of it.
_GUARDS = """
CREATE FUNCTION decide_once() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    decision text[] := ARRAY['status', 'checker_id', 'comment', 'decided_at', 'transaction_id', 'problem'];
    erasable text[] := ARRAY['note', 'note_salt'];
BEGIN
    IF (OLD.status <> 'pending' AND to_jsonb(NEW) - erasable <> to_jsonb(OLD) - erasable)
       OR to_jsonb(NEW) - decision - erasable <> to_jsonb(OLD) - decision - erasable
       OR (NEW.note IS DISTINCT FROM OLD.note AND NEW.note IS NOT NULL)
       OR (NEW.note_salt IS DISTINCT FROM OLD.note_salt AND NEW.note_salt IS NOT NULL) THEN
        RAISE EXCEPTION 'request % is decided once, and never changed otherwise', OLD.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER approval_requests_decide_once BEFORE UPDATE ON approval_requests
    FOR EACH ROW EXECUTE FUNCTION decide_once();
CREATE TRIGGER approval_requests_stay BEFORE DELETE OR TRUNCATE ON approval_requests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER operator_postings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_postings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER reason_codes_stay BEFORE DELETE OR TRUNCATE ON reason_codes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE ON reason_codes, day_bounds TO wallet_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON reason_limits TO wallet_app;
        GRANT SELECT, INSERT ON approval_requests, operator_postings TO wallet_app;
        GRANT UPDATE (status, checker_id, comment, decided_at, transaction_id, problem, note, note_salt)
            ON approval_requests TO wallet_app;
    END IF;
END $$;
"""

# To begin with, so that a new service can correct something; the administration changes them. Amounts are in the
# smallest unit of any asset: careful ones, because what is too little is only asked for.
_FIRST = """
INSERT INTO reason_codes (code, name, directions, amount_max, approval_above, ticket_required, note_required) VALUES
    ('COMPENSATION', 'Compensation for a fault of ours', 'credit', 10000, 500, true, false),
    ('CORRECTION', 'Correction of a wrong booking', 'both', 1000000, 1000, true, true),
    ('FRAUD', 'Taking back what was got by fraud', 'debit', 1000000, 1000, true, true),
    ('GOODWILL', 'Goodwill', 'credit', 1000, 100, false, false),
    ('OTHER', 'Anything else', 'both', 1000, 0, false, true);
INSERT INTO day_bounds (asset_type_id, operator_day_max, wallet_day_max) VALUES (NULL, 10000, 2000);
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(_TABLES)
    op.execute(_GUARDS)
    op.execute(_GRANTS)
    op.execute(_FIRST)


def downgrade() -> None:
    """Remove everything. What was adjusted stays so in the ledger; who asked for it and who approved it is lost."""
    op.execute("DROP TABLE operator_postings, approval_requests, day_bounds, reason_limits, reason_codes")
    op.execute("DROP FUNCTION decide_once()")
