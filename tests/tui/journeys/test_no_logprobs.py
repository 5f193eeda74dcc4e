"""A teacher without logprobs."""

from pathlib import Path

from bitnet_tui.screens.experiment import ExperimentScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.guides import app, at, press
from tests.tui.journeys.hand import by_each
from tests.tui.pilots import click_on, said, settled, words


@by_each
async def test_a_teacher_without_logprobs_is_for_chat_and_the_baseline(home: Path, by: str):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(100, 30) if by == "mouse" else (80, 24)) as pilot:
        await at(pilot, "teacher")
        if by == "keys":
            await press(pilot, *["down"] * 15, "enter")
        else:
            await click_on(pilot, "Anthropic")
            await click_on(pilot, "such as")
        assert "Traces can't be collected from it." in said(pilot, "#note")
        await press(pilot, *"some")
        if by == "keys":
            await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
        else:
            await click_on(pilot, "○ Review")
        text = words(pilot)
        assert "! Teacher" in text  # no key yet, as the review says
        assert "Run only: Teacher baseline" in text
        assert "whole pipeline" not in text
        assert "Collect traces" not in text
        if by == "keys":
            await press(pilot, "down", "enter")
            await settled(pilot)
        else:
            await click_on(pilot, "Run only: Teacher baseline")
            await click_on(pilot, "Create", last=True)
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert [stage for _, stage in recorder.launched] == ["teacher"]
