"""Lines as Textual keeps them, less the seven caches that each has from its beginning and most never use.

Thousands of lines are kept, and each look for garbage goes through all that they have.
"""

from collections.abc import Iterable
from typing import Any

from rich.segment import Segment
from textual.cache import FIFOCache
from textual.strip import Strip

_CACHES = {
    "_divide_cache": 4,
    "_crop_cache": 16,
    "_style_cache": 16,
    "_filter_cache": 4,
    "_line_length_cache": 4,
    "_crop_extend_cache": 4,
    "_offsets_cache": 4,
}
"""Textual's sizes."""
_REST = {"_segments", "_cell_length", "_render_cache", "_link_ids", "_cell_count"}


def lighten() -> None:
    """From now on a line makes a cache when it first uses it. Nothing changes if Textual's lines are others."""
    if set(Strip.__slots__) == _CACHES.keys() | _REST:
        Strip.__init__ = _begin  # type: ignore[method-assign, assignment]
        Strip.__getattr__ = _make  # type: ignore[attr-defined]


def _begin(strip: Strip, segments: Iterable[Segment], cell_length: int | None = None) -> None:
    strip._segments = list(segments)
    strip._cell_length = cell_length
    strip._render_cache = strip._link_ids = strip._cell_count = None


def _make(strip: Strip, name: str) -> FIFOCache[Any, Any]:
    """Python asks here for what a line does not have yet."""
    if name not in _CACHES:
        raise AttributeError(name)
    cache: FIFOCache[Any, Any] = FIFOCache(_CACHES[name])
    setattr(strip, name, cache)
    return cache
