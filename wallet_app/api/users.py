"""POST /users, GET /users?externalId= and GET /users/{id}; POST /users/{id}/tokens."""

from __future__ import annotations

from flask import Response, current_app

from wallet_app import access, service
from wallet_app.api import parameters, present
from wallet_app.api.body import read_body, refuse_unknown_parameters
from wallet_app.api.operations import created, operation
from wallet_app.api.schemas import MadeUserAnswer, TokenAnswer, TokenRequest, UserAnswer, UserRequest, UsersAnswer
from wallet_app.web import caller, json_response, permit


@operation(
    "POST",
    "/users",
    scope="users:write",
    tag="Users",
    request=UserRequest,
    answer=MadeUserAnswer,
    creates=True,
    dry_run=True,
    problems=(400, 409, 413, 415, 422, 429, 503),
)
def create_user() -> Response:
    """Make a user.

    Safe to repeat: an `externalId` stands for one user for ever, and where there is one it is answered with 200. Under
    another name it is refused (409 `external_id_taken`): the two may be different people.
    """
    body = read_body(UserRequest, parameters=("dryRun",))
    dry_run = parameters.dry_run()
    make = service.preview_user if dry_run else service.create_user
    view, is_new = make(name=body.name, external_id=body.external_id)
    return created(f"/users/{view.user_id}", present.user(view), is_new=is_new, dry_run=dry_run)


@operation(
    "GET",
    "/users",
    scope="users:read",
    tag="Users",
    answer=UsersAnswer,
    parameters=(parameters.EXTERNAL_ID,),
    problems=(422, 429, 503),
)
def find_users() -> Response:
    """Find the user with an external id.

    The list has one user, or none.
    """
    refuse_unknown_parameters(("externalId",))
    found = service.find_users(external_id=parameters.external_id(), permit=permit())
    return json_response({"ok": True, "users": [present.user(view) for view in found]})


@operation(
    "GET",
    "/users/{userId}",
    scope="users:read",
    tag="Users",
    answer=UserAnswer,
    parameters=(parameters.USER_ID,),
    problems=(404, 422, 429, 503),
)
def get_user(user_id: str) -> Response:
    """Read a user."""
    refuse_unknown_parameters(())
    return json_response({"ok": True, **present.user(service.get_user(parameters.user_id(user_id), permit=permit()))})


@operation(
    "POST",
    "/users/{userId}/tokens",
    tag="Users",
    scope="users:tokens",
    request=TokenRequest,
    answer=TokenAnswer,
    parameters=(parameters.USER_ID,),
    problems=(400, 404, 413, 415, 422, 429, 503),
)
def create_token(user_id: str) -> Response:
    """Make a token that speaks for a user.

    For a program in the user's hands, which sends it as it would send a key. It reaches that user's wallets,
    transactions and name; what is another's does not exist for it. Its scopes must be among those of the key. It cannot
    be taken back by itself: it ends after `expiresIn` seconds, and within 5 seconds when its key or client is revoked.
    Each request makes another one.
    """
    user = parameters.user_id(user_id)
    body = read_body(TokenRequest)
    made = access.gate_of(current_app).create_token(caller(), user_id=user, scopes=body.scopes, seconds=body.expires_in)
    return json_response(present.token(made))
