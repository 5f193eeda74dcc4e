"""Limits on what collecting may spend: a request's worst case is reserved before it is sent, so no limit is passed.

A server counts more tokens than it is sent: its chat template, often a preface of its own. Whatever it has counted
beyond a worst case (`overrun`) is added to every later one, and kept by the caller for later runs. Two things are
assumed: the very first request, the probe's, which is sent alone, fits into the limit; and no later request exceeds
its worst case by more than the largest overrun before it. Absurd counts do not come here (`teachers/usage.py`).

Knows no HTTP and no files; the journal keeps the charges where a kill can't lose them.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitnet_core.collecting.journal import Charge, Spent
from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import LimitOptions
from bitnet_core.teachers.prices import Price
from bitnet_core.teachers.usage import most_prompt_tokens


class LimitReached(BitnetError):
    """The next request might pass a limit; `name` is its setting. What has been collected stays."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Budget:
    """What has been spent, against the limits. Reserved amounts count as spent. Safe for several threads."""

    def __init__(
        self, limits: LimitOptions, price: Price | None, spent: Spent, overrun: tuple[int, int] = (0, 0)
    ) -> None:
        """`spent` and `overrun` come from earlier runs. BitnetError if a limit in dollars has no price to go by."""
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
        self.overrun = overrun
        """The most prompt and completion tokens that the server has counted beyond a worst case."""

    def worst_case(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Charge:
        """The most that a request can cost, as far as is known."""
        prompt_overrun, completion_overrun = overrun = self.overrun
        charge = self.charge(most_prompt_tokens(messages) + prompt_overrun, max_tokens + completion_overrun)
        return replace(charge, overrun=overrun)

    def charge(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        """These tokens with their price."""
        usd = self._price.usd(prompt_tokens, completion_tokens) if self._price else 0.0
        return Charge(prompt_tokens, completion_tokens, usd)

    def reserve(self, worst: Charge) -> None:
        """Count a worst case as spent. Raises LimitReached, and reserves nothing, if it would pass a limit."""
        with self._lock:
            _check("KD_MAX_REQUESTS", self._limits.requests, self.requests, 1, "requests")
            _check("KD_MAX_TOKENS_TOTAL", self._limits.tokens, self.tokens, worst.tokens, "tokens")
            _check("KD_MAX_USD", self._limits.usd, self.usd, worst.usd, "US dollars")
            self.requests += 1
            self.tokens += worst.tokens
            self.usd += worst.usd

    def settle(self, worst: Charge, actual: Charge, *, sent: bool = True) -> None:
        """Replace a reserved worst case by the actual charge; learn the overrun if that is larger."""
        with self._lock:
            self.requests -= not sent
            self.overrun = (
                max(self.overrun[0], worst.overrun[0] + actual.prompt_tokens - worst.prompt_tokens),
                max(self.overrun[1], worst.overrun[1] + actual.completion_tokens - worst.completion_tokens),
            )
            self.tokens += actual.tokens - worst.tokens
            self.usd += actual.usd - worst.usd


def _check(name: str, limit: float | None, spent: float, more: float, unit: str) -> None:
    if limit is not None and spent + more > limit:
        raise LimitReached(
            name,
            f"{name}={limit:g} leaves no room for another request: {spent:.6g} {unit} are spent or reserved, and one "
            f"more may take {more:.4g}; raise it to collect more.",
        )
