"""Google's server for tokens: it gives one for a JWT that a known service account signed, and refuses others."""

import json
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tests.storage.fakes.loopback import Loopback

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"


@cache
def _pair(number: int) -> tuple[str, str]:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def service_account(token_url: str, number: int = 1) -> dict[str, str]:
    """A service account's key, as Google's console gives it."""
    return {
        "type": "service_account",
        "project_id": "example",
        "private_key_id": f"{number:040x}",
        "private_key": _pair(number)[0],
        "client_email": "bitnet@example.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
        "universe_domain": "googleapis.com",
    }


class TokenServer(Loopback):
    """`known` is the key that it accepts, until `revoked`."""

    def __init__(self) -> None:
        super().__init__()
        self.known = service_account(self.url, 0)
        self.revoked = False
        self.given = 0

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        form = parse_qs(body.decode())
        if form.get("grant_type") != [_GRANT]:
            return _json(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"})
        try:
            claims = jwt.decode(form["assertion"][0], certs=_pair(0)[1], audience=_AUDIENCE)
        except ValueError:
            claims = {}
        if self.revoked or "devstorage.read_write" not in str(claims.get("scope")):
            return _json(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        self.given += 1
        return _json(200, {"access_token": f"ya29.{self.given}", "expires_in": 3599, "token_type": "Bearer"})


def _json(status: int, value: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()
