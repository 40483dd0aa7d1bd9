"""The verbs: a command, or a batch of them, becomes answers. After COMMIT, and never before."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Engine

from wallet_app.db import db
from wallet_app.errors import OutcomeUnknownError, WalletBusyError
from wallet_app.service.attempts import post_with_retries
from wallet_app.service.books import Receipt
from wallet_app.service.commands import Command, require_permitted
from wallet_app.service.group_commit import GroupCommit
from wallet_app.service.loading import Clock
from wallet_app.service.ownership import require_owned
from wallet_app.service.posting import Deferred, Outcome

REQUEST_SECONDS_MAX = 10.0
BATCH_MAX = 1_000

_lanes: dict[Engine, GroupCommit] = {}


def use_group_commit(engine: Engine) -> GroupCommit:
    """Let `execute` on this engine share database transactions; return its lanes."""
    if engine not in _lanes:
        _lanes[engine] = GroupCommit(engine)
    return _lanes[engine]


def execute(command: Command, *, seconds_max: float = REQUEST_SECONDS_MAX) -> Receipt:
    """Post one command and return its receipt; raise the WalletServiceError that it declines with.

    What its permit does not allow is declined before it is queued. Locks the command's wallets. After `seconds_max` an
    UnavailableError tells what is known.
    """
    require_permitted(command)
    try:
        return _execute(command, seconds_max)
    except (WalletBusyError, OutcomeUnknownError):
        # Only a wallet that exists can be held by somebody.
        require_owned(command)
        raise


def _execute(command: Command, seconds_max: float) -> Receipt:
    lanes = _lanes.get(db.engine)
    if lanes is None:
        outcome = execute_batch([command], seconds_max=seconds_max)[0]
    else:
        outcome = lanes.execute(command, seconds_max=seconds_max)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def execute_batch(
    commands: Sequence[Command], *, seconds_max: float = REQUEST_SECONDS_MAX, clock: Clock | None = None
) -> list[Outcome]:
    """Post up to BATCH_MAX commands in one unit of work, each answered on its own, in order.

    Locks all wallets of the batch at once and waits for them. A command that cannot be written for a reason of its own
    is an exception among the outcomes and leaves the others alone. `clock` dates invented history.
    """
    if len(commands) > BATCH_MAX:
        raise ValueError(f"a batch has at most {BATCH_MAX} commands, not {len(commands)}")
    outcomes = post_with_retries(db.engine, commands, deadline=time.monotonic() + seconds_max, clock=clock)
    return [_decided(outcome) for outcome in outcomes]


def _decided(outcome: Outcome | Deferred) -> Outcome:
    # A batch that waits for all its wallets defers nothing; the types do not know that.
    if isinstance(outcome, Deferred):
        return WalletBusyError(
            "The wallet is held by another posting; nothing was posted. Repeat with the same reference."
        )
    return outcome
