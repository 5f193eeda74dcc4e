"""The open view of a run is scrolled from wherever the focus is, and has the only scroll bar."""

from pathlib import Path

import pytest

from bitnet_tui.app import BitnetApp
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled
from tests.tui.simulated import NOON, SimulatedRun, experiment


@pytest.mark.parametrize("size", [(80, 24), (150, 40)])
async def test_page_keys_scroll_the_open_view(home: Path, size: tuple[int, int]):
    exp = experiment(home, "long")
    run = SimulatedRun(exp, "eval", NOON)
    for place in range(120):
        run.emit("log", level="info", message=f"line {place} " + "x" * 200)
    run.emit("table", name="memory", columns=["a", "b"], rows=[[place, "y" * 30] for place in range(100)])
    run.finish()
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        for tab, name in (("1", "summary-scroll"), ("3", "reports"), ("7", "log-lines")):
            await pilot.press(tab)
            await settled(pilot)
            view = pilot.app.screen.query_one(f"#{name}")
            await pilot.press("home", "pagedown")
            await settled(pilot)
            assert 0 < view.scroll_y < view.max_scroll_y
            await pilot.press("end")
            await settled(pilot)
            assert view.scroll_y == view.max_scroll_y
            await pilot.press("pageup", "home")
            await settled(pilot)
            assert view.scroll_y == 0
            shown = [one for one in pilot.app.screen.walk_children() if one.region and one.show_vertical_scrollbar]
            assert shown == [view]
            assert not pilot.app.screen.show_vertical_scrollbar
