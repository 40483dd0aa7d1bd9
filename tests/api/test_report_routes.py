"""GET /reports/...: what is answered, to whom, and what is refused."""

from __future__ import annotations

import csv
import datetime as dt
import io
from itertools import pairwise

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from tests.api.support import DOE_GOLD, JOHN_GOLD, NO_WALLET, TREASURY_GOLD, assert_problem, movement
from tests.keys import client_of
from wallet_app import access, service
from wallet_app.db import unit_of_work
from wallet_app.money import AMOUNT_MAX

GOLD = "/reports/assets/GOLD"
DAYS = f"/reports/wallets/{TREASURY_GOLD}/days"


def moved(client: FlaskClient) -> None:
    for path, amount in (("topup", 1_000), ("bonus", 50), ("spend", 300)):
        assert client.post(f"/wallets/{JOHN_GOLD}/{path}", json=movement(amount)).status_code == 200
    hold = {"walletId": JOHN_GOLD, "amount": 70, "expiresIn": 600, "referenceId": "held"}
    assert client.post("/holds", json=hold).status_code == 201


def test_a_report_is_at_an_instant_or_from_one_to_another(client: FlaskClient) -> None:
    before = client.get(GOLD).json
    moved(client)
    now = client.get(GOLD).json
    assert before["at"] == before["madeAt"]
    assert now["ties"] is True
    there = {"balance": 1_480, "held": 70, "total": 1_550}
    assert now["compared"] == {"users": there, "system": there}
    # Bonus is spent, and held, first: of 50 nothing is left.
    assert now["closing"] == {**there, "bonus": 0, "paid": 1_550}
    assert {age["ends"]: age["total"] for age in now["ageing"] if age["total"]} == {"never": 1_550}
    nets = {line["line"]: line["net"] for line in now["lines"]}
    assert (nets["issued"], nets["bonus"], nets["spent"], sum(nets.values())) == (1_800, 50, -300, 1_550)
    assert [line["net"] for line in now["holds"]] == [-70, 0]
    assert {line["line"]: line["bonus"] for line in now["lines"] if line["bonus"]} == {"bonus": 50, "spent": -50}
    since = client.get(GOLD, query_string={"from": before["madeAt"]}).json
    assert (since["at"], since["from"], since["to"]) == (None, before["madeAt"], since["madeAt"])
    assert since["opening"] == before["closing"]
    assert since["closing"] == now["closing"]
    then = client.get(GOLD, query_string={"at": before["madeAt"]}).json
    assert (then["from"], then["to"], then["at"], then["closing"]) == (
        *(None, None),
        before["madeAt"],
        before["closing"],
    )
    whole = client.get(GOLD, query_string={"from": "1970-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}).json
    assert whole["closing"]["total"] == 0
    assert whole["ties"] is True


def test_an_instant_counts_what_was_created_in_it_and_an_end_does_not(client: FlaskClient) -> None:
    created_at = client.post(f"/wallets/{DOE_GOLD}/topup", json=movement(5)).json["createdAt"]
    for query, total in (({"at": created_at}, 805), ({"to": created_at}, 800), ({"from": created_at}, 805)):
        assert client.get(GOLD, query_string=query).json["closing"]["total"] == total
    assert client.get(GOLD, query_string={"from": created_at}).json["opening"]["total"] == 800


def test_what_is_too_large_for_a_number_is_a_text(client: FlaskClient) -> None:
    for wallet_id in (JOHN_GOLD, DOE_GOLD):
        assert client.post(f"/wallets/{wallet_id}/bonus", json=movement(AMOUNT_MAX - 500)).status_code == 200
    report = client.get(GOLD).json
    assert report["closing"]["total"] == str(2 * AMOUNT_MAX - 200)
    assert report["ties"] is True


def test_what_is_no_report(client: FlaskClient) -> None:
    ahead = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    for query in ({"at": ahead}, {"to": ahead}, {"from": ahead}):
        assert_problem(client.get(GOLD, query_string=query), 422, "instant_ahead")
    for query in (
        {"at": "2026-01-01T00:00:00Z", "from": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
    ):
        assert_problem(client.get(GOLD, query_string=query), 422, "bad_filter")
    assert_problem(client.get(GOLD, query_string={"at": "now"}), 422, "validation_error", "/at")
    assert_problem(client.get(GOLD, query_string={"day": "1"}), 422, "validation_error", "/day")
    assert_problem(client.get("/reports/assets/gold"), 422, "validation_error", "/assetCode")
    assert_problem(client.get("/reports/assets/SILVER"), 404, "asset_not_found")
    assert client.get(GOLD, query_string={"from": "0001-01-01T00:00:00Z"}).json["opening"]["total"] == 0


def test_the_days_of_a_system_wallet(client: FlaskClient, app: Flask) -> None:
    moved(client)
    body = client.get(DAYS).json
    # More than one where a day began since the books were seeded.
    first, last = body["days"][-1], body["days"][0]
    assert (body["owner"], body["balance"], body["lateSince"]) == ("Treasury", -1_800, None)
    assert (first["opening"], last["closing"]) == (0, -1_800)
    assert [sum(each[name] for each in body["days"]) for name in ("incoming", "outgoing")] == [0, 1_800]
    with unit_of_work() as connection:
        connection.execute(
            text("""
            INSERT INTO daily_totals
                   (day, asset_type_id, entry_type, contra_wallet_id, entries, wallets, credits, debits)
            SELECT CAST(:day AS date) - back, 1, 'TOPUP', 1, 1, 1, back, 0 FROM generate_series(1, 5) AS back
            """),
            {"day": first["day"]},
        )
    try:
        seen, page = [], client.get(DAYS, query_string={"limit": 4}).json
        while True:
            seen += page["days"]
            if "next" not in page:
                break
            page = client.get(DAYS, query_string={"limit": 4, "cursor": page["next"]}).json
        assert len(seen) == 5 + len(body["days"])
        for later, earlier in pairwise(seen):
            assert later["opening"] == earlier["closing"]
        days = [each["day"] for each in seen]
        some = client.get(DAYS, query_string={"from": days[4], "to": days[1]}).json
        assert [each["day"] for each in some["days"]] == days[2:5]
        assert some["days"][-1]["opening"] == seen[4]["opening"]
    finally:
        with unit_of_work() as connection:
            connection.execute(text("DELETE FROM daily_totals"))
    assert_problem(client.get(f"/reports/wallets/{JOHN_GOLD}/days"), 409, "no_system_wallet")
    assert_problem(client.get(f"/reports/wallets/{NO_WALLET}/days"), 404, "wallet_not_found")
    for query, pointer in (({"from": "2026-02-30"}, "/from"), ({"to": "1"}, "/to"), ({"limit": "0"}, "/limit")):
        assert_problem(client.get(DAYS, query_string=query), 422, "validation_error", pointer)
    assert_problem(client.get(DAYS, query_string={"from": "2026-02-01", "to": "2026-01-01"}), 422, "bad_filter")
    assert_problem(client.get(DAYS, query_string={"cursor": "AAAA"}), 400, "bad_cursor")


def test_a_key_for_one_asset_gets_no_report_on_another(app: Flask) -> None:
    settings = service.KeySettings(scopes=("reports:read",), assets=["DIAMOND"])
    made = access.gate_of(app).create_key(client="finance", settings=settings, by=service.By(actor="tests"))
    finance = client_of(app, made.text)
    assert finance.get("/reports/assets/DIAMOND").status_code == 200
    assert_problem(finance.get(GOLD), 403, "asset_not_allowed")
    assert_problem(finance.get(DAYS), 403, "asset_not_allowed")


def test_the_same_on_the_command_line(client: FlaskClient, app: Flask) -> None:
    moved(client)
    run = app.test_cli_runner().invoke
    said = run(args=["wallet", "report", "GOLD"])
    assert said.exit_code == 0
    assert "Ties to the ledger, to the unit" in said.output
    assert "1,550" in said.output
    file = run(args=["wallet", "report", "GOLD", "--from", "2025-01-01", "--csv"])
    rows = {row["line"]: row for row in csv.DictReader(io.StringIO(file.output))}
    assert (rows["opening"]["amount"], rows["spent"]["debits"], rows["closing_held"]["amount"]) == ("0", "300", "70")
    refused = run(args=["wallet", "report", "GOLD", "--to", "2999-01-01"])
    assert (refused.exit_code, refused.output) == (1, "at: must not lie in the future.\n")
