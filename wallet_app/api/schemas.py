"""The JSON outside as models: requests are validated by them, and the OpenAPI document is generated from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, SkipValidation
from pydantic.alias_generators import to_camel

from wallet_app.api.schema_parts import (
    DryRun,
    ExactInteger,
    Identifier,
    IfMade,
    Instant,
    Integer53,
    KeptMetadata,
    Next,
    OccurredAtAnswer,
)
from wallet_app.api.state_schemas import Frozen, Status
from wallet_app.details import WithDetails
from wallet_app.fields import (
    FINAL_OR_AMOUNT,
    Amount,
    AmountIfGiven,
    AssetCode,
    ClientName,
    ExternalId,
    Final,
    HoldSeconds,
    KeyAmount,
    KeyAssets,
    KeyNetworks,
    KeyRate,
    KeyScopes,
    KeySeconds,
    Name,
    Outside,
    ReferenceIfGiven,
    TokenScopes,
    TokenSeconds,
    UserId,
    WalletId,
)
from wallet_app.records import Exchange, Purchase, Record, Transfer
from wallet_app.service import BATCH_MAX, ENTRY_TYPES, HOLD_STATES


class MovementRequest(WithDetails):
    """A top-up, bonus or spend."""

    model_config = ConfigDict(json_schema_extra={"required": ["amount", "referenceId"]})

    amount: Amount
    reference_id: ReferenceIfGiven = None


class AssetAnswer(Outside):
    code: str
    name: str


class MovementAnswer(Outside):
    """An accepted movement: the wallet as it stands now, and the transaction under this reference."""

    ok: Literal[True]
    idempotent: bool = Field(description="True when this reference was accepted before: nothing changed this time.")
    message: str | None = Field(default=None, description="Only with idempotent: says that the balance is unchanged.")
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    balance: Integer53 = Field(description="What can be spent now.")
    held: Integer53
    version: int = Field(description="The number of the wallet's last entry; belongs to `balance`.")
    transaction_id: IfMade
    reference_id: str
    type: Literal[ENTRY_TYPES]  # type: ignore[valid-type]
    amount: int = Field(description="Signed: what the balance changed by.")
    balance_after: Integer53 = Field(description="The balance right after this transaction's entry.")
    seq: int = Field(description="The number of this transaction's entry; belongs to `balanceAfter`.")
    created_at: Instant
    lot_id: IfMade = Field(default=None, description="The lot that it made; absent for credit without an end.")
    expires_at: Instant | None = Field(
        default=None, description="Until when the lot could be spent then; absent for credit without an end."
    )
    dry_run: DryRun = None


class HoldRequest(WithDetails):
    """A hold."""

    model_config = ConfigDict(json_schema_extra={"required": ["walletId", "amount", "expiresIn", "referenceId"]})

    wallet_id: WalletId
    amount: Amount
    expires_in: HoldSeconds
    reference_id: ReferenceIfGiven = None


class CaptureRequest(WithDetails):
    """A capture of a hold."""

    model_config = ConfigDict(json_schema_extra={"required": ["referenceId"], **FINAL_OR_AMOUNT})

    amount: AmountIfGiven = None
    final: Final = None
    reference_id: ReferenceIfGiven = None


class ReleaseRequest(WithDetails):
    """A release of a hold."""

    model_config = ConfigDict(json_schema_extra={"required": ["referenceId"]})

    reference_id: ReferenceIfGiven = None


class HoldAnswer(Outside):
    """A hold; its parts and what remains make up its amount."""

    hold_id: Identifier
    state: Literal[HOLD_STATES]  # type: ignore[valid-type]
    amount: Integer53
    captured: Integer53 = Field(description="What was spent of it.")
    released: Integer53 = Field(description="What was given back, by a release or a final capture.")
    expired: Integer53 = Field(description="What was given back because its time was over.")
    remaining: Integer53 = Field(description="What is still held.")
    expires_at: Instant
    created_at: Instant
    ended_at: Instant | None = Field(description="Null while anything is held.")


class ListedHold(HoldAnswer):
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    reference_id: str = Field(description="That of its placing.")
    note: str | None
    metadata: KeptMetadata


class HoldReadAnswer(ListedHold):
    ok: Literal[True]


class HoldsAnswer(Outside):
    ok: Literal[True]
    wallet_id: int
    holds: list[ListedHold]
    next: Next = None


class MovedHold(HoldAnswer):
    hold_id: IfMade  # type: ignore[assignment]


class HoldMovementAnswer(MovementAnswer):
    """An accepted hold, capture or release: the wallet and the hold as they stand now, and the transaction."""

    type: Literal["HOLD", "CAPTURE", "RELEASE", "HOLD_EXPIRY"]
    amount: int = Field(description="Signed: what the balance changed by, all entries together.")
    balance_after: Integer53 = Field(description="The balance right after this transaction's last entry.")
    seq: int = Field(description="The number of this transaction's last entry; belongs to `balanceAfter`.")
    hold: MovedHold


class TransferRequest(Transfer):
    """A transfer."""

    model_config = ConfigDict(json_schema_extra={"required": ["from", "to", "amount", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class SideAnswer(Outside):
    """A wallet that a transaction moved: as it stands now, and what the transaction did to it."""

    wallet_id: int
    user_id: int
    asset: AssetAnswer
    balance: Integer53 = Field(description="What can be spent now.")
    held: Integer53
    version: int = Field(description="The number of the wallet's last entry; belongs to `balance`.")
    amount: int = Field(description="Signed: what the balance changed by.")
    balance_after: Integer53 = Field(description="The balance right after this transaction's entry.")
    seq: int = Field(description="The number of this transaction's entry; belongs to `balanceAfter`.")


class PostedAnswer(Outside):
    """An accepted command on several wallets."""

    ok: Literal[True]
    idempotent: bool = Field(description="True when this reference was accepted before: nothing changed this time.")
    message: str | None = Field(default=None, description="Only with idempotent: says that no balance has changed.")
    transaction_id: IfMade
    reference_id: str
    created_at: Instant
    dry_run: DryRun = None


class TransferAnswer(PostedAnswer):
    type: Literal["TRANSFER"]
    amount: Integer53 = Field(description="How much was moved; with `upTo`, perhaps less than asked for.")
    source: SideAnswer = Field(alias="from")
    target: SideAnswer = Field(alias="to")


class ExchangeRequest(Exchange):
    """An exchange."""

    model_config = ConfigDict(json_schema_extra={"required": ["from", "to", "amount", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class ExchangeAnswer(PostedAnswer):
    type: Literal["EXCHANGE"]
    rate: str = Field(description="The rate that was applied: the request's, or the one that was configured then.")
    source: SideAnswer = Field(alias="from")
    target: SideAnswer = Field(alias="to")


class PurchaseRequest(Purchase):
    """A purchase."""

    model_config = ConfigDict(json_schema_extra={"required": ["walletId", "legs", "referenceId"]})

    reference_id: ReferenceIfGiven = None


class PurchaseLegAnswer(SideAnswer):
    type: Literal["TOPUP", "BONUS", "SPEND"]


class PurchaseAnswer(PostedAnswer):
    type: Literal["PURCHASE"]
    wallet_id: int = Field(description="The payer: the wallet under which the reference counts.")
    legs: list[PurchaseLegAnswer] = Field(description="In the order of the request.")


class EachBatch(Outside):
    """Each item is answered by itself: a record as in an atomic batch; what is none is refused by itself."""

    mode: Literal["each"]
    items: Annotated[list[Any], Field(min_length=1, max_length=BATCH_MAX)]


class AtomicBatch(Outside):
    """All items are posted, or nothing happens."""

    mode: Literal["atomic"]
    # Described as records but not read as such here: each is read by itself, so that the refused one can be named.
    items: Annotated[list[SkipValidation[Record]], Field(min_length=1, max_length=BATCH_MAX)]


class BatchRequest(RootModel[Annotated[EachBatch | AtomicBatch, Field(discriminator="mode")]]):
    """A batch of commands."""


class UserRequest(Outside):
    """A user."""

    name: Name
    external_id: ExternalId


class WalletRequest(Outside):
    """A wallet."""

    user_id: UserId
    asset: AssetCode


class ListedUser(Outside):
    user_id: int
    name: str
    external_id: str | None = Field(description="Null for a user that was not made over this API.")
    created_at: Instant


class UserAnswer(ListedUser):
    ok: Literal[True]


class MadeUserAnswer(UserAnswer):
    user_id: int | None = Field(description="Null in a dry run, unless the user was there.")  # type: ignore[assignment]
    dry_run: DryRun = None


class UsersAnswer(Outside):
    ok: Literal[True]
    users: list[ListedUser]


class TokenRequest(Outside):
    """A token for a user."""

    scopes: TokenScopes
    expires_in: TokenSeconds = 900


class TokenAnswer(Outside):
    ok: Literal[True]
    token: str = Field(description="To be sent as `Authorization: Bearer ...`. It is shown here alone.")
    token_type: Literal["Bearer"]
    user_id: int
    scopes: list[str]
    expires_in: int = Field(description="Seconds; fewer than asked for where the key ends before.")
    expires_at: Instant


class KeyRequest(Outside):
    """A key for a service."""

    client: ClientName
    scopes: KeyScopes
    amount_max: KeyAmount = None
    assets: KeyAssets = None
    networks: KeyNetworks = None
    rate_limit: KeyRate = None
    expires_in: KeySeconds = None


class ListedKey(Outside):
    key_id: str
    client: str = Field(description="Who owns the references that are used with it.")
    scopes: list[str]
    amount_max: int | None = Field(description="Null: any amount.")
    assets: list[str] | None = Field(description="Null: all.")
    networks: list[str] | None = Field(description="Null: from anywhere.")
    rate_limit: str | None = Field(description="Null: as for other keys.")
    expires_at: Instant | None = Field(description="Null: it works until it is revoked.")
    live: bool = Field(description="Whether it works: it has not expired, and neither it nor its client is revoked.")
    created_at: Instant
    created_by: str = Field(description="Who made it, as in the ledger: `key:...` for a key.")
    revoked_at: Instant | None
    last_used_at: Instant | None = Field(description="To within about a minute.")


class KeyAnswer(ListedKey):
    ok: Literal[True]


class MadeKeyAnswer(KeyAnswer):
    key: str = Field(description="To be sent as `Authorization: Bearer ...`. It is shown here alone and kept nowhere.")


class KeysAnswer(Outside):
    ok: Literal[True]
    keys: list[ListedKey]
    next: Next = None


class ListedAsset(AssetAnswer):
    scale: int = Field(description="Decimal places, for display; amounts are in the smallest unit.")
    time_zone: str = Field(description="The zone, by its IANA name, in which a day of the asset ends.")
    bonus_days: int | None = Field(
        description="For how many days a bonus lives that says nothing itself; null: for ever."
    )
    paid_days: int | None = Field(description="For how many days paid credit lives; null: for ever.")


class AssetsAnswer(Outside):
    ok: Literal[True]
    assets: list[ListedAsset]
    next: Next = None


class ExpiringAnswer(Outside):
    next_at: Instant | None = Field(description="The next instant at which something expires; null for none.")
    next_amount: Integer53 = Field(description="How much expires then.")
    within_7d: Integer53 = Field(alias="within7d", description="How much expires within seven days.")
    within_30d: Integer53 = Field(alias="within30d", description="How much expires within thirty days.")


class Balance(Outside):
    wallet_id: int
    user_id: int
    asset: AssetAnswer
    balance: ExactInteger = Field(
        description="What the ledger says at `version`; of a SYSTEM wallet the sum of its slots."
    )
    held: Integer53 = Field(description="What holds keep. One whose time is over keeps nothing.")
    available: ExactInteger = Field(
        description="What can be spent now: `balance` without what is `due`, and what holds kept whose time is over. "
        "The next command, or the worker, settles that by entries of its own."
    )
    bonus: Integer53 | None = Field(description="What of `available` was granted. Null for an instant of the past.")
    paid: ExactInteger | None = Field(description="The rest of `available`. Null for an instant of the past.")
    due: Integer53 = Field(
        description="What of `balance` has expired already, and is taken away by the next command or the worker."
    )
    total: ExactInteger = Field(description="available + held")
    owed: Integer53 = Field(
        description="What could not be taken back when a credit was reversed. Whatever raises the balance repays it."
    )
    expiring: ExpiringAnswer | None = Field(
        description="What of `available` expires, and when. Null for an instant of the past."
    )
    version: int | None = Field(description="The number of the last entry; null for a SYSTEM wallet.")
    updated_at: Instant


class ListedWallet(Balance):
    user_name: str
    user_type: Literal["USER", "SYSTEM"]
    scale: int = Field(description="Decimal places of the asset, for display.")
    status: Status
    frozen: Frozen = None
    created_at: Instant


class BalanceAnswer(Balance):
    ok: Literal[True]
    at: Instant | None = Field(default=None, description="The instant that was asked about; absent for now.")


class WalletAnswer(ListedWallet):
    ok: Literal[True]


class MadeWalletAnswer(WalletAnswer):
    wallet_id: int | None = Field(  # type: ignore[assignment]
        description="Null in a dry run, unless the wallet was there."
    )
    dry_run: DryRun = None


class WalletsAnswer(Outside):
    ok: Literal[True]
    wallets: list[ListedWallet]
    next: Next = None


class EntryAnswer(Outside):
    wallet_id: int
    seq: int
    type: Literal[ENTRY_TYPES]  # type: ignore[valid-type]
    amount: int
    balance_after: Integer53
    contra_wallet_id: int
    created_at: Instant
    hash: str = Field(description="The head of the wallet's hash chain after this entry, in hexadecimal.")


class ListedEntryAnswer(EntryAnswer):
    transaction_id: Identifier
    reference_id: str | None = Field(
        description="Null to a user token in another's transaction, as `actor` and `note`."
    )
    kind: str
    actor: str | None
    note: str | None
    metadata: KeptMetadata
    occurred_at: OccurredAtAnswer


class EntriesAnswer(Outside):
    ok: Literal[True]
    wallet_id: int
    entries: list[ListedEntryAnswer]
    next: Next = None


class LegAnswer(Outside):
    wallet_id: int
    asset: str
    amount: int


class ReversibleAnswer(Outside):
    """What became of an entry that can be reversed."""

    wallet_id: int
    seq: int
    amount: Integer53 = Field(description="The entry's, without its sign.")
    reversed: Integer53 = Field(description="How much of it was given or taken back.")
    owed: Integer53 = Field(description="How much of it could not be taken back, and is still to be repaid.")
    expired: Integer53 = Field(
        description="How much of the lots that it granted has expired: it is gone, and is not taken back a second time."
    )
    remaining: Integer53 = Field(
        description="How much of it a reversal that came now could reverse at most. If the wallet has less than is to "
        "be taken back, `onShortfall` says what happens."
    )


class ListedTransaction(Outside):
    transaction_id: Identifier
    kind: str
    wallet_id: int | None = Field(
        description="The anchor: the wallet under which the reference counts. Null, as all that its owner said with "
        "it, to a user token that is shown its side of another's transaction."
    )
    reference_id: str | None
    client: str | None
    actor: str | None
    request_id: str | None
    reverses: Identifier | None
    reason: str | None = Field(description="Why it was asked for, where that had to be told; null to a user token.")
    note: str | None
    metadata: KeptMetadata
    occurred_at: OccurredAtAnswer
    created_at: Instant
    digest: str = Field(description="SHA-256 over who did what; part of the hash of each entry. Hexadecimal.")
    entries: list[EntryAnswer]
    reversible: list[ReversibleAnswer] = Field(description="Empty for a kind of transaction that cannot be reversed.")


class TransactionAnswer(ListedTransaction):
    ok: Literal[True]
    legs: list[LegAnswer] = Field(description="Each entry as its two sides; they sum to zero per asset.")


class HealthAnswer(Outside):
    ok: bool
    db_status: Literal["connected", "disconnected"] = Field(alias="db_status")
    time: Instant


class FieldError(Outside):
    pointer: str = Field(description="A JSON pointer to the field, or the name of the parameter after a slash.")
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details. Some codes add members: `balance`, `required`, `version`, `fields`, `index`, ..."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    ok: Literal[False]
    error: str
    errors: list[FieldError] | None = None


def json_schemas(models: list[type[BaseModel]]) -> dict[str, Any]:
    """Return the models' JSON Schemas by name, with references as OpenAPI places them."""
    schemas: dict[str, Any] = {}
    for model in models:
        mode: Literal["validation", "serialization"] = (
            "validation" if model.__name__.endswith("Request") else "serialization"
        )
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return {name: _without_noise(schema) for name, schema in schemas.items()}


def _without_noise(schema: Any) -> Any:
    """Drop what pydantic adds of itself: titles made from the names, and null as the default of what may be absent."""
    if isinstance(schema, dict):
        return {
            key: _without_noise(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
        }
    return [_without_noise(value) for value in schema] if isinstance(schema, list) else schema
