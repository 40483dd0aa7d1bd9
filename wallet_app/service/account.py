"""What operators do about their own sign-in, once they are signed in and have proved it anew."""

from __future__ import annotations

from sqlalchemy import Connection, text

from wallet_app.db import reads, unit_of_work
from wallet_app.service import audit, passwords, second_factor, sessions
from wallet_app.service.sessions import Session, Visitor, act


def change_password(session: Session, password: str, *, visitor: Visitor) -> None:
    """Give the operator the new password, and end every session of theirs.

    The caller has had a fresh proof of who they are. Raises WeakPasswordError, OverloadedError, NotSignedInError.
    """
    passwords.require_strength(password, about=(session.email, session.name))
    password_hash = passwords.make_hash(password)
    with unit_of_work() as connection:
        sessions.require_current(connection, session)
        connection.execute(_PASSWORD, {"id": session.operator_id, "password_hash": password_hash})
        sessions.end_all_of(connection, session.operator_id)
        audit.record(connection, act(session.operator_id, "operator:change_password", visitor))


def new_recovery_codes(session: Session, *, visitor: Visitor) -> list[str]:
    """Return new recovery codes, to be shown once; the ones before are void.

    The caller has had a fresh proof of who they are. Raises NotSignedInError.
    """
    with unit_of_work() as connection:
        sessions.require_current(connection, session)
        codes = second_factor.make_recovery_codes(connection, session.operator_id)
        audit.record(connection, act(session.operator_id, "operator:new_recovery_codes", visitor))
    return codes


@reads
def recovery_codes_left(connection: Connection, session: Session) -> int:
    """Return how many recovery codes the operator has not used."""
    left: int = connection.execute(_LEFT, {"id": session.operator_id}).scalar_one()
    return left


_PASSWORD = text("UPDATE operators SET password_hash = :password_hash WHERE id = :id")
_LEFT = text("SELECT count(*) FROM recovery_codes WHERE operator_id = :id AND used_at IS NULL")
