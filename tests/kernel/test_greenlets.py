"""A connection that waits as a greenlet loses its server no worse than any other."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests.conftest import conninfo
from wallet_app.greenlets import GreenletConnection


def test_whoever_waits_on_a_lost_connection_is_told_and_can_clean_up(server: URL) -> None:
    told: list[Exception] = []
    connection = GreenletConnection.connect(conninfo(server))

    def wait() -> Generator[int, int, None]:
        connection.pgconn.finish()
        try:
            yield 1
        except psycopg.OperationalError as lost:
            told.append(lost)
            raise

    with pytest.raises(psycopg.OperationalError):
        connection.wait(wait())
    assert len(told) == 1
