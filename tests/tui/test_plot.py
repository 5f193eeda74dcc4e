"""In which cells a drawing's curves are, compared with slow twins that look at every dot."""

import itertools
import re
import unicodedata
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bitnet_core.results.axes import heights
from bitnet_tui import plot
from bitnet_tui.view.chart import Drawing
from bitnet_tui.view.scale import DOTS_ACROSS, DOTS_UP, Scale, along, upwards

_number = st.integers(-1000, 1000)
_WHERE = {1: (0, 3), 2: (0, 2), 3: (0, 1), 7: (0, 0), 4: (1, 3), 5: (1, 2), 6: (1, 1), 8: (1, 0)}
"""Where the dots of braille are in their cell, by their number in Unicode: column, and row from below."""


@given(_number, st.integers(1, 1000), _number, st.integers(2, 60), st.sampled_from([DOTS_ACROSS, DOTS_UP]))
def test_a_value_is_in_the_dot_that_spans_it(low: int, span: int, value: int, cells: int, dots: int):
    """The twin measures from the middle of the first cell to the middle of the last, exactly."""
    found = Scale(low, low + span, cells, dots).dot(value)
    place = Fraction(value - low, span) * (cells - 1) + Fraction(1, 2)
    edges = [Fraction(edge, dots) for edge in range(1, cells * dots)]
    assume(all(place == edge or abs(place - edge) > 1e-9 for edge in edges))
    spanning = sum(place >= edge for edge in edges)
    assert found == spanning or (place in edges and found == spanning - 1)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 200))
def test_a_cell_has_the_value_in_its_middle(low: float, span: float, cells: int):
    scale = Scale(low, low + span, cells, DOTS_ACROSS)
    assert [scale.cell(scale.value(cell)) for cell in range(cells)] == list(range(cells))


@given(*[st.integers(0, 30)] * 4)
def test_a_line_has_the_dots_that_are_nearest_to_it(x0: int, y0: int, x1: int, y1: int):
    drawn = [(x, y) for x, low, high in plot.line(x0, y0, x1, y1) for y in range(low, high + 1)]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == _line(*sorted([(x0, y0), (x1, y1)]))


def _line(begin: tuple[int, int], end: tuple[int, int]) -> set[tuple[int, int]]:
    (x0, y0), (x1, y1) = begin, end
    half, found = Fraction(1, 2), set()
    for x, y in itertools.product(range(31), range(31)):
        if not (x0 <= x <= x1 and min(y0, y1) <= y <= max(y0, y1)):
            continue
        if abs(y1 - y0) <= x1 - x0:
            there = y0 + (Fraction((x - x0) * (y1 - y0), x1 - x0) if x1 > x0 else 0)
            near = y - half <= there < y + half
        else:
            there = x0 + Fraction((y - y0) * (x1 - x0), y1 - y0)
            near = x - half < there <= x + half
        if near:
            found.add((x, y))
    return found


_points = st.lists(st.tuples(st.floats(-5, 105), st.floats(-12, 12)), min_size=1, max_size=20)


@given(st.lists(_points, max_size=3), st.integers(2, 40), st.integers(2, 12))
def test_the_cells_of_a_curve_hold_its_dots(segments: list[list[tuple[float, float]]], columns: int, rows: int):
    x, y = Scale(0.0, 100.0, columns, DOTS_ACROSS), Scale(-10.0, 10.0, rows, DOTS_UP)
    wanted: set[tuple[int, int]] = set()
    for segment in segments:
        dots = [(x.dot(at), y.dot(value)) for at, value in segment]
        for before, after in itertools.pairwise([dots[0], *dots]):
            wanted |= {(c, r) for c, low, high in plot.line(*before, *after) for r in range(low, high + 1)}
    found: set[tuple[int, int]] = set()
    for (column, row), bits in plot.dots([tuple(one) for one in segments], x, y).items():
        numbers = unicodedata.name(chr(0x2800 | bits)).rpartition("-")[2]
        found |= {(2 * column + _WHERE[int(one)][0], 4 * row + _WHERE[int(one)][1]) for one in numbers}
    assert found == wanted


@given(st.lists(_points, min_size=1, max_size=5), st.integers(2, 60), st.integers(2, 20))
def test_a_cell_has_the_dots_of_all_its_curves_and_the_colour_of_one(curves, columns: int, rows: int):
    picture = _drawing({f"c{place}": sorted(one) for place, one in enumerate(curves)}, columns, rows)
    own = {name: plot.dots(segments, picture.x, picture.y) for name, segments in picture.curves}
    seen = _cells(picture)
    for cell in set().union(*own.values()):
        sign, colour = seen[cell]
        assert ord(sign) == 0x2800 | _all(one.get(cell, 0) for one in own.values())
        assert cell in own[colour]
    shortest = min(own.values(), key=len)
    if len(shortest) <= 3 * len(own):
        drawn_last = [name for name, one in own.items() if len(one) == len(shortest)]
        assert any(all(seen[cell][1] == name for cell in own[name]) for name in drawn_last)


def _all(bits) -> int:
    found = 0
    for one in bits:
        found |= one
    return found


def _drawing(curves: dict[str, list[tuple[float, float]]], columns: int, rows: int) -> Drawing:
    x, y = Scale(0.0, 100.0, columns, DOTS_ACROSS), Scale(-10.0, 10.0, rows, DOTS_UP)
    made = tuple((name, (tuple(points),)) for name, points in curves.items())
    return Drawing(made, x, y, ((0.0, "0"),), ((0.0, "0"),), (), (), (), log=False, left=2)


def _cells(
    picture: Drawing, letters: dict[str, str] | None = None, **how: bool
) -> dict[tuple[int, int], tuple[str, str]]:
    """What stands in each cell of the curves, and its colour."""
    rows = plot.draw(picture, letters or {}, **how)[: picture.y.cells]
    cells = [[(sign, colour) for signs, colour in row for sign in signs][picture.left :] for row in rows]
    return {(c, picture.y.cells - 1 - r): cell for r, row in enumerate(cells) for c, cell in enumerate(row)}


@given(st.lists(_points, min_size=1, max_size=4), st.integers(12, 100), st.integers(2, 20))
def test_each_letter_stands_on_its_curve_and_each_curve_has_one(curves, columns: int, rows: int):
    names = [f"c{place}" for place in range(len(curves))]
    picture = _drawing(dict(zip(names, map(sorted, curves), strict=True)), columns, rows)
    letters = dict(zip(names, "TKCF", strict=False))
    own = {name: plot.dots(segments, picture.x, picture.y) for name, segments in picture.curves}
    seen = _cells(picture, letters)
    for cell, (sign, colour) in seen.items():
        if sign in letters.values():
            assert sign == letters[colour]
            assert cell in own[colour]
    for name, cells in own.items():
        others = set().union(*(one for other, one in own.items() if other != name))
        assert cells.keys() <= others or letters[name] in [sign for sign, _ in seen.values()]
    # Where all dots would become one sign, each cell of a curve says whose it is.
    for (sign, colour), plain in zip(
        seen.values(), _cells(picture, letters, without_dots=True).values(), strict=True
    ):
        assert plain == (letters.get(colour, sign), colour)


@given(st.integers(40, 150), st.integers(20, 100))
def test_the_letters_of_a_curve_stand_as_far_apart_wherever_it_was_measured(points: int, columns: int):
    picture = _drawing({"total": [(100 * place / points, 5.0) for place in range(points + 1)]}, columns, 8)
    at = [column for (column, _), (sign, _) in sorted(_cells(picture, {"total": "T"}).items()) if sign == "T"]
    assert at[0] <= 2
    assert at[-1] >= picture.x.cells - 16
    assert all(8 <= after - before <= 16 for before, after in itertools.pairwise(at))


def test_curves_that_lie_on_each_other_have_their_letters_side_by_side():
    points = [(0.0, 5.0), (30.0, 5.0), (60.0, 5.0), (100.0, 5.0)]
    picture = _drawing({"a": points, "b": points, "c": points}, 60, 8)
    rows = plot.draw(picture, {"a": "A", "b": "B", "c": "C"})
    line = next(text for row in rows if "A" in (text := "".join(signs for signs, _ in row)))
    assert re.findall("[A-C]+", line) == ["ABC", "CAB", "CAB", "CBA"]


def test_letters_at_points_far_apart_stand_no_closer_where_points_are_close():
    often = [(80.0 + place, 5.0) for place in range(15)]
    picture = _drawing({"a": [(0.0, 5.0), (25.0, 5.0), (50.0, 5.0), *often]}, 100, 8)
    at = [column for (column, _), (sign, _) in sorted(_cells(picture, {"a": "A"}).items()) if sign == "A"]
    assert len(at) == 5
    assert all(after - before >= 12 for before, after in itertools.pairwise(at))


@given(_number, st.integers(1, 1000), st.integers(4, 60))
@example(0, 7, 18)
def test_the_numbers_of_a_scale_are_in_the_middle_of_their_rows(low: int, span: int, rows: int):
    """The twin tries each number of rows between two numbers, and each row for the first of them."""
    scale, numbers = upwards(low, low + span, rows)
    assert scale.low <= low
    assert low + span <= scale.high
    for place, _ in numbers:
        assert scale.value(scale.cell(place)) == pytest.approx(place, abs=1e-6 * span)
    if len(numbers) > 2:
        apart = scale.cell(numbers[1][0]) - scale.cell(numbers[0][0])
        step = Fraction(numbers[1][0] - numbers[0][0]).limit_denominator(1000)
        assert not any(
            _holds(Fraction(numbers[0][0]).limit_denominator(1000), step / more, row, low, span, rows)
            for more in range(apart + 1, rows)
            for row in range(rows)
        )


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(2, 40))
@example(0.0, 0.0, 12)
@example(3.8137965029248067, 9.301942690060505, 3)
def test_what_can_not_be_negative_has_no_axis_below_zero(one: float, other: float, rows: int):
    low, high = sorted((one, other))
    scale, _ = upwards(*heights(low, high), rows)
    assert 0 <= scale.low <= low
    assert high <= scale.high


def _holds(number: Fraction, cell: Fraction, row: int, low: int, span: int, rows: int) -> bool:
    """Whether limits with the number in this row, and so much in each, hold all that is drawn."""
    bottom = number - row * cell
    return bottom <= low and low + span <= bottom + (rows - 1) * cell


def test_a_time_axis_has_whole_minutes_hours_or_days():
    def labels(seconds: float) -> list[str]:
        return [label for _, label in along(0.0, seconds, 64, time=True)[1]]

    assert labels(198) == ["0", "1m", "2m", "3m"]
    assert labels(9000) == ["0", "1h", "2h"]
    assert labels(5400) == ["0", "30m", "1h", "1h30"]
    assert labels(3e6) == ["0", "10d", "20d", "30d"]
