"""Pictures of whole screens, compared with snapshots."""

from pathlib import Path

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.widgets.chart import Plot
from tests.tui.conftest import RecordingLaunch, normal
from tests.tui.pilots import SIZES, settled
from tests.tui.simulated import finished_experiment


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["bitnet-dark", "bitnet-light"])
async def test_picture_of_training(home: Path, svg, size: tuple[int, int], theme: str):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("up")
        await settled(pilot)
        pilot.app.theme = theme
        for plot in pilot.app.screen.query(Plot):
            plot.render_lines(plot.size.region)  # a frame between the theme and its colours
        await settled(pilot)
        assert normal(pilot.app.export_screenshot()) == svg


async def test_picture_of_the_first_run(home: Path, svg):
    async with BitnetApp(Path("experiments"), launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert normal(pilot.app.export_screenshot()) == svg
