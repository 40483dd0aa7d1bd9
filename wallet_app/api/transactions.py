"""GET /transactions/{id}."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import parameters, present
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.schemas import TransactionAnswer
from wallet_app.web import json_response, permit


@operation(
    "GET",
    "/transactions/{transactionId}",
    tag="Transactions",
    scope="transactions:read",
    answer=TransactionAnswer,
    parameters=(parameters.TRANSACTION_ID,),
    problems=(404, 422, 429, 503),
)
def get_transaction(transaction_id: str) -> Response:
    """Read a transaction with its entries and legs."""
    refuse_unknown_parameters(())
    found = service.get_transaction(parameters.transaction_id(transaction_id), permit=permit())
    return json_response(present.transaction(found))
