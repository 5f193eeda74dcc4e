"""The guide with the settings of another experiment, and its traces where they are wanted."""

import threading
from pathlib import Path

import pytest
from textual.pilot import Pilot

from bitnet_core.runs.copied import Copied
from bitnet_core.runs.experiment import Workspace
from bitnet_tui import noticing
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.services import drafts
from bitnet_tui.widgets.table import Table
from tests.tui.guides import answered, app, choose, opened, press
from tests.tui.pilots import click_on, said, settled, shown, until, words


def _at_the_cursor(pilot: Pilot[None]) -> str:
    """The experiment on Home that Enter opens."""
    return Path(pilot.app.screen.query_one("#entries", Table).key or "").name


async def test_a_duplicate_has_the_same_settings_a_new_name_and_no_runs(home: Path, monkeypatch: pytest.MonkeyPatch):
    env = (
        "LR=1e-3\nKD_PROMPTS_FILE=prompts.txt\nSTORAGE_NAME=first\nSEED=${MY:-9}\nOPENAI_API_KEY=sk-plain-text-key\n"
    )
    first = Workspace(home).create("first", env)
    (first / "logs").mkdir()
    (first / "prompts.txt").write_text("Hello\n")
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself
    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        await opened(pilot, "D")
        await press(pilot, "escape")  # what was only looked at leaves no draft
        guide = await opened(pilot, "D")
        assert "Duplicate of first" in shown(pilot)
        assert "your draft" not in words(pilot)
        assert "Keys in its .env are not copied" in words(pilot)
        pilot.app.clear_notifications()
        await settled(pilot)
        assert "● Machine ● Teacher ● Storage ◉ Student and budget" in words(pilot)
        await press(pilot, "tab", "tab", "ctrl+u", *"2e-3")
        await click_on(pilot, "Review")
        assert "LR=2e-3 was 1e-3" in words(pilot)
        assert "first-2" in shown(pilot)
        await choose(pilot, "create", "#starts")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert guide.draft.source == "first"
        await press(pilot, "escape")
        await until(pilot, lambda: _at_the_cursor(pilot) == "first-2")
        pilot.app.go_to(first)  # type: ignore[attr-defined]
        await press(pilot, "escape")
        await until(pilot, lambda: _at_the_cursor(pilot) == "first")
    text = (home / "first-2" / ".env").read_text()
    assert "LR=2e-3" in text
    assert f"KD_PROMPTS_FILE={first}/prompts.txt" in text
    assert "SEED=9" in text
    assert "sk-plain" not in text
    assert "STORAGE_NAME" not in text
    assert not (home / "first-2" / "logs").exists() or not list((home / "first-2" / "logs").iterdir())


async def test_the_first_step_of_a_duplicate_is_the_one_to_begin_with(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Not another one before it, and the guide can be left while its settings are being read."""
    Workspace(home).create("first", "LR=1e-3\n")
    gate, shown_steps, settings_of = threading.Event(), [], drafts.settings_of
    show_step = NewExperimentScreen._show_step

    async def shows(guide: NewExperimentScreen, step: str, field: str) -> None:
        shown_steps.append(step)
        await show_step(guide, step, field)

    def held(*asked: Path) -> Copied:
        gate.wait(60)
        return settings_of(*asked)

    monkeypatch.setattr(NewExperimentScreen, "_show_step", shows)
    monkeypatch.setattr(drafts, "settings_of", held)
    async with app(home).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for leave in (True, False):
            await pilot.press("D")
            await until(pilot, lambda: "Reading the settings of first…" in shown(pilot))
            assert "Machine" in shown(pilot) and "◉" not in shown(pilot)
            if leave:
                await pilot.press("escape")
                await until(pilot, lambda: not isinstance(pilot.app.screen, NewExperimentScreen))
        gate.set()
        await until(pilot, lambda: "◉ Student and budget" in shown(pilot))
        assert shown_steps == ["student"]


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 36)])
async def test_a_duplicate_brings_its_traces_and_can_be_trained_at_once(home: Path, size: tuple[int, int]):
    """By the real command, in a process of its own."""
    first = Workspace(home).create("first", "LR=1e-3\n")
    shard = first / "data" / "kd_shard_000.parquet"
    shard.parent.mkdir()
    shard.write_text("shard")
    async with app(home).run_test(size=size) as pilot:
        await opened(pilot, "D")
        await answered(pilot)
        assert size == (60, 15) or "not asked" in shown(pilot)
        await click_on(pilot, "Review")
        await click_on(pilot, "☑ with its traces")
        assert "☐ with its traces" in shown(pilot)
        assert "Run only: Train the student" not in shown(pilot)
        await press(pilot, "enter")
        assert "☑ with its traces" in shown(pilot)
        await press(pilot, "tab")
        await choose(pilot, "train", "#starts")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert pilot.app.screen._first == "train"
    assert (home / "first-2" / "data" / shard.name).read_text() == "shard"
    assert "LR=1e-3" in (home / "first-2" / ".env").read_text()


async def test_a_duplicate_that_would_collect_otherwise_leaves_the_traces(home: Path):
    first = Workspace(home).create("first", "")
    (first / "data").mkdir()
    (first / "data" / "kd_shard_000.parquet").write_text("shard")
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot, "D")
        guide.change("KD_NUM_PROMPTS", "7")
        await click_on(pilot, "Review")
        assert "☐ with its traces" in shown(pilot)
        assert "anew" not in said(pilot, "#about"), "it starts from random weights"
        guide.change("STUDENT_INIT", "teacher")
        await choose(pilot, "create", "#starts")
        await choose(pilot, "pipeline", "#starts")
        assert "resumed. Its initial student is built again, not copied." in words(pilot), shown(pilot)
        await choose(pilot, "create", "#starts")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert not (home / "first-2" / "data" / "kd_shard_000.parquet").exists()
