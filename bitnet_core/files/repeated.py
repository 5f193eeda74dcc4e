"""Names that stand twice in one object of a JSON text: readers keep the last value of them without a word."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bitnet_core.text import crop, flat

_SHOWN = 60


class Repeated(ValueError):
    """The message says in a few words which name stands twice."""


def refuse_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object that `json.loads` has found, as its `object_pairs_hook`. Repeated if a name stands in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise Repeated(f'"{crop(flat(name), _SHOWN)}" stands in one object {count} times')
    return found


def require_no_repeats(data: bytes) -> None:
    """Repeated if a name stands twice in an object of JSON that msgspec has read already."""
    import json

    json.loads(data, object_pairs_hook=refuse_repeats, parse_int=len)  # an integer may be longer than Python's limit
