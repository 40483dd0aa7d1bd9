"""An authenticator in software: makes passkeys and signs with them as WebAuthn says, or wrongly, when it is told to."""

from __future__ import annotations

import base64
import json
import secrets
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


class Authenticator:
    """One device with one passkey at most."""

    def __init__(self, *, flags: int = PRESENT | VERIFIED) -> None:
        self.flags = flags
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = secrets.token_bytes(32)
        self.handle = b""
        self.count = 0

    def create(self, options: dict[str, Any], *, origin: str = "http://localhost") -> str:
        """Answer what `navigator.credentials.create` was asked."""
        self.handle = decode(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        public_key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + len(self.credential_id).to_bytes(2) + self.credential_id + cbor2.dumps(public_key)
        data = self._data(options["rp"]["id"], self.flags | ATTESTED) + attested
        return self._answer(
            clientDataJSON=client_data("webauthn.create", options["challenge"], origin),
            attestationObject=cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data}),
        )

    def get(self, options: dict[str, Any], *, origin: str = "http://localhost", **changes: Any) -> str:
        """Answer what `navigator.credentials.get` was asked; `changes` replace what it would say of itself."""
        self.count += 1
        data = self._data(changes.get("rp_id", options["rpId"]), changes.get("flags", self.flags))
        client = client_data("webauthn.get", options["challenge"], origin)
        signature = changes.get("key", self.key).sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(
            clientDataJSON=client,
            authenticatorData=data,
            signature=signature,
            userHandle=changes.get("handle", self.handle),
        )

    def _data(self, rp_id: str, flags: int) -> bytes:
        return sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4)

    def _answer(self, **response: bytes) -> str:
        known = encode(self.credential_id)
        return json.dumps(
            {
                "id": known,
                "rawId": known,
                "type": "public-key",
                "response": {name: encode(value) for name, value in response.items()},
                "clientExtensionResults": {},
            }
        )


def client_data(kind: str, challenge: str, origin: str) -> bytes:
    return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
