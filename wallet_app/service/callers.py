"""Who asks, as the rest of the service sees it: made from a key or a user token, and what each of them allows; pure."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import Any, Literal

from wallet_app.errors import NetworkNotAllowedError
from wallet_app.service.permits import NOTHING, TOKEN_SCOPES, Permit
from wallet_app.service.tokens import UserToken

OPERATOR = "operator:"
"""What the name of every operator begins with, in the ledger and the audit log; their id follows."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks. `client` owns the references and `id` is who speaks for it, as in the ledger."""

    id: str
    kind: Literal["anonymous", "key", "user", "operator"]
    client: str
    permit: Permit
    networks: tuple[Network, ...] | None = None
    rate_limit: str | None = None
    expires_at: float | None = None
    """Seconds since 1970."""
    key_id: str | None = None
    """The key, or of a user token the one that it was made with."""

    def require_address(self, address: str) -> None:
        """Raise NetworkNotAllowedError for an address outside of the networks, if there are any."""
        if self.networks is not None:
            _require_network(self.networks, address)


ANONYMOUS = Actor(id="anonymous", kind="anonymous", client="anonymous", permit=NOTHING)
"""Who has no credential, and may do nothing."""


def actor_of_key(row: Any) -> Actor:
    """Return who speaks with the key of this row of `api_keys`, with its client's name."""
    expires_at: dt.datetime | None = row.expires_at
    return Actor(
        id=f"key:{row.key_id}",
        kind="key",
        client=row.client,
        permit=Permit(
            scopes=frozenset(row.scopes),
            amount_max=row.amount_max,
            assets=None if row.assets is None else frozenset(row.assets),
        ),
        networks=None if row.networks is None else tuple(map(ipaddress.ip_network, row.networks)),
        rate_limit=row.rate_limit,
        expires_at=None if expires_at is None else expires_at.timestamp(),
        key_id=row.key_id,
    )


def actor_of_user(token: UserToken, key: Actor) -> Actor:
    """Return who speaks for the user: with what the token was given, where its key allows it."""
    permit = Permit(
        scopes=token.scopes & key.permit.scopes & TOKEN_SCOPES,
        amount_max=key.permit.amount_max,
        assets=key.permit.assets,
        user_id=token.user_id,
    )
    return Actor(
        id=f"user:{token.user_id}",
        kind="user",
        client=key.client,
        permit=permit,
        expires_at=token.expires_at if key.expires_at is None else min(token.expires_at, key.expires_at),
        key_id=key.key_id,
    )


def _require_network(networks: tuple[Network, ...], address: str) -> None:
    try:
        asked = ipaddress.ip_address(address)
    except ValueError:
        raise NetworkNotAllowedError("an unknown address") from None
    mapped = getattr(asked, "ipv4_mapped", None)
    if not any((mapped or asked) in network for network in networks):
        raise NetworkNotAllowedError(str(mapped or asked))
