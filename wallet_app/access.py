"""The guard in front of every route: it carries a credential in, and requires the scope that the route declares.

Who it is and what they may do is decided in the service. A route that declares nothing keeps the service from starting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flask import Flask, Request, current_app, g, request
from sqlalchemy import Engine

from wallet_app import service
from wallet_app.config import ConfigurationError, Settings
from wallet_app.errors import ForbiddenError, UnauthenticatedError
from wallet_app.service import ANONYMOUS, SCOPES, Actor, Gate

PUBLIC = "public"
"""For everybody, also without a credential."""

GUARDS_ITSELF = "guards itself"
"""For routes that know who asks in another way, like a console's sessions; they `count` their requests themselves."""

EACH_ITEM = "each item's own"
"""For every key: each item of the request is asked for its own scope, as if it came alone."""

EACH_LEG = "each leg's own"
"""For every key that has the scopes of all the parts of what it asks for; what it lacks is told when that is read."""

ASKED_LATER = frozenset({EACH_ITEM, EACH_LEG})
_OPEN = frozenset({PUBLIC, GUARDS_ITSELF})
_WORDS = _OPEN | ASKED_LATER

STALE_ENOUGH = frozenset({"metrics:read"})
"""Scopes of what must answer when the database does not: keys that were read at any time are believed there."""

Limit = Callable[[Request, Actor], None]
"""Counts a request of the one who asks; raises TooManyRequests."""

_declared: dict[str, str] = {}


def declare(endpoint: str, scope: str) -> None:
    """Say which scope a route needs, or PUBLIC, EACH_ITEM, EACH_LEG or GUARDS_ITSELF.

    `endpoint` is Flask's name of the route. Raises ValueError for a scope that does not exist.
    """
    if scope not in _WORDS and scope not in SCOPES:
        raise ValueError(f"{endpoint} needs a scope that does not exist: {scope}")
    _declared[endpoint] = scope


def declared() -> dict[str, str]:
    """Return what each route declared, by its endpoint."""
    return dict(_declared)


declare("static", PUBLIC)


def require_declarations(app: Flask) -> None:
    """Raise RuntimeError for a route that nobody declared."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in _declared:
            raise RuntimeError(f"{rule.rule} ({rule.endpoint}) does not declare who may use it")


def make_gate(app: Flask, engine: Engine, settings: Settings) -> None:
    """Give the application what tells who asks. Raises ConfigurationError for a bootstrap key that is none."""
    vault = service.Vault(settings.environment, settings.key_peppers)
    if settings.bootstrap_key is not None:
        try:
            vault.read_id(settings.bootstrap_key)
        except ValueError as problem:
            raise ConfigurationError(f"WALLET_BOOTSTRAP_API_KEY {problem}.") from None
    signer = service.Signer(settings.environment, settings.token_keys)
    app.extensions["wallet_gate"] = Gate(engine, vault, signer, settings.bootstrap_key)


def gate_of(app: Flask) -> Gate:
    """Return what tells who asks."""
    gate: Gate = app.extensions["wallet_gate"]
    return gate


def init_app(app: Flask) -> None:
    """Guard every route, the rate limit included: who is refused is counted too."""
    app.before_request(partial(_guard, gate_of(app), app.extensions["wallet_limit"]))


def count(caller: Actor) -> None:
    """Count this request for who asks; for a route that guards itself. Raises TooManyRequests."""
    limit: Limit = current_app.extensions["wallet_limit"]
    limit(request, caller)


def _guard(gate: Gate, limit: Limit) -> None:
    # Past Flask's proxies, which would look the request up anew for each of its attributes.
    context, asked = g._get_current_object(), request._get_current_object()  # type: ignore[attr-defined]
    context.caller = ANONYMOUS
    environ, rule = asked.environ, asked.url_rule
    # A path that does not exist has no rule; routing answers it, and a preflight, after this.
    scope = PUBLIC if rule is None else _declared[rule.endpoint]
    if scope in _OPEN or environ["REQUEST_METHOD"] == "OPTIONS":
        if scope != GUARDS_ITSELF:
            limit(asked, ANONYMOUS)
        return
    try:
        credential = _credential(environ.get("HTTP_AUTHORIZATION"))
        caller = gate.authenticate(credential, is_stale_enough=scope in STALE_ENOUGH)
    except UnauthenticatedError:
        limit(asked, ANONYMOUS)
        raise
    context.caller, context.actor = caller, caller.id
    limit(asked, caller)
    if caller.networks is not None:
        caller.require_address(asked.remote_addr or "")
    if scope not in ASKED_LATER:
        caller.permit.require(scope)


def _credential(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, credential = header.partition(" ")
    if scheme != "Bearer" and scheme.lower() != "bearer":
        raise UnauthenticatedError("The Authorization header must begin with Bearer.", challenge="invalid_request")
    return credential.strip()


def challenge(error: UnauthenticatedError | ForbiddenError) -> dict[str, str]:
    """Return the header that says what is missing, as RFC 6750 has it."""
    if isinstance(error, UnauthenticatedError):
        word = f', error="{error.challenge}"' if error.challenge else ""
    else:
        scope = error.details.get("scope")
        word = ', error="insufficient_scope"' + (f', scope="{scope}"' if scope else "")
    return {"WWW-Authenticate": f'Bearer realm="dino-wallet"{word}'}


def note_denial(error: ForbiddenError) -> None:
    """Have it recorded that a key was denied something; the same at most once a minute."""
    caller: Actor = g.get("caller", ANONYMOUS)
    # Users are many, and not ours to watch: their denials stand in the log of requests.
    if caller.kind == "key":
        gate = gate_of(current_app)
        gate.note_denial(caller, error, request_id=g.request_id, address=request.remote_addr or "unknown")
