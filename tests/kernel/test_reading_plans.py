"""What a read costs is bounded at size: by indexes alone and a page's worth of rows, whatever the statistics say."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import URL

from tests.conftest import new_database
from tests.kernel.conftest import DOE, JOHN, Books, serve
from tests.kernel.test_expiry import never, wait_for
from wallet_app import service
from wallet_app.db import READS, db
from wallet_app.round_trip import ask
from wallet_app.service import Filters, queries, references, settled, walks, wallet_sums

pytestmark = pytest.mark.wide

DEEP = 10_000
HELD = 1_000
"""How many holds one wallet had."""

ROWS_MAX = 200
"""How many rows a walk looks at here."""

LARGE = {"ledger_entries", "transactions", "transaction_details", "transaction_references", "holds"}
Call = Callable[[], object]


@pytest.fixture(scope="module")
def deep(server: URL, template: str) -> Iterator[Books]:
    """A wallet with many entries, among others; a campaign's reference that many wallets have."""
    for url in new_database(server, template=template):
        for books in serve(url):
            others = books.make_wallets(500)
            for start in range(0, DEEP, 1_000):
                batch: list[service.Command] = [
                    books.top_up(JOHN, 1 + n % 7, metadata='{"order":1}' if n % 3 else None)
                    for n in range(start, start + 800)
                ]
                batch += [books.top_up(wallet_id, 1, f"c{start}") for wallet_id in others[:200]]
                service.execute_batch(batch)
            service.execute_batch([books.bonus(wallet_id, 1, "campaign") for wallet_id in others])
            service.execute(books.top_up(DOE, 10_000))
            for _ in range(10):
                placed = [books.command(service.PlaceHold, DOE, 1, expires_in=600) for _ in range(100)]
                held = [
                    outcome.hold for outcome in service.execute_batch(placed) if isinstance(outcome, service.Receipt)
                ]
                service.execute_batch(
                    [
                        service.ReleaseHold(
                            wallet_id=DOE,
                            reference=f"release-{hold.hold_id}",
                            origin=service.Origin(client="tests", actor="tests"),
                            hold_id=hold.hold_id,
                        )
                        for hold in held[:90]
                        if hold is not None
                    ]
                )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(settled, "SLACK", dt.timedelta(0))
                wait_for(lambda: references.extend_index(never) == 0 and not settled._has_more(references.NAME))
                wait_for(lambda: wallet_sums.sum_up(never) == 0 and not settled._has_more(wallet_sums.NAME))
            yield books
            assert books.faults() == {}


def plans(call: Call) -> list[dict[str, Any]]:
    """Return the plan of each statement that the read asks, run and measured on a connection of the service's."""
    asked: list[tuple[str, Any]] = []

    def collect(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    engine = db.engines[READS]
    event.listen(engine, "before_cursor_execute", collect)
    try:
        call()
    finally:
        event.remove(engine, "before_cursor_execute", collect)
    found = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            plan = connection.exec_driver_sql(explain, parameters).scalar_one()
            found.append(plan[0] if isinstance(plan, list) else json.loads(plan)[0])
    return found


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def rows_looked_at(plan: dict[str, Any]) -> int:
    """Return how many rows of the large tables the plan looked at; none of them may be read from end to end."""
    most = 0
    for node in walk(plan["Plan"]):
        if node.get("Relation Name") in LARGE:
            assert node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, node
            looked = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            most = max(most, int(looked * node["Actual Loops"]))
    return most


def middle(books: Books) -> dt.datetime:
    return books.sql("SELECT created_at FROM ledger_entries WHERE wallet_id = %s AND seq = %s", JOHN, DEEP // 3)[0][0]


RARE = Filters(amount_min=1_000_000)
READS_OF = {
    "entries, a rare filter": lambda _: partial(service.find_entries, JOHN, RARE),
    "entries, a rare actor": lambda _: partial(service.find_entries, JOHN, Filters(actor="nobody")),
    "entries, metadata that nobody has": lambda _: partial(service.find_entries, JOHN, Filters(metadata_key="x")),
    "entries, a range of time": lambda books: partial(
        service.find_entries,
        JOHN,
        Filters(created_from=middle(books), created_to=middle(books) + dt.timedelta(hours=1)),
    ),
    "entries, a reference of one": lambda _: partial(service.find_entries, JOHN, Filters(reference="ref-1234")),
    "entries, a reference of many": lambda _: partial(service.find_entries, JOHN, Filters(reference="campaign")),
    "transactions, all": lambda _: partial(service.list_transactions, Filters(), wallet_id=None),
    "transactions, a rare filter": lambda _: partial(service.list_transactions, RARE, wallet_id=None),
    "transactions, a kind that nobody posts": lambda _: partial(
        service.list_transactions, Filters(kind="EXCHANGE"), wallet_id=None
    ),
    "transactions, an actor in a range": lambda books: partial(
        service.list_transactions, Filters(actor="nobody", created_from=middle(books)), wallet_id=None
    ),
    "transactions, a reference in a range": lambda books: partial(
        service.list_transactions, Filters(reference="campaign", created_from=middle(books)), wallet_id=None
    ),
    "transactions, a reference of one": lambda _: partial(
        service.list_transactions, Filters(reference="ref-1234"), wallet_id=None
    ),
    "transactions, a reference of many": lambda _: partial(
        service.list_transactions, Filters(reference="campaign"), wallet_id=None
    ),
    "transactions, a reference of nobody": lambda _: partial(
        service.list_transactions, Filters(reference="nobody"), wallet_id=None
    ),
    "a wallet's transactions": lambda _: partial(service.list_transactions, Filters(), wallet_id=JOHN),
    "a wallet's transactions, a rare filter": lambda _: partial(service.list_transactions, RARE, wallet_id=JOHN),
    "a wallet's transactions, a reference of many": lambda _: partial(
        service.list_transactions, Filters(reference="campaign"), wallet_id=DOE
    ),
    "a wallet's transactions, a range of time": lambda books: partial(
        service.list_transactions, Filters(created_to=middle(books), amount_min=7), wallet_id=JOHN
    ),
}


@pytest.mark.parametrize("analyzed", [False, True], ids=["without statistics", "with statistics"])
def test_a_page_looks_at_a_bounded_number_of_rows(
    deep: Books, monkeypatch: pytest.MonkeyPatch, *, analyzed: bool
) -> None:
    monkeypatch.setattr(walks, "ROWS_MAX", ROWS_MAX)
    monkeypatch.setattr(walks, "TAIL_PAGE", ROWS_MAX)
    if analyzed:
        deep.sql("ANALYZE")
    for name, made in READS_OF.items():
        for plan in plans(partial(made(deep), before=None, limit=50)):
            # Each transaction that is looked at has an entry or two.
            assert rows_looked_at(plan) <= 2 * (ROWS_MAX + 1), (name, plan)
            assert "JIT" not in plan, name


@pytest.mark.parametrize("analyzed", [False, True], ids=["without statistics", "with statistics"])
def test_a_balance_at_an_instant_looks_at_a_few_dozen_pages(deep: Books, *, analyzed: bool) -> None:
    if analyzed:
        deep.sql("ANALYZE")
    for wallet_id in (JOHN, DOE):
        for instant in (dt.datetime(2000, 1, 1, tzinfo=dt.UTC), middle(deep), dt.datetime.now(dt.UTC)):
            for plan in plans(partial(service.get_wallet_at, wallet_id, instant)):
                assert rows_looked_at(plan) <= HELD
                # Of the last 30 days, what was held has to be looked at: row by row, wherever vacuum let them be put.
                blocks_of_holds = sum(
                    blocks(node)
                    for node in walk(plan["Plan"])
                    if node.get("Relation Name") == "holds" and node["Node Type"] == "Index Scan"
                )
                assert blocks_of_holds <= 3 * HELD
                assert blocks(plan["Plan"]) - blocks_of_holds <= 100
                assert "JIT" not in plan


def test_an_explanation_looks_at_no_more_than_the_ends_of_its_range(deep: Books) -> None:
    assert deep.sql("SELECT wallet_id, block FROM wallet_sums GROUP BY 1, 2") == [(JOHN, 0)]
    since = deep.sql("SELECT created_at FROM ledger_entries WHERE wallet_id = %s AND seq = 4000", JOHN)[0][0]
    for analyzed in (False, True):
        if analyzed:
            deep.sql("ANALYZE")
        for asked, entries_max in (({}, wallet_sums.BLOCK), ({"since": since}, 2 * wallet_sums.BLOCK)):
            made = plans(partial(service.explain_balance, JOHN, **asked))
            assert sum(map(rows_looked_at, made)) <= entries_max + 100
            assert service.explain_balance(JOHN, **asked).is_right


def test_a_transaction_is_read_by_look_ups_alone(deep: Books) -> None:
    """Whoever expects many entries of it reads all wallets that there are."""
    transaction_id = deep.sql("SELECT transaction_id FROM transactions LIMIT 1")[0][0]
    statement = queries._TRANSACTION.sql.decode().replace("$1", f"'{transaction_id}'")
    deep.sql("ANALYZE")
    with db.engines[READS].connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}").scalar_one()[0]["Plan"]
    read = {node["Relation Name"]: node["Node Type"] for node in walk(plan) if "Relation Name" in node}
    assert {name: read[name] for name in ("transactions", "ledger_entries", "wallets")} == dict.fromkeys(
        ("transactions", "ledger_entries", "wallets"), "Index Scan"
    )


def test_what_is_asked_most_is_planned_once_and_not_each_time(deep: Books) -> None:
    """PostgreSQL plans anew for as long as a plan for any parameters seems much dearer than one for these."""
    deep.sql("ANALYZE")
    transaction_id = deep.sql("SELECT transaction_id FROM transactions LIMIT 1")[0][0]
    # Of the wallet behind all others, whose entries the planner may take for the whole ledger.
    page = queries._ENTRIES(deep.sql("SELECT max(wallet_id) FROM ledger_entries")[0][0], None, 6)
    asked = (queries._PLAIN_WALLET(JOHN), queries._WALLET(DOE), queries._TRANSACTION(transaction_id), page)
    with db.engines[READS].connect() as connection:
        for _ in range(8):
            ask(connection, *asked)
        counted = connection.exec_driver_sql("SELECT name, custom_plans FROM pg_prepared_statements").all()
    customs = {name: plans for name, plans in counted if name.startswith("read_")}
    # The first five times it plans anew, to have something to compare with.
    assert customs == dict.fromkeys(("read_plain_wallet", "read_wallet", "read_transaction", "read_entries"), 5)


def blocks(node: dict[str, Any]) -> int:
    found: int = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    return found
