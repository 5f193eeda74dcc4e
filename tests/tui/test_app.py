"""The app driven by keys: first run, the list, one experiment; what is shown comes from files alone."""

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Input, Log, OptionList

from bitnet_core.runs.experiment import demo_env_text
from bitnet_core.runs.record import Run
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets import vault
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_core.settings.resolved import Settings
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.dialogs import ConfirmScreen, MessageScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.new_experiment import NewExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.screens.welcome import WelcomeScreen
from tests.tui.conftest import NotedLaunch, normal
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment

SIZES = [(120, 36), (80, 24)]


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the screen is furnished and every worker has reported."""
    for _ in range(3):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def shown(pilot: Pilot[None]) -> str:
    """What stands on the screen, as text."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


def words(pilot: Pilot[None]) -> str:
    """The same without line ends and frames, so that a wrapped sentence can be found."""
    return " ".join(shown(pilot).replace("│", " ").replace("▌", " ").split())


def files_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


async def test_first_run_makes_the_demo_and_asks_for_its_pipeline(home: Path, noted: NotedLaunch):
    async with BitnetApp(home, launch=noted).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)
        assert isinstance(pilot.app.focused, Button)
        assert str(pilot.app.focused.label) == "Try it now, no key needed"
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert noted.asked == [(home / "demo", "pipeline")]
    assert (home / "demo" / ".env").read_text() == demo_env_text()


async def test_first_run_with_an_experiment_of_ones_own(home: Path, noted: NotedLaunch):
    async with BitnetApp(home, launch=noted).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, NewExperimentScreen)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "give it a name" in shown(pilot)
        await pilot.press(*"mine", "ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        assert "mine" in shown(pilot)
    assert noted.asked == []
    assert "TEACHER_PROVIDER=embedded" in (home / "mine" / ".env").read_text()


@pytest.mark.parametrize("provider", ["openai", "custom"])
async def test_the_whole_form_fits_80_by_24(home: Path, provider: str):
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        pilot.app.screen.query_one("#field-TEACHER_PROVIDER").value = provider  # type: ignore[attr-defined]
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        text = shown(pilot)
        assert all(word in text for word in ("Name", "API key", "which model?", "Token budget", "Mend", "Create"))


async def _form_with_a_key(pilot: Pilot[None]) -> NewExperimentScreen:
    await settled(pilot)
    await pilot.press("n")
    await settled(pilot)
    form = pilot.app.screen
    assert isinstance(form, NewExperimentScreen)
    form.query_one("#field-NAME", Input).value = "hosted"
    form.query_one("#field-TEACHER_PROVIDER").value = "openai"  # type: ignore[attr-defined]
    await settled(pilot)
    form.query_one("#field-MODEL", Input).value = "gpt-4o-mini"
    form.query_one("#field-KEY", Input).value = "sk-very-secret-key"
    return form


@pytest.mark.parametrize("leave", ["tab", "enter", "down"])
async def test_a_key_pasted_right_behind_the_way_to_its_field_is_not_shown(home: Path, leave: str):
    """A slow line brings both at once."""
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _form_with_a_key(pilot)
        model, key = form.query_one("#field-MODEL", Input), form.query_one("#field-KEY", Input)
        key.value = ""
        model.focus()
        await settled(pilot)
        pilot.app.post_message(events.Key(leave, None))
        pilot.app.post_message(events.Paste("sk-pasted-in-haste"))
        await settled(pilot)
        assert (model.value, key.value) == ("gpt-4o-mini", "sk-pasted-in-haste")
        assert key.has_focus


@pytest.mark.parametrize("leave", ["shift+tab", "up"])
async def test_so_it_is_on_the_way_back(home: Path, leave: str):
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _form_with_a_key(pilot)
        form.query_one("#field-KEY", Input).focus()
        await settled(pilot)
        pilot.app.post_message(events.Key(leave, None))
        pilot.app.post_message(events.Paste("another-model"))
        await settled(pilot)
        assert form.query_one("#field-MODEL", Input).value.endswith("another-model")
        assert form.query_one("#field-KEY", Input).value == "sk-very-secret-key"


async def test_a_key_goes_to_the_keyring_and_into_no_file(
    home: Path, noted: NotedLaunch, monkeypatch: pytest.MonkeyPatch
):
    kept: list[tuple[str, str]] = []
    monkeypatch.setattr(Keyring, "set", lambda _, name, key: kept.append((name, key)))
    async with BitnetApp(home, launch=noted).run_test(size=(80, 24), notifications=True) as pilot:
        await _form_with_a_key(pilot)
        assert "sk-very" not in shown(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "OPENAI_API_KEY is kept in the OS keyring." in words(pilot)
    assert kept == [("OPENAI_API_KEY", "sk-very-secret-key")]
    assert "sk-very" not in files_text(home)


async def test_without_a_keyring_a_vault_is_offered_and_takes_the_key(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vault, "COST", 2)
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await _form_with_a_key(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "The OS keyring is switched off" in words(pilot)
        await pilot.press(*"short", "enter", *"shore", "enter")
        await settled(pilot)
        assert "The two differ" in words(pilot)
        await pilot.press("backspace", "t", "enter")
        await settled(pilot)
        assert "at least 8 characters" in words(pilot)
        await pilot.press(*"correct horse", "enter", *"correct horse", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "OPENAI_API_KEY is kept in the vault" in words(pilot)
        assert "correct horse" not in shown(pilot)
    (made,) = key_places._open_vaults.values()
    assert made.read() == {"OPENAI_API_KEY": "sk-very-secret-key"}
    assert "sk-very" not in files_text(isolated)
    assert "correct horse" not in files_text(isolated)


async def test_a_key_that_no_place_takes_is_said_and_nothing_is_made(home: Path):
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _form_with_a_key(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.screen is form
        assert "The key is kept nowhere: the OS keyring is switched off" in words(pilot)
    assert files_text(home) == ""


async def test_a_launch_that_needs_the_vault_asks_for_its_passphrase_once(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vault, "COST", 2)
    path = isolated / "vault.json"
    vault.create(path, "correct horse").set("OPENAI_API_KEY", "sk-very-secret-key")
    experiment(home, "hosted")
    (home / "hosted" / ".env").write_text(f"TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nBITNET_VAULT={path}\n")
    sent: list[dict[str, str]] = []

    def start(settings: Settings, stage: str, keys: dict[str, str], argv: list[str]) -> Run:
        sent.append(keys)
        return Run(home / "hosted" / "logs" / f"{stage}-noted")

    monkeypatch.setattr("bitnet_tui.services.launching.runs.launch", start)
    async with BitnetApp(home).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "OPENAI_API_KEY is in" in words(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert "the vault stays closed" in words(pilot)
        assert sent == []
        await pilot.press("r")
        await settled(pilot)
        await pilot.press(*"battery staple", "enter")
        await settled(pilot)
        assert "is not the passphrase of" in words(pilot)
        await pilot.press(*"correct horse", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        await pilot.press("r")
        await settled(pilot)
    assert sent == [{"OPENAI_API_KEY": "sk-very-secret-key"}] * 2


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_shows_states_progress_and_qei(home: Path, size: tuple[int, int]):
    finished_experiment(home)
    live = SimulatedRun(experiment(home, "live"), "train", alive=True)
    try:
        live.train(0, 116)
        async with BitnetApp(home).run_test(size=size) as pilot:
            await settled(pilot)
            text = shown(pilot)
            assert "2 experiments, 1 running" in text
            assert "train 58%" in text
            assert "QEI 7.28" in text
            entries = pilot.app.screen.query_one(OptionList)
            marked = entries.highlighted_option
            live.train(117, 150)
            await pilot.pause(1.2)
            await settled(pilot)
            assert "train 75%" in shown(pilot)
            assert entries.highlighted_option is marked
    finally:
        live.end_process()


@pytest.mark.parametrize("size", SIZES)
async def test_a_live_run_is_followed_and_found_again(home: Path, size: tuple[int, int]):
    exp = experiment(home, "live")
    live = SimulatedRun(exp, "train", alive=True)
    try:
        live.train(0, 100, bad_at=91)
        async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            text = shown(pilot)
            assert "Train the student" in text
            assert "running" in text
            assert "74.5k of 150k" in text
            assert "A8  flips at 135k" in text
            assert "The loss was not finite." in text
            assert "690" in text
            live.train(101, 190)
            await pilot.pause(0.4)
            await settled(pilot)
            assert "A4  flipped at 136k" in shown(pilot)
        live.train(191, 200)
        async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            assert "149k of 150k" in shown(pilot)
            live.finish()
            await pilot.pause(0.4)
            await settled(pilot)
            assert "done" in shown(pilot)
            await pilot.press("4")
            await settled(pilot)
            log = "\n".join(pilot.app.screen.query_one(Log).lines)
            assert "activations A8 → A4 at step 182, 135,590 tokens seen" in log
            assert "checkpoint of step 100: mini_bitnet_step_100.pt, 190 MB" in log
    finally:
        live.end_process()


@pytest.mark.parametrize("size", SIZES)
async def test_results_and_history_after_the_fact(home: Path, size: tuple[int, int]):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        assert "QEI            7.281        –  measured  (Q_s/Q_t)/(M_s/M_t)" in shown(pilot)
        await pilot.press("up")
        await settled(pilot)
        assert "Train the student" in shown(pilot)
        assert "flipped at 136k" in shown(pilot)
        await pilot.press("3")
        await settled(pilot)
        assert "The capital of France." in shown(pilot)
        await pilot.press("f", "1")
        await settled(pilot)
        assert "QEI" in shown(pilot)


async def test_older_runs_of_a_stage(home: Path):
    exp = experiment(home, "twice")
    SimulatedRun(exp, "train", NOON).finish("cancelled", "train was stopped; what it had made is kept.")
    SimulatedRun(exp, "train", NOON + 100).finish("failed", "Memory ran out; take a smaller TRAIN_BATCH_SIZE.")
    async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        assert "Memory ran out; take a smaller TRAIN_BATCH_SIZE." in words(pilot)
        assert "output.log" in shown(pilot).replace("\n", "")
        await pilot.press("left_square_bracket")
        await settled(pilot)
        assert "run 1 of 2" in shown(pilot)
        assert "train was stopped" in shown(pilot)


async def test_a_stopped_run_is_resumed(home: Path, noted: NotedLaunch):
    exp = experiment(home, "stopped")
    SimulatedRun(exp, "train", NOON).finish("cancelled", "train was stopped.")
    async with BitnetApp(home, exp.root, launch=noted).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        assert "r Resume" in shown(pilot)
        assert "r Run stage" not in shown(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert noted.asked == [(exp.root, "train")]
        assert "KD_TAU?" in words(pilot)


async def test_a_launch_that_is_refused_says_why(home: Path):
    exp = experiment(home, "refused")
    launch = NotedLaunch("KD_TAU=9000 (.env line 2) is not allowed: it must be a number from 0.05 to 100.")
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert isinstance(pilot.app.screen, MessageScreen)
        assert "it must be a number from 0.05 to 100." in words(pilot)
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, ExperimentScreen)


async def test_stop_asks_first(home: Path):
    exp = experiment(home, "stubborn")
    live = SimulatedRun(exp, "train", alive=True)
    try:
        assert live.child is not None
        async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("s", "escape")
            await settled(pilot)
            assert live.child.poll() is None
            await pilot.press("s")
            assert isinstance(pilot.app.screen, ConfirmScreen)
            await pilot.press("y")
            await settled(pilot)
            assert live.child.wait(5) == -15
            await pilot.pause(0.4)
            await settled(pilot)
            assert "interrupted" in shown(pilot)
    finally:
        live.end_process()


async def test_a_second_stop_kills_what_did_not_listen(home: Path):
    exp = experiment(home, "deaf")
    live = SimulatedRun(exp, "train", deaf=True)
    try:
        assert live.child is not None
        async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("s", "y")
            await settled(pilot)
            assert live.child.poll() is None
            await pilot.press("s")
            assert "Kill" in words(pilot)
            await pilot.press("y")
            await settled(pilot)
            assert live.child.wait(5) == -9
            await pilot.pause(0.4)
            await settled(pilot)
            assert live.run.state() == "cancelled"
    finally:
        live.end_process()


async def test_an_empty_experiment_says_what_to_do(home: Path):
    exp = experiment(home, "empty")
    async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "Press p to run all five stages" in shown(pilot)
        await pilot.press("down")
        await settled(pilot)
        assert "Press r to run it" in shown(pilot)


async def test_help_palette_and_a_screen_that_is_too_small(home: Path):
    finished_experiment(home)
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(100, 40)) as pilot:
        await settled(pilot)
        await pilot.press("f1")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        assert "Run all stages in order" in shown(pilot)
        await pilot.press("escape", "ctrl+p")
        await pilot.pause(0.3)
        assert "Make a new experiment" in shown(pilot)
        await pilot.press("escape")
        await pilot.resize_terminal(50, 12)
        await settled(pilot)
        assert "too small" in shown(pilot)
        assert "demo" not in shown(pilot)


async def test_settings_that_are_wrong_are_shown_not_hidden(home: Path):
    exp = experiment(home, "wrong")
    (exp.root / ".env").write_text("KD_TAU=9000\n")
    async with BitnetApp(home, launch=NotedLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert "KD_TAU=9000" in shown(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert "KD_TAU=9000" in shown(pilot)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["bitnet-dark", "bitnet-light"])
async def test_picture_of_training(home: Path, svg, size: tuple[int, int], theme: str):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=NotedLaunch()).run_test(size=size) as pilot:
        pilot.app.theme = theme
        await settled(pilot)
        await pilot.press("up")
        await settled(pilot)
        assert normal(pilot.app.export_screenshot()) == svg


async def test_picture_of_the_first_run(home: Path, svg):
    async with BitnetApp(Path("experiments"), launch=NotedLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert normal(pilot.app.export_screenshot()) == svg


async def test_keys_pressed_in_a_burst_all_count_and_act_on_what_is_chosen(home: Path, noted: NotedLaunch):
    """Held arrows, then `r` at once: no press waits for the screen to have read files in between."""
    experiment(home, "mine")
    app = BitnetApp(home, launch=noted)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        for key in ("down", "down", "down", "r"):
            app.post_message(events.Key(key, None))
        await settled(pilot)
    assert noted.asked == [(home / "mine", "train")]
