"""What is looked at of the curves, and that a chart's cost does not grow with the run."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.curves import TRACKED
from bitnet_core.runs.events import Flip
from bitnet_tui.view.chart import drawing, smoothed
from bitnet_tui.view.chart_text import HIDDEN, title, toggled, turned
from bitnet_tui.view.lens import (
    ALONE,
    CHARTS,
    SMOOTH,
    Axis,
    By,
    Lens,
    extent,
    first_chart,
    shown_charts,
    value_at,
)
from bitnet_tui.view.run_fold import RunFold, RunView
from bitnet_tui.view.spans import unstyled
from tests.builders import event

WHOLE = (100.0, 1100.0)


def _fold(steps: int, **figures) -> RunView:
    fold = RunFold()
    values = {"loss": 3.0, "kl": 1.0, "ce": 2.0, "format": 0.5, "lr": 1e-3, "grad_norm": 1.0, **figures}
    fold.feed(event("metric", t=50.0 + 2 * n, step=n, seen_tokens=n * 100, **values) for n in range(1, steps + 1))
    return fold.view()


_moves = st.lists(
    st.one_of(
        st.tuples(st.just("zoomed"), st.floats(0.1, 10), st.one_of(st.none(), st.floats(0, 1200))),
        st.tuples(st.just("panned"), st.floats(-2, 2)),
        st.tuples(st.just("pointed"), st.floats(-2, 2)),
    ),
    max_size=20,
)


@given(_moves)
def test_whatever_is_pressed_the_window_stays_in_the_run_and_the_crosshair_in_the_window(moves):
    lens = Lens()
    for name, *arguments in moves:
        lens = getattr(lens, name)(WHOLE, *arguments)
        left, right = lens.window or WHOLE
        assert WHOLE[0] <= left < right <= WHOLE[1] + 1e-6
        assert lens.cursor is None or left - 1e-6 <= lens.cursor <= right + 1e-6
    assert lens.whole() == Lens()


@given(st.floats(1.1, 8), st.floats(0, 1))
def test_zooming_keeps_the_place_under_the_mouse_and_back_is_back(factor, share):
    at = WHOLE[0] + share * (WHOLE[1] - WHOLE[0])
    near = Lens().zoomed(WHOLE, factor, at)
    left, right = near.window
    assert (at - left) / (right - left) == pytest.approx(share, abs=1e-6)
    assert near.zoomed(WHOLE, 1 / factor, at).window is None


def test_every_chart_is_reached_and_left_in_both_directions():
    view = _fold(3)
    there, names = Lens(), []
    for _ in range(20):
        there = there.next_chart(view, 1)
        names.append(there.chart)
        if there.chart is None:
            break
    assert names == ["loss", *(one.name for one in ALONE), "grad", "lr", None]
    assert Lens().next_chart(view, 1, grid=False).chart == "total"
    assert Lens("total").next_chart(view, -1, grid=False).chart is None
    assert first_chart(view) is first_chart(_fold(1, heldout_loss=2.0)) is CHARTS[0]
    assert Lens().next_chart(_fold(1, heldout_loss=2.0), 1, grid=False).chart == "heldout"
    evaluated = _fold(3, heldout_loss=2.0)
    assert first_chart(evaluated) is CHARTS[1], "once it has a course, the loss that health speaks of"
    assert Lens().next_chart(evaluated, 1, grid=False).chart == "loss"
    assert Lens("loss").next_chart(evaluated, -1, grid=False).chart is None
    assert Lens().next_chart(view, -1).chart == "lr"
    assert [chart.name for chart in shown_charts(view)] == ["loss", "grad", "lr"]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 9)), min_size=3, max_size=40), st.floats(0, 1))
def test_an_axis_is_what_was_done_after_so_many_tokens(gaps, share):
    """The twin walks over all points. Time has no pauses between runs."""
    seen, clock, fold = 0.0, 1000.0, RunFold()
    points = []
    for step, (tokens, seconds) in enumerate(gaps, 1):
        seen, clock = seen + tokens, clock + seconds
        points.append((seen, step, clock))
        fold.feed([event("metric", t=clock, step=step, seen_tokens=seen, loss=1.0)])
    view = fold.view()
    at = points[0][0] + share * (points[-1][0] - points[0][0])
    before, after = next((a, b) for a, b in itertools.pairwise(points) if a[0] <= at <= b[0])
    part = (at - before[0]) / (after[0] - before[0])
    steps, clocks = Axis.of(view, "step"), Axis.of(view, "time")
    assert steps.place(at) == pytest.approx(before[1] + part * (after[1] - before[1]))
    spent = before[2] + part * (after[2] - before[2]) - points[0][2]
    assert clocks.place(at) == pytest.approx(spent, abs=1e-6)
    assert clocks.seen_at(clocks.place(at)) == pytest.approx(at)
    resumed = Axis.of(replace(view, seams=(points[0][0],)), "time")
    assert resumed.place(points[-1][0]) == pytest.approx(points[-1][2] - points[1][2], abs=1e-6)


@pytest.mark.parametrize("budget", [None, 30_000.0])
def test_what_is_drawn_of_a_growing_run_moves_seldom_and_ends_with_its_budget(budget: float | None):
    ends = []
    for steps in range(100, 301):
        view = _fold(steps)
        left, right = extent(replace(view, vitals=replace(view.vitals, budget=budget))) or (0.0, 0.0)
        assert left == 100.0
        assert steps * 100 <= right <= left + (steps * 100 - left) * 17 / 16
        assert budget is None or right <= budget
        ends.append(right)
    assert len(set(ends)) <= 2 * 17
    assert budget is None or ends[-1] == budget


def test_the_window_is_what_is_drawn_and_its_scale_fits_it():
    view = _fold(100)
    picture = drawing(view, ("loss",), 80, 20, log=False, window=(2_000.0, 3_000.0))
    assert picture.x.low == 2_000.0
    assert 3_000.0 <= picture.x.high <= 3_100.0
    assert all(2_000 <= x <= 3_000 for segment in picture.curves[0][1] for x, _ in segment)
    by_time = drawing(view, ("loss",), 80, 20, log=False, axis=Axis.of(view, "time"), window=extent(view))
    assert by_time.x.low == 0.0
    assert 198.0 <= by_time.x.high <= 198.0 * 17 / 16 * 1.1


def test_what_is_drawn_does_not_grow_with_the_run():
    sizes = []
    for steps in (1_500, 4_000):
        view = _fold(steps)
        points = [sum(map(len, curve.segments)) for curve in view.curves]
        picture = drawing(view, CHARTS[0].curves, 80, 20, log=False, axis=Axis.of(view, "step"))
        sizes.append((max(points), sum(len(s) for _, curve in picture.curves for s in curve)))
        assert len(view.curves) == len(TRACKED)
    assert all(most <= 2 * 1024 and drawn <= 4 * 161 for most, drawn in sizes)


@pytest.mark.parametrize(
    ("seen", "value"),
    [(-2, None), (-1, 1.0), (0, 1.0), (4, 1.4), (6, 1.6), (10, 2.0), (11, 2.0), (15, None), (19, 3.0), (21, 3.0)],
)
def test_the_crosshair_reads_the_line_as_it_is_drawn_and_nothing_in_a_gap_or_beside_the_curve(seen, value):
    assert value_at((((0.0, 1.0), (10.0, 2.0)), ((20.0, 3.0),)), seen, near=1.0) == value
    assert value_at((((0.0, 1.0), (10.0, 16.0)),), 5.0, near=1.0, log=True) == pytest.approx(4.0)
    assert value_at((((0.0, -1.0), (10.0, 16.0)),), 5.0, near=1.0, log=True) == pytest.approx(7.5)
    assert value_at((), seen, near=1.0) is None


def test_a_title_says_that_a_curve_has_no_value_in_a_gap():
    fold = RunFold()
    for step in (*range(1, 41), *range(81, 121)):
        fold.feed([event("metric", step=step, seen_tokens=step * 100, loss=4.0 if step > 40 else 5.0, kl=1.0)])
        if step == 40:
            fold.feed([event("metric", step=60, seen_tokens=6000, loss=None, kl=1.0)])
    chart = next(one for one in ALONE if one.name == "total")
    words = [unstyled(title(chart, fold.view(), Lens(cursor=at), Axis("tokens"), 80, alone=True))
             for at in (3_000.0, 6_000.0, 9_000.0)]  # fmt: skip
    assert [line.split("━ ")[1].split()[0] for line in words] == ["5.00", "none", "4.00"]


def test_what_a_resume_changed_is_told_before_that_it_was_one():
    view = replace(_fold(5), seams=(1.0,), turns=("LR 0.0005 → 0.001",))

    def told(cells: int) -> str:
        return unstyled(title(CHARTS[0], view, Lens(), Axis("tokens"), cells, alone=True)).partition("║ ")[2]

    needed = next(cells for cells in range(20, 200) if told(cells).startswith("LR 0.0005 → 0.001"))
    assert told(needed - 2).startswith("LR 0.0005→0.001")
    assert told(needed - 3).startswith("LR→0.001") and told(needed - 9).startswith("LR→0.001")
    assert told(needed - 10).startswith("resumed")


@pytest.mark.parametrize("flip", [None, Flip(step=500, seen_tokens=50_000, from_bits=8, to_bits=4)])
def test_the_name_of_a_chart_stays_where_the_axis_and_what_was_changed_have_no_room(flip: Flip | None):
    figures = {"seams": (1.0,), "turns": ("LR 0.0005 → 0.0002",), "flip": flip}
    view = replace(_fold(5, loss=5.28, kl=3.94, ce=4.72, format=0.61), **figures)
    texts = [unstyled(title(CHARTS[0], view, Lens(cursor=at), Axis("tokens"), 78, alone=True)) for at in (None, 3.0)]
    assert texts[0].startswith("‹ loss › ━ total 5.28 ━ KL 3.94 ━ CE 4.72 ━ format 0.610 ")
    assert "║ LR→0.0002" in texts[0] and ("┊ A8→A4" in texts[0]) == (flip is not None)
    assert texts[1].startswith("‹ loss › ") and "│ 3" in texts[1]


_RESUMED = {"seams": (40_000.0,), "turns": ("LR 0.0005 → 0.001",)}


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("window", [None, (36_600.0, 93_800.0)])
@pytest.mark.parametrize("cells", [78, 83, 120])
def test_a_crosshair_moves_nothing_in_the_line_above_the_chart_but_its_right_end(
    cells: int, window: tuple[float, float] | None, resumed: bool
):
    fold = RunFold()
    for step in range(1, 1001):
        falls = 9 - 8 * step / 1000
        fold.feed([event("metric", step=step, seen_tokens=step * 100, loss=falls, kl=falls / 9, ce=2.0, format=0.7)])
    view = replace(fold.view(), flip=Flip(step=500, seen_tokens=50_000, from_bits=8, to_bits=4))
    view = replace(view, **_RESUMED) if resumed else view

    def told(lens: Lens) -> str:
        return unstyled(title(CHARTS[0], view, lens, Axis("tokens"), cells, alone=True))

    texts = [told(Lens(window=window, cursor=at)) for at in (None, 61_234.0, 38_000.0)]
    for sign in ("‹", "›", "━ total", "━ KL", "━ CE", "━ format"):
        assert len({text.index(sign) for text in texts}) == 1, texts
    assert all("│ 61.2k" in texts[1] and text.endswith("0 shows all") == (window is not None) for text in texts)
    assert window or resumed or texts[0].endswith(" tokens →")


def test_the_mouse_is_told_of_above_a_chart_that_has_room_for_it():
    view = _fold(1000)

    def told(lens: Lens, by: By = "tokens") -> str:
        return unstyled(title(CHARTS[2], view, lens, Axis.of(view, by), 110, alone=True))

    assert told(Lens()).endswith("+ or wheel zooms · seen tokens →")
    window = Lens(window=(36_600.0, 93_800.0))
    assert told(window).endswith(" 36.6k – 93.8k tokens · drag moves  0 shows all")
    assert told(window, "step").endswith(" steps 366 – 938 · drag moves  0 shows all")
    with_cursor = Lens(window=(36_600.0, 93_800.0), cursor=61_000.0)
    assert told(with_cursor).endswith("│ 61k tokens  0 shows all"), "the way back stays where it is"


def test_each_cell_of_a_title_turns_where_it_says():
    view = _fold(5)
    shown_line = title(CHARTS[0], view, Lens(), Axis("tokens"), 78, alone=True)
    text = unstyled(shown_line)
    assert [turned(shown_line, text.index("‹") + cell) for cell in (0, 1)] == [-1, -1]
    assert [turned(shown_line, text.index("›") + cell) for cell in (-1, 0, 1)] == [1, 1, 1]
    assert turned(shown_line, text.index("KL")) is None
    assert turned(shown_line, text.index("seen tokens")) is None
    alone = title(CHARTS[2], view, Lens(), Axis("tokens"), 78, alone=True)
    assert turned(alone, 4) == 0
    for place in (text.index("━ KL"), text.index("KL"), text.index("1.00")):
        assert toggled(shown_line, place) == "kl"
    hidden = title(CHARTS[0], replace(view, seams=(9.0,)), Lens().toggled("format"), Axis("tokens"), 90, alone=True)
    assert toggled(hidden, unstyled(hidden).index("ormat")) == "format"
    assert toggled(hidden, unstyled(hidden).index("resumed")) is None
    assert toggled(hidden, unstyled(hidden).index("seen tokens")) is None
    assert toggled(alone, unstyled(alone).index("━")) is None


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=9), max_size=4),
    st.floats(1e-3, 1e3),
)
def test_a_smoothed_point_is_the_mean_of_what_came_before_weighed_by_its_distance(parts, back):
    xs = itertools.count()
    segments = tuple(tuple((float(next(xs)), y) for _, y in part) for part in parts)
    points = [point for segment in segments for point in segment]
    found = smoothed(segments, back)
    assert [len(one) for one in found] == [len(one) for one in segments]
    for x, y in (point for segment in found for point in segment):
        weights = [(math.exp((at - x) / back), value) for at, value in points if at <= x]
        mean = sum(weight * value for weight, value in weights) / sum(weight for weight, _ in weights)
        assert y == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert smoothed(segments, 0.0) == segments


def test_a_smoothed_curve_is_calmer_and_the_same_when_one_looks_nearer():
    fold = RunFold()
    fold.feed(event("metric", t=float(n), step=n, seen_tokens=n * 100, loss=3.0 + (-1) ** n) for n in range(1, 101))
    view = fold.view()
    rough = drawing(view, ("loss",), 200, 20, log=False)
    calm = drawing(view, ("loss",), 200, 20, log=False, smooth=SMOOTH[-1])
    near = drawing(view, ("loss",), 200, 20, log=False, smooth=SMOOTH[-1], window=(5e3, 6e3))
    assert calm.y.high - calm.y.low < rough.y.high - rough.y.low
    (_, (whole,)), (_, (part,)) = calm.curves[0], near.curves[0]
    assert set(part[1:-1]) <= set(whole)


def test_hidden_curves_are_neither_drawn_nor_told_but_never_all():
    view, lens = _fold(5), Lens().toggled("loss").toggled("ce")
    assert lens.drawn(CHARTS[0]) == ("kl", "format")
    text = unstyled(title(CHARTS[0], view, lens, Axis("tokens"), 78, alone=True))
    assert f"{HIDDEN} total" in text
    assert "total 3" not in text
    assert "KL 1.00" in text
    assert lens.toggled("loss").toggled("ce") == Lens()
    assert lens.only("ce", CHARTS[0]).drawn(CHARTS[0]) == ("ce",)
    assert lens.only("ce", CHARTS[0]).toggled("ce").only("ce", CHARTS[0]) == Lens()
    for name in ("kl", "format"):
        lens = lens.toggled(name)
    assert lens.drawn(CHARTS[0]) == CHARTS[0].curves
