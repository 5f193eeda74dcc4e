"""A student is exported, and what takes it to another machine is copied."""

from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.exported import ExportedScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.exports import Exporting
from tests.tui.journeys.hand import Hand, by_each
from tests.tui.pilots import shown, words


@by_each
async def test_from_the_list_to_the_command_that_serves_the_export(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch, by: str
):
    export = Exporting(saved, monkeypatch)
    export.end()
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        hand = Hand(pilot, by)
        await hand.sees(lambda: "1 experiment" in shown(pilot))
        await hand.do(["enter"], "one  ", "one  ")
        await hand.do(["4"], "4 Checkpoints")
        await hand.sees(lambda: "E Export" in shown(pilot))
        await hand.do(["E"], "E Export")
        await hand.do(["enter"], "gguf  for llama.cpp")
        await hand.sees(lambda: "✓ Exported step 200, verified: " in words(pilot))
        await hand.do(["E"], "E How to run it")
        if not isinstance(pilot.app.screen, ExportedScreen):
            await hand.do(["enter"], "gguf")
        assert isinstance(pilot.app.screen, ExportedScreen)
        assert export.made.name in shown(pilot)
        await hand.do(["down", "y"], "llama-server ")
        assert pilot.app.clipboard == f"llama-server -m {export.made.name}"
        await hand.do(["escape"], "  Close  ")
        assert isinstance(pilot.app.screen, ExperimentScreen)
