"""GET and POST /keys, GET and DELETE /keys/{keyId}, POST /keys/{keyId}/rotate: for who gives services their keys."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import suppress

from flask import Response, current_app

from wallet_app import access, service
from wallet_app.api import cursor, parameters, present
from wallet_app.api.body import read_body, refuse_body, refuse_unknown_parameters
from wallet_app.api.operations import operation
from wallet_app.api.schemas import KeyAnswer, KeyRequest, KeysAnswer, MadeKeyAnswer
from wallet_app.errors import BadCursorError, KeyRevokedError
from wallet_app.service import KeySettings, NewKey
from wallet_app.web import by, caller, empty_response, json_response


@operation(
    "GET",
    "/keys",
    scope="admin:keys",
    tag="Keys",
    answer=KeysAnswer,
    parameters=(parameters.OF_CLIENT, parameters.WITH_REVOKED, parameters.LIMIT),
    problems=(400, 422, 429, 503),
)
def list_keys() -> Response:
    """List the keys.

    In order of their ids, without those that are revoked or expired unless `withRevoked` is true. While there are more,
    the answer has `next`: repeat the request with the query parameter `cursor` set to it.
    """
    refuse_unknown_parameters(("client", "withRevoked", "limit", "cursor"))
    client, with_revoked, limit = parameters.of_client(), parameters.with_revoked(), parameters.limit()
    filters = ("keys", client, with_revoked)
    after_id = _read_place(parameters.cursor(*filters))
    found = service.list_key_page(client=client, with_revoked=with_revoked, after_id=after_id, limit=limit)
    page = found[:limit]
    following = {"next": cursor.make(service.place_of(page[-1].key_id), *filters)} if len(found) > limit else {}
    return json_response({"ok": True, "keys": [present.key(view) for view in page], **following})


@operation(
    "POST",
    "/keys",
    scope="admin:keys",
    tag="Keys",
    request=KeyRequest,
    answer=MadeKeyAnswer,
    always_new=True,
    problems=(400, 409, 413, 415, 422, 429, 503),
)
def create_key() -> Response:
    """Make a key for a service.

    It allows no more than the key that makes it: no scope that this one lacks, and every limit that this one has, as
    tight or tighter (403 `grants_too_much` says which). A client has at most two live keys, so that one can replace the
    other (409 `too_many_keys`). There is no reference to repeat this under: after a 503 look at the list, and revoke a
    key whose text did not arrive.
    """
    body = read_body(KeyRequest)
    expires_in = None if body.expires_in is None else dt.timedelta(seconds=body.expires_in)
    settings = KeySettings(
        scopes=body.scopes,
        amount_max=body.amount_max,
        assets=body.assets,
        networks=body.networks,
        rate_limit=body.rate_limit,
        expires_at=None if expires_in is None else dt.datetime.now(dt.UTC) + expires_in,
    )
    gate = access.gate_of(current_app)
    return _made(gate.create_key(client=body.client, settings=settings, by=by(), within=caller()))


@operation(
    "GET",
    "/keys/{keyId}",
    scope="admin:keys",
    tag="Keys",
    answer=KeyAnswer,
    parameters=(parameters.KEY_ID,),
    problems=(404, 422, 429, 503),
)
def get_key(key_id: str) -> Response:
    """Read a key: what it may do, and when it was used last."""
    refuse_unknown_parameters(())
    return json_response({"ok": True, **present.key(service.get_key(parameters.key_id(key_id)))})


@operation(
    "POST",
    "/keys/{keyId}/rotate",
    scope="admin:keys",
    tag="Keys",
    answer=MadeKeyAnswer,
    always_new=True,
    parameters=(parameters.KEY_ID,),
    problems=(404, 409, 422, 429, 503),
)
def rotate_key(key_id: str) -> Response:
    """Make another key that allows the same.

    For the same client, and only if it allows no more than the key that asks. The old one works on: give the service
    the new one, wait until `lastUsedAt` of the old one stands still, then revoke that.
    """
    refuse_unknown_parameters(())
    refuse_body()
    gate = access.gate_of(current_app)
    return _made(gate.rotate_key(parameters.key_id(key_id), by=by(), within=caller()))


@operation(
    "DELETE",
    "/keys/{keyId}",
    scope="admin:keys",
    tag="Keys",
    answer=None,
    parameters=(parameters.KEY_ID,),
    problems=(404, 422, 429, 503),
)
def revoke_key(key_id: str) -> Response:
    """Revoke a key.

    Any key, also one that allows more than the key that asks: this takes and gives nothing. Within 5 seconds it opens
    nothing any more, and the user tokens that were made with it neither. Safe to repeat.
    """
    refuse_unknown_parameters(())
    refuse_body()
    with suppress(KeyRevokedError):
        access.gate_of(current_app).revoke_key(parameters.key_id(key_id), by=by())
    return empty_response()


def _read_place(position: int | None) -> str | None:
    try:
        return None if position is None else service.key_id_at(position)
    except ValueError:
        raise BadCursorError("The cursor was not made by this list; start again without it.") from None


def _made(made: NewKey) -> Response:
    # Until every process would look for it: a key must not be refused in the moment in which it is given.
    time.sleep(service.NEW_KEY_SECONDS)
    return json_response(present.new_key(made), 201, {"Location": f"/keys/{made.key_id}"})
