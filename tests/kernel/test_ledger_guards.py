"""What the database itself refuses, whoever asks; and the chain as SQL recomputes it from the rows alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.engine import URL

from tests.conftest import new_database
from tests.kernel import audit
from tests.kernel.conftest import DOE, JOHN, Books
from wallet_app import service
from wallet_app.db import APPLICATION_ROLE, close_connections, db, unit_of_work
from wallet_app.errors import WalletClosedError, WalletNotActiveError
from wallet_app.service import wallets

TABLES = ("transactions", "ledger_entries", "wallet_balances", "system_balances", "wallets", "users", "asset_types")


@pytest.fixture(scope="module")
def standing_books(server: URL, template: str) -> Iterator[Books]:
    """One database for all that is refused: nothing may change in it, so the tests can share it."""
    for url in new_database(server, template=template):
        books = Books(None, url)
        before = [books.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]
        yield books
        assert [books.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES] == before
        assert books.faults() == {}


APPEND_ONLY = ("transactions", "ledger_entries")
CHANGES = [
    "UPDATE {table} SET created_at = created_at",
    "UPDATE {table} SET created_at = created_at WHERE false",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE wallet_id = 3",
    "TRUNCATE {table}",
]


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
def test_even_the_owner_cannot_change_the_ledger(standing_books: Books, table: str, change: str) -> None:
    with pytest.raises(errors.RestrictViolation, match=f"{table} is append-only: {change.split()[0]} is refused"):
        standing_books.sql(change.format(table=table))


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM wallets WHERE id = 3",
        "DELETE FROM wallets",
        "DELETE FROM wallets WHERE false",
        "TRUNCATE wallets CASCADE",
    ],
)
def test_even_the_owner_cannot_remove_a_wallet(standing_books: Books, change: str) -> None:
    """Its entries do not look it up; so it must stay."""
    with pytest.raises(errors.RestrictViolation, match=f"wallets is append-only: {change.split()[0]} is refused"):
        standing_books.sql(change)


@pytest.mark.parametrize("change", ["DELETE FROM wallets WHERE id = 3", "TRUNCATE wallets CASCADE"])
def test_a_wallet_stays_when_nothing_but_its_entries_is_left_of_it(standing_books: Books, change: str) -> None:
    """Nothing looks it up then, and the trigger alone keeps it."""
    with standing_books.connect() as connection:
        connection.execute("DELETE FROM wallet_balances")
        with pytest.raises(errors.RestrictViolation, match=f"wallets is append-only: {change.split()[0]} is refused"):
            connection.execute(change)  # type: ignore[arg-type]
        connection.rollback()


def test_control_without_its_trigger_a_wallet_can_go_and_leave_its_entries_behind(standing_books: Books) -> None:
    with standing_books.connect() as connection:
        connection.execute("DROP TRIGGER wallets_stay ON wallets")
        connection.execute("DELETE FROM wallet_balances")
        connection.execute("DELETE FROM wallets WHERE id = 3")
        left = connection.execute("SELECT count(*) FROM ledger_entries WHERE wallet_id = 3").fetchone()
        connection.rollback()
    assert left == (1,)


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "change",
    [
        *CHANGES,
        "DROP TABLE {table}",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "DROP TRIGGER {table}_append_only ON {table}",
        "ALTER TABLE {table} RENAME TO mine",
        "ALTER TABLE {table} DROP CONSTRAINT pk_{table}",
        "CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
    ],
)
def test_the_application_may_not_even_try_to_change_the_ledger(standing_books: Books, table: str, change: str) -> None:
    as_application(standing_books, change.format(table=table))


@pytest.mark.parametrize(
    "change",
    [
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP FUNCTION refuse_change()",
        "CREATE TABLE mine (id int)",
        "DELETE FROM wallet_balances",
        "DELETE FROM wallets",
        "DELETE FROM users",
        "DELETE FROM system_balances",
        "UPDATE transaction_details SET note = 'other'",
        "TRUNCATE transaction_details",
        "UPDATE alembic_version SET version_num = '0'",
    ],
)
def test_the_application_has_no_way_around(standing_books: Books, change: str) -> None:
    as_application(standing_books, change)


def as_application(books: Books, statement: str) -> None:
    with books.connect() as connection:
        # As SET ROLE does, but a superuser's session would keep the right to SET session_replication_role.
        connection.execute(f"SET SESSION AUTHORIZATION {APPLICATION_ROLE}")  # type: ignore[arg-type]
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)  # type: ignore[arg-type]


def test_the_service_acts_as_the_application_role_on_every_connection(books: Books) -> None:
    def role() -> str:
        with db.engine.connect() as connection:
            return str(connection.execute(text("SELECT current_user FROM pg_sleep(0.2)")).scalar_one())

    assert set(books.in_threads([role] * 8)) == {APPLICATION_ROLE}
    with unit_of_work() as connection:
        assert connection.scalar(text("SELECT current_user")) == APPLICATION_ROLE
    close_connections()
    assert role() == APPLICATION_ROLE


def test_the_service_itself_cannot_change_an_entry(books: Books) -> None:
    for statement in ("DELETE FROM ledger_entries", "UPDATE transactions SET actor = 'x'"):
        with pytest.raises(Exception, match="permission denied"), unit_of_work() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE wallet_balances SET balance = -1", "ck_wallet_balances_balance_range"),
        ("UPDATE wallet_balances SET balance = 9007199254740992", "ck_wallet_balances_balance_range"),
        ("UPDATE wallet_balances SET held = -1", "ck_wallet_balances_held_not_negative"),
        ("UPDATE wallet_balances SET owed = -1", "ck_wallet_balances_owed_not_negative"),
        (
            "INSERT INTO reversed_entries VALUES (3, 1, gen_random_uuid(), 1, 500, 400, 101, now())",
            "ck_reversed_entries_within_amount",
        ),
        (
            "INSERT INTO reversed_entries VALUES (3, 1, gen_random_uuid(), 1, 500, -1, 0, NULL)",
            "ck_reversed_entries_not_negative",
        ),
        (
            "INSERT INTO reversed_entries VALUES (3, 1, gen_random_uuid(), 1, 500, 0, -1, now())",
            "ck_reversed_entries_not_negative",
        ),
        (
            "INSERT INTO reversed_entries VALUES (3, 1, gen_random_uuid(), 1, 500, 0, 5, NULL)",
            "ck_reversed_entries_owed_since",
        ),
        ("UPDATE wallet_balances SET version = -1", "ck_wallet_balances_version_not_negative"),
        ("UPDATE wallet_balances SET chain = 'short'", "ck_wallet_balances_chain_length"),
        ("UPDATE wallets SET status = 'LOST', state_transaction_id = gen_random_uuid()", "ck_wallets_status_known"),
        ("UPDATE wallets SET status = 'CLOSED'", "ck_wallets_state_has_its_transaction"),
        ("UPDATE wallets SET credits_frozen_until = now()", "ck_wallets_state_has_its_transaction"),
        (
            "INSERT INTO stop_switches (target, side, reason, set_by) VALUES ('user', 'both', 'x', 'y')",
            "ck_stop_switches_target_named",
        ),
        (
            "INSERT INTO stop_switches (target, side, reason, set_by) VALUES ('everything', 'none', 'x', 'y')",
            "ck_stop_switches_side_known",
        ),
        (
            "INSERT INTO stop_switches (target, side, reason, set_by) VALUES ('everything', 'both', '', 'y')",
            "ck_stop_switches_reason_length",
        ),
        (
            "INSERT INTO stop_switches (target, side, reason, set_by, lifted_by) "
            "VALUES ('everything', 'both', 'x', 'y', 'z')",
            "ck_stop_switches_lifted_as_a_whole",
        ),
        ("UPDATE users SET user_type = 'ROBOT'", "ck_users_user_type_known"),
        ("UPDATE users SET name = 'Treasury' WHERE user_type = 'SYSTEM'", "uq_users_system_name"),
        ("INSERT INTO asset_types (code, name, scale) VALUES ('SILVER', 'Silver', 13)", "ck_asset_types_scale_range"),
        ("UPDATE asset_types SET scale = 2", "GOLD has entries: its scale is fixed"),
        ("UPDATE asset_types SET code = 'gold'", "ck_asset_types_code_form"),
        ("UPDATE system_balances SET slot = 16", "ck_system_balances_slot_range"),
        ("INSERT INTO wallets (user_id, asset_type_id) VALUES (2, 1)", "uq_wallets_user_id_asset_type_id"),
        ("INSERT INTO transaction_details VALUES (3, gen_random_uuid(), 'salt')", "ck_transaction_details_salt_length"),
    ],
)
def test_the_database_refuses_what_cannot_be(standing_books: Books, statement: str, constraint: str) -> None:
    with pytest.raises(psycopg.IntegrityError, match=constraint):
        standing_books.sql(statement)


ENTRY = {
    "wallet_id": "3",
    "seq": "99",
    "transaction_id": "gen_random_uuid()",
    "entry_type": "'TOPUP'",
    "amount": "1",
    "balance_after": "501",
    "contra_wallet_id": "1",
    "created_at": "now()",
    "hash": "decode(repeat('00', 32), 'hex')",
}
TRANSACTION = {
    "wallet_id": "3",
    "reference_id": "'new'",
    "transaction_id": "gen_random_uuid()",
    "kind": "'TOPUP'",
    "client": "'x'",
    "actor": "'x'",
    "digest": "decode(repeat('00', 32), 'hex')",
    "occurred_at": "now()",
    "created_at": "now()",
}


@pytest.mark.parametrize(
    ("table", "row", "changed", "constraint"),
    [
        ("ledger_entries", ENTRY, {"amount": "0"}, "ck_ledger_entries_amount_not_zero"),
        ("ledger_entries", ENTRY, {"amount": "9007199254740992"}, "ck_ledger_entries_amount_range"),
        ("ledger_entries", ENTRY, {"amount": "-9007199254740992"}, "ck_ledger_entries_amount_range"),
        ("ledger_entries", ENTRY, {"balance_after": "-1"}, "ck_ledger_entries_balance_after_range"),
        ("ledger_entries", ENTRY, {"balance_after": "9007199254740992"}, "ck_ledger_entries_balance_after_range"),
        ("ledger_entries", ENTRY, {"contra_wallet_id": "3"}, "ck_ledger_entries_contra_is_another"),
        ("ledger_entries", ENTRY, {"entry_type": "'GIFT'"}, "ck_ledger_entries_entry_type_known"),
        ("ledger_entries", ENTRY, {"hash": "'short'"}, "ck_ledger_entries_hash_length"),
        ("ledger_entries", ENTRY, {"seq": "0"}, "ck_ledger_entries_seq_positive"),
        ("ledger_entries", ENTRY, {"seq": "1"}, "pk_ledger_entries"),
        ("transactions", TRANSACTION, {"reference_id": "'sys:seed'"}, "pk_transactions"),
        ("transactions", TRANSACTION, {"reference_id": "''"}, "ck_transactions_reference_id_length"),
        ("transactions", TRANSACTION, {"reference_id": "repeat('r', 201)"}, "ck_transactions_reference_id_length"),
        ("transactions", TRANSACTION, {"digest": "'short'"}, "ck_transactions_digest_length"),
        ("transactions", TRANSACTION, {"details_hash": "'short'"}, "ck_transactions_details_hash_length"),
        ("transactions", TRANSACTION, {"seq": "1", "entry_keys": "'{3,1}'"}, "ck_transactions_one_way_to_entries"),
    ],
)
def test_the_database_refuses_a_row_that_cannot_be(
    standing_books: Books, table: str, row: dict[str, str], changed: dict[str, str], constraint: str
) -> None:
    def insert(values: dict[str, str]) -> None:
        names, expressions = ", ".join(values), ", ".join(values.values())
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({expressions})")  # type: ignore[arg-type]

    with standing_books.connect() as connection:
        insert(row)  # The row as such is possible; only the change is not.
        connection.rollback()
        with pytest.raises(psycopg.IntegrityError, match=rf'"{re.escape(constraint)}"'):
            insert(row | changed)
        connection.rollback()


def test_the_legs_of_every_transaction_sum_to_zero(books: Books) -> None:
    service.execute_batch([books.spend(JOHN, 5), books.top_up(DOE, 7), books.bonus(JOHN, 2)])
    sums = "SELECT transaction_id FROM ledger_legs GROUP BY transaction_id HAVING sum(amount) <> 0"
    assert books.sql(sums) == []
    assert books.sql("SELECT count(*) FROM ledger_legs") == [
        (2 * books.sql("SELECT count(*) FROM ledger_entries")[0][0],)
    ]


def test_sql_recomputes_hash_and_digest_as_the_posting_wrote_them(books: Books) -> None:
    service.execute_batch(
        [
            books.top_up(JOHN, 1, note="Grüße ✓", metadata='{"ü": [1, null]}'),
            books.spend(JOHN, 2, "réf", origin=service.Origin(client="", actor="ÿ", request_id=None)),
            books.bonus(JOHN, 9_007_199_254_740_991 - 499, note=""),
        ]
    )
    details_agree = f"t.details_hash IS NOT DISTINCT FROM CASE WHEN d.salt IS NOT NULL THEN {audit.DETAILS_HASH} END"
    rows = books.sql(f"""
        SELECT e.hash = {audit.HASH}, t.digest = {audit.DIGEST}, {details_agree}
          FROM ledger_entries e JOIN transactions t USING (transaction_id)
          LEFT JOIN transaction_details d USING (transaction_id)
         WHERE e.wallet_id = {JOHN} ORDER BY e.seq
    """)
    assert rows == [(True, True, True)] * 4


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("UPDATE ledger_entries SET amount = amount - 1 WHERE (wallet_id, seq) = (3, 2)", "a chain is broken"),
        (
            "UPDATE ledger_entries SET created_at = created_at + '1us' WHERE (wallet_id, seq) = (3, 2)",
            "a chain is broken",
        ),
        ("UPDATE transactions SET actor = 'nobody' WHERE wallet_id = 3", "a digest is not the hash of its transaction"),
        ("UPDATE transaction_details SET note = 'other'", "a details_hash is not the hash of the details"),
        ("DELETE FROM ledger_entries WHERE (wallet_id, seq) = (3, 2)", "seq has a gap, or a double"),
        ("UPDATE wallet_balances SET balance = balance + 1 WHERE wallet_id = 3", "an asset does not sum to zero"),
        ("UPDATE system_balances SET balance = balance + 1", "a SYSTEM wallet's slots are not what its entries say"),
    ],
)
def test_control_a_ledger_that_was_tampered_with_shows(broken_books: Books, harm: str, fault: str) -> None:
    service.execute_batch(
        [broken_books.spend(JOHN, 1, note="a"), broken_books.spend(JOHN, 1), broken_books.top_up(JOHN, 1)]
    )
    assert broken_books.faults() == {}
    broken_books.sql(f"SET session_replication_role = replica; {harm}")
    assert fault in broken_books.faults()


def test_a_wallet_that_is_made_twice_at_once_is_one_wallet_or_refused(books: Books) -> None:
    """Two that make the same wallet: one has it, the other is told so by the constraint."""
    with unit_of_work() as connection:
        user_id = wallets.ensure_user(connection, name="New", external_id="new")

    def make() -> int | Exception:
        try:
            with unit_of_work() as connection:
                return wallets.ensure_wallet(connection, user_id=user_id, asset_type_id=1)
        except Exception as refused:
            return refused

    made = books.in_threads([make] * 8)
    assert len({one for one in made if isinstance(one, int)}) == 1
    assert all("uq_wallets_user_id_asset_type_id" in str(one) for one in made if isinstance(one, Exception))
    assert books.sql("SELECT count(*) FROM wallets WHERE user_id = %s", user_id) == [(1,)]


@pytest.mark.parametrize(("status", "error"), [("FROZEN", WalletNotActiveError), ("CLOSED", WalletClosedError)])
def test_a_wallet_that_is_not_active_moves_nothing_and_still_answers_replays(
    books: Books, status: str, error: type[Exception]
) -> None:
    before = service.execute(books.top_up(JOHN, 5, "before"))
    books.stop(JOHN, status)
    left = books.balance(JOHN)
    for command in (books.top_up(JOHN, 1), books.bonus(JOHN, 1), books.spend(JOHN, 1)):
        with pytest.raises(error):
            service.execute(command)
    replay = service.execute(books.top_up(JOHN, 5, "before"))
    assert replay.is_replay
    assert replay.transaction.transaction_id == before.transaction.transaction_id
    assert books.balance(JOHN) == left == (505 if status == "FROZEN" else 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE wallets SET user_id = 3 WHERE id = 3",
        "UPDATE stop_switches SET reason = 'x'",
        "DELETE FROM stop_switches",
        "UPDATE users SET name = 'x' WHERE id = 2",
        "UPDATE asset_types SET code = 'SILVER'",
        "DELETE FROM verify_runs",
    ],
)
def test_the_application_role_may_not_give_a_wallet_away_or_forget_a_verification(books: Books, statement: str) -> None:
    with pytest.raises(Exception, match="permission denied"), unit_of_work() as connection:
        connection.exec_driver_sql(statement)
