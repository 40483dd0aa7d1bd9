"""Acts on the books in three pages: enter, check, done. Nothing is done before its check was seen.

Each screen says what its form has and reads an operation from it; the service weighs that, and carries it out. The
order of the pages, the one-time key and what becomes of a refused form are the same for all and stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypedDict, TypeVar

from flask import Response, request

from wallet_app import service
from wallet_app.console import browser, drafts, entering, in_doubt, pages, phrases, weighed
from wallet_app.console.weighed import Changes
from wallet_app.errors import (
    ConditionError,
    FormKeyError,
    InvalidError,
    NotFoundError,
    ReferenceMismatchError,
    RefusedError,
    UnavailableError,
    WalletServiceError,
)
from wallet_app.service import Asked, Operation, Posted, WalletView, Weighed
from wallet_app.web import problem_of

S = TypeVar("S", bound="Subject")
V = TypeVar("V")

_KEY, _STEP = drafts.KEY, "step"


class Noted(TypedDict):
    """What is said of an operation beside what it does."""

    note: str | None
    ticket: str | None


class EntriesRefusedError(Exception):
    """What was entered cannot be taken: by the field's name, what to mend."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(*problems.values())
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an act is done to. `wallet` is its anchor, `about` names it, like `hold:0190...`."""

    wallet: WalletView
    about: str
    back: str
    """The page that it is on."""


class Entries:
    """The texts of a form, read one by one; what is wrong with them is gathered, so that all of it is told at once."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.problems: dict[str, str] = {}

    def read(self, name: str, parse: Callable[[str], V]) -> V:
        """Return what the field says. If `parse` raises ValueError, the problem is kept; then what is returned is bad,
        and `require_good` must be asked before it is used."""
        try:
            return parse(self.values[name])
        except ValueError as problem:
            self.problems[name] = f"{problem}."
            return None  # type: ignore[return-value]

    def require_good(self) -> None:
        """Raise EntriesRefusedError if anything is wrong."""
        if self.problems:
            raise EntriesRefusedError(self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act(Generic[S]):
    """One act: its form, and how what is entered becomes an operation.

    `read` raises EntriesRefusedError. `button` says verb and amount, `facts` what was entered.
    """

    name: str
    """The word of its address; the form's key is made for this act."""
    title: Callable[[S], str]
    template: str
    fields: tuple[str, ...]
    read: Callable[[S, Entries], Operation]
    button: Callable[[S, Operation], str]
    facts: Callable[[S, Operation], Sequence[tuple[str, str]]]
    changes: Callable[[S, Operation, Weighed], Changes] = weighed.balances
    context: Callable[[S], Mapping[str, object]] = field(default=lambda _: {})
    field_of: Mapping[str, str] = field(default_factory=dict)
    """By the code of an error, the field that it is about."""


def enter(act: Act[S], subject: S) -> Response:
    """Show the form. Its key stands in the address, so a reload and the back button find the same form again."""
    given = request.args.get(_KEY, "")
    session = browser.session()
    try:
        key = service.read_form_key(session, _purpose(act, subject), given)
    except FormKeyError:
        fresh = service.sign_form_key(session, _purpose(act, subject))
        return pages.go(request.path, form=fresh)
    if (done := _sent(subject, key)) is not None:
        return pages.go(done, note="sent-before")
    draft = drafts.found(given)
    values = {name: (draft or {}).get(name, "") for name in act.fields}
    return _form(act, subject, values, given, note=None if draft is None else "back-with-entries")


def take(act: Act[S], subject: S) -> Response:
    """Take the form: show it again to be changed, show what would happen, or do it."""
    form = pages.read_form(*act.fields, _KEY, _STEP)
    values = {name: form[name] for name in act.fields}
    session = browser.session()
    key = service.read_form_key(session, _purpose(act, subject), form[_KEY])
    if form[_STEP] == "change":
        return _form(act, subject, values, form[_KEY])
    try:
        operation = act.read(subject, Entries(values))
        if form[_STEP] == "do":
            return _done(service.carry_out(session, operation, form_key=key, visitor=browser.visitor()))
        if (done := _sent(subject, key)) is not None:
            return pages.go(done, note="sent-before")
        found = service.weigh(session, operation)
        if found.problem is not None:
            raise found.problem
    except EntriesRefusedError as refused:
        return _form(act, subject, values, form[_KEY], refused.problems)
    except ReferenceMismatchError:
        return _mismatch(act, subject, values, form[_KEY], key)
    except (RefusedError, ConditionError, InvalidError, NotFoundError, UnavailableError) as error:
        if isinstance(error, NotFoundError) and not _field_of(act, error):
            raise
        # Also when it cannot be told whether it was done: the form has its key still, and is done once at most.
        problems = {_field_of(act, error): in_doubt.said(error) or phrases.of_error(error, subject.wallet)}
        return _form(act, subject, values, form[_KEY], problems, problem_of(error).status)
    return _check(act, subject, operation, found, values, form[_KEY])


def read_said(entries: Entries) -> Noted:
    """Read what every form has beside what it does: a note and a ticket."""
    return {
        "note": entries.read("note", entering.text_if_given()),
        "ticket": entries.read("ticket", entering.text_if_given()),
    }


def facts_of(operation: Operation) -> list[tuple[str, str]]:
    """Return what is said of an operation beside what it does, as lines of the check page."""
    given = (
        ("Reason", phrases.of_why(operation, service.list_reasons())),
        ("Note", operation.note),
        ("Ticket", operation.ticket),
    )
    return [(name, value) for name, value in given if value is not None]


def reasons(subject: Subject) -> list[tuple[str, str]]:
    """Return the reason codes that are in use, as options that say what each allows of the wallet's asset."""
    found = [one for one in service.list_reasons() if one.settings.is_active]
    return [(one.code, phrases.of_reason(one, subject.wallet)) for one in found]


def _check(
    act: Act[S], subject: S, operation: Operation, found: Weighed, values: Mapping[str, str], key: str
) -> Response:
    """Show what would happen, and what is to be minded."""
    button = act.button(subject, operation)
    before, after = act.changes(subject, operation, found)
    return pages.page(
        "check.html",
        title=act.title(subject),
        subject=subject,
        weighed=found,
        button=f"Ask to {button[0].lower()}{button[1:]}" if found.needs_approval else button,
        shown=act.facts(subject, operation),
        before=before,
        after=after,
        values=values,
        form_key=key,
        wallet=subject.wallet,
        back=subject.back,
    )


def _done(outcome: Posted | Asked) -> Response:
    """Lead to the page of what was done, or of what was asked for."""
    if isinstance(outcome, Posted):
        address = f"/console/transactions/{outcome.receipt.transaction.transaction_id}"
        return pages.go(address, note="sent-before" if outcome.is_replay else "done")
    address = f"/console/approvals/{outcome.request.request_id}"
    return pages.go(address, note="sent-before" if outcome.is_replay else "asked")


def _sent(subject: Subject, key: str) -> str | None:
    """Return the page of what came of the form, if it was sent before."""
    sent = service.find_sent(wallet_id=subject.wallet.wallet_id, key=key)
    if sent is None:
        return None
    if sent.transaction_id is not None:
        return f"/console/transactions/{sent.transaction_id}"
    return f"/console/approvals/{sent.request_id}"


def _form(
    act: Act[S],
    subject: S,
    values: Mapping[str, str],
    key: str,
    problems: Mapping[str, str] | None = None,
    status: int = 422,
    **more: object,
) -> Response:
    """Return the form's page, filled in; with problems, it says what is wrong and where."""
    return pages.page(
        act.template,
        status if problems else 200,
        title=act.title(subject),
        values=values,
        problems=problems or {},
        # What the page's title says first.
        error=bool(problems),
        form_key=key,
        wallet=subject.wallet,
        back=subject.back,
        **more,
        **act.context(subject),
    )


def _mismatch(act: Act[S], subject: S, values: Mapping[str, str], given: str, key: str) -> Response:
    """Say that the form was sent before with other entries, and lead to what came of it and to a new form."""
    problem = (
        "This form was sent before, with other entries. What was done then stays as it is, and now nothing was done."
    )
    return _form(act, subject, values, given, {"": problem}, 409, done=_sent(subject, key))


def _field_of(act: Act[S], error: WalletServiceError) -> str:
    """Return the field that the error is about, "" if it is about none of the form's."""
    named = getattr(error, "field", None) or act.field_of.get(error.code, "")
    return named if named in act.fields else ""


def _purpose(act: Act[S], subject: S) -> str:
    return f"{act.name} {subject.about}"
