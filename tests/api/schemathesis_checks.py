"""What our run changes of Schemathesis: two checks, the spelling of whole numbers, whose wallets it takes, and lines.

The first: 412, and 422 `reference_mismatch`, `bad_key_settings` and `end_passed`, say nothing against the document:
they depend on what was posted before, on which assets there are, and on what time it is. So with what depends on which
wallets belong together; no schema can say that two ids differ, or have one user or asset; or how many bytes an object
has, or what lies in the future;
or which filters need each other.

The second: a key that is revoked and a switch that is lifted can still be read, and are no freed resources.

The spelling: to JSON Schema 5.0 is an integer, and no schema can say otherwise, but this API refuses every float for
money. So the run sends whole amounts as integers, and test_bad_input.py holds that 5.0 is refused.

The wallets and users: of the ids that one could have, half become ids that one has, because nothing is found out from
404 alone. Ids that are wrong in themselves stay as they are. So with the codes of assets, and with networks.

The stops: a switch is lifted and a wallet unfrozen as soon as it was answered, because nothing is found out from 409
alone.

The lines: NDJSON is any text, line by line, so there is no text that is no NDJSON, and nothing else can be sent.
"""

from __future__ import annotations

import re
import sys
import uuid
from typing import Any
from urllib.parse import urlencode

import requests
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response, SerializationContext
from schemathesis.specs.openapi.checks import positive_data_acceptance, use_after_free

from wallet_app.api.conditions import IF_MATCH

QUERY_MAX = 3_500
"""Characters; a head that is too long is 414 or 431 on every path, which test_server.py holds."""

OWN_KEY_ID = (re.search(r"Bearer dino_[a-z]+_([a-z2-7]{12})_", " ".join(sys.argv)) or [None, None])[1]
"""From the command line: the key that the run sends."""

SEEDED_WALLETS = 6
SEEDED_USERS = 3


OF_THE_BOOKS = {
    "bad_key_settings",
    "reference_mismatch",
    "same_wallet",
    "asset_mismatch",
    "user_mismatch",
    "payer_without_leg",
    "bad_filter",
    "instant_ahead",
    "end_passed",
}
"""Codes of 422 for what is valid by itself."""


BEYOND_SCHEMAS = {"too_large", "out_of_range", "unsupported"}
"""Codes of errors in fields of which no schema can say it: bytes of an object, what lies in the future, lines that are
to be dry.
"""


ENDED_NOT_REMOVED = {"/keys/{keyId}", "/switches/{switchId}"}
"""What a DELETE ends and leaves to be read: a key that is revoked, a switch that is lifted."""


@schemathesis.check
def valid_data_is_accepted(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Run the original `positive_data_acceptance` on all answers but those."""
    if response.status_code == 412:
        return None
    if "null" in str(response.request.url).partition("?")[0].split("/"):
        return None  # A dry run answers null for the id of what it does not make, and the run goes on with that.
    if response.status_code == 422 and response.json().get("code") in OF_THE_BOOKS:
        return None
    tag = (case.headers or {}).get("If-Match")
    if response.status_code == 400 and tag is not None and not re.search(IF_MATCH["schema"]["pattern"], tag):
        return None  # It sends a 0 there, which it takes for valid and the document's pattern does not.
    if response.status_code == 422:
        errors = response.json().get("errors", [])
        if errors and {error["code"] for error in errors} <= BEYOND_SCHEMAS:
            return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def what_is_gone_stays_gone(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Run the original `use_after_free` on all resources but those that are ended and not removed."""
    return None if case.path in ENDED_NOT_REMOVED else use_after_free(ctx, response, case)


@schemathesis.serializer("application/x-ndjson")
def lines(context: SerializationContext, value: str) -> bytes:
    return value.encode("utf-8", "replace")


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leave out what would be lines and is no text, and what the server refuses unread for its length."""
    is_short = len(urlencode(case.query or {}, doseq=True)) < QUERY_MAX
    # It would revoke the key that the run itself has, and find nothing out from 401 alone afterwards.
    is_own_end = case.method.upper() == "DELETE" and (case.path_parameters or {}).get("keyId") == OWN_KEY_ID
    is_text = case.media_type != "application/x-ndjson" or isinstance(case.body, str)
    return is_short and is_text and not is_own_end


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Spell whole amounts and ids without a fraction; to JSON Schema they stay the same values, valid or not."""
    if not isinstance(body, dict):
        return body
    spelled = {name: _spelled(name, value) for name, value in body.items()}
    for name in ("items", "legs"):
        if isinstance(parts := body.get(name), list):
            spelled[name] = [map_body(context, part) for part in parts]
    if isinstance(body.get("amount"), dict):
        spelled["amount"] = map_body(context, body["amount"])
    return spelled


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Let go again what the run has stopped."""
    headers = {"Authorization": str(response.request.headers.get("Authorization", "")), "Connection": "close"}
    url = str(response.request.url).partition("?")[0]
    if "dryRun=true" in str(response.request.url):
        return
    if response.status_code == 201 and case.path == "/switches":
        switch = f"{url.rstrip('/')}/{response.json()['switchId']}"
        requests.delete(switch, params={"reason": "the run goes on"}, headers=headers, timeout=10)
    if response.status_code == 200 and case.path.endswith("/freeze"):
        body = {"reason": "the run goes on", "referenceId": f"unfreeze-{uuid.uuid4()}"}
        requests.post(url.removesuffix("freeze") + "unfreeze", json=body, headers=headers, timeout=10)


def _spelled(name: str, value: Any) -> Any:
    if name in WHOLE and isinstance(value, float) and value.is_integer():
        value = int(value)
    return _seeded(name, value)


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: Any) -> Any:
    """Send every other valid id to one of the seeded wallets and users."""
    return {name: _seeded(name, value) for name, value in (path_parameters or {}).items()}


@schemathesis.hook
def map_query(context: HookContext, query: Any) -> Any:
    """Send every other valid id in a filter to one of the seeded users."""
    return {name: _seeded(name, value) for name, value in (query or {}).items()}


WHOLE = {"amount", "amountMax", "upTo", "expiresIn", "graceDays", "ifVersion", "walletId", "userId", "from", "to"}
_SEEDED = {"walletId": SEEDED_WALLETS, "from": SEEDED_WALLETS, "to": SEEDED_WALLETS, "userId": SEEDED_USERS}


def _seeded(name: str, value: Any) -> Any:
    if name in _SEEDED and type(value) is int and 1 <= value < 2**63 and value % 2:
        return value // 2 % _SEEDED[name] + 1
    if name in {"assets", "networks"} and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return list(dict.fromkeys(_seeded(name.removesuffix("s"), one) for one in value))
    if name == "network" and type(value) is str and re.fullmatch(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}", value):
        return f"10.{len(value)}.0.0/16"
    if name == "asset" and type(value) is str and re.fullmatch("[A-Z][A-Z0-9_]{1,31}", value) and len(value) % 2:
        return "GOLD"
    return value
