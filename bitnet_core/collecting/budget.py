"""Limits on what collecting may spend. The worst case is set aside before a request is sent, so none is ever passed.

A server counts more than what it is sent: its chat template, and often a preface of its own. What it counted beyond
the worst case is added to every later one (`beyond`, which who uses this keeps for later runs), so the first request,
the probe's, sent alone, teaches it. What is assumed is that the very first request fits into the limit, and that no
later one exceeds its own worst case by more than the largest before it did.

Knows no HTTP and no files: who uses it keeps the charges where a kill can't lose them (the journal does).
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bitnet_core.collecting.journal import Charge, Spent
from bitnet_core.errors import BitnetError
from bitnet_core.teachers.prices import Price

_TOKENS_A_MESSAGE = 32
"""More than any chat template puts around a message."""
_TOKENS_A_REQUEST = 128
"""Twice what the longest known preface of a server takes (gpt-oss: some 65 tokens before a prompt of one)."""


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    tokens: int | None = None
    requests: int | None = None
    usd: float | None = None

    def __bool__(self) -> bool:
        return not (self.tokens is None and self.requests is None and self.usd is None)


class LimitReached(BitnetError):
    """The next request might pass a limit; `name` is the setting. What is there stays."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Budget:
    """Safe for several threads. Amounts set aside count as spent until they are settled."""

    def __init__(self, limits: Limits, price: Price | None, spent: Spent, beyond: tuple[int, int] = (0, 0)) -> None:
        if limits.usd is not None and price is None:
            raise BitnetError(
                "KD_MAX_USD is set, but the price file has no price for this model; add it to a file named in "
                "KD_PRICES_FILE, or set KD_MAX_TOKENS_TOTAL instead."
            )
        self._limits = limits
        self._price = price
        self._lock = threading.Lock()
        self.priced = price is not None
        self.requests = spent.requests
        self.tokens = spent.tokens
        self.usd = spent.usd
        self.beyond = beyond
        """The most tokens, of prompt and completion, that the server counted beyond a worst case."""

    def worst(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Charge:
        """More than this a request can't cost, as far as is known: a token is at least a byte."""
        prompt = sum(len(message["content"].encode()) + _TOKENS_A_MESSAGE for message in messages)
        more_prompt, more_completion = beyond = self.beyond
        charge = self._charge(prompt + _TOKENS_A_REQUEST + more_prompt, max_tokens + more_completion)
        return replace(charge, beyond=beyond)

    def actual(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        return self._charge(prompt_tokens, completion_tokens)

    def set_aside(self, worst: Charge) -> None:
        """Raises LimitReached, and sets nothing aside, where the worst case would pass a limit."""
        with self._lock:
            self._within("KD_MAX_REQUESTS", self._limits.requests, self.requests, 1, "requests")
            self._within("KD_MAX_TOKENS_TOTAL", self._limits.tokens, self.tokens, worst.tokens, "tokens")
            self._within("KD_MAX_USD", self._limits.usd, self.usd, worst.usd, "US dollars")
            self.requests += 1
            self.tokens += worst.tokens
            self.usd += worst.usd

    def take_back(self, worst: Charge) -> None:
        """Of a request that was not sent after all."""
        with self._lock:
            self.requests -= 1
            self.tokens -= worst.tokens
            self.usd -= worst.usd

    def settle(self, worst: Charge, actual: Charge) -> None:
        """Replace what was set aside by what it was; where that is more, later ones set as much more aside."""
        with self._lock:
            self.beyond = (
                max(self.beyond[0], worst.beyond[0] + actual.prompt_tokens - worst.prompt_tokens),
                max(self.beyond[1], worst.beyond[1] + actual.completion_tokens - worst.completion_tokens),
            )
            self.tokens += actual.tokens - worst.tokens
            self.usd += actual.usd - worst.usd

    def _charge(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        usd = self._price.usd(prompt_tokens, completion_tokens) if self._price else 0.0
        return Charge(prompt_tokens, completion_tokens, usd)

    def _within(self, name: str, limit: float | None, spent: float, more: float, unit: str) -> None:
        if limit is not None and spent + more > limit:
            raise LimitReached(
                name,
                f"{name}={limit:g} leaves no room for another request: {spent:.6g} {unit} are spent or set "
                f"aside, and one more may take {more:.4g}; raise it to collect more.",
            )
