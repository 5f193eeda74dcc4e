"""Spending limits that a slip of the pen would remove: what is close to one is found here, and is an error.

Knows names and texts, no files.
"""

import difflib
import re
import unicodedata

from bitnet_core.settings.registry import REGISTRY

LIMITS = ("KD_MAX_USD", "KD_MAX_TOKENS_TOTAL", "KD_MAX_REQUESTS")
_ALIKE = 0.75
_ALLOWANCE = {"BUDGET", "QUOTA", "ALLOWANCE"}
_BOUNDS = {"MAX", "MAXIMUM", "LIMIT", "CAP", "MOST"} | _ALLOWANCE
_MONEY = {"USD", "DOLLAR", "DOLLARS", "COST", "COSTS", "SPEND", "SPENDING", "MONEY", "EUR", "PRICE"}
_ALL = {"TOTAL", "ALL", "SUM", "OVERALL"} | _ALLOWANCE
_SET_INSIDE = rf"(?<=[^A-Z_])({'|'.join(LIMITS)})[\"']?[ \t]*="


def meant_limit(name: str) -> str | None:
    """The spending limit that a name which is not a setting is meant to be: misspelt, or in other words."""
    plain = _plain(name)
    contained = next((limit for limit in LIMITS if limit in plain), None)
    if contained is not None:
        return contained
    closest = difflib.get_close_matches(plain, REGISTRY, n=1, cutoff=_ALIKE)
    if closest and closest[0] in LIMITS:
        return closest[0]
    return _limit_in_other_words({*plain.split("_")})


def _limit_in_other_words(words: set[str]) -> str | None:
    if "KD" not in words:
        return "KD_MAX_USD" if words & _BOUNDS and words & _MONEY else None
    if words & (_MONEY | {"US"}):
        return "KD_MAX_USD"
    if words & {"REQUEST", "REQUESTS", "REQS", "CALLS"}:
        return "KD_MAX_REQUESTS"
    if words & {"TOKEN", "TOKENS"}:
        return "KD_MAX_TOKENS_TOTAL" if words & _ALL else None
    return "KD_MAX_USD" if words & _ALLOWANCE else None


def may_mean_limit(name: str) -> bool:
    """Whether `meant_limit` is worth its time, for each of the many variables that an environment has."""
    return "KD" in name.upper()


def limit_inside(value: str) -> str | None:
    """The spending limit that is set inside a value: a quote or a line before it was not ended."""
    match = re.search(_SET_INSIDE, unicodedata.normalize("NFKC", value))
    if match:
        return match[1]
    assigned = (line.partition("=") for line in value.splitlines()[1:])
    names = (_plain(name).removeprefix("EXPORT") for name, equals, _ in assigned if equals)
    return next((name for name in names if name in LIMITS), None)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "", unicodedata.normalize("NFKC", name).upper())
