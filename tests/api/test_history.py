"""GET /transactions, the filters of entries, points in time and rates, as callers see them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.support import (
    DOE_GOLD,
    JOHN_GOLD,
    NO_WALLET,
    TREASURY_GOLD,
    assert_problem,
    movement,
    new_reference,
)
from tests.every_case import every
from wallet_app import service
from wallet_app.money import parse_rate

LISTS = ("/transactions", f"/transactions?walletId={JOHN_GOLD}", f"/wallets/{JOHN_GOLD}/entries")


def items(answer: Any) -> list[Any]:
    found: list[Any] = answer.json.get("transactions", answer.json.get("entries"))
    return found


def with_query(path: str, **query: Any) -> tuple[str, dict[str, Any]]:
    base, _, given = path.partition("?")
    return base, dict(pair.split("=") for pair in given.split("&") if pair) | query


def get(client: FlaskClient, path: str, **query: Any) -> Any:
    base, asked = with_query(path, **query)
    return client.get(base, query_string=asked)


@pytest.mark.parametrize("path", LISTS)
def test_what_was_posted_is_found_by_all_that_is_known_of_it(client: FlaskClient, path: str) -> None:
    reference = new_reference()
    posted = client.post(
        f"/wallets/{JOHN_GOLD}/topup", json=movement(17, reference, metadata={"order": "A 1", "level": 7, "vip": True})
    ).json
    client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(5))
    created_at = dt.datetime.fromisoformat(posted["createdAt"])
    microsecond = dt.timedelta(microseconds=1)
    actor = client.get(f"/transactions/{posted['transactionId']}").json["actor"]
    range_ = {"from": (created_at - microsecond).isoformat(), "to": (created_at + microsecond).isoformat()}
    kind = "type" if "entries" in path else "kind"
    for asked in (
        {"reference": reference, **range_},
        {"reference": reference},
        {"reference": reference, "metadataKey": "vip"},
        {"amountMin": 17, "amountMax": 17},
        {"from": posted["createdAt"], "to": (created_at + microsecond).isoformat()},
        {"actor": actor, **range_},
        {"metadataKey": "level", **range_},
        {"metadataKey": "order", "metadataValue": "A 1", **range_},
        {"metadataKey": "level", "metadataValue": "7", **range_},
        {"metadataKey": "vip", "metadataValue": "true", **range_},
        {kind: "TOPUP", **range_},
    ):
        (found,) = items(get(client, path, **asked))
        assert found["transactionId"] == posted["transactionId"], asked
        assert found["metadata"] == {"order": "A 1", "level": 7, "vip": True}
    for asked in (
        {"reference": new_reference(), **range_},
        {"amountMin": 18, "amountMax": 299},
        {"to": posted["createdAt"], "amountMin": 11, "amountMax": 17},
        {"actor": "key:another", **range_},
        {"metadataKey": "nothing", **range_},
        {"metadataKey": "level", "metadataValue": "8", **range_},
        {kind: "SPEND", **range_},
    ):
        assert items(get(client, path, **asked)) == [], asked


@pytest.mark.parametrize("path", LISTS)
def test_pages_follow_each_other_and_a_cursor_belongs_to_its_filters(client: FlaskClient, path: str) -> None:
    for _ in range(5):
        client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(3))
    seen, query = [], {"amountMin": 3, "amountMax": 3, "limit": 2}
    answer = get(client, path, **query)
    while True:
        seen += [item["transactionId"] for item in items(answer)]
        if "next" not in answer.json:
            break
        cursor = answer.json["next"]
        answer = get(client, path, **query, cursor=cursor)
    assert len(set(seen)) == len(seen) == 5
    for other in (query | {"amountMax": 4}, query | {"reference": "abc"}, {"limit": 2}):
        assert_problem(get(client, path, **other, cursor=cursor), 400, "bad_cursor")
    for broken in ("", "A", cursor[:-4], cursor + "AAAA", "Ä", "AAAAAAAAAAIIsonnxNbTvw=="):
        assert_problem(get(client, path, **query, cursor=broken), 400, "bad_cursor")


BAD = [
    ("amountMin", "-1"),
    ("amountMin", "1.0"),
    ("amountMin", "٣"),
    ("amountMax", "9007199254740992"),
    ("amountMax", ""),
    ("from", "yesterday"),
    ("from", "2026-01-01"),
    ("from", "2026-01-01T00:00:00"),
    ("from", "2026-01-01 00:00:00Z"),
    ("from", "2026-02-30T00:00:00Z"),
    ("from", "2026-01-01T24:00:00Z"),
    ("from", "2026-01-01T00:00:00+02:00 "),
    ("to", "0001-01-01T00:00:00+01:00"),
    ("to", "٢026-01-01T00:00:00Z"),
    ("to", "1" * 100),
    ("to", "2026-01-01T00:00:00." + "1" * 100 + "Z"),
    ("reference", "ab"),
    ("reference", "a" * 201),
    ("reference", "a\x00b"),
    ("actor", ""),
    ("actor", "a\nb"),
    ("metadataKey", ""),
    ("metadataKey", " a"),
    ("metadataKey", "a" * 65),
    ("metadataKey", "a\x00"),
    ("metadataValue", "a" * 501),
    ("metadataValue", "\x07"),
]


@pytest.mark.parametrize("path", LISTS)
@every(("name", "value"), BAD)
def test_filters_that_mean_nothing_are_refused(shared: FlaskClient, path: str, name: str, value: str) -> None:
    assert_problem(get(shared, path, **{name: value}), 422, "validation_error", f"/{name}")


@pytest.mark.parametrize("path", LISTS)
def test_words_that_are_not_known_are_refused(shared: FlaskClient, path: str) -> None:
    mine, others = ("type", "kind") if "entries" in path else ("kind", "type")
    assert_problem(get(shared, path, **{mine: "topup"}), 422, "validation_error", f"/{mine}")
    assert_problem(get(shared, path, **{others: "TOPUP"}), 422, "validation_error", f"/{others}")
    assert_problem(get(shared, path, metadataValue="a"), 422, "bad_filter")
    assert_problem(
        get(shared, path, **{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), 422, "bad_filter"
    )
    assert get(shared, path, **{"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}).status_code == 200


@pytest.mark.parametrize(
    "instant",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00.5z",
        "2026-01-01T00:00:00.123456789+14:00",
        "2016-12-31T23:59:60Z",
        "9999-12-31T23:59:59.9999999Z",
        "0001-01-01T00:00:00Z",
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_every_instant_of_rfc_3339_is_understood(shared: FlaskClient, path: str, instant: str) -> None:
    for name in ("from", "to"):
        assert get(shared, path, **{name: instant}).status_code == 200


def test_what_does_not_exist_and_what_is_the_systems(shared: FlaskClient) -> None:
    assert_problem(get(shared, "/transactions", walletId=NO_WALLET), 404, "wallet_not_found")
    assert_problem(get(shared, "/transactions", walletId=TREASURY_GOLD), 409, "system_wallet_entries")
    assert_problem(get(shared, "/transactions", walletId="x"), 422, "validation_error", "/walletId")
    assert_problem(get(shared, "/transactions", actor="x"), 422, "bad_filter")
    at = "2026-01-01T00:00:00Z"
    assert_problem(get(shared, f"/wallets/{TREASURY_GOLD}/balance", at=at), 409, "system_wallet_entries")
    assert_problem(get(shared, f"/wallets/{NO_WALLET}/balance", at=at), 404, "wallet_not_found")


def test_the_balance_as_it_was(client: FlaskClient) -> None:
    first = client.post(f"/wallets/{JOHN_GOLD}/topup", json=movement(100)).json
    client.post(f"/wallets/{JOHN_GOLD}/spend", json=movement(30))
    path = f"/wallets/{JOHN_GOLD}/balance"
    then = get(client, path, at=first["createdAt"]).json
    assert (then["balance"], then["version"], then["at"]) == (600, 2, first["createdAt"])
    assert then["updatedAt"] == first["createdAt"]
    assert "at" not in get(client, path).json
    assert get(client, path, at=first["createdAt"].replace("Z", "999Z")).json == then
    assert_problem(get(client, path, at="2999-01-01T00:00:00Z"), 422, "instant_ahead")
    assert_problem(get(client, path, at="now"), 422, "validation_error", "/at")


def test_a_user_token_is_not_told_the_other_side(client: FlaskClient) -> None:
    reference = new_reference()
    body = {"from": JOHN_GOLD, "to": DOE_GOLD, "amount": 5, "referenceId": reference, "note": "secret"}
    sent = client.post("/transfers", json=body | {"metadata": {"why": "secret"}}).json
    made = client.post("/users/3/tokens", json={"scopes": ["wallets:read", "transactions:read"], "expiresIn": 60})
    does = {"Authorization": f"Bearer {made.json['token']}"}
    answers = [
        client.get(path, headers=does)
        for path in (
            f"/transactions/{sent['transactionId']}",
            f"/transactions?walletId={DOE_GOLD}",
            f"/transactions?walletId={DOE_GOLD}&kind=TRANSFER",
            f"/wallets/{DOE_GOLD}/entries",
            f"/wallets/{DOE_GOLD}/entries?type=TRANSFER",
        )
    ]
    for answer in answers:
        assert answer.status_code == 200
        shown = answer.json if "transactionId" in answer.json else items(answer)[0]
        assert shown["transactionId"] == sent["transactionId"]
        assert shown["kind"] == "TRANSFER"
        for name in ("referenceId", "actor", "note", "metadata"):
            assert shown[name] is None
        assert shown.get("walletId", DOE_GOLD) == DOE_GOLD if "seq" in shown else shown["walletId"] is None
        text = answer.get_data(as_text=True)
        for secret in (reference, "secret", "key:"):
            assert secret not in text.partition("sys:seed")[0], answer.request.path
    guesses = f"/transactions?walletId={DOE_GOLD}&reference={reference}", f"/wallets/{DOE_GOLD}/entries?actor=tests"
    assert [items(client.get(guess, headers=does)) for guess in guesses] == [[], []]
    assert_problem(client.get("/transactions", headers=does), 422, "bad_filter")
    assert_problem(client.get(f"/transactions?walletId={JOHN_GOLD}", headers=does), 404, "wallet_not_found")


def test_a_user_token_is_told_what_was_decided_about_its_wallet_and_not_why(client: FlaskClient) -> None:
    why = {"reason": "suspected fraud", "note": "case 77", "metadata": {"investigator": "Jane"}}
    frozen = {"side": "debits", "referenceId": new_reference(), **why}
    credited = client.post(f"/wallets/{DOE_GOLD}/topup", json=movement(5)).json["transactionId"]
    reversal = {"referenceId": new_reference(), **why}
    for path, body in ((f"/transactions/{credited}/reversal", reversal), (f"/wallets/{DOE_GOLD}/freeze", frozen)):
        assert client.post(path, json=body).status_code == 200
    made = client.post("/users/3/tokens", json={"scopes": ["wallets:read", "transactions:read"], "expiresIn": 60})
    does = {"Authorization": f"Bearer {made.json['token']}"}
    for kind in ("FREEZE", "REVERSAL"):
        path = f"/transactions?walletId={DOE_GOLD}&kind={kind}"
        (told,) = items(client.get(path))
        assert {name: told[name] for name in why} == why
        (shown,) = items(client.get(path, headers=does))
        assert shown["transactionId"] == told["transactionId"]
        one = client.get(f"/transactions/{told['transactionId']}", headers=does).json
        assert [found[name] for found in (shown, one) for name in why] == [None] * 6
    (entry,) = items(client.get(f"/wallets/{DOE_GOLD}/entries?type=REVERSAL", headers=does))
    assert (entry["note"], entry["metadata"]) == (None, None)
    for path in (f"/transactions?walletId={DOE_GOLD}", f"/wallets/{DOE_GOLD}/entries?"):
        looked_for = f"{path}&metadataKey=investigator&metadataValue=Jane".replace("?&", "?")
        assert items(client.get(looked_for)) != []
        assert items(client.get(looked_for, headers=does)) == []


def test_rates_by_the_instant(client: FlaskClient) -> None:
    by = service.By(actor="tests")
    now = dt.datetime.now(dt.UTC)
    later = now + dt.timedelta(days=1)
    with client.application.app_context():
        first = service.set_rate(source="GOLD", target="DIAMOND", rate=parse_rate("1/10"), by=by)
        service.set_rate(source="DIAMOND", target="GOLD", rate=parse_rate("9.5"), by=by)
        service.set_rate(source="GOLD", target="DIAMOND", rate=None, valid_from=later, by=by)
    answer = client.get("/rates").json
    assert [(one["from"], one["to"], one["rate"]) for one in answer["rates"]] == [
        ("GOLD", "DIAMOND", "0.1"),
        ("DIAMOND", "GOLD", "9.5"),
    ]
    assert answer["rates"][0]["validTo"] == later.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert answer["rates"][1]["validTo"] is None
    assert len(get(client, "/rates", at=later.isoformat()).json["rates"]) == 1
    assert get(client, "/rates", at=(first.valid_from - dt.timedelta(seconds=1)).isoformat()).json["rates"] == []
    page = get(client, "/rates", limit=1).json
    assert [one["from"] for one in page["rates"]] == ["GOLD"]
    following = get(client, "/rates", limit=1, cursor=page["next"]).json
    assert [one["from"] for one in following["rates"]] == ["DIAMOND"]
    assert "next" not in following
    assert_problem(get(client, "/rates", cursor=page["next"], at=later.isoformat()), 400, "bad_cursor")
    assert_problem(get(client, "/rates", at="soon"), 422, "validation_error", "/at")
