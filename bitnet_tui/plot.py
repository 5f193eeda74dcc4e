"""Draws a `Drawing` as rows of signs, curves in dots of braille. It knows no widget and no colour, only their names.

Each sign stands in the cell that the drawing's scales name, whether it is of a number, a curve or a mark.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from bitnet_core.results.series import Segment
from bitnet_core.runs.event_words import FLIP, SEAM
from bitnet_tui.view.chart import Drawing
from bitnet_tui.view.scale import DOTS_ACROSS, DOTS_UP, Scale

Run = tuple[str, str]
"""Signs beside each other, and what gives them their colour: a curve's name, `axis`, `flip`, `bad` or nothing."""
Cell = tuple[int, int]
"""Column and row, from the left and from below."""

_TURN_CELLS = 3
"""How many cells a curve has at a time where several lie on each other."""
_LETTER_COLUMNS = 12
"""How far the letters of a curve are apart."""
_FAR_COLUMNS = 4
"""With at least this many columns between its points, a curve has a letter at each."""
_NEAR_COLUMNS = 2
"""How far a letter may stand beside a point that has that of another curve."""
_NO_LETTERS: Mapping[str, str] = {}
_BRAILLE = 0x2800
_LEFT, _RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
"""The dots of a cell in Unicode, from below."""


def _bits(dots: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(bit for place, bit in enumerate(dots) if mask >> place & 1) for mask in range(1 << DOTS_UP))


_LEFT_OF, _RIGHT_OF = _bits(_LEFT), _bits(_RIGHT)


def draw(
    drawing: Drawing, letters: Mapping[str, str] = _NO_LETTERS, *, without_dots: bool = False
) -> list[tuple[Run, ...]]:
    """The rows from above. A curve in `letters` has its letter every few columns.

    It is of letters alone where the terminal is `without_dots`, and would show one sign for all of them.
    """
    x, y = drawing.x, drawing.y
    cells: dict[Cell, Run] = {}
    cells |= {(x.cell(mark), row): (SEAM, "axis") for mark in drawing.seams for row in range(y.cells)}
    # A flip where a seam is has every other row.
    cells |= {
        (column, row): (FLIP, "flip")
        for column in map(x.cell, drawing.flips)
        for row in range(0, y.cells, 2 if (column, 0) in cells else 1)
    }
    curves = {name: dots(segments, x, y) for name, segments in drawing.curves}
    joined = _joined(curves)
    cells |= {at: (letters.get(name, dot), name) for at, (dot, name) in joined.items()} if without_dots else joined
    cells |= _letters(drawing, curves, letters)
    cells |= _of_flips(drawing)
    cells |= {(x.cell(bad), 0): ("x", "bad") for bad in drawing.not_finite}
    return [*_rows(drawing, cells), *_below(drawing)]


def dots(segments: Iterable[Segment], x: Scale, y: Scale) -> dict[Cell, int]:
    """The cells of a curve, each with its dots as Unicode counts them."""
    columns = [0] * (x.cells * x.dots)  # of each column of dots, a bit for each height
    for segment in segments:
        placed = [(x.dot(at), y.dot(value)) for at, value in segment]
        for before, after in itertools.pairwise((placed[0], *placed)):
            for column, low, high in line(*before, *after):
                columns[column] |= (2 << high) - (1 << low)
    found: dict[Cell, int] = {}
    for column in range(x.cells):
        left, right = columns[DOTS_ACROSS * column : DOTS_ACROSS * (column + 1)]
        both, row = left | right, 0
        while both >> DOTS_UP * row:
            if bits := _LEFT_OF[left >> DOTS_UP * row & 15] | _RIGHT_OF[right >> DOTS_UP * row & 15]:
                found[column, row] = bits
            row += 1
    return found


def line(x0: int, y0: int, x1: int, y1: int) -> Iterator[tuple[int, int, int]]:
    """The dots of a straight line, as columns with their lowest and highest one.

    A flat line has a dot in each column, a steep one in each row; a dot halfway between two goes up, or left.
    """
    if x0 > x1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    across, up = x1 - x0, y1 - y0
    if abs(up) <= across:
        for column in range(across + 1):
            height = y0 + (2 * up * column + across) // (2 * across) if across else y0
            yield x0 + column, height, height
        return
    sense, began = (1, 0) if up > 0 else (-1, 0)
    for column in range(across + 1):
        ends = abs(up) * (2 * column + 1) // (2 * across) if column < across else abs(up)
        low, high = sorted((y0 + sense * began, y0 + sense * ends))
        yield x0 + column, low, high
        began = ends + 1


def _joined(curves: Mapping[str, Mapping[Cell, int]]) -> dict[Cell, Run]:
    """All curves in one picture. A cell has one colour, so those curves that share cells take turns on them.

    The next turn is that of the curve that is seen in the fewest cells so far: a curve that grows to the right keeps
    its turns. One that is too short to have a turn lies above the others, the shortest uppermost.
    """
    whole = _TURN_CELLS * len(curves)
    short = sorted((name for name in curves if len(curves[name]) <= whole), key=lambda name: len(curves[name]))
    seen: Counter[str] = Counter()
    turns: dict[tuple[str, ...], tuple[str, int]] = {}  # of the same curves: whose turn it is, for how many cells yet
    found: dict[Cell, Run] = {}
    for cell in sorted(set().union(*curves.values())):
        there = tuple(name for name in curves if cell in curves[name])
        bits = 0
        for name in there:
            bits |= curves[name][cell]
        turn, left = turns.get(there, ("", 0))
        turn, left = (turn, left) if left else (min(there, key=seen.__getitem__), _TURN_CELLS)
        turns[there] = turn, left - 1
        chosen = next((name for name in short if name in there), turn)
        seen[chosen] += 1
        found[cell] = chr(_BRAILLE | bits), chosen
    return found


def _letters(
    drawing: Drawing, curves: Mapping[str, Mapping[Cell, int]], letters: Mapping[str, str]
) -> dict[Cell, Run]:
    """The letters of the curves, the shortest first. None covers another.

    They stand where something was measured, or beside it, if there is room: every few columns, or at its end. Where
    points are far apart each has one, as the line between them shows no measurement.
    """
    measured = {
        name: {(drawing.x.cell(at), drawing.y.cell(value)) for segment in segments for at, value in segment}
        for name, segments in drawing.curves
    }
    firsts = {name: place * _LETTER_COLUMNS // len(curves) for place, name in enumerate(curves)}
    found: dict[Cell, Run] = {}
    for name in sorted(filter(letters.__contains__, curves), key=lambda name: len(curves[name])):
        columns: dict[int, list[int]] = {}
        free = curves[name].keys() - found.keys()
        for column, row in _beside(measured[name], free) or free:
            columns.setdefault(column, []).append(row)
        if len(columns) * _FAR_COLUMNS <= len({column for column, _ in curves[name]}):
            chosen = _thinned(sorted(columns))
        else:
            places = range(firsts[name], drawing.x.cells, _LETTER_COLUMNS)
            nearest = {place: min(columns, key=lambda one: abs(one - place)) for place in places}
            near = {one for place, one in nearest.items() if abs(one - place) < _LETTER_COLUMNS / 2}
            chosen = sorted(near or {max(columns)})
        for column in chosen:
            rows = sorted(columns[column])
            found[column, rows[len(rows) // 2]] = letters[name], name
    return found


def _of_flips(drawing: Drawing) -> dict[Cell, Run]:
    """Beside the upper end of each flip the letters of the curves that it is of."""
    x, top, found = drawing.x, drawing.y.cells - 1, dict[Cell, Run]()
    for place, names in zip(drawing.flips, drawing.flip_names, strict=False):
        column = x.cell(place)
        first = column + 1 if column + len(names) < x.cells else max(0, column - len(names))
        found |= {(first + at, top): (name, name) for at, name in enumerate(names)}
    return found


def _thinned(columns: Sequence[int]) -> list[int]:
    """Those far from the one before, and of others one every few columns."""
    kept: list[int] = []
    for before, column in zip((None, *columns), columns, strict=False):
        if before is None or column - before >= _FAR_COLUMNS or column - kept[-1] >= _LETTER_COLUMNS:
            kept.append(column)
    return kept


def _beside(wanted: Set[Cell], free: Set[Cell]) -> set[Cell]:
    """These cells as far as they are free, and for each other one the next free column, if none near it is found."""
    near: dict[int, list[Cell]] = {}
    for cell in sorted(free):
        near.setdefault(cell[0], []).append(cell)
    found = {*wanted} & free
    columns = {column for column, _ in found}
    for column, row in sorted(wanted - found):
        if columns.isdisjoint(range(column - _NEAR_COLUMNS, column + _NEAR_COLUMNS + 1)):
            beside = (column + way * step for step in range(1, _NEAR_COLUMNS + 1) for way in (1, -1))
            if cells := next((near[at] for at in beside if at in near), []):
                one = min(cells, key=lambda cell: abs(cell[1] - row))
                found.add(one)
                columns.add(one[0])
    return found


def _rows(drawing: Drawing, cells: Mapping[Cell, Run]) -> Iterator[tuple[Run, ...]]:
    numbers = {drawing.y.cell(place): label for place, label in drawing.y_ticks}
    for row in reversed(range(drawing.y.cells)):
        number = numbers.get(row, "")
        axis = f"{number:>{drawing.left - 1}}{'┤' if number else '│'}", "axis"
        yield _merged([axis, *(cells.get((column, row), (" ", "")) for column in range(drawing.x.cells))])


def _below(drawing: Drawing) -> list[tuple[Run, ...]]:
    """The axis and its numbers, each below its place, or as near as the edge allows."""
    places = [(drawing.x.cell(place), label) for place, label in drawing.x_ticks]
    marked = {column for column, _ in places}
    axis = "".join("┬" if column in marked else "─" for column in range(drawing.x.cells))
    width, numbers = drawing.left + drawing.x.cells, ""
    for column, label in places:
        begins = min(width - len(label), max(0, drawing.left + column - len(label) // 2))
        if begins > len(numbers) or not numbers:
            numbers = f"{numbers:<{begins}}{label}"
    return [((f"{'└':>{drawing.left}}{axis}", "axis"),), ((f"{numbers:<{width}}", "axis"),)]


def _merged(cells: Iterable[Run]) -> tuple[Run, ...]:
    """Neighbours of one colour together."""
    return tuple(
        ("".join(sign for sign, _ in same), colour) for colour, same in itertools.groupby(cells, lambda cell: cell[1])
    )
