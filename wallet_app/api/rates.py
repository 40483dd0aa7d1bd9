"""GET /rates."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, filters, parameters, present
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.reading_schemas import RatesAnswer
from wallet_app.web import json_response, permit


@operation(
    "GET",
    "/rates",
    scope="assets:read",
    tag="Assets",
    answer=RatesAnswer,
    parameters=(filters.RATES_AT, parameters.LIMIT),
    problems=(400, 422, 429, 503),
)
def list_rates() -> Response:
    """List the exchange rates that apply now, or at an instant.

    They are what an exchange is made at that names none; a pair of assets that is not here has no rate. Rates can be
    set ahead: `at` may lie in the future. While there are more, the answer has `next`: repeat the request with the
    query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("at", "limit", "cursor"))
    instant, limit = filters.at(), parameters.limit()
    after = parameters.places(2, "rates", instant)
    found = service.list_applied_rates(instant=instant, after=after, limit=limit, permit=permit())
    page = found[:limit]
    last = (page[-1].source_id, page[-1].target_id) if len(found) > limit else None
    following = {} if last is None else {"next": cursor.make_at(last, "rates", instant)}
    return json_response({"ok": True, "rates": [present.rate(one) for one in page], **following})
