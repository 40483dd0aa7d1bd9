"""In a real browser: people sign in by keyboard, on a phone, in the dark, without JavaScript, and with a passkey.

Screenshots lie in .cache/screenshots afterwards, to be looked at.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from sqlalchemy.engine import URL

from tests.api.conftest import ROOT, free_port, wait_until_healthy
from tests.conftest import run_sql
from wallet_app import dev_operators

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A page may take long on a machine that does other things, too; what is waited for is what it says, and not the time.
expect.set_options(timeout=20_000)

SHOTS = ROOT / ".cache" / "screenshots"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Site:
    """A service in a process of its own, with an operator for each role."""

    url: str
    environment: dict[str, str]
    passwords: dict[str, str]
    used: set[tuple[str, str]] = field(default_factory=set)

    def flask(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "wallet", "operators", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def code(self, email: str) -> str:
        """Return a code that was not used yet: each is good once, so for a second one the next half minute comes."""
        while (found := (email, self.flask("code", email).strip())) in self.used:
            time.sleep(1)
        self.used.add(found)
        return found[1]


@pytest.fixture(scope="module")
def site(server: URL, template: str) -> Iterator[Site]:
    url = server.set(database=f"wallet_test_{secrets.token_hex(6)}", drivername="postgresql")
    run_sql(server, f"CREATE DATABASE {url.database} TEMPLATE {template}")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="wallet-site-"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WALLET_", "DATABASE_"))},
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WALLET_DATA_DIR": str(folder),
        "WALLET_RATE_LIMIT": "",
    }
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "serve.py"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(process, port, log)
        # By its name: browsers keep the cookies of http://localhost, and not of 127.0.0.1.
        yield Site(f"http://localhost:{port}", environment, dev_operators.passwords(folder))
        assert '"level":"error"' not in log.read_text()
    finally:
        process.terminate()
        process.wait(30)
        run_sql(server, f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        message = "there is no chromium, so the console was not tried in a browser"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, site: Site) -> Iterator[BrowserContext]:
    opened = chromium.new_context(base_url=site.url, viewport={"width": 1280, "height": 800})
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page in which nothing may go wrong: no error of a script, nothing that the content policy has to stop."""
    faults: list[str] = []

    def look(message: ConsoleMessage) -> None:
        # A refused form's status is no fault.
        if message.type == "error" and "the server responded with a status of 4" not in message.text:
            faults.append(message.text)

    opened = context.new_page()
    opened.on("console", look)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    assert faults == []


def look_at(page: Page, name: str) -> None:
    """Have axe judge the page, light and dark, wide and narrow, and take its picture."""
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") == width, f"{name} scrolls sideways at {width}"
            if (width, scheme) in {(1280, "dark"), (360, "light")}:
                continue  # Axe sees each width and each scheme once; both at once tell it nothing more.
            found = Axe().run(page)
            assert found.violations_count == 0, f"{name}, {width}, {scheme}: {found.generate_report()}"
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")


def enter_password(page: Page, site: Site, email: str) -> None:
    page.goto("/console")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(site.passwords[email])
    page.get_by_role("button", name="Continue").click()


def sign_in(page: Page, site: Site, email: str) -> None:
    enter_password(page, site, email)
    page.get_by_label("Code").fill(site.code(email))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Hello, "))


def test_password_and_code_and_every_page_on_the_way(page: Page, site: Site) -> None:
    email = "support@localhost"
    page.goto("/console")
    expect(page).to_have_title("Sign in \u2013 Dino Wallet")
    look_at(page, "sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_title("Error: Sign in \u2013 Dino Wallet")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong.")
    expect(page.get_by_label("E-mail address")).to_have_value(email)
    expect(page.get_by_label("Password")).to_have_value("")
    look_at(page, "sign-in-error")
    page.get_by_label("Password").fill(site.passwords[email])
    page.get_by_role("button", name="Continue").click()
    look_at(page, "code")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Code")).to_have_accessible_description(re.compile("The code is wrong"))
    look_at(page, "code-error")
    page.get_by_role("link", name="Use a recovery code").click()
    look_at(page, "recovery")
    page.get_by_role("link", name="Back to the code of your app").click()
    page.get_by_label("Code").fill(site.code(email))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Support of this machine")
    look_at(page, "home")
    page.get_by_role("link", name="Your sign-in").click()
    look_at(page, "account")
    page.get_by_role("link", name="Change your password").click()
    look_at(page, "password")
    page.goto("/console/patterns")
    page.locator("summary", has_text="The numbers").first.click()
    look_at(page, "patterns")
    page.goto("/console/account/recovery-codes")
    look_at(page, "new-recovery-codes")
    page.get_by_role("button", name="Make ten new codes").click()
    expect(page.locator("li code")).to_have_count(10)
    look_at(page, "recovery-codes")
    page.goto("/console/confirm?next=/console/account")
    look_at(page, "confirm")
    page.goto("/console/nothing")
    look_at(page, "not-found")
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("status").first).to_have_text("You are signed out.")
    look_at(page, "signed-out")
    page.goto("/console/account")
    expect(page).to_have_url(re.compile(r"/console/sign-in\?next=/console/account$"))


def test_a_wallet_is_looked_through_explained_and_printed(page: Page, site: Site) -> None:
    sign_in(page, site, "approver@localhost")
    page.goto("/console/users/2")
    look_at(page, "user")
    page.get_by_role("row", name="GOLD").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Wallet 3")
    look_at(page, "wallet")
    page.get_by_role("table", name="What happened to wallet 3").get_by_role("link").first.click()
    expect(page.get_by_text("Verified", exact=True)).to_be_visible()
    look_at(page, "transaction")
    page.go_back()
    page.get_by_label("At least").fill("1.5")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("At least")).to_have_accessible_description(re.compile("no places behind the point"))
    look_at(page, "wallet-wrong-filter")
    page.get_by_label("At least").fill("1")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("This is a part of the timeline.")).to_be_visible()
    look_at(page, "wallet-part")
    page.get_by_role("link", name="the wallet's page").click()
    expect(page.get_by_role("img", name="Balance over time")).to_be_visible()
    page.get_by_role("link", name="Explain this balance").click()
    expect(page.get_by_text(re.compile("^Wallet 3 .* before its first entry"))).to_be_visible()
    look_at(page, "explain")
    page.get_by_role("link", name="Statement").click()
    look_at(page, "statement")
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Show")).to_be_hidden()
    expect(page.get_by_role("navigation")).to_have_count(0)
    expect(
        page.get_by_role("cell", name="Closing balance").or_(page.get_by_role("rowheader", name="Closing"))
    ).to_be_visible()
    page.screenshot(path=SHOTS / "statement-print.png", full_page=True)
    page.emulate_media(media="screen")
    for path, name in (("/console/wallets/1", "system-wallet"), ("/console/wallets/999", "no-wallet")):
        page.goto(path)
        look_at(page, name)
    # The key that leads to the search can be turned off.
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.goto("/console/account")
    page.get_by_label("The key").uncheck()
    page.goto("/console/wallets/3")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).not_to_be_focused()


def test_a_passkey_of_a_virtual_authenticator(page: Page, context: BrowserContext, site: Site) -> None:
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    authenticator = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    sign_in(page, site, "admin@localhost")
    page.get_by_role("link", name="Add a passkey").click()
    look_at(page, "new-passkey")
    page.get_by_label("Name").fill("Work laptop")
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_role("status").first).to_contain_text("The passkey is added")
    expect(page.get_by_role("row", name="Work laptop")).to_contain_text("never")
    look_at(page, "account-with-passkey")
    # The device has it already.
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Name").fill("Twice")
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_role("status").last).to_have_text("This device has a passkey of yours already.")

    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Admin of this machine")
    page.goto("/console/confirm?next=/console/account")
    look_at(page, "confirm-with-passkey")
    page.get_by_role("button", name="Confirm with a passkey").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your sign-in")

    # Whoever has the device and cannot unlock it gets nowhere, and is told so.
    page.get_by_role("button", name="Sign out", exact=True).click()
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.locator(".passkey-status")).to_contain_text("did not answer")
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()


def test_an_operator_sets_up_from_the_printed_code(page: Page, site: Site) -> None:
    said = site.flask("create", "new@localhost", "--name", "Nora New", "--role", "approver")
    code = re.search(r"Set-up code {2}(\S+)", said)
    address = re.search(r"To enter at {2}(\S+)", said)
    assert code is not None
    assert address is not None
    page.goto(address[1])
    look_at(page, "set-up")
    page.get_by_label("E-mail address").fill("new@localhost")
    page.get_by_label("Set-up code").fill(code[1])
    page.get_by_label("New password").fill("password1234")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("New password")).to_have_accessible_description(re.compile("too easily guessed"))
    look_at(page, "set-up-error")
    page.get_by_label("Set-up code").fill(code[1])
    page.get_by_label("New password").fill("seven purple trains at dawn")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    look_at(page, "set-up-app")
    secret = page.locator("code.secret").inner_text().replace(" ", "")
    page.get_by_label("Code", exact=True).fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Finish").click()
    expect(page.locator("li code")).to_have_count(10)
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Nora New")


def test_an_administrator_walks_through_the_administration(page: Page, site: Site) -> None:
    sign_in(page, site, "admin@localhost")
    button, link = partial(page.get_by_role, "button"), partial(page.get_by_role, "link")
    page.get_by_role("link", name="API keys").first.click()
    look_at(page, "keys")
    link(name="Make a key").click()
    page.get_by_label("Client").fill("shop")
    button(name="Continue").click()
    expect(page.get_by_role("group", name="What it may do")).to_have_accessible_description(re.compile("name at least"))
    look_at(page, "key-new-error")
    page.get_by_label("wallets:read").check()
    page.get_by_label("wallets:spend").check()
    page.get_by_label("Largest amount").fill("5000")
    page.get_by_label("Reason").fill("The shop opens")
    button(name="Continue").click()
    look_at(page, "key-check")
    link(name="Change something").click()
    expect(page.get_by_label("Largest amount")).to_have_value("5000")
    expect(page.get_by_label("wallets:spend")).to_be_checked()
    button(name="Continue").click()
    button(name="Make the key for shop").dblclick()
    key = page.locator(".secret-shown code")
    expect(key).to_have_text(re.compile("^dino_dev_"))
    shown = key.inner_text()
    page.reload()
    expect(key).to_have_text(shown)
    look_at(page, "key-made")
    link(name="I have kept it").click()
    look_at(page, "key")
    link(name="Replace it").click()
    look_at(page, "key-rotate")
    link(name="Keep this one").click()
    link(name="Revoke it").click()
    look_at(page, "key-revoke")

    page.goto("/console/operators")
    look_at(page, "operators")
    page.goto("/console/operators/roles")
    look_at(page, "operator-roles")
    page.goto("/console/operators/new")
    page.get_by_label("E-mail address").fill("otto@localhost")
    page.get_by_label("Name").fill("Otto Operator")
    page.get_by_label("support").check()
    look_at(page, "operator-new")
    button(name="Continue").click()
    look_at(page, "operator-check")
    button(name="Make Otto Operator a support").dblclick()
    expect(page.locator(".secret-shown code")).to_have_text(re.compile("^[A-Z2-9]{5}-"))
    look_at(page, "operator-code")
    link(name="I have it").click()
    link(name="Otto Operator").click()
    look_at(page, "operator")
    link(name="Change the role").click()
    page.get_by_label("approver").check()
    page.get_by_label("Reason").fill("Otto leads now")
    look_at(page, "operator-role")
    button(name="Continue").click()
    look_at(page, "operator-role-check")
    button(name="Make Otto Operator an approver").click()
    link(name="Reset the sign-in").click()
    look_at(page, "operator-reset")
    page.go_back()
    link(name="Disable").click()
    look_at(page, "operator-disable")

    page.goto("/console/assets")
    look_at(page, "assets")
    link(name="Make an asset").click()
    look_at(page, "asset-new")
    page.goto("/console/assets/GOLD")
    page.get_by_label("Scale").fill("2")
    button(name="Change GOLD").click()
    expect(page.get_by_label("Scale")).to_have_accessible_description(re.compile("there are entries"))
    look_at(page, "asset-error")
    page.goto("/console/reasons")
    look_at(page, "reasons")
    link(name="Make a reason code").click()
    page.get_by_label("Code", exact=True).fill("EVENT")
    page.get_by_label("Name", exact=True).fill("Event prize")
    page.get_by_label("At most at once").fill("1,00")
    page.get_by_label("Approval above", exact=True).fill("100")
    button(name="Make the reason code").click()
    expect(page.get_by_label("At most at once")).to_have_accessible_description(re.compile("in digits, like 1,000"))
    look_at(page, "reason-error")
    page.goto("/console/reasons/bounds?asset=GOLD")
    look_at(page, "day-bound")
    page.goto("/console/settings")
    look_at(page, "settings")

    page.goto("/console/switches/new")
    page.get_by_label("Everything").check()
    page.get_by_label("Reason").fill("Prices are wrong by a factor of a hundred")
    look_at(page, "switch-new")
    button(name="Continue").click()
    button(
        name="Stop debits and credits of everything"
    ).click()  # The browser asks for the word before anything is sent.
    page.get_by_label("Type the word").fill("nothing")
    button(name="Stop debits and credits of everything").click()
    expect(page.get_by_label("Type the word")).to_have_accessible_description(re.compile("Type the word everything"))
    look_at(page, "switch-check-error")
    page.get_by_label("Type the word").fill("everything")
    button(name="Stop debits and credits of everything").click()
    expect(page.get_by_role("complementary", name="Stopped")).to_contain_text("Prices are wrong")
    look_at(page, "switches")
    link(name="Lift").click()
    look_at(page, "switch-lift")
    page.get_by_label("Reason").fill("They are right again")
    button(name="Lift switch").click()
    expect(page.get_by_role("complementary", name="Stopped")).to_have_count(0)


def test_by_keyboard_alone(page: Page, site: Site) -> None:
    page.goto("/console")
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    keys.press("Enter")
    keys.press("Tab")
    expect(page.get_by_label("E-mail address")).to_be_focused()
    keys.type("viewer@localhost")
    keys.press("Tab")
    keys.type(site.passwords["viewer@localhost"])
    keys.press("Enter")
    expect(page.get_by_label("Code")).to_be_focused()
    keys.type(site.code("viewer@localhost"))
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Viewer of this machine")
    seen = []
    for _ in range(12):
        keys.press("Tab")
        seen.append(
            page.evaluate(
                "document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent.trim()"
            )
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", f"{seen[-1]} does not show that it has the focus"
        if seen[-1] == "Home":
            break
    in_order = ["Skip to the content", "Dino Wallet", "Your sign-in", "Sign out", "Home"]
    assert [each for each in seen if not each.startswith("Search")] == in_order
    keys.press("Shift+Tab")
    keys.press("Enter")
    expect(page.get_by_role("status").first).to_have_text("You are signed out.")


def test_without_javascript(chromium: Browser, site: Site) -> None:
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    enter_password(page, site, "finance@localhost")
    expect(page.get_by_role("button", name="Use a passkey instead")).to_be_hidden()
    page.get_by_label("Code").fill(site.code("finance@localhost"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Finance of this machine")
    page.get_by_role("link", name="Your sign-in").click()
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_text("You are signed out everywhere.")).to_be_visible()
    context.close()


class _Evil(BaseHTTPRequestHandler):
    """A page of another site, which sends a form of ours as soon as it is opened."""

    target = ""

    def do_GET(self) -> None:
        body = f"""<form method="post" action="{self.target}"></form><script>document.forms[0].submit()</script>"""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_who_clicks_twice_is_signed_in(page: Page, site: Site) -> None:
    """The second click would throw away the answer that has the session."""
    email = "viewer@localhost"
    page.goto("/console")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(site.passwords[email])
    page.get_by_role("button", name="Continue").dblclick()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in").dblclick()
    expect(page).to_have_title("Error: Enter your code \u2013 Dino Wallet")
    expect(page.get_by_label("Code")).to_be_focused()
    page.get_by_label("Code").fill(site.code(email))
    page.get_by_role("button", name="Sign in").dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Hello, "))


def test_another_sites_form_is_refused_while_the_operator_is_signed_in(page: Page, site: Site) -> None:
    sign_in(page, site, "approver@localhost")
    handler = type("Evil", (_Evil,), {"target": f"{site.url}/console/sign-out"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        elsewhere = page.context.new_page()
        # Another port of the same host: its cookies are sent along, because that is the same site to a browser.
        elsewhere.goto(f"http://localhost:{server.server_port}/")
        expect(elsewhere.get_by_role("heading", level=1)).to_have_text("This form is not from here, or out of date")
        look_at(elsewhere, "foreign-form")
        server.shutdown()
    page.goto("/console")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Hello, "))
