"""What is drawn of a run's curves: which, on which scales, with which marks, in which cells."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitnet_core.results.axes import ticks
from bitnet_tui.plot import _joined, dots, draw
from bitnet_tui.view.chart import BELOW, Drawing, drawing
from bitnet_tui.view.chart_text import letter, title
from bitnet_tui.view.lens import CHARTS, Axis, Lens
from bitnet_tui.view.run_fold import CURVES, RunFold
from bitnet_tui.view.scale import DOTS_ACROSS, DOTS_UP, Scale, along
from bitnet_tui.widgets import charts
from tests.builders import event

_loss = st.one_of(st.none(), st.floats(min_value=-1e4, max_value=1e8), st.just(0.0))


def _signs(picture: Drawing, letters: dict[str, str] | None = None) -> list[str]:
    """The rows, from above."""
    return ["".join(signs for signs, _ in row) for row in draw(picture, letters or {})]


def _view(losses, flip_at=None):
    fold = RunFold()
    fold.feed(event("metric", step=n, seen_tokens=n * 100, loss=y) for n, y in enumerate(losses))
    if flip_at is not None:
        fold.feed([event("flip", seen_tokens=flip_at, from_bits=8, to_bits=4)])
    return fold.view()


@settings(deadline=None, max_examples=60)
@given(st.lists(_loss, max_size=300), st.booleans(), st.integers(24, 120), st.integers(6, 40))
@example([2.0, 1.2e-77], True, 24, 15)
def test_every_curve_is_drawn_at_its_size(losses, log, columns, rows):
    picture = drawing(_view(losses), CURVES, columns, rows, log=log)
    if all(y is None for y in losses):
        assert picture is None
        return
    points = [p for _, segments in picture.curves for segment in segments for p in segment]
    assert len(points) <= 2 * columns + 1
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in points)
    assert picture.log == (log and any(y is not None and y > 0 for y in losses))
    lines = _signs(picture)
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
    assert all(picture.y.low - 1e-9 <= place <= picture.y.high + 1e-9 for place, _ in picture.y_ticks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.6, 14, ["1", "4", "16", "64"]),
        (0.002, 0.02, ["0.002", "0.005", "0.01", "0.02"]),
        (6.1, 13.5, ["8", "10", "12"]),
        (1, 1e8, ["1", "1k", "1M", "1G"]),
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
    assert picture.y.low == 0.0
    assert [label for _, label in picture.y_ticks] == ["1", "10", "100"]


def test_only_the_chosen_curves_are_drawn():
    fold = RunFold()
    fold.feed([event("metric", seen_tokens=n, loss=2.0, kl=1.0) for n in range(3)])
    assert [name for name, _ in drawing(fold.view(), ("kl",), 80, 20, log=False).curves] == ["kl"]


@pytest.mark.parametrize("losses", [[1.0], [2.0, 2.0, 2.0], [0.0], [5e-324, 0.0]])
def test_a_point_or_a_flat_line_has_an_axis(losses):
    picture = drawing(_view(losses), CURVES, 80, 20, log=False)
    assert picture.x.low < picture.x.high
    assert picture.y.low < picture.y.high


@pytest.mark.parametrize("columns", [70, 60, 52, 120])
@pytest.mark.parametrize("apart", [0.0, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("names", [("kl", "ce"), ("loss", "kl", "ce"), CURVES])
def test_no_curve_hides_another(columns, apart, names):
    """Curves that lie on each other take turns, so that each has a fair part of the cells."""
    fold = RunFold()
    for n in range(200):
        values = {name: 5 * math.exp(-n / 55) + apart * place for place, name in enumerate(names)}
        fold.feed([event("metric", step=n, seen_tokens=n * 745, **values)])
    rows = draw(drawing(fold.view(), CURVES, columns, 18, log=False))
    cells = [sum(len(signs) for row in rows for signs, colour in row if colour == name) for name in names]
    assert min(cells) >= columns / len(names) * 0.5


@pytest.mark.parametrize("apart", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("columns", [60, 83, 120])
def test_of_two_near_curves_each_has_its_part_of_the_cells_that_they_share(columns: int, apart: float):
    """Whatever else is in the chart: the total above them and the format below."""
    fold = RunFold()
    for n in range(200):
        kl = 4 * math.exp(-n / 55) + 0.2 * math.sin(n / 3)
        fold.feed([event("metric", step=n, seen_tokens=n * 745, loss=kl + 5, kl=kl, ce=kl + apart, format=0.1)])
    picture = drawing(fold.view(), CURVES, columns, 24, log=False)
    own = {name: dots(segments, picture.x, picture.y) for name, segments in picture.curves}
    shared = (own["kl"].keys() & own["ce"].keys()) - own["loss"].keys() - own["format"].keys()
    rows = [[colour for signs, colour in row for _ in signs][picture.left :] for row in draw(picture)[:-BELOW]]
    seen = [rows[-1 - row][column] for column, row in shared]
    assert len(seen) >= 20
    assert min(seen.count("kl"), seen.count("ce")) >= 0.4 * len(seen)


def test_a_steep_curve_does_not_hide_what_it_crosses():
    """What two share goes to the one with fewer cells of its own."""
    fold = RunFold()
    for n in range(200):
        fold.feed([event("metric", step=n, seen_tokens=n * 745, loss=6.0, ce=6 + 3 * math.sin(n / 4))])
    picture = drawing(fold.view(), CURVES, 80, 12, log=False)
    seen = Counter(colour for row in draw(picture) for signs, colour in row for _ in signs)
    own = {name: len(dots(segments, picture.x, picture.y)) for name, segments in picture.curves}
    assert seen["loss"] >= 0.9 * own["loss"] and seen["ce"] >= own["ce"] - own["loss"]


def test_what_is_drawn_of_a_run_stays_as_it_is_when_the_run_grows():
    def rows(steps: int) -> list[str]:
        fold = RunFold()
        for n in range(steps):
            fold.feed([event("metric", step=n, seen_tokens=n, loss=2 + math.sin(n / 7), ce=2 + math.cos(n / 9))])
        x, y = Scale(0.0, 200.0, 80, DOTS_ACROSS), Scale(0.0, 4.0, 12, DOTS_UP)
        curves = {curve.name: dots(curve.segments, x, y) for curve in fold.view().curves if curve.name in CURVES}
        return [f"{cell} {sign} {name}" for cell, (sign, name) in sorted(_joined(curves).items()) if cell[0] < 30]

    assert rows(100) == rows(150) == rows(200)


def test_without_colours_each_curve_has_its_letter():
    fold = RunFold()
    fold.feed(event("metric", step=n, seen_tokens=n * 100, loss=3, kl=3, ce=3) for n in range(200))
    picture = drawing(fold.view(), CURVES, 80, 12, log=False)
    letters = {name: letter(name) for name, _ in picture.curves}
    assert sorted(letters.values()) == ["C", "K", "T"]
    drawn = "".join(_signs(picture, letters))
    assert all(drawn.count(one) >= 3 for one in letters.values())
    assert not set(letters.values()) & set("".join(_signs(picture)))
    for chart in CHARTS:
        marks = [letter(name) for name in chart.curves]
        assert len(set(marks)) == len(marks)
    words = title(CHARTS[0], fold.view(), Lens(), Axis("tokens"), 78, alone=True, letters=True)
    assert [span.text for span in words if span.style.startswith("curve-")] == ["T ", "K ", "C "]


def test_the_letters_of_a_sparse_curve_stand_where_it_was_measured():
    fold = RunFold()
    fold.feed(event("metric", step=n, seen_tokens=n * 100, loss=9 - n / 40) for n in range(200))
    fold.feed(event("metric", step=n, seen_tokens=n * 100, kl=12.4 if n == 0 else 5) for n in (0, 60, 130, 199))
    picture = drawing(fold.view(), CURVES, 80, 12, log=False)
    drawn = _signs(picture, {name: letter(name) for name, _ in picture.curves})
    places = [(row, column) for row, signs in enumerate(drawn) for column, sign in enumerate(signs) if sign == "K"]
    assert sorted(column for _, column in places) == [
        picture.left + picture.x.cell(n * 100) for n in (0, 60, 130, 199)
    ]
    assert sum(signs.count("T") for signs in drawn) >= 3


def test_seams_are_marked_where_they_are():
    view = replace(_view([3.0 - n * 0.01 for n in range(100)]), seams=(2_500.0, 5_000.0, 99_999.0))
    picture = drawing(view, CURVES, 80, 20, log=False)
    assert picture.seams == (2_500.0, 5_000.0)
    assert sum(line.count("║") == 2 for line in _signs(picture)) >= 12


def test_a_flip_and_a_seam_at_one_place_are_both_to_be_seen():
    view = replace(_view([3.0] * 100, flip_at=5_000), seams=(5_000.0,))
    drawn = _signs(drawing(view, CURVES, 80, 20, log=False))
    assert min(sum(sign in line for line in drawn) for sign in "┊║") >= 7


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(6, 60))
@example(52001.0, 47999.0, 6)
def test_heights_are_the_same_number_of_rows_apart(low: float, span: float, rows: int) -> None:
    picture = drawing(_view([low, low + span]), ("loss",), 80, rows, log=False)
    assert picture is not None
    assert len(_rows_apart(picture)) <= 1
    assert picture.y.low <= low and low + span <= picture.y.high


@given(st.floats(1e-6, 1e6), st.floats(100, 1e9), st.integers(9, 60))
@example(0.08, 180.0, 10)
def test_powers_of_ten_are_the_same_number_of_rows_apart(low: float, times: float, rows: int) -> None:
    picture = drawing(_view([low, low * times]), ("loss",), 80, rows, log=True)
    assert picture is not None
    places = [place for place, _ in picture.y_ticks]
    if all(place == round(place) for place in places) and 2 * (len(places) + 1) <= rows - 3:
        assert len(_rows_apart(picture)) <= 1
    assert picture.y.low <= math.log10(low) and math.log10(low * times) <= picture.y.high


@given(st.floats(0.2, 20), st.floats(8, 90), st.integers(10, 60))
@example(0.35, 43.0, 10)
@example(7.0, 10.0, 10)
def test_logarithmic_numbers_of_a_training_are_the_same_number_of_rows_apart(low: float, times: float, rows: int):
    picture = drawing(_view([low, low * times]), ("loss",), 80, rows, log=True)
    assert picture is not None
    assert len(picture.y_ticks) > 1
    assert len(_rows_apart(picture)) == 1
    assert picture.y.low <= math.log10(low) and math.log10(low * times) <= picture.y.high


def _rows_apart(picture: Drawing) -> set[int]:
    """How many rows the numbers of the other axis are apart."""
    at = [picture.y.cell(place) for place, _ in picture.y_ticks]
    return {b - a for a, b in itertools.pairwise(at)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=60), st.integers(30, 120), st.integers(8, 40))
def test_a_curve_is_in_the_row_of_the_number_that_it_has(losses, columns, rows):
    """In the middle of the row, where the number is as well."""
    picture = drawing(_view(losses), ("loss",), columns, rows, log=False)
    for place, label in picture.y_ticks:
        level = ((picture.x.low, place), (picture.x.high, place))
        drawn = _signs(replace(picture, curves=(("loss", (level,)),)))[:-BELOW]
        (row,) = [row for row in drawn if set(row) & set("⠒⠤")]
        assert row[: picture.left].strip("┤ ") == label


@pytest.mark.parametrize("columns", [50, 81, 120])
@pytest.mark.parametrize("at", [1, 13, 50, 98])
def test_a_change_is_marked_where_the_curve_changes(columns: int, at: int):
    view = _view([1.0 if n < at else 9.0 for n in range(100)], flip_at=at * 100)
    picture = drawing(view, ("loss",), columns, 20, log=False)
    rows = _signs(picture)[:-BELOW]
    marked = [row.index("┊") for row in rows if "┊" in row]
    assert len(set(marked)) == 1
    low, high = picture.y.cell(1.0), picture.y.cell(9.0)
    jump = {rows[-1 - row][marked[0] - 1 : marked[0] + 1].strip("┊ ") for row in range(low + 1, high)}
    assert "" not in jump


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(1.0, 1e9), st.integers(30, 200), st.booleans())
@example(100.0, 200.0, 80, True)
def test_numbers_along_the_chart_are_even_and_below_their_places(low: float, span: float, columns: int, time: bool):
    scale, numbers = along(low, low + span, columns, time=time)
    cells = [scale.cell(place) for place, _ in numbers]
    assert len({b - a for a, b in itertools.pairwise(cells)}) <= 1
    assert scale.low <= low
    assert low + span <= scale.high
    assert scale.high - scale.low <= span * 1.2
    assert all(b - a > len(label) for (a, b), (_, label) in zip(itertools.pairwise(cells), numbers, strict=False))


@pytest.mark.parametrize(
    ("number", "most", "across"), [(7, 3, 3), (4, 3, 2), (5, 3, 3), (2, 3, 2), (1, 3, 1), (7, 1, 1)]
)
def test_a_grid_has_as_few_rows_as_there_is_room_for(number: int, most: int, across: int):
    assert charts._even(number, most) == across
