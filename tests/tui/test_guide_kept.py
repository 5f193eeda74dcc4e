"""What the guide keeps: keys and the draft; and what its review says of them."""

import asyncio
import errno
import os
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
from bitnet_core.runs.experiment import Workspace
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_tui import noticing
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.guide import kept as guide_kept
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.services import drafts
from bitnet_tui.services.probing import Probe
from bitnet_tui.services.storing import Check
from tests.tui.guides import KEY, answered, answering, app, at, choose, field_of, opened, press
from tests.tui.laid_out import faults
from tests.tui.pilots import click_on, files_text, notices, said, settled, shown, until, words

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
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself
    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        await reviewed_with_a_key(pilot)
        assert "OpenAI key is kept elsewhere, not in this file" in " ".join(said(pilot, "#env").split())
        await press(pilot, "ctrl+s")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "1 key is in the OS keyring." in words(pilot)
    assert kept == [("OPENAI_API_KEY", KEY)]
    assert KEY not in files_text(home.parent)


async def test_keys_that_are_kept_at_once_are_told_in_one_notice(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Keyring, "set", lambda *_: None)
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself
    async with app(home).run_test(size=(120, 36), notifications=True) as pilot:
        guide = await reviewed_with_a_key(pilot)
        guide.change("STORAGE_BACKEND", "s3")
        guide.change("S3_BUCKET", "b")
        guide.keys |= {"AWS_ACCESS_KEY_ID": "AKIA" + KEY, "AWS_SECRET_ACCESS_KEY": "s" + KEY}
        await press(pilot, "ctrl+s")
        told = "3 keys are in the OS keyring."
        await until(pilot, lambda: [one for one in notices(pilot) if "keyring" in one] == [told])


async def test_if_the_key_can_not_be_kept_nothing_is_made_until_one_says_so(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await click_on(pilot, "OpenAI")
        await click_on(pilot, "paste it here")
        pilot.app.post_message(events.Paste(KEY))
        await click_on(pilot, "such as gpt")
        await pilot.press(*"gpt-4o-mini")
        await click_on(pilot, "○ Review")
        await click_on(pilot, "Create", last=True)
        assert isinstance(pilot.app.screen, VaultScreen)
        await click_on(pilot, "Cancel", last=True)
        assert pilot.app.screen is guide
        assert "the key is not kept yet. Press Create again to choose a passphrase." in said(pilot, "#problem")
        assert faults(guide) == []  # the whole of it is in sight, beside a wide button
        assert files_text(home) == ""
        assert "ctrl+o" not in words(pilot)
        await press(pilot, "ctrl+o")  # the key that mends never makes it
        assert pilot.app.screen is guide
        await click_on(pilot, "Create it without keys")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert KEY not in files_text(home.parent)


# -- the draft -------------------------------------------------------------------------------------------------------


async def test_back_and_forth_keeps_every_value(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        field_of(guide, "BUDGET_TOKENS").value = "5000"
        await click_on(pilot, "mini")
        await click_on(pilot, "Teacher")
        await click_on(pilot, "llama.cpp    logprobs")
        await click_on(pilot, "Machine")
        await click_on(pilot, "Student and budget")
        assert field_of(guide, "BUDGET_TOKENS").value == "5000"
        assert "◉ mini" in shown(pilot)
        await press(pilot, "ctrl+b", "ctrl+b")
        assert "◉ llama.cpp" in shown(pilot)


async def test_what_is_to_be_started_stays_chosen_until_the_teacher_is_another_one(home: Path):
    for again in (False, True):
        async with app(home).run_test(size=(80, 24)) as pilot:
            guide = await (opened(pilot) if again else at(pilot, "review"))
            await answered(pilot)
            assert "ctrl+s create" in words(pilot)
            if not again:
                await choose(pilot, "create", "#starts")
                await press(pilot, "ctrl+b", "ctrl+n", "ctrl+n")
                assert said(pilot, "#problem") == "This is the last step; ctrl+s creates the experiment."
            assert "◉ Start nothing yet" in shown(pilot)
            await press(pilot, "escape")
    assert guide.draft.start == "create"
    assert guide.draft.having("TEACHER_PROVIDER", "openai").start == ""


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
        assert "● Machine ◉ Teacher ○ Storage" in words(pilot)
        assert said(pilot, "#problem") == "Your draft goes on at “Teacher”, where you left it, without keys."
        assert guide.query_one("#offer", Button).label.plain == "ctrl+r Start afresh"
        await guide._come_to("review")
        await answered(pilot)
        assert "Your draft alt+left back" in words(pilot)
        assert "Teacher · key: a draft keeps none" in words(pilot)
        assert "! Teacher" in shown(pilot).splitlines()[1]  # above as below
        assert "Go to Key" in words(pilot)
        assert "Start afresh" not in words(pilot)  # it was said once
        await press(pilot, "ctrl+r", "enter")  # it asks, and the safe answer has the focus
        assert not guide.draft.empty and guide._step == "review"
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot)
        await click_on(pilot, "Start afresh", last=True)
        assert "Drop this draft?" in words(pilot) and not guide.draft.empty
        await click_on(pilot, "Drop it")
        assert guide._step == "machine"
        assert "◉ Machine" in words(pilot)
        assert "New experiment ctrl+n next" in words(pilot)
        assert "○ Review" in words(pilot)
        assert guide.draft.empty
        await press(pilot, "ctrl+r")
        assert said(pilot, "#problem").startswith("There is no draft to drop")
    assert not list((state_folder() / "drafts").glob("*.json"))


@pytest.mark.parametrize("haste", [True, False])
async def test_a_draft_that_could_not_be_kept_is_not_said_to_be(
    home: Path, monkeypatch: pytest.MonkeyPatch, haste: bool
):
    full = True

    def write(path: Path, data: bytes, mode: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(data)

    monkeypatch.setattr(drafts.files, "write_bytes", write)
    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        for full, told in ((True, "The draft can't be kept: "), (False, "Draft kept; n continues it.")):
            await at(pilot, "teacher")
            await choose(pilot, "vllm" if full else "ollama")
            if not haste:
                await pilot.pause(0.5)
                await answered(pilot)
            await escape(pilot)
            notices = [one.message for one in pilot.app._notifications]
            assert len(notices) == 1 and told in notices[0]
            pilot.app.clear_notifications()
    assert len(list((state_folder() / "drafts").glob("*.json"))) == 1


async def test_a_draft_is_kept_as_the_app_ends_unless_its_disk_hangs(home: Path, monkeypatch: pytest.MonkeyPatch):
    hanging, over = threading.Event(), threading.Event()
    monkeypatch.setattr(guide_kept, "_LAST_SECONDS", 0.2)
    monkeypatch.setattr(guide_kept, "_SAVE_SECONDS", 600)
    written = drafts.Kept.write

    def write(*arguments: Any) -> None:
        assert asyncio._get_running_loop() is None
        if not hang:
            written(*arguments)
            return
        hanging.wait(60)
        written(*arguments)
        over.set()

    monkeypatch.setattr(drafts.Kept, "write", write)
    for hang in (True, False):
        async with app(home).run_test(size=(80, 24)) as pilot:
            await at(pilot, "teacher")
            await choose(pilot, "vllm")
        assert len(list((state_folder() / "drafts").glob("*.json"))) == (not hang)
    (draft,) = (state_folder() / "drafts").glob("*.json")
    newer = draft.read_bytes()
    hanging.set()
    assert over.wait(30)  # else it would write into the next test's folder
    assert draft.read_bytes() == newer


async def test_a_draft_of_another_program_or_half_a_file_does_no_harm(home: Path):
    await chosen_and(home, escape)
    (path,) = (state_folder() / "drafts").glob("*.json")
    for content in ('{"values": {"TOTAL_STEPS"', '{"values": {"MINI_PRESET": "gone", "X": 1}, "step": "none"}'):
        path.write_text(content)
        async with app(home).run_test(size=(80, 24)) as pilot:
            guide = await opened(pilot)
            assert guide._step == "machine"


async def test_review_says_all_that_is_wrong_and_its_button_mends_the_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Check, BitnetError("There is no bucket my-distil; create it, or correct S3_BUCKET."))
    answering(monkeypatch, Probe, BitnetError("vLLM can't be reached (connection refused); start it."))
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "vllm")
        guide.query_one("#model", Input).value = "m"
        await press(pilot, "ctrl+t")
        await guide._come_to("storage")
        await answered(pilot)
        await choose(pilot, "local")
        field_of(guide, "STORAGE_LOCAL_DIR").value = "/mnt/copy"
        await answered(pilot)
        await press(pilot, "ctrl+t")
        await press(pilot, "enter")
        assert said(pilot, "#problem") == "The test failed; ctrl+n continues anyway."
        assert guide._step == "storage"
        await guide._come_to("review")
        await answered(pilot)
        assert "! Teacher   ! Storage" in shown(pilot).splitlines()[1]
        assert "! Teacher · the last test failed" in words(pilot)
        assert "Storage · the last test failed" in words(pilot)
        assert "Go to Teacher" in shown(pilot)


@pytest.mark.parametrize("size", [(60, 15), (80, 24)])
async def test_the_review_shows_what_is_wrong_however_small_it_is(home: Path, size: tuple[int, int]):
    async with app(home).run_test(size=size) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "openai")
        await guide._come_to("review")
        await answered(pilot)
        assert "✗ Teacher · Model: which model?" in words(pilot)
        await click_on(pilot, "Go to Model")
        assert guide._step == "teacher"


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
