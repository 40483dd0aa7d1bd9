"""The invariants of four eyes: over the transactions of a page that operators caused, and over all requests."""

from __future__ import annotations

from wallet_app.service.verification.wallets import Invariant

_RANGE = "transactions.transaction_id > :after AND transactions.transaction_id <= :until"
_BY_OPERATORS = f"{_RANGE} AND transactions.client = 'console'"

_KEYS = """
 CROSS JOIN LATERAL (
       SELECT transactions.wallet_id, transactions.seq WHERE transactions.seq IS NOT NULL
        UNION ALL
       SELECT transactions.entry_keys[place], transactions.entry_keys[place + 1]
         FROM generate_series(1, cardinality(transactions.entry_keys), 2) AS place
       ) AS key
"""

_ADJUSTMENTS = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('the adjustment %s is not one entry against Adjustments by an operator, as it was asked for',
              transactions.transaction_id) AS what
  FROM transactions
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = transactions.wallet_id AND entry.seq = transactions.seq
  LEFT JOIN wallets AS contra ON contra.id = entry.contra_wallet_id
  LEFT JOIN users AS owner ON owner.id = contra.user_id
 WHERE {_RANGE}
   AND transactions.kind = 'ADJUSTMENT'
   AND NOT coalesce(
       transactions.client = 'console'
       AND entry.entry_type = 'ADJUSTMENT' AND owner.name = 'Adjustments'
       AND to_jsonb(abs(entry.amount)) = transactions.request -> 'amount'
       AND transactions.request ->> 'direction' = CASE WHEN entry.amount > 0 THEN 'credit' ELSE 'debit' END, false)
"""

# What a reversal owes since then is counted too, so there it may be more than its entries.
_COUNTED = f"""
SELECT moved.wallet_id, moved.seq,
       format('%s moved here by an operator (%s), %s counted', moved.amount, moved.transaction_id,
              coalesce(posted.amount, 0)) AS what
  FROM (SELECT transactions.wallet_id AS anchor_id, transactions.reference_id, transactions.transaction_id,
               transactions.kind, transactions.actor, key.wallet_id, min(key.seq) AS seq,
               sum(abs(entry.amount)) AS amount
          FROM transactions {_KEYS}
          JOIN ledger_entries AS entry ON entry.wallet_id = key.wallet_id AND entry.seq = key.seq
         WHERE {_BY_OPERATORS}
         GROUP BY transactions.wallet_id, transactions.reference_id, key.wallet_id
       ) AS moved
  LEFT JOIN operator_postings AS posted ON posted.anchor_id = moved.anchor_id
                                       AND posted.reference_id = moved.reference_id
                                       AND posted.wallet_id = moved.wallet_id
  LEFT JOIN wallets ON wallets.id = moved.wallet_id
 WHERE NOT coalesce(
       posted.transaction_id = moved.transaction_id
       AND 'operator:' || posted.operator_id = moved.actor
       AND posted.asset_type_id = wallets.asset_type_id
       AND (posted.amount = moved.amount OR (moved.kind = 'REVERSAL' AND posted.amount > moved.amount))
       AND (posted.request_id IS NOT NULL) = (moved.reference_id ~ '^sys:(request|bulk|undo):'), false)
"""

# By the bounds that held then. What was counted in the same transaction once for an asset is the largest movement.
_ALONE = f"""
SELECT posted.wallet_id, NULL AS seq,
       format('the operator %s moved %s alone (%s), above what one person might', posted.operator_id, posted.amount,
              posted.transaction_id) AS what
  FROM transactions
  JOIN operator_postings AS posted ON posted.anchor_id = transactions.wallet_id
                                  AND posted.reference_id = transactions.reference_id
 CROSS JOIN LATERAL (
       SELECT max(amount) AS amount, sum(counted) AS counted FROM operator_postings AS own
        WHERE own.anchor_id = posted.anchor_id AND own.reference_id = posted.reference_id
          AND own.asset_type_id = posted.asset_type_id
       ) AS of_asset
 CROSS JOIN LATERAL (
       SELECT sum(counted) AS total FROM operator_postings AS earlier
        WHERE earlier.operator_id = posted.operator_id AND earlier.asset_type_id = posted.asset_type_id
          AND earlier.request_id IS NULL AND earlier.posted_at <= posted.posted_at
          AND earlier.posted_at > posted.posted_at - interval '24 hours'
       ) AS by_operator
 CROSS JOIN LATERAL (
       SELECT sum(amount) AS total FROM operator_postings AS earlier
        WHERE earlier.wallet_id = posted.wallet_id
          AND earlier.request_id IS NULL AND earlier.posted_at <= posted.posted_at
          AND earlier.posted_at > posted.posted_at - interval '24 hours'
       ) AS on_wallet
 WHERE {_BY_OPERATORS}
   AND posted.request_id IS NULL
   AND (posted.counted > posted.approval_above
        OR of_asset.counted IS DISTINCT FROM of_asset.amount
        OR by_operator.total > posted.operator_day_max
        OR on_wallet.total > posted.wallet_day_max)
"""

_EXECUTED = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('%s says that it carried out a request, and is not what was asked for and approved',
              transactions.transaction_id) AS what
  FROM transactions
 WHERE {_RANGE}
   AND transactions.reference_id LIKE 'sys:request:%'
   AND NOT EXISTS (
       SELECT FROM approval_requests AS request
        WHERE request.transaction_id = transactions.transaction_id
          AND request.status = 'approved'
          AND request.checker_id <> request.maker_id
          AND request.wallet_id = transactions.wallet_id
          AND transactions.reference_id = format('sys:request:%s:%s', request.id, encode(request.payload_hash, 'hex'))
          AND transactions.client = 'console'
          AND transactions.actor = 'operator:' || request.maker_id
          AND request.payload -> 'command' = transactions.request)
"""

_RUN = f"""
SELECT transactions.wallet_id, transactions.seq,
       format('%s says that a bulk run posted it, and is no row of one that was approved', transactions.transaction_id)
         AS what
  FROM transactions
 WHERE {_RANGE}
   AND transactions.reference_id ~ '^sys:(bulk|undo):'
   AND NOT EXISTS (
       SELECT FROM bulk_rows AS asked
         JOIN bulk_runs AS run ON run.id = asked.run_id
         JOIN approval_requests AS request ON request.id = run.request_id
        WHERE asked.transaction_id = transactions.transaction_id
          AND asked.status = 'done'
          AND asked.wallet_id = transactions.wallet_id
          AND request.status = 'approved'
          AND request.checker_id <> request.maker_id
          AND transactions.client = 'console'
          AND transactions.actor = 'operator:' || run.maker_id
          AND transactions.request_id = 'bulk:' || run.id
          AND CASE WHEN asked.reverses IS NULL THEN
                   transactions.kind = 'ADJUSTMENT'
                   AND transactions.reference_id = concat('sys:bulk:', asked.campaign, ':', asked.row_ref)
                   AND transactions.request = jsonb_build_object(
                       'direction', asked.direction, 'amount', asked.amount, 'reasonCode', asked.reason_code,
                       'ticket', asked.ticket)
              ELSE transactions.kind = 'REVERSAL'
                   AND transactions.reference_id = concat('sys:undo:', run.id, ':', asked.row_no)
                   AND transactions.reverses = asked.reverses END)
"""

APPROVAL_TRANSACTION_INVARIANTS = (
    Invariant("adjustments", "each adjustment is what an operator asked for", _ADJUSTMENTS, unit="transactions"),
    Invariant("counted", "what operators moved was counted", _COUNTED, unit="transactions"),
    Invariant("alone", "no operator moved more alone than one person may", _ALONE, unit="transactions"),
    Invariant("bulk", "what a bulk run posted is a row of one that was approved", _RUN, unit="transactions"),
    Invariant("executed", "what was approved is what was asked for", _EXECUTED, unit="transactions"),
)

_REQUESTS = """
SELECT request.wallet_id, NULL AS seq,
       format('request %s (%s) is not what was asked for, or its end is not what was done', request.id,
              request.status) AS what
  FROM approval_requests AS request
  LEFT JOIN transactions AS posted ON posted.wallet_id = request.wallet_id
                                  AND posted.reference_id = format('sys:request:%s:%s', request.id,
                                                                   encode(request.payload_hash, 'hex'))
  LEFT JOIN bulk_runs AS run ON run.request_id = request.id
 WHERE request.id > :after AND request.id <= :until
   AND (request.payload_hash <> sha256(convert_to(CAST(request.payload AS text), 'UTF8'))
        OR request.payload -> 'maker' IS DISTINCT FROM to_jsonb(request.maker_id)
        OR request.payload ->> 'form' IS DISTINCT FROM request.form_key
        OR request.payload -> 'operation' ->> 'kind' IS DISTINCT FROM request.kind
        OR (request.note IS NOT NULL
            AND request.payload ->> 'noteHash' IS DISTINCT FROM
                encode(sha256(request.note_salt || convert_to(request.note, 'UTF8')), 'hex'))
        OR posted.transaction_id IS DISTINCT FROM request.transaction_id
        OR CASE WHEN request.kind NOT IN ('bulk', 'bulk_undo') THEN
                (request.status = 'approved') <> (posted.transaction_id IS NOT NULL)
           ELSE run.id IS NULL
                OR request.payload -> 'operation' ->> 'digest' IS DISTINCT FROM encode(run.digest, 'hex')
                OR (request.status = 'approved')
                   <> (run.state IN ('running', 'completed', 'completed_with_errors', 'stopped'))
                OR run.done <> (
                   SELECT count(*) FROM bulk_rows AS asked
                     JOIN transactions AS made ON made.wallet_id = asked.wallet_id
                                              AND made.transaction_id = asked.transaction_id
                    WHERE asked.run_id = run.id AND asked.status = 'done') END
        OR request.checker_id = request.maker_id)
"""

REQUESTS = Invariant("requests", "each request is what was asked for, and decided once", _REQUESTS, unit="requests")
"""Over requests with ids above `after` up to `until`."""
