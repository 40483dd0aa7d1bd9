"""Bulk runs below the console: what is refused of a file, four eyes, the worker, and what a second file does not do."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, Books
from tests.kernel.operators import NAMES, VISITOR, email_of, make_operator, sign_in
from tests.kernel.test_expiry import wait_for
from wallet_app import service
from wallet_app.db import close_connections
from wallet_app.errors import (
    BulkAlteredError,
    BulkCampaignOpenError,
    BulkDriftedError,
    BulkFileKnownError,
    BulkNothingLeftError,
    BulkStateError,
    DriftedError,
    MakerRoleError,
    NotSignedInError,
    ReasonRefusedError,
    RequestDecidedError,
    SelfApprovalError,
    WalletServiceError,
)
from wallet_app.imports import ImportFileError
from wallet_app.imports.adjustments import read_adjustments
from wallet_app.service import bulk_running

DEFAULTS = service.BulkDefaults(asset="GOLD", direction="credit", reason_code="COMPENSATION", ticket="T-1")
_files = itertools.count()


@pytest.fixture
def crew(books: Books) -> dict[str, service.Session]:
    for name, role in NAMES.items():
        make_operator(name, role)
    return {name: sign_in(name) for name in NAMES}


def file_of(text: str | bytes, campaign: str = "outage", defaults: service.BulkDefaults = DEFAULTS) -> service.BulkFile:
    content = text.encode() if isinstance(text, str) else text
    return read_adjustments(io.BytesIO(content), name="file.csv", campaign=campaign, defaults=defaults).file


def draft(crew: dict[str, service.Session], text: str, campaign: str = "outage", *, by: str = "maker") -> int:
    made = service.draft_bulk(crew[by], file_of(text, campaign), visitor=VISITOR)
    assert isinstance(made, int), made
    return made


def credit(rows: Iterable[tuple[str, int, object]]) -> str:
    """A file of row_ref, wallet_id and amount; no two are the same to the byte."""
    lines = [f"{ref},{wallet_id},{amount},file {next(_files)}" for ref, wallet_id, amount in rows]
    return "\n".join(["row_ref,wallet_id,amount,note", *lines, ""])


def approve(crew: dict[str, service.Session], run_id: int, *, by: str = "checker") -> None:
    seen = service.get_bulk_run(run_id).sight
    service.approve_bulk(crew[by], run_id, seen=seen, comment="", visitor=VISITOR)


def work_off() -> int:
    return bulk_running.work_off(lambda: False)


def in_context(books: Books, work: Callable[[], int]) -> Callable[[], int]:
    def run() -> int:
        assert books.app is not None
        with books.app.app_context():
            return work()

    return run


def ran(crew: dict[str, service.Session], text: str, campaign: str = "outage") -> service.BulkRunView:
    run_id = draft(crew, text, campaign)
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    work_off()
    return service.get_bulk_run(run_id)


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except WalletServiceError as refused:
        return refused.code
    return "done"


def test_every_problem_stands_at_its_row_and_cell(books: Books, crew: dict[str, service.Session]) -> None:
    columns = "row_ref,user_id,external_id,wallet_id,asset,direction,amount,reason_code,ticket,note"
    cases = [
        (f"a,,,{JOHN},,,100,,,", None, None),
        (f"b,,,{JOHN},,,1e3,,,", "amount", "rewritten"),
        (f"c,,,{JOHN},,,1.000,,,", "amount", "thousands or decimals"),
        (f"d,,,{JOHN},,,+5,,,", "amount", "no sign"),
        (f'e,,,{JOHN},,,"1,000",,,', "amount", "Write 1000"),
        (f"f,,,{JOHN},,,0,,,", "amount", "from 1"),
        (f"g,,,{JOHN},,,1.5,,,", "amount", "no decimals"),
        (f"h,,,{JOHN},,,,,,", "amount", "missing"),
        (f"i,,,{JOHN},,,9007199254740992,,,", "amount", "from 1"),
        ("j,,1.23E+11,,,,5,,,", "external_id", "rewritten"),
        ("k,7.0,,,,,5,,,", "user_id", "rewritten"),
        ("l,,nobody,,,,5,,,", "external_id", "no user"),
        ("m,,,999,,,5,,,", "wallet_id", "no user's wallet"),
        ("n,,,1,,,5,,,", "wallet_id", "no user's wallet"),
        (f"o,,,{JOHN_DIAMOND},GOLD,,5,,,", "asset", "is of DIAMOND"),
        (f"p,,,{JOHN},SILVER,,5,,,", "asset", "no asset"),
        ("q,,,,,,5,,,", "user_id", "whose wallet"),
        (f"r,,,{JOHN},,up,5,,,", "direction", "credit or debit"),
        (f"s,,,{JOHN},,debit,5,,,", "direction", "for credits alone"),
        (f"t,,,{JOHN},,,5,NONE,,", "reason_code", "no reason code"),
        (f"u,,,{JOHN},,debit,5,CORRECTION,T-1,", "note", "needs a note"),
        (f"v,,,{JOHN},,,5,,a b,", "ticket", "without blanks"),
        (f"w,,,{JOHN},,,10001,,,", "amount", "at most 10,000 GOLD"),
        (f"a,,,{DOE},,,5,,,", "row_ref", "Row 2 has"),
        (f",,,{DOE},,,5,,,", "row_ref", "row_ref of its own"),
        (f"a\u200bb,,,{DOE},,,5,,,", "row_ref", "nobody sees (U+200B)"),
        (f"a\ufeffb,,,{DOE},,,5,,,", "row_ref", "nobody sees (U+FEFF)"),
        (f"\ufeffa,,,{DOE},,,5,,,", "row_ref", "Row 2 has"),
        ("\u0958" * 100 + f",,,{DOE},,,5,,,", "row_ref", "must have 1 to 100"),
        (f"x,,,{DOE},,,5,,", None, "has 9 cells"),
        (f"y,,,{DOE},,debit,301,CORRECTION,T-1,too much", "amount", None),
    ]
    # Alone each file has one problem; the last one comes from the books, which are asked when the rest is right.
    for at, (line, column, words) in enumerate(cases):
        text = "\n".join([columns, cases[0][0], line]) if at else "\n".join([columns, line])
        made = service.draft_bulk(crew["maker"], file_of(text, f"case-{at}"), visitor=VISITOR)
        if at == 0:
            assert isinstance(made, int)
            continue
        assert isinstance(made, service.BulkProblems), line
        assert [(one.row_no, one.column) for one in made.problems] == [(3, column)], (line, made)
        assert (words or "has 300 GOLD, 301 needed") in made.problems[0].message, made
    many = "\n".join([columns, *[f"r{n},,,{JOHN},,,-1,,," for n in range(50)]])
    made = service.draft_bulk(crew["maker"], file_of(many, "many"), visitor=VISITOR)
    assert isinstance(made, service.BulkProblems)
    assert (made.rows, len({one.row_no for one in made.problems})) == (50, 20)
    assert [run.campaign for run in service.list_bulk_runs().items] == ["case-0"], (
        "of what has problems nothing is kept"
    )
    assert books.entries(JOHN) == 1, "nothing was posted"


def test_a_row_reference_is_one_however_it_was_typed(books: Books, crew: dict[str, service.Session]) -> None:
    made = service.draft_bulk(
        crew["maker"], file_of(credit([("caf\u00e9", JOHN, 1), ("cafe\u0301", DOE, 1)])), visitor=VISITOR
    )
    assert isinstance(made, service.BulkProblems)
    assert [(one.row_no, one.column) for one in made.problems] == [(3, "row_ref")]
    run = ran(crew, credit([("cafe\u0301", JOHN, 1)]))
    assert [row.row_ref for row in service.walk_bulk_rows(run.run_id)] == ["caf\u00e9"]
    with pytest.raises(BulkNothingLeftError, match="1 row was done before"):
        draft(crew, credit([("\ufeffcaf\u00e9 ", JOHN, 1)]))


def test_a_file_is_read_however_it_was_saved() -> None:
    text = "\ufeffUser ID;Row Ref;Amount\r\n3;a;5\r\n;;\r\n\r\n4;b;6\r\n"
    read = read_adjustments(io.BytesIO(text.encode()), name="x", campaign="c", defaults=DEFAULTS)
    assert (read.delimiter, read.columns, read.empty_rows) == ("semicolon", ["user_id", "row_ref", "amount"], 1)
    assert [(row.row_no, row.cells["user_id"]) for row in read.file.rows] == [(2, "3"), (5, "4")]
    tabs = "userId\trowRef\tamount\tnote\n3\ta\t5\t\u00e9\n".encode()
    assert read_adjustments(io.BytesIO(tabs), name="x", campaign="c", defaults=DEFAULTS).delimiter == "tab"
    wrong = "user_id,amount,note\n3,5,\u00e9\n".encode("cp1252")
    assert file_of(wrong).rows[0].problem == "The row is not UTF-8."
    for bad, words in {
        "": "empty",
        "user_id,amount\n": "no rows",
        "user_id,amount,colour\n3,5,red\n": "not known: 'colour'",
        "user_id,User Id,amount\n3,3,5\n": "twice",
        "user_id\n3\n": "lacks amount",
        "amount\n3\n": "lacks one of user_id",
        "user_id,amount\n" + "3,5\n" * 10_001: "more than 10,000 rows",
    }.items():
        with pytest.raises(ImportFileError, match=words):
            file_of(bad)
    with pytest.raises(ImportFileError, match="UTF-16"):
        file_of("user_id,amount\n3,5\n".encode("utf-16"))


def test_a_run_is_asked_for_approved_posted_and_undone(books: Books, crew: dict[str, service.Session]) -> None:
    wallets = books.make_wallets(300, balance=10)
    text = credit([(f"r{n}", wallet, n + 1) for n, wallet in enumerate(wallets)])
    run_id = draft(crew, text)
    assert books.balance(wallets[0]) == 10
    with pytest.raises(BulkFileKnownError) as same:
        service.draft_bulk(crew["other"], file_of(text, "another"), visitor=VISITOR)
    assert same.value.run_id == run_id
    with pytest.raises(BulkCampaignOpenError):
        draft(crew, credit([("z", JOHN, 1)]))
    requests = {service.ask_bulk(crew["maker"], run_id, visitor=VISITOR) for _ in range(2)}
    assert len(requests) == 1, "a double click asks once"
    assert work_off() == 0, "nothing is posted before it is approved"
    with pytest.raises(DriftedError):
        service.approve_bulk(crew["checker"], run_id, seen="something else", comment="", visitor=VISITOR)
    approve(crew, run_id)
    approve(crew, run_id)
    assert work_off() == 300
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.refused) == ("completed", 300, 0)
    assert [books.balance(wallet) for wallet in wallets] == [10 + n + 1 for n in range(300)]
    with pytest.raises(BulkFileKnownError):
        service.draft_bulk(crew["maker"], file_of(text), visitor=VISITOR)
    with pytest.raises(BulkNothingLeftError):
        draft(crew, text.replace("file", "mended file"))

    # Of what is spent meanwhile, as much as is there is taken; what is frozen stays, and is told.
    service.execute(books.spend(wallets[9], 15))
    books.stop(wallets[20], "FROZEN")
    undo_id = service.draft_undo(
        crew["other"],
        run_id,
        reason_code="FRAUD",
        reason="The wrong users",
        ticket="T-2",
        on_shortfall="partial",
        visitor=VISITOR,
    )
    assert service.get_bulk_run(undo_id).expected_refusals == 1
    service.ask_bulk(crew["other"], undo_id, visitor=VISITOR)
    approve(crew, undo_id)
    assert work_off() == 300
    undo = service.get_bulk_run(undo_id)
    assert (undo.state, undo.done, undo.refused) == ("completed_with_errors", 299, 1)
    assert books.balance(wallets[9]) == 0
    assert books.balance(wallets[20]) == 10 + 21
    (refused,) = service.list_bulk_rows(undo_id, status="refused").items
    assert (refused.wallet_id, refused.error_code) == (wallets[20], "wallet_not_active")
    assert books.balance(wallets[0]) == 10


def test_nobody_approves_their_own_run_also_in_another_role(books: Books, crew: dict[str, service.Session]) -> None:
    run_id = draft(crew, credit([("r", JOHN, 1)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    service.change_role(email_of("maker"), "approver", by=service.By(actor="tests"))
    with pytest.raises(SelfApprovalError):
        approve(crew | {"maker": sign_in("maker")}, run_id, by="maker")
    with pytest.raises(NotSignedInError):
        service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    assert work_off() == 0


def test_a_run_is_approved_only_while_its_maker_may_make_one(books: Books, crew: dict[str, service.Session]) -> None:
    run_id = draft(crew, credit([("r", JOHN, 1)]))
    request_id = service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    service.change_role(email_of("maker"), "viewer", by=service.By(actor="tests"))
    with pytest.raises(MakerRoleError, match="has the role viewer by now"):
        approve(crew, run_id)
    assert work_off() == 0
    assert service.withdraw(sign_in("maker"), request_id, visitor=VISITOR).status == "withdrawn"
    assert service.get_bulk_run(run_id).state == "withdrawn"


def test_an_approval_is_of_what_the_approver_saw_row_by_row(books: Books, crew: dict[str, service.Session]) -> None:
    """As many rows would be refused as before, and it is the other one: that is another run."""
    wallets = books.make_wallets(3)
    done = ran(crew, credit([(f"r{n}", wallet, 10) for n, wallet in enumerate(wallets)])).run_id
    service.execute(books.spend(wallets[0], 4))
    undo = partial(service.draft_undo, reason_code="FRAUD", reason="why", ticket="T-2", visitor=VISITOR)
    run_id = undo(crew["maker"], done, on_shortfall="refuse")
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    seen = service.get_bulk_run(run_id)
    assert seen.outlook is not None
    assert (seen.outlook.refused, seen.outlook.changed, seen.outlook.balances) == (1, 0, 0)
    assert [(one.rows, one.amount) for one in seen.outlook.sums] == [(2, 20)]
    service.execute(books.top_up(wallets[0], 4))
    service.execute(books.spend(wallets[1], 4))
    service.execute(books.top_up(wallets[2], 1))
    approving = partial(service.approve_bulk, crew["checker"], run_id, comment="", visitor=VISITOR)
    with pytest.raises(DriftedError):
        approving(seen=seen.sight)
    now = service.get_bulk_run(run_id)
    assert now.outlook is not None
    assert (now.expected_refusals, now.outlook.changed, now.outlook.balances) == (1, 2, 1)
    changed = service.list_bulk_rows(run_id, only_changed=True).items
    assert [(row.wallet_id, row.asked_moved, row.expected_moved) for row in changed] == [
        (wallets[0], None, -10),
        (wallets[1], -10, None),
    ]
    # A balance that moved on is no other run.
    service.execute(books.top_up(wallets[2], 1))
    approving(seen=now.sight)
    work_off()
    assert [books.balance(wallet) for wallet in wallets] == [0, 6, 2]

    # Of what can be taken in part, how much that is belongs to it too.
    again = ran(crew, credit([("p", wallets[0], 10)]), "parts").run_id
    run_id = undo(crew["maker"], again, on_shortfall="partial")
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    seen = service.get_bulk_run(run_id)
    service.execute(books.spend(wallets[0], 4))
    with pytest.raises(DriftedError):
        service.approve_bulk(crew["checker"], run_id, seen=seen.sight, comment="", visitor=VISITOR)
    outlook = service.get_bulk_run(run_id).outlook
    assert outlook is not None
    assert (outlook.refused, outlook.changed, [one.amount for one in outlook.sums]) == (0, 1, [6])


def test_a_mended_file_does_only_what_was_not_done(books: Books, crew: dict[str, service.Session]) -> None:
    wallets = books.make_wallets(6, balance=10)
    run_id = draft(crew, credit([(f"r{n}", wallet, 5) for n, wallet in enumerate(wallets)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    books.stop(wallets[2], "FROZEN")
    work_off()
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.refused) == ("completed_with_errors", 5, 1)
    changed = credit([("r0", wallets[1], 5)])
    made = service.draft_bulk(crew["maker"], file_of(changed), visitor=VISITOR)
    assert isinstance(made, service.BulkProblems)
    assert "for another wallet or amount" in made.problems[0].message
    service.execute(
        service.Unfreeze(
            wallet_id=wallets[2],
            reference="thaw",
            origin=service.Origin(client="tests", actor="tests"),
            side="both",
            reason="a test",
        )
    )
    again = ran(crew, credit([*[(f"r{n}", wallet, 5) for n, wallet in enumerate(wallets)], ("new", wallets[0], 1)]))
    assert (again.state, again.row_count, again.rows_to_do, again.done) == ("completed", 7, 2, 2)
    statuses = Counter(row.status for row in service.walk_bulk_rows(again.run_id))
    assert statuses == {"done_before": 5, "done": 2}
    assert [books.balance(wallet) for wallet in wallets] == [16, 15, 15, 15, 15, 15]


GOODWILL = service.BulkDefaults(asset="GOLD", direction="credit", reason_code="GOODWILL")
CHANGES = {
    "inactive": ({"is_active": False}, "not in use any more"),
    "amount": ({"limits": service.Limits(amount_max=50, approval_above=50)}, "at most 50 GOLD a row"),
    "of-asset": (
        {"of_assets": {"GOLD": service.Limits(amount_max=50, approval_above=50)}},
        "at most 50 GOLD a row",
    ),
    "direction": ({"directions": "debit"}, "for debits alone"),
    "ticket": ({"ticket_required": True}, "needs a ticket"),
}


def allow(code: str = "GOODWILL", **changes: object) -> None:
    settings = service.get_reason(code).settings
    service.change_reason(code, replace(settings, **changes), by=service.By(actor="tests"))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_asks_the_reason_code_as_it_is_now_whenever_it_goes_on(
    books: Books, crew: dict[str, service.Session], change: str
) -> None:
    before = service.get_reason("GOODWILL").settings
    changes, words = CHANGES[change]
    made = service.draft_bulk(
        crew["maker"], file_of(credit([("a", JOHN, 900), ("b", DOE, 40)]), defaults=GOODWILL), visitor=VISITOR
    )
    assert isinstance(made, int)
    refused = 1 if "at most" in words else 2

    # While it is only drafted, nobody can ask for it; once it is asked for, nobody can approve it.
    for act, error in (
        (partial(service.ask_bulk, crew["maker"], made, visitor=VISITOR), BulkDriftedError),
        (partial(approve, crew, made), ReasonRefusedError),
    ):
        allow(**changes)
        for _ in range(2):
            with pytest.raises(error):
                act()
        run = service.get_bulk_run(made)
        assert run.expected_refusals == refused
        row = service.list_bulk_rows(made, only_expected=True).items[0]
        assert words in (row.expected_error or "")
        service.change_reason("GOODWILL", before, by=service.By(actor="tests"))
        if error is BulkDriftedError:
            act()
    service.check_bulk(crew["checker"], made, visitor=VISITOR)
    approve(crew, made)

    # And what was approved before is posted by what is allowed when its turn comes.
    allow(**changes)
    assert work_off() == 2
    run = service.get_bulk_run(made)
    assert (run.state, run.done, run.refused) == ("completed_with_errors", 2 - refused, refused)
    rows = service.list_bulk_rows(made, status="refused").items
    assert [row.error_code for row in rows] == ["reason_refused"] * refused
    assert words in (rows[0].error_message or "")
    assert (books.balance(JOHN), books.balance(DOE)) == (500, 300 + 40 * (2 - refused))
    assert service.verify(full=True).broken() == set()


def test_what_is_not_allowed_carries_no_later_row_and_holds_up_no_other(
    books: Books, crew: dict[str, service.Session]
) -> None:
    head = "row_ref,wallet_id,direction,amount,reason_code,ticket,note\n"
    rows = [f"a{n},{DOE},credit,1,COMPENSATION,T-1,x\n" for n in range(300)]
    text = head + f"a,{JOHN},credit,900,GOODWILL,,x\n" + "".join(rows) + f"b,{JOHN},debit,1000,CORRECTION,T-1,x\n"
    run_id = draft(crew, text)
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    allow(is_active=False)
    checked = service.check_bulk(crew["checker"], run_id, visitor=VISITOR)
    assert checked == (2, 1), "without the credit there is too little for the debit"
    allow(is_active=True)
    service.check_bulk(crew["checker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    allow(is_active=False)
    assert work_off() == 302
    refused = service.list_bulk_rows(run_id, status="refused").items
    assert [(row.row_ref, row.error_code) for row in refused] == [
        ("a", "reason_refused"),
        ("b", "insufficient_balance"),
    ]
    assert (books.balance(JOHN), books.balance(DOE)) == (500, 600)


@pytest.mark.parametrize("changes", [{"is_active": False}, {"ticket_required": True}])
def test_an_undo_asks_its_reason_code_as_it_is_now(
    books: Books, crew: dict[str, service.Session], changes: dict[str, object]
) -> None:
    run_id = ran(crew, credit([("a", JOHN, 900)])).run_id
    # Direction and largest amount of a reason code are for adjustments.
    allow(limits=service.Limits(amount_max=50, approval_above=50))
    before = service.get_reason("GOODWILL").settings
    undo_id = service.draft_undo(
        crew["maker"],
        run_id,
        reason_code="GOODWILL",
        reason="The wrong users",
        ticket=None,
        on_shortfall="partial",
        visitor=VISITOR,
    )
    ask = partial(service.ask_bulk, crew["maker"], undo_id, visitor=VISITOR)
    for act in (ask, partial(approve, crew, undo_id)):
        allow(**changes)
        with pytest.raises(ReasonRefusedError, match="1 row of run"):
            act()
        service.change_reason("GOODWILL", before, by=service.By(actor="tests"))
        if act is ask:
            act()
    service.check_bulk(crew["checker"], undo_id, visitor=VISITOR)
    approve(crew, undo_id)
    allow(**changes)
    work_off()
    (row,) = service.list_bulk_rows(undo_id).items
    assert (row.status, row.error_code) == ("refused", "reason_refused")
    assert books.balance(JOHN) == 1400


def test_a_stop_and_the_end_race_and_one_of_them_wins(books: Books, crew: dict[str, service.Session]) -> None:
    wallets = books.make_wallets(600)
    run_id = draft(crew, credit([(f"r{n}", wallet, 1) for n, wallet in enumerate(wallets)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    first = iter([False, True])
    assert bulk_running.work_off(lambda: next(first)) == 256, "a chunk, and then the worker ends"
    stop = partial(service.stop_bulk, crew["maker"], run_id, visitor=VISITOR)
    books.in_threads([work_off, work_off, lambda: outcome(stop)])
    work_off()
    run = service.get_bulk_run(run_id)
    assert run.state in ("stopped", "completed")
    assert sum(books.balance(wallet) for wallet in wallets) == run.done
    assert run.done + run.left == 600
    assert outcome(stop) == ("done" if run.state == "stopped" else "bulk_state")


def test_workers_race_and_each_row_is_posted_once(books: Books, crew: dict[str, service.Session]) -> None:
    wallets = books.make_wallets(40)
    text = credit([(f"r{n}", wallets[n % 40], 1) for n in range(1_000)])
    run_id = draft(crew, text)
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    with books.connect() as other:
        # A wallet that somebody holds keeps back its own rows alone, and they are posted in their order.
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", [wallets[0]])
        held = iter([False] * 3 + [True] * 9)
        bulk_running.work_off(lambda: next(held))
        assert books.balance(wallets[0]) == 0
        other.rollback()
    for _ in range(3):
        books.in_threads([work_off] * 4)
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done) == ("completed", 1_000)
    assert [books.balance(wallet) for wallet in wallets] == [25] * 40
    order = books.sql(
        "SELECT row_no FROM bulk_rows JOIN transactions USING (wallet_id, transaction_id)"
        " WHERE run_id = %s AND wallet_id = %s ORDER BY transactions.seq",
        run_id,
        wallets[0],
    )
    assert order == sorted(order)


def test_what_is_decided_on_the_request_holds_for_the_run(books: Books, crew: dict[str, service.Session]) -> None:
    ends = {
        "withdrawn": lambda request: service.withdraw(crew["maker"], request, visitor=VISITOR),
        "rejected": lambda request: service.reject(crew["checker"], request, comment="no", visitor=VISITOR),
    }
    for state, end in ends.items():
        run_id = draft(crew, credit([("r", JOHN, 1)]), state)
        end(service.ask_bulk(crew["maker"], run_id, visitor=VISITOR))
        assert service.get_bulk_run(run_id).state == state
        with pytest.raises((RequestDecidedError, BulkStateError)):
            approve(crew, run_id)
    run_id = draft(crew, credit([("r", JOHN, 1)]), "discarded")
    service.discard_bulk(crew["maker"], run_id, visitor=VISITOR)
    with pytest.raises(BulkStateError):
        service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    outcomes = Counter[str]()
    for at in range(15):
        run_id = draft(crew, credit([("r", JOHN, 1)]), f"race-{at}")
        request = service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
        seen = service.get_bulk_run(run_id).sight
        works = [
            lambda run_id=run_id, seen=seen, by=by: outcome(
                lambda: service.approve_bulk(crew[by], run_id, seen=seen, comment="", visitor=VISITOR)
            )
            for by in ("checker", "second")
        ]
        works.append(lambda request=request: outcome(lambda: ends["withdrawn"](request)))
        found = books.in_threads(works)
        assert Counter(found)["done"] == 1, found
        outcomes.update(found)
        assert service.get_bulk_run(run_id).state in ("running", "withdrawn")
    before = books.balance(JOHN)
    running = sum(run.state == "running" for run in service.list_bulk_runs().items)
    work_off()
    assert books.balance(JOHN) == before + running
    assert outcomes["request_decided"] >= 15


@pytest.mark.tampers
def test_rows_that_were_changed_are_not_approved(books: Books, crew: dict[str, service.Session]) -> None:
    run_id = draft(crew, credit([("r", JOHN, 1)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    books.sql("UPDATE bulk_rows SET amount = 1000 WHERE run_id = %s", run_id)
    with pytest.raises(BulkAlteredError):
        approve(crew, run_id)
    assert service.get_bulk_run(run_id).state == "pending_approval"


@pytest.mark.tampers
def test_verify_notes_what_does_not_belong_to_an_approved_run(books: Books, crew: dict[str, service.Session]) -> None:
    run = ran(crew, credit([("a", JOHN, 5), ("b", DOE, 6)]))
    assert (run.state, service.verify(full=True).broken()) == ("completed", set())
    for table, change, back, broken in (
        ("bulk_rows", "amount = 7 WHERE row_ref = 'a'", "amount = 5 WHERE row_ref = 'a'", {"bulk"}),
        ("bulk_rows", "wallet_id = 5 WHERE row_ref = 'a'", "wallet_id = 3 WHERE row_ref = 'a'", {"bulk", "requests"}),
        ("bulk_runs", "maker_id = maker_id + 1", "maker_id = maker_id - 1", {"bulk"}),
        ("bulk_runs", "digest = sha256(digest)", f"digest = decode('{run.digest}', 'hex')", {"requests"}),
        ("bulk_runs", "done = 1, refused = 1, state = 'stopped'", "done = 2, refused = 0", {"requests"}),
    ):
        books.sql(f"UPDATE {table} SET {change}")
        assert service.verify(full=True).broken() == broken, change
        books.sql(f"UPDATE {table} SET {back}")
    assert service.verify(full=True).broken() == set()


def test_the_same_file_goes_on_where_a_run_left_off_and_under_its_campaign_alone(
    books: Books, crew: dict[str, service.Session]
) -> None:
    wallets = books.make_wallets(300)
    text = credit([(f"r{n}", wallet, 2) for n, wallet in enumerate(wallets)])
    run_id = draft(crew, text)
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    first = iter([False, True])
    bulk_running.work_off(lambda: next(first))
    for _ in range(2):
        service.stop_bulk(crew["checker"], run_id, visitor=VISITOR)
    work_off()
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.left) == ("stopped", 256, 44)
    with pytest.raises(BulkFileKnownError, match="256 of its rows were done"):
        draft(crew, text, "another campaign")
    again = draft(crew, text)
    assert service.get_bulk_run(again).rows_to_do == 44
    service.ask_bulk(crew["maker"], again, visitor=VISITOR)
    approve(crew, again)
    work_off()
    assert service.get_bulk_run(again).state == "completed"
    assert {books.balance(wallet) for wallet in wallets} == {2}


def test_a_row_that_cannot_be_written_or_whose_wallet_is_held_fails_alone(
    books: Books, crew: dict[str, service.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_running, "BUSY_SECONDS_MAX", 0.0)
    wallets = books.make_wallets(20)
    run_id = draft(crew, credit([(f"r{n}", wallet, n + 1) for n, wallet in enumerate(wallets)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    books.sql(_SPOIL)
    try:
        with books.connect() as other:
            other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", [wallets[3]])
            work_off()
            other.rollback()
    finally:
        books.sql("DROP FUNCTION spoil() CASCADE")
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.refused) == ("completed_with_errors", 18, 2)
    errors = [(row.row_ref, row.status, row.error_code) for row in service.walk_bulk_rows(run_id) if row.error_code]
    assert errors == [("r3", "refused", "wallet_busy"), ("r12", "failed", "internal_error")]
    assert [books.balance(wallet) for wallet in wallets] == [0 if n in (3, 12) else n + 1 for n in range(20)]


@pytest.mark.wide
def test_wallets_that_others_hold_hold_up_no_other_row(
    books: Books, crew: dict[str, service.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    books.sql(f"ALTER DATABASE {books.url.database} SET lock_timeout = '100ms'")
    close_connections()
    monkeypatch.setattr(bulk_running, "CHUNK_MAX", 20)
    wallets = books.make_wallets(30)
    held, freed = wallets[0:9:2], wallets[4]
    run_id = draft(crew, credit([(f"r{n}", wallets[n % 30], 1) for n in range(60)]))
    service.ask_bulk(crew["maker"], run_id, visitor=VISITOR)
    approve(crew, run_id)
    with books.connect() as one, books.connect() as other, ThreadPoolExecutor(1) as worker:
        one.execute("SELECT FROM wallet_balances WHERE wallet_id = ANY (%s) FOR UPDATE", [sorted({*held} - {freed})])
        other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", [freed])
        ending = worker.submit(in_context(books, work_off))
        wait_for(lambda: service.get_bulk_run(run_id).done == 50)
        other.rollback()
        wait_for(lambda: service.get_bulk_run(run_id).done == 52)
        assert service.get_bulk_run(run_id).refused == 0
        # Each is waited for, and then all of them have waited long enough.
        monkeypatch.setattr(bulk_running, "BUSY_SECONDS_MAX", 0.0)
        assert ending.result(30) == 60
        one.rollback()
    run = service.get_bulk_run(run_id)
    assert (run.state, run.done, run.refused) == ("completed_with_errors", 52, 8)
    refused = service.list_bulk_rows(run_id, status="refused").items
    assert {row.wallet_id for row in refused} == {*held} - {freed}
    assert {row.error_code for row in refused} == {"wallet_busy"}


@pytest.mark.wide
@pytest.mark.parametrize("change", ["role", "disabled"])
def test_what_an_operator_began_who_may_not_any_more_is_not_done(
    books: Books, crew: dict[str, service.Session], change: str
) -> None:
    """Their page was asked for, and its session found, just before they were demoted."""
    done = ran(crew, credit([("a", JOHN, 5)])).run_id
    ready = draft(crew, credit([("b", JOHN, 5)]), "ready")
    running = draft(crew, credit([("c", JOHN, 5)]), "running")
    service.ask_bulk(crew["maker"], running, visitor=VISITOR)
    approve(crew, running)
    by = service.By(actor="tests")
    if change == "role":
        service.change_role(email_of("maker"), "viewer", by=by)
    else:
        service.disable_operator(email_of("maker"), by=by)
    undo = partial(service.draft_undo, reason_code="FRAUD", reason="why", ticket="T-2", on_shortfall="refuse")
    for act in (
        lambda: draft(crew, credit([("d", JOHN, 5)]), "new"),
        lambda: undo(crew["maker"], done, visitor=VISITOR),
        lambda: service.stop_bulk(crew["maker"], running, visitor=VISITOR),
        lambda: service.discard_bulk(crew["maker"], ready, visitor=VISITOR),
        lambda: service.check_bulk(crew["maker"], ready, visitor=VISITOR),
    ):
        with pytest.raises(NotSignedInError):
            act()
    assert len(service.list_bulk_runs().items) == 3
    assert service.get_bulk_run(ready).state == "ready"
    assert service.get_bulk_run(running).stop_asked_at is None


_SPOIL = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.amount = 13 THEN RAISE EXCEPTION 'spoiled' USING ERRCODE = '22000'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER spoil BEFORE INSERT ON ledger_entries FOR EACH ROW EXECUTE FUNCTION spoil();
"""
