"""What all routes of commands share: their body, the version that they are asked on, and how they are answered."""

from __future__ import annotations

from dataclasses import replace

from flask import Response

from wallet_app import service
from wallet_app.api import parameters, present
from wallet_app.api.body import Model, read_body
from wallet_app.api.conditions import if_match
from wallet_app.service import Command
from wallet_app.web import json_response


def read_command_body(model: type[Model]) -> Model:
    """Return the request's JSON body as the model; raises as `read_body` does."""
    return read_body(model, takes_condition=True, parameters=("dryRun",))


def perform(command: Command) -> Response:
    """Execute the command, on the condition that the request makes, and answer with its receipt; or tell what it would.

    A dry run's answer has no headers of its own: there is nothing at a Location, and no new version.
    """
    if (versions := if_match()) is not None:
        command = replace(command, if_versions=versions)
    if parameters.dry_run():
        preview = service.preview_command(command)
        return json_response({**present.receipt(preview), "dryRun": True}, present.status(preview))
    receipt = service.execute(command)
    status = present.status(receipt)
    headers = {**present.replay_headers(receipt), "ETag": present.tag(receipt.wallets[0].version)}
    if status == 201 and receipt.hold is not None:
        headers["Location"] = f"/holds/{receipt.hold.hold_id}"
    return json_response(present.receipt(receipt), status, headers)
