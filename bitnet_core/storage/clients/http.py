"""One HTTP request for a target, with what can go wrong told as `Unreachable` or `Refused`. Knows no service.

The only module of this room that imports httpx. Each request is tried once, except that a 401 renews the
authorization, where that is possible, and tries once more.
"""

import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from bitnet_core.errors import UsageError
from bitnet_core.network.left_over import end_with_left_over
from bitnet_core.network.proxy import (
    LOOPBACK,
    Proxy,
    close_failed_tunnels,
    proxy_of,
    status_of_proxy,
    through_in_the_clear,
    trusted,
    unusable_proxy,
)
from bitnet_core.network.trickle import Patience, bound_trickle
from bitnet_core.storage.target import MIB, OBJECT_BYTES, Nonsense, Refused, Unreachable, nonsense
from bitnet_core.text import flat

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""How long to wait for a server that has stopped sending or receiving."""
MOST_BYTES = OBJECT_BYTES + MIB
"""Of a response: the largest object, and something around it."""
MOST_LISTED_BYTES = 8 * MIB
"""Of a page of a listing, and of whatever else is no object."""
_MOST_REDIRECT_BYTES = 1 << 16
"""Of the body of a redirect. After a longer one the connection is not used again."""
_BUSY = {408, 409, 423, 425, 429}
_FINAL = {501, 505, 507, 508}
_LONGEST_WORDS = 300
_ERROR_NUMBER = re.compile(r"^\[Errno -?\d+\] ")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a server that answers without TLS; its versions differ."""
_TAG = re.compile(r"<[^<>]*>")
_HEAD = re.compile(r"<head\b.*?</head>", re.IGNORECASE)
"""Of a page: its title is most often said again in the text."""

Authorize = Callable[[bool], Mapping[str, str]]
"""Gives the headers that carry the key; True = they were refused, so renew them. Empty if they can't be renewed."""


@dataclass(frozen=True)
class Response:
    """A complete response; the names of its headers are lower case."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    url: str
    """Where it came from at last, after redirects."""
    title: str = "The server"
    setting: str = ""
    """What gives the server's address; empty if nothing does."""

    def nonsense(self, expected: str) -> Nonsense:
        """The error for a response that is something else than `expected`, whatever its status says."""
        return nonsense(f"{self.title} at {_host(self.url)}", expected, self.setting)

    def json(self, expected: str, most_bytes: int = MOST_LISTED_BYTES) -> Any:
        """The body as JSON. Refused if it is none, as when a proxy answers in the server's place.

        Refused too if it is larger than a page of a listing: decoded, it may take thirty times its size. Unreachable
        if its end was lost.
        """
        if len(self.body) > most_bytes:
            raise Refused(
                f"{_host(self.url)} sent {len(self.body) >> 20} MiB where it lists; check that its address is right."
            )
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            has_end = "content-length" in self.headers or "transfer-encoding" in self.headers
            if not has_end and self.body.lstrip()[:1] in (b"{", b"["):
                raise Unreachable(f"{self.title} at {_host(self.url)} sent a part of a reply.") from None
            raise self.nonsense(expected) from None

    def object(self, expected: str, most_bytes: int = MOST_LISTED_BYTES) -> dict[str, Any]:
        """The body as a JSON object. Refused and Unreachable as by `json`."""
        found = self.json(expected, most_bytes)
        if not isinstance(found, dict):
            raise self.nonsense(expected)
        return found

    @property
    def words(self) -> str:
        """What the server says, cut to a clause: its body as plain text without tags, or its status."""
        page = flat(self.body[:4000].decode(errors="replace"))
        said = _plain(_HEAD.sub(" ", page)) or _plain(page)
        status = f"HTTP {self.status}{through_in_the_clear(self.url)}"
        return f"{status}: {said[:_LONGEST_WORDS]}" if said else status


class Http:
    """A client for one service; `title` is its name in messages, `setting` what gives its address, if anything does.

    Safe to use from threads.
    With `socket`, a server on this machine is reached at that path, whatever host an address names.
    """

    def __init__(
        self,
        title: str,
        authorize: Authorize | None = None,
        *,
        setting: str = "",
        socket: Path | None = None,
    ) -> None:
        self._title = title
        self._setting = setting
        self._authorize = authorize
        self._socket = socket
        self._renewing = threading.Lock()
        self._clients: dict[tuple[bool, bool], httpx.Client] = {}

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        authorized: bool = True,
        busy: bool = True,
        most_bytes: int = MOST_BYTES,
        silence_seconds: float = SILENCE_SECONDS,
        patience: Patience | None = None,
    ) -> Response:
        """Send a request and return the response, whatever its status says.

        Unreachable without a complete response and, with `busy`, for a status that asks for patience (409, 423, 429,
        5xx …). Refused for an untrusted certificate and a 401 that renewing does not mend. Redirects are followed,
        without the authorization where they lead to another host; Refused for one that makes a GET of another method.
        With `patience` it says how long to wait for the response, instead of `silence_seconds`.
        """
        read = cast(float, patience or silence_seconds)  # what httpx passes on as it is
        timeout = httpx.Timeout(silence_seconds, read=read, connect=CONNECT_SECONDS, pool=None)
        given = self._authorize(False) if authorized and self._authorize else {}
        response = self._send(method, url, content, headers or {}, given, form, most_bytes, timeout)
        if response.status == 401 and authorized and self._authorize:
            with self._renewing:
                newer = self._authorize(False)
                renewed = newer if newer != given else self._authorize(True)
            if renewed:
                response = self._send(method, url, content, headers or {}, renewed, form, most_bytes, timeout)
        if busy:
            self.require_ready(response)
        return response

    def require_ready(self, response: Response) -> None:
        """Unreachable for a status that asks for patience."""
        if response.status in _BUSY or (response.status >= 500 and response.status not in _FINAL):
            raise Unreachable(f"{self._title} is busy ({response.words}).", wait_of(response.headers))

    def refused(self, what: str, response: Response, fix: str) -> Refused:
        """The error for a response that says no: `what` failed, the server's words, and the fix."""
        return Refused(f"{self._title}: {what} failed ({response.words}); {fix}.")

    def _send(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        authorized: Mapping[str, str],
        form: Mapping[str, str] | None,
        most_bytes: int,
        timeout: httpx.Timeout,
    ) -> Response:
        headers = {**headers, **authorized}
        extensions = {"keys": (tuple(authorized), url)}
        with (
            self._failures_explained(url),
            self._client(url).stream(
                method, url, content=content, headers=headers, data=form, extensions=extensions, timeout=timeout
            ) as response,
        ):
            body = bytearray()
            raw = cast(httpx.SyncByteStream, response.stream)  # `iter_raw` would close the response at its end
            for chunk in raw:
                body += chunk
                if len(body) > most_bytes:
                    raise Refused(
                        f"{self._title} sent more than was asked for; {_host(url)} is not what it should be."
                    )
            end_with_left_over(raw)
            if response.request.method != method:
                raise Refused(
                    f"{self._title} at {_host(url)} redirects to {flat(str(response.url))[:_LONGEST_WORDS]}, where "
                    f"nothing is stored or deleted (a {method} became a {response.request.method}); correct its "
                    "address, or sign in to this network."
                )
            proxy = self._proxy(str(response.url))
            if response.status_code == 407 and proxy is not None:
                raise httpx.ProxyError("407")
            found = {name.lower(): value for name, value in response.headers.items()}
            length = found.get("content-length", "")
            if method != "HEAD" and length.isdecimal() and int(length) != len(body):
                raise Unreachable(f"{self._title} sent {len(body)} of {length} bytes.")
            return Response(response.status_code, bytes(body), found, str(response.url), self._title, self._setting)

    def _client(self, url: str) -> httpx.Client:
        outside = _host(url) not in LOOPBACK and self._socket is None
        plain = not outside and url.startswith("http:")
        if (outside, plain) not in self._clients:
            try:
                self._clients[outside, plain] = httpx.Client(
                    event_hooks={"request": [_drop_keys_elsewhere], "response": [_skip_redirects_body]},
                    # Compressed bodies could unpack to any size.
                    headers={"Accept-Encoding": "identity"},
                    transport=httpx.HTTPTransport(uds=str(self._socket)) if self._socket else None,
                    trust_env=outside,
                    follow_redirects=True,
                    # Loading every authority takes 20 ms, which many short clients for this machine would pay.
                    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else trusted(httpx.create_ssl_context),
                )
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                raise unusable_proxy(error) from error
            close_failed_tunnels(self._clients[outside, plain])
            bound_trickle(self._clients[outside, plain])
        return self._clients[outside, plain]

    def _proxy(self, url: str) -> Proxy | None:
        return None if self._socket else proxy_of(url)

    @contextlib.contextmanager
    def _failures_explained(self, url: str) -> Iterator[None]:
        where = self._title if self._socket else f"{self._title} at {_host(url)}"
        try:
            yield
        except httpx.TimeoutException as error:
            proxy = self._proxy(url)
            way = f" through {proxy}" if proxy else ""
            raise Unreachable(f"{where} does not respond{way}.") from error
        except httpx.TransportError as error:
            if why := _certificate_fault(error):
                raise Refused(
                    f"{where} has a certificate that is not trusted ({why}); check the address, or name its "
                    "authority in SSL_CERT_FILE."
                ) from error
            why = _ERROR_NUMBER.sub("", flat(str(error))) or "the connection broke"
            fix = ""
            if proxy := self._proxy(url):
                kind = Refused if (status_of_proxy(error) or 500) < 500 else Unreachable
                raise kind(f"{where} can't be reached{proxy.told(why, error)}.") from error
            if isinstance(error, httpx.ConnectError) and self._socket is None:
                where, fix = f"{self._title} at {_server(url)}", "; check its address, and that its server runs"
                if any(words in why for words in _NO_TLS):
                    fix = "; it may speak http, so check the beginning of its address"
            raise Unreachable(f"{where} can't be reached ({why}){fix}.") from error
        except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.DecodingError, UnicodeError) as error:
            raise Refused(f"{where} can't be used ({flat(str(error))}); correct its address.") from error


def require_address(setting: str, address: str) -> None:
    """UsageError if the address that this setting gives is none."""
    try:
        _host(address)
    except Refused:
        raise UsageError(f"{setting} is not an http(s) address; write it as https://HOST/PATH.") from None


def _server(url: str) -> str:
    """The host and the port of an address, without a name or a password."""
    parts = httpx.URL(url)
    return f"{_host(url)}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"


def _drop_keys_elsewhere(request: httpx.Request) -> None:
    """On a redirect to another host httpx itself drops `Authorization` only."""
    names, home = request.extensions["keys"]
    url = httpx.URL(home)
    at_home = request.url.host == url.host and (request.url.scheme, request.url.port) in {
        (url.scheme, url.port),
        ("https", None),
    }
    if not at_home:
        for name in names:
            request.headers.pop(name, None)


def _skip_redirects_body(response: httpx.Response) -> None:
    """httpx would read it whole, whatever its size, before it goes on."""
    if not response.has_redirect_location:
        return
    given = response.iter_bytes

    def skipped(chunk_size: int | None = None) -> Iterator[bytes]:
        length = 0
        for chunk in given(chunk_size):
            length += len(chunk)
            if length > _MOST_REDIRECT_BYTES:
                response.close()
                return
        yield b""

    response.iter_bytes = skipped  # type: ignore[method-assign]


def _plain(page: str) -> str:
    return " ".join(_TAG.sub(" ", page).split())


def wait_of(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for, given as seconds or as a date; None if it does not ask.

    A date is told by the server's clock, which is in its `Date`: this machine's may be an hour off.
    """
    given = headers.get("retry-after", "").strip()
    if given.isdecimal() and len(given) < 10:
        return float(given)
    until, now = _unix_time(given), _unix_time(headers.get("date", ""))
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _unix_time(date: str) -> float | None:
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return parsedate_to_datetime(date).timestamp()
    return None


def _certificate_fault(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return str(cause.verify_message) if cause is not None else ""


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname
    except ValueError:
        pass
    raise Refused(f"{flat(url)[:200] or 'An empty address'} is not an http(s) address; correct it.")
