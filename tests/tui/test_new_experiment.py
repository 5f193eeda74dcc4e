"""The form for a new experiment, driven by keys; where its key goes."""

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from bitnet_core.secrets import places as key_places
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.new_experiment import NewExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import files_text, settled, shown, words


async def test_first_run_with_an_experiment_of_ones_own(home: Path, recorder: RecordingLaunch):
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24)) as pilot:
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
    assert recorder.launched == []
    assert "TEACHER_PROVIDER=embedded" in (home / "mine" / ".env").read_text()


@pytest.mark.parametrize("provider", ["openai", "custom"])
async def test_the_whole_form_fits_80_by_24(home: Path, provider: str):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        pilot.app.screen.query_one("#field-TEACHER_PROVIDER").value = provider  # type: ignore[attr-defined]
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        text = shown(pilot)
        assert all(word in text for word in ("Name", "API key", "which model?", "Token budget", "Fix", "Create"))


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
async def test_a_key_pasted_right_after_moving_to_its_field_is_not_shown(home: Path, leave: str):
    """Over a slow connection both arrive at once."""
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
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
async def test_text_pasted_right_after_moving_back_goes_to_the_field_above(home: Path, leave: str):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _form_with_a_key(pilot)
        form.query_one("#field-KEY", Input).focus()
        await settled(pilot)
        pilot.app.post_message(events.Key(leave, None))
        pilot.app.post_message(events.Paste("another-model"))
        await settled(pilot)
        assert form.query_one("#field-MODEL", Input).value.endswith("another-model")
        assert form.query_one("#field-KEY", Input).value == "sk-very-secret-key"


async def test_a_key_goes_to_the_keyring_and_not_into_a_file(
    home: Path, recorder: RecordingLaunch, monkeypatch: pytest.MonkeyPatch
):
    kept: list[tuple[str, str]] = []
    monkeypatch.setattr(Keyring, "set", lambda _, name, key: kept.append((name, key)))
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24), notifications=True) as pilot:
        await _form_with_a_key(pilot)
        assert "sk-very" not in shown(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "OPENAI_API_KEY is kept in the OS keyring." in words(pilot)
    assert kept == [("OPENAI_API_KEY", "sk-very-secret-key")]
    assert "sk-very" not in files_text(home)


async def test_without_a_keyring_the_key_goes_to_a_vault(home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await _form_with_a_key(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "The OS keyring is switched off" in words(pilot)
        await pilot.press(*"short", "enter", *"shore", "enter")
        await settled(pilot)
        assert "The two passphrases differ" in words(pilot)
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


async def test_if_the_key_can_not_be_kept_no_experiment_is_created(home: Path):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _form_with_a_key(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.screen is form
        assert "The key was not kept: the OS keyring is switched off" in words(pilot)
    assert files_text(home) == ""
