"""The fields of a reversal; more of `fields`, which says what fields are."""

from __future__ import annotations

import uuid
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from wallet_app import text
from wallet_app.fields import read_uuid
from wallet_app.money import AMOUNT_MAX, AMOUNT_PATTERN, parse_amount
from wallet_app.service import SHORTFALLS
from wallet_app.text import REASON_PATTERN


def _transaction_id(value: object) -> uuid.UUID:
    return read_uuid(value, "a transaction's")


def _reason(value: object) -> str:
    return text.clean(value, low=1, high=500)


def _on_shortfall(value: object) -> str:
    if value not in SHORTFALLS:
        raise ValueError(f"must be one of {', '.join(SHORTFALLS)}")
    return str(value)


TransactionId = Annotated[
    uuid.UUID,
    PlainValidator(_transaction_id),
    WithJsonSchema(
        {"type": "string", "pattern": text.UUID_PATTERN, "description": "The id of the transaction to be reversed."}
    ),
]
Reason = Annotated[
    str,
    PlainValidator(_reason),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": REASON_PATTERN,
            "description": "Why. Trimmed, 1 to 500 characters. It stays in the ledger for ever and a repetition must "
            "say the same, so what is personal belongs into the `note`.",
        }
    ),
]
ReversedAmount = Annotated[
    int | None,
    PlainValidator(parse_amount),
    WithJsonSchema(
        {
            "description": "How much of it, in the asset's smallest unit; without it, all that is left. A string of "
            "digits is accepted too.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": AMOUNT_MAX},
                {"type": "string", "pattern": AMOUNT_PATTERN},
            ],
        }
    ),
]
"""None stands for its absence; a caller's null is refused."""

OnShortfall = Annotated[
    str,
    PlainValidator(_on_shortfall),
    WithJsonSchema(
        {
            "type": "string",
            "enum": list(SHORTFALLS),
            "default": SHORTFALLS[0],
            "description": "What is to be if a wallet has less than is to be taken back: nothing happens; what is "
            "there is taken, at least 1; or what is there is taken, and the rest is owed.",
        }
    ),
]
