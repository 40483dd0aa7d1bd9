"""The types of fields that answers of all areas have; `schemas` and its neighbours are made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from wallet_app.details import METADATA_SCHEMA
from wallet_app.money import AMOUNT_MAX

Integer53 = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
ExactInteger = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]+$"}],
            "description": "A string where it exceeds what every JSON client reads exactly (2^53 - 1).",
        }
    ),
]
Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Next = Annotated[str | None, Field(description="The `cursor` of the next page; absent on the last one.")]
KeptMetadata = Annotated[
    dict[str, Any] | None,
    WithJsonSchema(
        {
            "anyOf": [METADATA_SCHEMA, {"type": "null"}],
            "description": "As it was sent; null for none, or when it was erased.",
        }
    ),
]
OccurredAtAnswer = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "When it happened, as the caller said; else as `createdAt`.",
        }
    ),
]
Identifier = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
IfMade = Annotated[
    str | None,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}],
            "description": "Null in a dry run, unless it was made before.",
        }
    ),
]
DryRun = Annotated[
    Literal[True] | None,
    Field(description="Only in a dry run: this is what would have been answered, and nothing was done."),
]
