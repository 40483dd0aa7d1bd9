"""Fills lots from the history of before there were lots: bonus is spent first, and each wallet has one standing lot.

Most wallets are filled by windows over their entries alone, in one statement. Those that holds, transfers, exchanges or
reversals have touched are walked through entry by entry, in the order in which all of it was posted, because what an
entry did there depends on entries of other wallets, or on ones long before. Paid credit has no lot: a wallet that never
had a bonus gets nothing at all.

The caller holds locks that keep everybody else from posting.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import NamedTuple

from sqlalchemy import Connection, text

_ROWS = 10_000
"""Movements that are sent together."""

Key = tuple[int, int]
"""A wallet and the seq of an entry of it."""


class Step(NamedTuple):
    """An entry of a wallet that is walked through, with what its transaction tells.

    A reversal that found nothing to take back has no entry, and then one step without a seq.
    """

    wallet_id: int
    seq: int | None
    entry_type: str
    amount: int
    balance_after: int
    created_at: dt.datetime
    transaction_id: uuid.UUID
    kind: str
    keys: Sequence[int] | None
    """Wallet and seq of each entry of its transaction, where it has several, in order."""
    hold_seq: int | None
    """That of the hold which it gives back a part of."""
    undoes: Sequence[Sequence[int]] | None
    """What its transaction reverses: of each entry the wallet, the seq, what was moved and what is owed."""
    rate: Sequence[int] | None
    """That of an exchange, as a fraction."""
    is_repayment: bool
    """Whether it repays what is owed for an entry that was reversed before."""


class Movement(NamedTuple):
    """What an entry did to its wallet's standing lot."""

    wallet_id: int
    seq: int
    kind: str
    amount: int
    created_at: dt.datetime
    transaction_id: uuid.UUID


@dataclass
class Walk:
    """What is known of wallets while their entries are walked through in order."""

    undone: frozenset[Key]
    """The entries that were reversed: of these it is remembered how much bonus they moved."""
    bonus: dict[int, int] = field(default_factory=dict)
    """What is available of each wallet's standing lot."""
    held: dict[Key, int] = field(default_factory=dict)
    """How much of that lot a hold keeps."""
    moved: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """Of an entry that was reversed: how much bonus and how much paid credit it moved."""
    claimed: Counter[Key] = field(default_factory=Counter)
    """How much of such an entry was reversed so far, or is owed."""

    def walk(self, transaction: Sequence[Step]) -> Iterator[Movement]:
        """Yield what the transaction's entries, in their order, did to standing lots."""
        undoes = transaction[0].undoes or ()
        undone = iter([(wallet_id, seq) for wallet_id, seq, moved, _ in undoes if moved])
        taken = paid = 0
        for step in transaction:
            if step.seq is None:
                continue
            if step.entry_type == "REVERSAL":
                yield from self._reverse(step, next(undone))
            elif step.entry_type == "RELEASE":
                yield from self._give_back(step, transaction)
            elif step.kind == "CAPTURE":
                continue
            elif step.amount > 0:
                yield from self._credit(step, bonus=taken, paid=paid)
            else:
                taken = self._take(step)
                paid = -step.amount - taken
                yield from self._told(step, "hold" if step.entry_type == "HOLD" else "consume", taken)
        for wallet_id, seq, moved, owed in undoes:
            self.claimed[wallet_id, seq] += abs(moved) + owed

    def _credit(self, step: Step, *, bonus: int, paid: int) -> Iterator[Movement]:
        """Yield a grant of what of the credit is bonus: all of a bonus, of a transfer what the giver's was."""
        granted = 0
        if step.entry_type in ("BONUS", "ADJUSTMENT"):
            granted = step.amount
        elif step.entry_type == "TRANSFER":
            granted = bonus
        elif step.rate is not None:
            # Paid credit is rounded down, so that no bonus becomes paid.
            numerator, denominator = step.rate
            granted = step.amount - paid * numerator // denominator
        self._remember(step, granted)
        self.bonus[step.wallet_id] = self.bonus.get(step.wallet_id, 0) + granted
        yield from self._told(step, "grant", granted)

    def _take(self, step: Step) -> int:
        """Take what there is of bonus first; return how much that was."""
        there = self.bonus.get(step.wallet_id, 0)
        taken = min(there, -step.amount)
        self.bonus[step.wallet_id] = there - taken
        if step.entry_type == "HOLD":
            self.held[_key(step)] = taken
        self._remember(step, taken)
        return taken

    def _remember(self, step: Step, bonus: int) -> None:
        if _key(step) in self.undone:
            self.moved[_key(step)] = bonus, abs(step.amount) - bonus

    def _give_back(self, step: Step, transaction: Sequence[Step]) -> Iterator[Movement]:
        """Yield what a hold gave back, and what of it was spent: its bonus first."""
        spent = next((one for one in transaction if one.entry_type == "SPEND"), None)
        hold = step.wallet_id, step.hold_seq or 0
        captured = 0
        if spent is not None:
            captured = min(self.held[hold], -spent.amount)
            self._remember(spent, captured)
        # Beside what was spent of it, all that is left of the hold comes back, or nothing.
        back = step.amount + (spent.amount if spent else 0)
        released = self.held[hold] - captured if back else 0
        self.held[hold] -= captured + released
        self.bonus[step.wallet_id] = self.bonus.get(step.wallet_id, 0) + released
        yield from self._told(step, "release", released + captured)
        if spent is not None:
            yield from self._told(spent, "consume", captured)

    def _reverse(self, step: Step, undone: Key) -> Iterator[Movement]:
        """Yield what a reversal gave back to the lot, or took from it: of what the entry moved last, first."""
        bonus, paid = self.moved.get(undone, (0, 0))
        paid_left = max(0, paid - self.claimed[undone])
        bonus_left = max(0, bonus - max(0, self.claimed[undone] - paid))
        there = self.bonus.get(step.wallet_id, 0)
        if step.amount > 0:
            restored = min(bonus_left, step.amount - min(paid_left, step.amount))
            self.bonus[step.wallet_id] = there + restored
            yield from self._told(step, "restore", restored)
            return
        # What the entry brought goes first, as far as it is there; then bonus, then paid credit. A repayment takes in
        # the order of taking alone.
        amount = -step.amount
        wanted = 0 if step.is_repayment else min(paid_left, amount)
        paid_first = min(wanted, step.balance_after + amount - there)
        revoked = min(there, amount - paid_first)
        self.bonus[step.wallet_id] = there - revoked
        yield from self._told(step, "revoke", revoked)

    def _told(self, step: Step, kind: str, amount: int) -> Iterator[Movement]:
        if amount:
            yield Movement(*_key(step), kind, amount, step.created_at, step.transaction_id)


def _key(step: Step) -> Key:
    return step.wallet_id, step.seq or 0


def in_order(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Yield the transactions, each with its entries, so that each wallet's entries come one after the other.

    `steps` come in order of time, those of a transaction together. A batch has one instant for all that it posts, so
    within one instant a transaction waits for those that come before it in one of its wallets.
    """
    last: dict[int, int] = {}
    for _, together in groupby(steps, key=lambda step: step.created_at):
        waiting = [_arranged(list(steps)) for _, steps in groupby(together, key=lambda step: step.transaction_id)]
        waiting.sort(key=lambda transaction: _key(transaction[0]))
        while waiting:
            still = []
            for transaction in waiting:
                if all(last.get(wallet_id, 0) + 1 == seq for wallet_id, seq in _first(transaction)):
                    last.update(_key(step) for step in transaction if step.seq is not None)
                    yield transaction
                else:
                    still.append(transaction)
            if len(still) == len(waiting):
                raise RuntimeError(f"The entries of wallet {still[0][0].wallet_id} have a gap: run a verification.")
            waiting = still


def _arranged(steps: list[Step]) -> list[Step]:
    """Return the steps of a transaction in the order in which they were made."""
    keys = steps[0].keys or ()
    places = {(keys[place], keys[place + 1]): place for place in range(0, len(keys), 2)}
    return sorted(steps, key=lambda step: places.get(_key(step), 0))


def _first(transaction: Sequence[Step]) -> list[Key]:
    """Return the transaction's first entry in each of its wallets."""
    first: dict[int, int] = {}
    for step in transaction:
        if step.seq is not None:
            first[step.wallet_id] = min(first.get(step.wallet_id, step.seq), step.seq)
    return list(first.items())


def fill_lots(connection: Connection) -> None:
    """Make the standing lots, their movements and what balances say of them, from all entries there are."""
    connection.execute(text("SELECT set_config('work_mem', '256MB', true), set_config('jit', 'off', true)"))
    connection.execute(_FIND_WOVEN)
    connection.execute(_FILL_PLAIN)
    held = _fill_woven(connection)
    connection.execute(_ANALYZE)
    connection.execute(_MAKE_LOTS)
    connection.execute(_TELL_BALANCES)
    if held:
        wallet_ids, seqs, amounts = zip(*[(*key, amount) for key, amount in held.items()], strict=True)
        values = {"wallet_ids": list(wallet_ids), "seqs": list(seqs), "amounts": list(amounts)}
        connection.execute(_TELL_HOLDS, values)
    connection.execute(text("DROP TABLE woven_wallets"))


def _fill_woven(connection: Connection) -> dict[Key, int]:
    """Walk through the wallets that windows cannot tell of; return the bonus that open holds keep."""
    undone = frozenset(map(tuple, connection.execute(_UNDONE)))
    walk = Walk(undone=undone)
    steps = map(Step._make, connection.execute(_STEPS, execution_options={"yield_per": _ROWS}))
    told = (movement for transaction in in_order(steps) for movement in walk.walk(transaction))
    while rows := list(islice(told, _ROWS)):
        columns = dict(zip(Movement._fields, map(list, zip(*rows, strict=True)), strict=True))
        connection.execute(_INSERT, columns)
    return {key: amount for key, amount in walk.held.items() if amount}


# What a wallet's holds, transfers and reversals did follows from more than its own entries, one after the other.
_FIND_WOVEN = text("""
CREATE TEMPORARY TABLE woven_wallets ON COMMIT DROP AS
SELECT DISTINCT wallet_id FROM ledger_entries
 WHERE entry_type NOT IN ('TOPUP', 'BONUS', 'SPEND', 'SEED', 'ADJUSTMENT')
""")

# Bonus grows by what is granted, and falls with each debit, to nothing at most: what is there after an entry is the sum
# of these steps so far, less the lowest that this sum ever was below nothing. So it needs no loop.
_FILL_PLAIN = text("""
WITH steps AS (
    SELECT wallet_id, seq, transaction_id, created_at,
           CASE WHEN amount < 0 OR entry_type IN ('BONUS', 'ADJUSTMENT') THEN amount ELSE 0 END AS step
      FROM ledger_entries
     WHERE NOT EXISTS (SELECT FROM woven_wallets WHERE woven_wallets.wallet_id = ledger_entries.wallet_id)
), sums AS (
    SELECT *, sum(step) OVER (PARTITION BY wallet_id ORDER BY seq ROWS UNBOUNDED PRECEDING) AS so_far FROM steps
), there AS (
    SELECT *, so_far - least(0, min(so_far) OVER (PARTITION BY wallet_id ORDER BY seq ROWS UNBOUNDED PRECEDING))
              AS bonus
      FROM sums
), moved AS (
    SELECT *, bonus - coalesce(lag(bonus) OVER (PARTITION BY wallet_id ORDER BY seq), 0) AS moved FROM there
)
INSERT INTO lot_movements (wallet_id, seq, transaction_id, place, lot_seq, lot_part, kind, amount, expires_at,
                           created_at)
SELECT wallet_id, seq, transaction_id, 1, 0, 0, CASE WHEN moved > 0 THEN 'grant' ELSE 'consume' END, abs(moved),
       CASE WHEN moved > 0 THEN CAST('9999-01-01 00:00:00+00' AS timestamptz) END, created_at
  FROM moved
 WHERE moved <> 0
""")

_UNDONE = text("SELECT wallet_id, seq FROM reversed_entries")

_STEPS = text("""
SELECT entries.wallet_id, entries.seq, entries.entry_type, entries.amount, entries.balance_after, entries.created_at,
       entries.transaction_id, transactions.kind, transactions.entry_keys, holds.seq,
       CASE WHEN transactions.reverses IS NOT NULL THEN transactions.result -> 'parts' END,
       transactions.result -> 'rate', transactions.request ->> 'repays' IS NOT NULL
  FROM ledger_entries AS entries
  JOIN woven_wallets ON woven_wallets.wallet_id = entries.wallet_id
  JOIN transactions ON transactions.transaction_id = entries.transaction_id
  LEFT JOIN (SELECT wallet_id, seq, unnest(changes) AS change FROM holds) AS holds
    ON holds.wallet_id = entries.wallet_id AND holds.change = entries.seq
 UNION ALL
SELECT wallet_id, NULL, 'REVERSAL', 0, 0, created_at, transaction_id, kind, NULL, NULL, result -> 'parts', NULL, false
  FROM transactions
 WHERE reverses IS NOT NULL AND seq IS NULL AND coalesce(cardinality(entry_keys), 0) = 0
 ORDER BY 6, 7, 1, 2
""")

_INSERT = text("""
INSERT INTO lot_movements (wallet_id, seq, transaction_id, place, lot_seq, lot_part, kind, amount, expires_at,
                           created_at)
SELECT wallet_id, seq, transaction_id, 1, 0, 0, kind, amount,
       CASE WHEN kind = 'grant' THEN CAST('9999-01-01 00:00:00+00' AS timestamptz) END, created_at
  FROM unnest(CAST(:wallet_id AS bigint[]), CAST(:seq AS bigint[]), CAST(:kind AS text[]), CAST(:amount AS bigint[]),
              CAST(:created_at AS timestamptz[]), CAST(:transaction_id AS uuid[]))
    AS told (wallet_id, seq, kind, amount, created_at, transaction_id)
""")

_ANALYZE = text("ANALYZE lot_movements")

_MAKE_LOTS = text("""
INSERT INTO lots (wallet_id, seq, part, lot_id, kind, amount, available, held, consumed, expired, revoked, expires_at,
                  created_at, changed_at)
SELECT wallet_id, 0, 0, CAST(lpad(to_hex(wallet_id), 32, '0') AS uuid), 'bonus', granted,
       granted - held - consumed - revoked, held, consumed, 0, revoked, '9999-01-01 00:00:00+00', created_at, changed_at
  FROM (SELECT wallet_id, coalesce(sum(amount) FILTER (WHERE kind = 'grant'), 0) AS granted,
               coalesce(sum(amount) FILTER (WHERE kind = 'hold'), 0)
                   - coalesce(sum(amount) FILTER (WHERE kind = 'release'), 0) AS held,
               coalesce(sum(amount) FILTER (WHERE kind = 'consume'), 0)
                   - coalesce(sum(amount) FILTER (WHERE kind = 'restore'), 0) AS consumed,
               coalesce(sum(amount) FILTER (WHERE kind = 'revoke'), 0) AS revoked,
               min(created_at) AS created_at, max(created_at) AS changed_at
          FROM lot_movements GROUP BY wallet_id) AS sums
""")

_TELL_BALANCES = text("""
UPDATE wallet_balances SET bonus = lots.available, lots = CASE WHEN lots.held > 0 THEN 1 ELSE 0 END
  FROM lots
 WHERE lots.wallet_id = wallet_balances.wallet_id AND lots.available + lots.held > 0
""")

_TELL_HOLDS = text("""
UPDATE holds SET lots = ARRAY[0, 0, kept.amount]
  FROM unnest(CAST(:wallet_ids AS bigint[]), CAST(:seqs AS bigint[]), CAST(:amounts AS bigint[]))
    AS kept (wallet_id, seq, amount)
 WHERE holds.wallet_id = kept.wallet_id AND holds.seq = kept.seq
""")
