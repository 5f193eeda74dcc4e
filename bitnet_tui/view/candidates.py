"""How likely a candidate for a token is, as a bar and a number; the same for traces and for the playground."""

from bitnet_core.text import pad, printable, probability
from bitnet_tui.view.spans import Span

VALUE = 6
"""Cells of a number, with the blank before it."""
CHOSEN = "› "
"""Before the candidate that came."""
STYLES = {"teacher": "bar", "student": "flip"}
_LONGEST_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def spelled(text: str) -> str:
    """A token with its spaces and line ends to be seen."""
    return printable(text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")) or "·"


def bar_cells(cells: int) -> int:
    """The longest bar where a bar and its number have `cells` cells."""
    return max(1, min(_LONGEST_BAR, cells - VALUE))


def likely(value: float | None, cells: int, style: str) -> tuple[Span, Span]:
    """A bar that is full at 1, in `cells` cells, and the number after it; a dash where nothing is known."""
    number = "–" if value is None else probability(value)
    return Span(bar(value, cells), style), Span(pad(f" {number}", VALUE), "faint" if value is None else "value")


def bar(value: float | None, cells: int) -> str:
    """A bar of exactly `cells`, full at 1."""
    eighths = round(8 * cells * max(0.0, min(1.0, value or 0.0)))
    text = _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return pad(text, cells)
