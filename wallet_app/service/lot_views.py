"""Reads: lots, as they stand now. What is due of a lot reads as expired, whether that was settled yet or not.

`permit` is what who asks may do; None is the service itself. What is another's is not there.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import LotNotFoundError
from wallet_app.models import LOT_KINDS
from wallet_app.service.instants import NO_END
from wallet_app.service.lots import Lot
from wallet_app.service.owners import require_user_wallet
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.queries import PAGE_MAX, UNITS_OF_HOLDS

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_SEQ_MAX, _PART_MAX = 2**63 - 1, 2**31 - 1

Place = tuple[int, int, int, int]
"""Where a lot stands in a list: in the order of taking its end in microseconds and its kind, else 0; seq and part."""


@dataclass(frozen=True, slots=True)
class LotView:
    """A lot with what the entry that granted it tells; a standing lot was granted by many, and tells nothing."""

    lot: Lot
    user_id: int
    asset_code: str
    asset_name: str
    transaction_id: uuid.UUID | None
    entry_type: str | None
    place: Place


@reads
def find_lot_wallets(connection: Connection, lot_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return the wallet of each of the lots that exist."""
    return {row.lot_id: row.wallet_id for row in connection.execute(_WALLETS, {"lot_ids": list(lot_ids)})}


@reads
def get_lot(connection: Connection, lot_id: uuid.UUID, *, permit: Permit | None = None) -> LotView:
    """Return the lot; raise LotNotFoundError or AssetNotAllowedError."""
    row = connection.execute(_LOT, {"lot_id": lot_id}).first()
    if row is None or not reaches(permit, row.user_id):
        raise LotNotFoundError(str(lot_id))
    if permit is not None:
        permit.require_asset(row.asset_code)
    return _view(row, is_by_end=False)


@reads
def list_lots(
    connection: Connection,
    wallet_id: int,
    *,
    state: str,
    after: Sequence[int] | None,
    limit: int,
    permit: Permit | None = None,
) -> Sequence[LotView]:
    """Return up to `limit` + 1 lots of a user wallet behind the place `after`.

    `open` are those that have something left, available or held, in the order in which they are taken; `all`, the
    newest first. The one too many tells that there is a next page. Raises WalletNotFoundError, AssetNotAllowedError or
    SystemEntriesError.
    """
    require_user_wallet(connection, wallet_id, permit)
    limit = min(limit, PAGE_MAX) + 1
    if state == "all":
        _, _, seq, part = after or (0, 0, _SEQ_MAX, 0)
        values: dict[str, Any] = {
            "wallet_id": wallet_id,
            "limit": limit,
            "seq": min(seq, _SEQ_MAX),
            "part": min(part, _PART_MAX),
        }
        return [_view(row, is_by_end=False) for row in connection.execute(_ALL, values)]
    end, kind, seq, part = after or (0, 0, 0, 0)
    values = {
        "wallet_id": wallet_id,
        "limit": limit,
        "expires_at": _EPOCH + min(end, (NO_END - _EPOCH) // _MICROSECOND) * _MICROSECOND,
        "kind": LOT_KINDS[min(kind, 1)],
        "seq": min(seq, _SEQ_MAX),
        "part": min(part, _PART_MAX),
    }
    return [_view(row, is_by_end=True) for row in connection.execute(_OPEN, values)]


def _view(row: Any, *, is_by_end: bool) -> LotView:
    lot = Lot._make(row[:14])
    end = (lot.expires_at - _EPOCH) // _MICROSECOND
    first = (end, LOT_KINDS.index(lot.kind)) if is_by_end else (0, 0)
    return LotView(
        _as_it_is(lot, back=int(row.back), is_due=row.is_due),
        row.user_id,
        row.asset_code,
        row.asset_name,
        row.transaction_id,
        row.entry_type,
        (*first, lot.seq, lot.part),
    )


def _as_it_is(lot: Lot, *, back: int, is_due: bool) -> Lot:
    """Return the lot as it will be when what is due is settled: what holds give `back`, and its own end."""
    there = lot._replace(available=lot.available + back, held=lot.held - back)
    return there._replace(available=0, expired=there.expired + there.available) if is_due else there


# When a clock was set back, the wallet's last entry tells the time; as it does for a posting.
_NOW = "greatest((SELECT updated_at FROM wallet_balances WHERE wallet_id = {wallet}), clock_timestamp())"

_VIEW = f"""
SELECT lots.wallet_id, lots.seq, lots.part, lots.lot_id, lots.kind, lots.amount, lots.available, lots.held,
       lots.consumed, lots.expired, lots.revoked, lots.expires_at, lots.created_at, lots.changed_at,
       lots.expires_at <= clock.now AS is_due,
       CASE WHEN lots.held > 0 THEN (
            SELECT coalesce(sum(units.amount), 0)
              FROM ({UNITS_OF_HOLDS.format(wallet="lots.wallet_id", which="holds.expires_at <= clock.now")}) AS units
             WHERE units.seq = lots.seq AND units.part = lots.part
            ) ELSE 0 END AS back,
       wallets.user_id, asset_types.code AS asset_code, asset_types.name AS asset_name,
       entry.transaction_id, entry.entry_type
  FROM {{lots}}
  JOIN wallets ON wallets.id = lots.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN ledger_entries AS entry ON entry.wallet_id = lots.wallet_id AND entry.seq = lots.seq
"""  # noqa: S608 - constants

_CLOCK = f"WITH clock AS MATERIALIZED (SELECT {_NOW.format(wallet=':wallet_id')} AS now)"

_LOT = text(
    _VIEW.format(lots="lots").replace("clock.now", f"({_NOW.format(wallet='lots.wallet_id')})")
    + " WHERE lots.lot_id = :lot_id"
)

_NEWEST = """(
       SELECT * FROM lots WHERE wallet_id = :wallet_id AND (seq, part) < (:seq, :part)
        ORDER BY seq DESC, part DESC LIMIT :limit
       ) AS lots CROSS JOIN clock"""
_ALL = text(_CLOCK + _VIEW.format(lots=_NEWEST) + " ORDER BY lots.seq DESC, lots.part DESC")

_BEHIND = """
          AND (lots.expires_at, lots.kind, lots.seq, lots.part)
              > (CAST(:expires_at AS timestamptz), :kind, :seq, :part)
        ORDER BY lots.expires_at, lots.kind, lots.seq, lots.part LIMIT :limit
"""
_KEPT = UNITS_OF_HOLDS.format(wallet=":wallet_id", which="true")
# Along the order of taking; and what has nothing left but what holds keep, which is looked up by these.
_TAKEN_NEXT = f"""(
       SELECT * FROM ((
       SELECT lots.* FROM lots
        WHERE lots.wallet_id = :wallet_id AND lots.available > 0 AND lots.expires_at > (SELECT now FROM clock)
          {_BEHIND}
       ) UNION ALL (
       SELECT lots.*
         FROM (SELECT DISTINCT seq, part FROM ({_KEPT}) AS units) AS kept
         JOIN lots ON lots.wallet_id = :wallet_id AND lots.seq = kept.seq AND lots.part = kept.part
        WHERE (lots.available = 0 OR lots.expires_at <= (SELECT now FROM clock))
          {_BEHIND}
       )) AS found ORDER BY expires_at, kind, seq, part LIMIT :limit
       ) AS lots CROSS JOIN clock"""  # noqa: S608 - constants
_OPEN = text(_CLOCK + _VIEW.format(lots=_TAKEN_NEXT) + " ORDER BY lots.expires_at, lots.kind, lots.seq, lots.part")

_WALLETS = text("SELECT lot_id, wallet_id FROM lots WHERE lot_id = ANY (CAST(:lot_ids AS uuid[]))")
