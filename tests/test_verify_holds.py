"""Verification of holds: what is right stays so through a hold's whole life, and each way to tamper with one shows."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Tamper
from tests.test_verify import ORIGIN, Tampering
from wallet_app import service

pytestmark = pytest.mark.wide

JOHN = 3


def place(amount: int, reference: str, expires_in: int = 600) -> service.Hold:
    command = service.PlaceHold(
        wallet_id=JOHN, amount=amount, expires_in=expires_in, reference=reference, origin=ORIGIN, note="held"
    )
    hold = service.execute(command).hold
    assert hold is not None
    return hold


def capture(hold: service.Hold, reference: str, amount: int | None = None, **more: Any) -> None:
    service.execute(
        service.CaptureHold(
            wallet_id=JOHN, hold_id=hold.hold_id, amount=amount, reference=reference, origin=ORIGIN, **more
        )
    )


def release(hold: service.Hold, reference: str) -> None:
    service.execute(service.ReleaseHold(wallet_id=JOHN, hold_id=hold.hold_id, reference=reference, origin=ORIGIN))


def live() -> None:
    """Seq 2: captured in parts to the end; 3: released; 4: expired; 5: open, captured in part. Balance 500 before."""
    captured, released, expired, left = (place(100, f"hold-{n}", 1 if n == 2 else 600) for n in range(4))
    capture(captured, "part-1", 10)
    capture(captured, "part-2", 20, is_final=True)
    release(released, "release")
    capture(left, "part-3", 30)
    deadline = time.monotonic() + 30
    while service.get_hold(expired.hold_id).hold.state != "expired":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    service.execute(service.TopUp(wallet_id=JOHN, amount=1, reference="settles", origin=ORIGIN))


def test_a_hold_s_life_is_right_at_each_step(app: Flask) -> None:
    assert app
    live()
    for full in (False, False, True, False):
        assert service.verify(full=full).broken() == set()


TAMPERINGS = [
    Tampering("captured moved to released", "UPDATE holds SET captured = 20, released = 80 WHERE seq = 2", {"holds"}),
    Tampering("state", "UPDATE holds SET state = 'released' WHERE seq = 2", {"holds"}),
    Tampering("state of a released one", "UPDATE holds SET state = 'captured' WHERE seq = 3", {"holds"}),
    Tampering("the end", "UPDATE holds SET ended_at = ended_at - interval '1 second' WHERE seq = 3", {"holds"}),
    Tampering("a longer life", "UPDATE holds SET expires_at = expires_at + interval '1 day' WHERE seq = 5", {"holds"}),
    Tampering("a shorter one", "UPDATE holds SET expires_at = created_at WHERE seq = 5", {"holds"}),
    Tampering("expired moved to released", "UPDATE holds SET expired = 0, released = 100 WHERE seq = 4", {"holds"}),
    Tampering("less left", "UPDATE holds SET captured = 40 WHERE seq = 5", {"held", "holds"}),
    Tampering("a larger amount", "UPDATE holds SET amount = 200 WHERE seq = 5", {"held", "holds"}),
    Tampering(
        "a finished one opened again",
        "UPDATE holds SET state = 'open', released = 0, ended_at = NULL WHERE seq = 3",
        {"held", "holds"},
    ),
    Tampering("a part forgotten", "UPDATE holds SET changes = changes[2:] WHERE seq = 2", {"holds"}),
    Tampering("another's part", "UPDATE holds SET changes = changes || 8::bigint WHERE seq = 5", {"holds"}),
    Tampering("another id", "UPDATE holds SET hold_id = gen_random_uuid() WHERE seq = 3", {"placed", "holds"}),
    Tampering("an open one removed", "DELETE FROM holds WHERE seq = 5", {"held", "placed", "holds"}),
    Tampering("a finished one removed", "DELETE FROM holds WHERE seq = 3", {"placed", "holds"}),
    Tampering(
        "an invented one",
        """INSERT INTO holds SELECT wallet_id, 1, gen_random_uuid(), amount, captured, released, expired, state,
                  expires_at, created_at, ended_at, changes FROM holds WHERE seq = 3""",
        {"placed"},
    ),
    Tampering("held", "UPDATE wallet_balances SET held = 0 WHERE wallet_id = 3", {"held", "projection"}),
    Tampering(
        "a capture of another hold",
        """UPDATE transactions SET request = jsonb_set(request, '{hold}', to_jsonb((SELECT hold_id FROM holds
            WHERE seq = 5)::text)) WHERE reference_id = 'part-1'""",
        {"holds", "digests"},
    ),
    Tampering(
        "a capture of no hold",
        "UPDATE transactions SET request = jsonb_set(request, '{hold}', '\"none\"') WHERE reference_id = 'part-1'",
        {"holds", "digests"},
    ),
    Tampering(
        "an expiry that was asked for otherwise",
        "UPDATE transactions SET request = jsonb_set(request, '{expiresIn}', '\"x\"') WHERE reference_id = 'hold-0'",
        {"holds", "digests"},
    ),
]


@pytest.mark.tampers
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("tampering", TAMPERINGS, ids=[tampering.name for tampering in TAMPERINGS])
def test_each_tampering_is_named(app: Flask, tamper: Tamper, tampering: Tampering, full: bool) -> None:
    assert app
    live()
    tamper(tampering.sql)
    found = service.verify(full=full).broken()
    # Whoever changes what was asked for changes what the digest covers, and so the chain.
    assert found - {"chain"} == tampering.broken
    assert service.verify(full=full).broken() - {"chain"} == tampering.broken, "until it is gone"


@pytest.mark.tampers
def test_a_finished_hold_that_is_changed_long_after_is_found_by_a_full_run(app: Flask, tamper: Tamper) -> None:
    assert app
    live()
    assert service.verify().is_clean
    tamper("UPDATE holds SET captured = 20, released = 80 WHERE seq = 2")
    assert service.verify(full=True).broken() == {"holds"}


@pytest.mark.tampers
def test_an_overdue_hold_is_a_note_and_no_fault(app: Flask, tamper: Tamper) -> None:
    assert app
    place(100, "hold")
    assert service.verify().notes == []
    tamper(
        """UPDATE holds SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour';
           UPDATE ledger_entries SET created_at = created_at - interval '1 hour' WHERE entry_type = 'HOLD'"""
    )
    report = service.verify()
    assert "1 holds have been due for more than 10 minutes" in report.notes[0]
    assert not {"holds", "held", "placed"} & report.broken()


def test_a_rebuild_knows_what_is_held(app: Flask, tamper: Tamper) -> None:
    assert app
    live()
    tamper("UPDATE wallet_balances SET held = 7 WHERE wallet_id = 3", "DELETE FROM wallet_balances WHERE wallet_id = 4")
    report = service.rebuild_balances()
    assert [str(change) for change in report.changes if change.wallet_id == JOHN] == ["wallet 3, held: 7 -> 70"]
    assert service.verify(full=True).is_clean
