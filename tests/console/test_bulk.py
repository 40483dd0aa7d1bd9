"""Bulk runs in the console: a file with problems is mended, approved by another operator, worked off, and undone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.console.conftest import Browser, Sql, audited, text_of
from tests.console.test_acts import ADJUST, open_form, send
from tests.console.test_search import statements
from wallet_app import service
from wallet_app.service import bulk_running

HEADER = "row_ref;user_id;amount;note"
FORM = {
    "campaign": "Outage 2026",
    "asset": "GOLD",
    "direction": "credit",
    "reason_code": "COMPENSATION",
    "ticket": "T-1",
}


def upload(browser: Browser, text: str | bytes, **changes: Any) -> TestResponse:
    content = text.encode() if isinstance(text, str) else text
    return browser.post("/console/bulk/new", {**FORM, "file": (io.BytesIO(content), "rows.csv"), **changes})


def work_off() -> int:
    return bulk_running.work_off(lambda: False)


def seen_on(page: TestResponse) -> str:
    found = re.search(r'name="seen" value="([^"]+)"', page.get_data(as_text=True))
    assert found is not None
    return found[1]


def test_a_file_is_mended_approved_posted_and_undone(app: Flask, browsers: Callable[..., Browser], sql: Sql) -> None:
    support, approver, viewer = (
        browsers().sign_in("support"),
        browsers().sign_in("approver"),
        browsers().sign_in("viewer"),
    )
    assert support.get("/console/bulk/new").status_code == 200
    assert support.get("/console/bulk/template.csv").get_data(as_text=True).startswith("row_ref,user_id,external_id")

    bad = f"{HEADER}\na;2;1e3;x\nb;2;5;=HYPERLINK(1)\nc;99;5;x\nd;3;;x\n"
    answer = upload(support, bad)
    said = text_of(answer)
    assert answer.status_code == 422
    assert "<title>Error: " in said
    assert "3 rows have problems" in said
    assert "There is a problem with rows.csv" in said
    assert "read with a semicolon" in said
    wrong = r'<td[^>]*><bdi>1e3</bdi> <span class="wrong-cell">A spreadsheet has rewritten'
    assert re.search(rf'<th scope="row">2</th>.*?{wrong}', said, re.S)
    assert 'value="Outage 2026"' in said, "what was entered stays"
    assert service.list_bulk_runs().items == []

    good = bad.replace("1e3", "1000").replace("c;99", "c;3").replace("d;3;;", "d;3;7;")
    answer = upload(support, good)
    assert (answer.status_code, answer.location) == (303, "/console/bulk/1?note=bulk-drafted"), text_of(answer)
    again = upload(support, good, campaign="another")
    assert again.status_code == 409
    assert 'href="/console/bulk/1"' in text_of(again)
    page = text_of(support.get("/console/bulk/1"))
    assert "Ask for approval: credit 1,017 GOLD in 4 rows" in page
    assert "outage-2026" in page
    assert "2 of them by several rows" in page

    for _ in range(2):
        assert support.post("/console/bulk/1/ask").status_code == 303
    assert len(sql("SELECT id FROM approval_requests")) == 1
    own = text_of(support.get("/console/bulk/1"))
    assert "It is your own" in own
    assert "Approve:" not in own
    asked = text_of(approver.get("/console/approvals/1"))
    assert "Look at its rows, and approve" in asked
    assert "Post the rows of run 1, outage-2026: credit 1,017 GOLD in 4 rows" in text_of(
        approver.get("/console/approvals")
    )
    assert approver.get("/console/approvals/1/approve").location == "/console/bulk/1"
    assert approver.get("/console/approvals/1/reject").status_code == 200
    page = approver.get("/console/bulk/1")
    assert "Approve: credit 1,017 GOLD in 4 rows" in text_of(page)
    for browser in (support, viewer):
        assert browser.post("/console/bulk/1/approve", {"seen": seen_on(page)}).status_code == 403
    drifted = approver.post("/console/bulk/1/approve", {"seen": "x", "comment": ""})
    assert drifted.status_code == 412
    assert "no longer what you saw" in text_of(drifted)
    for _ in range(2):
        assert approver.post("/console/bulk/1/approve", {"seen": seen_on(page), "comment": "fine"}).status_code == 303

    running = viewer.get("/console/bulk/1")
    assert running.headers["Refresh"] == "5"
    assert "0 of 4 rows" in text_of(running)
    assert work_off() == 4
    done = text_of(viewer.get("/console/bulk/1"))
    assert "Completed" in done
    assert "Refresh" not in viewer.get("/console/bulk/1").headers
    assert service.get_wallet(3).balance == 500 + 1005
    late = support.post("/console/bulk/1/stop")
    assert late.status_code == 409
    assert "Run 1 is completed: it cannot be stopped now" in text_of(late)

    assert viewer.get("/console/bulk/1/result.csv").status_code == 403
    result = support.get("/console/bulk/1/result.csv")
    rows = list(csv.DictReader(io.StringIO(result.get_data(as_text=True))))
    assert [(row["row"], row["status"], row["amount"], row["moved"]) for row in rows][:2] == [
        ("2", "done", "1000", "1000"),
        ("3", "done", "5", "5"),
    ]
    assert rows[1]["note"] == "'=HYPERLINK(1)", "no spreadsheet takes it for a formula"
    assert rows[0]["balance_after"] == "1500"

    assert support.get("/console/bulk/1/undo").status_code == 200
    refused = support.post("/console/bulk/1/undo", {"on_shortfall": "refuse", "reason_code": "FRAUD", "reason": ""})
    assert refused.status_code == 422
    assert "Say why." in text_of(refused)
    undo = {"on_shortfall": "partial", "reason_code": "FRAUD", "reason": "The wrong file", "ticket": "T-2"}
    for _ in range(2):
        assert support.post("/console/bulk/1/undo", undo).location == "/console/bulk/2"
    for other in ({"on_shortfall": "debt"}, {"reason_code": "GOODWILL"}, {"reason": "Another"}, {"ticket": "T-3"}):
        answer = support.post("/console/bulk/1/undo", undo | other)
        assert answer.location == "/console/bulk/2?note=undo-on-its-way", other
    assert "An undo is on its way already" in text_of(support.get(str(answer.location)))
    support.post("/console/bulk/2/ask")
    seen = seen_on(approver.get("/console/bulk/2"))
    approver.post("/console/bulk/2/approve", {"seen": seen, "comment": ""})
    assert work_off() == 4
    assert service.get_wallet(3).balance == 500
    assert "Undone by" in text_of(viewer.get("/console/bulk/1"))
    acts = [
        (action, outcome)
        for _, action, outcome in audited(sql)
        if action.split(":")[0] in ("bulk", "approval", "export")
    ]
    wanted = {
        ("bulk:draft", "failed"),
        ("bulk:draft", "done"),
        ("bulk:check", "done"),
        ("bulk:ask", "done"),
        ("approval:approve", "failed"),
        ("approval:approve", "done"),
        ("bulk:end", "done"),
        ("bulk:results", "denied"),
        ("export:begin", "done"),
        ("export:end", "done"),
    }
    assert set(acts) == wanted
    assert acts.count(("approval:approve", "done")) == 2
    assert service.erase_user(2, by=service.By(actor="tests"))
    assert {row.note for row in service.walk_bulk_rows(1) if row.user_id == 2} == {None}
    assert service.verify(full=True).broken() == set()


def test_uploads_are_bounded_and_only_from_our_own_page(app: Flask, browsers: Callable[..., Browser]) -> None:
    support, viewer = browsers().sign_in("support"), browsers().sign_in("viewer")
    good = f"{HEADER}\na;2;5;x\n"
    assert upload(viewer, good).status_code == 403
    form = {**FORM, "file": (io.BytesIO(good.encode()), "rows.csv")}
    assert support.post("/console/bulk/new", form, token="0" * 64).status_code == 403
    form["file"] = (io.BytesIO(good.encode()), "rows.csv")
    assert support.post("/console/bulk/new", form, Origin="https://elsewhere.example").status_code == 403
    assert support.post("/console/account/sessions/end", {"x": (io.BytesIO(b"x"), "x")}).status_code == 415
    large = upload(support, HEADER.encode() + b"\n" + b"a;2;5;x\n" * 700_000)
    assert large.status_code == 413
    assert "larger than the 5,184 KiB" in text_of(large)
    assert upload(support, HEADER.encode() + b"\n" + b"a;2;5;x\n" * 653_000).status_code == 422
    assert upload(support, good, ticket="x" * 300_000).status_code == 413
    assert support.post("/console/bulk/new", FORM).status_code == 422
    both = {**FORM, "file": (io.BytesIO(b"x"), "rows.csv"), "other": (io.BytesIO(b"x"), "rows.csv")}
    assert support.post("/console/bulk/new", both).status_code == 422
    for changes, words in (
        ({"campaign": "!"}, "A campaign has"),
        ({"direction": ""}, "lacks direction"),
        ({"file": (io.BytesIO(b""), "")}, "Choose a file."),
        ({"file": (io.BytesIO(good.encode("utf-16")), "rows.csv")}, "UTF-16"),
    ):
        answer = upload(support, good, **changes)
        assert (answer.status_code, words in text_of(answer)) == (422, True), words
    assert service.list_bulk_runs().items == []


def test_a_file_that_is_not_utf8_or_has_other_line_ends_is_told_so(
    app: Flask, browsers: Callable[..., Browser]
) -> None:
    support = browsers().sign_in("support")
    for row in (b"3,1,caf\xe9", b"3,1,caf\xe9,\xff", b"\xe9,1,x", b"3,\xe9,x"):
        answer = upload(support, b"wallet_id,amount,note\n" + row + b"\n")
        assert answer.status_code == 422, row
        assert re.search("not UTF-8|has 4 cells", text_of(answer)), row
    answer = upload(support, b"wallet_id,amount,note\n3,1,caf\xe9\n,,\n")
    assert '<td data-label="note"><bdi>caf?</bdi></td>' in text_of(answer)
    assert "between the cells, 1 row, and 1 empty one left out" in text_of(answer)
    for text in (b"wallet_id,amount\r3,1\r3,2\r", b"wallet_id,amount\n3,1\r3,2\r"):
        answer = upload(support, text)
        assert answer.status_code == 422
        assert "has CR alone as a line end: save the file with LF or CR LF" in text_of(answer)
    assert service.list_bulk_runs().items == []


def test_a_page_of_a_run_takes_the_same_number_of_statements_for_any_run(
    app: Flask, browsers: Callable[..., Browser]
) -> None:
    support = browsers().sign_in("support")
    counts = []
    for rows in (1, 400):
        text = HEADER + "".join(f"\nr{n};{2 + n % 2};{n + 1};x" for n in range(rows))
        answer = upload(support, text, campaign=f"count-{rows}")
        path = str(answer.location).split("?")[0]
        for at in (path, "/console/bulk"):
            with statements() as asked:
                support.get(at)
            counts.append(len(asked))
    assert counts[:2] == counts[2:]
    assert counts[0] < 20


def test_what_waits_and_what_was_done_lately_is_said_before_it_is_posted(
    app: Flask, browsers: Callable[..., Browser], sql: Sql
) -> None:
    support, approver = browsers().sign_in("support"), browsers().sign_in("approver")
    little = {"direction": "credit", "amount": "20", "reason_code": "CORRECTION", "ticket": "T-1", "note": "Sorry"}
    done = send(support, ADJUST, "do", open_form(support, ADJUST), **little)
    assert "/transactions/" in done.location
    # The same amount to another wallet, another amount, and the other direction: none of them is the very same.
    rows = ("a;2;x;20;credit", "b;3;x;20;credit", "c;2;x;21;credit", "d;2;x;20;debit")
    file = "\n".join(("row_ref;user_id;note;amount;direction", *rows, ""))
    answer = upload(support, file, reason_code="CORRECTION")
    assert answer.location == "/console/bulk/1?note=bulk-drafted", text_of(answer)
    page = text_of(support.get("/console/bulk/1"))
    assert "The very same was done lately for 1 of these rows" in page
    assert re.findall(r"Row (\d+): <a href=\"([^\"]+)\"", page) == [("2", done.location.partition("?")[0])]
    assert "run 1, outage-2026" not in text_of(support.get("/console/wallets/3")), "nobody was asked yet"
    support.post("/console/bulk/1/ask")
    for wallet_id, is_told in ((3, True), (5, True), (4, False)):
        told = text_of(approver.get(f"/console/wallets/{wallet_id}"))
        assert ('href="/console/approvals/1">Post the rows of run 1, outage-2026' in told) is is_told, wallet_id
    # Whose maker is gone, that nobody can approve: the page says so, and has no such button.
    assert ">Approve:" in text_of(approver.get("/console/bulk/1"))
    service.disable_operator("support@wallet.example", by=service.By(actor="test"))
    page = text_of(approver.get("/console/bulk/1"))
    assert "is disabled: it cannot be approved any more, only rejected" in page
    assert ">Approve:" not in page
    assert 'href="/console/approvals/1/reject"' in page
    assert "is disabled" in text_of(approver.get("/console/approvals/1"))
    assert "Look at its rows, and approve" not in text_of(approver.get("/console/approvals/1"))
