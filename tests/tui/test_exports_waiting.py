"""Exports that are chosen while another one runs."""

from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_tui.app import BitnetApp
from tests.tui.conftest import RecordingLaunch
from tests.tui.exports import Exporting
from tests.tui.pilots import until, words
from tests.tui.test_exporting import begin_export


async def test_exports_that_are_chosen_meanwhile_begin_when_the_one_before_has_ended(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    """That one of them fails does not keep the others from it."""
    export = Exporting(saved, monkeypatch, "There is no room.")
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await begin_export(pilot)
        await until(pilot, lambda: "Exporting step 200 for llama.cpp" in words(pilot))
        await pilot.press("E", "down", "enter")
        waits = "hf of step 200 is exported when the export of step 200 has ended, if the app is open then."
        await until(pilot, lambda: any(waits in one.message for one in pilot.app._notifications))
        await pilot.press("down", "E", "down", "enter")  # of step 150
        await until(pilot, lambda: any("hf of step 150" in one.message for one in pilot.app._notifications))
        await pilot.press("E")
        await until(pilot, lambda: "that is running, and drop the 2 that wait" in words(pilot))
        await pilot.press("escape")
        assert len(export.arguments) == 1
        export.end()
        await until(pilot, lambda: len(export.arguments) == 3)
        assert [one[1] for one in export.arguments] == ["gguf", "hf", "hf"]
        assert ["200" in one[3] for one in export.arguments] == [True, True, False]
