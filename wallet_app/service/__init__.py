"""THE service module: everything that the service can do, by name. Faces import this package and nothing below it."""

from __future__ import annotations

from wallet_app.models import ENTRY_TYPES, HOLD_STATES, SIDES, SWITCH_TARGETS
from wallet_app.service.account import (
    change_password,
    new_recovery_codes,
    recovery_codes_left,
)
from wallet_app.service.actors import BOOTSTRAP_CLIENT, KEYS_SECONDS_MAX, NEW_KEY_SECONDS, Gate
from wallet_app.service.audit import By
from wallet_app.service.books import (
    NO_END,
    Entry,
    Frozen,
    Hold,
    PostedTransaction,
    Receipt,
    ReversedEntry,
    WalletState,
    reversed_parts,
)
from wallet_app.service.bulk import CHUNK_MAX, execute_atomic, execute_each
from wallet_app.service.callers import ANONYMOUS, Actor
from wallet_app.service.commands import (
    HOLD_SECONDS_MAX,
    SHORTFALLS,
    SYSTEM_REFERENCE,
    Bonus,
    CaptureHold,
    Command,
    Exchange,
    Leg,
    Movement,
    OnHold,
    Origin,
    PlaceHold,
    Purchase,
    ReleaseHold,
    ReverseTransaction,
    Seed,
    Spend,
    TopUp,
    Transfer,
)
from wallet_app.service.credentials import MadeKey, Vault, key_id_at, place_of
from wallet_app.service.devices import (
    SECONDS_MAX as DEVICE_SECONDS_MAX,
)
from wallet_app.service.dry_run import (
    NO_ID,
    preview_atomic,
    preview_command,
    preview_each,
    preview_user,
    preview_wallet,
)
from wallet_app.service.erasure import Erasable, count_erasable, erase_user
from wallet_app.service.execution import BATCH_MAX, execute, execute_batch, use_group_commit
from wallet_app.service.exports import EXPORT_ROWS_MAX, export
from wallet_app.service.filters import RANGE_DAYS_MAX, Filters
from wallet_app.service.heartbeats import HeartbeatView, beat, list_heartbeats, stop_beating
from wallet_app.service.history import Page, find_entries, list_transactions, places_of
from wallet_app.service.hold_views import HoldView, find_hold_wallets, get_hold, list_holds
from wallet_app.service.jobs import JOBS, Job
from wallet_app.service.key_views import KeySettings, KeyView, get_key, list_key_page, list_keys
from wallet_app.service.keys import EVERYTHING, RESERVED_CLIENTS, NewKey
from wallet_app.service.listings import AssetView, list_assets, list_wallets
from wallet_app.service.operators import (
    SET_UP_HOURS,
    OperatorView,
    change_role,
    create_operator,
    development_code,
    disable_operator,
    ensure_development_operator,
    list_operators,
    reset_operator,
)
from wallet_app.service.passkeys import (
    ANSWER_MAX,
    PasskeyView,
    ask_to_confirm,
    ask_to_enrol,
    ask_to_sign_in,
    list_passkeys,
)
from wallet_app.service.passkeys import (
    enrol as enrol_passkey,
)
from wallet_app.service.passkeys import (
    remove as remove_passkey,
)
from wallet_app.service.permissions import (
    MOVES_MONEY,
    PERMISSIONS,
    ROLES,
)
from wallet_app.service.permits import SCOPES, TOKEN_SCOPES, Permit
from wallet_app.service.points import get_wallet_at
from wallet_app.service.posting import BatchRefusedError
from wallet_app.service.preview import NO_TRANSACTION, Preview, previewing
from wallet_app.service.queries import (
    PAGE_MAX,
    EntryView,
    TransactionView,
    WalletView,
    get_transaction,
    get_wallet,
    list_entries,
)
from wallet_app.service.rates import AppliedRate, RateView, list_applied_rates, list_rates, set_rate
from wallet_app.service.rebuild import Change, RebuildReport, Refusal, rebuild_balances
from wallet_app.service.references import check_anew as check_references_anew
from wallet_app.service.reversal_views import DebtsView, DebtView, Moved, find_moved_wallets, list_debts
from wallet_app.service.reversals import DEBTS_MAX, REVERSIBLE
from wallet_app.service.search import (
    HITS_MAX,
    SEARCH_CHARACTERS_MAX,
    RecordHit,
    SearchResult,
    TransactionHit,
    UserHit,
    search,
    search_terms,
)
from wallet_app.service.second_factor import (
    RECOVERY_CODES,
)
from wallet_app.service.seeding import seed, seed_users
from wallet_app.service.sessions import (
    IDLE_SECONDS_MAX,
    PROOF_SECONDS_MAX,
    Session,
    SessionView,
    Visitor,
    find_session,
    list_sessions,
    sign_out,
)
from wallet_app.service.sessions import (
    end_all as end_all_sessions,
)
from wallet_app.service.sessions import (
    require as require_permission,
)
from wallet_app.service.set_up import (
    AppSecret,
    SetUp,
    app_secret,
    begin_set_up,
    finish_set_up,
)
from wallet_app.service.sign_in import (
    SignedIn,
    confirm_with_passkey,
    confirm_with_password,
    finish_with_code,
    finish_with_recovery_code,
    sign_in_with_passkey,
    sign_in_with_password,
)
from wallet_app.service.states import Close, Freeze, Side, Unfreeze
from wallet_app.service.switches import (
    SwitchSettings,
    SwitchView,
    Target,
    get_switch,
    lift_switch,
    list_switches,
    preview_switch,
    set_switch,
)
from wallet_app.service.tokens import TOKEN_SECONDS_MAX, MadeToken, Signer, UserToken
from wallet_app.service.users import UserView, create_user, find_users, get_user
from wallet_app.service.verification import Fault, Finding, VerifyReport, verify
from wallet_app.service.wallets import create_wallet

__all__ = [
    "HITS_MAX",
    "RecordHit",
    "SEARCH_CHARACTERS_MAX",
    "SearchResult",
    "TransactionHit",
    "UserHit",
    "search",
    "search_terms",
    "ANONYMOUS",
    "AppliedRate",
    "Actor",
    "AssetView",
    "BATCH_MAX",
    "BOOTSTRAP_CLIENT",
    "BatchRefusedError",
    "Bonus",
    "By",
    "CHUNK_MAX",
    "CaptureHold",
    "Close",
    "Change",
    "Command",
    "ENTRY_TYPES",
    "EXPORT_ROWS_MAX",
    "export",
    "EVERYTHING",
    "Erasable",
    "Filters",
    "Entry",
    "EntryView",
    "Exchange",
    "Fault",
    "Finding",
    "Freeze",
    "Frozen",
    "Gate",
    "HOLD_SECONDS_MAX",
    "HOLD_STATES",
    "HeartbeatView",
    "Hold",
    "HoldView",
    "JOBS",
    "Job",
    "KEYS_SECONDS_MAX",
    "KeySettings",
    "KeyView",
    "Leg",
    "MadeKey",
    "MadeToken",
    "Movement",
    "OnHold",
    "Origin",
    "NEW_KEY_SECONDS",
    "NO_END",
    "NO_ID",
    "NO_TRANSACTION",
    "NewKey",
    "PAGE_MAX",
    "Page",
    "RANGE_DAYS_MAX",
    "count_erasable",
    "erase_user",
    "find_entries",
    "get_wallet_at",
    "list_applied_rates",
    "list_transactions",
    "PlaceHold",
    "Permit",
    "PostedTransaction",
    "Purchase",
    "Preview",
    "RESERVED_CLIENTS",
    "RateView",
    "RebuildReport",
    "Receipt",
    "Refusal",
    "ReleaseHold",
    "SCOPES",
    "SIDES",
    "SWITCH_TARGETS",
    "SYSTEM_REFERENCE",
    "Seed",
    "Side",
    "Signer",
    "Spend",
    "SwitchSettings",
    "SwitchView",
    "TOKEN_SCOPES",
    "Target",
    "TOKEN_SECONDS_MAX",
    "TopUp",
    "TransactionView",
    "Transfer",
    "Unfreeze",
    "UserToken",
    "UserView",
    "Vault",
    "VerifyReport",
    "WalletState",
    "WalletView",
    "beat",
    "create_user",
    "create_wallet",
    "execute",
    "execute_atomic",
    "execute_batch",
    "execute_each",
    "find_hold_wallets",
    "DEBTS_MAX",
    "DebtView",
    "REVERSIBLE",
    "DebtsView",
    "Moved",
    "ReverseTransaction",
    "ReversedEntry",
    "SHORTFALLS",
    "find_moved_wallets",
    "list_debts",
    "reversed_parts",
    "find_users",
    "get_hold",
    "get_key",
    "get_switch",
    "get_transaction",
    "get_user",
    "get_wallet",
    "list_assets",
    "list_entries",
    "list_heartbeats",
    "list_holds",
    "key_id_at",
    "list_key_page",
    "list_keys",
    "lift_switch",
    "list_rates",
    "list_switches",
    "list_wallets",
    "place_of",
    "places_of",
    "preview_atomic",
    "preview_command",
    "preview_each",
    "preview_switch",
    "preview_user",
    "preview_wallet",
    "previewing",
    "check_references_anew",
    "rebuild_balances",
    "seed",
    "set_rate",
    "set_switch",
    "seed_users",
    "stop_beating",
    "use_group_commit",
    "verify",
    "change_password",
    "new_recovery_codes",
    "recovery_codes_left",
    "DEVICE_SECONDS_MAX",
    "OperatorView",
    "SET_UP_HOURS",
    "change_role",
    "create_operator",
    "development_code",
    "disable_operator",
    "ensure_development_operator",
    "list_operators",
    "reset_operator",
    "ANSWER_MAX",
    "PasskeyView",
    "ask_to_confirm",
    "ask_to_enrol",
    "ask_to_sign_in",
    "enrol_passkey",
    "list_passkeys",
    "remove_passkey",
    "MOVES_MONEY",
    "PERMISSIONS",
    "ROLES",
    "RECOVERY_CODES",
    "IDLE_SECONDS_MAX",
    "PROOF_SECONDS_MAX",
    "Session",
    "SessionView",
    "Visitor",
    "end_all_sessions",
    "find_session",
    "list_sessions",
    "require_permission",
    "sign_out",
    "AppSecret",
    "SetUp",
    "app_secret",
    "begin_set_up",
    "finish_set_up",
    "SignedIn",
    "confirm_with_passkey",
    "confirm_with_password",
    "finish_with_code",
    "finish_with_recovery_code",
    "sign_in_with_passkey",
    "sign_in_with_password",
]
