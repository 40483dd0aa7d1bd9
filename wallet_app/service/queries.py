"""Reads: wallets, balances, entries and transactions, as they stand at one instant; nothing here locks or writes.

`permit` is what who asks may do; None is the service itself, which may read everything. What is another's is not there.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from wallet_app.db import reads
from wallet_app.errors import SystemEntriesError, TransactionNotFoundError, WalletNotFoundError
from wallet_app.parameters import UUID, WHOLE_NUMBER
from wallet_app.round_trip import Statement, ask
from wallet_app.service.books import NOT_FROZEN, Entry, Frozen, PostedTransaction
from wallet_app.service.filters import tells
from wallet_app.service.loading import ENTRIES_OF_TRANSACTION, TRANSACTION_COLUMNS, TransactionRow, posted_transaction
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.reversals import reversible_entries

PAGE_MAX = 100


class Expiring(NamedTuple):
    """What of a wallet's credit ends: how much has ended and is not booked yet, and what will end when.

    `over` is the part of the balance that has expired; `over_back` that of what due holds will give back. `next_amount`
    ends at `next_at`; the others are how much ends within so many days.
    """

    over: int = 0
    over_back: int = 0
    next_at: dt.datetime | None = None
    next_amount: int = 0
    within_7_days: int = 0
    within_30_days: int = 0


NOTHING_EXPIRES = Expiring()


class WalletView(NamedTuple):
    """A wallet with its balance. `version` and `held` are 0 for a SYSTEM wallet, whose balance may be below zero.

    `balance`, `held` and `owed` are what the books say at `version`. `due` is the part of `held` whose time is over: it
    is held no more, and the next command gives it back by an entry, as it books what has expired. What there is as soon
    as all that is settled, `available`, `held_now`, `owed_now`, `bonus` and `paid` tell.
    `status` is ACTIVE, FROZEN where anything is `frozen` now, or CLOSED.
    `owed` is what could not be taken back of it.
    """

    wallet_id: int
    user_id: int
    user_name: str
    user_type: str
    asset_code: str
    asset_name: str
    asset_scale: int
    status: str
    balance: int
    held: int
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime
    due: int
    owed: int
    frozen: Frozen = NOT_FROZEN
    bonus: int = 0
    """What of `available` was granted."""
    expiring: Expiring = NOTHING_EXPIRES

    @property
    def repaid(self) -> int:
        """How much will be repaid of what is owed, from what is due."""
        return max(0, min(self.owed, self._there))

    @property
    def available(self) -> int:
        """What can be spent now."""
        return self._there - self.repaid

    @property
    def paid(self) -> int:
        """What of `available` was not granted."""
        return self.available - self.bonus

    @property
    def held_now(self) -> int:
        """What holds keep whose time is not over."""
        return self.held - self.due

    @property
    def owed_now(self) -> int:
        """What is owed when what is due has repaid its part."""
        return self.owed - self.repaid

    @property
    def _there(self) -> int:
        return self.balance + self.due - self.expiring.over - self.expiring.over_back


class EntryView(NamedTuple):
    """An entry with what its transaction tells about it.

    Note and metadata are None when there were none, or they were erased. Of another's transaction, like a transfer that
    came in, a limited permit is told neither these nor reference and actor.
    """

    entry: Entry
    transaction_id: uuid.UUID
    reference: str | None
    kind: str
    actor: str | None
    note: str | None
    metadata: dict[str, Any] | None
    occurred_at: dt.datetime


class Reversible(NamedTuple):
    """What became of an entry that can be reversed; `amount` is the entry's, without its sign.

    `expired` is what has expired of the lots that it granted: that is gone, and is not taken a second time.
    """

    wallet_id: int
    seq: int
    amount: int
    reversed: int
    owed: int
    expired: int

    @property
    def remaining(self) -> int:
        """How much of it a reversal that came now could reverse at most, if the wallet has that much."""
        # What a reversal took from other credit, and came back to the lot and expired there, is counted twice.
        return max(0, self.amount - self.reversed - self.owed - self.expired)


@dataclass(frozen=True, slots=True)
class TransactionView:
    """A transaction with note and metadata and, by wallet id, the code of the asset that each entry moved.

    `reversible` is what became of its entries that can be reversed; none of a kind that cannot. Unless `is_own`, who
    asks has only a side of it: anchor, reference, client, actor and request id of `transaction` are not theirs to know,
    and reason, note and metadata are None. So they are to a user of what may be about the user: it is for those who
    decide.
    """

    transaction: PostedTransaction
    note: str | None
    metadata: dict[str, Any] | None
    asset_codes: dict[int, str]
    reversible: tuple[Reversible, ...]
    is_own: bool
    reason: str | None


@reads
def get_wallet(connection: Connection, wallet_id: int, *, permit: Permit | None = None) -> WalletView:
    """Return the wallet with its balance; raise WalletNotFoundError or AssetNotAllowedError."""
    # Most wallets have no lots and hold nothing. Beginning and ending the whole view is most of what it costs for them.
    (found,) = ask(connection, _PLAIN_WALLET(wallet_id))
    if not found:
        (found,) = ask(connection, _WALLET(wallet_id))
    if not found or not reaches(permit, found[0].user_id):
        raise WalletNotFoundError(wallet_id)
    wallet: WalletView = found[0]
    if permit is not None:
        permit.require_asset(wallet.asset_code)
    return wallet


@reads
def list_entries(
    connection: Connection, wallet_id: int, *, before_seq: int | None, limit: int, permit: Permit | None = None
) -> Sequence[EntryView]:
    """Return up to `limit` + 1 entries of a user wallet, newest first, with seq below `before_seq`.

    The one too many tells that there is a next page. Raises WalletNotFoundError, AssetNotAllowedError or
    SystemEntriesError.
    """
    (rows,) = ask(connection, _ENTRIES(wallet_id, before_seq, min(limit, PAGE_MAX) + 1))
    if not rows or not reaches(permit, rows[0].user_id):
        raise WalletNotFoundError(wallet_id)
    if permit is not None:
        permit.require_asset(rows[0].asset_code)
    if rows[0].user_type == "SYSTEM":
        raise SystemEntriesError(wallet_id)
    return [entry_view(row, permit) for row in rows if row.seq is not None]


@reads
def get_transaction(
    connection: Connection, transaction_id: uuid.UUID, *, permit: Permit | None = None
) -> TransactionView:
    """Return the transaction with its entries; raise TransactionNotFoundError or AssetNotAllowedError.

    Of one that moved several users' wallets, a permit that reaches one user is shown that user's entries alone.
    """
    (all_rows,) = ask(connection, _TRANSACTION(transaction_id))
    rows = [row for row in all_rows if reaches(permit, row.user_id)]
    if not rows:
        raise TransactionNotFoundError(str(transaction_id))
    if permit is not None:
        for row in rows:
            permit.require_asset(str(row.asset_code))
    return transaction_view(rows, permit)


def transaction_view(rows: Sequence[TransactionRow], permit: Permit | None) -> TransactionView:
    """Return the transaction that the rows are, one per entry that is to be shown, as the permit is shown it."""
    row = rows[0]
    is_own = _is_own(row.anchor_user_id, row.anchor_asset_code, permit)
    transaction = posted_transaction(rows)
    is_told = is_own and tells(row.kind, row.actor, permit)
    return TransactionView(
        transaction,
        row.note if is_told else None,
        row.metadata if is_told else None,
        {row.entry_wallet_id: row.asset_code or "" for row in rows if row.entry_wallet_id is not None},
        _reversible(transaction, rows),
        is_own,
        _reason(transaction) if is_told else None,
    )


def _reason(transaction: PostedTransaction) -> str | None:
    """Return why it was done, if it has to say so: in words, or by an operator's reason code."""
    requested = transaction.requested
    reason: str | None = requested.get("reason", requested.get("reasonCode"))
    return reason


def _is_own(user_id: int | None, asset_code: str | None, permit: Permit | None) -> bool:
    """Tell whether the permit reaches the anchor of a transaction; None stands for one that it reaches for certain."""
    if permit is None or user_id is None:
        return True
    return reaches(permit, user_id) and (permit.assets is None or asset_code in permit.assets)


def _reversible(transaction: PostedTransaction, rows: Sequence[TransactionRow]) -> tuple[Reversible, ...]:
    became = {
        (row.entry_wallet_id, row.entry_seq): (row.reversed or 0, row.owed or 0, int(row.expired or 0)) for row in rows
    }
    return tuple(
        Reversible(entry.wallet_id, entry.seq, abs(entry.amount), *became[entry.wallet_id, entry.seq])
        for entry in reversible_entries(transaction)
    )


def wallet_view(columns: Sequence[Any]) -> WalletView:
    """Return the view that a row of WALLET_VIEW is."""
    frozen = Frozen(columns[15], columns[16])
    status = "FROZEN" if columns[7] == "ACTIVE" and any(frozen) else columns[7]
    # A SYSTEM wallet's balance is a numeric.
    bonus, has_lots, *expiring = columns[17:]
    return WalletView._make(
        (
            *columns[:7],
            status,
            *(int(columns[8]), *columns[9:15], frozen),
            *(int(bonus), Expiring(*expiring) if has_lots else NOTHING_EXPIRES),
        )
    )


class EntryRow(NamedTuple):
    """An entry of a wallet; all but the first four are None if the wallet has no entries to show.

    The anchor's user and asset are None where the wallet is the anchor itself.
    """

    wallet_id: int
    user_id: int
    user_type: str
    asset_code: str
    seq: Any
    transaction_id: uuid.UUID
    entry_type: str
    amount: int
    balance_after: int
    contra_wallet_id: int
    created_at: dt.datetime
    hash: bytes
    reference_id: str
    kind: str
    actor: str
    occurred_at: dt.datetime
    note: str | None
    metadata: dict[str, Any] | None
    anchor_user_id: int | None
    anchor_asset_code: str | None


def entry_of(row: Any) -> Entry:
    """Return the entry whose columns, as the ledger calls them, are among the row's."""
    return Entry(
        wallet_id=row.wallet_id,
        seq=row.seq,
        entry_type=row.entry_type,
        amount=row.amount,
        balance_after=row.balance_after,
        contra_wallet_id=row.contra_wallet_id,
        created_at=row.created_at,
        hash=row.hash,
    )


def entry_view(row: EntryRow, permit: Permit | None) -> EntryView:
    """Return the entry as the permit is shown it."""
    is_own = _is_own(row.anchor_user_id, row.anchor_asset_code, permit)
    is_told = is_own and tells(row.kind, row.actor, permit)
    return EntryView(
        entry=entry_of(row),
        transaction_id=row.transaction_id,
        reference=row.reference_id if is_own else None,
        kind=row.kind,
        actor=row.actor if is_own else None,
        note=row.note if is_told else None,
        metadata=row.metadata if is_told else None,
        occurred_at=row.occurred_at,
    )


UNITS_OF_HOLDS = """
SELECT holds.lots[place] AS seq, CAST(holds.lots[place + 1] AS integer) AS part, holds.lots[place + 2] AS amount
  FROM holds
 CROSS JOIN LATERAL generate_series(1, cardinality(holds.lots), 3) AS place
 WHERE holds.wallet_id = {wallet} AND holds.ended_at IS NULL AND {which}
"""
"""Selects the units of lots that open holds of a wallet keep."""

_VIEW = """
SELECT wallets.id AS wallet_id, wallets.user_id, users.name AS user_name, users.user_type,
       asset_types.code AS asset_code, asset_types.name AS asset_name, asset_types.scale AS asset_scale,
       wallets.status,
       CAST(CASE users.user_type
            WHEN 'SYSTEM' THEN (SELECT coalesce(sum(balance), 0) FROM system_balances WHERE wallet_id = wallets.id)
            ELSE coalesce(wallet_balances.balance, last.balance_after, 0) END AS numeric(38, 0)) AS balance,
       coalesce(wallet_balances.held, 0) AS held,
       coalesce(wallet_balances.version, last.seq, 0) AS version,
       wallets.created_at,
       coalesce(wallet_balances.updated_at, last.created_at, wallets.created_at) AS updated_at,
       holding.due,
       coalesce(wallet_balances.owed, 0) AS owed,
       CASE WHEN wallets.debits_frozen_until > clock.now THEN wallets.debits_frozen_until END AS debits_frozen_until,
       CASE WHEN wallets.credits_frozen_until > clock.now
            THEN wallets.credits_frozen_until END AS credits_frozen_until,
       CASE WHEN wallet_balances.lots > 0 THEN lots.bonus ELSE coalesce(wallet_balances.bonus, last.bonus, 0) END
           AS bonus,
       coalesce(wallet_balances.lots > 0, false) AS has_lots,
       lots.over, lots.over_back, lots.next_at, lots.next_amount, lots.within_7_days, lots.within_30_days
  FROM {wallets}
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN wallet_balances ON wallet_balances.wallet_id = wallets.id
  -- A lost balance row is made again by the next posting; until then its last entry tells what it will say.
  LEFT JOIN LATERAL (
       SELECT balance_after, seq, created_at,
              (SELECT sum(available) FROM lots WHERE wallet_id = wallets.id AND kind = 'bonus') AS bonus
         FROM ledger_entries
        WHERE wallet_id = wallets.id AND wallet_balances.wallet_id IS NULL
        ORDER BY seq DESC LIMIT 1
       ) AS last ON true
 -- One instant for all that is compared with it. When a clock was set back, the wallet's last entry tells the time.
 CROSS JOIN LATERAL (SELECT greatest(wallet_balances.updated_at, clock_timestamp()) AS now OFFSET 0) AS clock
 CROSS JOIN LATERAL (
       SELECT CASE WHEN wallet_balances.held > 0 THEN (
              SELECT CAST(coalesce(sum(amount - captured - released - expired), 0) AS bigint) FROM holds
               WHERE wallet_id = wallets.id AND ended_at IS NULL AND expires_at <= clock.now
              ) ELSE 0 END AS due OFFSET 0
       ) AS holding
  LEFT JOIN LATERAL (
       SELECT CAST(coalesce(sum(amount + back) FILTER (WHERE NOT is_over AND kind = 'bonus'), 0) AS bigint) AS bonus,
              CAST(coalesce(sum(amount) FILTER (WHERE is_over), 0) AS bigint) AS over,
              CAST(coalesce(sum(back) FILTER (WHERE is_over), 0) AS bigint) AS over_back,
              min(next_at) AS next_at,
              CAST(coalesce(sum(amount + back) FILTER (WHERE expires_at = next_at), 0) AS bigint) AS next_amount,
              CAST(coalesce(sum(amount + back) FILTER (WHERE days_left <= interval '7 days'), 0) AS bigint)
                  AS within_7_days,
              CAST(coalesce(sum(amount + back) FILTER (WHERE days_left <= interval '30 days'), 0) AS bigint)
                  AS within_30_days
         FROM (SELECT *, expires_at <= clock.now AS is_over,
                      CASE WHEN expires_at > clock.now THEN expires_at - clock.now END AS days_left,
                      min(expires_at) FILTER (WHERE expires_at > clock.now AND expires_at < {no_end}) OVER () AS next_at
                 FROM (SELECT kind, expires_at, available AS amount, 0 AS back FROM lots
                        WHERE wallet_id = wallets.id AND available > 0
                        UNION ALL
                       -- What due holds give back repays what is owed, in the order of taking; who owes has nothing
                       -- else.
                       SELECT kind, expires_at, 0,
                              CASE WHEN expires_at <= clock.now THEN amount
                                   ELSE greatest(0, least(amount, so_far - least(wallet_balances.owed, there))) END
                         FROM (SELECT lots.kind, lots.expires_at, units.amount,
                                      sum(units.amount) FILTER (WHERE lots.expires_at > clock.now) OVER (
                                          ORDER BY lots.expires_at, lots.kind, lots.seq, lots.part
                                           ROWS UNBOUNDED PRECEDING) AS so_far,
                                      wallet_balances.balance + holding.due
                                      - coalesce(sum(units.amount) FILTER (WHERE lots.expires_at <= clock.now) OVER (),
                                                 0) AS there
                                 FROM ({units_of_due_holds}) AS units
                                 JOIN lots ON lots.wallet_id = wallets.id AND lots.seq = units.seq
                                          AND lots.part = units.part
                              ) AS back
                        WHERE amount > 0 AND (expires_at <= clock.now OR so_far > least(wallet_balances.owed, there))
                      ) AS there
              ) AS units
        WHERE wallet_balances.lots > 0
       ) AS lots ON true
"""


WALLET_VIEW = _VIEW.replace("{no_end}", "'9999-01-01 00:00:00+00'").replace(
    "{units_of_due_holds}",
    UNITS_OF_HOLDS.format(wallet="wallets.id", which="wallet_balances.held > 0 AND holds.expires_at <= clock.now"),
)
"""Selects WalletViews, of what stands in place of {wallets}."""

_WALLET = Statement(
    "read_wallet",
    WALLET_VIEW.format(wallets="wallets") + " WHERE wallets.id = $1",
    WHOLE_NUMBER,
    row=wallet_view,
)

# What the view makes of a user's wallet without lots and holds.
_PLAIN_WALLET = Statement(
    "read_plain_wallet",
    """
SELECT wallets.id, wallets.user_id, users.name, users.user_type, asset_types.code, asset_types.name, asset_types.scale,
       wallets.status, balances.balance, balances.held, balances.version, wallets.created_at, balances.updated_at,
       0 AS due, balances.owed,
       CASE WHEN wallets.debits_frozen_until > clock.now THEN wallets.debits_frozen_until END,
       CASE WHEN wallets.credits_frozen_until > clock.now THEN wallets.credits_frozen_until END,
       balances.bonus, false AS has_lots
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  JOIN wallet_balances AS balances ON balances.wallet_id = wallets.id
 CROSS JOIN LATERAL (SELECT greatest(balances.updated_at, clock_timestamp()) AS now OFFSET 0) AS clock
 WHERE wallets.id = $1 AND users.user_type <> 'SYSTEM' AND balances.lots = 0 AND balances.held = 0
""",
    WHOLE_NUMBER,
    row=wallet_view,
)

_ENTRIES = Statement(
    "read_entries",
    f"""
SELECT wallets.id AS wallet_id, wallets.user_id, users.user_type, asset_types.code AS asset_code,
       page.seq, page.transaction_id, page.entry_type, page.amount, page.balance_after, page.contra_wallet_id,
       page.created_at, page.hash,
       transactions.reference_id, transactions.kind, transactions.actor, transactions.occurred_at,
       transaction_details.note, transaction_details.metadata, anchors.user_id, anchors.asset_code
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN LATERAL (
       -- Backwards along the primary key, whatever the statistics say: asked for one wallet's rows, the planner that
       -- expects few of them reads and sorts the whole history of a wallet that has many. Of the limit that it knows it
       -- expects the true number of rows; of $3 alone, a tenth of the ledger, and so it would plan anew each time.
       SELECT * FROM (
              SELECT * FROM ledger_entries
               WHERE (wallet_id, seq) < (wallets.id, coalesce($2, 9223372036854775807))
               ORDER BY wallet_id DESC, seq DESC LIMIT {PAGE_MAX + 1}
              ) AS newest
        WHERE newest.wallet_id = wallets.id
        ORDER BY newest.wallet_id DESC, newest.seq DESC LIMIT $3
       ) AS page ON true
  LEFT JOIN transactions ON transactions.transaction_id = page.transaction_id
  LEFT JOIN transaction_details ON transaction_details.wallet_id = transactions.wallet_id
                               AND transaction_details.transaction_id = transactions.transaction_id
  LEFT JOIN LATERAL (
       SELECT anchor.user_id, asset.code AS asset_code
         FROM wallets AS anchor JOIN asset_types AS asset ON asset.id = anchor.asset_type_id
        WHERE anchor.id = transactions.wallet_id AND anchor.id <> wallets.id OFFSET 0
       ) AS anchors ON true
 WHERE wallets.id = $1
 ORDER BY page.seq DESC
""",  # noqa: S608 - a constant
    WHOLE_NUMBER,
    WHOLE_NUMBER,
    WHOLE_NUMBER,
    row=EntryRow._make,
)

# As the next command would find it: due holds give back to their lots first, and what is due of these then expires.
# When a clock was set back, the wallet's last entry tells the time.
_DUE_UNITS = UNITS_OF_HOLDS.format(wallet="granted.wallet_id", which="holds.expires_at <= clock.now")
EXPIRED_OF_ENTRY = f"""
       CASE WHEN entries.amount > 0 THEN (
            SELECT sum(granted.expired + CASE WHEN granted.expires_at > clock.now THEN 0 ELSE granted.available
                       + CASE WHEN granted.held > 0 THEN (
                              SELECT coalesce(sum(units.amount), 0)
                                FROM ({_DUE_UNITS}) AS units
                               WHERE units.seq = granted.seq AND units.part = granted.part) ELSE 0 END END)
              FROM (SELECT * FROM lots
                     WHERE lots.wallet_id = entries.wallet_id AND lots.seq = entries.seq OFFSET 0) AS granted
             CROSS JOIN (
                   SELECT greatest(clock_timestamp(), (SELECT updated_at FROM wallet_balances
                                                        WHERE wallet_id = entries.wallet_id)) AS now OFFSET 0) AS clock
            ) END AS expired
"""  # noqa: S608 - constants
"""Selects, for an entry of `entries`, what has expired of the lots that it granted; null for none."""

_OWNER_OF = """
       SELECT wallets.user_id, asset_types.code AS asset_code
         FROM wallets JOIN asset_types ON asset_types.id = wallets.asset_type_id
"""

# Look-ups by primary keys alone (OFFSET 0 keeps it so): the planner expects a thousand entries, and would rather read
# all wallets there are.
_TRANSACTION = Statement(
    "read_transaction",
    f"""
SELECT {TRANSACTION_COLUMNS}, details.note, details.metadata,
       coalesce(owners.asset_code, anchors.asset_code) AS asset_code,
       coalesce(owners.user_id, anchors.user_id) AS user_id,
       became.reversed, became.owed, became.owed_since,
       anchors.user_id AS anchor_user_id, anchors.asset_code AS anchor_asset_code, {EXPIRED_OF_ENTRY}
  FROM transactions
  {ENTRIES_OF_TRANSACTION}
 CROSS JOIN LATERAL ({_OWNER_OF} WHERE wallets.id = transactions.wallet_id OFFSET 0) AS anchors
  LEFT JOIN LATERAL ({_OWNER_OF} WHERE wallets.id = entries.wallet_id OFFSET 0) AS owners ON true
  LEFT JOIN LATERAL (
       SELECT note, metadata FROM transaction_details
        WHERE wallet_id = transactions.wallet_id AND transaction_id = transactions.transaction_id OFFSET 0
       ) AS details ON true
  LEFT JOIN LATERAL (
       SELECT reversed, owed, owed_since FROM reversed_entries
        WHERE wallet_id = entries.wallet_id AND seq = entries.seq OFFSET 0
       ) AS became ON true
 WHERE transactions.transaction_id = $1
""",  # noqa: S608 - constants
    UUID,
    row=lambda columns: TransactionRow(*columns),
)
