"""Waits that run out, victims of deadlocks, poisoned commands, missing rows: each command gets a true answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.kernel.conftest import DOE, JOHN, Books, outcome_of, serve
from wallet_app import service
from wallet_app.db import close_connections, db, unit_of_work
from wallet_app.errors import (
    InsufficientBalanceError,
    OutcomeUnknownError,
    WalletBusyError,
)
from wallet_app.service import locks, posting, rules

STANDBY_LOST = "RAISE WARNING 'canceling wait for synchronous replication due to user request';"
"""What PostgreSQL says at a COMMIT that it makes without its standby."""


def set_for_new_connections(books: Books, name: str, value: str) -> None:
    books.sql(f"ALTER DATABASE {books.url.database} SET {name} = '{value}'")
    close_connections()


def add_trigger(books: Books, body: str, *, on: str = "BEFORE INSERT ON ledger_entries") -> None:
    """Let a trigger do harm to every entry."""
    kind = "CONSTRAINT TRIGGER" if "DEFERRED" in on else "TRIGGER"
    books.sql(f"""
        CREATE SEQUENCE harms;
        CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN {body} RETURN NEW; END $$;
        CREATE {kind} harm {on} FOR EACH ROW EXECUTE FUNCTION harm();
    """)


def shortest(work: Callable[[], object], enough: float) -> float:
    """Return in how many seconds the work is done at best: of three tries, since a busy machine may stall any one."""
    took: list[float] = []
    while len(took) < 3 and min(took, default=enough) >= enough:
        begun = time.monotonic()
        work()
        took.append(time.monotonic() - begun)
    return min(took)


def harms(books: Books) -> int:
    """Return how often the trigger's sequence was drawn from: a rollback does not turn it back."""
    return books.sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM harms")[0][0]


# --- waits ---


def test_a_wallet_that_another_holds_is_answered_as_busy_after_the_lock_timeout(books: Books) -> None:
    set_for_new_connections(books, "lock_timeout", "300ms")
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))

        def is_busy() -> None:
            with pytest.raises(WalletBusyError):
                service.execute(books.spend(JOHN, 1, "busy"))

        assert 0.25 < shortest(is_busy, 1.5) < 1.5
        assert not isinstance(outcome_of(books.spend(DOE, 1)), Exception), "other wallets go on"
    assert (books.transactions("busy"), books.balance(JOHN)) == (0, 500)
    assert not service.execute(books.spend(JOHN, 1, "busy")).is_replay


def test_the_services_own_lock_timeout_is_two_seconds(books: Books) -> None:
    with db.engine.connect() as connection:
        shown = connection.execute(
            text(
                "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'),"
                " current_setting('idle_in_transaction_session_timeout')"
            )
        ).one()
    assert tuple(shown) == ("2s", "4s", "5s")


def test_a_statement_that_takes_too_long_is_answered_as_busy_and_posts_nothing(books: Books) -> None:
    set_for_new_connections(books, "statement_timeout", "300ms")
    add_trigger(books, "PERFORM pg_sleep(5);")
    with pytest.raises(WalletBusyError):
        service.execute(books.spend(JOHN, 1, "slow"))
    assert (books.transactions("slow"), books.balance(JOHN)) == (0, 500)


def test_a_unit_of_work_that_idles_too_long_is_ended_and_done_again(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_for_new_connections(books, "idle_in_transaction_session_timeout", "100ms")
    decide, delays = rules.decide, iter([0.4])

    def dawdle(*arguments: Any) -> Any:
        time.sleep(next(delays, 0))
        return decide(*arguments)

    monkeypatch.setattr(posting, "decide", dawdle)
    assert not service.execute(books.spend(JOHN, 1, "idle")).is_replay
    assert books.transactions("idle") == 1


def test_when_all_slots_are_taken_a_posting_waits_for_one(books: Books) -> None:
    # However late the timer is, it is waited for.
    for name in ("lock_timeout", "statement_timeout"):
        set_for_new_connections(books, name, "60s")
    with books.connect() as other:
        every_slot = "SELECT pg_advisory_xact_lock(%s, slot) FROM generate_series(0, 15) AS slot"
        other.execute(every_slot, (locks._SLOT_LOCKS,))
        free = threading.Timer(0.4, other.rollback)
        begun = time.monotonic()
        free.start()
        service.execute(books.spend(JOHN, 1))
        assert time.monotonic() - begun > 0.3
        free.join()


def test_a_pool_without_a_free_connection_is_answered_as_unavailable_and_posts_nothing(database: URL) -> None:
    for books in serve(database, pool_size=1, pool_seconds_max=1):
        with db.engine.connect():

            def is_crowded(books: Books = books) -> None:
                with pytest.raises(WalletBusyError, match="connections"):
                    service.execute(books.spend(JOHN, 1, "crowded"))

            assert 0.9 < shortest(is_crowded, 2) < 2
        assert books.transactions("crowded") == 0
        assert not service.execute(books.spend(JOHN, 1, "crowded")).is_replay
        assert books.faults() == {}


# --- conflicts ---


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_the_victim_of_a_conflict_is_posted_at_the_second_repetition(books: Books, state: str) -> None:
    add_trigger(books, f"IF nextval('harms') <= 2 THEN RAISE 'injected' USING ERRCODE = '{state}'; END IF;")
    receipt = service.execute(books.spend(JOHN, 1, "victim"))
    assert not receipt.is_replay
    assert harms(books) == 3
    assert (books.balance(JOHN), books.entries(JOHN)) == (499, 2)


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_a_conflict_is_repeated_twice_at_most_and_then_answered_as_busy(books: Books, state: str) -> None:
    add_trigger(books, f"PERFORM nextval('harms'); RAISE 'injected' USING ERRCODE = '{state}';")
    with pytest.raises(WalletBusyError):
        service.execute(books.spend(JOHN, 1, "victim"))
    assert harms(books) == 3
    assert books.transactions("victim") == 0


# --- poison ---


def assert_only_the_third_fails(books: Books, poisoned: service.Command) -> Exception:
    """A batch with the poisoned command in its middle is posted but for that one, in order."""
    batch = [
        books.top_up(JOHN, 1),
        books.spend(DOE, 2),
        poisoned,
        books.spend(JOHN, 501),
        books.spend(JOHN, 1),
        books.top_up(JOHN, 4),
    ]
    outcomes = service.execute_batch(batch)
    fault = outcomes[2]
    assert isinstance(fault, Exception)
    assert not isinstance(fault, service.Receipt)
    # The spend of all takes what the top-up before it brought; one more is refused; the top-up after it still comes.
    kinds = [type(outcome) for outcome in outcomes[:2] + outcomes[3:]]
    assert kinds == [service.Receipt, service.Receipt, service.Receipt, InsufficientBalanceError, service.Receipt]
    assert (books.balance(JOHN), books.balance(DOE)) == (4, 298)
    assert books.entries(JOHN) == 4
    return fault


def test_a_note_that_the_database_cannot_store_fails_alone(books: Books) -> None:
    fault = assert_only_the_third_fails(books, books.top_up(JOHN, 100, note="a\x00b"))
    assert isinstance(fault, DBAPIError)
    assert "a\x00b" not in str(fault)


def test_a_reference_that_the_database_cannot_store_fails_alone(books: Books) -> None:
    assert_only_the_third_fails(books, books.top_up(JOHN, 100, "a\x00b"))


def test_a_note_that_is_no_unicode_fails_alone(books: Books) -> None:
    assert isinstance(assert_only_the_third_fails(books, books.top_up(JOHN, 100, note="\ud800")), UnicodeEncodeError)


def test_a_reference_that_is_no_unicode_fails_alone(books: Books) -> None:
    assert isinstance(assert_only_the_third_fails(books, books.top_up(JOHN, 100, "\ud800")), UnicodeEncodeError)


def test_an_actor_that_is_no_unicode_fails_alone(books: Books) -> None:
    origin = service.Origin(client="tests", actor="\ud800")
    assert_only_the_third_fails(books, books.top_up(JOHN, 100, origin=origin))


def test_metadata_that_is_no_json_fails_alone(books: Books) -> None:
    assert isinstance(assert_only_the_third_fails(books, books.top_up(JOHN, 100, metadata="{")), DBAPIError)


def test_a_reference_that_is_too_long_fails_alone(books: Books) -> None:
    assert isinstance(assert_only_the_third_fails(books, books.top_up(JOHN, 100, "r" * 201)), IntegrityError)


def test_a_wallet_id_beyond_64_bits_fails_alone(books: Books) -> None:
    assert_only_the_third_fails(books, books.top_up(2**63, 100))


def test_an_amount_that_is_no_number_fails_alone(books: Books) -> None:
    assert_only_the_third_fails(books, books.top_up(JOHN, "100"))  # type: ignore[arg-type]


def test_an_amount_of_nothing_is_a_fault_that_fails_alone(books: Books) -> None:
    assert_only_the_third_fails(books, books.top_up(JOHN, 0))


def test_a_spend_of_less_than_nothing_that_would_fill_the_wallet_too_full_fails_alone(books: Books) -> None:
    assert_only_the_third_fails(books, books.spend(JOHN, -(2**53)))


def test_a_row_that_a_constraint_refuses_fails_alone(books: Books) -> None:
    books.sql("ALTER TABLE ledger_entries ADD CONSTRAINT ck_unlucky CHECK (amount <> 100)")
    fault = assert_only_the_third_fails(books, books.top_up(JOHN, 100))
    assert isinstance(fault, IntegrityError)


def test_an_exception_in_a_rule_fails_only_its_command(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(rules.RULES, service.Bonus, broken)
    commits: list[Connection] = []
    event.listen(db.engine, "commit", commits.append)
    assert isinstance(assert_only_the_third_fails(books, books.bonus(JOHN, 100)), ZeroDivisionError)
    assert len(commits) == 1, "the batch was not taken apart"


def test_a_command_without_a_rule_fails_only_itself(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(rules.RULES, service.Bonus)
    assert isinstance(assert_only_the_third_fails(books, books.bonus(JOHN, 100)), KeyError)


def test_a_poisoned_batch_ends_at_its_deadline_though_every_command_has_to_wait(books: Books) -> None:
    set_for_new_connections(books, "lock_timeout", "200ms")
    batch = [books.top_up(JOHN, 1) for _ in range(30)]
    with books.connect() as other:
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
        posting_of_all = posting.post

        def poisoned_at_once(connection: Connection, commands: Any, **options: Any) -> Any:
            if len(commands) > 1:
                raise UnicodeError
            return posting_of_all(connection, commands, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(posting, "post", poisoned_at_once)
            begun = time.monotonic()
            outcomes = service.execute_batch(batch, seconds_max=0.5)
        assert time.monotonic() - begun < 4, "and not the six seconds of thirty waits"
    assert {type(outcome) for outcome in outcomes} == {WalletBusyError}
    assert books.entries(JOHN) == 1


# --- the balance row is missing ---


def test_a_missing_balance_row_heals_itself_with_what_the_last_entry_says(books: Books) -> None:
    service.execute(books.spend(JOHN, 40))
    before = books.sql("SELECT * FROM wallet_balances WHERE wallet_id = %s", JOHN)
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", JOHN)
    with pytest.raises(InsufficientBalanceError) as refused:
        service.execute(books.spend(JOHN, 461))
    assert refused.value.details["balance"] == 460
    assert books.sql("SELECT * FROM wallet_balances WHERE wallet_id = %s", JOHN) == before
    assert service.execute(books.spend(JOHN, 460)).wallets[0].balance == 0


def test_a_missing_balance_row_of_a_wallet_without_entries_is_empty(books: Books) -> None:
    (wallet_id,) = books.make_wallets(1)
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", wallet_id)
    assert service.execute(books.top_up(wallet_id, 3)).wallets[0].version == 1


def test_missing_balance_rows_heal_once_though_8_threads_meet_them(books: Books) -> None:
    wallet_ids = [JOHN, DOE, *books.make_wallets(6, balance=100)]
    for name in ("lock_timeout", "statement_timeout"):
        set_for_new_connections(books, name, "60s")
    before = {wallet_id: books.balance(wallet_id) for wallet_id in wallet_ids}
    books.sql("DELETE FROM wallet_balances")

    def work() -> list[Any]:
        return service.execute_batch([books.spend(wallet_id, 1) for wallet_id in wallet_ids], seconds_max=60)

    answers = books.in_threads([work] * 8)
    assert not [outcome for outcomes in answers for outcome in outcomes if isinstance(outcome, Exception)]
    assert {wallet_id: books.balance(wallet_id) for wallet_id in wallet_ids} == {
        wallet_id: balance - 8 for wallet_id, balance in before.items()
    }
    service.execute_batch([books.top_up(wallet_id, 1) for wallet_id in (4, 6)])  # The audit wants a row for each.


def test_8_threads_that_heal_the_same_rows_at_once_all_succeed(books: Books) -> None:
    wallet_ids = books.make_wallets(8)
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = ANY (%s)", wallet_ids)
    every_second = [wallet_ids[n % 2 :: 2] if n < 4 else list(reversed(wallet_ids)) for n in range(8)]

    def heal(ids: list[int]) -> None:
        with unit_of_work() as connection:
            posting.heal(connection, ids)
            time.sleep(0.05)  # Holds what it made, so that the others meet it.

    books.in_threads([lambda ids=ids: heal(ids) for ids in every_second])
    assert {books.balance(wallet_id) for wallet_id in wallet_ids} == {0}


def test_a_row_that_is_made_while_a_batch_looks_for_it_is_locked_with_the_rest(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_wallets, missed = locks.lock_wallets, iter([DOE])

    def miss_one(connection: Connection, wallet_ids: Any, **options: Any) -> Any:
        absent = next(missed, None)
        locked = lock_wallets(connection, wallet_ids, **options)
        return locked._replace(balances=[row for row in locked.balances if row[0] != absent])

    monkeypatch.setattr(locks, "lock_wallets", miss_one)
    outcomes = service.execute_batch([books.spend(DOE, 1), books.spend(JOHN, 1), books.spend(DOE, 1)])
    assert [type(outcome) for outcome in outcomes] == [service.Receipt] * 3
    assert [one.transaction.entries[0].seq for one in outcomes if isinstance(one, service.Receipt)] == [2, 2, 3]


def test_a_heal_without_a_free_connection_is_an_answer_too(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PoolTimeoutError

    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", JOHN)
    with monkeypatch.context() as patch:
        patch.setattr(posting, "heal", fail)
        assert isinstance(outcome_of(books.spend(JOHN, 1, "heal")), WalletBusyError)
    assert books.transactions("heal") == 0
    assert isinstance(outcome_of(books.spend(JOHN, 1, "heal")), service.Receipt)


def test_a_heal_that_no_standby_confirmed_does_not_keep_the_posting_back(books: Books) -> None:
    """Whether the healed row reached the standby is nothing to the command: its own COMMIT comes after."""
    books.sql("DELETE FROM wallet_balances WHERE wallet_id = %s", JOHN)
    add_trigger(books, STANDBY_LOST, on="AFTER INSERT ON wallet_balances DEFERRABLE INITIALLY DEFERRED")
    assert not service.execute(books.spend(JOHN, 1)).is_replay


# --- COMMIT without its standby ---


def test_a_commit_that_no_standby_confirmed_is_answered_as_unknown(books: Books) -> None:
    add_trigger(
        books,
        STANDBY_LOST,
        on="AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED",
    )
    with pytest.raises(OutcomeUnknownError):
        service.execute(books.spend(JOHN, 1, "alone"))
    assert service.execute(books.spend(JOHN, 1, "alone")).is_replay
    assert (books.balance(JOHN), books.entries(JOHN)) == (499, 2)


def test_a_batch_that_no_standby_confirmed_is_unknown_as_a_whole(books: Books) -> None:
    add_trigger(
        books,
        STANDBY_LOST,
        on="AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED",
    )
    outcomes = service.execute_batch([books.spend(JOHN, 1), books.spend(JOHN, 9999)])
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknownError] * 2


def test_other_warnings_at_commit_are_not_taken_for_a_lost_standby(books: Books) -> None:
    add_trigger(
        books,
        "RAISE WARNING 'disk is filling up';",
        on="AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED",
    )
    assert not service.execute(books.spend(JOHN, 1)).is_replay
