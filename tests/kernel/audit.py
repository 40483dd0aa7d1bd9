"""The books' invariants as plain SQL, written from the design alone: no line is shared with the service or `verify`.

Every check is a query of what is wrong; all must return nothing. The chain is recomputed inside the database from the
rows as they are stored, so that a fault in Python's canonical bytes would show here.
"""

from __future__ import annotations

import psycopg
from sqlalchemy.engine import URL

from tests.conftest import conninfo

_TEXT = "coalesce(int4send(octet_length(convert_to({0}, 'UTF8'))) || convert_to({0}, 'UTF8'), '\\xffffffff'::bytea)"
_BYTES = "coalesce(int4send(octet_length({0})) || {0}, '\\xffffffff'::bytea)"


def _text(name: str) -> str:
    return _TEXT.format(name)


def _bytes(name: str) -> str:
    return _BYTES.format(name)


# Format 2 is 1 with request and result behind it, for transactions that have one of them.
DIGEST = f"""
sha256(CASE WHEN num_nonnulls(t.request, t.result) = 0 THEN '\\x01'::bytea ELSE '\\x02' END
       || uuid_send(t.transaction_id) || int8send(t.wallet_id) || {_text("t.reference_id")}
       || {_text("t.kind")} || {_text("t.client")} || {_text("t.actor")} || {_text("t.request_id")}
       || timestamptz_send(t.occurred_at) || {_bytes("uuid_send(t.reverses)")} || {_bytes("t.details_hash")}
       || CASE WHEN num_nonnulls(t.request, t.result) = 0 THEN ''::bytea
               ELSE {_text("t.request::text")} || {_text("t.result::text")} END)
"""

DETAILS_HASH = f"sha256('\\x01'::bytea || d.salt || {_text('d.note')} || {_text('d.metadata::text')})"

_PREVIOUS = "coalesce(lag(e.hash) OVER (PARTITION BY e.wallet_id ORDER BY e.seq), decode(repeat('00', 32), 'hex'))"

HASH = f"""
sha256('\\x01'::bytea || {_PREVIOUS} || int8send(e.wallet_id) || int8send(e.seq) || uuid_send(e.transaction_id)
       || {_text("e.entry_type")} || int8send(e.amount) || int8send(e.balance_after) || int8send(e.contra_wallet_id)
       || timestamptz_send(e.created_at) || t.digest)
"""

_KEYS = """
SELECT wallet_id, transaction_id, wallet_id AS entry_wallet_id, seq FROM transactions WHERE seq IS NOT NULL
UNION ALL
SELECT wallet_id, transaction_id, entry_keys[i], entry_keys[i + 1]
  FROM transactions, generate_series(1, cardinality(entry_keys), 2) AS i
"""

CHECKS = {
    "a balance is not the sum of its entries": """
        SELECT b.wallet_id, b.balance, coalesce(sum(e.amount), 0)
          FROM wallet_balances b LEFT JOIN ledger_entries e USING (wallet_id)
         GROUP BY b.wallet_id HAVING b.balance <> coalesce(sum(e.amount), 0)
    """,
    "a version is not the number of entries, or the last seq": """
        SELECT b.wallet_id, b.version, count(e.seq), max(e.seq)
          FROM wallet_balances b LEFT JOIN ledger_entries e USING (wallet_id)
         GROUP BY b.wallet_id HAVING b.version <> count(e.seq) OR b.version <> coalesce(max(e.seq), 0)
    """,
    "seq has a gap, or a double": """
        SELECT wallet_id, seq FROM (
               SELECT wallet_id, seq, row_number() OVER (PARTITION BY wallet_id ORDER BY seq) AS place
                 FROM ledger_entries) AS placed
         WHERE seq <> place
    """,
    "balance_after is not the running sum": """
        SELECT wallet_id, seq FROM (
               SELECT wallet_id, seq, balance_after, sum(amount) OVER (PARTITION BY wallet_id ORDER BY seq) AS running
                 FROM ledger_entries) AS summed
         WHERE balance_after <> running OR balance_after < 0
    """,
    "created_at falls along a wallet": """
        SELECT wallet_id, seq FROM (
               SELECT wallet_id, seq, created_at, lag(created_at) OVER (PARTITION BY wallet_id ORDER BY seq) AS before
                 FROM ledger_entries) AS timed
         WHERE created_at < before
    """,
    "a balance row does not tell what its last entry does": """
        SELECT b.wallet_id FROM wallet_balances b
          JOIN ledger_entries e ON (e.wallet_id, e.seq) = (b.wallet_id, b.version)
         WHERE (b.balance, b.chain, b.updated_at) IS DISTINCT FROM (e.balance_after, e.hash, e.created_at)
    """,
    "a wallet of a user has no balance row": """
        SELECT w.id FROM wallets w JOIN users u ON u.id = w.user_id AND u.user_type = 'USER'
         WHERE NOT EXISTS (SELECT FROM wallet_balances b WHERE b.wallet_id = w.id)
    """,
    "a SYSTEM wallet's slots are not what its entries say": """
        SELECT w.id, slots.total, entries.total FROM wallets w
          LEFT JOIN (SELECT wallet_id, sum(balance) AS total FROM system_balances GROUP BY 1) slots
            ON slots.wallet_id = w.id
          LEFT JOIN (SELECT contra_wallet_id, -sum(amount) AS total FROM ledger_entries GROUP BY 1) entries
            ON entries.contra_wallet_id = w.id
         WHERE coalesce(slots.total, 0) <> coalesce(entries.total, 0)
    """,
    "a lot is not what its movements make": """
        SELECT l.wallet_id, l.seq, l.part FROM lots l
          FULL JOIN (
               SELECT wallet_id, lot_seq, lot_part, sum(CASE kind WHEN 'grant' THEN amount ELSE 0 END) AS amount,
                      sum(CASE WHEN kind IN ('grant', 'release', 'restore') THEN amount WHEN kind = 'extend' THEN 0
                               ELSE -amount END) AS available,
                      sum(CASE kind WHEN 'hold' THEN amount WHEN 'release' THEN -amount ELSE 0 END) AS held,
                      sum(CASE kind WHEN 'consume' THEN amount WHEN 'restore' THEN -amount ELSE 0 END) AS consumed,
                      sum(CASE kind WHEN 'expire' THEN amount ELSE 0 END) AS expired,
                      sum(CASE kind WHEN 'revoke' THEN amount ELSE 0 END) AS revoked, max(expires_at) AS expires_at
                 FROM lot_movements GROUP BY 1, 2, 3
               ) m ON (m.wallet_id, m.lot_seq, m.lot_part) = (l.wallet_id, l.seq, l.part)
         WHERE (l.amount, l.available, l.held, l.consumed, l.expired, l.revoked, l.expires_at)
               IS DISTINCT FROM (m.amount, m.available, m.held, m.consumed, m.expired, m.revoked, m.expires_at)
    """,
    "a balance row does not tell its lots": """
        SELECT b.wallet_id, b.bonus, b.lots, b.balance FROM wallet_balances b
          LEFT JOIN (SELECT wallet_id, sum(available) FILTER (WHERE kind = 'bonus') AS bonus,
                            sum(available) AS available,
                            count(*) FILTER (WHERE CASE seq WHEN 0 THEN held > 0 ELSE held + available > 0 END) AS lots,
                            sum(held) AS held
                       FROM lots GROUP BY 1) l USING (wallet_id)
         WHERE b.bonus <> coalesce(l.bonus, 0) OR b.lots <> coalesce(l.lots, 0)
            OR l.available > b.balance OR l.held > b.held
    """,
    "an entry moves more of lots than it moves": """
        SELECT e.wallet_id, e.seq, e.amount, m.moved FROM ledger_entries e
          JOIN (SELECT wallet_id, seq, transaction_id,
                       sum(CASE WHEN kind IN ('grant', 'release', 'restore') THEN amount ELSE -amount END) AS moved
                  FROM lot_movements WHERE kind <> 'extend' GROUP BY 1, 2, 3) m USING (wallet_id, seq, transaction_id)
         WHERE m.moved * sign(e.amount) < 0 OR abs(m.moved) > abs(e.amount) OR (m.moved = 0 AND e.amount < 0)
         UNION ALL
        SELECT m.wallet_id, m.seq, NULL, NULL FROM lot_movements m
         WHERE m.kind <> 'extend'
           AND NOT EXISTS (SELECT FROM ledger_entries e
                            WHERE (e.wallet_id, e.seq, e.transaction_id) = (m.wallet_id, m.seq, m.transaction_id))
    """,
    "a unit of a grant is lost twice": """
        SELECT r.wallet_id, r.seq, r.amount, r.reversed, r.owed, l.left_or_expired FROM reversed_entries r
          JOIN (SELECT wallet_id, seq, sum(available + expired) AS left_or_expired
                  FROM lots WHERE seq > 0 GROUP BY 1, 2) l
            USING (wallet_id, seq)
         WHERE l.left_or_expired > 0 AND r.reversed + r.owed + l.left_or_expired > r.amount
    """,
    "a hold does not tell its lots": """
        SELECT l.wallet_id, l.seq, l.part FROM lots l
          LEFT JOIN (SELECT wallet_id, lots[i] AS seq, lots[i + 1] AS part, sum(lots[i + 2]) AS held
                       FROM holds, generate_series(1, cardinality(lots), 3) AS i GROUP BY 1, 2, 3) h
            USING (wallet_id, seq, part)
         WHERE l.held <> coalesce(h.held, 0)
    """,
    "a transfer does not make zero": """
        SELECT e.transaction_id, w.asset_type_id, sum(e.amount)
          FROM ledger_entries e JOIN wallets w ON w.id = e.wallet_id
         WHERE e.entry_type = 'TRANSFER'
         GROUP BY 1, 2 HAVING sum(e.amount) <> 0
    """,
    "an asset does not sum to zero": """
        SELECT w.asset_type_id FROM wallets w
          LEFT JOIN wallet_balances b ON b.wallet_id = w.id
          LEFT JOIN (SELECT wallet_id, sum(balance) AS balance FROM system_balances GROUP BY 1) s ON s.wallet_id = w.id
         GROUP BY w.asset_type_id HAVING sum(coalesce(b.balance, 0) + coalesce(s.balance, 0)) <> 0
    """,
    "a contra wallet is not a SYSTEM wallet of the same asset": """
        SELECT e.wallet_id, e.seq FROM ledger_entries e
          JOIN wallets w ON w.id = e.wallet_id
          LEFT JOIN (SELECT c.id, c.asset_type_id FROM wallets c
                       JOIN users u ON u.id = c.user_id AND u.user_type = 'SYSTEM') c
            ON c.id = e.contra_wallet_id
         WHERE c.asset_type_id IS DISTINCT FROM w.asset_type_id
    """,
    "a transaction's entry is not there": f"""
        SELECT k.wallet_id, k.transaction_id FROM ({_KEYS}) k
          LEFT JOIN ledger_entries e
            ON (e.wallet_id, e.seq, e.transaction_id) = (k.entry_wallet_id, k.seq, k.transaction_id)
         WHERE e.seq IS NULL
    """,
    "an entry belongs to no transaction, or to two": f"""
        SELECT e.wallet_id, e.seq FROM ledger_entries e
          LEFT JOIN ({_KEYS}) k ON (e.wallet_id, e.seq, e.transaction_id) = (k.entry_wallet_id, k.seq, k.transaction_id)
         GROUP BY e.wallet_id, e.seq HAVING count(k.transaction_id) <> 1
    """,
    "what a wallet holds is not what its open holds have left, or what went to Holds": """
        SELECT b.wallet_id, b.held, h.open, l.held FROM wallet_balances b
          CROSS JOIN LATERAL (SELECT coalesce(sum(amount - captured - released - expired), 0) AS open
                                FROM holds WHERE wallet_id = b.wallet_id AND ended_at IS NULL) h
          CROSS JOIN LATERAL (SELECT coalesce(-sum(e.amount), 0) AS held FROM ledger_entries e
                                JOIN wallets w ON w.id = e.contra_wallet_id JOIN users u ON u.id = w.user_id
                               WHERE e.wallet_id = b.wallet_id AND u.user_type = 'SYSTEM' AND u.name = 'Holds') l
         WHERE b.held <> h.open OR b.held <> l.held
    """,
    "a hold is not what its transactions made of it": """
        SELECT h.wallet_id, h.hold_id FROM holds h
          JOIN transactions p ON p.transaction_id = h.hold_id
          JOIN ledger_entries e ON (e.wallet_id, e.seq, e.transaction_id) = (h.wallet_id, h.seq, h.hold_id)
          CROSS JOIN LATERAL (
               SELECT coalesce(sum(e.amount) FILTER (WHERE e.entry_type = 'SPEND'), 0) AS spent,
                      coalesce(sum(e.amount) FILTER (WHERE t.kind <> 'HOLD_EXPIRY'), 0) AS released,
                      coalesce(sum(e.amount) FILTER (WHERE t.kind = 'HOLD_EXPIRY'), 0) AS expired,
                      coalesce(array_agg(e.seq ORDER BY e.seq) FILTER (WHERE e.entry_type = 'RELEASE'), '{}') AS seqs
                 FROM transactions t JOIN ledger_entries e USING (transaction_id)
                WHERE t.request ->> 'hold' = h.hold_id::text) AS made
         WHERE (h.amount, h.captured, h.released, h.expired, h.changes, h.created_at, h.expires_at) IS DISTINCT FROM
               (-e.amount, -made.spent, made.released, made.expired, made.seqs, e.created_at,
                e.created_at + make_interval(secs => (p.request ->> 'expiresIn')::int))
    """,
    "a hold's HOLD entry has no hold, or a hold no entry": """
        SELECT coalesce(h.wallet_id, e.wallet_id), coalesce(h.seq, e.seq)
          FROM holds h
          FULL JOIN (SELECT * FROM ledger_entries WHERE entry_type = 'HOLD') e
            ON (e.wallet_id, e.seq, e.transaction_id) = (h.wallet_id, h.seq, h.hold_id)
         WHERE h.seq IS NULL OR e.seq IS NULL
    """,
    "a hold was captured after its time": """
        SELECT h.wallet_id, t.transaction_id FROM transactions t
          JOIN holds h ON h.wallet_id = t.wallet_id AND h.hold_id::text = t.request ->> 'hold'
         WHERE (t.kind = 'HOLD_EXPIRY') <> (t.created_at >= h.expires_at)
    """,
    "a wallet does not stand as its last command left it": """
        SELECT w.id, w.status FROM wallets w
          LEFT JOIN transactions t ON (t.transaction_id, t.wallet_id) = (w.state_transaction_id, w.id)
         WHERE (w.status, w.debits_frozen_until, w.credits_frozen_until, w.state_transaction_id) IS DISTINCT FROM
               (coalesce(t.result ->> 'status', 'ACTIVE'), (t.result ->> 'debitsUntil')::timestamptz,
                (t.result ->> 'creditsUntil')::timestamptz, t.transaction_id)
    """,
    "a freeze is not the one after the one before": """
        WITH changes AS (
             SELECT wallet_id, transaction_id, kind, request ->> 'side' AS side, request ->> 'until' AS until, result,
                    (result ->> 'previous')::uuid AS previous
               FROM transactions WHERE kind IN ('FREEZE', 'UNFREEZE', 'CLOSE')
        ), ends (wallet_id, changes, heads, firsts) AS (
             SELECT wallet_id, count(*), count(*) FILTER (WHERE transaction_id NOT IN (
                    SELECT previous FROM changes WHERE previous IS NOT NULL)), count(*) FILTER (WHERE previous IS NULL)
               FROM changes GROUP BY 1
        )
        SELECT wallet_id, NULL FROM ends WHERE heads <> 1 OR firsts <> 1
         UNION ALL
        SELECT c.wallet_id, c.kind FROM changes c
          LEFT JOIN changes p ON (p.transaction_id, p.wallet_id) = (c.previous, c.wallet_id)
         CROSS JOIN LATERAL (VALUES ('debits', 'debitsUntil'), ('credits', 'creditsUntil')) AS sides (side, name)
         WHERE (p.transaction_id IS NULL) <> (c.previous IS NULL)
            OR (c.result ->> 'status' = 'CLOSED') <> (c.kind = 'CLOSE') OR p.result ->> 'status' = 'CLOSED'
            OR c.result ->> name IS DISTINCT FROM
               CASE WHEN c.side IS NULL OR c.side NOT IN ('both', sides.side) THEN p.result ->> name
                    WHEN c.kind = 'FREEZE' THEN coalesce(c.until, '9999-01-01T00:00:00.000000Z') END
    """,
    "a closed wallet has something": """
        SELECT w.id, b.balance, b.held, b.owed FROM wallets w JOIN wallet_balances b ON b.wallet_id = w.id
         WHERE w.status = 'CLOSED' AND (b.balance <> 0 OR b.held <> 0 OR b.owed <> 0)
    """,
    "a wallet owes not what its reversed entries owe, or has something then": """
        SELECT b.wallet_id, b.balance, b.owed, d.owed FROM wallet_balances b
          LEFT JOIN (SELECT wallet_id, sum(owed) AS owed FROM reversed_entries GROUP BY 1) d USING (wallet_id)
         WHERE b.owed <> coalesce(d.owed, 0) OR (b.owed > 0 AND b.balance > 0)
    """,
    "an entry is not reversed as its reversals say": """
        SELECT r.wallet_id, r.seq, p.* FROM reversed_entries r
          FULL JOIN (SELECT t.reverses, (p ->> 0)::bigint AS wallet_id, (p ->> 1)::bigint AS seq,
                            sum(abs((p ->> 2)::bigint)) AS reversed, sum((p ->> 3)::bigint) AS owed
                       FROM transactions t CROSS JOIN LATERAL jsonb_array_elements(t.result -> 'parts') AS p
                      WHERE t.reverses IS NOT NULL GROUP BY 1, 2, 3) p
            ON (r.wallet_id, r.seq, r.transaction_id) = (p.wallet_id, p.seq, p.reverses)
          LEFT JOIN ledger_entries e ON (e.wallet_id, e.seq, e.transaction_id) = (r.wallet_id, r.seq, r.transaction_id)
         WHERE (r.reversed, r.owed) IS DISTINCT FROM (p.reversed, p.owed)
            OR (r.amount, r.contra_wallet_id) IS DISTINCT FROM (abs(e.amount), e.contra_wallet_id)
    """,
    "what was reversed of a transaction is not what its REVERSAL entries moved": """
        SELECT reverses, wallet_id, contra_wallet_id FROM (
               SELECT transaction_id AS reverses, wallet_id, contra_wallet_id, reversed AS moved FROM reversed_entries
                UNION ALL
               SELECT t.reverses, e.wallet_id, e.contra_wallet_id, -abs(e.amount)
                 FROM ledger_entries e LEFT JOIN transactions t USING (transaction_id)
                WHERE e.entry_type = 'REVERSAL') moves
         GROUP BY 1, 2, 3 HAVING sum(moved) <> 0 OR reverses IS NULL
    """,
    "a reversal goes the same way as what it reverses, or a transfer's makes no zero": """
        SELECT t.transaction_id FROM transactions t
          JOIN transactions o ON o.transaction_id = t.reverses
          JOIN ledger_entries e ON e.transaction_id = t.transaction_id
         GROUP BY t.transaction_id, o.kind
        HAVING (o.kind = 'TRANSFER' AND sum(e.amount) <> 0)
            OR bool_or(NOT EXISTS (SELECT FROM ledger_entries m WHERE m.transaction_id = t.reverses
                                      AND m.wallet_id = e.wallet_id AND m.contra_wallet_id = e.contra_wallet_id
                                      AND sign(m.amount) = -sign(e.amount)))
    """,
    "what is kept as spent is not what the entries of a wallet say": """
        WITH counted AS (
             SELECT w.wallet_id, w.updated_at - interval '26 hours' AS since FROM wallet_balances w
              WHERE w.version = (SELECT max(seq) FROM spend_buckets b
                                  WHERE b.wallet_id = w.wallet_id AND b.hour > w.updated_at - interval '26 hours')
        ), moves AS (
             SELECT e.wallet_id, e.created_at AS at, abs(e.amount) - coalesce(r.reversed, 0) AS amount
               FROM ledger_entries e JOIN transactions t USING (transaction_id)
               LEFT JOIN reversed_entries r ON (r.wallet_id, r.seq) = (e.wallet_id, e.seq)
              WHERE e.amount < 0 AND t.kind IN ('SPEND', 'TRANSFER', 'EXCHANGE', 'PURCHASE')
              UNION ALL
             SELECT h.wallet_id, h.created_at, h.amount - h.released - h.expired
                    - coalesce((SELECT sum(r.reversed) FROM transactions t
                                  JOIN reversed_entries r USING (transaction_id)
                                 WHERE t.kind = 'CAPTURE' AND t.request ->> 'hold' = h.hold_id::text), 0)
               FROM holds h
        ), says AS (
             SELECT m.wallet_id, m.amount,
                    (SELECT max(b.hour) FROM spend_buckets b
                      WHERE b.wallet_id = m.wallet_id AND b.hour <= m.at AND b.amount > 0) AS hour
               FROM moves m
        )
        SELECT b.wallet_id, b.hour, b.amount, sum(s.amount) FROM counted c
          JOIN spend_buckets b ON b.wallet_id = c.wallet_id AND b.hour > c.since
          LEFT JOIN says s ON (s.wallet_id, s.hour) = (b.wallet_id, b.hour)
         GROUP BY b.wallet_id, b.hour, b.amount HAVING b.amount <> coalesce(sum(s.amount), 0)
    """,
    "a raised limit is not what its transaction says": """
        SELECT t.wallet_id, l.id FROM limits l
          FULL JOIN (SELECT wallet_id, transaction_id, request FROM transactions WHERE kind = 'LIMIT_RAISE'
                      UNION ALL
                     SELECT wallet_id, transaction_id, result FROM transactions WHERE kind = 'LIMIT_RAISE_END') t
         USING (transaction_id)
         WHERE (l.level = 'raise' OR l.id IS NULL)
           AND (l.wallet_id, l.single_max, l.balance_max, l.day_max, l.rolling_max, l.until) IS DISTINCT FROM
               (t.wallet_id, (t.request ->> 'single')::bigint, (t.request ->> 'balance')::bigint,
                (t.request ->> 'day')::bigint, (t.request ->> 'rolling')::bigint, (t.request ->> 'until')::timestamptz)
    """,
    "a reference stands twice": "SELECT wallet_id, reference_id FROM transactions GROUP BY 1, 2 HAVING count(*) > 1",
    "a details_hash is not the hash of the details": f"""
        SELECT t.wallet_id, t.transaction_id FROM transactions t
          JOIN transaction_details d USING (wallet_id, transaction_id)
         WHERE t.details_hash IS DISTINCT FROM {DETAILS_HASH}
    """,
    "a digest is not the hash of its transaction": f"""
        SELECT t.wallet_id, t.transaction_id FROM transactions t WHERE t.digest IS DISTINCT FROM {DIGEST}
    """,
    "a chain is broken": f"""
        SELECT wallet_id, seq FROM (
               SELECT e.wallet_id, e.seq, e.hash, {HASH} AS recomputed
                 FROM ledger_entries e JOIN transactions t USING (transaction_id)) AS hashed
         WHERE hash <> recomputed
    """,
}


def faults(database: URL) -> dict[str, list[tuple[object, ...]]]:
    """Return what is wrong with the books, by check; nothing if all is well."""
    # Some tests let the database end statements soon, and these have time.
    options = "-c statement_timeout=0 -c lock_timeout=0"
    with psycopg.connect(conninfo(database), autocommit=True, options=options) as connection:
        found = {name: connection.execute(query).fetchmany(5) for name, query in CHECKS.items()}  # type: ignore[arg-type]
    return {name: rows for name, rows in found.items() if rows}
