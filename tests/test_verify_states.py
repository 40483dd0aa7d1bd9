"""Verification of how wallets stand: right through freezes and closings, and each way to tamper with one shows."""

from __future__ import annotations

import datetime as dt

import pytest
from flask import Flask

from tests.conftest import Tamper
from tests.test_verify import ORIGIN, Tampering
from wallet_app import service

pytestmark = pytest.mark.wide

JOHN, DOE_DIAMOND = 3, 6
FAR = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)


def live() -> None:
    """Wallet 3 was frozen on both sides, unfrozen on one, frozen there again with an end; 6 is closed."""

    def freeze(reference: str, side: service.Side, until: dt.datetime | None = None) -> service.Freeze:
        return service.Freeze(wallet_id=JOHN, reference=reference, origin=ORIGIN, side=side, until=until, reason="why")

    for command in (
        freeze("first", "both"),
        service.Unfreeze(wallet_id=JOHN, reference="second", origin=ORIGIN, side="credits", reason="why"),
        freeze("third", "credits", FAR),
        freeze("fourth", "debits", FAR),
        service.Close(wallet_id=DOE_DIAMOND, reference="end", origin=ORIGIN, reason="why"),
    ):
        service.execute(command)


def test_how_wallets_stand_is_right_at_each_step(app: Flask) -> None:
    assert app
    live()
    service.execute(service.Unfreeze(wallet_id=JOHN, reference="last", origin=ORIGIN, reason="why"))
    for full in (False, False, True, False):
        assert service.verify(full=full).broken() == set()


def of(reference: str) -> str:
    return f"(SELECT transaction_id FROM transactions WHERE reference_id = '{reference}')"


def with_result(reference: str, name: str, value: str) -> str:
    return f"""UPDATE transactions SET result = jsonb_set(result, '{{{name}}}', '{value}')
                WHERE reference_id = '{reference}'"""


UNFREEZE_QUIETLY = "UPDATE wallets SET debits_frozen_until = NULL WHERE id = 3"
TAMPERINGS = [
    Tampering("unfrozen", UNFREEZE_QUIETLY, {"state"}),
    Tampering("frozen", "UPDATE wallets SET credits_frozen_until = '2999-01-01 00:00:01+00' WHERE id = 3", {"state"}),
    Tampering("opened again", "UPDATE wallets SET status = 'ACTIVE' WHERE id = 6", {"state"}),
    Tampering("closed", "UPDATE wallets SET status = 'CLOSED' WHERE id = 3", {"state", "closed"}),
    Tampering(
        "another's command",
        f"UPDATE wallets SET state_transaction_id = {of('third')} WHERE id = 6",
        {"state", "states"},
    ),
    Tampering(
        "no command", "UPDATE wallets SET state_transaction_id = gen_random_uuid() WHERE id = 3", {"state", "states"}
    ),
    Tampering(
        "the last command forgotten",
        f"""UPDATE wallets SET state_transaction_id = {of("third")}, debits_frozen_until = '9999-01-01 00:00+00'
             WHERE id = 3""",
        {"states"},
    ),
    Tampering(
        "the last command removed, and the wallet made to fit it",
        f"""{UNFREEZE_QUIETLY}; DELETE FROM transactions WHERE reference_id = 'fourth'""",
        {"state", "states"},
    ),
    Tampering("a command in the middle removed", "DELETE FROM transactions WHERE reference_id = 'second'", {"states"}),
    Tampering(
        "a command left out",
        f"""UPDATE transactions SET result = jsonb_set(result, '{{previous}}', to_jsonb({of("first")}::text))
             WHERE reference_id = 'third'""",
        {"states", "digests"},
    ),
    Tampering(
        "a result", with_result("second", "creditsUntil", '"2999-01-01T00:00:00.000000Z"'), {"states", "digests"}
    ),
    Tampering("a result that is none", with_result("third", "previous", '"none"'), {"states", "digests"}),
    Tampering("the last result", with_result("fourth", "status", '"CLOSED"'), {"state", "states", "digests"}),
    Tampering(
        "what was asked for",
        """UPDATE transactions SET request = jsonb_set(request, '{side}', '"both"') WHERE reference_id = 'third'""",
        {"states", "digests"},
    ),
    Tampering(
        "another kind",
        "UPDATE transactions SET kind = 'UNFREEZE' WHERE reference_id = 'third'",
        {"states", "digests"},
    ),
    Tampering(
        "an invented command",
        """INSERT INTO transactions (wallet_id, reference_id, transaction_id, kind, client, actor, request, result,
                  digest, occurred_at, created_at)
           SELECT wallet_id, 'new', '01ffffff-ffff-7fff-bfff-ffffffffffff', kind, client, actor, request, result,
                  digest, occurred_at, created_at FROM transactions WHERE reference_id = 'fourth'""",
        {"states", "digests"},
    ),
    Tampering(
        "an entry of one",
        "UPDATE transactions SET entry_keys = '{3,1}' WHERE reference_id = 'fourth'",
        {"states", "entries"},
    ),
    Tampering(
        "something left in a closed wallet",
        "UPDATE wallet_balances SET held = 5 WHERE wallet_id = 6",
        {"closed", "projection", "held"},
    ),
]


@pytest.mark.tampers
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=[tampering.name for tampering in TAMPERINGS])
def test_each_tampering_is_named(app: Flask, tamper: Tamper, tampering: Tampering, full: bool) -> None:
    assert app
    live()
    tamper(tampering.sql)
    assert service.verify(full=full).broken() == tampering.broken
    assert service.verify(full=full).broken() == tampering.broken, "until it is gone"


@pytest.mark.tampers
def test_a_switch_is_no_state_and_a_wallet_unfrozen_past_the_service_is_named_in_words(
    app: Flask, tamper: Tamper
) -> None:
    assert app
    live()
    settings = service.SwitchSettings(target="everything", side="both", reason="a test")
    service.set_switch(settings, by=service.By(actor="tests"))
    assert service.verify(full=True).is_clean
    tamper(UNFREEZE_QUIETLY)
    (fault,) = service.verify().findings["state"].examples
    assert "wallet 3" in str(fault)
    assert "debits frozen until <NULL>" in str(fault) or "debits frozen until ," in str(fault)
