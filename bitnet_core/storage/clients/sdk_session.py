"""The connections of an SDK that uses requests: one try a request, and bounded bodies. Knows no service.

What goes wrong below a service's own words is raised here, through the SDK: `Unreachable` or `Refused`.
"""

import os
import socket
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from bitnet_core.errors import BitnetError
from bitnet_core.network.proxy import proxy_of, status_of_proxy, through
from bitnet_core.network.trickle import bounded_pools
from bitnet_core.storage.clients.http import CONNECT_SECONDS, MOST_BYTES, SILENCE_SECONDS, Response, wait_of
from bitnet_core.storage.target import Refused, Unreachable
from bitnet_core.text import flat

NONSENSE = (
    requests.RequestException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
)
"""What an SDK may raise over a reply that is not of its service's API, or redirects to no address."""
_POOL = 16
_BUSY = {408, 425, 429}
_FINAL = {501, 505, 507, 508}


def sdk_session(title: str) -> requests.Session:
    """A session for the SDK of the service called `title`, with the environment's proxies and certificates."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # compressed bodies could unpack to any size
    session.auth = _as_it_is
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    session.mount("https://", _Once(title))
    session.mount("http://", _WithoutTls(title))
    return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the SDK's authorization, which requests would replace by an entry of `~/.netrc`."""
    return request


class _WithoutTls(HTTPAdapter):
    """For an address that no SDK asks by itself: the service, or what answers in its place, has redirected to it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise Refused(
            f"{self._title} redirects to another server without TLS; check that this network asks for no login."
        )


class _Once(HTTPAdapter):
    def __init__(self, title: str) -> None:
        super().__init__(pool_connections=_POOL, pool_maxsize=_POOL, max_retries=0)
        self._title = title

    def init_poolmanager(self, *given: Any, **options: Any) -> None:
        super().init_poolmanager(*given, **options)
        self.poolmanager.pool_classes_by_scheme = bounded_pools(self.poolmanager.pool_classes_by_scheme)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        # urllib3 lets Nagle's algorithm delay each request to a proxy, by 40 ms.
        if proxy not in self.proxy_manager:
            manager = super().proxy_manager_for(
                proxy, socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)], **options
            )
            manager.pool_classes_by_scheme = bounded_pools(manager.pool_classes_by_scheme)
        return self.proxy_manager[proxy]

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        where = f"{self._title} at {urlsplit(str(request.url)).hostname}"
        options.update(stream=True, timeout=(CONNECT_SECONDS, SILENCE_SECONDS))
        try:
            response = super().send(request, **options)
            response._content = self._body_of(response, where)  # what `.content` and `.json()` read
        except BitnetError:
            raise
        except requests.Timeout as error:
            raise Unreachable(f"{where} does not respond{through(str(request.url))}.") from error
        except requests.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refused(
                    f"{where} has a certificate that is not trusted; name its authority in SSL_CERT_FILE."
                ) from error
            # The error's own text has the address, which may hold a signature.
            if proxy := proxy_of(str(request.url)):
                kind = Refused if (status_of_proxy(error) or 500) < 500 else Unreachable
                raise kind(f"{where} can't be reached{proxy.told(_reason(error), error)}.") from error
            raise Unreachable(f"{where} can't be reached ({_reason(error)}).") from error
        except OSError as error:
            raise Refused(
                f"The certificates for {where} can't be read; correct SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
            ) from error
        if has_cut_head(response):
            raise Unreachable(f"{where} can't be reached{through(str(request.url))} (the connection broke).")
        self._raise_if_busy(response)
        return response

    def _body_of(self, response: requests.Response, where: str) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > MOST_BYTES:
                response.close()
                raise Refused(f"{where} sent more than was asked for; it is not what it should be.")
        return bytes(body)

    def _raise_if_busy(self, response: requests.Response) -> None:
        status = response.status_code
        headers = {name.lower(): value for name, value in response.headers.items()}
        later = status == 202 and "retry-after" in headers
        if later or status in _BUSY or (status >= 500 and status not in _FINAL):
            words = Response(status, response.content, headers, "").words
            raise Unreachable(f"{self._title} is busy ({words}).", wait_of(headers))


def has_cut_head(response: requests.Response) -> bool:
    """Whether the connection ended within the headers: Python takes what came for all of them, and an empty body."""
    known = "content-length" in response.headers or "transfer-encoding" in response.headers
    return not known and response.request.method != "HEAD" and response.status_code not in (204, 304)


def _reason(error: BaseException) -> str:
    reason = ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = flat(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return reason or "the connection broke"
