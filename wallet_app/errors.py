"""What the service can answer instead of doing what was asked; knows nothing of HTTP.

Families tell a face all that it needs: nobody known asks, who asks may not, something is not there, the books refuse, a
condition does not hold, the request is wrong in itself, or the service cannot tell at the moment. Each error has a
stable `code`, a short `title` (the original service's `error` string where it had one), one plain sentence with the
numbers in it, and the same numbers as data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, ClassVar

from wallet_app.money import json_integer

LIMIT_WORDS = {
    "single": "a single amount",
    "balance": "the balance",
    "day": "what is spent on a day",
    "rolling": "what is spent within 24 hours",
}
"""What each limit bounds."""


class WalletServiceError(Exception):
    """Base of all that the service refuses; `details` are public and named in snake_case."""

    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, **details: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.details = details


class NotFoundError(WalletServiceError):
    """What the request names does not exist, or is not the caller's."""


class RefusedError(WalletServiceError):
    """The books refuse: the same request may succeed later. A refusal burns no reference."""


class ConditionError(WalletServiceError):
    """What the caller made a condition is not so, or not any more. Nothing was done, no reference burnt."""


class InvalidError(WalletServiceError):
    """The request is wrong in itself and stays so."""


class BadFieldError(InvalidError):
    """What was filled in is not accepted; `about` names the field, where one alone is to blame."""

    def __init__(self, detail: str, *, about: str | None = None) -> None:
        super().__init__(detail)
        self.about = about


class UnavailableError(WalletServiceError):
    """Cannot be done or told right now; repeat with the same reference after `retry_after` seconds."""

    retry_after: ClassVar[int] = 1


class UnauthenticatedError(WalletServiceError):
    """Nobody that we know asks: there is no credential, or it is not, or no more, a good one."""

    code = "unauthenticated"
    title = "Not authenticated"

    def __init__(self, detail: str, *, challenge: str | None = None) -> None:
        """`challenge` is RFC 6750's word for what is wrong with the credential; none for no credential."""
        super().__init__(detail)
        self.challenge = challenge


class ForbiddenError(WalletServiceError):
    """Who asks is known, and may not."""


class ThrottledError(WalletServiceError):
    """Too much was asked; repeat after `retry_after` seconds."""

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class MissingScopeError(ForbiddenError):
    code = "forbidden"
    title = "Forbidden"

    def __init__(self, scope: str | None) -> None:
        if scope is None:
            super().__init__("No credential may do this.")
        else:
            super().__init__(f"This credential does not have the scope {scope}.", scope=scope)


class NetworkNotAllowedError(ForbiddenError):
    code = "network_not_allowed"
    title = "Network not allowed"

    def __init__(self, address: str) -> None:
        super().__init__(f"This credential may not be used from {address}.", address=address)


class AmountNotAllowedError(ForbiddenError):
    code = "amount_not_allowed"
    title = "Amount not allowed"

    def __init__(self, *, amount: int, amount_max: int) -> None:
        super().__init__(
            f"This credential may move at most {amount_max} at once, not {amount}.",
            amount=amount,
            amount_max=amount_max,
        )


class AssetNotAllowedError(ForbiddenError):
    code = "asset_not_allowed"
    title = "Asset not allowed"

    def __init__(self, asset_code: str) -> None:
        super().__init__(f"This credential has nothing to do with {asset_code}.", asset=asset_code)


class GrantsTooMuchError(ForbiddenError):
    """Who asks wants to hand on more than they have."""

    code = "grants_too_much"
    title = "Key would allow too much"

    def __init__(self, limit: str, to_what: str) -> None:
        """`limit` is amount, assets, networks, expiry or rate."""
        super().__init__(
            f"This credential is limited to {to_what}, and so must be every key that it makes.", limit=limit
        )


class WalletNotFoundError(NotFoundError):
    code = "wallet_not_found"
    title = "Wallet not found"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(f"There is no wallet {wallet_id}.", wallet_id=json_integer(wallet_id))


class UserNotFoundError(NotFoundError):
    code = "user_not_found"
    title = "User not found"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"There is no user {user_id}.", user_id=json_integer(user_id))


class AssetNotFoundError(NotFoundError):
    code = "asset_not_found"
    title = "Asset not found"

    def __init__(self, asset_code: str) -> None:
        super().__init__(f"There is no asset {asset_code}.", asset=asset_code)


class TransactionNotFoundError(NotFoundError):
    code = "transaction_not_found"
    title = "Transaction not found"

    def __init__(self, transaction_id: str) -> None:
        super().__init__(f"There is no transaction {transaction_id}.", transaction_id=transaction_id)


class ExternalIdTakenError(RefusedError):
    code = "external_id_taken"
    title = "External id is taken"

    def __init__(self, *, external_id: str | None, user_id: int) -> None:
        super().__init__(
            f"External id {external_id!r} is that of user {user_id}, whose name is another one.",
            external_id=external_id,
            user_id=user_id,
        )


class InsufficientBalanceError(RefusedError):
    code = "insufficient_balance"
    title = "Insufficient balance"

    def __init__(self, *, wallet_id: int, asset_code: str, balance: int, required: int, version: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} has {balance} {asset_code}, {required} needed.",
            wallet_id=wallet_id,
            balance=balance,
            required=required,
            version=version,
        )


class BalanceAboveBoundError(RefusedError):
    code = "balance_above_bound"
    title = "Balance would be too large"

    def __init__(self, *, wallet_id: int, asset_code: str, balance: int, amount: int, bound: int, version: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} has {balance} {asset_code}; {amount} more would exceed the largest balance, {bound}, "
            "for which held funds count.",
            wallet_id=wallet_id,
            balance=balance,
            amount=json_integer(amount),
            bound=bound,
            version=version,
        )


class VersionMismatchError(ConditionError):
    code = "version_mismatch"
    title = "Version does not match"

    def __init__(self, *, wallet_id: int, asset_code: str, balance: int, version: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} is at version {version} with {balance} {asset_code}, not at the version that was "
            'asked for. Read it again; a weak tag, like W/"7", never matches.',
            wallet_id=wallet_id,
            balance=balance,
            version=version,
        )


class WalletNotActiveError(RefusedError):
    code = "wallet_not_active"
    title = "Wallet is not active"
    others: Sequence[WalletNotActiveError | StoppedError] = ()
    """What else is in the way of the same."""

    def __init__(self, *, wallet_id: int, side: str) -> None:
        """`side` is debits or credits."""
        super().__init__(
            f"Wallet {wallet_id} is frozen: its {side} are.", wallet_id=wallet_id, wallet_status="FROZEN", side=side
        )


class WalletClosedError(RefusedError):
    code = "wallet_closed"
    title = "Wallet is closed"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(f"Wallet {wallet_id} is closed, for good.", wallet_id=wallet_id, wallet_status="CLOSED")


class WalletNotFrozenError(RefusedError):
    code = "wallet_not_frozen"
    title = "Wallet is not frozen"

    def __init__(self, *, wallet_id: int, side: str) -> None:
        what = "neither its debits nor its credits are" if side == "both" else f"its {side} are not"
        super().__init__(
            f"Wallet {wallet_id} is not frozen: {what}. If they are stopped all the same, a switch does that.",
            wallet_id=wallet_id,
            side=side,
        )


class WalletNotEmptyError(RefusedError):
    code = "wallet_not_empty"
    title = "Wallet is not empty"

    def __init__(self, *, wallet_id: int, asset_code: str, balance: int, held: int, owed: int, version: int) -> None:
        debt = f" and owes {owed}" if owed else ""
        super().__init__(
            f"Wallet {wallet_id} has {balance} {asset_code}, and {held} held{debt}: only an empty one can be closed.",
            wallet_id=wallet_id,
            balance=balance,
            held=held,
            owed=owed,
            version=version,
        )


class StoppedError(RefusedError):
    """A switch stops it, whichever wallet it is of the user, of the asset, or at all."""

    code = "stopped"
    title = "Stopped"
    others: Sequence[WalletNotActiveError | StoppedError] = ()
    """What else is in the way of the same."""

    def __init__(self, *, wallet_id: int, side: str, target: str) -> None:
        """`target` is user, asset or everything."""
        whose = {"user": "of its user", "asset": "of its asset", "everything": "of all wallets"}[target]
        super().__init__(
            f"Wallet {wallet_id}: the {side} {whose} are stopped at the moment.",
            wallet_id=wallet_id,
            side=side,
            target=target,
        )


class EndPassedError(InvalidError):
    code = "end_passed"
    title = "End has passed"

    def __init__(self, until: str, *, or_none: bool = True) -> None:
        tail = ", or none" if or_none else ""
        super().__init__(f"{until} has passed: name an end that is ahead{tail}.", until=until)


class SwitchNotFoundError(NotFoundError):
    code = "switch_not_found"
    title = "Switch not found"

    def __init__(self, switch_id: int) -> None:
        super().__init__(f"There is no switch {switch_id}.", switch_id=json_integer(switch_id))


class HoldNotFoundError(NotFoundError):
    code = "hold_not_found"
    title = "Hold not found"

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"There is no hold {hold_id}.", hold_id=hold_id)


class HoldFinishedError(RefusedError):
    code = "hold_finished"
    title = "Hold is finished"

    def __init__(self, *, hold_id: str, state: str) -> None:
        super().__init__(f"Hold {hold_id} is {state}: nothing of it is held any more.", hold_id=hold_id, state=state)


class HoldNotDueError(RefusedError):
    code = "hold_not_due"
    title = "Hold is not due"

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"Hold {hold_id} has not expired yet.", hold_id=hold_id)


class OverCaptureError(RefusedError):
    code = "over_capture"
    title = "More than is held"

    def __init__(self, *, hold_id: str, remaining: int, amount: int) -> None:
        super().__init__(
            f"Hold {hold_id} has {remaining} left, {amount} cannot be captured.",
            hold_id=hold_id,
            remaining=remaining,
            amount=amount,
        )


class TooManyCapturesError(RefusedError):
    code = "too_many_captures"
    title = "Too many captures"

    def __init__(self, *, hold_id: str, captures_max: int) -> None:
        super().__init__(
            f"Hold {hold_id} was captured {captures_max - 1} times; the next capture must be final.",
            hold_id=hold_id,
            captures_max=captures_max,
        )


class TooManyHoldsError(RefusedError):
    code = "too_many_holds"
    title = "Too many open holds"

    def __init__(self, *, wallet_id: int, holds_max: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} has {holds_max} open holds, and may have no more: capture or release some first.",
            wallet_id=wallet_id,
            holds_max=holds_max,
        )


class HoldTooLongError(InvalidError):
    code = "hold_too_long"
    title = "Hold would be too long"

    def __init__(self, *, seconds: int, seconds_max: int) -> None:
        super().__init__(
            f"A hold may last {seconds_max} seconds here, not {seconds}.", seconds=seconds, seconds_max=seconds_max
        )


class LotNotFoundError(NotFoundError):
    code = "lot_not_found"
    title = "Lot not found"

    def __init__(self, lot_id: str) -> None:
        super().__init__(f"There is no lot {lot_id}.", lot_id=lot_id)


class LotEndPassedError(RefusedError):
    code = "lot_end_passed"
    title = "End is not ahead"

    def __init__(self, until: str, *, time_zone: str, or_none: bool) -> None:
        tail = ", or none" if or_none else ""
        super().__init__(
            f"Credit cannot be usable until {until} ({time_zone}): "
            f"name an end that is ahead, up to the year 2999{tail}.",
            expires_at=until,
            time_zone=time_zone,
        )


class LotEndNotLaterError(RefusedError):
    code = "lot_end_not_later"
    title = "End is not later"

    def __init__(self, *, lot_id: str, expires_at: str, until: str, time_zone: str) -> None:
        super().__init__(
            f"Lot {lot_id} can be used until {expires_at} already: {until} ({time_zone}) is not later.",
            lot_id=lot_id,
            expires_at=expires_at,
            until=until,
            time_zone=time_zone,
        )


class LotWithoutEndError(RefusedError):
    code = "lot_without_end"
    title = "Lot has no end"

    def __init__(self, lot_id: str) -> None:
        super().__init__(f"Lot {lot_id} can be used for ever: it has no end that could be later.", lot_id=lot_id)


class LotFinishedError(RefusedError):
    code = "lot_finished"
    title = "Lot is finished"

    def __init__(self, *, lot_id: str, consumed: int, expired: int, revoked: int) -> None:
        super().__init__(
            f"Nothing is left of lot {lot_id}: {consumed} was used, {expired} has expired, {revoked} was taken back.",
            lot_id=lot_id,
            consumed=consumed,
            expired=expired,
            revoked=revoked,
        )


class LotNotDueError(RefusedError):
    code = "lot_not_due"
    title = "Lot is not due"

    def __init__(self, lot_id: str) -> None:
        super().__init__(f"Lot {lot_id} has not expired yet.", lot_id=lot_id)


class LotNotOneGrantError(RefusedError):
    code = "lot_not_one_grant"
    title = "Lot is not one grant"

    def __init__(self, lot_id: str) -> None:
        super().__init__(
            f"Lot {lot_id} is not one grant's own: reverse the transaction that it came with instead.", lot_id=lot_id
        )


class LotUsedError(RefusedError):
    code = "lot_used"
    title = "Lot is not whole any more"

    def __init__(self, *, lot_id: str, available: int, remaining: int) -> None:
        super().__init__(
            f"Of lot {lot_id}, {available} is there to be taken back, and {remaining} would be.",
            lot_id=lot_id,
            available=available,
            remaining=remaining,
        )


class TooManyLotsError(RefusedError):
    code = "too_many_lots"
    title = "Too many lots"

    def __init__(self, *, wallet_id: int, lots_max: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} has {lots_max} lots that end, and may have no more: some must be used first.",
            wallet_id=wallet_id,
            lots_max=lots_max,
        )


class NotReversibleError(RefusedError):
    code = "not_reversible"
    title = "Not reversible"

    def __init__(self, *, transaction_id: str, kind: str) -> None:
        super().__init__(
            f"Transaction {transaction_id} is a {kind}, which cannot be reversed.",
            transaction_id=transaction_id,
            kind=kind,
        )


class OverReversalError(RefusedError):
    code = "over_reversal"
    title = "More than is left to reverse"

    def __init__(self, *, transaction_id: str, remaining: int, amount: int | None) -> None:
        tail = "" if amount is None else f", {amount} cannot be"
        super().__init__(
            f"Of transaction {transaction_id}, {remaining or 'nothing'} is left to be reversed{tail}.",
            transaction_id=transaction_id,
            remaining=remaining,
            **({} if amount is None else {"amount": amount}),
        )


class BroughtExpiredError(RefusedError):
    """Of several movements only some could be undone; what expired is no debt."""

    code = "brought_expired"
    title = "What it brought has expired"

    def __init__(self, *, transaction_id: str, wallet_id: int, seq: int, expired: int) -> None:
        super().__init__(
            f"Transaction {transaction_id} brought wallet {wallet_id} credit of which {expired} has expired: "
            'that cannot be taken back, and onShortfall "refuse" gives nothing back for it.',
            transaction_id=transaction_id,
            wallet_id=wallet_id,
            seq=seq,
            expired=expired,
        )


class TooManyDebtsError(RefusedError):
    code = "too_many_debts"
    title = "Too many debts"

    def __init__(self, *, wallet_id: int, debts_max: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} owes for {debts_max} entries, and may owe for no more: credits repay them.",
            wallet_id=wallet_id,
            debts_max=debts_max,
        )


class OnlyAsAWholeError(InvalidError):
    code = "only_as_a_whole"
    title = "Only as a whole"

    def __init__(self, *, transaction_id: str, kind: str) -> None:
        super().__init__(
            f"Transaction {transaction_id} is a {kind} of several movements: it is reversed as a whole, so name no "
            'amount, and do not choose onShortfall "partial".',
            transaction_id=transaction_id,
            kind=kind,
        )


class NoDebtBetweenUsersError(InvalidError):
    code = "no_debt_between_users"
    title = "No debt between users"

    def __init__(self, transaction_id: str) -> None:
        super().__init__(
            f"Transaction {transaction_id} is a TRANSFER: who gave gets back what who received still has, so it leaves "
            'no debt. Choose onShortfall "refuse" or "partial".',
            transaction_id=transaction_id,
        )


class SameWalletError(InvalidError):
    code = "same_wallet"
    title = "Same wallet"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(f"Wallet {wallet_id} cannot be both sides: name two wallets.", wallet_id=wallet_id)


class AssetMismatchError(InvalidError):
    code = "asset_mismatch"
    title = "Assets differ"

    def __init__(self, *, wallet_ids: tuple[int, int], assets: tuple[str, str]) -> None:
        (one, other), (own, foreign) = wallet_ids, assets
        super().__init__(
            f"Wallet {one} has {own}, wallet {other} has {foreign}: a transfer is of one asset. "
            "Between two assets of one user, use an exchange.",
            wallet_ids=list(wallet_ids),
            assets=list(assets),
        )


class UserMismatchError(InvalidError):
    code = "user_mismatch"
    title = "Users differ"

    def __init__(self, wallet_ids: tuple[int, int]) -> None:
        super().__init__(
            f"Wallets {wallet_ids[0]} and {wallet_ids[1]} belong to two users: this is between wallets of one.",
            wallet_ids=list(wallet_ids),
        )


class PayerWithoutLegError(InvalidError):
    code = "payer_without_leg"
    title = "Payer has no leg"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} is the payer of this, and none of its legs is of it.", wallet_id=wallet_id
        )


class NoExchangeRateError(RefusedError):
    code = "no_exchange_rate"
    title = "No exchange rate"

    def __init__(self, source: str, target: str) -> None:
        super().__init__(
            f"There is no rate from {source} to {target} at the moment: give one, or have one configured.",
            assets=[source, target],
        )


class ExchangeTooSmallError(RefusedError):
    code = "exchange_too_small"
    title = "Too little to exchange"

    def __init__(self, *, amount: int, assets: tuple[str, str], rate: str) -> None:
        source, target = assets
        super().__init__(
            f"{amount} {source} make less than 1 {target} at a rate of {rate}.",
            amount=amount,
            assets=[source, target],
            rate=rate,
        )


class BadRateError(InvalidError):
    """What is to be configured makes no sense."""

    code = "bad_rate"
    title = "Bad rate"


class OperationInvalidError(InvalidError):
    """What an operator wants is wrong in itself; `field` names the field that it is about."""

    code = "operation_invalid"
    title = "This cannot be done so"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, field=field)
        self.field = field


class ReasonRefusedError(RefusedError):
    """The reason code does not allow it; `field` names the field that it is about."""

    code = "reason_refused"
    title = "The reason code does not allow it"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, field=field)
        self.field = field


class ReasonNotFoundError(NotFoundError):
    code = "reason_not_found"
    title = "Reason code not found"

    def __init__(self, reason_code: str) -> None:
        super().__init__(f"There is no reason code {reason_code[:40]}.", reason_code=reason_code[:40])


class ReasonExistsError(RefusedError):
    code = "reason_exists"
    title = "Reason code exists"

    def __init__(self, reason_code: str) -> None:
        super().__init__(f"There is a reason code {reason_code} already.", reason_code=reason_code)


class ReasonInvalidError(InvalidError):
    """What a reason code or a day's bound is to be makes no sense; `field` names the field that it is about."""

    code = "reason_invalid"
    title = "Not accepted"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, field=field)
        self.field = field


class RequestNotFoundError(NotFoundError):
    code = "request_not_found"
    title = "Request not found"

    def __init__(self, request_id: int) -> None:
        super().__init__(f"There is no request {request_id}.", request_id=json_integer(request_id))


class RequestPendingError(RefusedError):
    """The very same is asked for already."""

    code = "request_pending"
    title = "Asked for already"

    def __init__(self, *, request_id: int, maker: str) -> None:
        super().__init__(
            f"Request {request_id} of {maker} asks for the very same, and waits for approval. Nothing was asked for "
            "again: wait until it is decided, or have it withdrawn.",
            request_id=json_integer(request_id),
        )


class RequestDecidedError(RefusedError):
    """Somebody was faster, or its time is over."""

    code = "request_decided"
    title = "Decided already"

    def __init__(self, *, request_id: int, status: str, by: str | None) -> None:
        """`status` is approved, rejected, withdrawn, expired or failed; `by` who decided, if a person did."""
        who = f" by {by}" if by else ""
        super().__init__(
            f"Request {request_id} is {status}{who}: it cannot be decided again. Nothing was done now.",
            request_id=json_integer(request_id),
            request_status=status,
        )


class RequestAlteredError(RefusedError):
    code = "request_altered"
    title = "Not what was asked for"

    def __init__(self, request_id: int) -> None:
        super().__init__(
            f"Request {request_id} is not what was asked for: its hash says so. Nothing was done; reject it, and tell "
            "whoever looks after the database.",
            request_id=json_integer(request_id),
        )


class MakerDisabledError(RefusedError):
    code = "maker_disabled"
    title = "Who asked is disabled"

    def __init__(self, *, request_id: int, maker: str) -> None:
        super().__init__(
            f"{maker}, who made request {request_id}, is disabled: it cannot be approved any more, only rejected.",
            request_id=json_integer(request_id),
        )


class MakerRoleError(RefusedError):
    code = "maker_role"
    title = "Who asked may not ask any more"

    def __init__(self, *, request_id: int, maker: str, role: str) -> None:
        super().__init__(
            f"{maker}, who made request {request_id}, has the role {role} by now and may not ask for this any "
            "more: it cannot be approved, only rejected or withdrawn.",
            request_id=json_integer(request_id),
        )


class DriftedError(ConditionError):
    """What would happen is not what the approver saw."""

    code = "drifted"
    title = "Something changed"

    def __init__(self, request_id: int) -> None:
        super().__init__(
            f"What request {request_id} would do is no longer what you saw. Nothing was done: look at it again, and "
            "decide on what you see now.",
            request_id=json_integer(request_id),
        )


class SelfApprovalError(ForbiddenError):
    code = "self_approval"
    title = "Not your own"

    def __init__(self, request_id: int) -> None:
        super().__init__(
            f"Request {request_id} is your own: another operator has to decide on it. You can withdraw it.",
            request_id=json_integer(request_id),
        )


class NotYourRequestError(ForbiddenError):
    code = "not_your_request"
    title = "Not your own"

    def __init__(self, request_id: int) -> None:
        super().__init__(
            f"Request {request_id} is another operator's: only who asked can withdraw it.",
            request_id=json_integer(request_id),
        )


class SystemWalletError(RefusedError):
    code = "system_wallet"
    title = "System wallet"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} belongs to the system: it moves only as the other side of a user's wallet.",
            wallet_id=wallet_id,
        )


class ClientNotFoundError(NotFoundError):
    code = "client_not_found"
    title = "Client not found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no client {name}.", client=name)


class KeyNotFoundError(NotFoundError):
    code = "key_not_found"
    title = "Key not found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no key {key_id}.", key_id=key_id)


class KeyRevokedError(RefusedError):
    code = "key_revoked"
    title = "Key is revoked"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"Key {key_id} is revoked already.", key_id=key_id)


class ClientRevokedError(RefusedError):
    code = "client_revoked"
    title = "Client is revoked"

    def __init__(self, name: str) -> None:
        super().__init__(f"Client {name} is revoked: it gets no key any more.", client=name)


class TooManyKeysError(RefusedError):
    code = "too_many_keys"
    title = "Too many keys"

    def __init__(self, *, client: str, keys_max: int, key_ids: list[str]) -> None:
        super().__init__(
            f"Client {client} has {len(key_ids)} live keys ({', '.join(key_ids)}), and may have {keys_max}: "
            "revoke one first.",
            client=client,
            key_ids=key_ids,
        )


class BadKeySettingsError(BadFieldError):
    """What a key is to be allowed makes no sense."""

    code = "bad_key_settings"
    title = "Bad key settings"


class FormOutOfDateError(BadFieldError):
    """A form that makes a secret, without the key that each of ours has."""

    code = "form_out_of_date"
    title = "Form is out of date"

    def __init__(self) -> None:
        super().__init__("This form is not one of ours, or out of date. Nothing was done: check it, and send it again.")


class FormUsedError(RefusedError):
    """A form that makes a secret did so already, and the time is over in which it is shown again."""

    code = "form_used"
    title = "Form was used"

    def __init__(self, made: str) -> None:
        super().__init__(
            f"This form made {made} already. Its secret was shown then and is kept nowhere: who has lost it needs a "
            "new one."
        )


class AssetInvalidError(BadFieldError):
    """What an asset is to be called, or its scale, cannot be."""

    code = "asset_invalid"
    title = "Asset is not accepted"


class AssetExistsError(RefusedError):
    code = "asset_exists"
    title = "Asset exists"

    def __init__(self, asset_code: str) -> None:
        super().__init__(f"There is an asset {asset_code} already.", asset=asset_code)


class ScaleFixedError(RefusedError):
    code = "scale_fixed"
    title = "Scale is fixed"

    def __init__(self, asset_code: str, because: str) -> None:
        super().__init__(f"The scale of {asset_code} cannot be changed: {because}.", asset=asset_code)


class ReferenceMismatchError(InvalidError):
    code = "reference_mismatch"
    title = "Reference was used for something else"

    def __init__(self, *, wallet_id: int, reference: str, fields: list[str]) -> None:
        super().__init__(
            f"Reference {reference!r} of wallet {wallet_id} already stands for another command: "
            f"{', '.join(fields)} differ{'s' if len(fields) == 1 else ''}.",
            wallet_id=wallet_id,
            fields=fields,
        )


class NoSystemWalletError(RefusedError):
    code = "no_system_wallet"
    title = "Not a system wallet"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} is a user's: it has entries of its own, and statements by entry, and no days.",
            wallet_id=wallet_id,
        )


class SystemEntriesError(RefusedError):
    code = "system_wallet_entries"
    title = "System wallet"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Wallet {wallet_id} belongs to the system; its movements are read with the user wallets they are against.",
            wallet_id=wallet_id,
        )


class BadFilterError(InvalidError):
    """Filters that do not go together, or would have everything looked at."""

    code = "bad_filter"
    title = "Bad filter"


class ReportTooFineError(InvalidError):
    """An instant within a day of which both parts are too long to be added up while somebody waits."""

    code = "report_too_fine"
    title = "Report too fine"

    def __init__(self, instant: dt.datetime, *, transactions_max: int) -> None:
        super().__init__(
            f"More than {transactions_max} transactions lie between {instant.isoformat()} and either end of its day: "
            "let the report begin and end with whole days (UTC).",
            transactions_max=transactions_max,
        )


class ExportTooLongError(InvalidError):
    """A list is too long for one file."""

    code = "export_too_long"
    title = "Export too long"

    def __init__(self, rows_max: int) -> None:
        super().__init__(f"A file has at most {rows_max} rows: narrow the list, by a shorter time.", rows_max=rows_max)


class InstantAheadError(InvalidError):
    """What will be is not known."""

    code = "instant_ahead"
    title = "Instant in the future"

    def __init__(self) -> None:
        super().__init__("at: must not lie in the future.")


class BadCursorError(WalletServiceError):
    """The cursor was not made by this service, or for another list."""

    code = "bad_cursor"
    title = "Bad cursor"


class WalletBusyError(UnavailableError):
    code = "wallet_busy"
    title = "Wallet is busy"


class DatabaseUnavailableError(UnavailableError):
    code = "database_unavailable"
    title = "Database unavailable"


class WalletSettlingError(UnavailableError):
    code = "wallet_settling"
    title = "Wallet is being settled"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"Many grants of wallet {wallet_id} have expired at once, and not all of that is booked yet; nothing else"
            " was posted. Repeat with the same reference.",
            wallet_id=wallet_id,
        )


class OutcomeUnknownError(UnavailableError):
    code = "outcome_unknown"
    title = "Outcome unknown"


class VerificationRunningError(UnavailableError):
    code = "verification_running"
    title = "Verification is running"

    def __init__(self) -> None:
        super().__init__("Another verification is running.")


class ReportBehindError(UnavailableError):
    """The daily totals do not reach as far as the report, and too much came after them to be added up now."""

    code = "report_behind"
    title = "Report is behind"
    retry_after = 30

    def __init__(self, reaches_to: dt.datetime) -> None:
        super().__init__(
            f"The days are added up to {reaches_to.isoformat(timespec='seconds')}, and the report goes further. Ask "
            "for one that ends before, or again when the worker has added up the rest.",
            reaches_to=reaches_to.isoformat(),
        )


class OverloadedError(UnavailableError):
    code = "overloaded"
    title = "Overloaded"


class SignInRefusedError(UnauthenticatedError):
    """What was shown does not prove it; the sentence does not tell which part was wrong."""

    code = "sign_in_refused"
    title = "Sign-in refused"


class NotSignedInError(UnauthenticatedError):
    code = "not_signed_in"
    title = "Not signed in"

    def __init__(self) -> None:
        super().__init__("You are not signed in, or your session has ended.")


class ProofNeededError(ForbiddenError):
    """The operator may, but must first prove again who they are."""

    code = "proof_needed"
    title = "Confirm that it is you"

    def __init__(self) -> None:
        super().__init__("This needs a sign-in that is at most five minutes old.")


class PermissionDeniedError(ForbiddenError):
    code = "permission_denied"
    title = "Not permitted"

    def __init__(self, *, role: str, permission: str) -> None:
        super().__init__(
            f"Your role, {role}, lacks the permission {permission}. An administrator can tell who has it.",
            role=role,
            permission=permission,
        )


class ForeignFormError(ForbiddenError):
    code = "foreign_form"
    title = "This form is not from here, or out of date"

    def __init__(self) -> None:
        super().__init__(
            "Nothing was done. Go back, reload the page and try again. The console works under its own address alone, "
            "over https:// or on http://localhost, because elsewhere browsers do not keep its cookies."
        )


class FormKeyError(InvalidError):
    """A form came with a key that was not made for it, or was made for another operator."""

    code = "form_key"
    title = "This form is not yours, or was changed"

    def __init__(self) -> None:
        super().__init__(
            "Nothing was done. Each form is made for one operator and one act: begin anew from the page of the wallet."
        )


class TooManyAttemptsError(ThrottledError):
    code = "too_many_attempts"
    title = "Too many attempts"

    def __init__(self, seconds: int) -> None:
        wait = f"{seconds} seconds" if seconds < 120 else f"{round(seconds / 60)} minutes"
        super().__init__(f"There were too many attempts that failed. Try again in {wait}.", retry_after=seconds)


class WeakPasswordError(InvalidError):
    code = "weak_password"
    title = "Password is not accepted"


class PasskeyRefusedError(InvalidError):
    code = "passkey_refused"
    title = "Passkey is not accepted"


class OperatorInvalidError(BadFieldError):
    code = "operator_invalid"
    title = "Operator is not accepted"


class OwnOperatorError(ForbiddenError):
    """Nobody gives themselves a role, keeps themselves out or resets themselves: so an administrator always is left."""

    code = "own_operator"
    title = "Your own sign-in"

    def __init__(self) -> None:
        super().__init__("This is your own sign-in. Another administrator can do that for you.")


class OperatorChangedError(ConditionError):
    code = "operator_changed"
    title = "Operator was changed"

    def __init__(self, email: str) -> None:
        super().__init__(f"{email} was changed, or signed out, since you opened the form. Look again.", email=email)


class OperatorExistsError(RefusedError):
    code = "operator_exists"
    title = "Operator exists"

    def __init__(self, email: str) -> None:
        super().__init__(f"There is an operator {email} already.", email=email)


class OperatorNotFoundError(NotFoundError):
    code = "operator_not_found"
    title = "Operator not found"

    def __init__(self, email: str) -> None:
        super().__init__(f"There is no operator {email}.", email=email)


class BulkInvalidError(InvalidError):
    """What was given beside the rows of a bulk file is wrong; `field` names the field that it is about."""

    code = "bulk_invalid"
    title = "The file cannot be taken"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, field=field)
        self.field = field


class BulkRunNotFoundError(NotFoundError):
    code = "bulk_run_not_found"
    title = "Bulk run not found"

    def __init__(self, run_id: int) -> None:
        super().__init__(f"There is no bulk run {run_id}.", run_id=json_integer(run_id))


class FileImportNotFoundError(NotFoundError):
    code = "file_import_not_found"
    title = "Import not found"

    def __init__(self, import_id: int) -> None:
        super().__init__(f"There is no import {import_id}.", import_id=json_integer(import_id))


class BulkFileKnownError(RefusedError):
    """The same file is, or was, another run."""

    code = "bulk_file_known"
    title = "The same file was uploaded before"

    def __init__(self, *, run_id: int, detail: str) -> None:
        super().__init__(detail, run_id=json_integer(run_id))
        self.run_id = run_id


class BulkCampaignOpenError(RefusedError):
    """A campaign has one run on its way at most: what it will have done is not known before its end."""

    code = "bulk_campaign_open"
    title = "A run of this campaign is on its way"

    def __init__(self, *, run_id: int, campaign: str) -> None:
        super().__init__(
            f"Run {run_id} of the campaign {campaign} is not over yet. Wait for its end, or discard, withdraw or stop "
            "it, and begin this one then.",
            run_id=json_integer(run_id),
            campaign=campaign,
        )
        self.run_id = run_id


class BulkStateError(RefusedError):
    """The run does not stand so that this can be done with it."""

    code = "bulk_state"
    title = "Too late, or too early"

    def __init__(self, *, run_id: int, state: str, wanted: str) -> None:
        """`wanted` is what was to be done, like `stopped`."""
        super().__init__(
            f"Run {run_id} is {state.replace('_', ' ')}: it cannot be {wanted} now. Nothing was changed.",
            run_id=json_integer(run_id),
            run_state=state,
        )


class BulkNothingLeftError(RefusedError):
    code = "bulk_nothing_left"
    title = "Nothing to do"


class BulkDriftedError(RefusedError):
    """Since the file was checked, something happened that keeps rows of it from being posted."""

    code = "bulk_drifted"
    title = "Rows would be refused now"

    def __init__(self, *, run_id: int, refused: int) -> None:
        rows = "1 row" if refused == 1 else f"{refused:,} rows"
        super().__init__(
            f"{rows} of run {run_id} would be refused now, and would not have been before: look at them. Discard the "
            "run, mend the file and upload it again.",
            run_id=json_integer(run_id),
            refused=refused,
        )


class BulkAlteredError(RefusedError):
    code = "bulk_altered"
    title = "Not what was asked for"

    def __init__(self, run_id: int) -> None:
        super().__init__(
            f"The rows of run {run_id} are not those that were asked for: their hash says so. Nothing was done; reject "
            "it, and tell whoever looks after the database.",
            run_id=json_integer(run_id),
        )


class LimitExceededError(RefusedError):
    """A limit of the wallet does not allow it. `frees_at` is when there is room for it; None where that is never."""

    code = "limit_exceeded"
    title = "Limit exceeded"

    def __init__(
        self,
        *,
        wallet_id: int,
        asset_code: str,
        limit: str,
        bound: int,
        used: int | None,
        amount: int,
        frees_at: dt.datetime | None,
        balance: int,
        version: int,
    ) -> None:
        """`limit` is single, balance, day or rolling; `used` None for the first."""
        at = None if frees_at is None else frees_at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        if limit == "single":
            told = f"Wallet {wallet_id} may move at most {bound} {asset_code} at once, not {amount}."
        elif limit == "balance":
            told = (
                f"Wallet {wallet_id} has {used} {asset_code}, with what is held, and may have at most {bound}: "
                f"{amount} more would be too much."
            )
        else:
            window = "on a day" if limit == "day" else "within 24 hours"
            room = "that is never free at once" if at is None else f"it is free at {at}"
            told = (
                f"Wallet {wallet_id} may spend at most {bound} {asset_code} {window} and has spent {used}: "
                f"there is no room for {amount}, {room}."
            )
        super().__init__(
            told,
            wallet_id=wallet_id,
            limit=limit,
            bound=bound,
            used=None if used is None else json_integer(used),
            amount=json_integer(amount),
            frees_at=at,
            balance=balance,
            version=version,
        )
        self.frees_at = frees_at


class LimitNotRaisedError(RefusedError):
    """What is asked for is no higher limit; `bound` is what is set, None where nothing is."""

    code = "limit_not_raised"
    title = "Limit not raised"

    def __init__(self, *, wallet_id: int, asset_code: str, limit: str, bound: int | None, figure: int) -> None:
        is_now = f"is {bound} {asset_code}" if bound is not None else "is not set"
        super().__init__(
            f"The limit of wallet {wallet_id} for {LIMIT_WORDS[limit]} {is_now}: {figure} would not raise it.",
            wallet_id=wallet_id,
            limit=limit,
            bound=bound,
            figure=figure,
        )
        self.field = limit


class NothingRaisedError(RefusedError):
    code = "nothing_raised"
    title = "Limits are not raised"

    def __init__(self, wallet_id: int) -> None:
        super().__init__(
            f"The limits of wallet {wallet_id} are not raised now: they are as they are set.", wallet_id=wallet_id
        )


class RaiseTooLongError(InvalidError):
    code = "raise_too_long"
    title = "Raise is too long"

    def __init__(self, days_max: int) -> None:
        super().__init__(f"Limits are raised for at most {days_max} days: name an earlier end.", days_max=days_max)


class LimitsInvalidError(BadFieldError):
    """What is to be set as limits is not accepted."""

    code = "limits_invalid"
    title = "Limits not accepted"
