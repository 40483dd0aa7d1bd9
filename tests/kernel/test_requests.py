"""Four eyes: what one operator may do alone, and what becomes of a request, whoever is faster."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from tests.kernel.conftest import DOE, JOHN, JOHN_DIAMOND, ORIGIN, Books
from tests.kernel.operators import NAMES, VISITOR, adjustment, email_of, make_operator, sign_in
from wallet_app import service
from wallet_app.errors import (
    DriftedError,
    InsufficientBalanceError,
    MakerDisabledError,
    MakerRoleError,
    MissingScopeError,
    NotSignedInError,
    NotYourRequestError,
    OperationInvalidError,
    PermissionDeniedError,
    ReasonNotFoundError,
    ReasonRefusedError,
    ReferenceMismatchError,
    RequestAlteredError,
    RequestDecidedError,
    RequestPendingError,
    SelfApprovalError,
    WalletBusyError,
    WalletNotActiveError,
    WalletServiceError,
)
from wallet_app.service.adjustments import Adjust

THRESHOLD = 1_000
"""Of the reason code CORRECTION, which asks for a ticket and a note."""


JOHNS = service.Permit(scopes=service.TOKEN_SCOPES, user_id=2)
"""What a program in John's hands may do."""


@dataclass
class Office:
    """The books, and operators who are signed in."""

    books: Books
    of: dict[str, service.Session]

    def do(self, operation: service.Operation, *, by: str = "maker", form_key: str | None = None) -> Any:
        form_key = form_key or service.new_form_key()
        for _ in range(10):
            # On a slow machine a queue of sixteen is longer than a lock may wait; the answer says to repeat.
            with suppress(WalletBusyError):
                return service.carry_out(self.of[by], operation, form_key=form_key, visitor=VISITOR)
        raise AssertionError("busy all the time")

    def ask(self, operation: service.Operation, *, by: str = "maker") -> int:
        asked = self.do(operation, by=by)
        assert isinstance(asked, service.Asked), asked
        return asked.request.request_id

    def seen(self, request_id: int, *, by: str = "checker") -> str:
        page = service.get_request(self.of[by], request_id, visitor=VISITOR)
        assert page.weighed is not None
        return page.weighed.seen

    def approve(self, request_id: int, *, by: str = "checker", seen: str | None = None, **more: Any) -> service.Posted:
        seen = seen or self.seen(request_id, by=by)
        return service.approve(self.of[by], request_id, seen=seen, visitor=VISITOR, **more)

    def reject(self, request_id: int, *, by: str = "checker") -> service.RequestView:
        return service.reject(self.of[by], request_id, comment="no", visitor=VISITOR)

    def withdraw(self, request_id: int, *, by: str = "maker") -> service.RequestView:
        return service.withdraw(self.of[by], request_id, visitor=VISITOR)

    def status(self, request_id: int) -> str:
        return service.get_request(self.of["viewer"], request_id, visitor=VISITOR).request.status

    def audited(self, action: str) -> list[tuple[Any, ...]]:
        return self.books.sql("SELECT actor, outcome, after FROM audit_log WHERE action = %s ORDER BY id", action)

    def totals(self) -> list[tuple[Any, ...]]:
        return self.books.sql("SELECT wallet_id, amount, counted, request_id FROM operator_postings ORDER BY posted_at")


@pytest.fixture
def office(books: Books) -> Iterator[Office]:
    for name, role in NAMES.items():
        make_operator(name, role)
    yield Office(books, {name: sign_in(name) for name in NAMES})
    faults = {one.name: one.examples for one in service.verify(full=True).findings.values() if one.faults}
    assert faults == {}


def refusal(error: type[WalletServiceError], work: Any) -> WalletServiceError:
    with pytest.raises(error) as refused:
        work()
    return refused.value


def past_the_guards(office: Office, statement: str) -> None:
    """Change what the database lets nobody change: to let time pass for it, or to tamper."""
    office.books.sql(f"SET session_replication_role = replica; {statement}")


def let_them_expire(office: Office) -> None:
    hours = "interval '72 hours'"
    past_the_guards(
        office,
        f"UPDATE approval_requests SET created_at = created_at - {hours}, expires_at = expires_at - {hours} "
        "WHERE status = 'pending'",
    )


# --- alone, or asked for ---


def test_up_to_the_threshold_one_operator_adjusts_alone_and_above_it_they_ask(office: Office) -> None:
    posted = office.do(adjustment(JOHN, THRESHOLD))
    assert isinstance(posted, service.Posted)
    entry = posted.receipt.transaction.entries[0]
    assert (entry.entry_type, entry.amount, entry.balance_after) == ("ADJUSTMENT", 1_000, 1_500)
    assert posted.receipt.transaction.actor == office.of["maker"].actor
    assert office.totals() == [(JOHN, 1_000, 1_000, None)]
    (actor, outcome, after), *_ = office.audited("adjustment:post")
    assert (actor, outcome) == (office.of["maker"].actor, "done")
    assert after["transactionId"] == str(posted.receipt.transaction.transaction_id)
    assert (after["wallets"][0]["balanceBefore"], after["wallets"][0]["balanceAfter"]) == (500, 1_500)

    asked = office.do(adjustment(DOE, THRESHOLD + 1))
    assert isinstance(asked, service.Asked)
    assert asked.request.demands == ("1,001 GOLD: CORRECTION lets one person move up to 1,000 GOLD.",)
    assert (office.books.balance(DOE), office.books.entries(DOE)) == (300, 1)
    assert [one.request_id for one in service.pending_of_wallet(DOE)] == [asked.request.request_id]
    assert office.audited("adjustment:ask")[0][:2] == (office.of["maker"].actor, "done")

    posted = office.approve(asked.request.request_id, comment="looked at the ticket")
    assert office.books.balance(DOE) == 1_301
    page = service.get_request(office.of["viewer"], asked.request.request_id, visitor=VISITOR)
    assert (page.request.status, page.request.checker_name) == ("approved", "Olga checker")
    assert page.request.transaction_id == posted.receipt.transaction.transaction_id
    assert service.request_of_transaction(page.request.transaction_id) == asked.request.request_id
    assert posted.receipt.transaction.reference == f"sys:request:{page.request.request_id}:{page.request.payload_hash}"
    assert office.audited("approval:approve")[0][:2] == (office.of["checker"].actor, "done")


def test_what_may_not_be_is_refused_and_recorded_whoever_asks(office: Office) -> None:
    cases = [
        (adjustment(JOHN, -501), InsufficientBalanceError),
        (adjustment(JOHN, 1, reason_code="NONE"), ReasonNotFoundError),
        (adjustment(JOHN, 1, ticket=None), ReasonRefusedError),
        (adjustment(JOHN, 1, note=None), ReasonRefusedError),
        (adjustment(JOHN, -1, reason_code="COMPENSATION"), ReasonRefusedError),
        (adjustment(JOHN, 1_001, reason_code="OTHER"), ReasonRefusedError),
    ]
    for operation, error in cases:
        weighed = service.weigh(office.of["maker"], operation)
        assert isinstance(weighed.problem, error), operation
        refused = refusal(error, lambda operation=operation: office.do(operation))
        assert refused.detail == weighed.problem.detail
    assert [(outcome, after["problem"]) for _, outcome, after in office.audited("adjustment:refuse")] == [
        ("failed", error.code) for _, error in cases
    ]
    # No credential may, whatever its scopes: four eyes need people.
    key = replace(ORIGIN, permit=service.Permit(scopes=frozenset(service.SCOPES)))
    by_key = Adjust(wallet_id=JOHN, reference="key", origin=key, direction="credit", amount=1, reason_code="OTHER")
    refusal(MissingScopeError, lambda: service.execute(by_key))
    refusal(PermissionDeniedError, lambda: office.do(adjustment(JOHN, 1), by="viewer"))
    refusal(PermissionDeniedError, lambda: office.do(adjustment(JOHN, 1), by="checker"))
    assert [one[1] for one in office.audited("adjustments:post")] == ["denied", "denied"]
    for wrong in ({"amount": 0}, {"direction": "up"}, {"ticket": "two words"}, {"note": "x\x00"}):
        values = {"wallet_id": JOHN, "direction": "credit", "amount": 1, "reason_code": "GOODWILL"} | wrong
        refusal(OperationInvalidError, lambda values=values: office.do(service.AdjustOperation(**values)))
    refusal(OperationInvalidError, lambda: office.do(adjustment(JOHN, 1), form_key="short"))
    assert office.books.entries(JOHN) == 1


def test_a_form_does_what_it_does_once_and_answers_the_same(office: Office) -> None:
    key, small, large = service.new_form_key(), adjustment(JOHN, 7), adjustment(JOHN, 5_000)
    first, again = office.do(small, form_key=key), office.do(small, form_key=key)
    assert [first.is_replay, again.is_replay] == [False, True]
    assert again.receipt.transaction.transaction_id == first.receipt.transaction.transaction_id
    asking = service.new_form_key()
    first, again = office.do(large, form_key=asking), office.do(large, form_key=asking)
    assert (first.request, first.is_replay, again.is_replay) == (again.request, False, True)
    # Another operation, or another operator, with the same form is told so, and never the other's result.
    for form_key in (key, asking):
        refusal(ReferenceMismatchError, lambda form_key=form_key: office.do(adjustment(JOHN, 8), form_key=form_key))
    refusal(ReferenceMismatchError, lambda: office.do(small, form_key=key, by="other"))
    refusal(ReferenceMismatchError, lambda: office.do(large, form_key=asking, by="other"))
    # The day's total is spent by now, and the form is still answered as it was.
    office.do(adjustment(JOHN, 993))
    office.do(adjustment(JOHN, 1_000))
    assert isinstance(office.do(adjustment(JOHN, 1)), service.Asked)
    assert isinstance(office.do(small, form_key=key), service.Posted)
    assert office.books.balance(JOHN) == 500 + 7 + 993 + 1_000

    results = office.books.in_threads([lambda: office.do(adjustment(DOE, 5), form_key=key[::-1])] * 8)
    assert sorted(one.is_replay for one in results) == [False] + [True] * 7
    assert office.books.balance(DOE) == 305


def test_splitting_does_not_help(office: Office) -> None:
    """Neither over adjustments, nor over operators on one wallet, nor over directions."""
    office.do(adjustment(JOHN, 1_000))
    office.do(adjustment(JOHN, -600), by="other")
    weighed = service.weigh(office.of["other"], adjustment(JOHN, 401))
    own, wallet = weighed.totals
    assert (own.wallet_id, own.before, own.after, own.bound) == (None, 600, 1_001, 10_000)
    assert (wallet.wallet_id, wallet.before, wallet.after, wallet.bound) == (JOHN, 1_600, 2_001, 2_000)
    assert [one.code for one in weighed.demands] == ["wallet_total"]
    assert isinstance(office.do(adjustment(JOHN, 401), by="other"), service.Asked)
    assert isinstance(office.do(adjustment(JOHN, 400), by="other"), service.Posted)

    by = service.By(actor="tests")
    service.set_day_bound(service.DayBoundView("GOLD", 1_000, 9_000), by=by)
    asked = office.do(adjustment(DOE, 1))
    assert [one.code for one in service.weigh(office.of["maker"], adjustment(DOE, 1)).demands] == ["operator_total"]
    assert asked.request.demands == (
        "With this the operator would have moved 1,001 GOLD alone within 24 hours; the bound is 1,000.",
    )
    # What was approved counts against nothing: asking does no harm.
    office.approve(asked.request.request_id)
    assert isinstance(office.do(adjustment(JOHN_DIAMOND, 1)), service.Posted)
    total = service.weigh(office.of["maker"], adjustment(DOE, 1)).totals[0]
    assert (total.before, total.after, total.approved) == (1_000, 1_001, 1)
    # A day later they may again.
    past_the_guards(office, "UPDATE operator_postings SET posted_at = posted_at - interval '24 hours'")
    assert isinstance(office.do(adjustment(DOE, 1)), service.Posted)


def test_at_the_bound_of_the_day_the_last_unit_is_posted_once_however_many_try(office: Office) -> None:
    """One operator on many wallets, and many operators on one: sixteen at once, room for ten."""
    service.set_day_bound(service.DayBoundView(None, 100, 2_000), by=service.By(actor="tests"))
    wallets = office.books.make_wallets(16)
    results = office.books.in_threads([lambda to=to: office.do(adjustment(to, 10)) for to in wallets])
    assert sum(isinstance(one, service.Posted) for one in results) == 10
    assert sum(isinstance(one, service.Asked) for one in results) == 6

    service.set_day_bound(service.DayBoundView(None, 10_000, 100), by=service.By(actor="tests"))
    who = ["maker", "other"] * 8
    results = office.books.in_threads([lambda by=by: attempt(office, by) for by in who])
    posted = [one for one in results if isinstance(one, service.Posted)]
    assert sum(one.receipt.transaction.entries[0].amount for one in posted) == 100
    assert office.books.balance(DOE) == 400


def attempt(office: Office, by: str) -> object:
    try:
        return office.do(adjustment(DOE, 10), by=by)
    except RequestPendingError as pending:
        return pending


def test_the_very_same_is_asked_for_once(office: Office) -> None:
    first = office.ask(adjustment(JOHN, 2_000))
    refused = refusal(RequestPendingError, lambda: office.do(adjustment(JOHN, 2_000, note="again"), by="other"))
    assert refused.detail.startswith(f"Request {first} of Olga maker asks for the very same")
    office.ask(adjustment(JOHN, 2_001))
    office.reject(first)
    second = office.ask(adjustment(JOHN, 2_000))
    # One whose time is over stands in nobody's way, though no worker has noted that.
    let_them_expire(office)
    assert office.ask(adjustment(JOHN, 2_000)) > second
    assert office.status(second) == "expired"


# --- what becomes of a request ---


def test_nobody_decides_on_their_own_request_nor_does_the_database_let_them(office: Office) -> None:
    request_id = office.ask(adjustment(JOHN, 2_000))
    office.books.sql("UPDATE operators SET role = 'approver', epoch = epoch + 1 WHERE email = %s", email_of("maker"))
    office.of["maker"] = sign_in("maker")
    page = service.get_request(office.of["maker"], request_id, visitor=VISITOR)
    assert page.why_not is not None
    assert "your own" in page.why_not
    refusal(SelfApprovalError, lambda: office.approve(request_id, by="maker"))
    refusal(SelfApprovalError, lambda: office.reject(request_id, by="maker"))
    assert [one[1] for one in office.audited("approval:approve") + office.audited("approval:reject")] == ["denied"] * 2
    with pytest.raises(psycopg.errors.CheckViolation, match="checker_is_another"):
        office.books.sql(
            "UPDATE approval_requests SET status = 'approved', checker_id = maker_id, decided_at = now() WHERE id = %s",
            request_id,
        )
    refusal(PermissionDeniedError, lambda: office.approve(request_id, by="other"))
    refusal(NotYourRequestError, lambda: service.withdraw(office.of["other"], request_id, visitor=VISITOR))
    assert office.status(request_id) == "pending"


def test_a_request_is_decided_once_and_repeated_clicks_are_answered_the_same(office: Office) -> None:
    approved, rejected, withdrawn = (office.ask(adjustment(JOHN, amount)) for amount in (2_000, 2_001, 2_002))
    seen = office.seen(approved)
    first = office.approve(approved, seen=seen)
    again = office.approve(approved, seen=seen)
    assert (first.is_replay, again.is_replay) == (False, True)
    assert first.receipt.transaction.transaction_id == again.receipt.transaction.transaction_id
    assert [office.reject(rejected).status, office.reject(rejected).status] == ["rejected"] * 2
    assert [office.withdraw(withdrawn).status, office.withdraw(withdrawn).status] == ["withdrawn"] * 2
    for request_id in (approved, rejected, withdrawn):
        status = office.status(request_id)
        for work in (
            lambda one=request_id: office.approve(one, by="second", seen="x.y"),
            lambda one=request_id: office.reject(one, by="second"),
            *([] if status == "withdrawn" else [lambda one=request_id: office.withdraw(one)]),
        ):
            refused = refusal(RequestDecidedError, work)
            assert refused.details["request_status"] == status
    assert office.books.balance(JOHN) == 2_500
    with pytest.raises(psycopg.errors.RestrictViolation, match="decided once"):
        office.books.sql("UPDATE approval_requests SET comment = 'otherwise' WHERE id = %s", rejected)
    service.erase_user(2, by=service.By(actor="tests"))
    with pytest.raises(psycopg.errors.RestrictViolation, match="decided once"):
        office.books.sql("UPDATE approval_requests SET note = 'written later' WHERE id = %s", rejected)
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        office.books.sql("DELETE FROM approval_requests WHERE id = %s", rejected)
    listed = service.list_requests(service.RequestFilters()).items
    assert [one.operation.note for one in listed] == [None, None, None], "erased, and the hash still right"
    assert [(one.request_id, one.status) for one in listed] == [
        (withdrawn, "withdrawn"),
        (rejected, "rejected"),
        (approved, "approved"),
    ]
    page = service.list_requests(service.RequestFilters(maker_id=office.of["maker"].operator_id), limit=2)
    assert page.following == (rejected,)
    page = service.list_requests(service.RequestFilters(user_id=2), before_id=rejected, limit=2)
    assert ([one.request_id for one in page.items], page.following) == ([approved], None)


def test_what_comes_too_late_is_refused_whether_the_worker_came_or_not(office: Office) -> None:
    first, second = office.ask(adjustment(JOHN, 2_000)), office.ask(adjustment(JOHN, 2_001))
    seen = office.seen(first)
    let_them_expire(office)
    assert office.status(first) == "expired"
    assert service.list_requests(service.RequestFilters(status="pending")).items == []
    assert len(service.list_requests(service.RequestFilters(status="expired")).items) == 2
    refused = refusal(RequestDecidedError, lambda: office.approve(first, seen=seen))
    assert refused.detail == f"Request {first} is expired: it cannot be decided again. Nothing was done now."
    (expire,) = [job for job in service.JOBS if job.name == "expire_requests"]
    assert (expire.run(lambda: False), expire.run(lambda: False)) == (1, 0)
    assert office.books.sql("SELECT id, status, decided_at = expires_at FROM approval_requests ORDER BY id") == [
        (first, "expired", True),
        (second, "expired", True),
    ]
    assert [one[:2] for one in office.audited("approval:expire")] == [("system", "done")] * 2
    assert office.books.balance(JOHN) == 500


def test_what_changed_since_the_approver_looked_is_shown_again(office: Office) -> None:
    request_id = office.ask(adjustment(JOHN, 2_000))
    seen = office.seen(request_id)
    service.execute(office.books.top_up(JOHN, 7))
    page = service.get_request(office.of["checker"], request_id, visitor=VISITOR)
    assert page.drift == ["Wallet 3: balance is 507 GOLD now; it was 500 when this was asked for."]
    refusal(DriftedError, lambda: office.approve(request_id, seen=seen))
    assert office.status(request_id) == "pending"
    assert office.audited("approval:approve")[0][2]["problem"] == "drifted"
    # On a wallet that never rests, an approver may say that the balance does not matter, and what happens still does.
    refusal(DriftedError, lambda: office.approve(request_id, seen="0" * 32 + ".x", although_moving=True))
    office.approve(request_id, seen=seen, although_moving=True)
    assert office.books.balance(JOHN) == 2_507


def test_what_the_books_refuse_at_approval_waits_and_is_done_when_they_do_not(office: Office) -> None:
    service.execute(office.books.top_up(JOHN, 1_500))
    request_id = office.ask(adjustment(JOHN, -2_000))
    service.execute(office.books.spend(JOHN, 1_990))
    page = service.get_request(office.of["checker"], request_id, visitor=VISITOR)
    assert page.why_not == "Wallet 3 has 10 GOLD, 2000 needed."
    refusal(InsufficientBalanceError, lambda: office.approve(request_id))
    assert office.status(request_id) == "pending"
    service.execute(office.books.top_up(JOHN, 1_990))
    office.approve(request_id)
    assert office.books.balance(JOHN) == 0


def test_a_correction_passes_a_freeze_when_two_decide_and_not_alone(office: Office) -> None:
    office.books.stop(JOHN, "FROZEN")
    weighed = service.weigh(office.of["maker"], adjustment(JOHN, -5))
    assert [one.code for one in weighed.demands] == ["stopped"]
    request_id = office.ask(adjustment(JOHN, -5))
    office.approve(request_id)
    assert office.books.balance(JOHN) == 495
    transfer = service.TransferOperation(
        wallet_id=JOHN, to_wallet_id=DOE, amount=5, reason_code="CORRECTION", ticket="T-1", note="a test"
    )
    refusal(WalletNotActiveError, lambda: office.do(transfer))
    release = service.PlaceHold(wallet_id=DOE, amount=5, expires_in=60, reference="hold", origin=ORIGIN)
    hold = service.execute(release).hold
    assert hold is not None
    office.do(service.ReleaseOperation(hold_id=hold.hold_id, reason_code="GOODWILL"))


def test_a_stop_that_is_set_since_must_be_seen_before_an_approval_passes_it(office: Office) -> None:
    by = service.By(actor="tests")
    user = service.SwitchSettings(target="user", side="both", reason="fraud found", user_id=2)
    everything = service.SwitchSettings(target="everything", side="credits", reason="an incident")
    request_id = office.ask(adjustment(JOHN, 1_001))
    stops = [
        (lambda: office.books.stop(JOHN, "FROZEN"), "Wallet 3 is frozen: its credits are."),
        (
            lambda: service.set_switch(user, by=by),
            "Wallet 3: the credits of its user are stopped at the moment.",
        ),
        (
            lambda: service.set_switch(everything, by=by),
            "Wallet 3: the credits of all wallets are stopped at the moment.",
        ),
    ]
    passed: list[str] = []
    for stop, sentence in stops:
        page = service.get_request(office.of["checker"], request_id, visitor=VISITOR)
        assert page.weighed is not None
        assert page.weighed.passes == sorted(passed)
        stop()
        for although_moving in (False, True):
            refusal(
                DriftedError,
                lambda seen=page.weighed.seen, moving=although_moving: office.approve(
                    request_id, seen=seen, although_moving=moving
                ),
            )
        passed.append(sentence)
    page = service.get_request(office.of["checker"], request_id, visitor=VISITOR)
    assert page.weighed is not None
    assert (page.weighed.passes, page.weighed.problem, page.why_not) == (sorted(passed), None, None)
    since = "It was not so when this was asked for; approving passes that."
    assert page.drift == [f"{one} {since}" for one in sorted(passed)]
    assert office.books.balance(JOHN) == 500
    office.approve(request_id, seen=page.weighed.seen)
    assert office.books.balance(JOHN) == 1_501
    assert office.audited("approval:approve")[-1][2]["passes"] == sorted(passed)

    # What stopped it when it was asked for is shown, and is no news.
    asked = office.ask(adjustment(JOHN, 7))
    page = service.get_request(office.of["checker"], asked, visitor=VISITOR)
    assert page.weighed is not None
    assert (page.weighed.passes, page.drift) == (sorted(passed), [])


def test_a_grant_is_taken_back_past_a_freeze_when_two_decide_and_not_alone(office: Office) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    granted = service.Bonus(wallet_id=JOHN, amount=30, expires_at=soon, reference="mis-grant", origin=ORIGIN)
    lot_id = service.execute(granted).transaction.transaction_id
    revoke = service.RevokeOperation(lot_id=lot_id, reason_code="CORRECTION", ticket="T-1", note="a test")
    office.books.stop(JOHN, "FROZEN")
    weighed = service.weigh(office.of["maker"], revoke)
    assert ([one.code for one in weighed.demands], weighed.problem) == (["stopped"], None)
    request_id = office.ask(revoke)
    everything = service.SwitchSettings(target="everything", side="debits", reason="an incident")
    seen = service.get_request(office.of["checker"], request_id, visitor=VISITOR).weighed
    service.set_switch(everything, by=service.By(actor="tests"))
    assert seen is not None
    refusal(DriftedError, lambda: office.approve(request_id, seen=seen.seen, although_moving=True))
    assert service.get_lot(lot_id).lot.available == 30, "what was set since is passed by nobody who was not shown it"
    office.approve(request_id)
    lot = service.get_lot(lot_id).lot
    assert (lot.available, lot.revoked, office.books.balance(JOHN)) == (0, 30, 500)
    assert office.audited("approval:approve")[-1][2]["passes"] == [
        "Wallet 3 is frozen: its debits are.",
        "Wallet 3: the debits of all wallets are stopped at the moment.",
    ]


def test_every_kind_of_operation_is_done_or_asked_for(office: Office) -> None:
    why: dict[str, Any] = {"reason_code": "CORRECTION", "ticket": "T-1", "note": "a test"}
    spent = service.execute(office.books.spend(JOHN, 100)).transaction.transaction_id
    back = office.do(service.ReverseOperation(transaction_id=spent, amount=40, **why))
    assert office.books.balance(JOHN) == 440
    assert back.receipt.transaction.requested["reason"] == "CORRECTION, ticket T-1"
    office.do(service.TransferOperation(wallet_id=JOHN, to_wallet_id=DOE, amount=40, **why))
    assert office.totals()[1:] == [(JOHN, 40, 40, None), (DOE, 40, 0, None)]
    assert (office.books.balance(JOHN), office.books.balance(DOE)) == (400, 340)
    adjusted = office.do(adjustment(JOHN, 9)).receipt.transaction.transaction_id
    key = replace(ORIGIN, permit=service.Permit(scopes=frozenset(service.SCOPES)))
    undo = service.ReverseTransaction(
        wallet_id=JOHN, transaction_id=adjusted, reference="undo", origin=key, reason="a key"
    )
    refusal(MissingScopeError, lambda: service.execute(undo))
    office.do(service.ReverseOperation(transaction_id=adjusted, **why))
    assert office.books.balance(JOHN) == 400
    # Services are told why; users are not, whatever kind of transaction an operator made.
    for kind, reason in (("ADJUSTMENT", "CORRECTION"), ("TRANSFER", None), ("REVERSAL", "CORRECTION, ticket T-1")):
        for permit, told in ((None, ("a test", reason)), (JOHNS, (None, None))):
            page = service.list_transactions(
                service.Filters(kind=kind), wallet_id=JOHN, before=None, limit=1, permit=permit
            )
            assert (page.items[0].note, page.items[0].reason) == told
            entries = service.find_entries(JOHN, service.Filters(kind=kind), before=None, limit=1, permit=permit)
            assert entries.items[0].note == told[0]
    large = service.execute(office.books.top_up(JOHN, 5_000)).transaction.transaction_id
    reversal = office.ask(service.ReverseOperation(transaction_id=large, **why))
    other = service.ReverseOperation(transaction_id=large, amount=4_000, **why | {"ticket": "T-2"})
    refusal(RequestPendingError, lambda: office.do(other))
    office.approve(reversal)
    assert office.books.balance(JOHN) == 400

    office.do(service.FreezeOperation(wallet_id=JOHN, side="both", reason="looks odd"))
    office.do(service.UnfreezeOperation(wallet_id=JOHN, reason="is fine"))
    (empty,) = office.books.make_wallets(1)
    closing = office.ask(service.CloseOperation(wallet_id=empty, reason="the user left"))
    assert service.get_wallet(empty).status == "ACTIVE"
    office.approve(closing)
    assert service.get_wallet(empty).status == "CLOSED"
    assert {one[0] for one in office.books.sql("SELECT action FROM audit_log WHERE action LIKE '%:post'")} == {
        "reversal:post",
        "transfer:post",
        "adjustment:post",
        "freeze:post",
        "unfreeze:post",
    }


def test_a_similar_one_of_the_same_user_is_shown(office: Office) -> None:
    office.do(adjustment(JOHN, 20, reason_code="COMPENSATION", ticket="T-7"))
    weighed = service.weigh(office.of["other"], adjustment(JOHN_DIAMOND, 2, reason_code="COMPENSATION"))
    assert [(one.amount, one.ticket, one.operator_name) for one in weighed.similar] == [(20, "T-7", "Olga maker")]
    assert service.weigh(office.of["other"], adjustment(JOHN, 2)).similar == []
    assert service.weigh(office.of["other"], adjustment(DOE, 2, reason_code="COMPENSATION")).similar == []


def test_what_an_operator_may_is_asked_of_what_they_are_now(office: Office) -> None:
    request_id = office.ask(adjustment(JOHN, 2_000))
    seen = office.seen(request_id)
    by = service.By(actor="tests")
    service.change_role(email_of("checker"), "viewer", by=by)
    refusal(NotSignedInError, lambda: office.approve(request_id, seen=seen))
    service.disable_operator(email_of("maker"), by=by)
    refusal(NotSignedInError, lambda: office.do(adjustment(JOHN, 1)))
    refusal(NotSignedInError, lambda: office.withdraw(request_id))
    refusal(MakerDisabledError, lambda: office.approve(request_id, by="second"))
    office.books.sql("UPDATE sessions SET authenticated_at = now() - interval '6 minutes'")
    assert office.reject(request_id, by="second").status == "rejected"


def test_what_a_maker_asked_for_is_approved_only_while_they_may_ask(office: Office) -> None:
    request_id, other = office.ask(adjustment(JOHN, 2_000)), office.ask(adjustment(DOE, 2_000))
    seen = office.seen(request_id)
    service.change_role(email_of("maker"), "viewer", by=service.By(actor="tests"))
    refused = refusal(MakerRoleError, lambda: office.approve(request_id, seen=seen))
    assert refused.detail == (
        f"Olga maker, who made request {request_id}, has the role viewer by now and may not ask for this any more: it "
        "cannot be approved, only rejected or withdrawn."
    )
    assert (office.books.balance(JOHN), office.status(request_id)) == (500, "pending")
    assert office.audited("approval:approve")[-1][2]["problem"] == "maker_role"
    # They take it back all the same, and nobody else does.
    refusal(NotYourRequestError, lambda: office.withdraw(request_id, by="viewer"))
    office.of["maker"] = sign_in("maker")
    assert office.withdraw(request_id).status == "withdrawn"
    # One who may ask again, may have it approved.
    service.change_role(email_of("maker"), "support", by=service.By(actor="tests"))
    office.approve(other)
    assert office.books.balance(DOE) == 2_300


def test_a_request_that_was_altered_is_not_carried_out(office: Office) -> None:
    request_id = office.ask(adjustment(JOHN, 2_000))
    with pytest.raises(psycopg.errors.RestrictViolation):
        office.books.sql("UPDATE approval_requests SET payload = jsonb_set(payload, '{command,amount}', '9')")
    alter = "UPDATE approval_requests SET payload = jsonb_set(payload, '{operation,amount}', '%s')"
    past_the_guards(office, alter % 3_000)
    refusal(RequestAlteredError, lambda: office.approve(request_id))
    office.reject(request_id)
    past_the_guards(office, alter % 2_000)
