"""Values as strict JSON can hold them, which has no NaN and no infinity."""

import math
from collections.abc import Callable
from typing import Any


def strict(value: Any, redact: Callable[[str], str] = str) -> Any:
    """The value as JSON can hold it: null for a number that is not finite, text as `redact` leaves it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {redact(str(key)): strict(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item, redact) for item in value]
    if isinstance(value, str):
        return redact(value)
    return value
