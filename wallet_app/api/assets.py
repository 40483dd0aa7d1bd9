"""GET /assets."""

from __future__ import annotations

from flask import Response

from wallet_app import service
from wallet_app.api import cursor, parameters, present
from wallet_app.api.body import refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.schemas import AssetsAnswer
from wallet_app.web import json_response, permit


@operation(
    "GET",
    "/assets",
    scope="assets:read",
    tag="Assets",
    answer=AssetsAnswer,
    parameters=(parameters.LIMIT,),
    problems=(400, 422, 429, 503),
)
def list_assets() -> Response:
    """List the assets.

    While there are more, the answer has `next`: repeat the request with the query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("limit", "cursor"))
    limit, after = parameters.limit(), parameters.cursor("assets")
    found = service.list_assets(after_id=after, limit=limit, permit=permit())
    page = found[:limit]
    following = {"next": cursor.make(page[-1].asset_type_id, "assets")} if len(found) > limit else {}
    return json_response({"ok": True, "assets": [present.asset(view) for view in page], **following})
