"""What the settings switch on around the API: the rate limit, trusted proxies, CORS."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from limits.storage import MemoryStorage

from tests.api.conftest import MakeClient
from tests.api.support import MOVEMENTS, assert_headers, assert_problem, books, movement
from tests.keys import client_of
from wallet_app import access, service

LIMIT_HEADERS = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}


# --- rate limit ---


def test_the_limit_counts_all_requests_of_a_client_together(client_with: MakeClient) -> None:
    client = client_with(rate_limit_key="5 per minute")
    paths = ["/wallets/3", "/wallets/3/balance", "/wallets/3/entries", "/wallets/4", "/wallets/999999"]
    for left, path in zip((4, 3, 2, 1, 0), paths, strict=True):
        answer = client.get(path)
        assert answer.status_code in {200, 404}
        assert answer.headers["RateLimit-Limit"] == "5"
        assert answer.headers["RateLimit-Remaining"] == str(left)
        assert 1 <= int(answer.headers["RateLimit-Reset"]) <= 60
        assert "Retry-After" not in answer.headers
    with client.application.app_context():
        before = books()
        for answer in (client.get("/wallets/3"), *(client.post(f"/wallets/3/{v}", json=movement()) for v in MOVEMENTS)):
            body = assert_problem(answer, 429, "too_many_requests")
            assert "5 requests per minute" in body["detail"]
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.headers["RateLimit-Remaining"] == "0"
        assert books() == before


def test_who_has_no_key_shares_the_budget_of_the_address(client_with: MakeClient) -> None:
    client = client_with(rate_limit="5 per minute", rate_limit_key="1 per minute")
    bad = {"Authorization": "Bearer dino_dev_nothing"}
    nothing = {"environ_overrides": {"HTTP_AUTHORIZATION": ""}}
    answers = [client.get("/nothing"), client.get("/openapi.json"), client.get("/docs")]
    answers += [client.get("/wallets/3", headers=bad), client.get("/wallets/3", **nothing)]
    assert [answer.status_code for answer in answers] == [404, 200, 200, 401, 401]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0"]
    assert_problem(client.get("/wallets/3", headers=bad), 429, "too_many_requests")
    assert client.get("/nothing", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 404
    assert [client.get("/wallets/3").status_code for _ in range(2)] == [200, 429], "a key has its own, from anywhere"
    assert client.get("/wallets/3", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 429


def test_a_key_may_have_a_limit_of_its_own(client_with: MakeClient) -> None:
    client = client_with(rate_limit_key="1 per minute")
    gate = access.gate_of(client.application)
    with client.application.app_context():
        settings = service.KeySettings(scopes=["wallets:read"], rate_limit="3 per minute")
        made = gate.create_key(client="shop", settings=settings, by=service.By(actor="tests"))
    own = client_of(client.application, made.text)
    assert [own.get("/wallets/3").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert [client.get("/wallets/3").status_code for _ in range(2)] == [200, 429]


def test_what_a_key_may_not_do_counts_too(client_with: MakeClient) -> None:
    client = client_with()
    gate = access.gate_of(client.application)
    with client.application.app_context():
        settings = service.KeySettings(scopes=["assets:read"], rate_limit="2 per minute")
        made = gate.create_key(client="shop", settings=settings, by=service.By(actor="tests"))
    own = client_of(client.application, made.text)
    assert [own.get("/wallets/3").status_code for _ in range(3)] == [403, 403, 429]


def test_applications_of_one_process_count_for_themselves(client_with: MakeClient) -> None:
    limited, other, off = (client_with(rate_limit_key=limit) for limit in ("1 per minute", "2 per minute", ""))
    assert [limited.get("/wallets/3").status_code for _ in range(2)] == [200, 429]
    assert [other.get("/wallets/3").status_code for _ in range(3)] == [200, 200, 429]
    assert {off.get("/wallets/3").status_code for _ in range(5)} == {200}


def test_the_tightest_of_several_limits_is_told(client_with: MakeClient) -> None:
    client = client_with(rate_limit_key="3 per minute; 100 per hour")
    answers = [client.get("/wallets/3") for _ in range(4)]
    assert [answer.headers["RateLimit-Limit"] for answer in answers] == ["3"] * 4
    assert answers[-1].status_code == 429


def test_health_files_and_preflights_are_not_limited(client_with: MakeClient) -> None:
    client = client_with(
        rate_limit="1 per minute", rate_limit_key="1 per minute", cors_origins=("https://shop.example",)
    )
    for _ in range(5):
        assert client.get("/health").status_code == 200
        assert client.options("/wallets/3/topup").status_code == 200
        assert not LIMIT_HEADERS & set(client.get("/health").headers.keys())
    assert client.get("/wallets/3").status_code == 200
    assert client.get("/wallets/3").status_code == 429
    assert client.get("/health").status_code == 200


def test_an_empty_limit_is_off(client_with: MakeClient) -> None:
    client = client_with(rate_limit_key="")
    answers = [client.get("/wallets/3") for _ in range(150)]
    assert {answer.status_code for answer in answers} == {200}
    assert not LIMIT_HEADERS & set(answers[-1].headers.keys())


def test_a_counter_that_fails_refuses_nobody(client_with: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise ConnectionError("no counter")

    client = client_with(rate_limit_key="1 per minute")
    monkeypatch.setattr(MemoryStorage, "incr", fail)
    for _ in range(3):
        answer = client.get("/wallets/3")
        assert answer.status_code == 200
        assert_headers(answer)


# --- trusted proxies ---


def statuses(client: FlaskClient, *forwarded: str) -> list[int]:
    """Return the statuses of one request for each X-Forwarded-For, all over the same connection."""
    return [client.get("/nothing", headers={"X-Forwarded-For": each}).status_code for each in forwarded]


def test_without_a_trusted_proxy_nobody_can_choose_an_address(client_with: MakeClient) -> None:
    client = client_with(rate_limit="2 per minute")
    assert statuses(client, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [404, 404, 429]


def test_one_trusted_proxy_tells_the_clients_address(client_with: MakeClient) -> None:
    client = client_with(rate_limit="1 per minute", trusted_proxies=1)
    # What the client itself wrote stands in front of what the proxy appended, and counts for nothing.
    assert statuses(client, "192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.1", "192.0.2.8, 192.0.2.2") == [
        404,
        404,
        429,
        429,
    ]


def test_two_trusted_proxies_count_the_hop_before_them(client_with: MakeClient) -> None:
    client = client_with(rate_limit="1 per minute", trusted_proxies=2)
    chains = ["192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.2, 10.0.0.1", "192.0.2.9, 192.0.2.2, 10.0.0.1"]
    assert statuses(client, *chains) == [404, 429, 404, 429]


@pytest.mark.parametrize(("trusted", "is_secure"), [(0, False), (1, True)])
def test_https_is_believed_of_a_trusted_proxy_only(client_with: MakeClient, trusted: int, is_secure: bool) -> None:
    client = client_with(trusted_proxies=trusted)
    answer = client.get("/wallets/3", headers={"X-Forwarded-Proto": "https"})
    assert ("Strict-Transport-Security" in answer.headers) == is_secure


# --- CORS ---

SHOP = "https://shop.example"


def test_an_allowed_origin_may_read_the_answer_and_its_headers(client_with: MakeClient) -> None:
    client = client_with(cors_origins=(SHOP,))
    for answer in (
        client.get("/wallets/3", headers={"Origin": SHOP}),
        client.post("/wallets/3/spend", json=movement(10_000), headers={"Origin": SHOP}),
        client.get("/nothing", headers={"Origin": SHOP}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Origin" in answer.headers["Vary"]
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed >= LIMIT_HEADERS | {"X-Request-Id", "Idempotent-Replayed", "Retry-After"}
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert_headers(answer)


@pytest.mark.parametrize(
    "origin", ["https://shop.example.evil.example", "http://shop.example", "https://shopxexample", "null", ""]
)
def test_another_origin_may_not(client_with: MakeClient, origin: str) -> None:
    client = client_with(cors_origins=(SHOP,))
    answer = client.get("/wallets/3", headers={"Origin": origin})
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]
    assert answer.status_code == 200


def test_an_origin_is_no_pattern(client_with: MakeClient) -> None:
    client = client_with(cors_origins=("http://[::1]:3000", SHOP))
    answer = client.get("/wallets/3", headers={"Origin": "http://[::1]:3000"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://[::1]:3000"
    for other in ("http://1:3000", "http://::3000", "http://[::1]:30000", f"{SHOP}/"):
        assert "Access-Control-Allow-Origin" not in client.get("/wallets/3", headers={"Origin": other}).headers


def preflight(client: FlaskClient, origin: str, method: str = "POST") -> dict[str, str]:
    answer = client.options(
        "/wallets/3/topup",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type, idempotency-key",
        },
    )
    assert answer.status_code == 200
    assert answer.get_data() == b""
    return dict(answer.headers)


def test_a_preflight_of_an_allowed_origin_allows_what_the_api_needs(client_with: MakeClient) -> None:
    headers = preflight(client_with(cors_origins=(SHOP,)), SHOP)
    assert headers["Access-Control-Allow-Origin"] == SHOP
    assert {name.strip() for name in headers["Access-Control-Allow-Methods"].split(",")} == {"GET", "HEAD", "POST"}
    allowed = {name.strip().lower() for name in headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {"content-type", "idempotency-key"}
    assert headers["Access-Control-Max-Age"] == "600"


def test_a_preflight_of_another_origin_allows_nothing(client_with: MakeClient) -> None:
    for client in (client_with(cors_origins=(SHOP,)), client_with()):
        assert not [name for name in preflight(client, "https://evil.example") if name.startswith("Access-Control")]
