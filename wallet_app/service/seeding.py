"""What a new database starts with: assets, the system's own users, and, to try things out, John and Doe.

Safe to repeat: everything is found again, and the first balances are SEED entries under references of their own.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from wallet_app.db import unit_of_work
from wallet_app.models import SYSTEM_USERS
from wallet_app.service import execution, wallets
from wallet_app.service.commands import Bonus, Command, Origin, Seed, Spend, TopUp

_SEEDING_LOCK = 7_402_002
_ASSETS = (("GOLD", "Gold Coins"), ("DIAMOND", "Diamonds"))
_PEOPLE = (("John", {"GOLD": 500, "DIAMOND": 10}), ("Doe", {"GOLD": 300, "DIAMOND": 0}))
_ORIGIN = Origin(client="system", actor="flask seed")

_HISTORY_DAYS = 90
_BATCH = 250
_NOTES = ("Daily login", "Starter pack", "Sword upgrade", "Season pass", "Guild donation", "Lucky wheel", None, None)


def seed(*, demo: bool) -> None:
    """Make assets and SYSTEM users with their wallets; with `demo` also John and Doe with their first balances.

    On a new database with `demo` the ids are those of the original service: Treasury's wallets 1 and 2, John's 3 and 4,
    Doe's 5 and 6, the other SYSTEM users after these.
    """
    balances: dict[int, int] = {}
    with unit_of_work() as connection:
        # Of two that seed at once the second waits and then finds everything made.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SEEDING_LOCK})
        assets = {code: wallets.ensure_asset(connection, code=code, name=name) for code, name in _ASSETS}
        _ensure_owner(connection, SYSTEM_USERS[0], "SYSTEM", assets)
        for name, amounts in _PEOPLE if demo else ():
            made = _ensure_owner(connection, name, "USER", assets)
            balances.update({made[code]: amount for code, amount in amounts.items() if amount})
        for name in SYSTEM_USERS[1:]:
            _ensure_owner(connection, name, "SYSTEM", assets)
    _post([_seed_command(wallet_id, amount) for wallet_id, amount in balances.items()])


def _ensure_owner(connection: Connection, name: str, user_type: str, assets: dict[str, int]) -> dict[str, int]:
    external_id = None if user_type == "SYSTEM" else f"demo:{name}"
    user_id = wallets.ensure_user(connection, name=name, user_type=user_type, external_id=external_id)
    return {
        code: wallets.ensure_wallet(connection, user_id=user_id, asset_type_id=asset_id)
        for code, asset_id in assets.items()
    }


def _seed_command(wallet_id: int, amount: int) -> Seed:
    return Seed(wallet_id=wallet_id, reference="sys:seed", origin=_ORIGIN, amount=amount)


def _post(commands: Sequence[Command], clock: Callable[[], dt.datetime] | None = None) -> None:
    for outcome in execution.execute_batch(commands, clock=clock) if commands else ():
        if isinstance(outcome, Exception):
            raise outcome


# --- demo users with a history ---


@dataclass(slots=True)
class _Player:
    number: int
    gold: int
    diamond: int
    gold_balance: int = 0
    moves: int = 0


def seed_users(count: int, *, progress: Callable[[int], object]) -> None:
    """Make `count` demo users, each with wallets and a history over the last 90 days; calls `progress(users made)`.

    The same count always makes the same users and movements, and a repetition finds them; a larger one adds the rest.
    Their entries carry the invented time, not the clock's.
    """
    for first in range(1, count + 1, _BATCH):
        players = _make_players(range(first, min(first + _BATCH, count + 1)))
        for commands, clock in _history(players, random.Random(first)):  # noqa: S311
            _post(commands, clock)
        progress(len(players))


def _make_players(numbers: range) -> list[_Player]:
    with unit_of_work() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SEEDING_LOCK})
        assets = {code: wallets.ensure_asset(connection, code=code, name=name) for code, name in _ASSETS}
        players = []
        for number in numbers:
            made = _ensure_owner(connection, _name(number), "USER", assets)
            players.append(_Player(number, made["GOLD"], made["DIAMOND"]))
        return players


def _name(number: int) -> str:
    first = ("Ada", "Bo", "Chen", "Dara", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea", "Mio", "Noor", "Oda")
    last = ("Stone", "River", "Fox", "Hill", "Storm", "Vale", "Frost", "Birch", "Reed", "Moor", "Lake", "Dale", "Wren")
    return f"{first[number % len(first)]} {last[number // len(first) % len(last)]} {number}"


def _history(players: list[_Player], dice: random.Random) -> Iterator[tuple[list[Command], Callable[[], dt.datetime]]]:
    """Yield batches of movements in order of time, with the clock that dates them."""
    start = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(
        days=_HISTORY_DAYS
    )
    seconds = _HISTORY_DAYS * 86_400
    moves = sorted(
        (dice.randrange(seconds), dice.randrange(1_000_000), player.number, player)
        for player in players
        for _ in range(2 + min(40, int(dice.paretovariate(1.2) * 3)))
    )
    for at in range(0, len(moves), _BATCH):
        part = moves[at : at + _BATCH]
        times = iter([start + dt.timedelta(seconds=move[0], microseconds=move[1]) for move in part])
        yield [_move(move[3], dice) for move in part], times.__next__


def _move(player: _Player, dice: random.Random) -> Command:
    player.moves += 1
    amount = dice.choice((5, 10, 20, 25, 50, 75, 100))
    kind: type[TopUp | Bonus | Spend] = dice.choices((TopUp, Bonus, Spend), (2, 3, 5))[0]
    wallet_id = player.gold
    if player.moves == 1 or (kind is Spend and player.gold_balance < amount):
        kind, amount = TopUp, dice.choice((100, 200, 500, 1000))
    if kind is not Spend and dice.random() < 0.1:
        wallet_id, amount = player.diamond, dice.randint(1, 20)
    else:
        player.gold_balance += -amount if kind is Spend else amount
    return kind(
        wallet_id=wallet_id,
        reference=f"sys:demo:{player.moves}",
        origin=_ORIGIN,
        amount=amount,
        note=dice.choice(_NOTES),
    )
