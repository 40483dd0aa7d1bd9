"""Examples for what is only read: points in time, filters, lists of transactions, and rates."""

from __future__ import annotations

from wallet_app.api import examples

_AT = "2026-01-15T00:00:00.000000Z"
_NEXT = "AY8pQMgAcACAAAAAAAAAAcgrYrG3q0bA"
_BAD_INSTANT = {
    "instant": examples._invalid(
        "/from",
        "invalid",
        "must be an instant as RFC 3339 has it, with a zone, like 2026-01-31T12:00:00Z; + is %2B here",
    )
}
_RANGE = {
    "range": examples._problem(
        422,
        "bad_filter",
        "Bad filter",
        "Over all wallets, actor and metadata are looked for in at most 31 days: "
        "say from when, and until when, or of which wallet.",
        daysMax=31,
    )
}
_AHEAD = {"ahead": examples._problem(422, "instant_ahead", "Instant in the future", "at: must not lie in the future.")}


def add() -> None:
    """Add them to the others, which are there by then: some are made from these."""
    spend = {
        name: value for name, value in examples.ANSWERS["getTransaction"]["spend"].items() if name not in {"ok", "legs"}
    }
    side = spend | {
        "kind": "TRANSFER",
        **dict.fromkeys(("walletId", "referenceId", "client", "actor", "requestId", "note", "metadata")),
    }
    problems = examples.PROBLEMS["listEntries"]
    examples.ANSWERS |= {
        "getBalance": examples.ANSWERS["getBalance"]
        | {"then": examples.ANSWERS["getBalance"]["user"] | {"at": _AT, "updatedAt": "2026-01-14T18:03:11.250000Z"}},
        "listTransactions": {
            "page": {"ok": True, "transactions": [spend], "next": _NEXT},
            "side": {"ok": True, "transactions": [side]},
        },
        "listRates": {
            "now": {
                "ok": True,
                "rates": [
                    {"from": "GOLD", "to": "DIAMOND", "rate": "0.1", "validFrom": _AT, "validTo": None},
                    {
                        "from": "DIAMOND",
                        "to": "GOLD",
                        "rate": "9.5",
                        "validFrom": _AT,
                        "validTo": "2026-02-01T00:00:00.000000Z",
                    },
                ],
            }
        },
    }
    examples.PROBLEMS |= {
        "getBalance": examples.PROBLEMS["getBalance"]
        | {409: problems[409], 422: examples.PROBLEMS["getBalance"][422] | _AHEAD},
        "listEntries": problems | {422: problems[422] | _BAD_INSTANT},
        "listTransactions": problems | {422: problems[422] | _BAD_INSTANT | _RANGE},
        "listRates": examples.PROBLEMS["listAssets"],
    }
