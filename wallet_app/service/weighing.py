"""What an operation would do, and whether one person may do it: before and after, the day's totals, what demands two.

The totals are exact where they are asked for under the locks of the operator and of the wallets: what an operator did
stands in `operator_postings` since the unit of work that posted it. What a second person approved counts against no
bound, so splitting an amount does not help, and asking does not harm.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from wallet_app.errors import StoppedError, WalletNotActiveError, WalletServiceError
from wallet_app.money import format_amount
from wallet_app.service import reasons
from wallet_app.service.books import Receipt, reversed_parts
from wallet_app.service.chain import json_text
from wallet_app.service.operations import MoneyOperation, Operation
from wallet_app.service.permissions import ROLES
from wallet_app.service.reasons import Terms

HOURS = 24
"""The window of the totals: rolling, so that no midnight helps."""

SIMILAR_DAYS = 30
SIMILAR_MAX = 10


@dataclass(frozen=True, slots=True)
class Effect:
    """A wallet before and after, in the asset's smallest unit; due holds count as given back on both sides."""

    wallet_id: int
    user_id: int
    user_name: str
    asset_id: int
    asset_code: str
    asset_name: str
    asset_scale: int
    version: int
    balance_before: int
    balance_after: int
    held_before: int
    held_after: int
    owed_before: int
    owed_after: int


@dataclass(frozen=True, slots=True)
class Total:
    """What was done alone within the last 24 hours of one asset, this operation on top of it, and the bound.

    `wallet_id` None: by the operator, on all wallets; else by all operators on this wallet. `approved` is what others
    had approved in the same time: it is told, and counts against nothing.
    """

    wallet_id: int | None
    asset_code: str
    asset_scale: int
    before: int
    after: int
    bound: int
    approved: int


@dataclass(frozen=True, slots=True)
class Demand:
    """Something that demands a second person's look: a word for it, and a sentence that says why, with the numbers."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Similar:
    """What the same user got, or lost, for the same reason lately: it may be the very same case."""

    wallet_id: int
    asset_code: str
    asset_scale: int
    amount: int
    kind: str
    reason_code: str
    ticket: str | None
    operator_name: str
    posted_at: dt.datetime
    transaction_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Weighed:
    """What an operation would do now. With a `problem` it would be refused, whoever approves it; nothing changes then.

    `seen` stands for all that is shown here of what would happen: an approver gives it back.
    """

    operation: Operation
    effects: Sequence[Effect]
    totals: Sequence[Total]
    similar: Sequence[Similar]
    demands: Sequence[Demand]
    problem: WalletServiceError | None
    passes: Sequence[str]
    """The freezes and switches that it would pass, because two people decide on it; sentences."""
    seen: str

    @property
    def needs_approval(self) -> bool:
        """Whether it becomes a request."""
        return bool(self.demands)


class Moved(NamedTuple):
    """What an operation moves of a wallet, in and out; `counted` is what of it counts for the operator."""

    wallet_id: int
    asset_id: int
    amount: int
    counted: int


class Looks(NamedTuple):
    """What was looked at to weigh: the reason's and the day's terms, and the totals; both by asset."""

    terms: Mapping[int, Terms]
    totals: Sequence[Total]
    demands: Sequence[Demand]


def effects_of(connection: Connection, receipt: Receipt | None, wallet_ids: Iterable[int]) -> list[Effect]:
    """Return the wallets before and after the receipt, in order of their ids; without one, nothing changes.

    `connection` sees them as they are before.
    """
    after = {} if receipt is None else {one.wallet_id: one for one in receipt.wallets}
    effects = []
    for row in connection.execute(_WALLETS, {"wallet_ids": sorted({*wallet_ids, *after})}):
        state = after.get(row.wallet_id)
        due = row.due
        effects.append(
            Effect(
                wallet_id=row.wallet_id,
                user_id=row.user_id,
                user_name=row.user_name,
                asset_id=row.asset_id,
                asset_code=row.asset_code,
                asset_name=row.asset_name,
                asset_scale=row.asset_scale,
                version=row.version,
                balance_before=row.balance + due,
                balance_after=row.balance + due if state is None else state.balance,
                held_before=row.held - due,
                held_after=row.held - due if state is None else state.held,
                owed_before=row.owed,
                owed_after=row.owed if state is None else state.owed,
            )
        )
    return effects


def moved_by(receipt: Receipt) -> list[Moved]:
    """Return what the receipt's transaction moved, by wallet; none for one that made no entry and no debt."""
    sums: dict[int, int] = {}
    for entry in receipt.transaction.entries:
        sums[entry.wallet_id] = sums.get(entry.wallet_id, 0) + abs(entry.amount)
    for wallet_id, _, _, owed in reversed_parts(receipt.transaction):
        if owed:
            sums[wallet_id] = sums.get(wallet_id, 0) + abs(owed)
    assets = {one.wallet_id: one.asset.id for one in receipt.wallets}
    return _counted([Moved(wallet_id, assets[wallet_id], amount, 0) for wallet_id, amount in sums.items()])


def look(
    connection: Connection,
    operation: Operation,
    *,
    operator_id: int,
    role: str,
    moved: Sequence[Moved],
    effects: Sequence[Effect],
    stopped: WalletServiceError | None,
) -> Looks:
    """Return what demands a second person, and the totals that were looked at.

    Exact if the caller has locked the operator, and the wallets. `stopped` is what stops it when one does it alone.
    """
    terms: dict[int, Terms] = {}
    totals: list[Total] = []
    demands = []
    if operation.always_asks is not None:
        demands.append(Demand("always", operation.always_asks))
    if operation.permission not in ROLES[role]:
        demands.append(Demand("role", f"The role {role} may ask for this, and not do it alone."))
    if stopped is not None:
        told = " ".join(stops_told(stopped))
        demands.append(Demand("stopped", f"{told} A correction passes that when two people decide on it."))
    if isinstance(operation, MoneyOperation):
        asset_ids = sorted({one.asset_id for one in moved} or {one.asset_id for one in effects})
        terms = reasons.terms_of(connection, operation.reason_code, asset_ids)
        totals = _totals(connection, operator_id, moved, effects, terms)
        demands += _too_much(operation, moved, effects, terms, totals)
    return Looks(terms, totals, demands)


def similar_to(connection: Connection, operation: Operation, effects: Sequence[Effect]) -> list[Similar]:
    """Return what users of these wallets had done to them for the same reason lately, the newest first."""
    if not isinstance(operation, MoneyOperation):
        return []
    values = {
        "user_ids": sorted({one.user_id for one in effects}),
        "kind": operation.kind,
        "reason_code": operation.reason_code,
        "days": SIMILAR_DAYS,
        "rows": SIMILAR_MAX,
    }
    return [Similar(*row) for row in connection.execute(_SIMILAR, values)]


def stops_told(stopped: WalletServiceError | None) -> list[str]:
    """Return each freeze and each switch that is in the way as a sentence, sorted; none if nothing is."""
    if not isinstance(stopped, WalletNotActiveError | StoppedError):
        return []
    return sorted({one.detail for one in (stopped, *stopped.others)})


def sight_of(
    payload: Mapping[str, Any], effects: Sequence[Effect], problem: WalletServiceError | None, passes: Sequence[str]
) -> str:
    """Return what stands for what would happen: two digests, of what changes and of the balances themselves.

    What it passes belongs to the first: however fast the balances move, a stop that was set since has to be seen.
    """
    changes = [
        [
            one.wallet_id,
            one.balance_after - one.balance_before,
            one.held_after - one.held_before,
            one.owed_after - one.owed_before,
        ]
        for one in effects
    ]
    balances = [[one.wallet_id, one.balance_before, one.held_before, one.owed_before] for one in effects]
    what = {
        "payload": payload,
        "changes": changes,
        "problem": None if problem is None else problem.code,
        "passes": list(passes),
    }
    return f"{_short(what)}.{_short({'balances': balances})}"


def is_as_seen(sight: str, seen: str, *, although_moving: bool) -> bool:
    """Tell whether what would happen is what was seen; with `although_moving`, whatever the balances are meanwhile."""
    if although_moving:
        return sight.split(".")[0] == seen.split(".")[0]
    return sight == seen


def _short(value: Mapping[str, Any]) -> str:
    return sha256(json_text(value).encode()).hexdigest()[:32]


def _counted(moved: Sequence[Moved]) -> list[Moved]:
    """Let the largest movement of each asset count for the operator: a transfer moves both its sides, and is one."""
    largest: dict[int, Moved] = {}
    for one in moved:
        if one.asset_id not in largest or one.amount > largest[one.asset_id].amount:
            largest[one.asset_id] = one
    return [one._replace(counted=one.amount if largest[one.asset_id] is one else 0) for one in moved]


def _totals(
    connection: Connection,
    operator_id: int,
    moved: Sequence[Moved],
    effects: Sequence[Effect],
    terms: Mapping[int, Terms],
) -> list[Total]:
    told = {one.asset_id: (one.asset_code, one.asset_scale) for one in effects}
    of = {one.wallet_id: one for one in moved}
    values = {
        "operator_id": operator_id,
        "asset_ids": sorted(terms),
        "wallet_ids": [one.wallet_id for one in effects],
        "hours": HOURS,
    }
    by_asset = {row.id: row for row in connection.execute(_OF_OPERATOR, values)}
    by_wallet = {row.id: row for row in connection.execute(_OF_WALLETS, values)}
    totals = []
    for asset_id, one in terms.items():
        row, more = by_asset.get(asset_id), sum(part.counted for part in moved if part.asset_id == asset_id)
        alone, approved = (0, 0) if row is None else (int(row.alone), int(row.approved))
        totals.append(Total(None, *told[asset_id], alone, alone + more, one.operator_day_max, approved))
    for effect in effects:
        if effect.asset_id not in terms:
            continue
        row = by_wallet.get(effect.wallet_id)
        alone, approved = (0, 0) if row is None else (int(row.alone), int(row.approved))
        more = of[effect.wallet_id].amount if effect.wallet_id in of else 0
        bound = terms[effect.asset_id].wallet_day_max
        told_of = told[effect.asset_id]
        totals.append(Total(effect.wallet_id, *told_of, alone, alone + more, bound, approved))
    return totals


def _too_much(
    operation: MoneyOperation,
    moved: Sequence[Moved],
    effects: Sequence[Effect],
    terms: Mapping[int, Terms],
    totals: Sequence[Total],
) -> list[Demand]:
    told = {one.asset_id: (one.asset_code, one.asset_scale) for one in effects}
    demands = []
    for one in moved:
        code, scale = told[one.asset_id]
        above = terms[one.asset_id].approval_above
        if one.counted > above:
            amount, most = format_amount(one.counted, scale), format_amount(above, scale)
            why = f"up to {most} {code}" if above else f"no {code} at all"
            sentence = f"{amount} {code}: {operation.reason_code} lets one person move {why}."
            demands.append(Demand("threshold", sentence))
    for total in totals:
        # What moves nothing more makes no total too large, whatever it is by now.
        if total.after <= total.bound or total.after == total.before:
            continue
        after, bound = format_amount(total.after, total.asset_scale), format_amount(total.bound, total.asset_scale)
        if total.wallet_id is None:
            code, whose = "operator_total", "With this the operator would have moved"
        else:
            code, whose = "wallet_total", f"With this operators would have moved on wallet {total.wallet_id}"
        sentence = f"{whose} {after} {total.asset_code} alone within {HOURS} hours; the bound is {bound}."
        demands.append(Demand(code, sentence))
    return demands


# A balance row that is missing is healed by the posting: until then, as for any read, the wallet stands at nothing.
_WALLETS = text("""
SELECT wallets.id AS wallet_id, wallets.user_id, users.name AS user_name, asset_types.id AS asset_id,
       asset_types.code AS asset_code, asset_types.name AS asset_name, asset_types.scale AS asset_scale,
       coalesce(balances.version, 0) AS version, coalesce(balances.balance, 0) AS balance,
       coalesce(balances.held, 0) AS held, coalesce(balances.owed, 0) AS owed, CAST(due.held AS bigint) AS due
  FROM wallets
  JOIN users ON users.id = wallets.user_id
  JOIN asset_types ON asset_types.id = wallets.asset_type_id
  LEFT JOIN wallet_balances AS balances ON balances.wallet_id = wallets.id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(amount - captured - released - expired), 0) AS held FROM holds
        WHERE wallet_id = wallets.id AND ended_at IS NULL
          AND expires_at <= greatest(balances.updated_at, clock_timestamp())
       ) AS due
 WHERE wallets.id = ANY (CAST(:wallet_ids AS bigint[]))
 ORDER BY wallets.id
""")

_ALONE = "coalesce(sum({amount}) FILTER (WHERE request_id IS NULL), 0) AS alone"
_APPROVED = "coalesce(sum({amount}) FILTER (WHERE request_id IS NOT NULL), 0) AS approved"

_OF_OPERATOR = text(f"""
SELECT asset_type_id AS id, {_ALONE.format(amount="counted")}, {_APPROVED.format(amount="counted")}
  FROM operator_postings
 WHERE operator_id = :operator_id AND asset_type_id = ANY (CAST(:asset_ids AS bigint[]))
   AND posted_at > clock_timestamp() - make_interval(hours => :hours)
 GROUP BY asset_type_id
""")  # noqa: S608 - constants

_OF_WALLETS = text(f"""
SELECT wallet_id AS id, {_ALONE.format(amount="amount")}, {_APPROVED.format(amount="amount")}
  FROM operator_postings
 WHERE wallet_id = ANY (CAST(:wallet_ids AS bigint[]))
   AND posted_at > clock_timestamp() - make_interval(hours => :hours)
 GROUP BY wallet_id
""")  # noqa: S608 - constants

_SIMILAR = text("""
SELECT own.id, asset_types.code, asset_types.scale, posted.amount, posted.kind, posted.reason_code, posted.ticket,
       operators.name, posted.posted_at, posted.transaction_id
  FROM wallets AS own
 CROSS JOIN LATERAL (
       SELECT * FROM operator_postings
        WHERE wallet_id = own.id AND posted_at > clock_timestamp() - make_interval(days => :days)
          AND kind = :kind AND reason_code = :reason_code
        ORDER BY posted_at DESC LIMIT :rows
       ) AS posted
  JOIN asset_types ON asset_types.id = own.asset_type_id
  JOIN operators ON operators.id = posted.operator_id
 WHERE own.user_id = ANY (CAST(:user_ids AS bigint[]))
 ORDER BY posted.posted_at DESC
 LIMIT :rows
""")
