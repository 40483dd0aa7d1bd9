"""GET and POST /switches, GET and DELETE /switches/{switchId}: what stops users, assets and everything."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from wallet_app import service
from wallet_app.api import cursor, parameters, present
from wallet_app.api.body import read_body, refuse_body, refuse_unknown_parameters
from wallet_app.api.operations import created, operation
from wallet_app.api.state_schemas import (
    AssetSwitch,
    MadeSwitchAnswer,
    SwitchAnswer,
    SwitchesAnswer,
    SwitchRequest,
    UserSwitch,
)
from wallet_app.fields import ID_MAX, invalid
from wallet_app.service import SwitchSettings
from wallet_app.state_fields import REASON_SCHEMA, read_reason, read_switch_id
from wallet_app.web import by, empty_response, json_response

SWITCH_ID: dict[str, Any] = {
    "name": "switchId",
    "in": "path",
    "required": True,
    "description": "The switch's id",
    "example": 7,
    "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": ID_MAX},
}
WITH_LIFTED = parameters.flag_parameter("withLifted", "Those that were lifted, or have ended, too")
REASON: dict[str, Any] = {
    "name": "reason",
    "in": "query",
    "required": True,
    "description": "Why it is lifted; trimmed, 1 to 500 characters",
    "example": "The account is the player's again",
    "schema": REASON_SCHEMA,
}


@operation(
    "GET",
    "/switches",
    scope="admin:switches",
    tag="Stop switches",
    answer=SwitchesAnswer,
    parameters=(WITH_LIFTED, parameters.LIMIT),
    problems=(400, 422, 429, 503),
)
def list_switches() -> Response:
    """List the switches.

    Those that stop something, in the order in which they were set; with `withLifted` all there were. While there are
    more, the answer has `next`: repeat the request with the query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("withLifted", "limit", "cursor"))
    with_lifted, limit = parameters.flag("withLifted"), parameters.limit()
    filters = ("switches", with_lifted)
    found = service.list_switches(with_lifted=with_lifted, after_id=parameters.cursor(*filters), limit=limit)
    page = found[:limit]
    following = {"next": cursor.make(page[-1].switch_id, *filters)} if len(found) > limit else {}
    return json_response({"ok": True, "switches": [present.switch(view) for view in page], **following})


@operation(
    "POST",
    "/switches",
    scope="admin:switches",
    tag="Stop switches",
    request=SwitchRequest,
    answer=MadeSwitchAnswer,
    creates=True,
    dry_run=True,
    problems=(400, 404, 413, 415, 422, 429, 503),
)
def set_switch() -> Response:
    """Stop a user, an asset or everything.

    From the answer on, in every process, what the switch stops is refused with 409 `stopped`: what leaves the wallets
    (`debits`), what comes into them (`credits`), or `both`. Several switches may concern the same wallet; each stops it
    until it is lifted or has ended. Wallets can be frozen, unfrozen and closed all the while. Safe to repeat: the same
    switch, while it is set, is answered with 200. It stands in the audit log.
    """
    asked = read_body(SwitchRequest, tag="target", parameters=("dryRun",)).root
    dry_run = parameters.dry_run()
    settings = SwitchSettings(
        target=asked.target,
        side=asked.side,
        until=asked.until,
        reason=asked.reason,
        user_id=asked.user_id if isinstance(asked, UserSwitch) else None,
        asset_code=asked.asset if isinstance(asked, AssetSwitch) else None,
    )
    view, is_new = (service.preview_switch if dry_run else service.set_switch)(settings, by=by())
    return created(f"/switches/{view.switch_id}", present.switch(view), is_new=is_new, dry_run=dry_run)


@operation(
    "GET",
    "/switches/{switchId}",
    scope="admin:switches",
    tag="Stop switches",
    answer=SwitchAnswer,
    parameters=(SWITCH_ID,),
    problems=(404, 422, 429, 503),
)
def get_switch(switch_id: str) -> Response:
    """Read a switch."""
    refuse_unknown_parameters(())
    return json_response({"ok": True, **present.switch(service.get_switch(_switch_id(switch_id)))})


@operation(
    "DELETE",
    "/switches/{switchId}",
    scope="admin:switches",
    tag="Stop switches",
    answer=None,
    parameters=(SWITCH_ID, REASON),
    problems=(404, 422, 429, 503),
)
def lift_switch(switch_id: str) -> Response:
    """Lift a switch.

    It stops nothing any more, from the answer on; others that concern the same wallets do. Safe to repeat: who lifted
    it first, and why, stays. It stands in the audit log.
    """
    found = _switch_id(switch_id)
    refuse_unknown_parameters(("reason",))
    refuse_body()
    service.lift_switch(found, reason=_reason(), by=by())
    return empty_response()


def _switch_id(value: str) -> int:
    try:
        return read_switch_id(value)
    except ValueError as exc:
        raise invalid("/switchId", "invalid", str(exc)) from None


def _reason() -> str:
    value = request.args.get("reason")
    if value is None:
        raise invalid("/reason", "missing", "is required")
    try:
        return read_reason(value)
    except ValueError as exc:
        raise invalid("/reason", "invalid", str(exc)) from None
