"""Charts looked at closely by keys and by mouse: windows, crosshair, smoothing, curves hidden."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widget import Widget

from bitnet_tui.app import BitnetApp
from bitnet_tui.view.chart_text import HIDDEN
from bitnet_tui.view.lens import (
    AXES,
    SMOOTH,
    Lens,
)
from bitnet_tui.widgets.chart import ChartPanel, Plot
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, settled, shown
from tests.tui.simulated import SimulatedRun, experiment


def _lens(pilot: Pilot[None]) -> Lens:
    return pilot.app.screen.lens  # type: ignore[attr-defined]


def _trained(home: Path) -> Path:
    exp = experiment(home, "trained")
    run = SimulatedRun(exp, "train")
    run.train(0, 190)
    for step in (191, 192):
        run.emit("metric", step=step, seen_tokens=745 * step, peak_rss_bytes=1_400_000_000)
    run.finish()
    return exp.root


@pytest.mark.parametrize("size", [(80, 24), (150, 40)])
async def test_charts_by_keys_and_by_mouse(home: Path, size: tuple[int, int]):
    root = _trained(home)
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        panels = [one for one in pilot.app.screen.query(ChartPanel) if one.display]
        assert len(panels) == (1 if size[0] < 140 else 4)
        await pilot.press("plus", "x", "comma", "b")
        await settled(pilot)
        lens = _lens(pilot)
        assert lens.by == AXES[1]
        assert lens.window is not None
        assert lens.cursor is not None
        assert ("│ step 9" if size[0] > 100 else "│ 9") in shown(pilot)
        await pilot.press("0", *["c"] * (1 if size[0] < 140 else 2))
        await settled(pilot)
        assert (_lens(pilot).window, _lens(pilot).chart) == (None, "total")
        assert "‹ total ›" in shown(pilot)
        plot = pilot.app.screen.query(Plot).first()
        await pilot.hover(plot, offset=(plot.size.width // 2, 3))
        await settled(pilot)
        pointed = _lens(pilot).cursor
        assert pointed is not None
        line = next(text for text in shown(pilot).split("\n") if "‹ total ›" in text)
        await pilot.click(offset=(line.index("›"), plot.region.y - 1))
        await settled(pilot)
        assert _lens(pilot).chart == "kl"
        await pilot.hover("#title")
        await settled(pilot)
        assert _lens(pilot).cursor is None
        await pilot.press(*["C"] * (2 if size[0] < 140 else 3))
        await settled(pilot)
        assert _lens(pilot).chart is None
        if size[0] >= 140:
            title_of_one = [one for one in pilot.app.screen.query(ChartPanel) if one.display][1].children[0]
            for chart in ("grad", None):
                await pilot.click(title_of_one if chart else _first_title(pilot), offset=(3, 0))
                await settled(pilot)
                assert _lens(pilot).chart == chart
            await pilot.resize_terminal(200, 55)
            await settled(pilot)
            shown_panels = [one.region for one in pilot.app.screen.query(ChartPanel) if one.display]
            ends = {at.y: max(one.right for one in shown_panels if one.y == at.y) for at in shown_panels}
            assert len(ends) > 1 and len(set(ends.values())) == 1, "no row of the grid ends early"


@pytest.mark.parametrize("size", [(80, 24), (150, 40)])
async def test_curves_are_smoothed_and_hidden_by_keys_and_by_mouse(home: Path, size: tuple[int, int]):
    root = _trained(home)
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        before = pilot.app.screen.query(Plot).first().drawn_lines
        await pilot.press("m")
        await settled(pilot)
        assert _lens(pilot).smooth == SMOOTH[1]
        smooth = pilot.app.screen.query(Plot).first().drawn_lines
        assert smooth != before
        await pilot.press("m", "m")
        await settled(pilot)
        assert pilot.app.screen.query(Plot).first().drawn_lines == before
        await pilot.press("o", "down", "enter")
        await settled(pilot)
        assert _lens(pilot).hidden == {"kl"}
        assert f"{HIDDEN} KL" in shown(pilot)
        await click_on(pilot, f"{HIDDEN} KL")
        assert _lens(pilot) == Lens()
        for place in ("━ total", "○ total"):
            await click_on(pilot, place)
            assert _lens(pilot).hidden == ({"loss"} if place[0] == "━" else set())
        await click_on(pilot, "CE ", times=2)
        assert _lens(pilot).hidden == {"loss", "kl", "format"}
        await click_on(pilot, "CE ", times=2)
        assert _lens(pilot) == Lens()
        await click_on(pilot, "total ")
        assert _lens(pilot).hidden == {"loss"}
        assert pilot.app.screen.query(Plot).first().drawn_lines != before


def _first_title(pilot: Pilot[None]) -> Widget:
    return pilot.app.screen.query(ChartPanel).first().children[0]
