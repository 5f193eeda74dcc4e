"""How a server is reached: through which proxy, and with which certificates.

Messages name the proxy, so that its faults are not told as the server's. Knows no HTTP client: those of httpx are
passed in.
"""

import os
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from bitnet_core.errors import BitnetError, explained
from bitnet_core.text import flat

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
"""Proxies from the environment are for other machines, not for a server on this one."""
_STATUS = re.compile(r"(?:^|connection failed: |proxy, got )'?(?:HTTP/\S+ )?([1-5]\d\d)\b")
"""Where httpx, requests, http.client and botocore tell how a proxy answered `CONNECT`."""
_SHOWN = 100
_Context = TypeVar("_Context")


class Proxy(NamedTuple):
    """A proxy, and where it is named. `str()` is the proxy in a sentence, without a user or a password."""

    host: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {self.host} of {self.variable}"

    def advice(self, status: int | None = None) -> str:
        """The fix for a request that failed on its way; `status`: what the proxy answered instead of connecting."""
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return f"write a user and a password that it takes into {self.variable} (USER:PASSWORD@{self.host})"
        if status is not None and status < 500:
            return "let the proxy's owner allow it, or name this host in NO_PROXY"
        return "check the address and that proxy, or name this host in NO_PROXY"

    def told(self, why: str, error: BaseException | None = None) -> str:
        """What failed on the way, and the fix: the end of a sentence that names the server."""
        status = status_of_proxy(error) if error else None
        return f" through {self} ({answer_of_proxy(status) if status else why}); {self.advice(status)}"


def answer_of_proxy(status: int) -> str:
    """The clause for a proxy that answered instead of connecting."""
    name = f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else ""
    return f"the proxy answers {status}{name}"


def proxy_of(address: str, *, knows_all: bool = True) -> Proxy | None:
    """The proxy that HTTP clients use for the address; None if they use none.

    `knows_all`: whether the client knows ALL_PROXY, as httpx and requests do; urllib and botocore don't.
    """
    from urllib.request import getproxies, proxy_bypass  # an eighth of a light command's imports

    try:
        parts = urlsplit(address)
        host, named = parts.hostname or "", getproxies()
        if host in LOOPBACK or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
            return None
        for scheme in (parts.scheme, "all")[: 1 + knows_all]:
            if value := named.get(scheme):
                return Proxy(_host_of(value), _variable(scheme))
    except ValueError:
        pass
    return None


def through(address: str) -> str:
    """` through the proxy HOST:PORT of HTTPS_PROXY`; empty if the address is asked without one."""
    proxy = proxy_of(address)
    return f" through {proxy}" if proxy else ""


def through_in_the_clear(address: str) -> str:
    """Like `through`, of an http address alone: there the proxy may answer in the server's place."""
    return through(address) if address[:5].lower() == "http:" else ""


def status_of_proxy(error: BaseException) -> int | None:
    """The status by which a proxy refused to connect, of the error that any HTTP client raises for it."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def unusable_proxy(error: Exception) -> BitnetError:
    """What is wrong when an HTTP client can't be made. The value is not shown: it may have a password."""
    why = "SOCKS is not supported" if isinstance(error, ImportError) else "it is not a proxy's address"
    return BitnetError(
        f"HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or NO_PROXY can't be used ({why}); set it to an address such as "
        "http://proxy:8080, or unset it."
    )


def trusted(create: Callable[[], _Context]) -> _Context:
    """The TLS context that `create` makes of SSL_CERT_FILE or SSL_CERT_DIR, else of the usual authorities."""
    try:
        return create()
    except OSError as error:
        why = explained(error, "correct the variable")
        raise BitnetError(f"The certificates of SSL_CERT_FILE or SSL_CERT_DIR can't be read {why}.") from error


def close_failed_tunnels(client: Any) -> None:
    """Let a client of httpx close a tunnel through a proxy in which TLS failed.

    httpcore keeps each as a busy connection, until no more may be opened and every request waits for ever.
    """
    for transport in client._mounts.values():
        pool = getattr(transport, "_pool", None)
        make = getattr(pool, "create_connection", None)
        if pool is not None and make is not None:
            pool.create_connection = lambda origin, make=make: _closing(make(origin))


def _closing(connection: Any) -> Any:
    connected = getattr(connection, "_connected", None)
    if connected is not False:  # no tunnel
        return connection
    if hasattr(connection, "handle_async_request"):
        handle_async = connection.handle_async_request

        async def handled_async(request: Any) -> Any:
            try:
                return await handle_async(request)
            except BaseException:
                if not connection._connected:
                    await connection.aclose()
                raise

        connection.handle_async_request = handled_async
    else:
        handle = connection.handle_request

        def handled(request: Any) -> Any:
            try:
                return handle(request)
            except BaseException:
                if not connection._connected:
                    connection.close()
                raise

        connection.handle_request = handled
    return connection


def _host_of(value: str) -> str:
    parts = urlsplit(value if "://" in value else f"http://{value}")
    return flat(parts.netloc.rpartition("@")[2])[:_SHOWN]


def _variable(scheme: str) -> str:
    """The variable that names the proxy; lower case counts first, as for curl."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's settings")
