"""No regular expression takes a time that grows with the square of its text, whatever the text is."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bitnet_core.secrets.encodings import key_patterns
from bitnet_core.storage.clients.rcd_calls import _FIXES
from bitnet_tui.remedies import _patterns
from bitnet_tui.view.offered import _named
from tests.patterns import Found, hostile, patterns

KEYS = ("sk-abc123def456", "!pass word&x9", '\\\\"a<>/é12', "/////+++++a1", "line one\nline two")
BUILT = {
    "bitnet_core.secrets.encodings": [
        one for key in KEYS for found in key_patterns(key) for one in (found.pattern, found._beginning)
    ],
    "bitnet_core.secrets.redaction": [],  # they are in a table, which is walked
    "bitnet_core.storage.clients.rcd_calls": [re.compile(pattern, re.IGNORECASE) for pattern, _ in _FIXES],
    "bitnet_core.storage.names": [],  # one character, or a look beside it
    "bitnet_core.suites.graders_text": [],  # a fixed text
    "bitnet_core.teachers.sampling_fields": [],  # fixed texts
    "bitnet_tui.remedies": [pattern for pattern, _ in _patterns()],
    "bitnet_tui.view.offered": [_named("Reports", "3"), _named("Some words here", "ctrl+t")],
}
"""The patterns of modules that build some of what only a call knows, for calls of every kind."""
BOUNDED = {
    "bitnet_core.prompts.templates": "the text ends with the last `}`",
    "bitnet_core.settings.references": "the text ends with the last `}`",
    "bitnet_core.storage.clients.http": "4,000 bytes of a page",
}
"""Modules with a pattern that does grow, and what bounds its text."""
SHORTEST, SHORT, LONG = 24, 1000, 4000
_LINEAR_S = 3e-4
_MOST_S = 4e-3
"""Of processor time. A search that grows with the square takes about 1 ns for each pair of characters."""


def test_four_times_the_text_does_not_take_sixteen_times_as_long() -> None:
    found, built = patterns()
    assert len(found) > 250
    assert {place.partition(":")[0] for place in built} == BUILT.keys(), "say what such a pattern may be, in BUILT"
    found += [Found(one, frozenset(), module) for module, some in BUILT.items() for one in some]
    judged = [one for one in found if one.where.partition(" ")[0] not in BOUNDED]
    assert [(one.where, one.pattern, family) for one in judged if (family := _grows(one))] == []


@pytest.mark.parametrize("pattern", [r"[^\s(]+\s+\(", r"(?m)^\s*\d", r"a+b", r"x(a*)*y", r"=[\s=]*:"])
def test_one_that_grows_is_found(pattern: str) -> None:
    assert _grows(Found(re.compile(pattern), frozenset(), "here"))


def _grows(one: Found) -> tuple[str, str, str] | None:
    """The texts on which it grows, if there are any."""
    tried = ((run, family) for family in hostile(one.pattern) for run in _runs(one))
    return next((family for run, family in tried if _family_grows(run, one, family)), None)


def _family_grows(run: Callable[[Any], object], one: Found, family: tuple[str, str, str]) -> bool:
    if _seconds(run, _text(one, family, SHORTEST)) > _MOST_S:
        return _best(run, _text(one, family, SHORTEST)) > _MOST_S  # it grows faster than any power
    short = _text(one, family, SHORT)
    if _seconds(run, short) < _LINEAR_S:
        return False
    least = _best(run, short)
    return least > _LINEAR_S and _best(run, _text(one, family, LONG)) > max(_MOST_S, 8 * least)


def _runs(one: Found) -> Iterator[Callable[[Any], object]]:
    if "match" in one.uses:
        yield one.pattern.match
    if "fullmatch" in one.uses:
        yield one.pattern.fullmatch
    if not one.uses or one.uses - {"match", "fullmatch"}:
        yield lambda text: [None for _ in one.pattern.finditer(text)]


def _text(one: Found, family: tuple[str, str, str], length: int) -> Any:
    before, pump, end = family
    text = before + pump * max(1, length // len(pump)) + end
    return text.encode("latin-1", "replace") if isinstance(one.pattern.pattern, bytes) else text


def _best(run: Callable[[Any], object], text: Any) -> float:
    return min(_seconds(run, text) for _ in range(3))


def _seconds(run: Callable[[Any], object], text: Any) -> float:
    began = time.thread_time()
    run(text)
    return time.thread_time() - began
