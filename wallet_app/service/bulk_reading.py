"""What a row of a bulk file says: its cells become a row to post, or problems that stand at their cells; pure.

Strict where a spreadsheet may have changed what was meant: nothing is rounded, and nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from wallet_app import text
from wallet_app.errors import OperationInvalidError
from wallet_app.money import AMOUNT_MAX, format_amount
from wallet_app.service.adjustments import Direction
from wallet_app.service.bulk_rules import Asked, refusals
from wallet_app.service.operations import AdjustOperation, cleaned
from wallet_app.service.reasons import ReasonSettings

BULK_COLUMNS = (
    "row_ref",
    "user_id",
    "external_id",
    "wallet_id",
    "asset",
    "direction",
    "amount",
    "reason_code",
    "ticket",
    "note",
)
"""What a bulk file may have columns for."""

OWNER_COLUMNS = ("user_id", "external_id", "wallet_id")
"""A row says by one of these whose wallet it is about; by several, if they agree."""

BULK_ROWS_MAX = 10_000
ROW_REF_MAX = 100

_ID_MAX = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,100}")
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
_DECIMAL_ID = re.compile(r"[0-9]+[.,]0+")
_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,18})(?:\.(?P<part>[0-9]{1,18}))?")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:[.,' \u00a0\u202f][0-9]{3})+(?:[.,][0-9]+)?")


class BulkProblem(NamedTuple):
    """What is wrong with a row: `column` names the cell, None is the row as a whole."""

    row_no: int
    column: str | None
    message: str


class BulkCells(NamedTuple):
    """A row of the file as it stands there, by column; `problem` says why it could not be read, if so."""

    row_no: int
    cells: Mapping[str, str]
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDefaults:
    """What holds for the rows whose cell is empty."""

    asset: str | None = None
    direction: str | None = None
    reason_code: str | None = None
    ticket: str | None = None


class OwnWallet(NamedTuple):
    """A user's wallet, as rows are resolved to it."""

    wallet_id: int
    user_id: int
    asset_code: str
    asset_scale: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows are looked up in: users and wallets that the file names, assets and reason codes."""

    users: Mapping[str, int]
    """Users' ids by external id."""
    user_ids: frozenset[int]
    wallets: Mapping[int, OwnWallet]
    of_users: Mapping[tuple[int, str], OwnWallet]
    assets: frozenset[str]
    reasons: Mapping[str, ReasonSettings]


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A row without a problem. `amount` is in the asset's smallest unit."""

    row_no: int
    row_ref: str
    wallet: OwnWallet
    direction: Direction
    amount: int
    reason_code: str
    ticket: str | None
    note: str | None
    owner_column: str
    """By which of its cells the row says whose wallet it is."""


@dataclass(slots=True)
class _Reader:
    """Reads one row; gathers all that is wrong with it."""

    row_no: int
    cells: Mapping[str, str]
    problems: list[BulkProblem] = field(default_factory=list)

    def cell(self, column: str) -> str:
        return self.cells.get(column, "").strip()

    def wrong(self, column: str | None, message: str) -> None:
        self.problems.append(BulkProblem(self.row_no, column, message))


def asked_ids(rows: list[BulkCells]) -> tuple[set[int], set[str], set[int]]:
    """Return the users' ids, external ids and wallets' ids that the rows name, as far as they can be some."""
    user_ids, external_ids, wallet_ids = set[int](), set[str](), set[int]()
    for row in rows:
        for found, column in ((user_ids, "user_id"), (wallet_ids, "wallet_id")):
            if (number := _id_of(row.cells.get(column, "").strip())) is not None:
                found.add(number)
        if (external := row.cells.get("external_id", "").strip()) and not text.is_refused(external):
            external_ids.add(text.name(external[:200]))
    return user_ids, external_ids, wallet_ids


def read_row(row: BulkCells, defaults: BulkDefaults, known: Known) -> tuple[BulkRow | None, list[BulkProblem]]:
    """Return the row, or all its problems."""
    reader = _Reader(row.row_no, row.cells)
    if row.problem is not None:
        reader.wrong(None, row.problem)
        return None, reader.problems
    row_ref = _row_ref(reader)
    wallet, owner_column = _wallet(reader, defaults, known)
    direction = _direction(reader, defaults)
    reason_code = reader.cell("reason_code") or defaults.reason_code or ""
    if not reason_code:
        reader.wrong("reason_code", "Give a reason code, here or for the whole file.")
    amount = _amount(reader, wallet)
    ticket, note = reader.cell("ticket") or defaults.ticket, reader.cell("note") or None
    if wallet is not None and direction is not None and reason_code and amount is not None:
        operation = _cleaned(reader, wallet, direction, amount, reason_code, ticket, note)
        if operation is not None:
            _require_allowed(reader, operation, wallet, known)
        if not reader.problems and operation is not None:
            found = BulkRow(
                row.row_no,
                row_ref,
                wallet,
                direction,
                amount,
                reason_code,
                operation.ticket,
                operation.note,
                owner_column,
            )
            return found, []
    return None, reader.problems


def _row_ref(reader: _Reader) -> str:
    """Return what the row is known by in its campaign, in its normal form; without a column for that, its number."""
    if "row_ref" not in reader.cells:
        return str(reader.row_no)
    # The same however its accents were typed: what looks like one reference is one.
    given = unicodedata.normalize("NFC", reader.cell("row_ref"))
    if not given:
        reader.wrong("row_ref", "Each row needs a row_ref of its own: it keeps the row from being done twice.")
    elif _SCIENTIFIC.fullmatch(given):
        reader.wrong("row_ref", _rewritten(given))
    else:
        try:
            given = text.clean(given, low=1, high=ROW_REF_MAX)
        except ValueError as wrong:
            reader.wrong("row_ref", f"The row_ref {wrong}.")
        if hidden := next((char for char in given if unicodedata.category(char) == "Cf"), None):
            reader.wrong(
                "row_ref",
                f"There is a character in it that nobody sees (U+{ord(hidden):04X}): enter the row_ref again.",
            )
    return given


def _wallet(reader: _Reader, defaults: BulkDefaults, known: Known) -> tuple[OwnWallet | None, str]:
    given = [column for column in OWNER_COLUMNS if reader.cell(column)]
    if not given:
        columns = [column for column in OWNER_COLUMNS if column in reader.cells]
        reader.wrong(columns[0] if columns else None, "Say whose wallet: by user_id, external_id or wallet_id.")
        return None, ""
    asset = (reader.cell("asset") or defaults.asset or "").upper()
    if asset and asset not in known.assets:
        reader.wrong("asset", f"There is no asset {asset[:40]}.")
        return None, given[0]
    found = [_wallet_by(column, reader, asset, known) for column in given]
    if None in found:
        return None, given[0]
    wallets = {one for one in found if one is not None}
    if len(wallets) > 1:
        reader.wrong(given[1], f"The row names several wallets: {' and '.join(given)} do not agree.")
        return None, given[0]
    return wallets.pop(), given[0]


def _wallet_by(column: str, reader: _Reader, asset: str, known: Known) -> OwnWallet | None:
    given = reader.cell(column)
    if column == "external_id":
        if _SCIENTIFIC.fullmatch(given):
            reader.wrong(column, _rewritten(given))
            return None
        user_id = None if text.is_refused(given) else known.users.get(text.name(given[:200]))
        if user_id is None:
            reader.wrong(column, f"There is no user with the external id {given[:60]}.")
            return None
        return _wallet_of(column, user_id, reader, asset, known)
    number = _id_of(given)
    if number is None:
        is_rewritten = _SCIENTIFIC.fullmatch(given) or _DECIMAL_ID.fullmatch(given)
        reader.wrong(column, _rewritten(given) if is_rewritten else f"A {column} is a whole number, like 7.")
        return None
    if column == "user_id":
        if number not in known.user_ids:
            reader.wrong(column, f"There is no user {number}.")
            return None
        return _wallet_of(column, number, reader, asset, known)
    wallet = known.wallets.get(number)
    if wallet is None:
        reader.wrong(column, f"There is no user's wallet {number}.")
    elif asset and wallet.asset_code != asset:
        reader.wrong("asset", f"Wallet {number} is of {wallet.asset_code}, not of {asset}.")
        return None
    return wallet


def _wallet_of(column: str, user_id: int, reader: _Reader, asset: str, known: Known) -> OwnWallet | None:
    if not asset:
        reader.wrong("asset", "Give an asset, here or for the whole file.")
        return None
    wallet = known.of_users.get((user_id, asset))
    if wallet is None:
        reader.wrong(column, f"User {user_id} has no {asset} wallet.")
    return wallet


def _direction(reader: _Reader, defaults: BulkDefaults) -> Direction | None:
    given = (reader.cell("direction") or defaults.direction or "").lower()
    if given in ("credit", "debit"):
        return cast(Direction, given)
    reader.wrong("direction", "Write credit or debit." if given else "Give a direction, here or for the whole file.")
    return None


def _amount(reader: _Reader, wallet: OwnWallet | None) -> int | None:
    """Return the amount in the smallest unit; of a row whose wallet is not known, only what is wrong in itself."""
    given = reader.cell("amount")
    scale = 18 if wallet is None else wallet.asset_scale
    try:
        amount = parse_display_amount(given, scale)
    except ValueError as wrong:
        reader.wrong("amount", f"{wrong}.")
        return None
    return amount if wallet is not None else None


def parse_display_amount(given: str, scale: int) -> int:
    """Return an amount as a file has it (digits, and behind a point at most `scale` more) in the smallest unit.

    Raises ValueError with what is wrong with it.
    """
    if not given:
        raise ValueError("The amount is missing")
    if _SCIENTIFIC.fullmatch(given):
        raise ValueError(f"A spreadsheet has rewritten this as {given[:30]}: enter the amount again, in digits")
    if given[0] in "+-\u2212":
        raise ValueError("An amount has no sign: the direction says which way it goes")
    found = _AMOUNT.fullmatch(given)
    if found is None:
        if _THOUSANDS.fullmatch(given):
            raise ValueError(f"Write {_joined(given)} without anything between the thousands")
        if re.fullmatch(r"[0-9]+,[0-9]+", given):
            raise ValueError("Decimals follow a point, not a comma")
        raise ValueError("An amount is written in digits, like 1000")
    part = found["part"] or ""
    if len(part) > scale or (len(part) == 3 and not part.strip("0")):
        if len(part) == 3:
            raise ValueError(f"{given} may be thousands or decimals: write what is meant without a point")
        places = "no decimals" if scale == 0 else f"at most {scale} decimals"
        raise ValueError(f"The asset has {places}: nothing is rounded here")
    amount = int(found["whole"] + part.ljust(scale, "0")) if scale < 18 else 1
    if not 1 <= amount <= AMOUNT_MAX:
        raise ValueError(f"An amount is from {format_amount(1, scale)} to {format_amount(AMOUNT_MAX, scale)}")
    return amount


def _joined(given: str) -> str:
    return re.sub(r"[.,' \u00a0\u202f](?=[0-9]{3})", "", given)


def _cleaned(
    reader: _Reader,
    wallet: OwnWallet,
    direction: Direction,
    amount: int,
    reason_code: str,
    ticket: str | None,
    note: str | None,
) -> AdjustOperation | None:
    operation = AdjustOperation(
        wallet_id=wallet.wallet_id,
        direction=direction,
        amount=amount,
        reason_code=reason_code,
        ticket=ticket,
        note=note,
    )
    try:
        return cleaned(operation)
    except OperationInvalidError as wrong:
        reader.wrong(wrong.field, wrong.detail)
        return None


def _require_allowed(reader: _Reader, operation: AdjustOperation, wallet: OwnWallet, known: Known) -> None:
    """Note what the reason code does not allow, whoever approves it."""
    code = operation.reason_code
    asked = Asked(
        operation.direction, operation.amount, wallet.asset_code, wallet.asset_scale, operation.ticket, operation.note
    )
    for column, message in refusals(code, known.reasons.get(code), asked):
        reader.wrong(column, message)


def _id_of(given: str) -> int | None:
    if not _DIGITS.fullmatch(given) or not given.isascii():
        return None
    number = int(given)
    return number if 1 <= number <= _ID_MAX else None


def _rewritten(given: str) -> str:
    return f"A spreadsheet has rewritten this as {given[:30]}: format the column as text, and enter the value again."
