"""The guide for a new experiment, by keyboard and by mouse: journeys of a new user."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Input

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import state_folder
from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.runs.experiment import Workspace
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.services.probing import Probe
from bitnet_tui.services.storing import Check, Login
from bitnet_tui.widgets.guide import ShareBar
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, files_text, said, settled, shown, words

KEY = "sk-very-secret-key-0123456789"
GOOD = {
    "reachable": True, "key_accepted": True, "model": "m", "chat": True, "latency_s": 0.42, "logprobs": True,
    "largest_k": 20, "logprob_mode": "raw", "problem": None, "models": ["m", "another"],
}  # fmt: skip
CHECKED = {"target": "local", "place": "/mnt/copy", "seconds": {"write": 0.01, "read": 0.03}, "free_bytes": 2e9}


async def opened(pilot: Pilot[None], key: str = "n") -> NewExperimentScreen:
    await settled(pilot)
    await pilot.press(key)
    await settled(pilot)
    guide = pilot.app.screen
    assert isinstance(guide, NewExperimentScreen)
    return guide


async def at(pilot: Pilot[None], step: str) -> NewExperimentScreen:
    guide = await opened(pilot)
    while guide._step != step:
        await pilot.press("ctrl+n")
        await settled(pilot)
    return guide


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settled(pilot)


def app(home: Path, recorder: RecordingLaunch | None = None) -> BitnetApp:
    return BitnetApp(home, launch=recorder or RecordingLaunch(warning=""))


def answering(monkeypatch: pytest.MonkeyPatch, kind: type, answer: Any) -> list[Any]:
    """Let this command answer at once; what was asked."""
    asked: list[Any] = []

    def run(command: Any) -> Any:
        asked.append(command)
        if isinstance(answer, BitnetError):
            raise answer
        return answer

    monkeypatch.setattr(kind, "run", run)
    return asked


async def choose(pilot: Pilot[None], value: str, cards: str = "#cards") -> None:
    found = pilot.app.screen.query_one(cards)
    found.highlighted = found.get_option_index(value)  # type: ignore[attr-defined]
    await settled(pilot)


# -- a first run -----------------------------------------------------------------------------------------------------


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


async def test_the_same_by_mouse_and_only_create_it(home: Path):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        for _ in range(4):
            await click_on(pilot, "Next ›")
        await click_on(pilot, "Start nothing yet")
        assert isinstance(pilot.app.screen, NewExperimentScreen)  # a click chooses, and no more
        await click_on(pilot, "Create", last=True)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        assert "smollm2-nano" in shown(pilot)
    assert recorder.launched == []


@pytest.mark.parametrize("size", [(60, 15), (100, 30), (120, 36)])
async def test_every_step_shows_its_fields_and_buttons(home: Path, size: tuple[int, int]):
    async with app(home).run_test(size=size) as pilot:
        guide = await opened(pilot)
        for step in ("machine", "teacher", "storage", "student", "review"):
            assert guide._step == step
            for button in guide.query(Button):
                if button.display and button.parent is guide.query_one("#bar"):
                    assert button.region.right <= size[0]
                    assert button.region.bottom <= size[1]
            assert not guide.query("#body Input") or guide.query("#body Input").first().region.height == 1
            await press(pilot, "ctrl+n")


# -- the teacher -----------------------------------------------------------------------------------------------------


async def test_a_refused_key_is_told_and_the_button_leads_to_its_field(home: Path, monkeypatch: pytest.MonkeyPatch):
    refused = {**GOOD, "key_accepted": False, "problem": "OpenAI refuses OPENAI_API_KEY; correct it."}
    asked = answering(monkeypatch, Probe, refused)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await click_on(pilot, "OpenAI")
        await click_on(pilot, "such as")
        await press(pilot, *"g", "enter")
        pilot.app.post_message(events.Paste(KEY))
        await settled(pilot)
        assert KEY not in shown(pilot)
        await press(pilot, "ctrl+t")
        assert said(pilot, "#found") == "✗ OpenAI refuses “Key”; correct it."
        await click_on(pilot, "Type another key")
        assert pilot.app.focused is guide.query_one("#key")
        await press(pilot, "x")
        assert said(pilot, "#found") == ""  # it was about another key
    assert [probe._key for probe in asked] == [KEY]
    assert KEY not in files_text(home.parent)


async def test_a_good_model_shows_what_came_back_and_its_list_offers_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Probe, GOOD)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "vllm")
        before = {one.id: one.region for one in guide.query("#body Input")}
        await press(pilot, "ctrl+t")
        assert "answered in 0.42 s" in shown(pilot)
        assert "20 candidates a step" in shown(pilot)
        await click_on(pilot, "another")
        assert guide.draft.model == "another"
        assert {one.id: one.region for one in guide.query("#body Input")} == before
        await press(pilot, "ctrl+b", "ctrl+n")
        assert guide.query_one("#model", Input).value == "another"


async def test_a_teacher_without_logprobs_is_for_chat_and_the_baseline(home: Path):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "groq")
        assert "Traces can't be collected from it." in said(pilot, "#note")
        guide.query_one("#model", Input).value = "llama"
        await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
        await settled(pilot)
        text = words(pilot)
        assert "Run only: Teacher baseline" in text
        assert "whole pipeline" not in text
        assert "Collect traces" not in text
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == []


async def test_logprobs_that_depend_on_the_sampling_are_mended_by_a_button(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Probe, {**GOOD, "logprob_mode": "scaled"})
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "ollama")
        guide.query_one("#model", Input).value = "m"
        await press(pilot, "ctrl+t")
        await click_on(pilot, "Collect at temperature 1")
        assert guide.draft.get("KD_TEACHER_TEMPERATURE") == guide.draft.get("KD_TEACHER_TOP_P") == "1"


async def test_an_answer_that_comes_after_the_step_was_left_is_dropped(home: Path, monkeypatch: pytest.MonkeyPatch):
    gate = threading.Event()

    def run(_: Any) -> Any:
        gate.wait(30)
        return GOOD

    monkeypatch.setattr(Probe, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "ollama")
        guide.query_one("#model", Input).value = "m"
        await pilot.pause()
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert guide.busy
        await pilot.press("ctrl+n")
        await pilot.pause(0.2)
        gate.set()
        await settled(pilot)
        assert not guide.busy
        assert "answered" not in words(pilot)
        assert guide.tested == {}
        await press(pilot, "ctrl+b")
        assert "answered" not in words(pilot)


@pytest.mark.parametrize("leave", ["tab", "enter", "down"])
async def test_a_key_pasted_right_after_moving_to_its_field_is_not_shown(home: Path, leave: str):
    """Over a slow connection both arrive at once."""
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "openai")
        model, key = guide.query_one("#model", Input), guide.query_one("#key", Input)
        model.focus()
        await settled(pilot)
        pilot.app.post_message(events.Key(leave, None))
        pilot.app.post_message(events.Paste("sk-pasted-in-haste"))
        await settled(pilot)
        assert (model.value, key.value) == ("", "sk-pasted-in-haste")
        assert key.has_focus


# -- keys ------------------------------------------------------------------------------------------------------------


async def reviewed_with_a_key(pilot: Pilot[None]) -> NewExperimentScreen:
    guide = await at(pilot, "teacher")
    await choose(pilot, "openai")
    guide.query_one("#model", Input).value = "gpt-4o-mini"
    guide.query_one("#key", Input).value = KEY
    await settled(pilot)
    await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
    return guide


async def test_a_key_goes_to_the_keyring_and_not_into_a_file(home: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[tuple[str, str]] = []
    monkeypatch.setattr(Keyring, "set", lambda _, name, key: kept.append((name, key)))
    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        await reviewed_with_a_key(pilot)
        assert "OPENAI_API_KEY is kept apart" in words(pilot)
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "OPENAI_API_KEY is kept in the OS keyring." in words(pilot)
    assert kept == [("OPENAI_API_KEY", KEY)]
    assert KEY not in files_text(home.parent)


async def type_twice(pilot: Pilot[None], first: str, second: str) -> None:
    for entry, text in zip(pilot.app.screen.query(Input), (first, second), strict=True):
        entry.value = text
    pilot.app.screen.query_one("#again").focus()
    await press(pilot, "enter")


async def test_without_a_keyring_the_key_goes_to_a_vault(home: Path, isolated: Path):
    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        await reviewed_with_a_key(pilot)
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "The OS keyring is switched off" in words(pilot)
        for passphrases, problem in (("short shore", "The two passphrases differ"), ("short short", "at least 8")):
            await type_twice(pilot, *passphrases.split())
            assert problem in words(pilot)
        await type_twice(pilot, "correct horse", "correct horse")
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "OPENAI_API_KEY is kept in the vault" in words(pilot)
    (made,) = key_places._open_vaults.values()
    assert made.read() == {"OPENAI_API_KEY": KEY}
    assert KEY not in files_text(isolated)
    assert "correct horse" not in files_text(isolated)


async def test_if_the_key_can_not_be_kept_nothing_is_made_until_one_says_so(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await reviewed_with_a_key(pilot)
        await press(pilot, "ctrl+s")
        await press(pilot, "escape")
        assert pilot.app.screen is guide
        assert "The key was not kept: the OS keyring is switched off" in said(pilot, "#problem")
        assert files_text(home) == ""
        await click_on(pilot, "Create it without keys")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert KEY not in files_text(home.parent)


# -- storage ---------------------------------------------------------------------------------------------------------


async def test_a_storage_test_that_fails_says_how_to_mend_it_and_does_not_hold_one_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Check, BitnetError("There is no bucket my-distil; create it, or correct S3_BUCKET."))
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await click_on(pilot, "S3 or compatible")
        await press(pilot, "ctrl+t")
        assert "Bucket: needed for this target." in words(pilot)
        assert pilot.app.focused is guide.field_of("S3_BUCKET")
        pilot.app.post_message(events.Paste("my-distil"))
        await settled(pilot)
        assert "needed for this target" not in words(pilot)
        await click_on(pilot, "Test")
        assert said(pilot, "#found") == "✗ There is no bucket my-distil; create it, or correct “Bucket”."
        await click_on(pilot, "Go to Bucket")
        assert pilot.app.focused is guide.field_of("S3_BUCKET")
        await click_on(pilot, "at the end")
        await press(pilot, "ctrl+n", "ctrl+b")
        assert guide.field_of("S3_BUCKET").value == "my-distil"  # type: ignore[attr-defined]
        assert guide.draft.get("STORAGE_SYNC") == "end"


async def test_a_target_that_works_shows_what_was_measured_and_its_keys_are_not_in_the_command(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = answering(monkeypatch, Check, CHECKED)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, "s3")
        guide.field_of("S3_BUCKET").value = "my-distil"  # type: ignore[attr-defined]
        guide.field_of("AWS_SECRET_ACCESS_KEY").value = KEY  # type: ignore[attr-defined]
        await settled(pilot)
        await press(pilot, "ctrl+t")
        assert "20 ms each" in said(pilot, "#found")
        assert "2 GB free" in said(pilot, "#found")
    assert [(one.values["S3_BUCKET"], one._typed) for one in asked] == [("my-distil", {"AWS_SECRET_ACCESS_KEY": KEY})]
    assert KEY not in str(asked[0].arguments) + str(asked[0].values)
    assert KEY not in files_text(home.parent)


async def test_a_login_shows_its_page_and_code(home: Path, monkeypatch: pytest.MonkeyPatch):
    def run(login: Any) -> dict[str, str]:
        login._show("https://example.org/device", "ABCD-EFGH")
        return {"kept": "ONEDRIVE_REFRESH_TOKEN is kept in the vault."} if gate.wait(30) else {}

    gate = threading.Event()
    monkeypatch.setattr(Login, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        await at(pilot, "storage")
        await choose(pilot, "onedrive")
        await pilot.click("#login")
        await pilot.pause(0.2)
        assert "https://example.org/device" in words(pilot)
        assert "ABCD-EFGH" in words(pilot)
        gate.set()
        await settled(pilot)
        assert said(pilot, "#found") == "✓ logged in   “Refresh token” is kept in the vault."


# -- student and budget ----------------------------------------------------------------------------------------------


async def test_the_flip_is_moved_by_keys_and_by_mouse_and_the_estimates_are_shown(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        text = words(pilot)
        assert "16M parameters" in text
        assert "at most 26m" in text  # 1,000 steps of 1.6 s
        assert "at most 71.8k tokens" in text
        assert "free" in text
        bar = guide.query_one(ShareBar)
        await pilot.click(ShareBar, offset=(0, 0))
        assert guide.draft.get("FLIP_FRACTION") == "0"
        await pilot.mouse_down(ShareBar, offset=(10, 0))
        await pilot.hover(ShareBar, offset=(bar.size.width - 1, 0))
        await pilot.mouse_up(ShareBar, offset=(bar.size.width - 1, 0))
        await settled(pilot)
        assert "never flips" in words(pilot)
        bar.focus()
        await press(pilot, "left", "left", "shift+left")
        assert guide.draft.get("FLIP_FRACTION") == "0.88"
        assert "at 880k of 1M tokens" in words(pilot)


async def test_a_wrong_number_is_told_in_words_and_the_hint_vanishes_when_it_is_mended(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        field = guide.field_of("TOTAL_STEPS")
        assert isinstance(field, Input)
        before = [one.region for one in guide.query("#body *")]
        field.value = "0"
        await settled(pilot)
        assert said(pilot, "#problem") == "Steps: a whole number from 1 to 1,099,511,627,776"
        assert field.has_class("-wrong")
        assert [one.region for one in guide.query("#body *")] == before
        await click_on(pilot, "Set it to 1000")
        assert guide.field_of("TOTAL_STEPS").value == "1000"  # type: ignore[attr-defined]
        assert said(pilot, "#problem") == ""
        assert not guide.query(".-wrong")


# -- the draft -------------------------------------------------------------------------------------------------------


async def test_back_and_forth_keeps_every_value(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        guide.field_of("BUDGET_TOKENS").value = "5000"  # type: ignore[attr-defined]
        await click_on(pilot, "mini")
        await click_on(pilot, "Teacher")
        await click_on(pilot, "llama.cpp     logprobs")
        await click_on(pilot, "Machine")
        await click_on(pilot, "Student and budget")
        assert guide.field_of("BUDGET_TOKENS").value == "5000"  # type: ignore[attr-defined]
        assert "◉ mini" in shown(pilot)
        await press(pilot, "ctrl+b", "ctrl+b")
        assert "▸ llama.cpp" in shown(pilot)


async def chosen_and(home: Path, end: Callable[[Pilot[None]], Any]) -> None:
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "openai")
        guide.query_one("#model", Input).value = "gpt-4o-mini"
        guide.query_one("#key", Input).value = KEY
        await pilot.pause(0.5)
        await settled(pilot)
        await end(pilot)


async def escape(pilot: Pilot[None]) -> None:
    await press(pilot, "escape")
    assert not isinstance(pilot.app.screen, NewExperimentScreen)


async def crash(pilot: Pilot[None]) -> None:
    """Nothing of what closes the guide is run."""
    screen = pilot.app.screen
    assert isinstance(screen, NewExperimentScreen)
    screen._kept = None


@pytest.mark.parametrize("end", [escape, crash])
async def test_the_draft_comes_back_after_escape_and_after_a_crash_without_its_key(
    home: Path, isolated: Path, end: Callable[[Pilot[None]], Any]
):
    await chosen_and(home, end)
    assert KEY not in files_text(isolated)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot)
        assert guide._step == "teacher"
        assert guide.query_one("#model", Input).value == "gpt-4o-mini"
        assert guide.query_one("#key", Input).value == ""
        await click_on(pilot, "Start afresh")
        assert guide._step == "machine"
        assert guide.draft.empty
    assert not list((state_folder() / "drafts").glob("*.json"))


async def test_a_draft_of_another_program_or_half_a_file_does_no_harm(home: Path):
    await chosen_and(home, escape)
    (path,) = (state_folder() / "drafts").glob("*.json")
    for content in ('{"values": {"TOTAL_STEPS"', '{"values": {"MINI_PRESET": "gone", "X": 1}, "step": "none"}'):
        path.write_text(content)
        async with app(home).run_test(size=(80, 24)) as pilot:
            guide = await opened(pilot)
            assert guide._step == "machine"


# -- duplicate -------------------------------------------------------------------------------------------------------


async def test_a_duplicate_has_the_same_settings_a_new_name_and_no_runs(home: Path):
    env = (
        "LR=1e-3\nKD_PROMPTS_FILE=prompts.txt\nSTORAGE_NAME=first\nSEED=${MY:-9}\nOPENAI_API_KEY=sk-plain-text-key\n"
    )
    first = Workspace(home).create("first", env)
    (first / "logs").mkdir()
    (first / "prompts.txt").write_text("Hello\n")
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot, "D")
        assert "Duplicate of first" in shown(pilot)
        assert "Keys in its .env are not copied" in words(pilot)
        await click_on(pilot, "Review")
        assert "first-2" in shown(pilot)
        await choose(pilot, "create", "#starts")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert guide.draft.source == "first"
    text = (home / "first-2" / ".env").read_text()
    assert "LR=1e-3" in text
    assert f"KD_PROMPTS_FILE={first}/prompts.txt" in text
    assert "SEED=9" in text
    assert "sk-plain" not in text
    assert "STORAGE_NAME" not in text
    assert not (home / "first-2" / "logs").exists() or not list((home / "first-2" / "logs").iterdir())


async def test_a_name_that_is_taken_is_told_and_another_is_offered(home: Path):
    Workspace(home).create("mine", "")
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "review")
        await click_on(pilot, "smollm2-nano")
        await press(pilot, *"mine")
        assert "Name: exists already" in words(pilot)
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, NewExperimentScreen)
        await click_on(pilot, "Set it to smollm2-nano")
        assert guide.draft.name == "smollm2-nano"
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, ExperimentScreen)
