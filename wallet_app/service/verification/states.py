"""The invariants of how wallets stand: frozen, closed, and by which commands, each of which names the one before it."""

from __future__ import annotations

from wallet_app.service.verification.parts import SCOPE, SEQ_MAX
from wallet_app.service.verification.wallets import Invariant

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_KINDS = "'FREEZE', 'UNFREEZE', 'CLOSE'"
_NO_END = "9999-01-01T00:00:00.000000Z"


def _text(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _previous(row: str) -> str:
    # A result may hold anything by now, so nothing is read from it that would not be what it should.
    return f"""CASE WHEN {row}.result ->> 'previous' ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
            THEN CAST({row}.result ->> 'previous' AS uuid) END"""


def _after(side: str) -> str:
    """Return what a command makes of a side: until when it is frozen, as a text."""
    return f"""CASE WHEN made.kind = 'CLOSE' OR made.request ->> 'side' NOT IN ('{side}', 'both')
            THEN before.result ->> '{side}Until'
            WHEN made.kind = 'FREEZE' THEN coalesce(made.request ->> 'until', '{_NO_END}') END"""


_STATE = f"""
WITH {SCOPE}
SELECT scope.wallet_id, NULL AS seq,
       format('stands as %s, debits frozen until %s, credits until %s, which is not what its last command made of it',
              wallets.status, wallets.debits_frozen_until, wallets.credits_frozen_until) AS what
  FROM scope
  JOIN wallets ON wallets.id = scope.wallet_id
  LEFT JOIN transactions AS made ON made.transaction_id = wallets.state_transaction_id
                                AND made.wallet_id = wallets.id AND made.kind IN ({_KINDS})
 WHERE scope.until = {SEQ_MAX}
   AND ((wallets.status, {_text("wallets.debits_frozen_until")}, {_text("wallets.credits_frozen_until")})
        IS DISTINCT FROM
        (coalesce(made.result ->> 'status', 'ACTIVE'), made.result ->> 'debitsUntil', made.result ->> 'creditsUntil')
        OR wallets.state_transaction_id IS DISTINCT FROM made.transaction_id)
"""

_CLOSED = f"""
WITH {SCOPE}
SELECT scope.wallet_id, NULL AS seq,
       format('is closed, with a balance of %s, %s held in %s holds, %s owed', balances.balance, balances.held,
              open.holds, balances.owed) AS what
  FROM scope
  JOIN wallets ON wallets.id = scope.wallet_id AND wallets.status = 'CLOSED'
  JOIN wallet_balances AS balances ON balances.wallet_id = scope.wallet_id
 CROSS JOIN LATERAL (
       SELECT count(*) AS holds FROM holds WHERE holds.wallet_id = scope.wallet_id AND holds.ended_at IS NULL
       ) AS open
 WHERE scope.until = {SEQ_MAX}
   AND (balances.balance <> 0 OR balances.held <> 0 OR open.holds <> 0 OR balances.owed <> 0)
"""

# From how a wallet stands now, back from command to command: there is one way, and each command of the page is on it.
_COMMANDS = f"""
WITH RECURSIVE made AS (
    SELECT wallet_id, transaction_id, kind, request, result, seq, entry_keys, {_previous("transactions")} AS previous
      FROM transactions
     WHERE {_RANGE} AND kind IN ({_KINDS})
), way (wallet_id, transaction_id) AS (
    SELECT made.wallet_id, wallets.state_transaction_id FROM made JOIN wallets ON wallets.id = made.wallet_id
     UNION
    SELECT way.wallet_id, {_previous("transactions")}
      FROM way
      JOIN transactions ON transactions.transaction_id = way.transaction_id AND transactions.wallet_id = way.wallet_id
)
SELECT made.wallet_id, made.seq,
       format('the %s %s is not one of the commands, each after the one before, that made the wallet what it is',
              made.kind, made.transaction_id) AS what
  FROM made
  LEFT JOIN transactions AS before ON before.transaction_id = made.previous AND before.wallet_id = made.wallet_id
                                  AND before.kind IN ({_KINDS})
 WHERE (made.wallet_id, made.transaction_id)
       NOT IN (SELECT wallet_id, transaction_id FROM way WHERE transaction_id IS NOT NULL)
    OR made.seq IS NOT NULL OR cardinality(made.entry_keys) > 0
    OR made.result ->> 'previous' IS DISTINCT FROM CAST(before.transaction_id AS text)
    OR before.result ->> 'status' <> 'ACTIVE'
    OR (made.result ->> 'status', made.result ->> 'debitsUntil', made.result ->> 'creditsUntil')
       IS DISTINCT FROM
       (CASE made.kind WHEN 'CLOSE' THEN 'CLOSED' ELSE 'ACTIVE' END, {_after("debits")}, {_after("credits")})
"""

STATE_WALLET_INVARIANTS = (
    Invariant("state", "each wallet stands as its last command left it", _STATE, unit="wallets"),
    Invariant("closed", "a closed wallet is empty", _CLOSED, unit="wallets"),
)
STATE_TRANSACTION_INVARIANTS = (
    Invariant("states", "each freeze follows from the one before it", _COMMANDS, unit="transactions"),
)
