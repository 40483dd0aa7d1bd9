"""The invariants of wallets and their entries, each a query over one part that must return nothing."""

from __future__ import annotations

from dataclasses import dataclass

from wallet_app.service.verification.canonical import ENTRY_HASH
from wallet_app.service.verification.parts import ENTRIES, SCOPE, SEQ_MAX


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule that always holds. `query` returns (wallet_id, seq, what) for each place where it does not."""

    name: str
    sentence: str
    query: str
    unit: str = "entries"


_GAPLESS = f"""
WITH {ENTRIES}
SELECT wallet_id, seq, format('follows seq %s', previous_seq) AS what
  FROM entries
 WHERE seq <> previous_seq + 1
"""

_BALANCE_AFTER = f"""
WITH {ENTRIES}
SELECT wallet_id, seq,
       format('%s and an amount of %s do not make a balance of %s', previous_balance, amount, balance_after) AS what
  FROM entries
 WHERE balance_after <> previous_balance + amount
"""

_TIME = f"""
WITH {ENTRIES}
SELECT wallet_id, seq, format('made %s, before the entry in front of it (%s)', created_at, previous_created_at) AS what
  FROM entries
 WHERE created_at < previous_created_at
"""

_CHAIN = f"""
WITH {ENTRIES}
SELECT entries.wallet_id, entries.seq,
       'its hash does not cover what it, its transaction and the one before it say' AS what
  FROM entries
  LEFT JOIN transactions ON transactions.transaction_id = entries.transaction_id
 WHERE entries.hash IS DISTINCT FROM {ENTRY_HASH}
"""

# A mark of any round is evidence: it finds out who changes an entry and makes all later hashes anew, the head's too.
_MARKS = f"""
WITH {SCOPE}
SELECT marks.wallet_id, marks.seq, 'is no longer the entry that an earlier verification saw here' AS what
  FROM scope
  JOIN verify_marks AS marks ON marks.wallet_id = scope.wallet_id
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = marks.wallet_id AND entry.seq = marks.seq
 WHERE NOT scope.is_resumed
   AND (entry.hash, entry.balance_after, entry.created_at)
       IS DISTINCT FROM (marks.hash, marks.balance, marks.created_at)
"""

# An entry is both legs in one row, as the view ledger_legs shows it. They make zero for its transaction and asset
# exactly when the other side is a SYSTEM wallet of the same asset; that depends on the pair of wallets alone.
_LEGS = f"""
WITH {SCOPE}, pairs AS (
    SELECT legs.entry_wallet_id, legs.wallet_id, min(legs.seq) AS seq, count(*) AS entries
      FROM scope
     CROSS JOIN LATERAL (
           SELECT wallet_id AS entry_wallet_id, seq, contra_wallet_id AS wallet_id FROM ledger_entries
            WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until
           ) AS legs
     GROUP BY legs.entry_wallet_id, legs.wallet_id
)
SELECT pairs.entry_wallet_id AS wallet_id, pairs.seq,
       format('stands against wallet %s, which is not a SYSTEM wallet of the same asset (%s entries)',
              pairs.wallet_id, pairs.entries) AS what
  FROM pairs
  JOIN wallets AS own ON own.id = pairs.entry_wallet_id
  JOIN users AS owner ON owner.id = own.user_id
  LEFT JOIN wallets AS contra ON contra.id = pairs.wallet_id
  LEFT JOIN users AS contra_owner ON contra_owner.id = contra.user_id
 WHERE owner.user_type <> 'USER'
    OR contra_owner.user_type IS DISTINCT FROM 'SYSTEM'
    OR contra.asset_type_id IS DISTINCT FROM own.asset_type_id
"""

_TRANSACTION_OF_ENTRY = f"""
WITH {ENTRIES}
SELECT entries.wallet_id, entries.seq,
       format('no transaction %s of the same instant leads to it', entries.transaction_id) AS what
  FROM entries
 WHERE NOT EXISTS (
       SELECT FROM transactions
        WHERE transactions.transaction_id = entries.transaction_id
          AND transactions.created_at = entries.created_at
          AND (transactions.wallet_id, transactions.seq) IS NOT DISTINCT FROM (entries.wallet_id, entries.seq)
        UNION ALL
       SELECT FROM transactions
         CROSS JOIN LATERAL generate_series(1, cardinality(transactions.entry_keys), 2) AS place
        WHERE transactions.transaction_id = entries.transaction_id
          AND transactions.created_at = entries.created_at
          AND transactions.entry_keys[place] = entries.wallet_id
          AND transactions.entry_keys[place + 1] = entries.seq)
"""

_SUM = f"""
WITH {SCOPE}
SELECT balances.wallet_id, NULL AS seq,
       format('balance is %s, its entries make %s',
              balances.balance, scope.balance + coalesce(entries.total, 0)) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT sum(amount) AS total FROM ledger_entries WHERE wallet_id = scope.wallet_id AND seq > scope.seq
       ) AS entries
 WHERE scope.until = {SEQ_MAX}
   AND balances.balance <> scope.balance + coalesce(entries.total, 0)
"""

_PROJECTION = f"""
WITH {SCOPE}
SELECT balances.wallet_id, last.seq,
       concat_ws(', ',
           CASE WHEN owner.user_type <> 'USER' THEN 'a SYSTEM wallet has a row in wallet_balances' END,
           CASE WHEN balances.balance <> coalesce(last.balance_after, 0)
                THEN format('balance is %s, not %s', balances.balance, coalesce(last.balance_after, 0)) END,
           CASE WHEN balances.version <> coalesce(last.seq, 0)
                THEN format('version is %s, not %s', balances.version, coalesce(last.seq, 0)) END,
           CASE WHEN balances.chain <> coalesce(last.hash, :genesis) THEN 'chain is not the last entry''s hash' END,
           CASE WHEN balances.updated_at <> last.created_at
                THEN format('updated_at is %s, not %s', balances.updated_at, last.created_at) END,
           CASE WHEN balances.held <> scope.held + holds.held
                THEN format('held is %s, not %s', balances.held, scope.held + holds.held) END) AS what
  FROM scope
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
  JOIN wallets ON wallets.id = scope.wallet_id
  JOIN users AS owner ON owner.id = wallets.user_id
  LEFT JOIN LATERAL (
       SELECT seq, balance_after, hash, created_at FROM ledger_entries
        WHERE wallet_id = scope.wallet_id ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 CROSS JOIN LATERAL (
       SELECT coalesce(-sum(amount), 0) AS held FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND contra_wallet_id = ANY (CAST(:holds AS bigint[]))
       ) AS holds
 WHERE scope.until = {SEQ_MAX}
   AND (owner.user_type <> 'USER'
        OR (balances.balance, balances.version, balances.chain, balances.updated_at, balances.held)
           IS DISTINCT FROM
           (coalesce(last.balance_after, 0), coalesce(last.seq, 0), coalesce(last.hash, :genesis),
            coalesce(last.created_at, balances.updated_at), scope.held + holds.held))
"""

_NO_BALANCE_ROW = f"""
WITH {SCOPE}
SELECT scope.wallet_id, last.seq, 'has entries but no row in wallet_balances' AS what
  FROM scope
  LEFT JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
  JOIN LATERAL (
       SELECT seq FROM ledger_entries WHERE wallet_id = scope.wallet_id ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 WHERE scope.until = {SEQ_MAX} AND balances.wallet_id IS NULL
"""

_NEGATIVE = f"""
WITH {SCOPE}
SELECT wallet_id, entry.seq, format('leaves a balance of %s', balance_after) AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT seq, balance_after FROM ledger_entries
        WHERE wallet_id = scope.wallet_id AND seq > scope.seq AND seq <= scope.until AND balance_after < 0
       ) AS entry
 UNION ALL
SELECT wallet_id, NULL, format('balance is %s, held %s', balances.balance, balances.held)
  FROM scope
  JOIN wallet_balances AS balances USING (wallet_id)
 WHERE balances.balance < 0 OR balances.held < 0
"""

WALLET_INVARIANTS = (
    Invariant("gapless", "seq counts 1, 2, 3, ... without a gap", _GAPLESS),
    Invariant("balance_after", "each balance is the one before plus the amount", _BALANCE_AFTER),
    Invariant("time", "created_at never falls along seq", _TIME),
    Invariant("chain", "each hash covers the entry, its transaction and the hash before", _CHAIN),
    Invariant("legs", "each entry stands against a SYSTEM wallet of its asset", _LEGS),
    Invariant("transaction", "each entry has its transaction", _TRANSACTION_OF_ENTRY),
    Invariant("not_negative", "nothing is negative", _NEGATIVE),
    Invariant("marks", "what was verified before is still there", _MARKS, unit="wallets"),
    Invariant("sum", "each balance is the sum of its entries", _SUM, unit="wallets"),
    Invariant("projection", "wallet_balances says what the last entry says", _PROJECTION, unit="wallets"),
    Invariant("balance_row", "each wallet with entries has its balance row", _NO_BALANCE_ROW, unit="wallets"),
)

# A foreign key guards this, but not against whoever can switch it off. One look-up per wallet: from each id that the
# ledger has to the next one.
ORPHANS = Invariant(
    "wallet",
    "each entry's wallet exists",
    """
WITH RECURSIVE found AS (
    (SELECT wallet_id FROM ledger_entries WHERE wallet_id > :after AND wallet_id <= :upto ORDER BY wallet_id LIMIT 1)
     UNION ALL
    SELECT next.wallet_id
      FROM found
     CROSS JOIN LATERAL (
           SELECT wallet_id FROM ledger_entries
            WHERE wallet_id > found.wallet_id AND wallet_id <= :upto ORDER BY wallet_id LIMIT 1
           ) AS next
)
SELECT found.wallet_id, NULL AS seq, 'has entries but does not exist' AS what
  FROM found
 WHERE NOT EXISTS (SELECT FROM wallets WHERE wallets.id = found.wallet_id)
""",
    unit="wallets",
)
