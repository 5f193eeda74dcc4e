"""The Log tab: levels, search, following, wrapping and copying."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.view import logs
from bitnet_tui.view.logs import LogLine
from bitnet_tui.view.run_fold import LEVELS, RunFold, RunView
from bitnet_tui.widgets.log_pane import LogPane
from tests.builders import event
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment


def _view(levels: list[str]):
    fold = RunFold()
    fold.feed(event("log", seq=place, level=level, message=f"{level} {place}") for place, level in enumerate(levels))
    return fold.view()


@given(st.lists(st.sampled_from([*LEVELS, "odd"]), max_size=40), st.sampled_from(LEVELS))
def test_the_lines_of_a_level_and_above(levels: list[str], least: str):
    found = logs.lines_of(_view(levels), least)
    meant = [level if level in LEVELS else "info" for level in levels]
    wanted = [place for place, level in enumerate(meant) if LEVELS.index(level) >= LEVELS.index(least)]
    assert [one.number for one in found] == wanted
    assert all(one.text.endswith(f" {levels[one.number]} {one.number}") for one in found)


def test_alerts_and_a_failed_end_have_a_level_on_each_of_their_lines():
    fold = RunFold()
    fold.feed([
        event("alert", severity="warning", code="x", message="One.", advice="Do it."),
        event("alert", severity="critical", code="y", message="Two."),
        event("run_finished", state="failed", error="It failed."),
        event("run_finished", state="cancelled"),
    ])  # fmt: skip
    levels = fold.view().log_levels
    assert len(levels) == len(fold.view().log)
    assert [*levels][:3] == ["warning", "warning", "error"]
    assert "error" in levels[3:]
    assert levels[-1] == "info"


def test_a_line_keeps_its_number_when_older_ones_are_dropped():
    found = logs.lines_of(_view(["info"] * 2500), "debug")
    assert (len(found), found[0].number, found[-1].number) == (2000, 500, 2499)


@given(
    st.lists(st.integers(0, 99), unique=True).map(sorted), st.none() | st.integers(0, 99), st.sampled_from([1, -1])
)
def test_every_place_is_reached_and_then_the_first_again(places: list[int], at: int | None, by: int):
    reached = []
    for _ in places:
        at = logs.step(places, at, by)
        reached.append(at)
    assert sorted(reached) == places
    assert (logs.step(places, at, by) is None) == (not places)


@given(st.text(max_size=200), st.sampled_from(LEVELS), st.text(max_size=5), st.integers(20, 90))
def test_a_line_that_is_not_wrapped_fits(text: str, level: str, searched: str, cells: int):
    ((span,),) = logs.drawn(LogLine(0, text, level), searched, cells, wrap=False)
    assert width(span.text) <= cells


@pytest.mark.parametrize(("key", "name", "word"), [("7", "log", "lines"), ("6", "config", "enter changes")])
async def test_a_tab_is_not_drawn_before_it_has_its_text(home: Path, key: str, name: str, word: str):
    """Each drawing of it half made would come before that of what it shows."""
    exp = experiment(home, "one")
    SimulatedRun(exp, "train").finish()
    app = BitnetApp(home, exp.root, launch=RecordingLaunch())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        drawn: list[str] = []
        app._display = lambda *_: drawn.append(shown(pilot) if app.screen.query(f"#{name}") else "")  # type: ignore[method-assign]
        await pilot.press(key)
        assert next(filter(None, drawn)).count(word)


async def test_the_log_is_searched_filtered_followed_and_copied(home: Path):
    exp = experiment(home, "one")
    live = SimulatedRun(exp, "collect", alive=True)
    try:
        for place in range(60):
            level = "error" if place == 20 else "info"
            live.emit("log", level=level, message=f"shard {place}" + (" tides" if place in (5, 20) else ""))
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(
            size=(80, 24), notifications=True
        ) as pilot:
            await settled(pilot)
            await pilot.press("7")
            await settled(pilot)
            assert "shard 59" in shown(pilot)
            await pilot.press("slash", *"tide", "enter")
            await settled(pilot)
            await until(pilot, lambda: "shard 20 tides" in shown(pilot))  # the newest first
            assert "found 2 of 2" in words(pilot)
            await pilot.press("N")
            await settled(pilot)
            assert "found 1 of 2" in words(pilot)
            await click_on(pilot, "n Next")
            assert "found 2 of 2" in words(pilot)
            await click_on(pilot, "N Before")
            assert "found 1 of 2" in words(pilot)
            live.emit("log", level="info", message=f"a new one {'x' * 80} the end")
            await pilot.pause(0.5)
            await settled(pilot)
            assert "shard 5 tides" in shown(pilot)  # it stays where one reads
            assert "a new one" not in shown(pilot)
            await pilot.press("F")
            await settled(pilot)
            assert "a new one" in shown(pilot)
            assert "the end" in shown(pilot)
            await click_on(pilot, "☑ wrap")
            assert "the end" not in shown(pilot)
            await click_on(pilot, "m all")
            await pilot.press("m", "m", "Y")
            await settled(pilot)
            assert pilot.app.screen.query_one(LogPane).text.endswith("✗ shard 20 tides")
            assert "1 of 62 lines" in words(pilot)
            assert pilot.app.clipboard.endswith("✗ shard 20 tides")
            assert any("Copied" in one for one in notices(pilot))
            await pilot.press("m", "m", "n", "escape")
            await settled(pilot)
            await pilot.press("enter", "7")
            await settled(pilot)
            assert "found 1 of 2" in words(pilot), "it opens where it was left"
            # Not asked of its button, which a notice with a long path may cover.
            assert not pilot.app.screen.query_one(LogPane)._place.wrap
    finally:
        live.end_process()


def test_a_log_that_is_still_being_read_does_not_say_that_there_are_no_messages():
    (said,) = logs.status((), RunView(unread=0.5), "", None)
    assert said.text == "0 lines so far; the rest is being read"
