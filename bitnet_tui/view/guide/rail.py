"""The steps of the guide in one line: which are done, where one is, and what has to be mended."""

from collections.abc import Collection

from bitnet_core.text import width
from bitnet_tui.view import pick
from bitnet_tui.view.guide.draft import STEPS
from bitnet_tui.view.spans import Line, Span

_GAP = "   "
_SHORT = {"student": "Student"}


def rail(now: str, seen: Collection[str], wrong: Collection[str], cells: int, *, focused: bool) -> Line:
    """The steps as spans; a step that has been seen and is not right is marked."""
    names = _names(cells)
    spans: list[Span] = []
    for step, title in names.items():
        if step == now:
            mark, style = "◉", "chosen" if focused else "accent"
        elif step in wrong and step in seen:
            mark, style = "!", "warn"
        else:
            mark, style = ("●", "good") if step in seen else ("○", "faint")
        words = "title" if step == now else "" if step in seen else "label"
        spans += [Span(mark, style), Span(f" {title}", words), Span(_GAP)]
    return tuple(spans[:-1])


def at(cell: int, cells: int) -> str | None:
    """The step drawn at a cell."""
    return pick.at([(title, step) for step, title in _names(cells).items()], cell, _GAP)


def _names(cells: int) -> dict[str, str]:
    whole = sum(2 + width(title) for title in STEPS.values()) + len(_GAP) * (len(STEPS) - 1)
    return STEPS if whole <= cells else {step: _SHORT.get(step, title) for step, title in STEPS.items()}
