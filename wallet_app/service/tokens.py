"""User tokens as text: signed statements that their bearer speaks for one user, for a short while; pure.

A JWT (RFC 7519) under one algorithm, HMAC-SHA-256, because who makes it is who checks it: there is no public half that
somebody could take for a secret. What it says is not secret either, and holds nothing but ids.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jwt import JWTClaimsRegistry

TOKEN_SECONDS_MAX = 3600
"""How long a token may live."""

_ALGORITHM = "HS256"
_TYPE = "dino-user+jwt"
_ISSUER = "dino-wallet"
_SKEW_SECONDS = 5
"""By so much the clocks of two machines may differ."""

_LENGTH_MAX = 4_096
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserToken:
    """What a token says: for which user its bearer speaks, by leave of which API key, and when (seconds since 1970)."""

    user_id: int
    key_id: str
    scopes: frozenset[str]
    made_at: int
    expires_at: int

    @property
    def seconds(self) -> int:
        """How long it lives."""
        return self.expires_at - self.made_at


class MadeToken(NamedTuple):
    """A token that was just made: its text, which is kept nowhere, and what it says."""

    text: str
    token: UserToken


class Signer:
    """Makes and reads the tokens of one environment."""

    def __init__(self, environment: str, keys: Mapping[str, bytes]) -> None:
        """`keys` are by their ids: the first one signs, all of them are believed."""
        self._audience = f"{_ISSUER}:{environment}"
        self._signing_key_id = next(iter(keys))
        self._keys = KeySet(
            [
                OctKey.import_key(secret, {"kid": key_id, "alg": _ALGORITHM, "use": "sig"})
                for key_id, secret in keys.items()
            ]
        )

    def sign(self, token: UserToken) -> str:
        """Return the token as text."""
        return jwt.encode(
            {"alg": _ALGORITHM, "typ": _TYPE, "kid": self._signing_key_id},
            {
                "iss": _ISSUER,
                "aud": self._audience,
                "sub": str(token.user_id),
                "iat": token.made_at,
                "nbf": token.made_at,
                "exp": token.expires_at,
                "jti": secrets.token_hex(16),
                "key": token.key_id,
                "scope": " ".join(sorted(token.scopes)),
            },
            self._keys,
            algorithms=[_ALGORITHM],
        )

    def read(self, text: str) -> UserToken:
        """Return what the token says; ValueError, which repeats nothing of it, for one that is not, or no more, good.

        It may have ended by up to five seconds: clocks differ, and `expires_at` is the caller's to look at.
        """
        if len(text) > _LENGTH_MAX or not _FORM.fullmatch(text):
            raise ValueError("is not a user token")
        try:
            token = jwt.decode(text, self._keys, algorithms=[_ALGORITHM])
            self._claims().validate(token.claims)
        except (JoseError, TypeError, ValueError) as problem:  # TypeError: a header's `crit` that is no list.
            raise ValueError("is not a user token of ours, or it has ended") from problem
        # One key alone is found without its id, and a JWT of another kind may be signed by us too.
        if token.header.get("typ") != _TYPE or "kid" not in token.header:
            raise ValueError("is not a user token")
        claims = token.claims
        return UserToken(
            user_id=int(claims["sub"]),
            key_id=claims["key"],
            scopes=frozenset(claims["scope"].split()),
            made_at=claims["nbf"],
            expires_at=claims["exp"],
        )

    def _claims(self) -> JWTClaimsRegistry:
        return JWTClaimsRegistry(
            now=int(time.time()),
            leeway=_SKEW_SECONDS,
            iss={"essential": True, "value": _ISSUER},
            aud={"essential": True, "value": self._audience},
            sub={"essential": True},
            nbf={"essential": True},
            exp={"essential": True},
            key={"essential": True},
            scope={"essential": True},
        )
