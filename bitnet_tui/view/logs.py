"""The log of a run as lines to choose from: those of a level, and those that a search finds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from bitnet_core.text import crop
from bitnet_tui.view.run_fold import LEVELS, RunView
from bitnet_tui.view.spans import Line, Span, line, wrapped

_LEAD_CELLS = 11
"""The time and the mark of an event, or as many spaces."""
_STYLES = {"debug": "label", "warning": "warn", "error": "bad"}


@dataclass(frozen=True)
class LogLine:
    """`number` counts from the run's first line, so that a line keeps it when older ones are dropped."""

    number: int
    text: str
    level: str


def lines_of(view: RunView | None, least: str) -> tuple[LogLine, ...]:
    """The kept lines of at least this level."""
    if view is None:
        return ()
    first = view.log_total - len(view.log)
    wanted = LEVELS[LEVELS.index(least) :]
    both = zip(view.log, view.log_levels, strict=True)
    return tuple(LogLine(first + at, text, level) for at, (text, level) in enumerate(both) if level in wanted)


def next_level(least: str) -> str:
    """The next more severe one; after the last, the first."""
    return LEVELS[(LEVELS.index(least) + 1) % len(LEVELS)]


def matches(text: str, words: str) -> bool:
    return bool(words) and words.casefold() in text.casefold()


def found(lines: Sequence[LogLine], words: str) -> list[int]:
    """The places of the lines that have these words, in any case."""
    wanted = words.casefold()
    return [place for place, one in enumerate(lines) if wanted and wanted in one.text.casefold()]


def step(places: Sequence[int], at: int | None, by: int) -> int | None:
    """The next place that was found after `at`, or before it; at the end it begins again."""
    if not places:
        return None
    if at is None:
        return places[0] if by > 0 else places[-1]
    if by > 0:
        return next((place for place in places if place > at), places[0])
    return next((place for place in reversed(places) if place < at), places[-1])


def drawn(one: LogLine, words: str, cells: int, *, wrap: bool) -> list[Line]:
    """A line in the style of its level, and of what was searched for.

    With `wrap` in as many lines as it needs, below its words; else cut at the width.
    """
    style = "key" if matches(one.text, words) else _STYLES.get(one.level, "")
    if not wrap:
        return [line(Span(crop(one.text, cells), style))]
    return wrapped(one.text[:_LEAD_CELLS], one.text[_LEAD_CELLS:], style, cells)


def status(lines: Sequence[LogLine], view: RunView | None, words: str, at: int | None) -> Line:
    """How many lines are shown, how many were found, and which one it is."""
    if view is None or not (view.log_total or view.unread):
        return line(Span("No messages yet.", "label"))
    text = f"{len(lines):,} of {view.log_total:,} lines"
    if view.unread:
        text = f"{len(lines):,} lines so far; the rest is being read"
    if words:
        places = found(lines, words)
        here = f"{places.index(at) + 1} of " if at in places else ""
        text += f"   found {here}{len(places):,}" if places else f"   “{crop(words, 30)}” not found"
        text += "   n next, N before" if len(places) > 1 else ""
    return line(Span(text, "label" if not words or found(lines, words) else "warn"))
