"""How an attempt to get an answer fails, and whether another one follows. Knows no HTTP client and no provider."""

import ssl
import time
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from bitnet_core.errors import BitnetError
from bitnet_core.network.proxy import Proxy, answer_of_proxy, status_of_proxy
from bitnet_core.teachers.http.reply import Reply, requested_wait

ATTEMPTS = 6
MAX_TIMEOUTS = 3
"""Fewer than ATTEMPTS, because an answer that came too late may still have been generated and billed."""
MAX_UNREADABLE = 2
"""Of replies that look like an answer and can't be read: each was probably billed."""
MAX_RATE_LIMITED = 60
"""Rate-limited attempts don't count as failed, but their number is limited, too."""
MAX_RATE_LIMITED_SECONDS = 900.0
"""How long one request may be rate limited, not counting the waits that the server asked for."""

OnRetry = Callable[["FailedAttempt"], None]
"""Called before an attempt is made again."""


class Failure(Enum):
    """How far a request came that brought no answer."""

    UNSENT = "unsent"
    """There was no connection, so the server never saw it."""
    REFUSED = "refused"
    """The server rejected it without doing any work."""
    BROKEN = "broken"
    """An answer may have been generated, and be billed."""


class Watch(Protocol):
    """Follows the attempts of one request, to account for their cost."""

    async def sent(self) -> None:
        """Called before each attempt; whatever it raises prevents the attempt."""

    async def failed(self, how: Failure) -> None:
        """Called after each attempt that brought no answer."""


class Unreachable(BitnetError):
    """The address gave no answer at all."""


class StreamCut(Exception):
    """A stream of events broke off after its first event."""


class FailedAttempt(Exception):
    """An attempt that failed in a way worth a retry. `wait` is the number of seconds that the server asked for."""

    outcome = "can't be reached"
    fix = "check the address, the network and that a model server is running there"
    final = False
    """Whether another attempt would fail in the same way."""
    advice = ""
    """What to do while it is made again. A limit or a busy server passes by itself."""

    def __init__(self, reason: str, reply: Reply | None = None, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply
        self.wait = wait

    def told(self, proxy: Proxy | None) -> str:
        """What became of the request, why, and the fix: the end of a sentence. `proxy`: the one that is between."""
        through = f" through {proxy}" if proxy else ""
        return f"{self.outcome}{through} ({self.reason}); {self.fix_behind(proxy) if proxy else self.fix}"

    def fix_behind(self, proxy: Proxy) -> str:
        """The fix where a proxy is between."""
        return proxy.advice()

    @classmethod
    def of(cls, reply: Reply) -> "FailedAttempt":
        """The failure of an attempt that brought a reply worth a retry."""
        reason = f"HTTP {reply.code}" if reply.code != 200 else f"{reply.body_kind} instead of JSON"
        return cls("rate limited" if reply.code == 429 else reason, reply, requested_wait(reply))

    @property
    def rate_limited(self) -> bool:
        return self.reply is not None and self.reply.code == 429

    @property
    def how(self) -> Failure:
        return Failure.REFUSED if self.reply is not None and self.reply.refused else Failure.BROKEN


class NoConnection(FailedAttempt):
    """The server could not be connected to."""

    how = Failure.UNSENT
    advice = "Check that its server is running and that its address is right."


class BadCertificate(NoConnection):
    """The server's certificate is not to be trusted."""

    fix = (
        "correct the address or the certificate, or name a file with the certificate of the authority that signed it "
        "in SSL_CERT_FILE"
    )
    final = True

    def fix_behind(self, proxy: Proxy) -> str:
        del proxy  # it may well be the one that ends TLS, and then its authority is the fix
        return self.fix


class RefusedByProxy(NoConnection):
    """A proxy answered instead of connecting, with this status. Only an error of its own may pass."""

    advice = ""

    def __init__(self, status: int) -> None:
        super().__init__(answer_of_proxy(status))
        self.status = status
        self.final = status < 500

    def fix_behind(self, proxy: Proxy) -> str:
        return proxy.advice(self.status)


def no_connection(error: Exception) -> NoConnection:
    """The failure of an attempt to connect, told by what caused it."""
    if status := status_of_proxy(error):
        return RefusedByProxy(status)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BadCertificate(f"its certificate is not trusted: {cause.verify_message}")
    if cause is not None:
        return NoConnection(f"no TLS connection: {(cause.reason or 'unknown').replace('_', ' ').lower()}")
    return NoConnection("connection refused" if "refused" in str(error).lower() else "no connection")


class Unreadable(FailedAttempt):
    """Something answered, but nothing that can be read."""

    outcome = "gives no answer that can be read"
    fix = "check that the address is a model server's, and with http or https as it needs"


class NoAnswerInTime(FailedAttempt):
    """The time limit of an attempt ran out."""


class RetryPolicy:
    """Counts the failed attempts of one request and says whether another one follows."""

    def __init__(self, attempts: int) -> None:
        self._attempts_left = attempts
        self._timeouts_left = MAX_TIMEOUTS
        self._unreadable_left = MAX_UNREADABLE
        self._rate_limited_left = MAX_RATE_LIMITED
        self._rate_limited_until: float | None = None

    def allows_another(self, failure: FailedAttempt) -> bool:
        if failure.final:
            return False
        if failure.rate_limited:
            return self._may_wait_longer(failure.wait or 0.0)
        self._attempts_left -= 1
        self._timeouts_left -= isinstance(failure, NoAnswerInTime)
        self._unreadable_left -= failure.reply is not None and failure.reply.like_an_answer
        return min(self._attempts_left, self._timeouts_left, self._unreadable_left) > 0

    def _may_wait_longer(self, requested_wait: float) -> bool:
        now = time.monotonic()
        if self._rate_limited_until is None:
            self._rate_limited_until = now + MAX_RATE_LIMITED_SECONDS
        self._rate_limited_until += requested_wait
        self._rate_limited_left -= 1
        return self._rate_limited_left > 0 and now < self._rate_limited_until
