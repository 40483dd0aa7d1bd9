"""All transactions, narrowed by a form and taken along as a file: what passes the filters, each once."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from flask import Flask

from tests.console.conftest import Browser, Sql, text_of
from wallet_app import service

ORIGIN = service.Origin(client="shop", actor="key:shopkeyshop2", request_id="req-1")
JOHN, JOHN_DIAMOND, DOE = 3, 4, 5
PATH = "/console/transactions"


def post_some() -> None:
    common: dict[str, Any] = {"wallet_id": JOHN, "origin": ORIGIN}
    service.execute_batch(
        [service.TopUp(reference=f"ref-{n}", amount=n, note="=1+1", **common) for n in range(1, 61)]
        + [
            service.Spend(reference="order 7", amount=25, metadata='{"order":"77"}', **common),
            service.Transfer(reference="to-doe", amount=4, to_wallet_id=DOE, **common),
            service.Freeze(reference="stop", side="both", reason="lost phone", **common),
        ]
    )


def references(page: str) -> list[str]:
    return re.findall(r'<td class="reference"[^>]*><code[^>]*>([^<]*)</code>', page)


def test_filters_pages_and_files(app: Flask, browsers: Callable[..., Browser], sql: Sql) -> None:
    post_some()
    viewer, finance = browsers().sign_in("viewer"), browsers().sign_in("finance")

    def look(status: int = 200, **asked: Any) -> str:
        answer = viewer.get(f"{PATH}?{urlencode(asked)}")
        assert answer.status_code == status, asked
        return text_of(answer)

    # Pages, newest first, by following the links.
    first = look()
    (older,) = re.findall(r'<a class="button" href="([^"]*)" rel="next">', first)
    second = text_of(viewer.get(older))
    assert len(references(first)) == 50
    assert len({*references(first), *references(second)}) == 63 + 1, "with the seeds, which share a reference"
    assert 'rel="next"' not in second
    assert f'href="{PATH}" rel="first"' in second
    assert "This list as" not in first, "viewers take nothing along"

    today = dt.datetime.now(dt.UTC).date().isoformat()
    yesterday = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date().isoformat()
    for asked, found in (
        ({"kind": "SPEND"}, ["order 7"]),
        ({"reference": "order 7"}, ["order 7"]),
        ({"reference": "order"}, []),
        ({"least": "58", "most": "58"}, ["ref-58"]),
        ({"wallet": JOHN_DIAMOND}, ["sys:seed"]),
        ({"wallet": DOE, "kind": "TRANSFER"}, ["to-doe"]),
        ({"actor": "key:shopkeyshop2", "kind": "FREEZE", "from": yesterday}, ["stop"]),
        ({"key": "order", "value": "77", "from": yesterday, "to": today}, ["order 7"]),
        ({"kind": "SPEND", "to": yesterday}, []),
    ):
        assert references(look(**asked)) == found, asked
    assert "No transaction passes these filters" in look(kind="PURCHASE")
    transfer = look(reference="to-doe")
    assert "\u22124" in transfer
    assert "+4" in transfer
    assert "nothing moved" in look(kind="FREEZE")
    assert "lost phone" in look(kind="FREEZE")

    # What makes no sense is said where it stands, and the rest of the form is as it was.
    for asked, said in (
        ({"actor": "key:shopkeyshop2"}, "in at most 31 days"),
        ({"from": today, "to": "2020-01-01"}, "ends before it begins"),
        ({"from": "yesterday"}, "Enter a day like"),
        ({"kind": "<script>"}, "Choose one of the list"),
        ({"least": "1,5"}, "Enter an amount in digits"),
        ({"wallet": "999999"}, "There is no such wallet"),
        ({"wallet": "1"}, "Wallet 1"),
        ({"value": "77", "from": yesterday}, "say which"),
        ({"reference": "a"}, "Enter 3 to 200 characters"),
    ):
        page = look(422, **asked)
        assert said in page, asked
        assert "<script>" not in page
    assert viewer.get(f"{PATH}?before=nonsense").status_code == 200

    # Files: a row for each entry, streamed and recorded, with no formula in it.
    assert viewer.get(f"{PATH}.csv").status_code == 403
    query = urlencode({"wallet": JOHN, "from": yesterday})
    lines = list(csv.DictReader(io.StringIO(finance.get(f"{PATH}.csv?{query}").get_data(as_text=True))))
    rows = json.loads(finance.get(f"{PATH}.json?{query}").get_data())
    assert len(lines) == len(rows) == 65, "60 top-ups, a spend, two of the transfer, a freeze and the seed"
    assert [line["reference"] for line in lines] == [row["reference"] for row in rows]
    (spend,) = [line for line in lines if line["kind"] == "SPEND"]
    assert (spend["amount"], spend["asset"], spend["entry_wallet_id"]) == ("-25", "GOLD", "3")
    assert json.loads(spend["metadata"]) == {"order": "77"}
    assert {line["note"] for line in lines} == {"'=1+1", ""}
    (freeze,) = [line for line in lines if line["kind"] == "FREEZE"]
    assert (freeze["amount"], freeze["reason"], freeze["entry_wallet_id"]) == ("", "lost phone", "")
    assert finance.get(f"{PATH}.csv?actor=x").status_code == 422
    # Amounts of an asset with decimal places are in its smallest unit, as in the wallet's own file.
    service.create_asset(code="CENTS", name="Cents", scale=2, by=service.By(actor="tests"))
    wallet, _ = service.create_wallet(user_id=2, asset_code="CENTS")
    service.execute(service.TopUp(wallet_id=wallet.wallet_id, reference="in-cents", amount=1_234, origin=ORIGIN))
    for path in (f"{PATH}.json?wallet={wallet.wallet_id}", f"/console/wallets/{wallet.wallet_id}.json"):
        (row,) = json.loads(finance.get(path).get_data())
        assert (row["amount"], row["balance_after"], row["scale"]) == (1_234, 1_234, 2)
    told = sql("SELECT action, subject, after FROM audit_log WHERE starts_with(action, 'export:') ORDER BY id LIMIT 2")
    assert told == [
        ("export:begin", "transactions", {"filters": {"wallet": "3", "from": yesterday}}),
        ("export:end", "transactions", {"rows": 65}),
    ]
