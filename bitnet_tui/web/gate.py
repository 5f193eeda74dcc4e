"""Who may see the app in the browser. Pure: headers and tokens in, a yes or no out.

The token is in the address that is printed. It works once, and gives the browser a cookie that lives as long as the
server. A page of another site can make the browser send requests to this machine, and can give its own name the
address 127.0.0.1 (DNS rebinding): so `Host` must be this server's, and `Origin`, where one is sent, too.
"""

import secrets
from dataclasses import dataclass, field

COOKIE = "bitnet_session"


@dataclass
class Gate:
    """`path` is where the page is. It is drawn too: cookies count for all ports of a host, but only below a path."""

    port: int
    path: str = field(default_factory=lambda: f"/{secrets.token_urlsafe(9)}/")
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _used: bool = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}?token={self.token}"

    def is_own_host(self, host: str | None) -> bool:
        return host in self._hosts

    def is_own_origin(self, origin: str | None) -> bool:
        return origin in {f"http://{host}" for host in self._hosts}

    @property
    def _hosts(self) -> tuple[str, ...]:
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    def redeem(self, token: str | None) -> bool:
        """Whether it is the token; from then on nothing is."""
        if self._used or not _same(token, self.token):
            return False
        self._used = True
        return True

    def knows(self, cookie: str | None) -> bool:
        return _same(cookie, self.session)


def _same(given: str | None, wanted: str) -> bool:
    """Compared in a time that tells nothing."""
    return given is not None and secrets.compare_digest(given.encode(errors="replace"), wanted.encode())
