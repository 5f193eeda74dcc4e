"""Spending limits that a slip of the pen would remove: what is close to one is found here, and is an error.

Knows names and texts, no files.
"""

import difflib
import re
import unicodedata

from bitnet_core.settings.registry import REGISTRY

LIMITS = ("KD_MAX_USD", "KD_MAX_TOKENS_TOTAL", "KD_MAX_REQUESTS")
_ALIKE = 0.75
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


def meant_limit(name: str) -> str | None:
    """The spending limit that a name which is not a setting is meant to be: misspelt, in quotes, in small letters."""
    plain = _plain(name)
    contained = next((limit for limit in LIMITS if limit in plain), None)
    if contained is not None:
        return contained
    closest = difflib.get_close_matches(plain, REGISTRY, n=1, cutoff=_ALIKE)
    return closest[0] if closest and closest[0] in LIMITS else None


def may_mean_limit(name: str) -> bool:
    """Whether `meant_limit` is worth its time, for each of the many variables that an environment has."""
    return "KD" in name.upper() and "M" in name.upper()


def limit_inside(value: str) -> str | None:
    """The spending limit that is set in a further line of a value: a quote before it was never meant to go on."""
    assigned = (line.partition("=") for line in value.splitlines()[1:])
    names = (_plain(name).removeprefix("EXPORT") for name, equals, _ in assigned if equals)
    return next((name for name in names if name in LIMITS), None)


def _plain(name: str) -> str:
    return _NOT_IN_NAMES.sub("", unicodedata.normalize("NFKC", name).upper())
