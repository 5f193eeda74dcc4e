"""A choice among a few words in one line, as radio buttons."""

from collections.abc import Sequence

from bitnet_core.text import width
from bitnet_tui.view.spans import Line, Span

_GAP = "  "


def pick(options: Sequence[tuple[str, str]], chosen: str, *, focused: bool) -> Line:
    """The options, (words, value) each; the chosen one differs by its sign."""
    spans: list[Span] = []
    for words, value in options:
        if value == chosen:
            spans.append(Span(f"◉ {words}", "chosen" if focused else "value"))
        else:
            spans.append(Span(f"○ {words}", "label"))
        spans.append(Span(_GAP))
    return tuple(spans[:-1])


def at(options: Sequence[tuple[str, str]], cell: int, gap: str = _GAP) -> str | None:
    """The value drawn at a cell, where each option has a sign and a blank before its words and `gap` behind them."""
    left = 0
    for words, value in options:
        right = left + 2 + width(words)
        if left <= cell < right:
            return value
        left = right + len(gap)
    return None


def beside(options: Sequence[tuple[str, str]], chosen: str, steps: int) -> str:
    """The value so many places from the chosen one, stopping at the ends."""
    values = [value for _, value in options]
    place = values.index(chosen) if chosen in values else 0
    return values[min(len(values) - 1, max(0, place + steps))]
