"""Requests for approval: the list of them, and each with what it would do, what has drifted, and who may decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlencode

from flask import Response, request
from werkzeug.exceptions import NotFound

from wallet_app import service
from wallet_app.console import browser, exports, pages, requests
from wallet_app.console.screens import screen
from wallet_app.fields import ID_MAX
from wallet_app.service import RequestFilters

STATUSES = {
    "pending": "Waiting",
    "approved": "Approved",
    "rejected": "Rejected",
    "withdrawn": "Withdrawn",
    "expired": "Expired",
    "failed": "Failed",
    "all": "All",
}
"""The tabs of the list, by what stands in the address."""
MAKERS = (("", "Anybody"), ("me", "Me"), ("others", "Others"))
PAGE = 50

_FILTERS = ("status", "maker", "wallet", "ticket")


@screen("GET", "/approvals", permission="approvals:read")
def approvals() -> Response:
    """List what was asked for: what waits first."""
    given = _given()
    filters, problems = _filters(given)
    before = request.args.get("before", "")
    page = None
    if not problems:
        page = service.list_requests(filters, before_id=_number(before), limit=PAGE)
    following = None if page is None or page.following is None else page.following[0]
    return pages.page(
        "approvals.html",
        422 if problems else 200,
        given=given,
        problems=problems,
        error=bool(problems),
        requests=[] if page is None else [(one, requests.in_words(one)) for one in page.items],
        tabs=[(name, label, _address(given | {"status": name})) for name, label in STATUSES.items()],
        makers=MAKERS,
        next_url=None if following is None else _address(given, before=following),
        first_url=_address(given) if before else None,
        csv_url=_address(given, form=".csv"),
        json_url=_address(given, form=".json"),
    )


@screen("GET", f"/approvals.<{exports.FORMS}:form>", permission="reports:export")
def approvals_file(form: str) -> Response:
    """The same list as a file."""
    given = _given()
    filters, problems = _filters(given)
    if problems:
        raise NotFound
    return exports.export(form, "approvals", requests.COLUMNS, _rows(filters), filters=given)


@screen("GET", "/approvals/<int:request_id>", permission="approvals:own")
def approval(request_id: int) -> Response:
    """Show a request: what was asked for, why it needs approval, what it would do now, and what became of it."""
    if request_id > ID_MAX:
        raise NotFound
    found = service.get_request(browser.session(), request_id, visitor=browser.visitor())
    return pages.page("approval.html", **requests.context(found))


def _given() -> dict[str, str]:
    # What nobody can have typed is in no ticket, and the database takes no NUL.
    given = {name: "".join(filter(str.isprintable, request.args.get(name, ""))).strip()[:200] for name in _FILTERS}
    given["status"] = given["status"] or "pending"
    return given


def _filters(given: Mapping[str, str]) -> tuple[RequestFilters, dict[str, str]]:
    """Return what the address narrows the list to, and what is wrong with it."""
    problems = {}
    if given["status"] not in STATUSES:
        problems["status"] = "There is no such status."
    wallet_id = _number(given["wallet"])
    if given["wallet"] and wallet_id is None:
        problems["wallet"] = "Enter the number of a wallet, like 42."
    own = browser.session().operator_id
    filters = RequestFilters(
        status=None if given["status"] == "all" else given["status"],
        maker_id=own if given["maker"] == "me" else None,
        not_made_by=own if given["maker"] == "others" else None,
        wallet_id=wallet_id,
        ticket=given["ticket"] or None,
    )
    return filters, problems


def _address(given: Mapping[str, str], *, before: int | None = None, form: str = "") -> str:
    query = {name: value for name, value in given.items() if value}
    if before is not None:
        query["before"] = str(before)
    return f"/console/approvals{form}?{urlencode(query)}"


def _rows(filters: RequestFilters) -> Iterator[Sequence[object]]:
    before = None
    while True:
        page = service.list_requests(filters, before_id=before)
        for one in page.items:
            yield requests.row(one)
        if page.following is None:
            return
        before = page.following[0]


def _number(value: str) -> int | None:
    digits = value[:20]
    return int(digits) if digits.isascii() and digits.isdigit() and 1 <= int(digits) <= ID_MAX else None
