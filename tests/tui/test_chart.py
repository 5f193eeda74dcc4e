"""What plotext is given to draw, and that it accepts it."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitnet_tui.view.chart import Drawing, drawing, lettered, stripes, ticks
from bitnet_tui.view.chart_text import letter, title
from bitnet_tui.view.lens import CHARTS, Axis, Lens
from bitnet_tui.view.run_fold import CURVES, RunFold
from bitnet_tui.widgets import charts
from tests.builders import event

_COLOURS = dict.fromkeys(("axis", "flip", "bad", *CURVES), (1, 2, 3))
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_loss = st.one_of(st.none(), st.floats(min_value=-1e4, max_value=1e8), st.just(0.0))


def _view(losses, flip_at=None):
    fold = RunFold()
    fold.feed(event("metric", step=n, seen_tokens=n * 100, loss=y) for n, y in enumerate(losses))
    if flip_at is not None:
        fold.feed([event("flip", seen_tokens=flip_at, from_bits=8, to_bits=4)])
    return fold.view()


@settings(deadline=None, max_examples=60)
@given(st.lists(_loss, max_size=300), st.booleans(), st.integers(24, 120), st.integers(6, 40))
def test_every_curve_is_drawn_at_its_size(losses, log, columns, rows):
    from bitnet_tui.plot import build

    picture = drawing(_view(losses), CURVES, columns, rows, log=log)
    if all(y is None for y in losses):
        assert picture is None
        return
    points = [p for _, segments in picture.curves for segment in segments for p in segment]
    assert len(points) <= 2 * columns + 1
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in points)
    assert picture.log == (log and any(y is not None and y > 0 for y in losses))
    lines = _ANSI.sub("", build(picture, columns, rows, _COLOURS)).rstrip("\n").split("\n")
    assert len(lines) == rows
    assert all(len(line) == columns for line in lines)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
@example(1.0, 400_001.0, 2)
def test_ticks_are_round_few_and_inside(low, extent, most):
    high = low + extent
    if high - low <= abs(high) * 1e-9:
        return
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most + 1
    tolerance = (high - low) * 1e-6
    assert all(low - tolerance <= place <= high + tolerance for place, _ in found)
    assert [place for place, _ in found] == sorted(place for place, _ in found)


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.integers(2, 12))
def test_logarithmic_ticks_are_round_few_and_inside(low, times, most):
    view = _view([low, low * times])
    picture = drawing(view, ("loss",), 80, 2 * most, log=True)
    assert 1 <= len(picture.y_ticks) <= most + 1
    assert all(picture.y_limits[0] - 1e-9 <= place <= picture.y_limits[1] + 1e-9 for place, _ in picture.y_ticks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.6, 14, ["1", "2", "5", "10"]),
        (6.1, 13.5, ["8", "10", "12"]),
        (1, 1e8, ["1", "100", "10k", "1M", "100M"]),
    ],
)
def test_logarithmic_ticks_are_labelled_with_plain_numbers(low, high, labels):
    found = drawing(_view([low, high]), ("loss",), 80, 10, log=True).y_ticks
    assert [label.rstrip("0").rstrip(".") if "." in label else label for _, label in found] == labels


def test_labels_of_seen_tokens():
    assert [label for _, label in ticks(0, 150_000, 4)] == ["0", "50k", "100k", "150k"]
    assert [label for _, label in ticks(0, 0.9, 3)] == ["0", "0.5"]


def test_the_flip_is_marked_only_once_it_is_on_the_axis():
    losses = [3.0 - n * 0.01 for n in range(100)]
    assert drawing(_view(losses, 5_000), CURVES, 80, 20, log=False).flips == (5_000,)
    assert drawing(_view(losses, 99_999), CURVES, 80, 20, log=False).flips == ()
    assert drawing(_view(losses), CURVES, 80, 20, log=False).flips == ()


def test_values_that_were_not_finite_are_marked():
    picture = drawing(_view([2.0, None, 1.9]), CURVES, 80, 20, log=False)
    assert picture.not_finite == (100.0,)
    assert len(picture.curves[0][1]) == 2


def test_a_logarithm_falls_back_when_nothing_is_positive():
    assert drawing(_view([-1.0, -2.0]), CURVES, 80, 20, log=True).log is False
    picture = drawing(_view([100.0, 0.0, 1.0]), CURVES, 80, 20, log=True)
    assert picture.y_limits == (0.0, 2.0)
    assert [label for _, label in picture.y_ticks][::2] == ["1", "5", "20", "100"]


def test_only_the_chosen_curves_are_drawn():
    fold = RunFold()
    fold.feed([event("metric", seen_tokens=n, loss=2.0, kl=1.0) for n in range(3)])
    assert [name for name, _ in drawing(fold.view(), ("kl",), 80, 20, log=False).curves] == ["kl"]


@pytest.mark.parametrize("losses", [[1.0], [2.0, 2.0, 2.0], [0.0]])
def test_a_point_or_a_flat_line_has_an_axis(losses):
    picture = drawing(_view(losses), CURVES, 80, 20, log=False)
    assert picture.x_limits[0] < picture.x_limits[1]
    assert picture.y_limits[0] < picture.y_limits[1]


_segment = st.lists(st.tuples(st.floats(0, 100), st.floats(-10, 10)), min_size=1, max_size=40).map(
    lambda points: tuple(sorted(points))
)


@example([((100.0, 0.0),)], 23, 1)
@given(st.lists(_segment, max_size=3), st.integers(1, 30), st.integers(1, 4))
def test_stripes_are_disjoint_and_together_the_whole_curve(segments, turns, of):
    found = [stripes(segments, (0.0, 100.0), turns, mine, of) for mine in range(of)]
    width = 100 / turns
    for mine, parts in enumerate(found):
        for x, _ in (point for part in parts for point in part):
            assert any(width * turn - 1e-6 <= x <= width * (turn + 1) + 1e-6 for turn in range(mine, turns, of))
    drawn = {point for parts in found for part in parts for point in part}
    assert {point for segment in segments for point in segment} <= drawn
    for segment in segments:
        for (x0, y0), (x1, y1) in itertools.pairwise(segment):
            for x, y in drawn:
                if len(segments) == 1 and x0 < x < x1:
                    assert y == pytest.approx(y0 + (x - x0) / (x1 - x0) * (y1 - y0), abs=1e-6)


@pytest.mark.parametrize("columns", [70, 60, 52, 120])
@pytest.mark.parametrize("apart", [0.0, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("names", [("kl", "ce"), ("loss", "kl", "ce"), CURVES])
def test_no_curve_hides_another(columns, apart, names):
    """Curves that lie on each other take turns, so that each has a fair part of the cells."""
    from bitnet_tui.plot import build

    fold = RunFold()
    for n in range(200):
        values = {name: 5 * math.exp(-n / 55) + apart * place for place, name in enumerate(names)}
        fold.feed([event("metric", step=n, seen_tokens=n * 745, **values)])
    colours = {**_COLOURS, **{name: (10 + place, 0, 0) for place, name in enumerate(CURVES)}}
    text = build(drawing(fold.view(), CURVES, columns, 18, log=False), columns, 18, colours)
    cells = [sum(map(len, re.findall(rf"38;2;{colours[name][0]};0;0m([^\x1b]+)", text))) for name in names]
    assert min(cells) >= columns / len(names) * 0.5


def test_without_colours_each_curve_has_its_letter():
    from bitnet_tui.plot import build

    fold = RunFold()
    fold.feed(event("metric", step=n, seen_tokens=n * 100, loss=3, kl=3, ce=3) for n in range(200))
    picture = drawing(fold.view(), CURVES, 80, 12, log=False)
    letters = {name: letter(name) for name, _ in picture.curves}
    assert sorted(letters.values()) == ["C", "K", "T"]
    drawn = _ANSI.sub("", build(picture, 80, 12, _COLOURS, letters))
    assert all(drawn.count(one) >= 3 for one in letters.values())
    assert not set(letters.values()) & set(_ANSI.sub("", build(picture, 80, 12, _COLOURS)))
    for chart in CHARTS:
        marks = [letter(name) for name in chart.curves]
        assert len(set(marks)) == len(marks)
    words = title(CHARTS[0], fold.view(), Lens(), Axis("tokens"), 78, alone=True, letters=True)
    assert [span.text for span in words if span.style.startswith("curve-")] == ["T ", "K ", "C "]


def test_seams_are_marked_where_they_are():
    from bitnet_tui.plot import build

    view = replace(_view([3.0 - n * 0.01 for n in range(100)]), seams=(2_500.0, 5_000.0, 99_999.0))
    picture = drawing(view, CURVES, 80, 20, log=False)
    assert picture.seams == (2_500.0, 5_000.0)
    lines = _ANSI.sub("", build(picture, 80, 20, _COLOURS)).split("\n")
    assert sum(line.count("┆") == 2 for line in lines) >= 12


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 5)), min_size=1, max_size=20), st.integers(1, 9))
def test_a_letter_stands_on_its_curve(points, many):
    """Also of a curve with few points, between which letters of others would hide it."""
    segment = tuple(sorted(dict(points).items()))
    found = lettered([segment], (0.0, 100.0), many, 0.5)
    assert found
    xs, ys = zip(*segment, strict=True)
    for x, y in found:
        assert y == pytest.approx(np.interp(x, xs, ys), abs=1e-6)
    inside = [x for x in (100 / many * (place + 0.5) for place in range(many)) if xs[0] <= x <= xs[-1]]
    assert len(found) == max(1, len(inside))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(6, 60))
@example(52001.0, 47999.0, 6)
def test_heights_are_the_same_number_of_rows_apart(low: float, span: float, rows: int) -> None:
    picture = drawing(_view([low, low + span]), ("loss",), 80, rows, log=False)
    assert picture is not None
    assert len(_rows_apart(picture, rows)) <= 1
    bottom, top = picture.y_limits
    assert bottom <= low and low + span <= top


@given(st.floats(1e-6, 1e6), st.floats(100, 1e9), st.integers(9, 60))
@example(0.08, 180.0, 10)
def test_powers_of_ten_are_the_same_number_of_rows_apart(low: float, times: float, rows: int) -> None:
    picture = drawing(_view([low, low * times]), ("loss",), 80, rows, log=True)
    assert picture is not None
    places = [place for place, _ in picture.y_ticks]
    if all(place == round(place) for place in places) and 2 * (len(places) + 1) <= rows - 3:
        assert len(_rows_apart(picture, rows)) <= 1
    assert picture.y_limits[0] <= math.log10(low) and math.log10(low * times) <= picture.y_limits[1]


def _rows_apart(picture: Drawing, rows: int) -> set[int]:
    """How many rows the numbers of the other axis are apart, each in the row in which plotext writes it."""
    (bottom, top), gaps = picture.y_limits, rows - 3
    at = [math.floor(round(0.5 + gaps * (place - bottom) / (top - bottom), 8)) for place, _ in picture.y_ticks]
    return {b - a for a, b in itertools.pairwise(at)}


@pytest.mark.parametrize(
    ("number", "most", "across"), [(7, 3, 3), (4, 3, 2), (5, 3, 3), (2, 3, 2), (1, 3, 1), (7, 1, 1)]
)
def test_a_grid_has_as_few_rows_as_there_is_room_for(number: int, most: int, across: int):
    assert charts._even(number, most) == across
