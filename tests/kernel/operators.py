"""Operators for tests below the console: sessions as a sign-in leaves them, without a browser."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.service import sessions

VISITOR = service.Visitor(address="192.0.2.1", browser="a test", request_id="request-1")
NAMES = {"maker": "support", "other": "support", "checker": "approver", "second": "approver", "viewer": "viewer"}
"""Operators by what they are here for, and their roles."""


def email_of(name: str) -> str:
    return f"{name}@wallet.example"


def make_operator(name: str, role: str) -> None:
    service.create_operator(email=email_of(name), name=f"Olga {name}", role=role, by=service.By(actor="tests"))


def sign_in(name: str) -> service.Session:
    """Return a session of the operator that has just begun."""
    with unit_of_work() as connection:
        found = connection.execute(
            text("SELECT id, epoch FROM operators WHERE email = :email"), {"email": email_of(name)}
        ).one()
        cookie = sessions.begin(connection, operator_id=found.id, epoch=found.epoch, stage="signed_in", visitor=VISITOR)
    session = service.find_session(cookie)
    assert session is not None
    return session


def adjustment(wallet_id: int, amount: int, **more: Any) -> service.AdjustOperation:
    """Return a credit, or for an amount below zero a debit, that needs nothing but its reason."""
    values = {"reason_code": "CORRECTION", "ticket": "T-1", "note": "a test", **more}
    direction = "debit" if amount < 0 else "credit"
    return service.AdjustOperation(wallet_id=wallet_id, direction=direction, amount=abs(amount), **values)
