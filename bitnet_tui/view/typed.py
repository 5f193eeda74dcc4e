"""Counts as people type them, and as the app writes them: `60k`, `1.5M`, `60,000`."""

import re
from decimal import Decimal

from bitnet_core.settings.registry import REGISTRY

_COUNT = re.compile(r"(\d{1,3}(?:[ ,\u00a0\u202f]\d{3})+|\d+)(?:(\.\d+)? ?([kKmMgGbBtT]))?", re.ASCII)
_LONGEST = 30
_EXPONENTS = {"k": 3, "m": 6, "g": 9, "b": 9, "t": 12}


def plain_count(text: str) -> str:
    """`60k` → `60000`; a text that is no count, or no whole one, stays as it is."""
    found = _COUNT.fullmatch(text)
    if found is None or len(text) > _LONGEST:
        return text
    whole, fraction, unit = found.groups()
    number = Decimal(re.sub(r"\D", "", whole) + (fraction or "")).scaleb(_EXPONENTS[unit.lower()] if unit else 0)
    return f"{number:.0f}" if number == number.to_integral_value() else text


def plain_value(name: str, text: str) -> str:
    """What was typed for a setting, as its `.env` has it."""
    return plain_count(text) if REGISTRY[name].kind == "int" else text
