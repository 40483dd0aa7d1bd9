"""In a real browser, without JavaScript: an adjustment is done, another is asked for, refused to oneself, and approved.

Axe needs JavaScript, so it judges the same pages in a second walk. Screenshots lie in .cache/screenshots afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.test_browser import Site, chromium, context, look_at, page, sign_in, site  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Look = Callable[[Page, str], None]


def test_adjusting_and_approving_without_javascript(chromium: Browser, site: Site) -> None:  # noqa: F811
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)  # noqa: F811
    support = context.new_page()
    sign_in(support, site, "support@localhost")
    other = chromium.new_context(base_url=site.url, java_script_enabled=False)
    approver = other.new_page()
    sign_in(approver, site, "approver@localhost")
    walk(support, approver, look=_unseen)
    context.close()
    other.close()


def test_the_same_pages_by_axe(page: Page, chromium: Browser, site: Site) -> None:  # noqa: F811
    sign_in(page, site, "support@localhost")
    other = chromium.new_context(base_url=site.url)
    approver = other.new_page()
    sign_in(approver, site, "approver@localhost")
    walk(page, approver, look=look_at)
    for act in ("freeze", "unfreeze", "close", "transfer"):
        page.goto(f"/console/wallets/3/{act}")
        look_at(page, act)
    for act in ("freeze", "unfreeze"):
        page.goto(f"/console/wallets/3/{act}")
        page.get_by_label("Debits").check()
        page.get_by_label("Reason").fill("Chargeback")
        page.get_by_role("button", name="Continue to check").click()
        look_at(page, f"{act}-check")
        page.get_by_role("button", name=re.compile("^(Freeze|Unfreeze) debits")).click()
        expect(page.get_by_role("status").first).to_have_text("Done.")
    page.goto("/console/wallets/6/close")
    page.get_by_label("Reason").fill("Opened by mistake")
    page.get_by_role("button", name="Continue to check").click()
    expect(page.get_by_text("Somebody else must approve this")).to_be_visible()
    look_at(page, "close-check")
    page.goto("/console/wallets/3/transfer")
    page.get_by_label("To wallet").fill("5")
    choose(page, amount="30", reason="Correction")
    page.get_by_role("button", name="Continue to check").click()
    look_at(page, "transfer-check")
    page.get_by_role("button", name="Transfer 30 GOLD to wallet 5").click()
    page.get_by_role("link", name="Reverse").click()
    look_at(page, "reverse")
    hold(page, site)
    page.goto("/console/wallets/3")
    page.get_by_role("link", name="Release").click()
    look_at(page, "release")
    choose(page, reason="Correction")
    page.get_by_role("button", name="Continue to check").click()
    page.get_by_role("button", name="Release 40 GOLD to John").click()
    expect(page.get_by_role("status").first).to_have_text("Done.")
    other.close()


def hold(page: Page, site: Site) -> None:  # noqa: F811
    """Place a hold, as a service would."""
    key = (Path(site.environment["WALLET_DATA_DIR"]) / "secrets" / "api-key").read_text().strip()
    body = {"walletId": 3, "amount": 40, "referenceId": "hold-of-a-browser-test", "expiresIn": 3600}
    answer = page.request.post("/holds", data=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status == 201, answer.text()


def _unseen(*_: object) -> None:
    """Judge nothing."""


def walk(support: Page, approver: Page, *, look: Look) -> None:
    """Adjust below the threshold and above it, as two operators."""
    support.goto("/console/wallets/3/adjust")
    form = support.url
    look(support, "adjust")
    support.get_by_role("button", name="Continue to check").click()
    expect(support).to_have_title(re.compile("^Error: Adjust wallet 3"))
    expect(support.get_by_role("alert")).to_contain_text("Choose whether to credit or to debit.")
    look(support, "adjust-error")
    support.get_by_role("link", name="Enter an amount in digits").click()
    enter(support, amount="50", reason="Goodwill")
    support.get_by_role("button", name="Continue to check").click()
    look(support, "adjust-check")
    support.get_by_role("button", name="Change").click()
    expect(support.get_by_label("Amount in GOLD")).to_have_value("50")
    support.get_by_role("button", name="Continue to check").click()
    support.get_by_role("button", name="Credit 50 GOLD to John").click()
    expect(support).to_have_url(re.compile(r"/console/transactions/[0-9a-f-]{36}\?note=done$"))
    # Back, and back again: the form's address has its key, and leads on to what was done.
    done = support.url.partition("?")[0]
    support.goto(form)
    expect(support).to_have_url(f"{done}?note=sent-before")
    expect(support.get_by_role("status").first).to_contain_text("That form was sent before")

    support.goto("/console/wallets/3/adjust")
    enter(support, amount="1,000", reason="Compensation")
    support.get_by_role("button", name="Continue to check").click()
    expect(support.get_by_text("Somebody else must approve this")).to_be_visible()
    look(support, "adjust-check-approval")
    support.get_by_role("button", name="Ask to credit 1,000 GOLD to John").click()
    expect(support.get_by_role("status").first).to_contain_text("Asked for. Nothing has moved")
    expect(support.get_by_role("link", name="Approve")).to_have_count(0)
    expect(support.get_by_text("is your own: another operator has to decide on it")).to_be_visible()
    look(support, "request-own")
    request = support.url.partition("?")[0]
    assert support.goto(f"{request}/approve").status == 403  # type: ignore[union-attr]

    approver.goto("/console/approvals")
    look(approver, "approvals")
    approver.get_by_role("link", name=request.rpartition("/")[2], exact=True).click()
    look(approver, "request")
    approver.get_by_role("link", name="Reject").click()
    look(approver, "reject")
    approver.get_by_role("link", name="Cancel").click()
    approver.get_by_role("link", name="Approve", exact=True).click()
    look(approver, "approve")
    approver.get_by_role("button", name="Approve: Credit 1,000 GOLD to John").click()
    expect(approver.get_by_role("status").first).to_have_text("Approved and done.")
    expect(approver.get_by_text("Approved", exact=True)).to_be_visible()
    look(approver, "request-approved")
    support.goto(f"{request}/withdraw")
    expect(support).to_have_url(request)


def enter(page: Page, *, amount: str, reason: str) -> None:  # noqa: F811
    page.get_by_label("Credit: add to the balance").check()
    choose(page, amount=amount, reason=reason)
    page.get_by_label("Note").fill("Lost a sword in the crash")


def choose(page: Page, *, amount: str | None = None, reason: str) -> None:  # noqa: F811
    if amount is not None:
        page.get_by_label("Amount in GOLD").fill(amount)
    page.get_by_label("Note").fill("It was another wallet")
    reasons = page.get_by_label("Reason")
    option = reasons.locator("option", has_text=re.compile(f"^{reason} "))
    reasons.select_option(option.get_attribute("value"))
    page.get_by_label("Ticket").fill("T-17")
