"""A share from 0 to 1 as a bar that can be moved, by keys in steps of a hundredth and by the mouse to a cell."""

from bitnet_core.text import finite_in
from bitnet_tui.view.spans import Line, Span

STEPS = 100


def parsed(text: str, otherwise: float) -> float:
    """The share that a text stands for."""
    found = finite_in(text)
    return otherwise if found is None or not 0 <= found <= 1 else found


def written(share: float) -> str:
    """The shortest text of a share: `0.9`."""
    return f"{min(1.0, max(0.0, share)):.4f}".rstrip("0").rstrip(".")


def moved(share: float, hundredths: int) -> float:
    """The share moved by `hundredths` of them, on their grid."""
    at = share * STEPS
    whole = round(at)
    if abs(at - whole) > 1e-6:  # between two: the first step goes to the one on its side
        whole = int(at) if hundredths > 0 else int(at) + 1
    return min(STEPS, max(0, whole + hundredths)) / STEPS


def at_cell(cell: int, cells: int) -> float:
    """The share at a cell of a bar, in hundredths: its first cell is 0, its last one is 1."""
    if cells < 2:
        return 1.0
    return round(min(1.0, max(0.0, cell / (cells - 1))) * STEPS) / STEPS


def cell_of(share: float, cells: int) -> int:
    """The cell where a share is marked."""
    return min(cells - 1, max(0, round(share * (cells - 1))))


def bar(share: float, cells: int, *, focused: bool) -> Line:
    """8 bits before the mark, 4 bits after it; the two differ in shape, not just in colour."""
    at = cell_of(share, cells)
    mark = Span("┃", "chosen" if focused else "flip")
    parts = (Span("━" * at, "bar"), mark, Span("─" * (cells - at - 1), "track"))
    return tuple(part for part in parts if part.text)
