"""Starting, resuming and stopping stages from the app."""

from dataclasses import replace
from pathlib import Path

import pytest
from textual import events

from bitnet_core.runs.record import BALLAST, Run
from bitnet_core.secrets import vault
from bitnet_core.secrets.addresses import note_arrived
from bitnet_core.settings.resolved import Settings
from bitnet_tui import noticing
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.message import MessageScreen
from bitnet_tui.screens.vault import VaultScreen
from tests.tui.conftest import WARNING, RecordingLaunch
from tests.tui.pilots import SIZES, click_on, notices, said, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, leave_traces, save_checkpoint


def keys_sent(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The keys that each stage of the experiment `hosted` is started with from now on; none really starts."""
    sent: list[dict[str, str]] = []

    def start(settings: Settings, stage: str, keys: dict[str, str], *_: object) -> Run:
        sent.append(keys)
        return Run(home / "hosted" / "logs" / f"{stage}-recorded")

    monkeypatch.setattr("bitnet_tui.services.launching.runs.launch", start)
    return sent


async def test_a_launch_that_needs_the_vault_asks_for_its_passphrase_once(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    path = isolated / "vault.json"
    vault.create(path, "correct horse").set("OPENAI_API_KEY", "sk-very-secret-key")
    experiment(home, "hosted")
    (home / "hosted" / ".env").write_text(f"TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nBITNET_VAULT={path}\n")
    sent = keys_sent(home, monkeypatch)
    async with BitnetApp(home).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "p Run pipeline" in shown(pilot))
        assert shown(pilot).count("Run ") == 1  # one key is named for one thing; r does it too
        await pilot.press("j")
        await until(pilot, lambda: "r Run stage  p Run pipeline" in shown(pilot))
        await pilot.press("k")
        await until(pilot, lambda: "r Run stage" not in shown(pilot))
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "which is locked." in words(pilot)
        assert "“OpenAI key” is in" in words(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert "was not started: “OpenAI key” is in" in words(pilot)
        assert "which is locked." in words(pilot) and "BITNET_VAULT" not in words(pilot)
        assert sent == []
        await pilot.press("r")
        await settled(pilot)
        await pilot.press(*"battery staple", "enter")
        await settled(pilot)
        assert "is not the passphrase of" in words(pilot)
        await pilot.press(*"correct horse", "enter")
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        await pilot.press("6")
        await until(pilot, lambda: screen.pane.open == "config")
        await pilot.press("r")
        await settled(pilot)
        await until(pilot, lambda: screen.pane.open == "live")  # where the changed run is seen
    assert sent == [{"OPENAI_API_KEY": "sk-very-secret-key"}] * 2


async def test_a_launch_whose_copy_alone_needs_the_vault_asks_as_well(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    path, kept = (
        isolated / "vault.json",
        {"AWS_ACCESS_KEY_ID": "AKIAVERYSECRET", "AWS_SECRET_ACCESS_KEY": "very-secret"},
    )
    opened = vault.create(path, "correct horse")
    for name, value in kept.items():
        opened.set(name, value)
    experiment(home, "hosted")
    (home / "hosted" / ".env").write_text(f"STORAGE_BACKEND=s3\nSTORAGE_SYNC=live\nBITNET_VAULT={path}\n")
    sent = keys_sent(home, monkeypatch)
    async with BitnetApp(home, home / "hosted").run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("j", "r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "“S3 access key” and “S3 secret key” are in" in words(pilot)
        await pilot.press(*"correct horse", "enter")
        await settled(pilot)
    assert sent == [kept]


async def test_a_stopped_run_is_resumed(home: Path, recorder: RecordingLaunch):
    exp = experiment(home, "stopped")
    leave_traces(exp)
    save_checkpoint(exp, 10)
    SimulatedRun(exp, "train", NOON).finish("cancelled", "train was stopped.")
    async with BitnetApp(home, exp.root, launch=recorder).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        assert "r Resume" in shown(pilot)
        assert "r Run stage" not in shown(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert recorder.launched == [(exp.root, "train")]
        assert notices(pilot) == [f"! Settings: {WARNING}"]


async def test_a_warning_names_the_setting_by_its_label_and_leads_to_it_and_markup_in_it_is_shown(home: Path):
    launch = RecordingLaunch(warning="WANDB_PROJECT=[/b] (.env line 1) has no effect yet.")
    exp = experiment(home, "marked")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert notices(pilot) == [
            "! Settings: “Weights & Biases project” = [/b] (.env line 1) has no effect yet (6 Config)."
        ]
        await pilot.press("6")
        await until(pilot, lambda: said(pilot, "#config-about").startswith("Weights & Biases project  WANDB_PROJECT"))


async def test_a_launch_that_is_refused_says_why(home: Path):
    exp = experiment(home, "refused")
    launch = RecordingLaunch("KD_TAU=9000 (.env line 2) is not allowed: it must be a number from 0.05 to 100.")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert isinstance(pilot.app.screen, MessageScreen)
        assert (
            "“Distillation temperature” = 9000 (.env line 2) is not allowed: it must be a number from 0.05 to 100"
            in words(pilot)
        )
        await pilot.press("6")  # from the dialog itself
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        await until(pilot, lambda: said(pilot, "#config-about").startswith("Distillation temperature  KD_TAU"))
        await pilot.press("1", "p")
        await settled(pilot)
        await click_on(pilot, "6 Config", last=True)
        await until(pilot, lambda: said(pilot, "#config-about").startswith("Distillation temperature  KD_TAU"))


async def test_a_stop_is_asked_for_and_enter_gives_it_where_nothing_is_lost(home: Path):
    exp = experiment(home, "stubborn")
    live = SimulatedRun(exp, "train", alive=True)
    try:
        assert live.child is not None
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("s", "s", "escape")
            await settled(pilot)
            assert live.child.poll() is None
            await pilot.press("s")
            assert isinstance(pilot.app.screen, ConfirmScreen)
            await pilot.press("s", "enter")
            await settled(pilot)
            assert live.child.wait(60) == -15
            await until(pilot, lambda: "interrupted" in shown(pilot))
    finally:
        live.end_process()


async def test_enter_does_not_stop_what_keeps_nothing_of_its_work_and_says_so(home: Path):
    exp = experiment(home, "busy")
    live = SimulatedRun(exp, "eval", alive=True)
    try:
        assert live.child is not None
        pilot_of = BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True)
        async with pilot_of as pilot:
            await settled(pilot)
            await pilot.press("s", "enter")
            await until(pilot, lambda: notices(pilot) == ["“Evaluate” keeps running."])
            assert live.child.poll() is None
            await pilot.press("s", "y")
            await settled(pilot)
            assert live.child.wait(60) == -15
    finally:
        live.end_process()


class Clock:
    """Stands in for the monotonic clock by which the app knows how long ago a stop was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("bitnet_tui.screens.stopping.monotonic", lambda: self.now)


@pytest.mark.parametrize("size", SIZES)
async def test_a_run_that_ignores_a_stop_can_be_killed_after_20_seconds(
    home: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    exp = experiment(home, "deaf")
    live = SimulatedRun(exp, "train", deaf=True)
    (live.run.path / BALLAST).touch()
    clock = Clock(monkeypatch)
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself
    monkeypatch.setattr(noticing, "_GLANCE_SECONDS", 3600.0)  # nor by a key
    try:
        assert live.child is not None
        async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size, notifications=True) as pilot:
            await settled(pilot)
            await pilot.press("enter")
            await settled(pilot)
            pilot.app.notify_of("another", "Stopping train.")
            pilot.app.screen.look()  # this experiment has nothing to say of another one's run
            await settled(pilot)
            assert notices(pilot) == ["Stopping train."]
            pilot.app.notify_of("another", "It is on its way.")
            pilot.app.take_back("another")
            await settled(pilot)
            assert notices(pilot) == []
            await pilot.press("s", "y")
            await settled(pilot)
            assert live.child.poll() is None
            assert "■ stopping…" in shown(pilot)
            said = "Stopping; it saves its work first. In {}, s can kill it."
            assert notices(pilot) == [said.format("20s")]
            clock.now += 12.5
            await pilot.press("escape", "enter")  # the experiment is left and opened again meanwhile
            await settled(pilot)
            await pilot.press("s", "s")
            await settled(pilot)
            assert isinstance(pilot.app.screen, ExperimentScreen)
            assert notices(pilot) == [said.format("8s")]
            await pilot.press("escape", "enter")  # and once more
            await settled(pilot)
            await until(pilot, lambda: "■ stopping…" in shown(pilot))
            clock.now += 7.5
            await pilot.press("s")
            await settled(pilot)
            assert "Kill “Train the student” now?" in words(pilot)
            await pilot.press("y")
            await settled(pilot)
            assert live.child.wait(60) == -9
            await until(pilot, lambda: live.run.state() == "cancelled")
            await until(pilot, lambda: "stopping…" not in shown(pilot))
            await until(pilot, lambda: not pilot.app.confirmed)
            assert not [one for one in notices(pilot) if "stopped" in one]
            await until(pilot, lambda: not notices(pilot) and "s Stop" not in shown(pilot))
    finally:
        live.end_process()


async def test_a_stop_that_failed_is_asked_for_again(home: Path, monkeypatch: pytest.MonkeyPatch):
    exp = experiment(home, "elsewhere")
    live = SimulatedRun(exp, "train", alive=True)
    live.run.write(replace(live.run.record(), host="another-host", boot_id="another"))
    live.train(0, 1)
    try:
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("s", "y")
            await settled(pilot)
            assert "stopping…" not in shown(pilot)
            await pilot.press("s")
            await settled(pilot)
            assert "Stop “Train the student”?" in words(pilot)
    finally:
        live.end_process()


@pytest.mark.parametrize("goes_on", [True, False])
async def test_the_question_names_the_pipeline_that_stops_too(home: Path, *, goes_on: bool):
    exp = experiment(home, "whole")
    pipeline = SimulatedRun(exp, "pipeline", alive=True)
    runs = [pipeline, SimulatedRun(exp, "collect", alive=True, by=pipeline)]
    try:
        pilot_of = BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True)
        async with pilot_of as pilot:
            await settled(pilot)
            await pilot.press("s")
            await settled(pilot)
            assert "Stop “Collect traces” and the pipeline?" in words(pilot)
            assert "the pipeline that it belongs to ends with it; p continues from there" in words(pilot)
            pipeline, collect = runs
            collect.end_process()  # while the question is open; the pipeline goes on with its next stage, or ends
            if not goes_on:
                pipeline.end_process()
            await pilot.press("enter")
            if goes_on:
                await settled(pilot)
                assert pipeline.child is not None
                assert pipeline.child.wait(60) == -15
            else:
                await until(pilot, lambda: "✗ Not stopped: “Collect traces” had already ended." in notices(pilot))
    finally:
        for live in runs:
            live.end_process()


async def test_every_key_of_a_burst_counts(home: Path, recorder: RecordingLaunch):
    """Arrow keys and `r` in quick succession: no press waits for the screen to read files in between."""
    leave_traces(experiment(home, "mine"))
    app = BitnetApp(home, launch=recorder)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        for key in ("down", "down", "down", "r"):
            app.post_message(events.Key(key, None))
        await settled(pilot)
    assert recorder.launched == [(home / "mine", "train")]


async def test_a_key_goes_to_an_address_that_came_along_only_if_it_is_allowed(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """No is the safe answer, and the question comes again; after a yes it never does."""
    note_arrived({"OPENAI_BASE_URL": "https://evil.example/v1"}, "hosted from a folder", {})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    experiment(home, "hosted")
    (home / "hosted" / ".env").write_text(
        "TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nOPENAI_BASE_URL=https://evil.example/v1\n"
    )
    sent = keys_sent(home, monkeypatch)
    async with BitnetApp(home).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ConfirmScreen)
        asked = words(pilot)
        assert "“OpenAI key” would go to" in asked and "https://evil.example" in asked
        assert "hosted from a folder" in asked and "sk-very" not in asked
        await pilot.press("enter")  # the safe answer has the focus
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        refused = words(pilot)
        assert sent == [] and "was not started: “OpenAI key” would go to" in refused
        assert "start it again to allow it" in refused and "`bitnet" not in refused
        await pilot.press("r")
        await settled(pilot)
        await pilot.press("y", "enter")
        await settled(pilot)
        assert sent == [{"OPENAI_API_KEY": "sk-very-secret-key"}]
        await pilot.press("r")
        await settled(pilot)
    assert len(sent) == 2
