"""The console's sign-in under attack: storms of wrong passwords, and whether the time tells who has an account.

Runs after the kills of `make drill`, and alone as `python -m drill.sign_ins`; exits 1 if anything is not as it should
be. Clients come from many addresses of the loopback network, so nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, variance
from urllib.parse import urlencode

from drill.service import DrillError, Service
from wallet_app import create_app, dev_operators, devdb, service
from wallet_app.config import Settings
from wallet_app.db import close_connections

STORM = 1_000
AT_ONCE = 32
SAMPLES = 500
WELCH_T_MAX = 4.5
"""Beyond it two samples are no longer taken for the same; what is usual for looking for leaks in the time."""

OPERATORS = 125
"""So many that each is asked four times, which is below what begins to be slowed down."""

ACCOUNT_FREE, ADDRESS_FREE = 5, 20
SECONDS_MAX = 120
REFUSED, TOLD_TO_WAIT, ACCEPTED = 422, 429, 303

_PASSWORD = "a password of theirs"  # noqa: S105 - of nobody


class Client:
    """A browser at an address of its own, with the cookie and the token of a page."""

    def __init__(self, port: int, address: str) -> None:
        # By its name: without a setting the console believes no other, whoever asks from where.
        self.origin = f"http://localhost:{port}"
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(address, 0))
        self.cookies: dict[str, str] = {}
        page = self._ask("GET", "/console/set-up", None)[1]
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
        if found is None:
            raise DrillError(f"The console's page has no form: {page[:300]}")
        self.token = found[1]

    def enter_password(self, email: str, password: str) -> int:
        """Return the status of the answer."""
        return self.post("/console/sign-in", {"email": email, "password": password, "next": ""})

    def post(self, path: str, form: dict[str, str]) -> int:
        """Send a form, and return the status."""
        return self._ask("POST", path, urlencode({"form_token": self.token, **form}))[0]

    def load_token(self) -> None:
        """Take the token for the cookie that there is by now, over a new connection: the old one may have been idle."""
        self.connection.close()
        page = self._ask("GET", "/console/set-up", None)[1]
        self.token = page.partition('name="form_token" value="')[2].partition('"')[0]

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        headers = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status, answer.read().decode()


def main() -> int:
    """Run all of it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drill.sign_ins", description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"of each kind (default: {SAMPLES})")
    parser.add_argument("--storm", type=int, default=STORM, help=f"attempts of a storm (default: {STORM})")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the data lies meanwhile")  # noqa: S108
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wallet-sign-ins-", dir=asked.folder.absolute()))
    folder.chmod(0o711)  # As root PostgreSQL runs as another user, who has to pass through.
    running = Service(folder)
    try:
        running.wait_until_up()
        faults = list(_attack(running, asked.samples, asked.storm))
    except DrillError as problem:
        faults = [str(problem)]
    finally:
        running.stop()
        shutil.rmtree(folder)
    for fault in faults:
        print(f"FAULT {fault}")
    print("Sign-in holds." if not faults else f"{len(faults)} faults.")
    return 1 if faults else 0


def _attack(running: Service, samples: int, storm: int) -> Iterator[str]:
    yield from _times(running, samples)
    yield from _storm_on_one_account(running, storm)
    yield from _one_password_everywhere(running, storm)
    if errors := running.errors_logged():
        yield f"the service logged errors: {errors}"


def _storm_on_one_account(running: Service, storm: int) -> Iterator[str]:
    """Guess one operator's password from many addresses, while the operator signs in from the browser they know."""
    email = dev_operators.address("admin")
    password = dev_operators.passwords(running.data_dir)[email]
    # Before the connection is opened: on a machine that has much to do it would be idle for too long.
    code = running.flask("wallet", "operators", "code", email).stdout.strip()
    owner = Client(running.port, "127.0.0.1")
    if owner.enter_password(email, password) != ACCEPTED:
        yield "the operator cannot sign in before the storm"
    owner.load_token()
    if owner.post("/console/sign-in/code", {"code": code, "next": ""}) != ACCEPTED:
        yield "the operator's code is refused before the storm"
    began = time.monotonic()
    counts = _many(running, storm, lambda _: email)
    seconds = time.monotonic() - began
    # The first ones are free; after that the wait doubles, so in this time only a few more were looked at.
    looked_at_max = ACCOUNT_FREE + _doublings(seconds)
    print(f"One account, {storm} wrong passwords in {seconds:.1f} s: {_said(counts)}.")
    if counts[REFUSED] > looked_at_max:
        yield f"{counts[REFUSED]} guesses at one account were looked at, more than {looked_at_max} in {seconds:.0f} s"
    if set(counts) - {REFUSED, TOLD_TO_WAIT}:
        yield f"guesses at one account were answered otherwise: {_said(counts)}"
    owner.load_token()
    owner.post("/console/sign-out", {})
    owner.load_token()
    if owner.enter_password(email, password) != ACCEPTED:
        yield "the storm locked the operator out of the browser they know"


def _one_password_everywhere(running: Service, storm: int) -> Iterator[str]:
    """Try one password on many accounts from one address."""
    began = time.monotonic()
    clients = [Client(running.port, "127.77.0.1") for _ in range(AT_ONCE)]
    counts = _together(clients, [f"person{number}@wallet.example" for number in range(storm)])
    seconds = time.monotonic() - began
    looked_at_max = ADDRESS_FREE + _doublings(seconds)
    print(f"One password on {storm} accounts in {seconds:.1f} s: {_said(counts)}.")
    if counts[REFUSED] > looked_at_max:
        yield f"{counts[REFUSED]} accounts were tried from one address, more than {looked_at_max} in {seconds:.0f} s"
    if set(counts) - {REFUSED, TOLD_TO_WAIT}:
        yield f"guesses from one address were answered otherwise: {_said(counts)}"


def _times(running: Service, samples: int) -> Iterator[str]:
    """Ask for operators that there are and for others, in turns, and compare the times."""
    known = _make_operators(running, OPERATORS)
    rng = random.Random(samples)
    # Pairs, each in an order of its own: what else the machine does in a while then falls on both kinds alike.
    kinds = [kind for _ in range(samples) for kind in rng.sample([True, False], 2)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number, is_known in enumerate(kinds):
        client = Client(running.port, f"127.{10 + number // 60_000}.{number // 250 % 250}.{1 + number % 250}")
        turn = len(seconds[is_known]) % OPERATORS
        email = known[turn] if is_known else f"nobody{turn:04}@drill.example"
        began = time.perf_counter()
        status = client.enter_password(email, "this is not the password")
        seconds[is_known].append(time.perf_counter() - began)
        client.connection.close()
        if status != REFUSED:
            raise DrillError(f"a wrong password was answered with {status}")
    t = _welch(seconds[True], seconds[False])
    medians = " and ".join(f"{median(seconds[kind]) * 1000:.2f}" for kind in (True, False))
    print(f"Known and unknown, {samples} samples each: medians {medians} ms, Welch's t {t:+.2f}.")
    if abs(t) >= WELCH_T_MAX:
        yield f"the time tells who has an account: Welch's t is {t:+.2f}, at most {WELCH_T_MAX} is allowed"


def _make_operators(running: Service, count: int) -> list[str]:
    """Make operators who can sign in, and return their addresses."""
    found = devdb.running(running.data_dir)
    if found is None:
        raise DrillError("The service's database does not answer.")
    settings = replace(Settings(), database_url=found.service_url, data_dir=running.data_dir)
    emails = [f"person{number:04}@drill.example" for number in range(count)]
    app = create_app(settings)
    with app.app_context():
        for email in emails:
            service.ensure_development_operator(email=email, name="Person", role="viewer", password=_PASSWORD)
        close_connections()
    return emails


def _many(running: Service, storm: int, email_of: Callable[[int], str]) -> Counter[int]:
    clients = [Client(running.port, f"127.66.{number}.1") for number in range(AT_ONCE)]
    return _together(clients, [email_of(number) for number in range(storm)])


def _together(clients: list[Client], emails: Iterable[str]) -> Counter[int]:
    shares: list[list[str]] = [[] for _ in clients]
    for number, email in enumerate(emails):
        shares[number % len(clients)].append(email)
    deadline = time.monotonic() + SECONDS_MAX

    def guess(client: Client, share: list[str]) -> Counter[int]:
        counts: Counter[int] = Counter()
        for email in share:
            if time.monotonic() > deadline:
                raise DrillError("A storm takes too long.")
            counts[client.enter_password(email, "Summer2026!")] += 1
        return counts

    with ThreadPoolExecutor(len(clients)) as pool:
        return sum(pool.map(guess, clients, shares), Counter())


def _doublings(seconds: float) -> int:
    """Return how many further attempts fit into the time when each doubles the wait, beginning with a second."""
    fit = 0
    while 2 ** (fit + 1) - 1 <= seconds:
        fit += 1
    return fit + 1


def _welch(one: list[float], other: list[float]) -> float:
    return (fmean(one) - fmean(other)) / (variance(one) / len(one) + variance(other) / len(other)) ** 0.5


def _said(counts: Counter[int]) -> str:
    words = {REFUSED: "looked at and refused", TOLD_TO_WAIT: "told to wait", ACCEPTED: "accepted"}
    return ", ".join(f"{count} {words.get(status, status)}" for status, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
