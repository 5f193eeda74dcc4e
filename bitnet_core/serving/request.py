"""Reads the head of an HTTP request, and says which are answered. Pure: bytes in, a request or a Refused out."""

import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

QUESTIONS = ("/v1/chat/completions", "/v1/completions")
_ROUTES = {"/health": "GET", "/v1/models": "GET"} | dict.fromkeys(QUESTIONS, "POST")
_START = re.compile(r"(?P<method>[A-Z]{1,16}) (?P<target>\S+) HTTP/1\.[01]")
_FIELD = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>.*?)[ \t]*")
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:]*))(?::[0-9]*)?")
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)
_ONCE = ("host", "content-length", "authorization")


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
    is_awaited: bool
    """Whether the client sends its body only after it is told to."""


@dataclass(frozen=True)
class Gate:
    """Who is answered: with a key, who sends it; without one, programs on this machine.

    A page of another site can make a browser here send requests, and can give its own name the address 127.0.0.1 (DNS
    rebinding): so no page is answered, and on a loopback address `Host` must be this machine.
    """

    key: str
    is_local: bool
    """Whether it listens where only this machine reaches it."""

    def admit(self, head: bytes) -> Head:
        """The request of a head, which ends with an empty line. Refused if it is not answered."""
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        asked = _START.fullmatch(start)
        if not asked:
            raise Refused(400, "This is not a request of HTTP/1.1.")
        fields = _fields(lines)
        host = _HOST.fullmatch(fields.get("host", "localhost"))
        if self.is_local and not (host and is_loopback((host["v6"] or host["name"]).lower())):
            raise Refused(403, "Host does not name this machine; ask 127.0.0.1 or localhost.")
        if "origin" in fields:
            raise Refused(403, "Pages in a browser are not answered; ask from a program.")
        method, path = asked["method"], asked["target"].partition("?")[0]
        if path not in _ROUTES:
            raise Refused(404, f"Nothing is served there; ask {', '.join(_ROUTES)}.")
        if method != _ROUTES[path]:
            raise Refused(405, f"{path} takes {_ROUTES[path]} alone.")
        if path != "/health" and self.key and not self._is_known(fields):
            raise Refused(401, "The key is missing or wrong; send it as 'Authorization: Bearer KEY'.")
        return Head(method, path, _length(fields), fields.get("expect", "").lower() == "100-continue")

    def _is_known(self, fields: Mapping[str, str]) -> bool:
        kind, _, given = fields.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self.key.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at a host, which is an address or a name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if not field:
            raise Refused(400, "A field of the request's head is malformed.")
        name = field["name"].lower()
        if name in _ONCE and name in fields:
            raise Refused(400, f"The request has two fields {name}.")
        fields[name] = field["value"]
    return fields


def _length(fields: Mapping[str, str]) -> int:
    if "transfer-encoding" in fields:
        raise Refused(411, "The request does not tell its length; send Content-Length.")
    given = fields.get("content-length", "0")
    if not _COUNT.fullmatch(given):
        raise Refused(400, "Content-Length is no number of bytes.")
    return int(given)
