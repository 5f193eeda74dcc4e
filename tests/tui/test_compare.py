"""The comparison: its curves and tables as lines, and its chart by keyboard and by mouse."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.curves import Curve
from bitnet_core.results.differing import Difference
from bitnet_core.results.verdict import LETTERS
from bitnet_core.runs.experiment import Workspace
from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.plot import draw
from bitnet_tui.screens.compare import CompareScreen
from bitnet_tui.screens.compare_with import CompareWithScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.view.chart import drawing
from bitnet_tui.view.choices import choices
from bitnet_tui.view.compared import (
    Chosen,
    CompareView,
    CompareWatcher,
    Overlay,
    _blocks,
    names_line,
    overlay,
    sentence_lines,
    table_lines,
)
from bitnet_tui.view.spans import unstyled
from tests.results.trainings import STEPS, TOKENS, made, trained, whole
from tests.tui.conftest import RecordingLaunch
from tests.tui.laid_out import faults
from tests.tui.pilots import click_on, notices, said, settled, shown, until, words


@pytest.fixture
def view(home: Path) -> CompareView:
    """Eight trainings, of which the last one has stopped half-way."""
    roots = [whole(home, f"run-{place}", 5 - place / 10, LR=f"{place + 1}e-4") for place in range(3)]
    half = made(home, "half")
    trained(half, 5.4, last=STEPS // 2, state="cancelled")
    return CompareWatcher([*map(Chosen, roots), *[Chosen(roots[0])] * 4, Chosen(half.root)], home).look()


def test_what_to_compare_with_begins_at_the_one_with_the_nearest_settings(home: Path):
    settings = {"new": "LR=1", "source": "LR=2\nKD_TAU=1", "one": "LR=2\nKD_TAU=2"}
    made = {name: Workspace(home).create(name, text) for name, text in settings.items()}
    others = choices(made["one"], home, 0.0)
    assert {one.name: one.nearest for one in others} == {"new": False, "source": True}
    (made["one"] / ".env").unlink()
    assert sum(one.nearest for one in choices(made["one"], home, 0.0)) == 1


def test_values_that_are_spelt_like_settings_are_told_as_they_are(view: CompareView):
    assert view.comparison is not None
    rows = (("TEMPLATE", ("unset", "LR")), ("TEACHER_PROVIDER", ("openai", "hf")))
    found = replace(view.comparison, differing=tuple(Difference(name, values, "collect") for name, values in rows))
    (_, said), _ = sentence_lines(replace(view, comparison=found), 1000, 2)
    assert unstyled(said) == ("Settings that differ: “Chat template” (A unset; B LR), “Teacher” (A openai; B hf).")


def test_each_training_has_its_own_curve_along_each_axis(view: CompareView):
    heldout = next(chart for chart in view.charts() if chart.name == "heldout_loss")
    ends = {}
    for by in ("tokens", "step", "time"):
        seen, axis = overlay(view, heldout, by)  # type: ignore[arg-type]
        assert [curve.name for curve in seen.curves] == list(LETTERS)
        ends[by] = [curve.segments[-1][-1][0] for curve in seen.curves]
        assert axis.place(3.5) == pytest.approx(3.5)  # the curves lie on it already
    assert ends["tokens"] == [STEPS * TOKENS] * 7 + [STEPS * TOKENS / 2]
    assert ends["step"] == pytest.approx([STEPS] * 7 + [STEPS / 2])
    assert ends["time"][-1] < ends["time"][0]
    marked = overlay(view, heldout, "step")[0]
    assert marked.flips == pytest.approx((STEPS * 9 // 10,))
    assert marked.flip_names == (LETTERS[:7],)


def test_each_flip_has_the_letter_of_its_curve_beside_its_upper_end():
    curves = tuple(Curve(name, (((0.0, 5.0), (100.0, high)),), ()) for name, high in (("A", 1.2), ("B", 2.0)))
    seen = Overlay(curves=curves, marked={-5.0: "C", 60.0: "A", 100.0: "B"})
    picture = drawing(seen, ("A", "B"), 60, 12, log=False)
    assert picture is not None and picture.y.low > 0, "no part of it is empty"
    assert "┊A" in (top := "".join(signs for signs, _ in draw(picture)[0]))
    assert "┊B" in top
    last = replace(picture, flips=(picture.x.value(picture.x.cells - 1),), flip_names=("AB",))
    assert "".join(signs for signs, _ in draw(last)[0]).endswith("AB┊"), "where there is no room on the other side"
    assert "C" not in top


def test_what_the_signs_of_the_results_mean_stands_above_the_tables(view: CompareView):
    for cells in (76, 196):
        legend, heads, *_ = map(unstyled, table_lines(view, cells))
        assert legend.endswith("– not measured")
        assert heads.startswith("results")


def test_no_line_of_the_tables_is_wider_than_there_is_room(view: CompareView):
    for cells in (56, 76, 116, 196):
        lines = table_lines(view, cells)
        assert max(sum(width(span.text) for span in line) for line in lines) <= cells
        assert unstyled(*lines).count("held-out agreement") == (1 if cells > 100 else 2)  # else in two blocks
        assert "Learning rate" in unstyled(*lines)


@given(many=st.integers(2, 8), across=st.integers(-3, 12))
def test_each_column_is_in_one_block(many: int, across: int):
    blocks = _blocks(many, across)
    assert [place for block in blocks for place in block] == list(range(many))
    assert all(len(block) <= max(1, across) for block in blocks)


async def test_while_the_runs_are_read_no_word_is_of_a_training_without_figures(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    def slow(watcher: CompareWatcher) -> CompareView:
        assert waited.wait(60)
        return look(watcher)

    waited, look = threading.Event(), CompareWatcher.look
    monkeypatch.setattr(CompareWatcher, "look", slow)
    roots = [whole(home, name, loss) for name, loss in (("a", 5.4), ("b", 5.0))]
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        pilot.app.compare(roots)  # type: ignore[attr-defined]
        await until(pilot, lambda: "Reading the curves…" in words(pilot))
        waited.set()
        await until(pilot, lambda: "held-out loss ›" in words(pilot) and "Reading" not in words(pilot))


def test_a_name_is_cut_only_where_all_of_them_have_no_room(home: Path):
    names = ("a", "b", "a-name-of-thirty-two-characters")
    for name in names:
        made(home, name)
    both = CompareWatcher([Chosen(home / name) for name in names], home).look()
    assert all(name in unstyled(names_line(both, 66)) for name in names)
    narrow = unstyled(names_line(both, 40))
    assert narrow.startswith("A a   B b   C a-name") and "…" in narrow and len(narrow) <= 40


@pytest.mark.parametrize("size", [(120, 34), (80, 24)])
async def test_the_tables_scroll_at_once(home: Path, size: tuple[int, int]):
    """Without a Tab first; the line of keys says that there is more."""
    roots = [whole(home, name, loss, LR=f"{loss}e-4") for name, loss in (("a", 5.4), ("b", 5.0))]
    trained(unevaluated := made(home, "c", LR="5.2e-4"), 5.2)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        pilot.app.compare([*roots, unevaluated.root])  # type: ignore[attr-defined]
        await settled(pilot)
        tables = pilot.app.screen.query_one("#table-scroll")
        end = tables.max_scroll_y
        assert end > 0
        places = (1, min(2, end), min(2, end) - 1, end, 0, end, 0)
        for key, place in zip(("down", "j", "up", "G", "home", "end", "g"), places, strict=True):
            await pilot.press(key)
            await until(pilot, lambda place=place: tables.scroll_offset.y == place)
        await click_on(pilot, "More")
        assert tables.scroll_offset.y == 1
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "More" not in words(pilot) and not tables.max_scroll_y)
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: "More" in words(pilot))
        await click_on(pilot, "“Evaluate” in C (enter opens it)")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        assert (pilot.app.screen.root.name, pilot.app.screen.chosen_stage) == ("c", "teacher")  # type: ignore[attr-defined]
        await pilot.press("escape", "enter")
        await until(pilot, lambda: "C c: run “Teacher baseline”" in words(pilot))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        assert pilot.app.screen.root.name == "b"  # type: ignore[attr-defined]
        await pilot.press("escape")
        for other in ((80, 32), (120, 24), (200, 55), size):
            await pilot.resize_terminal(*other)
            await settled(pilot)
            await pilot.press("end")
            await until(pilot, lambda: tables.scroll_offset.y == tables.max_scroll_y)
            assert not faults(pilot.app.screen)
            await until(pilot, lambda: said(pilot, "#tables").split()[-1] in shown(pilot))
        heights = []
        for other in ((80, 24), (100, 30), (120, 36)):
            await pilot.resize_terminal(*other)
            await settled(pilot)
            heights.append(pilot.app.screen.query_one("#overlay").region.height)
        assert heights == sorted(heights), "a higher window has a higher chart"
        verdict = said(pilot, "#sentence")
        assert "…" not in verdict and verdict not in said(pilot, "#tables")
        await pilot.resize_terminal(60, 15)
        await settled(pilot)
        both = " ".join(f"{said(pilot, '#sentence')} {said(pilot, '#tables')}".split())
        assert both.startswith(" ".join(verdict.split()))  # neither cut nor said twice
        assert both.count("is better on") + both.count("looks better on") == 1
        assert pilot.app.screen.query_one("#overlay").region.bottom < tables.region.bottom < 15


async def test_the_report_is_saved_and_its_place_is_told(home: Path):
    whole(home, "base", 5.2)
    async with BitnetApp(home, root=home / "base", launch=RecordingLaunch()).run_test(
        size=(120, 36), notifications=True
    ) as pilot:
        await settled(pilot)
        for kind, words_in_it in (("html", "<h1>base</h1>"), ("csv", "step,"), ("svg", "<svg")):
            await pilot.press("R")
            await settled(pilot)
            await click_on(pilot, kind.upper())
            (path,) = (home / "base" / "reports").glob(f"report-*.{kind}")
            told = f"base/reports/{path.name}."
            await until(pilot, lambda told=told: told in "".join(notices(pilot)).replace(" ", ""))
            assert words_in_it in path.read_text()


@pytest.mark.parametrize("by_mouse", [False, True])
async def test_what_is_compared_stands_in_the_list_and_can_be_taken_out(home: Path, by_mouse: bool):
    for name in ("slow", "fast", "base"):
        whole(home, name, 5.2)
    async with BitnetApp(home, root=home / "base", launch=RecordingLaunch()).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await settled(pilot)
        await pilot.press("V")
        await settled(pilot)
        assert "● base" in shown(pilot) and "this one" in shown(pilot)
        if by_mouse:
            await click_on(pilot, "● base")
            await click_on(pilot, "○ fast")
            await click_on(pilot, "space marks several")
            assert isinstance(pilot.app.screen, CompareWithScreen) and "○ fast" in shown(pilot)
            await pilot.press("enter")
            await settled(pilot)
            assert notices(pilot) == ["! Mark two or more to compare."]
            await click_on(pilot, "○ fast")
            await click_on(pilot, "○ slow")
            await pilot.click("#compare")
        else:
            await pilot.press("home", "space", "down", "space", "down", "space", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, CompareScreen)
        assert {one.root.name for one in pilot.app.screen._chosen} == {"fast", "slow"}


async def test_its_chart_by_keys_and_mouse_and_one_that_vanishes_meanwhile(home: Path):
    for name, loss in (("slow", 5.4), ("fast", 5.0), ("base", 5.2)):
        whole(home, name, loss, LR="1e-3" if name == "fast" else "6e-4")
    async with BitnetApp(home, root=home / "base", launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("V")
        await settled(pilot)
        await pilot.press("space", "down", "space", "enter")
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        await pilot.press("m", "o", "down", "enter")
        await settled(pilot)
        assert "‹ held-out loss › A 5.20 ○B C 5.00 smoothed ┊ABC flip" in words(pilot)
        await click_on(pilot, "○B")
        await pilot.press("m", "m")
        await settled(pilot)
        await pilot.press("c", "b", "x", "plus")
        await settled(pilot)
        assert "‹ total loss ›" in words(pilot)
        assert "step 10" in words(pilot)
        for reset in ("button", "double click"):
            assert screen.lens.window is not None
            if reset == "button":
                await click_on(pilot, "0 shows all")
            else:
                await pilot.click("OverlayPlot", times=2)
            assert screen.lens.window is None
            await pilot.press("plus")
        await pilot.press("0")
        for place, name in (("‹ total", "held-out loss"), ("›  A", "total loss"), ("›  A", "KL"), ("KL ›", "CE")):
            await click_on(pilot, place)
            assert f"‹ {name} ›" in words(pilot)
        await click_on(pilot, "A 4.00", times=2)
        assert "○B ○C" in words(pilot)
        (home / "slow").rename(home.parent / "elsewhere")
        screen.look()
        await settled(pilot)
        assert "B is better on held-out loss: 5.000 against A 5.200 (3.8% less). Setting" in words(pilot)
        assert "slow is not an experiment any more" in words(pilot)
