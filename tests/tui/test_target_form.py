"""The form of a storage target outside the guide: where Enter leads, and what is said of the field one is on."""

import threading
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from bitnet_core.errors import BitnetError
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.guide.fetch import FetchScreen
from bitnet_tui.screens.guide.form import TargetForm
from bitnet_tui.screens.guide.target import TargetScreen
from bitnet_tui.services.storing import Check
from tests.tui.conftest import RecordingLaunch
from tests.tui.guides import CHECKED
from tests.tui.pilots import settled, shown, until, words
from tests.tui.simulated import finished_experiment


async def _opened(pilot: Pilot[None], which: type[TargetForm]) -> TargetForm:
    await settled(pilot)
    await pilot.press("U" if which is FetchScreen else "W")
    await until(pilot, lambda: isinstance(pilot.app.screen, which))
    await settled(pilot)
    form = pilot.app.screen
    assert isinstance(form, TargetForm)
    return form


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 36)])
@pytest.mark.parametrize("which", [FetchScreen, TargetScreen])
async def test_enter_on_a_target_goes_to_the_first_empty_field(
    home: Path, which: type[TargetForm], size: tuple[int, int]
):
    root = None if which is FetchScreen else finished_experiment(home, "alone").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        form = await _opened(pilot, which)
        onward = "goes to “Folder”" if which is FetchScreen else "continues"
        assert f"Arrows choose, enter {onward}." in words(pilot)
        assert "esc leaves" in shown(pilot).split("\n")[0]
        if which is TargetScreen:
            await pilot.press("down")
        await pilot.press("enter", "/", "x")
        await settled(pilot)
        assert form.query_one("#field-STORAGE_LOCAL_DIR", Input).value == "/x"
        assert "for this target" not in words(pilot) and "✗" not in shown(pilot)
        assert "best on another disk" in words(pilot)
        pilot.app.post_message(events.Paste("STORAGE_BACKEND=s3\rS3_BUCKET=runs\r"))
        await until(pilot, lambda: "◉ S3" in shown(pilot))
        assert form.query_one("#field-S3_BUCKET", Input).value == "runs"
        assert form.draft.backend == "s3"
        form.query_one("#field-S3_BUCKET").focus()
        pilot.app.post_message(events.Paste("others"))
        await until(pilot, lambda: form.draft.get("S3_BUCKET") == "others")


@pytest.mark.parametrize("which", [FetchScreen, TargetScreen])
async def test_an_empty_field_is_told_when_one_goes_on_without_it(home: Path, which: type[TargetForm]):
    root = None if which is FetchScreen else finished_experiment(home, "alone").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _opened(pilot, which)
        if which is TargetScreen:
            await pilot.press("down")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: "needed for this target" in words(pilot) or "✗" in shown(pilot))
        assert pilot.app.screen is form and "Folder" in words(pilot)


@pytest.mark.parametrize(("well", "edits"), [(True, False), (False, False), (True, True)])
async def test_save_during_a_test_saves_when_that_has_succeeded(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, well: bool, edits: bool
):
    ended = threading.Event()

    def run(_: Check) -> object:
        assert ended.wait(20)
        if not well:
            raise BitnetError("The folder can't be written.")
        return CHECKED

    monkeypatch.setattr(Check, "run", run)
    monkeypatch.setattr(Check, "cancel", lambda _: ended.set())
    root = finished_experiment(home, "alone").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        form = await _opened(pilot, TargetScreen)
        await pilot.press("down", "enter", *str(isolated), "ctrl+t")
        await until(pilot, lambda: "Writing, reading back" in words(pilot))
        await pilot.click("#open")
        await until(pilot, lambda: "Save follows" in words(pilot))
        if edits:
            form.query_one("#field-STORAGE_LOCAL_DIR").focus()
            await pilot.press("x")
            await until(pilot, lambda: "Save follows" not in words(pilot))
        ended.set()
        if well and not edits:
            await until(pilot, lambda: pilot.app.screen is not form)
            assert "STORAGE_BACKEND=local" in (root / ".env").read_text()
            return
        await settled(pilot)
        assert pilot.app.screen is form
        assert "Save follows" not in words(pilot) and ("can't be written" in words(pilot)) == (not well)
        assert "STORAGE_BACKEND" not in (root / ".env").read_text()


@pytest.mark.parametrize(
    ("at", "told"), [("there", "Its name at the target"), ("here", "its folder on this machine"), ("open", "presses")]
)
async def test_each_place_says_what_it_is_for(home: Path, at: str, told: str):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(100, 30)) as pilot:
        form = await _opened(pilot, FetchScreen)
        form.query_one(f"#{at}").focus()
        await settled(pilot)
        assert told in words(pilot)
