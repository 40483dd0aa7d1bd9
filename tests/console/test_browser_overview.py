"""Home, integrity and audit in a real browser, with books that have a history, which the site's worker adds up."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.api.conftest import ROOT
from tests.console.test_browser import Site, chromium, context, look_at, page, sign_in, site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

__all__ = ["chromium", "context", "page", "site"]


@pytest.fixture
def history(site: Site) -> None:
    """Thirty users whose last ninety days the site's worker has to add up."""
    command = [sys.executable, "-m", "flask", "seed", "--users", "30"]
    subprocess.run(command, cwd=ROOT, env=site.environment, check=True, capture_output=True)


def until(page: Page, path: str, text: str) -> None:
    """Load the page again and again until it has the text."""
    for _ in range(240):
        page.goto(path)
        if page.get_by_text(text).count():
            return
        page.wait_for_timeout(500)
    pytest.fail(f"{path} never said {text!r}")


def test_finance_sees_the_economy_verifies_the_books_and_reads_the_log(page: Page, site: Site, history: None) -> None:
    sign_in(page, site, "finance@localhost")
    page.goto("/console/integrity")
    page.get_by_label("Everything").check()
    look_at(page, "integrity-start")
    page.get_by_role("button", name="Start verification").click()
    expect(page.get_by_role("status").first).to_contain_text("The verification is asked for.")
    until(page, "/console/integrity", "The books are right")
    look_at(page, "integrity")
    page.get_by_role("table", name="The last verifications").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Verification "))
    look_at(page, "verification")
    until(page, "/console?days=90", "Today")
    expect(page.get_by_text("Nothing at the moment.")).to_be_visible()
    look_at(page, "home-economy")
    with page.expect_download() as days:
        page.get_by_text("These days as").get_by_role("link", name="CSV").click()
    assert days.value.path().read_text().count("\n") == 1 + 90
    page.get_by_role("link", name="Diamonds").click()
    expect(page.get_by_role("heading", name="Diamonds by day")).to_be_visible()
    page.get_by_role("link", name="Reports").click()
    page.get_by_role("textbox", name="From").fill("2026-01-01")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text("Ties to the ledger: yes")).to_be_visible()
    look_at(page, "report")
    page.goto("/console/wallets/1")
    expect(page.get_by_role("heading", name="By day")).to_be_visible()
    look_at(page, "system-wallet")
    page.get_by_role("table", name="Days of wallet 1").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Entries")).to_be_visible()
    look_at(page, "system-day")
    page.get_by_role("link", name="Audit").first.click()
    page.get_by_label("Who").fill("finance@localhost")
    page.get_by_label("What", exact=True).select_option("verification:request")
    page.get_by_role("button", name="Show", exact=True).click()
    look_at(page, "audit")
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Audit record "))
    look_at(page, "audit-record")
    page.goto("/console/audit?from=yesterday")
    expect(page.get_by_label("From")).to_have_accessible_description(re.compile("Enter a day"))
    look_at(page, "audit-error")
