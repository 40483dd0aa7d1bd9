"""A database's name is looked up where other requests can go on meanwhile, and not by its driver."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from psycopg import OperationalError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from tests.conftest import settings_for
from wallet_app import create_app, db


def looked_up(**parameters: Any) -> dict[str, Any]:
    db.look_up_host(parameters)
    return parameters


def test_a_name_becomes_its_addresses_and_stays_for_the_certificate() -> None:
    found = looked_up(host="localhost", port=5432)
    hosts, addresses = found["host"].split(","), found["hostaddr"].split(",")
    assert set(hosts) == {"localhost"}
    assert len(hosts) == len(addresses) == len(set(addresses))
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


@pytest.mark.parametrize("host", ["/run/postgresql", "@abstract", "one.example,other.example", ""])
def test_what_is_no_name_is_the_drivers_affair(host: str) -> None:
    assert looked_up(host=host) == {"host": host}


def test_a_name_that_nobody_knows_is_a_database_that_is_away() -> None:
    with pytest.raises(OperationalError, match=r"no-such-host\.invalid cannot be looked up"):
        looked_up(host="no-such-host.invalid")


@pytest.mark.parametrize("pooler", ["none", "transaction"])
def test_every_engine_of_the_service_looks_its_server_up_so(pooler: str) -> None:
    url = make_url("postgresql://someone@no-such-host.invalid/wallet")
    app = create_app(replace(settings_for(url), db_pooler=pooler))
    with app.app_context():
        for engine in (*db.db.engines.values(), app.extensions["wallet_health_engine"]):
            with pytest.raises(DBAPIError, match=r"no-such-host\.invalid cannot be looked up"):
                engine.connect()
