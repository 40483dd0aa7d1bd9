"""Makes many of what there is one of, by SQL: a list costs the same, whatever its rows say. It moves no money."""

from __future__ import annotations

from bench.database import Database

PEOPLE = 200
CLIENTS = 50
PENDING_ON_A_WALLET = 30
BULK_RUNS = 30


def make(
    database: Database, *, records: int, requests: int, request_id: int, wallet_ids: list[int], run_id: int
) -> None:
    """Make operators, keys, audit records, bulk runs and verifications, and copies of a request, on these wallets."""
    values = {
        "records": records,
        "requests": requests,
        "request_id": request_id,
        "on_wallet": PENDING_ON_A_WALLET,
        "wallet_ids": wallet_ids,
        "runs": BULK_RUNS,
        "run_id": run_id,
        "people": PEOPLE,
        "clients": CLIENTS,
    }
    with database.connect() as connection:
        for statement in (_PEOPLE, _KEYS, _RECORDS, _REQUESTS, _RUNS, _ROWS, _VERIFICATIONS):
            connection.execute(statement, values)


_PEOPLE = """
INSERT INTO operators (email, name, role)
SELECT 'person' || n || '@bench.example', 'Person ' || n, 'viewer' FROM generate_series(1, %(people)s) AS n
"""

_KEYS = """
WITH made AS (
    INSERT INTO clients (name) SELECT 'service-' || n FROM generate_series(1, %(clients)s) AS n RETURNING id
)
INSERT INTO api_keys (key_id, client_id, secret_hmac, pepper_version, scopes, created_by)
SELECT translate(substr(md5(id || ' ' || n), 1, 12), '0189', 'wxyz'), id, sha256(convert_to(id || ' ' || n, 'UTF8')), 1,
       ARRAY['wallets:read', 'wallets:spend'], 'bench'
  FROM made CROSS JOIN generate_series(1, 4) AS n
"""

_RECORDS = """
INSERT INTO audit_log (occurred_at, actor, action, subject, before, after, reason, ticket, request_id, address, outcome)
SELECT clock_timestamp() - interval '90 days' * (1 - CAST(n AS float8) / %(records)s),
       'operator:' || 1 + n %% (5 + %(people)s), actions[1 + n %% cardinality(actions)], 'wallet:' || 1 + n %% 1000,
       jsonb_build_object('side', 'none'), jsonb_build_object('side', 'debits', 'count', n), 'A reason that is given',
       CASE WHEN n %% 10 = 0 THEN 'T-' || n / 100 END, 'request-' || n, '192.0.2.' || n %% 250,
       CASE WHEN n %% 1000 = 0 THEN 'denied' ELSE 'done' END
  FROM generate_series(1, %(records)s) AS n
 CROSS JOIN (SELECT ARRAY['wallet:adjust', 'wallet:freeze', 'wallet:unfreeze', 'transaction:reverse', 'key:rotate',
                          'sign_in:code', 'sign_in:password', 'export:begin', 'export:end', 'switch:set'] AS actions
            ) AS known
"""

# A third of them waits; of the others one half was rejected, and one has expired.
_REQUESTS = """
INSERT INTO approval_requests (kind, wallet_id, form_key, subject, payload, payload_hash, ticket, note, note_salt,
                               maker_id, demands, preview, created_at, expires_at, status, checker_id, decided_at)
SELECT kind, CASE WHEN n <= %(on_wallet)s THEN wallet_id ELSE wallets[1 + n %% cardinality(wallets)] END,
       form_key || n, subject || ':' || n, payload, payload_hash, 'T-' || n, note, note_salt, maker_id,
       demands, preview, created_at, expires_at, statuses.status,
       CASE WHEN statuses.status = 'rejected' THEN checkers.id END,
       CASE WHEN statuses.status <> 'pending' THEN clock_timestamp() END
  FROM approval_requests AS asked
 CROSS JOIN generate_series(1, %(requests)s) AS n
 CROSS JOIN (SELECT CAST(%(wallet_ids)s AS bigint[]) AS wallets) AS known
 CROSS JOIN LATERAL (
       SELECT CASE WHEN n <= %(requests)s / 3 THEN 'pending'
                   WHEN n %% 2 = 0 THEN 'rejected' ELSE 'expired' END AS status
       ) AS statuses
 CROSS JOIN (SELECT id FROM operators WHERE role = 'approver' ORDER BY id LIMIT 1) AS checkers
 WHERE asked.id = %(request_id)s
"""

_RUNS = """
INSERT INTO bulk_runs (kind, campaign, file_name, file_sha256, row_count, rows_to_do, sums, digest, maker_id, state,
                       checked_at, ended_at)
SELECT kind, campaign || '-' || n, file_name, sha256(convert_to('file ' || n, 'UTF8')), row_count, rows_to_do, sums,
       digest, maker_id, 'withdrawn', checked_at, clock_timestamp()
  FROM bulk_runs CROSS JOIN generate_series(1, %(runs)s) AS n WHERE id = %(run_id)s
"""

_ROWS = """
INSERT INTO bulk_rows (run_id, row_no, campaign, row_ref, wallet_id, direction, amount, reason_code, expected_balance,
                       status)
SELECT runs.id, row_no, runs.campaign, row_ref, wallet_id, direction, amount, reason_code, expected_balance, status
  FROM bulk_rows CROSS JOIN (SELECT id, campaign FROM bulk_runs WHERE state = 'withdrawn') AS runs
 WHERE run_id = %(run_id)s
"""

_VERIFICATIONS = """
INSERT INTO verification_runs (state, requested_by, requested_at, is_requested, is_full, started_at, ended_at,
                               entries_checked, faults, findings, notes)
SELECT state, requested_by, requested_at, is_requested, is_full, started_at, ended_at, entries_checked, faults,
       findings, notes
  FROM (SELECT * FROM verification_runs WHERE state = 'ended' LIMIT 1) AS done CROSS JOIN generate_series(1, 500)
"""
