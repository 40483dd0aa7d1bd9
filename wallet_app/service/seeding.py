"""What a new database starts with: assets, the system's own users, and, to try things out, John and Doe.

Safe to repeat: everything is found again, and the first balances are SEED entries under references of their own.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from wallet_app.db import unit_of_work
from wallet_app.errors import InvalidError, RefusedError
from wallet_app.models import SYSTEM_USERS
from wallet_app.service import execution, settled, wallets
from wallet_app.service.commands import Bonus, Command, Origin, Seed, Spend, TopUp

_SEEDING_LOCK = 7_402_002
_ASSETS = (("GOLD", "Gold Coins"), ("DIAMOND", "Diamonds"))
_PEOPLE = (("John", {"GOLD": 500, "DIAMOND": 10}), ("Doe", {"GOLD": 300, "DIAMOND": 0}))
_ORIGIN = Origin(client="system", actor="flask seed")

_HISTORY_DAYS = 90
_BATCH = 250
_SAID_FOR = settled.OLDER_WITHIN.total_seconds() / 3
"""For how long it holds that older ids were said to come: so that each batch has twice that to begin."""
_BUSY_HOURS = (2, 1, 1, 1, 1, 2, 4, 6, 6, 5, 5, 6, 8, 7, 6, 7, 9, 12, 15, 18, 20, 18, 11, 5)
"""How much is played in each hour of the day, against the other hours."""

_Kind = type[TopUp] | type[Bonus] | type[Spend]
_Priced = tuple[tuple[int, str | None], ...]


@dataclass(frozen=True, slots=True)
class _Menu:
    """What an asset is got and used for: amounts with their notes."""

    top_ups: _Priced
    bonuses: _Priced
    spends: _Priced


_GOLD = _Menu(
    top_ups=((500, "Pouch of gold"), (1_200, "Chest of gold"), (6_500, "Vault of gold")),
    bonuses=((10, "Daily login"), (10, "Daily login"), (25, "Quest completed"), (50, "Weekly ranking")),
    spends=((15, None), (30, "Health potions"), (75, "Guild donation"), (120, "Sword upgrade"), (480, "Season pass")),
)
_DIAMOND = _Menu(
    top_ups=((20, "Handful of diamonds"), (55, "Bag of diamonds"), (240, "Crate of diamonds")),
    bonuses=((1, "Daily login"), (3, "Achievement"), (5, "Tournament")),
    spends=((2, "Revive"), (5, "Lucky wheel"), (12, None), (40, "Dragon skin")),
)


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
        wallets.ensure_system_wallets(connection, assets.values(), owners=SYSTEM_USERS[:1])
        for name, amounts in _PEOPLE if demo else ():
            made = _ensure_player(connection, name, assets)
            balances.update({made[code]: amount for code, amount in amounts.items() if amount})
        wallets.ensure_system_wallets(connection, assets.values(), owners=SYSTEM_USERS[1:])
    _post([_seed_command(wallet_id, amount) for wallet_id, amount in balances.items()])


def _ensure_player(
    connection: Connection, name: str, assets: dict[str, int], created_at: dt.datetime | None = None
) -> dict[str, int]:
    user_id = wallets.ensure_user(connection, name=name, external_id=f"demo:{name}")
    return {
        code: wallets.ensure_wallet(connection, user_id=user_id, asset_type_id=asset_id, created_at=created_at)
        for code, asset_id in assets.items()
    }


def _seed_command(wallet_id: int, amount: int) -> Seed:
    return Seed(wallet_id=wallet_id, reference="sys:seed", origin=_ORIGIN, amount=amount)


def _post(commands: Sequence[Command]) -> None:
    for outcome in execution.execute_batch(commands) if commands else ():
        if isinstance(outcome, Exception):
            raise outcome


# --- demo users with a history ---


@dataclass(frozen=True, slots=True)
class _Player:
    number: int
    gold: int
    diamond: int


@dataclass(frozen=True, slots=True)
class _Move:
    """Something a player did, `at` seconds after the history begins."""

    at: float
    wallet_id: int
    number: int
    kind: _Kind
    amount: int
    note: str | None


def seed_users(count: int, *, progress: Callable[[int], object]) -> None:
    """Make `count` demo users, each with wallets and a history over the last 90 days; calls `progress(users made)`.

    A user's movements depend on its number alone, so a repetition finds them all and a larger count adds the rest.
    Their entries carry the invented time, not the clock's.
    """
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - dt.timedelta(days=_HISTORY_DAYS)
    expected, said_at = [], -_SAID_FOR
    for first in range(1, count + 1, _BATCH):
        players = _make_players(range(first, min(first + _BATCH, count + 1)), start)
        moves = sorted((move for player in players for move in _history(player)), key=lambda move: move.at)
        for at in range(0, len(moves), _BATCH):
            if time.monotonic() - said_at > _SAID_FOR:
                expected.append(settled.expect_older())
                said_at = time.monotonic()
            _post_moves(moves[at : at + _BATCH], start)
        progress(len(players))
    if expected:
        settled.older_are_there(expected)


def _post_moves(moves: Sequence[_Move], start: dt.datetime) -> None:
    times = iter([start + dt.timedelta(seconds=move.at) for move in moves])
    commands = [
        move.kind(
            wallet_id=move.wallet_id,
            reference=f"sys:demo:{move.number}",
            origin=_ORIGIN,
            amount=move.amount,
            note=move.note,
        )
        for move in moves
    ]
    for outcome in execution.execute_batch(commands, clock=times.__next__):
        # Someone may have played with the wallets since: what does not fit any more is left out.
        if isinstance(outcome, Exception) and not isinstance(outcome, RefusedError | InvalidError):
            raise outcome


def _make_players(numbers: range, created_at: dt.datetime) -> list[_Player]:
    with unit_of_work() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SEEDING_LOCK})
        assets = {code: wallets.ensure_asset(connection, code=code, name=name) for code, name in _ASSETS}
        players = []
        for number in numbers:
            made = _ensure_player(connection, _name(number), assets, created_at)
            players.append(_Player(number, made["GOLD"], made["DIAMOND"]))
        return players


def _name(number: int) -> str:
    first = ("Ada", "Bo", "Chen", "Dara", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea", "Mio", "Noor", "Oda")
    last = ("Stone", "River", "Fox", "Hill", "Storm", "Vale", "Frost", "Birch", "Reed", "Moor", "Lake", "Dale", "Wren")
    return f"{first[number % len(first)]} {last[number // len(first) % len(last)]} {number}"


def _history(player: _Player) -> Iterator[_Move]:
    """Yield what the player did in order of time: a gift on the day of joining, then bonuses, purchases and spends.

    Most play a little and few play much. Nobody spends what is not there.
    """
    dice = random.Random(player.number)  # noqa: S311
    balances = {player.gold: 0, player.diamond: 0}
    for number, at in enumerate(_times(dice), 1):
        wallet_id, menu = (player.diamond, _DIAMOND) if dice.random() < 0.15 else (player.gold, _GOLD)
        kind, amount, note = _choose(dice, balances[wallet_id], menu)
        if number == 1:
            wallet_id, kind, amount, note = player.gold, Bonus, 100, "Welcome gift"
        balances[wallet_id] += -amount if kind is Spend else amount
        yield _Move(at, wallet_id, number, kind, amount, note)


def _times(dice: random.Random) -> list[float]:
    joined = dice.randrange(_HISTORY_DAYS)
    moves = 2 + min(60, int(dice.paretovariate(1.1) * 3))
    days = (dice.randrange(joined, _HISTORY_DAYS) for _ in range(moves))
    return sorted(
        day * 86_400 + dice.choices(range(24), _BUSY_HOURS)[0] * 3_600 + dice.randrange(3_600_000_000) / 1_000_000
        for day in days
    )


def _choose(dice: random.Random, balance: int, menu: _Menu) -> tuple[_Kind, int, str | None]:
    affordable = [item for item in menu.spends if item[0] <= balance]
    if affordable and dice.random() < 0.6:
        return Spend, *dice.choice(affordable)
    if dice.random() < 0.65:
        return Bonus, *dice.choice(menu.bonuses)
    return TopUp, *dice.choices(menu.top_ups, (6, 3, 1))[0]
