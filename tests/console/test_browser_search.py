"""In a real browser: the search by keyboard, its pages, and the list of all transactions, judged by axe.

Screenshots lie in .cache/screenshots afterwards.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.console.test_browser import Site, chromium, context, look_at, page, sign_in, site  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def search(page: Page, asked: str) -> None:  # noqa: F811
    """By keyboard alone."""
    page.locator("body").press("/")
    field = page.get_by_role("searchbox")
    expect(field).to_be_focused()
    field.fill(asked)
    field.press("Enter")


def test_searching_and_narrowing(page: Page, site: Site) -> None:  # noqa: F811
    sign_in(page, site, "finance@localhost")
    search(page, "jOHN")
    expect(page).to_have_url(re.compile("/console/users/2$"))
    search(page, "3")
    expect(page.get_by_role("table", name="Users")).to_be_visible()
    expect(page.get_by_role("table", name="Wallets")).to_be_visible()
    look_at(page, "search")
    search(page, "sys:seed")
    expect(page.get_by_role("table", name="Transactions")).to_contain_text("Seeded balance")
    look_at(page, "search-transactions")
    search(page, "nobody at all")
    expect(page.get_by_text("Nothing was found.")).to_be_visible()
    look_at(page, "search-nothing")
    page.get_by_role("link", name="Transactions", exact=True).first.click()
    look_at(page, "transactions")
    page.locator("#kind").select_option("SEED")
    page.locator("#wallet").fill("3")
    page.locator("#least").fill("500")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/console/transactions\?kind=SEED&.*wallet=3"))
    rows = page.get_by_role("row")
    expect(rows).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "transactions.csv"
    page.locator("#actor").fill("key:nobody")
    page.locator("#wallet").fill("")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_title(re.compile("^Error: Transactions"))
    expect(page.get_by_role("alert")).to_contain_text("in at most 31 days")
    look_at(page, "transactions-error")
