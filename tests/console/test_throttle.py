"""Who guesses is slowed down; whose account it is gets in all the same."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest
from flask import Flask

from tests.console.conftest import PASSWORDS, Browser, Sql, audited, email_of, text_of
from tests.console.test_sign_in import set_up
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.errors import SignInRefusedError, TooManyAttemptsError
from wallet_app.service import audit, passwords, sign_in, throttle
from wallet_app.service.sessions import Visitor
from wallet_app.service.throttle import Bucket, address_bucket, delay

pytestmark = pytest.mark.wide

ATTEMPT = audit.Act(by=audit.By(actor="unknown"), action="sign_in:password")


@pytest.fixture(autouse=True)
def waits_that_a_slow_machine_does_not_outlast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait is one second, and a test's requests may take longer."""
    monkeypatch.setattr(throttle, "delay", lambda failures, free: 600 * delay(failures, free))


def statuses(browser: Browser, times: int, role: str = "viewer", **options: str) -> list[int]:
    return [browser.enter_password(role, "wrong", **options).status_code for _ in range(times)]


def test_after_five_failures_an_account_waits(browser: Browser, sql: Sql) -> None:
    assert statuses(browser, 7) == [422] * 5 + [429] * 2
    answer = browser.enter_password("viewer")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Try again in" in text_of(answer)
    assert Counter(outcome for _, action, outcome in audited(sql) if action == "sign_in:password") == {
        "failed": 5,
        "denied": 3,
    }
    assert sql("SELECT failures FROM sign_in_attempts") == [(5,), (5,)], "an attempt that is not looked at counts not"


def test_the_right_password_after_the_wait_gets_in(browser: Browser, sql: Sql) -> None:
    statuses(browser, 6)
    sql("UPDATE sign_in_attempts SET free_at = now()")
    assert browser.enter_password("viewer").status_code == 303
    assert statuses(Browser(browser.client.application), 6) == [422] * 5 + [429]


def test_the_wait_doubles_up_to_a_quarter_of_an_hour() -> None:
    assert [delay(failures, 5) for failures in range(1, 18)] == [
        *[0] * 4, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900,
    ]  # fmt: skip
    assert delay(10**9, 5) == 900


def test_guessing_from_elsewhere_does_not_lock_the_owner_out(browsers: Callable[..., Browser]) -> None:
    """Also from the same address: they may sit behind the same router."""
    owner = browsers()
    owner.sign_in("admin")
    owner.post("/console/sign-out")
    attacker = browsers()
    for number in range(30):
        attacker.address = f"192.0.2.{1 + number % 3}"
        attacker.enter_password("admin", "wrong")
    assert attacker.enter_password("admin").status_code == 429, "not even the right password"
    assert owner.enter_password("admin").status_code == 303
    assert owner.enter_code("admin").status_code == 303


def test_a_known_browser_is_slowed_down_too_if_it_guesses(browsers: Callable[..., Browser]) -> None:
    browser = browsers()
    browser.sign_in("viewer")
    browser.post("/console/sign-out")
    assert statuses(browser, 6) == [422] * 5 + [429]
    assert statuses(browsers(), 1) == [422]


@pytest.mark.parametrize("forged", ["other operator", "no signature", "other signature", "not ascii"])
def test_a_browser_is_not_known_by_its_word(browsers: Callable[..., Browser], sql: Sql, forged: str) -> None:
    browser = browsers()
    browser.sign_in("viewer")
    ((admin,),) = sql("SELECT id FROM operators WHERE email = %s", email_of("admin"))
    device = str(browser.device)
    named, _, signed = device.rpartition(".")
    nonce = named.split(".")[1]
    device = {
        "other operator": device,
        "no signature": f"{admin}.{nonce}.",
        "other signature": f"{admin}.{nonce}.{signed}",
        "not ascii": f"{admin}.{nonce}.é",
    }[forged]
    stranger = browsers()
    stranger.client.set_cookie("__Host-wallet_browser", device, domain="localhost", path="/")
    assert statuses(stranger, 6, "admin") == [422] * 5 + [429]
    assert statuses(browsers(address="198.51.100.1"), 1, "admin") == [429], "counted for the account"


def test_one_password_on_many_accounts_is_slowed_down_by_address(browsers: Callable[..., Browser]) -> None:
    sprayer = browsers(address="198.51.100.66")
    found = [
        sprayer.enter_password("", "Summer2026!", email=f"person{number}@wallet.example").status_code
        for number in range(25)
    ]
    assert found == [422] * 20 + [429] * 5
    assert browsers(address="198.51.100.67").enter_password("viewer").status_code == 303


def test_an_own_account_wipes_nothing_out(browsers: Callable[..., Browser], sql: Sql) -> None:
    sprayer = browsers(address="198.51.100.66")
    for number in range(19):
        sprayer.enter_password("", "Summer2026!", email=f"person{number}@wallet.example")
    assert sprayer.enter_password("viewer").status_code == 303
    key = address_bucket("198.51.100.66").key
    assert sql("SELECT failures FROM sign_in_attempts WHERE bucket = %s", key) == [(19,)]


def test_codes_are_throttled(browser: Browser) -> None:
    browser.enter_password("viewer")
    found = [browser.post("/console/sign-in/code", {"code": "000000", "next": ""}).status_code for _ in range(7)]
    assert found == [422] * 5 + [429] * 2
    assert browser.enter_code("viewer").status_code == 429


def test_set_up_codes_are_throttled(browser: Browser) -> None:
    form = {"email": "new@wallet.example", "code": "x", "password": "seven purple trains at dawn"}
    assert [browser.post("/console/set-up", form).status_code for _ in range(6)] == [422] * 5 + [429]


def test_wrong_set_up_codes_make_nobody_wait_who_has_the_right_one(browsers: Callable[..., Browser]) -> None:
    """Neither from elsewhere nor from the same address, at neither step; who guesses on waits."""
    email, attacker = "new@wallet.example", browsers()
    code = service.create_operator(email=email, name="New", role="viewer", by=audit.By(actor="test"))
    guesses = [f"person{number}@wallet.example" for number in range(19)] + [email] * 5
    for number, guess in enumerate(guesses):
        attacker.address = "192.0.2.1" if number < 20 else "198.51.100.1"
        form = {"email": guess, "code": "x", "password": "seven purple trains at dawn"}
        assert attacker.post("/console/set-up", form).status_code == 422
    for address in ("192.0.2.1", "198.51.100.1"):
        attacker.address = address
        assert attacker.post("/console/set-up", form).status_code == 429
    assert len(set_up(browsers(), email, code)) == 10


def test_challenges_for_passkeys_are_bounded_by_address(browsers: Callable[..., Browser], sql: Sql) -> None:
    browser = browsers()
    found = [browser.post("/console/sign-in/passkey/options").status_code for _ in range(22)]
    assert found == [200] * 20 + [429] * 2
    assert sql("SELECT count(*) FROM passkey_challenges") == [(20,)]
    assert browsers(address="198.51.100.1").post("/console/sign-in/passkey/options").status_code == 200


def test_many_at_once_are_counted_as_many(app: Flask, operators: None) -> None:
    """Counted before they are looked at: of 40 that come together no more than five are."""
    looked_at, lock = [], threading.Lock()
    barrier = threading.Barrier(8)

    def guess(number: int) -> None:
        with app.app_context():
            barrier.wait()
            for attempt in range(5):
                visitor = Visitor(address=f"198.51.{number}.{attempt}")
                try:
                    sign_in.sign_in_with_password(email_of("viewer"), "wrong", visitor=visitor)
                except SignInRefusedError:
                    with lock:
                        looked_at.append(number)
                except TooManyAttemptsError:
                    pass

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked_at) == 5


def test_buckets_in_opposite_orders_never_deadlock(app: Flask, sql: Sql) -> None:
    before = sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    names = [
        [Bucket("one", free=10**6), Bucket("two", free=10**6)],
        [Bucket("two", free=10**6), Bucket("one", free=10**6)],
    ]
    barrier = threading.Barrier(4)

    def take(number: int) -> None:
        with app.app_context():
            barrier.wait()
            for _ in range(25):
                buckets = names[number % 2]
                throttle.take(buckets, ATTEMPT)
                with unit_of_work() as connection:
                    throttle.succeeded(connection, [Bucket(each.name, is_shared=True) for each in reversed(buckets)])

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sql("SELECT failures FROM sign_in_attempts") == [(0,), (0,)]
    assert sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before


def test_counts_survive_a_crash(sql: Sql) -> None:
    """An unlogged table would be empty after one."""
    assert sql("SELECT relpersistence::text FROM pg_class WHERE relname = 'sign_in_attempts'") == [("p",)]


def test_counts_name_nobody(browser: Browser, sql: Sql) -> None:
    statuses(browser, 2)
    stored = str(sql("SELECT sign_in_attempts::text FROM sign_in_attempts"))
    assert "viewer" not in stored
    assert "192.0.2" not in stored
    assert email_of("viewer").encode().hex() not in stored


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("unknown", "nonsense", True),
    ],
)
def test_whose_address_it_is(one: str, other: str, is_same: bool) -> None:
    assert (address_bucket(one) == address_bucket(other)) == is_same


def test_known_and_unknown_operators_cost_the_same_work(
    app: Flask, operators: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same statements and the same hashing; what that comes to in time is for `make drill`."""
    from sqlalchemy import event

    from wallet_app.db import READS, db

    verified: list[str] = []
    real = passwords._verify
    monkeypatch.setattr(passwords, "_verify", lambda known, given: verified.append(known) or real(known, given))
    statements: list[str] = []
    for engine in (db.engine, db.engines[READS]):
        event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    work = []
    for email in (email_of("viewer"), "nobody@wallet.example"):
        statements.clear()
        with pytest.raises(SignInRefusedError):
            sign_in.sign_in_with_password(email, "wrong", visitor=Visitor(address="192.0.2.1"))
        work.append(list(statements))
    assert work[0] == work[1]
    assert len(work[0]) >= 4
    parameters = [known.split("$")[:4] for known in verified]
    assert parameters == [["", "argon2id", "v=19", "m=19456,t=2,p=1"]] * 2


def test_hashing_is_done_by_two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, met = threading.Barrier(passwords.AT_ONCE + 1), []

    def slow(*_: object) -> bool:
        try:
            crowd.wait(0.5)
        except threading.BrokenBarrierError:
            return False
        met.append("one more than there may be")
        return False

    monkeypatch.setattr(passwords, "_verify", slow)
    threads = [threading.Thread(target=passwords.matches, args=("x", None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == []


def test_an_old_hash_is_renewed_at_the_next_sign_in(browser: Browser, sql: Sql) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORDS["viewer"])
    sql("UPDATE operators SET password_hash = %s WHERE email = %s", weak, email_of("viewer"))
    assert browser.enter_password("viewer").status_code == 303
    ((stored,),) = sql("SELECT password_hash FROM operators WHERE email = %s", email_of("viewer"))
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert browser.enter_password("viewer").status_code == 303
