"""The first run: the demo, which needs no choice; and the guide, with its defaults."""

from pathlib import Path

from bitnet_core.files import asset
from bitnet_core.files.user_folders import state_folder
from bitnet_core.runs.catalog import PIPELINE
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.welcome import WelcomeScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.guides import app, opened, press
from tests.tui.journeys.hand import Hand, by_each
from tests.tui.pilots import click_on, settled, shown, until


@by_each
async def test_the_demo_is_made_and_its_pipeline_started(home: Path, recorder: RecordingLaunch, by: str):
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)
        await Hand(pilot, by).do(["enter"], "Try it now, no key needed")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == [(home / "demo", "pipeline")]
    assert (home / "demo" / ".env").read_text() == asset("demo.env").read_text()


async def test_enter_alone_makes_and_runs_an_experiment_with_the_embedded_teacher(home: Path):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        for title in ("This machine", "SmolLM2-135M", "Only on this machine", "What it will take", "Create it"):
            assert title in shown(pilot)
            await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == [(home / "smollm2-nano", PIPELINE.name)]
    assert "TEACHER_PROVIDER=embedded" in (home / "smollm2-nano" / ".env").read_text()
    assert not list((state_folder() / "drafts").glob("*"))


async def test_the_same_by_mouse_alone_and_only_create_it(home: Path):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        for _ in range(4):
            await click_on(pilot, "Next ›")
        await click_on(pilot, "Start nothing yet")
        assert isinstance(pilot.app.screen, NewExperimentScreen)  # a click chooses, and no more
        await click_on(pilot, "Create", last=True)
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        await settled(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        assert "smollm2-nano" in shown(pilot)
    assert recorder.launched == []
