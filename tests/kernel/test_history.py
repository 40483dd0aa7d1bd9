"""Lists of transactions and of entries: by any filters, page by page, they hold what a plain look at all rows finds."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.kernel.conftest import DOE, DOE_DIAMOND, JOHN, JOHN_DIAMOND, ORIGIN, Books
from wallet_app import service
from wallet_app.errors import AssetNotAllowedError, BadFilterError, SystemEntriesError, WalletNotFoundError
from wallet_app.service import Filters, walks
from wallet_app.service.books import Books as Core
from wallet_app.service.books import Plan
from wallet_app.service.commands import Command, Requested
from wallet_app.service.rules import RULES

pytestmark = pytest.mark.wide

WALLETS = (JOHN, JOHN_DIAMOND, DOE, DOE_DIAMOND)
OWNERS = {JOHN: 2, JOHN_DIAMOND: 2, DOE: 3, DOE_DIAMOND: 3}
ASSETS = {JOHN: "GOLD", JOHN_DIAMOND: "DIAMOND", DOE: "GOLD", DOE_DIAMOND: "DIAMOND"}
METADATA = (None, None, '{"order":"77"}', '{"order":77,"vip":true}', '{"vip":false}')
READS = frozenset({"transactions:read", "wallets:read"})
DOES = service.Permit(scopes=READS, user_id=3)
GOLDS = service.Permit(scopes=READS, assets=frozenset({"GOLD"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark(Command):
    """Writes no entry, as a freeze does."""

    kind = "MARK"

    def requested(self) -> Requested:
        return {"marks": True}


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(books: Core, command: Mark) -> Plan:
        return Plan(())

    monkeypatch.setitem(RULES, Mark, rule)


class Row(NamedTuple):
    """A transaction as the tables have it, with its entries: wallet, seq, type, amount."""

    transaction_id: str
    wallet_id: int
    reference: str
    kind: str
    actor: str
    metadata: dict[str, Any]
    created_at: dt.datetime
    entries: list[tuple[int, int, str, int]]


def make_history(books: Books, dice: random.Random, batches: int = 30) -> list[Row]:
    """Post many small batches of all kinds and return all transactions that there are."""
    for _ in range(batches):
        commands: list[Command] = []
        for _ in range(dice.randint(1, 8)):
            commands.append(make_command(books, dice))
        service.execute_batch(commands)
        # In another millisecond, mostly.
        books.sql("SELECT pg_sleep(0.0013)")
    return all_rows(books)


def make_command(books: Books, dice: random.Random) -> Command:
    wallet_id = dice.choice(WALLETS)
    reference = f"daily-{dice.randint(1, 9)}" if dice.random() < 0.3 else f"r{dice.random()}"
    common: dict[str, Any] = {
        "wallet_id": wallet_id,
        "reference": reference,
        "origin": replace(ORIGIN, actor=f"key:{dice.randint(1, 3)}"),
        "metadata": dice.choice(METADATA),
        "note": dice.choice((None, "a note")),
    }
    amount = dice.randint(1, 9)
    sames = [other for other in WALLETS if ASSETS[other] == ASSETS[wallet_id] and other != wallet_id]
    legs = (
        service.Leg(wallet_id, "SPEND", amount),
        service.Leg(wallet_id, "BONUS", amount + 1),
    )
    makers: list[Callable[[], Command]] = [
        lambda: service.TopUp(amount=amount, **common),
        lambda: service.Spend(amount=amount, **common),
        lambda: service.Transfer(to_wallet_id=sames[0], amount=amount, **common),
        lambda: service.PlaceHold(amount=amount, expires_in=600, **common),
        lambda: service.Purchase(legs=legs, **common),
        lambda: Mark(**common),
    ]
    return dice.choice(makers)()


def all_rows(books: Books) -> list[Row]:
    found = books.sql("""
        SELECT transactions.transaction_id::text, transactions.wallet_id, reference_id, kind, actor,
               coalesce((SELECT metadata FROM transaction_details AS details
                          WHERE details.wallet_id = transactions.wallet_id
                            AND details.transaction_id = transactions.transaction_id), '{}') AS metadata,
               created_at,
               (SELECT coalesce(json_agg(json_build_array(wallet_id, seq, entry_type, amount) ORDER BY wallet_id, seq),
                                '[]')
                  FROM ledger_entries AS entry WHERE entry.transaction_id = transactions.transaction_id)
          FROM transactions""")
    return [Row(*row[:7], [tuple(entry) for entry in row[7]]) for row in found]


def some_filters(dice: random.Random, rows: Sequence[Row], kinds: Sequence[str]) -> Filters:
    """Return filters that some of the rows may pass."""
    times = sorted([dice.choice(rows).created_at, dice.choice(rows).created_at])
    choices: list[dict[str, Any]] = [
        {"kind": dice.choice(kinds)},
        {"created_from": times[0]},
        {"created_to": times[1]},
        {"amount_min": dice.randint(1, 8)},
        {"amount_max": dice.randint(1, 8)},
        {"reference": dice.choice(rows).reference},
        {"actor": f"key:{dice.randint(1, 3)}"},
        {"metadata_key": dice.choice(("order", "vip"))},
        dice.choice(
            ({"metadata_key": "order", "metadata_value": "77"}, {"metadata_key": "vip", "metadata_value": "true"})
        ),
    ]
    chosen: dict[str, Any] = {}
    for choice in dice.sample(choices, dice.choice((0, 1, 1, 1, 2, 3))):
        chosen |= choice
    return Filters(**chosen)


def reaches(permit: service.Permit | None, wallet_id: int) -> bool:
    if permit is None:
        return True
    is_users = permit.user_id is None or OWNERS[wallet_id] == permit.user_id
    return is_users and (permit.assets is None or ASSETS[wallet_id] in permit.assets)


def said(row: Row, filters: Filters, permit: service.Permit | None) -> bool:
    """Tell whether the transaction passes, but for kind and amounts."""
    passes = [
        filters.created_from is None or row.created_at >= filters.created_from,
        filters.created_to is None or row.created_at < filters.created_to,
        filters.reference is None or row.reference == filters.reference,
        filters.actor is None or row.actor == filters.actor,
        filters.metadata_key is None or filters.metadata_key in row.metadata,
        filters.metadata_value is None or as_text(row.metadata.get(filters.metadata_key)) == filters.metadata_value,
    ]
    has_texts = filters.reference or filters.actor or filters.metadata_key
    return all(passes) and (not has_texts or reaches(permit, row.wallet_id))


def as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_large_enough(amount: int, filters: Filters) -> bool:
    return (filters.amount_min is None or abs(amount) >= filters.amount_min) and (
        filters.amount_max is None or abs(amount) <= filters.amount_max
    )


def expected_transactions(
    rows: Sequence[Row], filters: Filters, wallet_id: int | None, permit: service.Permit | None
) -> set[str]:
    found = set()
    for row in rows:
        shown = [entry for entry in row.entries if reaches(permit, entry[0])]
        touches = wallet_id is None or wallet_id in {row.wallet_id, *(entry[0] for entry in row.entries)}
        is_reached = bool(shown) or (not row.entries and reaches(permit, row.wallet_id))
        has_amount = (filters.amount_min is None and filters.amount_max is None) or any(
            is_large_enough(entry[3], filters) for entry in shown
        )
        if touches and is_reached and has_amount and said(row, filters, permit) and filters.kind in {None, row.kind}:
            found.add(row.transaction_id)
    return found


def expected_seqs(rows: Sequence[Row], filters: Filters, wallet_id: int, permit: service.Permit | None) -> list[int]:
    return sorted(
        [
            seq
            for row in rows
            for of, seq, entry_type, amount in row.entries
            if of == wallet_id
            and said(row, filters, permit)
            and filters.kind in {None, entry_type}
            and is_large_enough(amount, filters)
        ],
        reverse=True,
    )


def pages(read: Callable[..., service.Page[Any]], limit: int) -> Iterator[Any]:
    before = None
    for _ in range(10_000):
        page = read(before=before)
        assert len(page.items) <= limit
        yield from page.items
        if page.following is None:
            return
        assert (
            before is None or page.following < before or any(a < b for a, b in zip(page.following, before, strict=True))
        )
        before = page.following
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("rows_max", [3, walks.ROWS_MAX])
@pytest.mark.parametrize("permit", [None, DOES, GOLDS], ids=["all", "a user", "an asset"])
def test_lists_have_what_passes_the_filters_each_once(
    books: Books, monkeypatch: pytest.MonkeyPatch, permit: service.Permit | None, rows_max: int
) -> None:
    dice = random.Random(f"{rows_max} {permit}")
    rows = make_history(books, dice)
    monkeypatch.setattr(walks, "ROWS_MAX", rows_max)
    kinds = sorted({row.kind for row in rows})
    types = sorted({entry[2] for row in rows for entry in row.entries})
    hits = 0
    for _ in range(60):
        limit = dice.randint(1, 7)
        wallet_ids = [wallet_id for wallet_id in WALLETS if reaches(permit, wallet_id)]
        wallet_id = dice.choice(wallet_ids if permit is DOES else [None, *wallet_ids])
        filters = some_filters(dice, rows, kinds)
        if wallet_id is None and filters.has_texts:
            filters = replace(filters, created_from=min(row.created_at for row in rows))
        views = list(
            pages(
                lambda before, filters=filters, wallet_id=wallet_id, limit=limit: service.list_transactions(
                    filters, wallet_id=wallet_id, before=before, limit=limit, permit=permit
                ),
                limit,
            )
        )
        ids = [str(view.transaction.transaction_id) for view in views]
        assert len(set(ids)) == len(ids), filters
        assert set(ids) == expected_transactions(rows, filters, wallet_id, permit), (filters, wallet_id)
        # Under a reference, the wallet's own comes first.
        is_first_own = bool(filters.reference and views and views[0].transaction.wallet_id == wallet_id)
        milliseconds = [view.transaction.transaction_id.int >> 80 for view in views[is_first_own:]]
        assert milliseconds == sorted(milliseconds, reverse=True)
        for view in views:
            assert all(reaches(permit, entry.wallet_id) for entry in view.transaction.entries)
            assert view.is_own == reaches(permit, view.transaction.wallet_id)
        hits += len(ids)

        wallet_id = dice.choice(wallet_ids)
        filters = some_filters(dice, rows, types)
        entries = list(
            pages(
                lambda before, filters=filters, wallet_id=wallet_id, limit=limit: service.find_entries(
                    wallet_id, filters, before=before, limit=limit, permit=permit
                ),
                limit,
            )
        )
        seqs = [view.entry.seq for view in entries]
        expected = expected_seqs(rows, filters, wallet_id, permit)
        if filters.reference is not None:
            own = {row.transaction_id for row in rows if row.wallet_id == wallet_id}
            first = [view.entry.seq for view in entries if str(view.transaction_id) in own]
            assert seqs[: len(first)] == first == sorted(first, reverse=True)
            expected = [*first, *(seq for seq in expected if seq not in first)]
        assert seqs == expected, (filters, wallet_id)
        hits += len(seqs)
    assert hits > 200


def test_a_wallets_transactions_without_entries_stand_among_the_others(books: Books) -> None:
    common: dict[str, Any] = {"wallet_id": JOHN, "origin": ORIGIN}
    made: dict[str, Callable[..., Command]] = {
        "TOPUP": partial(service.TopUp, amount=1),
        "SPEND": partial(service.Spend, amount=1),
        "MARK": Mark,
    }
    kinds = ["TOPUP", "MARK", "SPEND", "MARK", "TOPUP"]
    for number, kind in enumerate(kinds):
        service.execute(made[kind](reference=f"ref-{number}", **common))
        books.sql("SELECT pg_sleep(0.002)")
    for limit in (1, 2, 10):
        found = pages(partial(service.list_transactions, Filters(), wallet_id=JOHN, limit=limit), limit)
        assert [view.transaction.kind for view in found] == [*kinds[::-1], "SEED"]


def test_a_page_that_looked_in_vain_is_empty_and_tells_where_to_go_on(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "ROWS_MAX", 10)
    service.execute(books.top_up(JOHN, 77, "rare"))
    service.execute_batch([books.top_up(JOHN, 1) for _ in range(25)])
    rare = Filters(amount_min=77, amount_max=77)
    reads: list[Callable[..., service.Page[Any]]] = [
        partial(service.find_entries, JOHN, rare),
        partial(service.list_transactions, rare, wallet_id=JOHN),
        partial(service.list_transactions, rare, wallet_id=None),
    ]
    for read in reads:
        found = [read(before=None, limit=50)]
        while found[-1].following:
            found.append(read(before=found[-1].following, limit=50))
        assert [len(page.items) for page in found][:3] == [0, 0, 1]


def test_a_reference_of_very_many_wallets_is_found_at_once_in_one_and_by_and_by_in_all(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "ROWS_MAX", 5)
    service.execute(books.top_up(JOHN, 1, "campaign"))
    service.execute_batch([books.bonus(wallet_id, 1, "campaign") for wallet_id in books.make_wallets(20)])
    service.execute_batch([books.top_up(JOHN, 1) for _ in range(12)])
    campaign = Filters(reference="campaign")
    assert [view.reference for view in service.find_entries(JOHN, campaign, before=None, limit=5).items] == ["campaign"]
    assert len(service.list_transactions(campaign, wallet_id=JOHN, before=None, limit=5).items) == 1
    lately = replace(campaign, created_from=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    for wallet_id, count in ((JOHN, 1), (None, 21)):
        for limit in (1, 4):
            found = pages(partial(service.list_transactions, lately, wallet_id=wallet_id, limit=limit), limit)
            assert len(list(found)) == count


def test_over_all_wallets_actor_and_metadata_need_a_range_of_31_days_and_a_reference_none(books: Books) -> None:
    now = dt.datetime.now(dt.UTC)
    days = dt.timedelta(days=1)

    def look(wallet_id: int | None = None, **asked: Any) -> None:
        service.list_transactions(Filters(**asked), wallet_id=wallet_id, before=None, limit=10)

    for asked in ({"actor": "tests"}, {"metadata_key": "a"}, {"reference": "sys:seed"}):
        look(created_from=now - 30 * days, **asked)
        look(created_from=now - 90 * days, created_to=now - 59 * days, **asked)
        look(JOHN, **asked)
        for bad in (
            {},
            {"created_to": now},
            {"created_from": now - 32 * days},
            {"created_from": now - 90 * days, "created_to": now - 58 * days},
        ):
            if "reference" in asked:
                look(**asked, **bad)
                continue
            with pytest.raises(BadFilterError):
                look(**asked, **bad)
    look(kind="SEED")
    look(amount_min=5)
    with pytest.raises(BadFilterError):
        Filters(metadata_value="a")


@pytest.mark.parametrize(
    ("error", "wallet_id", "permit"),
    [
        (WalletNotFoundError, 999_999, None),
        (WalletNotFoundError, JOHN, DOES),
        (AssetNotAllowedError, JOHN_DIAMOND, GOLDS),
        (SystemEntriesError, 1, None),
        (WalletNotFoundError, 1, DOES),
    ],
)
def test_what_is_anothers_or_the_systems_is_not_listed(
    books: Books, error: type[Exception], wallet_id: int, permit: service.Permit | None
) -> None:
    with pytest.raises(error):
        service.list_transactions(Filters(), wallet_id=wallet_id, before=None, limit=10, permit=permit)
    with pytest.raises(error):
        service.find_entries(wallet_id, Filters(kind="SEED"), before=None, limit=10, permit=permit)


def test_a_users_permit_lists_one_wallet_at_a_time(books: Books) -> None:
    with pytest.raises(BadFilterError):
        service.list_transactions(Filters(), wallet_id=None, before=None, limit=10, permit=DOES)


def test_a_permit_for_the_other_side_is_told_neither_who_nor_why_and_cannot_guess_it(books: Books) -> None:
    service.execute(
        service.Transfer(
            wallet_id=JOHN,
            to_wallet_id=DOE,
            amount=5,
            reference="secret-1",
            origin=replace(ORIGIN, actor="key:johns"),
            note="for the present",
            metadata='{"why":"present"}',
        )
    )
    transaction = service.list_transactions(Filters(), wallet_id=DOE, before=None, limit=1, permit=DOES).items[0]
    entry = service.list_entries(DOE, before_seq=None, limit=1, permit=DOES)[0]
    (filtered,) = service.find_entries(DOE, Filters(kind="TRANSFER"), before=None, limit=1, permit=DOES).items
    assert entry == filtered
    assert (entry.reference, entry.actor, entry.note, entry.metadata) == (None,) * 4
    alone = service.get_transaction(transaction.transaction.transaction_id, permit=DOES)
    for view in (transaction, alone):
        assert (view.is_own, view.note, view.metadata) == (False, None, None)
        assert [one.wallet_id for one in view.transaction.entries] == [DOE]
    johns = service.Permit(scopes=READS, user_id=2)
    for told in (
        Filters(reference="secret-1"),
        Filters(actor="key:johns"),
        Filters(metadata_key="why"),
        Filters(metadata_key="why", metadata_value="present"),
    ):
        assert not service.find_entries(DOE, told, before=None, limit=10, permit=DOES).items
        assert not service.list_transactions(told, wallet_id=DOE, before=None, limit=10, permit=DOES).items
        for permit, wallet_id in ((johns, JOHN), (None, JOHN), (None, DOE)):
            (seen,) = service.find_entries(wallet_id, told, before=None, limit=10, permit=permit).items
            assert (seen.reference, seen.note, seen.metadata) == ("secret-1", "for the present", {"why": "present"})
