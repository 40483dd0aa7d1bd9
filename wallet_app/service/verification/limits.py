"""The invariants of limits: what is kept of spending is what the ledger says, and each raise is a transaction's."""

from __future__ import annotations

from wallet_app.service.limits import FIGURES, KEPT
from wallet_app.service.spending import BEGUN, ENTRIES_MAX, SPENT
from wallet_app.service.verification.parts import SCOPE, SEQ_MAX
from wallet_app.service.verification.wallets import Invariant

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_UNTIL = """to_char(limits.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
# What is raised was asked for; what ends was found.
_SAID = "CASE transactions.kind WHEN 'LIMIT_RAISE' THEN transactions.request ELSE transactions.result END"
_SAYS = " AND ".join(f"{_SAID} ->> '{name}' IS NOT DISTINCT FROM CAST(limits.{name}_max AS text)" for name in FIGURES)
_IS_ITS = f"""transactions.kind IN ('LIMIT_RAISE', 'LIMIT_RAISE_END') AND limits.wallet_id = transactions.wallet_id
         AND limits.set_by = transactions.actor AND limits.set_at = transactions.created_at
         AND {_SAID} ->> 'until' = {_UNTIL} AND {_SAYS}"""

# Where the limit was lifted, or nothing was posted for long, not all is counted, and nobody looks at what is kept. From
# each hour on that something is kept of, up to the next such, it is what the ledger says.
_SPENDING = f"""
WITH RECURSIVE {SCOPE}, kept AS MATERIALIZED (
    SELECT found.*, balances.version, max(found.seq) OVER of_wallet AS counted,
           row_number() OVER along_hours = 1 AS is_first
      FROM scope
     CROSS JOIN LATERAL (
           SELECT version, updated_at FROM wallet_balances WHERE wallet_id = scope.wallet_id OFFSET 0
           ) AS balances
     CROSS JOIN LATERAL (
           SELECT * FROM spend_buckets
            WHERE wallet_id = scope.wallet_id
              AND hour > balances.updated_at - interval '{int(KEPT.total_seconds())} seconds' OFFSET 0
           ) AS found
     WHERE scope.until = {SEQ_MAX}
    WINDOW of_wallet AS (PARTITION BY found.wallet_id),
           along_hours AS (PARTITION BY found.wallet_id ORDER BY found.hour)
), asked AS (
    SELECT wallet_id, version, hour AS since, {ENTRIES_MAX} AS entries_max FROM kept
     WHERE is_first AND counted = version
), {BEGUN}, {SPENT}, hours AS (
    SELECT kept.wallet_id, kept.hour, kept.amount,
           lead(kept.hour, 1, 'infinity') OVER (PARTITION BY kept.wallet_id ORDER BY kept.hour) AS next_hour
      FROM kept
      JOIN begun ON begun.wallet_id = kept.wallet_id AND NOT begun.is_cut
     WHERE kept.amount > 0 OR kept.is_first
)
SELECT wallet_id, NULL AS seq, format('%s is kept as spent from %s on, the ledger says %s', amount, hour, says) AS what
  FROM (SELECT hours.*, (SELECT coalesce(sum(spent.amount), 0) FROM spent
                          WHERE spent.wallet_id = hours.wallet_id AND spent.created_at >= hours.hour
                            AND spent.created_at < hours.next_hour) AS says
          FROM hours) AS compared
 WHERE amount <> says
 UNION ALL
SELECT wallet_id, seq, format('is counted as spent up to here, and the last entry is %s', version)
  FROM kept WHERE seq > version
"""

_RAISED = f"""
WITH {SCOPE}
SELECT scope.wallet_id, NULL AS seq,
       format('its limits were raised until %s, and no transaction says so', limits.until) AS what
  FROM scope
 CROSS JOIN LATERAL (
       SELECT * FROM limits WHERE wallet_id = scope.wallet_id AND level = 'raise' OFFSET 0
       ) AS limits
  LEFT JOIN LATERAL (
       SELECT * FROM transactions WHERE transaction_id = limits.transaction_id OFFSET 0
       ) AS transactions ON {_IS_ITS}
 WHERE scope.until = {SEQ_MAX} AND transactions.transaction_id IS NULL
"""

_RAISES = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the %s %s is not what was decided, or is not among the limits',
              CASE transactions.kind WHEN 'LIMIT_RAISE' THEN 'raise' ELSE 'end of a raise' END,
              transactions.transaction_id) AS what
  FROM transactions
  LEFT JOIN LATERAL (
       SELECT * FROM limits WHERE wallet_id = transactions.wallet_id AND level = 'raise' OFFSET 0
       ) AS limits ON limits.transaction_id = transactions.transaction_id AND {_IS_ITS}
 WHERE {_RANGE}
   AND transactions.kind IN ('LIMIT_RAISE', 'LIMIT_RAISE_END')
   AND NOT coalesce(
       limits.id IS NOT NULL AND transactions.seq IS NULL AND cardinality(transactions.entry_keys) = 0
       AND transactions.client = 'console'
       AND transactions.reference_id LIKE
           CASE transactions.kind WHEN 'LIMIT_RAISE' THEN 'sys:request:%' ELSE 'sys:form:%' END, false)
"""

LIMIT_WALLET_INVARIANTS = (
    Invariant("spending", "what is kept as spent is what the ledger says", _SPENDING, unit="wallets"),
    Invariant("raised", "each raised limit is a transaction's", _RAISED, unit="wallets"),
)
LIMIT_TRANSACTION_INVARIANTS = (
    Invariant("raises", "each raise of limits was approved, each end is an operator's", _RAISES, unit="transactions"),
)
