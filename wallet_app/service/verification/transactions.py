"""The invariants of transactions, each a query over one page, a range of ids, that must return nothing."""

from __future__ import annotations

import datetime as dt
import uuid

from sqlalchemy import Connection, text

from wallet_app.models import ENTRY_TYPES
from wallet_app.service.verification.canonical import DETAILS_HASH, DIGEST
from wallet_app.service.verification.holds import KINDS as HOLD_KINDS
from wallet_app.service.verification.wallets import Invariant

NIL = uuid.UUID(int=0)
RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
"""The transactions of the page."""
# A reversal may find nothing to take back: then all of it is owed.
_MOVING = ", ".join(f"'{name}'" for name in {*ENTRY_TYPES, *HOLD_KINDS, "PURCHASE"} - {"REVERSAL"})

_ENTRIES_OF_TRANSACTION = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the transaction %s (%s) has no entry', transactions.transaction_id, transactions.kind) AS what
  FROM transactions
 WHERE {RANGE}
   AND transactions.kind IN ({_MOVING})
   AND transactions.seq IS NULL
   AND coalesce(cardinality(transactions.entry_keys), 0) = 0
 UNION ALL
SELECT key.wallet_id, key.seq, format('is not the entry that transaction %s made here', transactions.transaction_id)
  FROM transactions
 CROSS JOIN LATERAL (
       SELECT transactions.wallet_id, transactions.seq WHERE transactions.seq IS NOT NULL
        UNION ALL
       SELECT transactions.entry_keys[place], transactions.entry_keys[place + 1]
         FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
       ) AS key
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = key.wallet_id AND entry.seq = key.seq
 WHERE {RANGE}
   AND entry.transaction_id IS DISTINCT FROM transactions.transaction_id
"""

_DIGESTS = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the transaction %s does not say what its digest covers', transactions.transaction_id) AS what
  FROM transactions
 WHERE {RANGE}
   AND transactions.digest IS DISTINCT FROM {DIGEST}
"""

# A missing row is not a fault: its note was erased, and the hash stands for it.
_DETAILS = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('note or metadata of transaction %s are not those that were posted', transactions.transaction_id) AS what
  FROM transactions
  JOIN transaction_details ON transaction_details.wallet_id = transactions.wallet_id
                          AND transaction_details.transaction_id = transactions.transaction_id
 WHERE {RANGE}
   AND transactions.details_hash IS DISTINCT FROM {DETAILS_HASH}
"""

_SIDES = """
  FROM transactions
  LEFT JOIN ledger_entries AS source ON source.wallet_id = transactions.entry_keys[1]
                                    AND source.seq = transactions.entry_keys[2]
  LEFT JOIN ledger_entries AS target ON target.wallet_id = transactions.entry_keys[3]
                                    AND target.seq = transactions.entry_keys[4]
  LEFT JOIN wallets AS source_contra ON source_contra.id = source.contra_wallet_id
  LEFT JOIN users AS source_owner ON source_owner.id = source_contra.user_id
  LEFT JOIN wallets AS target_contra ON target_contra.id = target.contra_wallet_id
  LEFT JOIN users AS target_owner ON target_owner.id = target_contra.user_id
"""
"""Joins a transaction of two entries to both of them, and each to who stands on its other side."""

# Both stand against one contra wallet, and each against one of its own asset, so they are of the same asset.
_TRANSFERS = f"""
SELECT transactions.wallet_id, source.seq,
       format('the transfer %s is not two entries against Clearing that make zero, as it was asked for',
              transactions.transaction_id) AS what
{_SIDES}
 WHERE {RANGE}
   AND transactions.kind = 'TRANSFER'
   AND NOT coalesce(
       cardinality(transactions.entry_keys) = 4
       AND source.wallet_id = transactions.wallet_id
       AND target.wallet_id = CAST(transactions.request ->> 'to' AS bigint)
       AND source.entry_type = 'TRANSFER' AND target.entry_type = 'TRANSFER'
       AND source_owner.name = 'Clearing' AND source.contra_wallet_id = target.contra_wallet_id
       AND target.amount > 0 AND source.amount + target.amount = 0
       AND CASE WHEN transactions.request ->> 'upTo' IS NULL
                THEN target.amount = CAST(transactions.request ->> 'amount' AS bigint)
                ELSE target.amount <= CAST(transactions.request ->> 'upTo' AS bigint) END, false)
"""

_EXCHANGES = f"""
SELECT transactions.wallet_id, source.seq,
       format('the exchange %s is not two entries against Exchange, at its rate and rounded down, as it was asked for',
              transactions.transaction_id) AS what
{_SIDES}
 WHERE {RANGE}
   AND transactions.kind = 'EXCHANGE'
   AND NOT coalesce(
       cardinality(transactions.entry_keys) = 4
       AND source.wallet_id = transactions.wallet_id
       AND target.wallet_id = CAST(transactions.request ->> 'to' AS bigint)
       AND source.entry_type = 'EXCHANGE' AND target.entry_type = 'EXCHANGE'
       AND source_owner.name = 'Exchange' AND target_owner.name = 'Exchange'
       AND source.amount = -CAST(transactions.request ->> 'amount' AS bigint)
       AND target.amount = div(-source.amount * CAST(transactions.result -> 'rate' ->> 0 AS numeric),
                               CAST(transactions.result -> 'rate' ->> 1 AS numeric))
       AND coalesce(nullif(transactions.request -> 'rate', 'null'), transactions.result -> 'rate')
           = transactions.result -> 'rate', false)
"""

_PURCHASES = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the purchase %s is not the legs of one user that were asked for', transactions.transaction_id) AS what
  FROM transactions
  LEFT JOIN wallets AS payer ON payer.id = transactions.wallet_id
 WHERE {RANGE}
   AND transactions.kind = 'PURCHASE'
   AND transactions.request -> 'legs' IS DISTINCT FROM (
       SELECT jsonb_agg(jsonb_build_array(entry.wallet_id, entry.entry_type, abs(entry.amount)) ORDER BY key.place)
         FROM (SELECT 1 AS place, transactions.wallet_id, transactions.seq WHERE transactions.seq IS NOT NULL
                UNION ALL
               SELECT place, transactions.entry_keys[place], transactions.entry_keys[place + 1]
                 FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
              ) AS key
         JOIN ledger_entries AS entry ON entry.wallet_id = key.wallet_id AND entry.seq = key.seq
         JOIN wallets AS own ON own.id = entry.wallet_id AND own.user_id = payer.user_id
         JOIN wallets AS contra ON contra.id = entry.contra_wallet_id
         JOIN users AS owner ON owner.id = contra.user_id
        WHERE (entry.entry_type, sign(entry.amount), owner.name)
              IN (('SPEND', -1, 'Revenue'), ('TOPUP', 1, 'Treasury'), ('BONUS', 1, 'Promotions')))
"""

TRANSACTION_INVARIANTS = (
    Invariant("entries", "each transaction has its entries", _ENTRIES_OF_TRANSACTION, unit="transactions"),
    Invariant("digests", "each digest covers what its transaction says", _DIGESTS, unit="transactions"),
    Invariant("transfers", "each transfer is two entries that make zero", _TRANSFERS, unit="transactions"),
    Invariant("exchanges", "each exchange gives what its rate makes", _EXCHANGES, unit="transactions"),
    Invariant("purchases", "each purchase is the legs that were asked for", _PURCHASES, unit="transactions"),
    Invariant("details", "notes and metadata are those that were posted", _DETAILS, unit="transactions"),
)


def id_before(instant: dt.datetime | None) -> uuid.UUID:
    """Return an id below those of all transactions from `instant` on: a UUIDv7 begins with milliseconds."""
    return NIL if instant is None else uuid.UUID(int=int(instant.timestamp() * 1000) << 80)


def last_id(connection: Connection) -> uuid.UUID:
    """Return the highest id there is; what is posted from now on is left to the next verification."""
    return connection.scalar(_LAST) or NIL


def page_end(connection: Connection, *, after: uuid.UUID, last: uuid.UUID, rows_max: int) -> tuple[uuid.UUID, int]:
    """Return the id that ends the page of about `rows_max` transactions above `after`, and how many it has."""
    parameters = {"after": after, "last": last, "rows_max": rows_max}
    until: uuid.UUID = connection.scalar(_PAGE_END, parameters) or last
    return until, connection.execute(_COUNT, {"after": after, "until": until}).scalar_one()


_LAST = text("SELECT transaction_id FROM transactions ORDER BY transaction_id DESC LIMIT 1")

_PAGE_END = text("""
SELECT transaction_id FROM transactions
 WHERE transaction_id > :after AND transaction_id <= :last
 ORDER BY transaction_id OFFSET :rows_max - 1 LIMIT 1
""")

_COUNT = text(f"SELECT count(*) FROM transactions WHERE {RANGE}")
