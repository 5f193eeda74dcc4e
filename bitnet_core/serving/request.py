"""Says which HTTP requests are answered. Pure: a request's head in, a route or a Refused out."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from bitnet_core.network.hosts import is_loopback

QUESTIONS = ("/v1/chat/completions", "/v1/completions")
_ROUTES = {"/health": "GET", "/v1/models": "GET"} | dict.fromkeys(QUESTIONS, "POST")
_VERSIONS = (b"1.0", b"1.1")
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:]*))(?::[0-9]*)?")


class Refused(Exception):
    """A request that is not answered: an HTTP status, and why in a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Head:
    """What a request asks for. `length` is that of its body in bytes."""

    method: str
    path: str
    length: int


@dataclass(frozen=True)
class Gate:
    """Who may ask: with a key, clients that send it; without one, programs on this machine.

    A page of another site can make a browser here send requests, and can give its own name the address 127.0.0.1 (DNS
    rebinding): so no page is answered, and on a loopback address `Host` must be this machine.
    """

    key: str
    is_local: bool
    """Whether it listens where only this machine reaches it."""

    def admit(self, request: h11.Request) -> Head:
        """What a request asks for. Refused if it is not answered."""
        if request.http_version not in _VERSIONS:
            raise Refused(505, "This is not an HTTP/1.1 request.")
        fields = _fields(request)
        host = _HOST.fullmatch(fields.get("host", "localhost"))
        if self.is_local and not (host and is_loopback((host["v6"] or host["name"]).lower())):
            raise Refused(403, "Host does not name this machine; use 127.0.0.1 or localhost.")
        if "origin" in fields:
            raise Refused(403, "Requests from web pages are refused; send them from a program.")
        method, path = request.method.decode(), request.target.decode().partition("?")[0]
        if path not in _ROUTES:
            raise Refused(404, f"Nothing is served there; use {', '.join(_ROUTES)}.")
        if method != _ROUTES[path]:
            raise Refused(405, f"{path} takes {_ROUTES[path]} alone.")
        if path != "/health" and self.key and not self._is_known(fields):
            raise Refused(
                401, "The key is missing or wrong; send it in the field Authorization, after the word Bearer."
            )
        if "transfer-encoding" in fields:
            raise Refused(411, "The request has no length; send Content-Length.")
        return Head(method, path, int(fields.get("content-length", "0")))

    def _is_known(self, fields: Mapping[str, str]) -> bool:
        kind, _, given = fields.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self.key.encode())


def _fields(request: h11.Request) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in request.headers:
        if name == b"authorization" and "authorization" in fields:
            raise Refused(400, "The request has two keys.")
        fields[name.decode()] = value.decode("latin-1")
    return fields
