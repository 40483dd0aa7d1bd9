"""What ends soon is found along the index of what will be due: of a hundred thousand lots, those that end, alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.conftest import new_database
from tests.kernel.conftest import Books, serve
from tests.kernel.test_reading_plans import plans, walk
from wallet_app import service
from wallet_app.service import lot_reads

pytestmark = pytest.mark.wide

LOTS = 100_000
WALLETS = 2_000
SOON = 2_000
"""How many of the lots have something left that ends within 30 days. Half as many more have nothing left."""


@pytest.fixture(scope="module")
def many(server: URL, template: str) -> Iterator[Books]:
    """Wallets with many lots each, as a table alone: nothing here asks for the entries that granted them."""
    for url in new_database(server, template=template):
        for books in serve(url):
            first = min(books.make_wallets(WALLETS))
            books.sql(
                f"""
                INSERT INTO lots (wallet_id, seq, part, lot_id, kind, amount, available, held, consumed, expired,
                                  revoked, expires_at, created_at, changed_at)
                SELECT {first} + n % {WALLETS}, 1 + n / {WALLETS}, 1, gen_random_uuid(), 'bonus', 10,
                       CASE WHEN n % 3 = 0 THEN 0 ELSE 10 END, 0, CASE WHEN n % 3 = 0 THEN 10 ELSE 0 END, 0, 0,
                       now() + CASE WHEN n < {3 * SOON // 2} THEN 1 + n % 29 ELSE 90 END * interval '1 day', now(),
                       now()
                  FROM generate_series(0, {LOTS - 1}) AS n
                """
            )
            yield books


@pytest.mark.parametrize("analyzed", [False, True], ids=["without statistics", "with statistics"])
def test_what_ends_soon_is_found_by_an_index_and_nothing_else_is_read(many: Books, *, analyzed: bool) -> None:
    if analyzed:
        many.sql("ANALYZE")
    for call in (service.list_expiring_assets, partial(service.list_expiring_wallets, "GOLD", days=30)):
        (plan,) = plans(call)
        assert rows_of(plan, "lots") == SOON, plan
        assert rows_of(plan, "wallets") <= SOON, plan
    (asset,) = service.list_expiring_assets()
    sums = "SELECT sum(available), count(DISTINCT wallet_id) FROM lots WHERE expires_at < now() + '{} days'"
    told = [(asset.within_7_days, asset.wallets_7_days), (asset.within_30_days, asset.wallets_30_days)]
    assert told == [many.sql(f"{sums.format(days)} AND available > 0")[0] for days in (7, 30)]


def test_a_file_of_what_ends_soon_looks_at_a_page_at_a_time(many: Books) -> None:
    found = list(service.walk_expiring_lots("GOLD", days=30))
    assert len({lot.lot_id for lot in found}) == len(found) == SOON
    assert found == sorted(found, key=lambda lot: (lot.expires_at, lot.wallet_id, lot.seq, lot.part))
    assert list(service.walk_expiring_lots("DIAMOND", days=30)) == []
    after, until = found[SOON // 2], found[-1].expires_at
    (plan,) = plans(partial(lot_reads._expiring_page, after, since=found[0].expires_at, until=until))
    assert rows_of(plan, "lots") == min(lot_reads.EXPIRING_LOTS_PAGE, SOON - SOON // 2 - 1), plan


def rows_of(plan: dict[str, Any], table: str) -> int:
    """Return how many rows of the table are looked at, all of them by an index."""
    nodes = [node for node in walk(plan["Plan"]) if node.get("Relation Name") == table]
    for node in nodes:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, node
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]) for node in nodes
    )
