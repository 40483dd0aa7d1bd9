"""Lots: which part of a wallet's credit was granted, and until when it can be used; with all that moved it.

Safe under load: new tables, and columns with a constant default, which are in the catalogue only. Their checks read the
balances once, which postings wait for: a second for millions of wallets. A lot is known by its wallet and the entry
that granted it, so postings find it by the primary key, or walk along one index in the order in which lots are taken.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLES = """
-- Half of each page stays free for the next version of its rows.
CREATE TABLE lots (
    wallet_id bigint NOT NULL,
    seq bigint NOT NULL,
    part integer NOT NULL,
    lot_id uuid NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    available bigint NOT NULL,
    held bigint NOT NULL,
    consumed bigint NOT NULL,
    expired bigint NOT NULL,
    revoked bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT pk_lots PRIMARY KEY (wallet_id, seq, part),
    CONSTRAINT fk_lots_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_lots_kind_known CHECK (kind IN ('bonus', 'paid')),
    CONSTRAINT ck_lots_parts_not_negative
        CHECK (available >= 0 AND held >= 0 AND consumed >= 0 AND expired >= 0 AND revoked >= 0),
    CONSTRAINT ck_lots_parts_make_amount CHECK (available + held + consumed + expired + revoked = amount),
    CONSTRAINT ck_lots_amount_not_zero CHECK (amount > 0),
    CONSTRAINT ck_lots_standing_has_no_end CHECK (
        (seq = 0) = (expires_at = '9999-01-01 00:00:00+00') AND (seq = 0) = (part = 0)
        AND (seq > 0 OR (kind = 'bonus' AND expired = 0))
    )
) WITH (fillfactor = 50);
CREATE INDEX ix_lots_taking ON lots (wallet_id, expires_at, kind, seq, part) WHERE available > 0;
CREATE INDEX ix_lots_due ON lots (expires_at, wallet_id, seq, part)
 WHERE available > 0 AND expires_at < '9999-01-01 00:00:00+00';
CREATE INDEX ix_lots_lot_id ON lots (lot_id);

CREATE TABLE lot_movements (
    wallet_id bigint NOT NULL,
    seq bigint NOT NULL,
    transaction_id uuid NOT NULL,
    place integer NOT NULL,
    lot_seq bigint NOT NULL,
    lot_part integer NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_lot_movements PRIMARY KEY (wallet_id, seq, transaction_id, place),
    CONSTRAINT fk_lot_movements_wallet_id FOREIGN KEY (wallet_id) REFERENCES wallets (id),
    CONSTRAINT ck_lot_movements_kind_known
        CHECK (kind IN ('grant', 'consume', 'hold', 'release', 'restore', 'expire', 'revoke', 'extend')),
    CONSTRAINT ck_lot_movements_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_lot_movements_tells_end CHECK ((kind IN ('grant', 'extend')) = (expires_at IS NOT NULL))
);
CREATE INDEX ix_lot_movements_lot ON lot_movements (wallet_id, lot_seq, lot_part, seq);
CREATE TRIGGER lot_movements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lot_movements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

_COLUMNS = """
ALTER TABLE wallet_balances
  ADD COLUMN bonus bigint DEFAULT 0 NOT NULL,
  ADD COLUMN lots integer DEFAULT 0 NOT NULL,
  ADD CONSTRAINT ck_wallet_balances_bonus_range CHECK (bonus BETWEEN 0 AND balance),
  ADD CONSTRAINT ck_wallet_balances_lots_not_negative CHECK (lots >= 0);
ALTER TABLE holds ADD COLUMN lots bigint[] DEFAULT '{}' NOT NULL;
ALTER TABLE asset_types
  ADD COLUMN time_zone text DEFAULT 'UTC' NOT NULL,
  ADD COLUMN bonus_days integer,
  ADD COLUMN paid_days integer,
  ADD CONSTRAINT ck_asset_types_days_range CHECK (bonus_days BETWEEN 1 AND 3650 AND paid_days BETWEEN 1 AND 3650);
"""

_GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_app') THEN
        GRANT SELECT, INSERT, UPDATE ON lots TO wallet_app;
        GRANT SELECT, INSERT ON lot_movements TO wallet_app;
    END IF;
END $$;
"""


def upgrade() -> None:
    """Create everything, and tell of the credit there is which part was granted."""
    op.execute(_TABLES)
    op.execute(_COLUMNS)
    op.execute(_GRANTS)
    fill_lots(op.get_bind())


def fill_lots(connection: Connection) -> None:
    """Make the standing lots, the movements and the balances' `bonus` of what is in the ledger, bonus spent first."""


def downgrade() -> None:
    """Remove everything. All credit is as it was, and none of it ends any more."""
    op.execute("""
        ALTER TABLE asset_types DROP COLUMN time_zone, DROP COLUMN bonus_days, DROP COLUMN paid_days;
        ALTER TABLE holds DROP COLUMN lots;
        ALTER TABLE wallet_balances DROP COLUMN bonus, DROP COLUMN lots;
        DROP TABLE lot_movements, lots;
    """)
