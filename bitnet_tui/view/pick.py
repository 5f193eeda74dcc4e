"""A choice among a few words in one line, as radio buttons. Where they don't fit, those around the chosen one."""

from collections.abc import Sequence

from bitnet_core.text import width
from bitnet_tui.view.spans import Line, Span

_GAP = "  "
_MORE = ("‹ ", " ›")
Options = Sequence[tuple[str, str]]
"""(words, value) of each."""


def pick(options: Options, chosen: str, cells: int, *, focused: bool, counts: bool = True) -> Line:
    """The options; the chosen one differs by its sign, unless the choice counts for nothing.

    Arrows say on which sides there are more.
    """
    first, last = _shown(options, chosen, cells)
    spans: list[Span] = [Span(_MORE[0], "label")] if first else []
    for words, value in options[first:last]:
        if value == chosen and counts:
            spans.append(Span(f"◉ {words}", "chosen" if focused else "value"))
        else:
            spans.append(Span(f"○ {words}", "label" if counts else "faint"))
        spans.append(Span(_GAP))
    return (*spans[:-1], *((Span(_MORE[1], "label"),) if last < len(options) else ()))


def picked(options: Options, chosen: str, cells: int, cell: int) -> str | None:
    """The value drawn at a cell of `pick`; at an arrow, the one beside the chosen one, as by the arrow keys."""
    first, last = _shown(options, chosen, cells)
    left = width(_MORE[0]) if first else 0
    if 0 <= cell < left:
        return beside(options, chosen, -1)
    right = left + _cells(options[first:last])
    if last < len(options) and right <= cell < right + width(_MORE[1]):
        return beside(options, chosen, 1)
    return at(options[first:last], cell - left)


def _shown(options: Options, chosen: str, cells: int) -> tuple[int, int]:
    """The first option that is drawn and the one behind the last: as many as fit, the chosen one among them."""
    if _cells(options) <= cells:
        return 0, len(options)
    first = [value for _, value in options].index(chosen)
    last = first + 1
    room = cells - sum(map(width, _MORE))
    while True:
        if last < len(options) and _cells(options[first : last + 1]) <= room:
            last += 1
        elif first and _cells(options[first - 1 : last]) <= room:
            first -= 1
        else:
            return first, last


def _cells(options: Options) -> int:
    return sum(2 + width(words) for words, _ in options) + len(_GAP) * (len(options) - 1)


def at(options: Options, cell: int, gap: str = _GAP) -> str | None:
    """The value drawn at a cell, where each option has a sign and a blank before its words and `gap` behind them."""
    left = 0
    for words, value in options:
        right = left + 2 + width(words)
        if left <= cell < right:
            return value
        left = right + len(gap)
    return None


def beside(options: Options, chosen: str, steps: int) -> str:
    """The value `steps` places from the chosen one, stopping at the ends."""
    values = [value for _, value in options]
    place = values.index(chosen) if chosen in values else 0
    return values[min(len(values) - 1, max(0, place + steps))]
