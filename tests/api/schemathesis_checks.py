"""What our run changes of Schemathesis: one check, the spelling of whole numbers, and whose wallets it takes.

The check: 412, and 422 `reference_mismatch`, say nothing against the document: they depend on what was posted before.

The spelling: to JSON Schema 5.0 is an integer, and no schema can say otherwise, but this API refuses every float for
money. So the run sends whole amounts as integers, and test_bad_input.py holds that 5.0 is refused.

The wallets: of the ids that a wallet could have, half become ids that a wallet has, because nothing is found out from
404 alone. Ids that are wrong in themselves stay as they are.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.specs.openapi.checks import positive_data_acceptance

SEEDED_WALLETS = 6


@schemathesis.check
def valid_data_is_accepted(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Run the original `positive_data_acceptance` on all answers but those two."""
    if response.status_code == 412:
        return None
    if response.status_code == 422 and response.json().get("code") == "reference_mismatch":
        return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Spell a whole amount without a fraction; to JSON Schema it stays the same value, valid or not."""
    if isinstance(body, dict) and isinstance(amount := body.get("amount"), float) and amount.is_integer():
        return {**body, "amount": int(amount)}
    return body


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: Any) -> Any:
    """Send every other valid wallet id to one of the seeded wallets."""
    wallet = (path_parameters or {}).get("walletId")
    if type(wallet) is int and 1 <= wallet < 2**63 and wallet % 2:
        return {**path_parameters, "walletId": wallet // 2 % SEEDED_WALLETS + 1}
    return path_parameters
