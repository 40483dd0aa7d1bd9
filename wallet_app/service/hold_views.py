"""Reads: holds, as they stand now. A hold whose time is over reads as expired, whether that was settled yet or not.

`permit` is what who asks may do; None is the service itself. What is another's is not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.errors import HoldNotFoundError
from wallet_app.service.books import Hold
from wallet_app.service.loading import HOLD_COLUMNS, hold_of
from wallet_app.service.owners import require_user_wallet
from wallet_app.service.permits import Permit, reaches
from wallet_app.service.queries import PAGE_MAX


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold with what its transaction tells about it.

    Note and metadata are None when there were none, or they were erased.
    """

    hold: Hold
    user_id: int
    asset_code: str
    asset_name: str
    reference: str
    note: str | None
    metadata: dict[str, Any] | None


@reads
def find_hold_wallets(connection: Connection, hold_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return the wallet of each of the holds that exist."""
    rows = connection.execute(_WALLETS, {"hold_ids": list(hold_ids)})
    return {row.transaction_id: row.wallet_id for row in rows}


@reads
def get_hold(connection: Connection, hold_id: uuid.UUID, *, permit: Permit | None = None) -> HoldView:
    """Return the hold; raise HoldNotFoundError or AssetNotAllowedError."""
    row = connection.execute(_HOLD, {"hold_id": hold_id}).first()
    if row is None or not reaches(permit, row.user_id):
        raise HoldNotFoundError(str(hold_id))
    if permit is not None:
        permit.require_asset(row.asset_code)
    return _view(row)


@reads
def list_holds(
    connection: Connection,
    wallet_id: int,
    *,
    state: str | None,
    before_seq: int | None,
    limit: int,
    permit: Permit | None = None,
) -> Sequence[HoldView]:
    """Return up to `limit` + 1 holds of a user wallet, newest first, with seq below `before_seq`; in `state`, if given.

    The one too many tells that there is a next page. Raises WalletNotFoundError, AssetNotAllowedError or
    SystemEntriesError.
    """
    require_user_wallet(connection, wallet_id, permit)
    values = {"wallet_id": wallet_id, "state": state, "before": before_seq, "limit": min(limit, PAGE_MAX) + 1}
    statement = _PAGE if state is None else _PAGES_IN_STATE[_kind_of(state)]
    return [_view(row) for row in connection.execute(statement, values)]


@reads
def list_open_holds(connection: Connection, wallet_id: int) -> Sequence[HoldView]:
    """Return what is held of a wallet now, newest first, all of it: how many holds may be open is bounded.

    One whose time is over and that was not settled yet reads as expired, as everywhere.
    """
    return [_view(row) for row in connection.execute(_OPEN, {"wallet_id": wallet_id})]


@reads
def newest_open_holds(connection: Connection, wallet_id: int, *, limit: int) -> tuple[Sequence[HoldView], int]:
    """Return the newest of what `list_open_holds` returns, and how many there are of it."""
    rows = connection.execute(_NEWEST_OPEN, {"wallet_id": wallet_id, "limit": limit}).all()
    return [_view(row) for row in rows], rows[0].in_all if rows else 0


def _kind_of(state: str) -> str:
    return state if state == "expired" else "open" if state in ("open", "partially_captured") else "ended"


def _view(row: Any) -> HoldView:
    hold = hold_of(row)
    return HoldView(
        hold if not row.is_due else _expired(hold),
        row.user_id,
        row.asset_code,
        row.asset_name,
        row.reference_id,
        row.note,
        row.metadata,
    )


def _expired(hold: Hold) -> Hold:
    """Return the hold as it will be when its end is settled, but for the entry that settles it."""
    return hold._replace(state="expired", expired=hold.remaining, ended_at=hold.expires_at)


_VIEW = f"""
SELECT {HOLD_COLUMNS},
       holds.ended_at IS NULL AND holds.expires_at <= greatest(balances.updated_at, clock_timestamp()) AS is_due,
       wallets.user_id, asset_types.code AS asset_code, asset_types.name AS asset_name,
       origin.reference_id, transaction_details.note, transaction_details.metadata
  FROM {{holds}}
  JOIN wallets ON wallets.id = holds.wallet_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN wallet_balances AS balances ON balances.wallet_id = holds.wallet_id
  JOIN transactions AS origin ON origin.transaction_id = holds.hold_id
  LEFT JOIN transaction_details ON transaction_details.wallet_id = origin.wallet_id
                               AND transaction_details.transaction_id = origin.transaction_id
"""  # noqa: S608 - constants


def _page(*conditions: str) -> str:
    """Return a page of the wallet's holds, along the primary key or the index of the state."""
    return f"""
SELECT * FROM holds
 WHERE wallet_id = :wallet_id AND seq < coalesce(CAST(:before AS bigint), 9223372036854775807)
   {" ".join(f"AND {condition}" for condition in conditions)}
 ORDER BY seq DESC LIMIT :limit
"""  # noqa: S608 - constants


def _pages(*pages: str) -> str:
    together = " UNION ALL ".join(f"({page})" for page in pages)
    newest = f"SELECT * FROM ({together}) AS found ORDER BY seq DESC LIMIT :limit"  # noqa: S608 - constants
    return _VIEW.format(holds=f"({newest}) AS holds") + " ORDER BY holds.seq DESC"


# When a clock was set back, the wallet's last entry tells the time; as it does for a posting.
_NOW = "greatest((SELECT updated_at FROM wallet_balances WHERE wallet_id = :wallet_id), clock_timestamp())"

_HOLD = text(
    _VIEW.format(
        holds="""transactions AS placed
  JOIN holds ON holds.wallet_id = placed.wallet_id AND holds.seq = placed.seq"""
    )
    + " WHERE placed.transaction_id = :hold_id AND placed.kind = 'HOLD'"
)

_PAGE = text(_pages(_page()))

# What is due has expired, but the table does not say so before it is settled. Those are few.
_PAGES_IN_STATE = {
    "open": text(_pages(_page("state = :state", f"expires_at > {_NOW}"))),
    "ended": text(_pages(_page("state = :state"))),
    "expired": text(
        _pages(_page("state = :state"), _page("ended_at IS NULL", f"expires_at <= {_NOW}")),
    ),
}

_ALL_OPEN = "(SELECT * FROM holds WHERE wallet_id = :wallet_id AND ended_at IS NULL OFFSET 0) AS holds"
_OPEN = text(_VIEW.format(holds=_ALL_OPEN) + " ORDER BY holds.seq DESC")
_NEWEST_OPEN = text(f"""
SELECT told.*, (SELECT count(*) FROM {_ALL_OPEN}) AS in_all
  FROM ({_VIEW.format(holds=f"(SELECT * FROM {_ALL_OPEN} ORDER BY seq DESC LIMIT :limit) AS holds")}) AS told
 ORDER BY told.seq DESC
""")  # noqa: S608 - constants

_WALLETS = text("""
SELECT placed.transaction_id, placed.wallet_id
  FROM unnest(CAST(:hold_ids AS uuid[])) AS asked (hold_id)
 CROSS JOIN LATERAL (
       SELECT transaction_id, wallet_id FROM transactions
        WHERE transaction_id = asked.hold_id AND kind = 'HOLD' OFFSET 0
       ) AS placed
""")
