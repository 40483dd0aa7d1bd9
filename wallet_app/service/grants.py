"""What one credential may hand on to another: nothing that it does not allow itself. It reads no database.

A limit that the giver has must be on what it gives, too, as tight or tighter; where it has none, any will do.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math

from limits import RateLimitItem, parse_many

from wallet_app.config import current_settings
from wallet_app.errors import BadKeySettingsError, GrantsTooMuchError
from wallet_app.service.callers import Actor
from wallet_app.service.key_views import KeySettings


def require_within(asked: KeySettings, giver: Actor) -> None:
    """Raise MissingScopeError or GrantsTooMuchError for a key that would allow more than its giver's credential.

    BadKeySettingsError for networks that cannot be compared because they are none.
    """
    for scope in asked.scopes:
        giver.permit.require(scope)
    _require_amount(asked.amount_max, giver.permit.amount_max)
    _require_assets(asked, giver)
    _require_networks(asked, giver)
    _require_expiry(asked.expires_at, giver.expires_at)
    _require_rate(asked.rate_limit, giver.rate_limit)


def _require_amount(asked: int | None, own: int | None) -> None:
    if own is not None and (asked is None or asked > own):
        raise GrantsTooMuchError("amount", f"amounts of at most {own}")


def _require_assets(asked: KeySettings, giver: Actor) -> None:
    own = giver.permit.assets
    if own is not None and (not asked.assets or not own.issuperset(asked.assets)):
        raise GrantsTooMuchError("assets", f"the assets {', '.join(sorted(own))}")


def _require_networks(asked: KeySettings, giver: Actor) -> None:
    if giver.networks is None:
        return
    try:
        wanted = [ipaddress.ip_network(one) for one in asked.networks or ()]
    except ValueError as problem:
        raise BadKeySettingsError(f"A network looks like 10.0.0.0/8 or 2001:db8::/32: {problem}.") from None
    if not wanted or not all(any(_is_inside(one, own) for own in giver.networks) for one in wanted):
        raise GrantsTooMuchError("networks", f"the networks {', '.join(map(str, giver.networks))}")


def _is_inside(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, own: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return one.version == own.version and one.subnet_of(own)  # type: ignore[arg-type]


def _require_expiry(asked: dt.datetime | None, own: float | None) -> None:
    if own is not None and (asked is None or asked.timestamp() > own):
        until = dt.datetime.fromtimestamp(own, dt.UTC).isoformat(timespec="seconds")
        raise GrantsTooMuchError("expiry", f"the time until {until}")


def _require_rate(asked: str | None, own: str | None) -> None:
    """A key without a rate of its own has the one of all keys: it may hand on that one, and what is tighter."""
    everybodys = current_settings().rate_limit_key
    if own is None and asked is None:
        return
    wanted, limits = (parse_many(one) if one else [] for one in (asked or everybodys, own or everybodys))
    if not (own is None or asked) or not all(any(_is_tighter(one, limit) for one in wanted) for limit in limits):
        raise GrantsTooMuchError("rate", f"a rate of {own or everybodys}")


def _is_tighter(one: RateLimitItem, limit: RateLimitItem) -> bool:
    """Tell whether who keeps to the one keeps to the limit: in as long, no more of its windows can be used up."""
    windows = math.ceil(limit.get_expiry() / one.get_expiry())
    return one.amount * windows <= limit.amount
