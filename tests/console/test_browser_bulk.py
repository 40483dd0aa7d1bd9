"""In a real browser: a file with 3 bad rows is mended, approved by another, worked off, taken along and undone.

Without JavaScript with 5,000 rows; then a short one, whose pages axe judges. Screenshots lie in .cache/screenshots.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.engine import make_url

from tests.conftest import conninfo
from tests.console.test_browser import Site, chromium, context, look_at, page, sign_in, site  # noqa: F401 - fixtures
from tests.console.test_browser_acts import Look, _unseen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKED_OFF_MS = 120_000


@contextmanager
def held(site: Site, run: str) -> Iterator[Future[None]]:  # noqa: F811
    """Keep the service's worker from the run as soon as that is approved; the future tells when it is held.

    It takes its first turn within a second, and may be done a second later.
    """
    url, run_id = make_url(site.environment["DATABASE_URL"]), run.rpartition("/")[2]
    with psycopg.connect(conninfo(url)) as connection, ThreadPoolExecutor(1) as beside:

        def hold() -> None:
            deadline = time.monotonic() + 60
            while not connection.execute(_HOLD, [run_id]).fetchall():
                connection.rollback()
                assert time.monotonic() < deadline
                time.sleep(0.005)

        yield beside.submit(hold)


_HOLD = "SELECT FROM bulk_runs WHERE id = %s AND state = 'running' FOR UPDATE"


def test_5000_rows_without_javascript(chromium: Browser, site: Site, tmp_path: Path) -> None:  # noqa: F811
    opened = [chromium.new_context(base_url=site.url, java_script_enabled=False) for _ in range(2)]
    support, approver = (each.new_page() for each in opened)
    sign_in(support, site, "support@localhost")
    sign_in(approver, site, "approver@localhost")
    walk(support, approver, site, tmp_path, rows=5_000, campaign="Outage of november", look=_unseen)
    for each in opened:
        each.close()


def test_the_pages_of_bulk_runs_by_axe(page: Page, chromium: Browser, site: Site, tmp_path: Path) -> None:  # noqa: F811
    other = chromium.new_context(base_url=site.url)
    approver = other.new_page()
    sign_in(page, site, "support@localhost")
    sign_in(approver, site, "approver@localhost")
    walk(page, approver, site, tmp_path, rows=1_500, campaign="short", look=look_at)
    other.close()


def walk(
    support: Page,
    approver: Page,
    site: Site,  # noqa: F811
    folder: Path,
    *,
    rows: int,
    campaign: str,
    look: Look,
) -> None:
    """Upload, mend, ask, approve, work off, take along, and undo."""
    lines = [f"{campaign} {n},{2 + n % 2},{1 + n % 3},Row {n}" for n in range(rows)]
    bad = list(lines)
    bad[0], bad[1], bad[9] = f"{campaign} 0,2,1e3,Row 0", f"{campaign} 1,99,5,Row 1", f"{campaign} 9,3,,=1+1"
    before = _balance(support)
    support.goto("/console/bulk")
    look(support, "bulk")
    support.get_by_role("link", name="Upload a file").click()
    look(support, "bulk-new")
    upload(support, folder, bad, campaign)
    expect(support).to_have_title(re.compile("^Error: Upload a file"))
    expect(support.get_by_role("alert")).to_contain_text("3 rows have problems, and nothing was kept of the file")
    expect(support.get_by_role("row", name=re.compile("^2 "))).to_contain_text(
        "A spreadsheet has rewritten this as 1e3"
    )
    expect(support.get_by_role("row", name=re.compile("^3 "))).to_contain_text("There is no user 99.")
    expect(support.get_by_role("row", name=re.compile("^11 "))).to_contain_text("The amount is missing.")
    look(support, "bulk-problems")
    upload(support, folder, lines, campaign)
    expect(support.get_by_role("status").first).to_contain_text("The file is checked, and has no problem.")
    look(support, "bulk-ready")
    run = support.url.partition("?")[0]
    upload_again(support, folder, campaign)
    expect(support.get_by_role("alert")).to_contain_text("This very file is run")
    support.get_by_role("link", name=re.compile("^Go to run ")).click()
    expect(support).to_have_url(run)
    support.get_by_role("button", name=re.compile("^Ask for approval: credit .* GOLD in ")).click()
    expect(support.get_by_text("It is your own: another operator has to decide on it.")).to_be_visible()
    look(support, "bulk-asked")

    approver.goto(run)
    approver.get_by_text("The largest rows").first.click()
    look(approver, "bulk-approve")
    approver.get_by_label("Comment").fill("As agreed in T-1")
    with held(site, run) as is_held:
        approver.get_by_role("button", name=re.compile(f"^Approve: credit .* GOLD in {rows:,} rows")).click()
        is_held.result()
        approver.goto(run)
        expect(approver.get_by_role("heading", level=2).first).to_have_text(re.compile(f"[0-9,]+ of {rows:,} rows"))
        if look is not _unseen:
            # It would load itself again, away under axe.
            approver.evaluate("window.stop()")
            look(approver, "bulk-running")
    approver.goto(run)
    # By itself: the page says so to the browser.
    expect(approver.get_by_role("heading", level=1)).to_contain_text("Completed", timeout=WORKED_OFF_MS)
    look(approver, "bulk-completed")
    gained = sum(int(line.split(",")[2]) for line in lines if line.split(",")[1] == "2")
    assert _balance(support) == before + gained

    support.goto(run)
    with support.expect_download() as taken:
        support.get_by_role("link", name="CSV", exact=True).click()
    result = list(csv.DictReader(taken.value.path().read_text().splitlines()))
    assert len(result) == rows
    assert {row["status"] for row in result} == {"done"}

    support.get_by_role("link", name="Undo this batch").click()
    look(support, "bulk-undo")
    support.get_by_label("Take what is there", exact=True).check()
    support.get_by_label("Reason code").select_option("FRAUD")
    support.get_by_label("Why").fill("It was another day")
    support.get_by_label("Ticket").fill("T-2")
    support.get_by_role("button", name="See what can be undone").click()
    expect(support.get_by_role("heading", level=1)).to_contain_text("Undo run")
    look(support, "bulk-undo-ready")
    undo = support.url
    support.get_by_role("button", name=re.compile("^Ask for approval: debit ")).click()
    approver.goto(undo)
    approver.get_by_role("button", name=re.compile("^Approve: debit ")).click()
    expect(approver.get_by_role("heading", level=1)).to_contain_text("Completed", timeout=WORKED_OFF_MS)
    assert _balance(support) == before
    support.goto("/console/bulk")
    look(support, "bulk-list")


def upload(page: Page, folder: Path, lines: list[str], campaign: str) -> None:  # noqa: F811
    (folder / "rows.csv").write_text("\n".join(["row_ref,user_id,amount,note", *lines, ""]))
    page.get_by_label("Campaign").fill(campaign)
    page.get_by_label("File", exact=True).set_input_files(folder / "rows.csv")
    page.get_by_label("Asset").select_option("GOLD")
    page.get_by_label("Direction").select_option("credit")
    page.get_by_label("Reason code").select_option("COMPENSATION")
    page.get_by_label("Ticket").fill("T-1")
    page.get_by_role("button", name="Check the file").click()


def upload_again(page: Page, folder: Path, campaign: str) -> None:  # noqa: F811
    lines = (folder / "rows.csv").read_text().splitlines()[1:]
    page.goto("/console/bulk/new")
    upload(page, folder, lines, f"{campaign} again")


def _balance(page: Page) -> int:  # noqa: F811
    """John's, as the wallet's page says it."""
    page.goto("/console/wallets/3")
    return int(page.locator("data.amount").first.get_attribute("value") or "")
