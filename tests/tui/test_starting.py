"""Before a stage is started: what it lacks, what it would put away, and under which settings it goes on."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.resuming import recipe
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.values import TrainOptions
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens import experiment as experiment_screen
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.message import MessageScreen
from bitnet_tui.services.launching import foresee
from bitnet_tui.view import starting
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, until, words
from tests.tui.simulated import LEAVES, NOON, SimulatedRun, experiment, leave_traces, save_checkpoint

NEEDS = {"teacher": (), "collect": (), "train": ("collect",), "eval": ("teacher", "collect", "train"), "dryrun": ()}


@given(st.sets(st.sampled_from(sorted(LEAVES))), st.booleans())
def test_a_stage_lacks_what_no_stage_before_it_has_left(tmp_path_factory, there: set[str], elsewhere: bool):
    root = tmp_path_factory.mktemp("one")
    data = root / "else" if elsewhere else root / "data"
    values = {"DRIVE_ROOT": str(root)} | ({"KD_DATA_PATH": str(data)} if elsewhere else {})
    exp = Experiment.from_settings(resolve(values, environ={}).settings)
    exp.ensure()
    data.mkdir(exist_ok=True)
    for name in there:
        (data / Path(LEAVES[name]).name if name == "collect" else root / LEAVES[name]).touch()
    history = History.read(exp)
    for stage in STAGES:
        assert history.lacking(stage) == tuple(name for name in NEEDS[stage] if name not in there)


async def test_a_stage_without_its_input_is_refused_at_once(home: Path, recorder: RecordingLaunch):
    exp = experiment(home, "copy")
    found = []
    async with BitnetApp(home, exp.root, launch=recorder).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("j", "j")
        for _ in range(2):
            await pilot.press("j")
            await settled(pilot)
            await pilot.press("r")
            await settled(pilot)
            assert isinstance(pilot.app.screen, MessageScreen)
            found.append(pilot.app.screen._why)
            await click_on(pilot, "Close")
            assert isinstance(pilot.app.screen, ExperimentScreen)
    pipeline = "and that is not there yet; {}p runs all stages in order."
    assert found == [
        "It reads what Collect traces leaves, " + pipeline.format("choose Collect traces and press r, or "),
        "It reads what Teacher baseline, Collect traces and Train the student leave, " + pipeline.format(""),
    ]
    assert recorder.launched == []


def _trained(home: Path, seen: int, state: str = "cancelled", **settings: str) -> Experiment:
    """Stopped or ended at step 200 with `seen` tokens of 150,000, and `settings` in the .env since."""
    exp = experiment(home, "one")
    leave_traces(exp)
    SimulatedRun(exp, "train", NOON).finish(state)
    kept = recipe(TrainOptions.of(exp.settings)) | {"A4_POLICY": "hybrid", "traces": "t"}
    for step in (100, 200):
        save_checkpoint(exp, step, recipe=kept, seen_tokens=seen * step // 200)
    with (exp.root / ".env").open("a") as env:
        env.writelines(f"{name}={value}\n" for name, value in settings.items())
    return exp


@pytest.mark.parametrize("key", ["r", "p"])
async def test_a_training_goes_on_with_another_rate_and_says_so(home: Path, key: str):
    exp, launch = (
        _trained(home, 90_000, LR="3e-4", TOTAL_STEPS="900", BUDGET_TOKENS="160000"),
        RecordingLaunch(warning=""),
    )
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(100, 30), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await settled(pilot)
        changed = "“Learning rate” 6e-4 → 3e-4, “Steps” 200 → 900, “Token budget” 150,000 → 160,000"
        changed += "; its flip is at 144,000 tokens"
        if key == "r":
            assert f"Training continues from step 200 with {changed}." in " ".join(notices(pilot))
            assert launch.launched == [(exp.root, "train")]
        else:  # the traces would be collected first, so nothing can go on
            assert "what it was trained with has changed (the traces)" in words(pilot)
            assert launch.launched == []


async def test_finished_checkpoints_are_never_moved_unasked_by_keyboard_and_mouse(home: Path):
    exp, launch = _trained(home, 150_000, LR="3e-4"), RecordingLaunch(warning="")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "Train again from step 0?" in words(pilot)
        told = "it is finished, and “Learning rate” 6e-4 → 3e-4 would reach no step. The checkpoints (those of"
        assert told in words(pilot)
        for leave in ("by its key", "Checkpoints (4)"):  # which the question names instead
            if leave == "by its key":
                await pilot.press("escape")
            else:
                await click_on(pilot, leave)
            await settled(pilot)
            assert launch.launched == []
            assert isinstance(pilot.app.screen, ExperimentScreen)
            await pilot.press("r")
            await settled(pilot)
        assert pilot.app.screen_stack[-2].pane.open == "checkpoints"
        await click_on(pilot, "Train again", last=True)
        await settled(pilot)
        assert launch.launched == [(exp.root, "train")]
        assert launch.values == [{"RESUME_STEP": "0"}]  # so it alarms nobody


async def test_a_finished_and_unchanged_training_is_not_run_again(home: Path, recorder: RecordingLaunch):
    exp = _trained(home, 150_000, "succeeded")
    async with BitnetApp(home, exp.root, launch=recorder).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, MessageScreen)
        assert pilot.app.screen._why == (
            "There is nothing to do: training is finished at step 200, and nothing has changed since; to train on, "
            "raise its budget in Config (6), or resume from an earlier checkpoint (4)."
        )
        assert recorder.launched == []
        await click_on(pilot, "Close")
        await pilot.press("4", "down", "T")  # that of step 100
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert recorder.values == [{"RESUME_STEP": "100"}]


def _diverged(home: Path) -> Experiment:
    exp = experiment(home, "one")
    leave_traces(exp)
    SimulatedRun(exp, "train", NOON).finish("failed", "Training diverged: the loss rose; lower LR.")
    SimulatedRun(exp, "train", NOON + 9).finish(
        "cancelled", "train was stopped."
    )  # which says nothing about the settings
    return exp


def _start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command end where it would start its run."""

    def not_started(*_: Any, **__: Any) -> None:
        raise BitnetError("Not started.")

    monkeypatch.setattr("bitnet_core.runs.launch.launch", not_started)


@pytest.mark.parametrize("stage", ["train", "pipeline"])
def test_the_command_says_that_a_training_with_these_settings_diverged(
    home: Path, stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    _start_nothing(monkeypatch)
    root = _diverged(home).root
    said = "bitnet: warning: With these settings training has failed before. Training diverged: the loss rose; lower"
    for more, told in (([], True), (["--set", "LR=1e-5"], False)):
        assert main([stage, "--root", str(root), *more]) == 1
        assert (said in capsys.readouterr().err) == told


async def test_a_training_that_diverged_is_not_run_again_with_the_same_settings_unasked(
    home: Path, recorder: RecordingLaunch
):
    exp = _diverged(home)
    async with BitnetApp(home, exp.root, launch=recorder).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert "With these settings it has failed before. Training diverged: the loss rose; lower “Learning" in words(
            pilot
        )
        assert recorder.launched == []
        await click_on(pilot, "Train anyway")
        await settled(pilot)
        assert (recorder.launched, recorder.values) == ([(exp.root, "train")], [{}])
    (exp.root / ".env").write_text("LR=1e-5\n")
    assert not foresee(home, exp.root, "train").training.diverged
    SimulatedRun(exp, "train", NOON + 99).finish()
    assert History.read(exp).diverged() is None


@pytest.mark.parametrize("question", [True, False])
async def test_what_is_to_be_asked_late_waits_until_its_screen_is_on_top(
    home: Path, recorder: RecordingLaunch, monkeypatch: pytest.MonkeyPatch, question: bool
):
    """A question waits; a refusal, which asks nothing, is told in a notice."""

    def slow(*arguments: Any) -> Any:
        assert may_answer.wait(60)
        return foresee(*arguments)

    may_answer = threading.Event()
    monkeypatch.setattr(experiment_screen, "foresee", slow)
    exp = _trained(home, 90_000, KD_TAU="2", TOTAL_STEPS="900") if question else _trained(home, 150_000, "succeeded")
    async with BitnetApp(home, exp.root, launch=recorder).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", "question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        may_answer.set()
        told = "has not started yet: it asks something first" if question else "There is nothing to do"
        await until(pilot, lambda: any(told in one for one in notices(pilot)))
        assert isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ConfirmScreen if question else ExperimentScreen)
        if question:
            await pilot.press("escape")
            await settled(pilot)
            assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == []


def test_a_training_that_was_stopped_at_its_last_step_may_still_end(home: Path):
    assert not foresee(home, _trained(home, 150_000).root, "train").in_vain


async def test_resume_from_here_promises_only_what_the_stage_does(home: Path):
    exp, launch = _trained(home, 90_000, KD_TAU="2", TOTAL_STEPS="900"), RecordingLaunch(warning="")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4", "down", "T")
        await settled(pilot)
        assert (
            "Training can't go on from step 100: what it was trained with has changed (“Distillation temperature”"
            in words(pilot)
        )
        (exp.root / ".env").write_text("BUDGET_TOKENS=150000\nFLIP_FRACTION=0.9\nTOTAL_STEPS=200\nLR=3e-4\n")
        await pilot.press("T")
        await settled(pilot)
        await until(pilot, lambda: "from step 100 with “Learning rate” 6e-4 → 3e-4." in words(pilot))
        assert "(that of step 200) are moved to checkpoints/superseded." in words(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert launch.values == [{"RESUME_STEP": "100"}]


async def test_resuming_with_settings_that_have_failed_asks_once(home: Path):
    exp, launch = _trained(home, 90_000), RecordingLaunch(warning="")
    SimulatedRun(exp, "train", NOON + 900).finish("failed", "Training diverged: the loss rose; lower LR.")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 30)) as pilot:
        await settled(pilot)
        await pilot.press("4", "down", "T")
        await settled(pilot)
        assert "Resume from step 100?" in words(pilot)
        assert "With these settings it has failed before." in words(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert not isinstance(pilot.app.screen, ConfirmScreen)
        assert launch.values == [{"RESUME_STEP": "100"}]


def test_traces_that_were_collected_again_may_be_others(home: Path):
    """Only the stage knows: it is asked before checkpoints are put away, and said where one is chosen."""
    exp = _trained(home, 90_000, TOTAL_STEPS="900")
    SimulatedRun(exp, "collect", NOON + 500).finish()
    os.utime(exp.data / "kd_shard_000.parquet", (NOON, NOON))
    assert foresee(home, exp.root, "train").training.step == 200  # it wrote nothing
    leave_traces(exp)
    found = foresee(home, exp.root, "train").training
    assert found.starts_again and found.why_not == "what it was trained with has changed (the traces)"
    chosen = foresee(home, exp.root, "train", {"RESUME_STEP": "100"}).training
    assert (chosen.step, chosen.refused, chosen.doubtful) == (100, "", True)


async def test_a_training_whose_traces_are_outdated_asks_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    exp, launch = experiment(home, "one"), RecordingLaunch(warning="")
    leave_traces(exp)
    SimulatedRun(exp, "collect", NOON - 900).finish()
    SimulatedRun(exp, "train", NOON).finish("cancelled")
    os.utime(exp.data / "kd_shard_000.parquet", (NOON - 899, NOON - 899))
    save_checkpoint(exp, 200, recipe=recipe(TrainOptions.of(exp.settings)) | {"A4_POLICY": "hybrid"}, seen_tokens=9)
    assert not foresee(home, exp.root, "train").stale
    with (exp.root / ".env").open("a") as env:
        env.write("TOKENIZER_NAME=some/other\nTOTAL_STEPS=900\n")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key, asks in (("r", True), ("r", False)):
            await pilot.press(key)
            await settled(pilot)
            assert isinstance(pilot.app.screen, ConfirmScreen) == asks
            if asks:
                assert "“Collect traces” is outdated: “Tokenizer” unset → some/other." in words(pilot)
                assert launch.launched == []
                await click_on(pilot, "Train anyway")
                await settled(pilot)
        assert launch.launched == [(exp.root, "train")] * 2
        pilot.app.places.clear()
        await pilot.press("4", "T")
        await settled(pilot)
        assert "Resume from step 200?" in words(pilot) and "is outdated: “Tokenizer” unset" in words(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert launch.values[-1] == {"RESUME_STEP": "200"}, "what was told there is not asked again"

    _start_nothing(monkeypatch)
    assert main(["train", "--root", str(exp.root)]) == 1
    assert "warning: The traces are outdated (TOKENIZER_NAME unset → some/other); " in capsys.readouterr().err


def test_many_steps_are_not_all_named():
    assert starting.aside_words(range(9), "The").startswith("The checkpoints (those of steps 0, 1, 2, 3, 4, …) are")


@pytest.mark.parametrize(("loss", "bits", "told"), [(12.2, 8, True), (5.0, 8, False), (12.2, 4, False)])
def test_a_training_that_goes_on_worse_than_it_began_says_how_to_begin_again(
    home: Path, loss: float, bits: int, *, told: bool
):
    exp = experiment(home, "one")
    leave_traces(exp)
    for step, found in ((0, 5.43), (23, loss)):
        save_checkpoint(exp, step, bits, heldout={"step": step, "heldout_loss": found})
    said = starting.worse_words(foresee(home, exp.root, "train").training)
    assert said.startswith("It goes on from a held-out loss of 12.2, above 5.43 at the start; ") == told
    assert ("press T at step 0 in Checkpoints (4)" in said) == told
