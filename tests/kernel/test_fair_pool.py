"""The pool of connections: nobody who waits is overtaken, and no turn is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wallet_app.fair_pool import FairPool


@pytest.fixture
def engine(server: URL) -> Iterator[Engine]:
    """An engine with one connection, for which nobody waits longer than a minute."""
    url = server.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=FairPool, pool_size=1, max_overflow=0, pool_timeout=60)
    yield engine
    engine.dispose()


def waiting(engine: Engine) -> int:
    assert isinstance(engine.pool, FairPool)
    return len(engine.pool._turns._waiting)


def test_connections_are_lent_in_the_order_in_which_they_were_asked_for(engine: Engine) -> None:
    order: list[str] = []

    def use(name: str) -> None:
        with engine.connect():
            order.append(name)

    threads = [threading.Thread(target=use, args=(name,)) for name in "abcde"]
    with engine.connect():
        for before, thread in enumerate(threads):
            thread.start()
            while waiting(engine) == before:
                time.sleep(0.001)
    # Who gives it back and asks again at once is behind all that wait.
    use("again")
    for thread in threads:
        thread.join(30)
    assert order == [*"abcde", "again"]


def test_who_waits_too_long_is_told_and_takes_no_turn(engine: Engine) -> None:
    pool = engine.pool
    assert isinstance(pool, FairPool)
    pool._timeout = 0.05
    with engine.connect(), pytest.raises(PoolTimeoutError):
        engine.connect()
    for _ in range(3):
        with engine.connect():
            pass
    assert waiting(engine) == 0


def test_a_connection_that_could_not_be_made_or_was_lost_takes_no_turn(server: URL) -> None:
    nowhere = create_engine(
        server.set(drivername="postgresql+psycopg", database="nowhere"),
        poolclass=FairPool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.5,
    )
    for _ in range(3):
        with pytest.raises(OperationalError):
            nowhere.connect()
    engine = create_engine(nowhere.url.set(database=server.database), poolclass=FairPool, pool_size=1, max_overflow=0)
    for _ in range(3):
        with engine.connect() as connection:
            connection.invalidate()
        with engine.connect() as connection:
            connection.detach()
        # The collector finds this one.
        engine.connect().execution_options()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    engine.dispose()
