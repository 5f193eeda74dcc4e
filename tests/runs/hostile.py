"""JSON that another program may have written: strategies for the readers of records and events."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

_ODD_NUMBERS: list[Any] = [True, -1, 0, 1e308, 10**30, 2**63, 2**31]
_ODD_TEXTS: list[Any] = ["", "\x1b]0;x\x07", "é" * 300, "../..", "a\x00b"]
_ODD = st.sampled_from([None, *_ODD_NUMBERS, *_ODD_TEXTS, [], {}, [[]], {"": {}}])
_VALUES = st.recursive(
    _ODD | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _bytes_of(value: Any) -> bytes:
    return json.dumps(value).encode()  # with NaN, Infinity and lone surrogates, as careless programs write them


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    def damage(place: int, other: bytes, gone: int) -> bytes:
        return data[:place] + other + data[place + gone :]

    return st.builds(damage, st.integers(0, len(data)), st.binary(max_size=6), st.integers(0, 9))


def objects_like(examples: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """One of the objects with some fields of another value or left out; or damaged, deep, or no object at all."""

    def changed(example: dict[str, Any], changes: dict[str, Any], gone: set[str]) -> bytes:
        return _bytes_of({name: value for name, value in (example | changes).items() if name not in gone})

    def variants(example: dict[str, Any]) -> st.SearchStrategy[bytes]:
        names = st.sampled_from(sorted(example))
        changes = st.dictionaries(names | st.text(max_size=5), _VALUES, max_size=4)
        return st.builds(changed, st.just(example), changes, st.sets(names, max_size=1) | st.just(set()))

    like = st.sampled_from(examples).flatmap(variants)
    wrap: Callable[[int, bytes], bytes] = lambda depth, data: b'{"summary":' * depth + data + b"}" * depth  # noqa: E731
    deep = st.builds(wrap, st.integers(0, 3000), st.sampled_from([b"1", b"[" * 500 + b"]" * 500]))
    return like | like.flatmap(_damaged) | deep | st.binary(max_size=200) | _VALUES.map(_bytes_of)
