"""The app's own settings in one place: value, origin, and what changes each."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.labels import label
from bitnet_tui.screens.keys import KeysScreen
from bitnet_tui.services import preferences
from bitnet_tui.view import app_settings
from bitnet_tui.view.app_settings import AppSetting, about, row_line
from bitnet_tui.widgets.words import Words
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, click_on, settled, shown, words
from tests.tui.simulated import experiment


@pytest.mark.usefixtures("home")
def test_what_two_threads_keep_is_kept():
    def keep(*, few_colours: bool) -> None:
        for number in range(30):
            preferences.keep_theme(f"theme-{number}", few_colours=few_colours)
            assert preferences.read().theme(few_colours=few_colours) == f"theme-{number}"

    with ThreadPoolExecutor(2) as pool:
        for kept in [pool.submit(keep, few_colours=few) for few in (False, True)]:
            kept.result()


def test_a_start_reads_them_once(home: Path):
    with mock.patch.object(preferences, "_kept", return_value={}) as reads:
        BitnetApp(home)
    assert reads.call_count == 1


def test_a_value_that_its_line_cuts_is_whole_below():
    long = AppSetting("Folder of experiments", "/mnt/a/folder/with/a/long/name", "", "--home names it.")
    assert "name" not in "".join(span.text for span in row_line(long, 68))
    assert about(long, 68) == "/mnt/a/folder/with/a/long/name · --home names it."
    assert about(replace(long, value="~/experiments"), 68) == "--home names it."


@pytest.mark.parametrize("name", app_settings.NOTICES)
def test_a_title_and_its_value_are_apart(name: str):
    title, value, _ = row_line(AppSetting(label(name), "all", "", ""), 68)
    assert title.text.startswith(f"{label(name)}  ") and value.text.startswith("all")


@pytest.mark.parametrize("size", SIZES)
async def test_each_has_its_origin_and_opens_what_changes_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    experiment(home, "kd")
    monkeypatch.setenv("NOTIFY_COMMAND", "notify-send")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    preferences.keep_theme("bitnet-light")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await click_on(pilot, "f3 settings")
        title = pilot.app.screen.query(Words).first().render_line(0)
        bold = {text.strip(): style.bold for text, style, _ in title if style and text.strip()}
        assert [bold["Settings of the app"], bool(bold["esc closes"])] == [True, False]
        lines = {
            title: line
            for line in shown(pilot).split("\n")
            for title in ("Theme", "API keys", "Notify by a com")
            if title in line
        }
        assert "1 set" in lines["API keys"] and "environment" in lines["API keys"]
        assert "Light" in lines["Theme"] and "app.json" in lines["Theme"]
        assert "notify-send" in lines["Notify by a com"] and "environment" in lines["Notify by a com"]
        await pilot.press("enter")
        await settled(pilot)
        await click_on(pilot, "Evening")
        await click_on(pilot, "Keep")
        assert "Evening" in shown(pilot) and "Settings of the app" in shown(pilot)
        await pilot.press("down")
        await settled(pilot)
        assert "BITNET_HOME in the environment or in ./.env" in words(pilot)
        await click_on(pilot, "API keys")
        assert isinstance(pilot.app.screen, KeysScreen)
        await pilot.press("escape")
        await settled(pilot)
        await click_on(pilot, "Close")
        assert "Settings of the app" not in shown(pilot)
